"""The models that the package ships, and loading any frozen model.

May import: frozen.
"""

from pathlib import Path

from jvrc import frozen

_FOLDER = Path(__file__).parent / "weights"


def models() -> dict[str, Path]:
    """The shipped models: name -> weights file."""
    return {p.stem: p for p in sorted(_FOLDER.glob("*.safetensors"))}


def load(name: str | Path) -> frozen.FrozenModel:
    """A shipped model by its name, or any frozen model by its file.

    Raises:
      ValueError: neither a shipped name nor a file, or the file is not a frozen model.
    """
    shipped = models()
    if str(name) in shipped:
        return frozen.read(shipped[str(name)])
    if not Path(name).is_file():
        known = ", ".join(shipped) or "none"
        raise ValueError(f"name must be a shipped model ({known}) or a weights file; got {name!s}")
    return frozen.read(name)


def name_of(model_id: str) -> str | None:
    """The name of the shipped model with this id, None if there is none."""
    return next((n for n, p in models().items() if frozen.read_header(p)["model_id"] == model_id), None)
