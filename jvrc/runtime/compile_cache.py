"""JAX's persistent compilation cache, in the user's cache folder.

A compiled program serves all images of a range of sizes, so that only the first command of a size
waits for XLA. The environment variable JVRC_CACHE_DIR moves the folder; empty or 0 turns the cache
off.
"""

import os
import sys
import tempfile
from pathlib import Path

ENVIRONMENT = "JVRC_CACHE_DIR"


def cache_folder() -> Path | None:
    """Return the folder to use, or None if the user turned the cache off. Creates nothing."""
    chosen = os.environ.get(ENVIRONMENT)
    if chosen in ("", "0"):
        return None
    if chosen is not None:
        return Path(os.path.expanduser(chosen))
    return _user_cache_folder() / "jvrc" / "xla"


def enable() -> Path | None:
    """Turn the cache on for this process; return its folder, or None if off or not writable.

    Call it before the process compiles anything. A cache that the user has set in JAX itself
    (JAX_COMPILATION_CACHE_DIR) is left alone.
    """
    import jax

    folder = cache_folder()
    if folder is None or jax.config.jax_compilation_cache_dir or not _is_writable(folder):
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def _user_cache_folder() -> Path:
    home = Path(os.path.expanduser("~"))  # unlike Path.home(), never fails
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    if sys.platform == "darwin":
        return home / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
