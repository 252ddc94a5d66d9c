"""Decodes all golden streams of a folder and prints the SHA-256 of their symbols, as JSON.

python tests/golden/decode.py FOLDER
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

import jvrc
from jvrc.codec.image import decode_symbols
from jvrc.codec.latent_coder import Symbols


def hashes(z: np.ndarray, symbols: Symbols) -> dict[str, str]:
    """SHA-256 of z, y and the scale index, as little-endian int32, and mu, float32; row-major."""

    def sha256(values: np.ndarray, kind: str) -> str:
        return hashlib.sha256(np.ascontiguousarray(values, kind).tobytes()).hexdigest()

    integers = {"z": z, "y": symbols.y, "index": symbols.index}
    found = {name: sha256(values, "<i4") for name, values in integers.items()}
    return found | {"mu": sha256(symbols.mu + np.float32(0), "<f4")}  # + 0: -0 is 0


def decoded(folder: Path) -> dict[str, dict[str, str]]:
    """`hashes` of each stream."""
    models, found = {}, {}
    for name, entry in json.loads((folder / "golden.json").read_text()).items():
        weights = entry["weights"]
        if weights not in models:
            path = folder / weights
            models[weights] = jvrc.load(path if path.exists() else weights)
        data = (folder / f"{name}.jvrc").read_bytes()
        found[name] = hashes(*decode_symbols(models[weights], data))
    return found


if __name__ == "__main__":
    print(json.dumps(decoded(Path(sys.argv[1]))))
