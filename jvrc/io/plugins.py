"""Plugins of Pillow for HEIC and JPEG XL, which jvrc does not need."""

import importlib
import importlib.util
from contextlib import suppress
from pathlib import Path

# Suffix -> (the module, the package that installs it).
_HEIF, _JXL = ("pillow_heif", "pillow-heif"), ("pillow_jxl", "pillow-jxl-plugin")
_PLUGINS = {".heic": _HEIF, ".heif": _HEIF, ".hif": _HEIF, ".jxl": _JXL}


def register_plugins(path: Path) -> None:
    """Let Pillow read a file, of HEIC or JPEG XL by its suffix, if the plugin is installed.

    A path without suffix, as of standard input, may be either.
    """
    suffix = path.suffix.lower()
    for module, _ in {_HEIF, _JXL} if not suffix else {_PLUGINS.get(suffix)} - {None}:
        with suppress(ImportError):
            plugin = importlib.import_module(module)
            if hasattr(plugin, "register_heif_opener"):  # the other one does it when imported
                plugin.register_heif_opener()


def missing_package(path: Path) -> str | None:
    """Return the package to install for files of this suffix, None if there is none to install."""
    module, package = _PLUGINS.get(path.suffix.lower(), (None, None))
    return None if module is None or importlib.util.find_spec(module) else package
