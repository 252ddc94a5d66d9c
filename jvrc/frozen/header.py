"""Reading the header of a weights file, without its arrays and without JAX."""

import json
from pathlib import Path
from typing import Any

WEIGHTS_FORMAT = "jvrc-frozen-2"  # the model id is the fingerprint of the arrays
# The model id is that of another file, whose decoder this one has: jvrc.export.encoder.
INHERITED_FORMAT = "jvrc-frozen-3"
_REQUIRED = {"format", "model_id", "config"}


def read_header(path: str | Path) -> dict[str, Any]:
    """Return the contents of the header: format, model_id, config, recipe, license and more.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not a weights file of this format, or truncated.
    """
    path = Path(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")  # the layout of safetensors
        text = file.read(min(length, size))
        if text.startswith(b"{") and size < 8 + length:
            raise ValueError(f"{path}: truncated: it has {size} bytes, which end in its header")
        try:
            described = json.loads(text)
            header = json.loads(described.pop("__metadata__")["jvrc"])
            end = 8 + length + max(tensor["data_offsets"][1] for tensor in described.values())
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path}: not a weights file of jvrc") from error
    if not isinstance(header, dict) or not set(header) >= _REQUIRED:
        raise ValueError(f"{path}: not a weights file of jvrc")
    if header["format"] not in (WEIGHTS_FORMAT, INHERITED_FORMAT):
        raise ValueError(
            f"{path}: weights of the format {header['format']}; this version of jvrc reads "
            f"{WEIGHTS_FORMAT} and {INHERITED_FORMAT}: use the version that wrote them, or freeze "
            "the run anew"
        )
    if size < end:
        raise ValueError(f"{path}: truncated: it has {size} of {end} bytes")
    return header
