"""The models that the package ships, and loading any frozen model.

May import: frozen, only inside `load`, for it brings JAX: listing the models does without.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jvrc.frozen import FrozenModel

_FOLDER = Path(__file__).parent / "weights"


def models() -> dict[str, Path]:
    """The shipped models: name -> weights file."""
    return {p.stem: p for p in sorted(_FOLDER.glob("*.safetensors"))}


def load(name: str | Path) -> "FrozenModel":
    """A shipped model by its name, or any frozen model by its file.

    Raises:
      ValueError: neither a shipped name nor a file, or the file is not a frozen model.
    """
    shipped = models()
    path = shipped.get(str(name), Path(name))
    if not path.is_file():
        known = ", ".join(shipped) or "none"
        raise ValueError(f"name must be a shipped model ({known}) or a weights file; got {name!s}")
    from jvrc import frozen

    return frozen.read(path)


def describe(name: str) -> dict[str, Any]:
    """What the header of a shipped model says: model_id, config, license, recipe and more."""
    return header_of(models()[name])


def header_of(path: Path) -> dict[str, Any]:
    """What the header of a weights file says, without JAX; ValueError if it is none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")  # the layout of safetensors
        try:
            header = json.loads(json.loads(file.read(min(length, size)))["__metadata__"]["jvrc"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: not a weights file") from error
    if not isinstance(header, dict) or not {"model_id", "config"} <= set(header):
        raise ValueError(f"{path}: not a weights file of jvrc")
    return header


def name_of(model_id: str) -> str | None:
    """The name of the shipped model with this id, None if there is none."""
    return next((name for name in models() if describe(name)["model_id"] == model_id), None)
