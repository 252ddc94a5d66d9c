"""The models that the package ships, and loading any frozen model."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jvrc.frozen.header import read_header

if TYPE_CHECKING:
    from jvrc.frozen.model import FrozenModel

DEFAULT = "jvrc2026"  # where a command or a plugin is not told which
RUN_WEIGHTS = "model.safetensors"  # in the folder of a training run

_FOLDER = Path(__file__).parents[1] / "weights"


def models() -> dict[str, Path]:
    """Return the shipped models: name -> weights file."""
    return {p.stem: p for p in sorted(_FOLDER.glob("*.safetensors"))}


def load(name: str | os.PathLike) -> "FrozenModel":
    """Load a shipped model by its name or id, or any frozen model by the path of its weights file.

    Nothing is downloaded. name: also the folder of a training run that was frozen.

    Raises:
      FileNotFoundError: there is no such weights file.
      ValueError: neither a shipped name nor a file, or the file is not a frozen model.
    """
    if not isinstance(name, str | os.PathLike):
        raise ValueError(f"name must be a string or a path; got {name!r}")
    path = shipped_file(os.fspath(name)) or _weights_file(name)
    from jvrc.frozen.file import read_model  # imports JAX

    return read_model(path)


def shipped_file(name: str) -> Path | None:
    """Return the weights file of the shipped model with this name or id, None if there is none."""
    return models().get(name) or models().get(name_of(name) or "")


def _weights_file(name: str | os.PathLike) -> Path:
    path = Path(name)
    if str(name) and path.is_dir():
        if not (path / RUN_WEIGHTS).is_file():
            raise ValueError(
                f"{name}: a folder without {RUN_WEIGHTS}: `jvrc freeze {name}` writes it, if the "
                "folder is that of a training run"
            )
        return path / RUN_WEIGHTS
    if path.is_file():
        return path
    if path.suffix == ".safetensors" or path.name != str(name) != "":
        raise FileNotFoundError(f"{name}: no such file")
    known = ", ".join(models()) or "none"
    raise ValueError(
        f"name must be a shipped model ({known}), its id or a weights file; got {name!s}"
    )


def describe(name: str) -> dict[str, Any]:
    """Return the header of a shipped model: model_id, config, license, recipe and more."""
    return read_header(models()[name])


def name_of(model_id: str) -> str | None:
    """Return the name of the shipped model with this id, None if there is none."""
    return next((name for name in models() if describe(name)["model_id"] == model_id), None)


def missing(model_id: str) -> str:
    """Return the beginning of an error for a stream of a model that is not shipped."""
    known = ", ".join(f"{name} {describe(name)['model_id']}" for name in models())
    return f"no shipped model has the id {model_id} that the stream needs (there are {known})"
