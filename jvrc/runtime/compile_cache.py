"""JAX's persistent compilation cache and jvrc's own programs, in the user's cache folder.

A compiled program serves all images of a range of sizes, so that only the first command of a size
waits for XLA. The environment variable JVRC_CACHE_DIR moves the folder; empty or 0 turns the cache
off.
"""

import os
import re
import secrets
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

ENVIRONMENT = "JVRC_CACHE_DIR"
MAX_BYTES = 10**9  # of the folder, when a process begins to use it

# JAX's entries, those of jvrc.runtime.programs, and what an interrupted `write` leaves. Nothing
# else is deleted: the user may choose a folder that holds other files.
_ENTRY = re.compile(r".+-[0-9a-f]+-(?:cache|atime)|\.?\w+-[0-9a-f]+\.program(?:\.[0-9a-f]{8})?")
_UNREADABLE = re.compile(r"Error reading persistent compilation cache entry for '([\w.-]+)'")
_folder: Path | None = None


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
    global _folder
    import jax

    chosen = cache_folder()
    if _folder is not None and jax.config.jax_compilation_cache_dir == str(_folder) == str(chosen):
        return _folder
    _folder = None
    if chosen is None or jax.config.jax_compilation_cache_dir or not _is_writable(chosen):
        return None
    _tidy(chosen)
    jax.config.update("jax_compilation_cache_dir", str(chosen))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    _folder = chosen
    return _folder


def folder() -> Path | None:
    """Return the folder that `enable` turned on in this process."""
    return _folder


def write(path: Path, data: bytes) -> None:
    """Write an entry atomically; do nothing if that fails."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def forget(module: str) -> None:
    """Delete JAX's entries of programs of a name: "jit_" and the function's."""
    if _folder is not None:
        for path in _folder.glob(f"{module}-*-cache"):
            _delete(path)


def heal(warning: str) -> bool:
    """Delete the entries that JAX warns it can't read; it writes them anew, but never replaces any.

    Returns whether the warning was one of those.
    """
    found = _UNREADABLE.match(warning)
    if found is None or _folder is None:
        return False
    forget(found[1])
    return True


def _tidy(folder: Path) -> None:
    """Delete empty entries, which a full disk leaves, and the oldest above MAX_BYTES."""
    entries, total = [], 0
    for entry in os.scandir(folder):
        with suppress(OSError):  # another process has renamed or deleted it
            if _ENTRY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                entries.append((entry.stat(), Path(entry.path)))
    for stat, path in sorted(entries, key=lambda entry: -entry[0].st_mtime):
        total += stat.st_size
        if not stat.st_size or total > MAX_BYTES:
            _delete(path)


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


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
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))  # fails on a full disk
        return True
    except OSError:
        return False
