"""The description in a weights file, read without its arrays and without JAX."""

import json
from pathlib import Path
from typing import Any

WEIGHTS_FORMAT = "jvrc-frozen-2"


def read_header(path: str | Path) -> dict[str, Any]:
    """What the header says: format, model_id, config, recipe, license and more.

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
    needed = {"format", "model_id", "config"}
    if (
        not isinstance(header, dict)
        or not needed <= set(header)
        or header["format"] != WEIGHTS_FORMAT
    ):
        raise ValueError(f"{path}: not a weights file of jvrc of the format {WEIGHTS_FORMAT}")
    return header
