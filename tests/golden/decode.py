"""Decodes all golden streams of folders and prints the SHA-256 of their symbols, as JSON.

python tests/golden/decode.py FOLDER...
"""

import hashlib
import json
import sys
from functools import cache
from pathlib import Path

import numpy as np

import jvrc
from jvrc.codec.image.decoder import decode_symbols
from jvrc.codec.tiles.latent_coder import Symbols


def hashes(z: np.ndarray, symbols: Symbols) -> dict[str, str]:
    """SHA-256 of z, y and the scale index, as little-endian int32, and mu, float32; row-major."""

    def sha256(values: np.ndarray, kind: str) -> str:
        return hashlib.sha256(np.ascontiguousarray(values, kind).tobytes()).hexdigest()

    integers = {"z": z, "y": symbols.y, "index": symbols.index}
    found = {name: sha256(values, "<i4") for name, values in integers.items()}
    return found | {"mu": sha256(symbols.mu + np.float32(0), "<f4")}  # + 0: -0 is 0


def decoded(folder: Path) -> dict[str, dict[str, str]]:
    """`hashes` of each stream."""
    found, load = {}, cache(jvrc.load)
    for name, entry in json.loads((folder / "golden.json").read_text()).items():
        path = folder / entry["weights"]
        model = load(path if path.exists() else entry["weights"])
        data = (folder / f"{name}.jvrc").read_bytes()
        found[name] = hashes(*decode_symbols(model, data))
    return found


if __name__ == "__main__":
    print(json.dumps({Path(folder).name: decoded(Path(folder)) for folder in sys.argv[1:]}))
