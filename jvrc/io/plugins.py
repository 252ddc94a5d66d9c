"""Plugins of Pillow for HEIC and JPEG XL, which jvrc does not need."""

import importlib
import importlib.util
from contextlib import suppress
from pathlib import Path

# Suffix -> (the module, the package that installs it).
_HEIF, _JXL = ("pillow_heif", "pillow-heif"), ("pillow_jxl", "pillow-jxl-plugin")
_PLUGINS = {".heic": _HEIF, ".heif": _HEIF, ".hif": _HEIF, ".jxl": _JXL}


def register_plugins() -> None:
    """Let Pillow read HEIC and JPEG XL where pillow-heif and pillow-jxl-plugin are installed."""
    with suppress(ImportError):
        importlib.import_module(_HEIF[0]).register_heif_opener()
    with suppress(ImportError):
        importlib.import_module(_JXL[0])


def missing_package(path: Path) -> str | None:
    """Return the package to install for files of this suffix, None if there is none to install."""
    module, package = _PLUGINS.get(path.suffix.lower(), (None, None))
    return None if module is None or importlib.util.find_spec(module) else package
