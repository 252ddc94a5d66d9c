"""The models that the package ships, and loading any frozen model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jvrc.frozen.header import read_header

if TYPE_CHECKING:
    from jvrc.frozen.model import FrozenModel

DEFAULT = "jvrc2026"  # where a command or a plugin is not told which

_FOLDER = Path(__file__).parents[1] / "weights"


def models() -> dict[str, Path]:
    """Return the shipped models: name -> weights file."""
    return {p.stem: p for p in sorted(_FOLDER.glob("*.safetensors"))}


def load(name: str | Path) -> "FrozenModel":
    """Load a shipped model by its name, or any frozen model by the path of its weights file.

    Raises:
      ValueError: neither a shipped name nor a file, or the file is not a frozen model.
    """
    shipped = models()
    path = shipped.get(str(name), Path(name))
    if not path.is_file():
        known = ", ".join(shipped) or "none"
        raise ValueError(f"name must be a shipped model ({known}) or a weights file; got {name!s}")
    from jvrc.frozen.file import read_model  # imports JAX

    return read_model(path)


def describe(name: str) -> dict[str, Any]:
    """Return the header of a shipped model: model_id, config, license, recipe and more."""
    return read_header(models()[name])


def name_of(model_id: str) -> str | None:
    """Return the name of the shipped model with this id, None if there is none."""
    return next((name for name in models() if describe(name)["model_id"] == model_id), None)
