"""Reading the header of a weights file, without its arrays and without JAX."""

import json
from pathlib import Path
from typing import Any

WEIGHTS_FORMAT = "jvrc-frozen-2"
_REQUIRED = {"format", "model_id", "config"}


def read_header(path: str | Path) -> dict[str, Any]:
    """Return the contents of the header: format, model_id, config, recipe, license and more.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a weights file of this format.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")  # the layout of safetensors
        try:
            header = json.loads(json.loads(file.read(min(length, size)))["__metadata__"]["jvrc"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}: not a weights file of jvrc") from error
    complete = isinstance(header, dict) and set(header) >= _REQUIRED
    if not complete or header["format"] != WEIGHTS_FORMAT:
        raise ValueError(f"{path}: not a weights file of jvrc of the format {WEIGHTS_FORMAT}")
    return header
