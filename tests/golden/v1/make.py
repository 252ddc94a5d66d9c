"""Writes golden streams of format version 1: run once for each model, never to make a test pass.

    python tests/golden/v1/make.py --write

A stream made by a released version stays here for ever and must decode to the same symbols. The
tiny models have random weights; they lie here too. A stream of a shipped model needs its weights:
once released, they stay in the package beside their successors. Existing streams are kept as they
are.
"""

import argparse
import json
import sys
from pathlib import Path
from unittest import mock

import jax
import numpy as np
from PIL import Image

import jvrc
from jvrc import demo
from jvrc.codec.image import decode_symbols
from jvrc.coding import range_coder
from jvrc.export import freezing
from jvrc.frozen.file import read_model, save_model
from jvrc.frozen.model import FrozenModel
from jvrc.io import images
from jvrc.model.config import config_of
from jvrc.model.modules import init_params

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import decode  # noqa: E402

TINY = {
    "tiny-mean": config_of("mbt2018-mean", N=6, M=10),
    "tiny-scale": config_of("bmshj2018-hyperprior", N=6, M=10),
    "tiny-linear": config_of("mbt2018-mean", N=5, M=7, log_scale=False),  # as imported models are
    "tiny-context": config_of("mbt2018", N=6, M=10),
}
SHAPES = {"a": (1, 1), "b": (37, 61), "c": (150, 128), "d": (130, 67)}
QSTEPS = {"a": 2.0, "b": 0.5, "c": 1.37, "d": 32.0}
LANES = {"a": 1, "b": 4, "c": 64, "d": 4096}  # more than an encoder chooses, but its right
CROPS = {"photo-1": (1.0, 96, 128), "photo-4": (4.0, 200, 300), "photo-16": (16.0, 255, 257)}


def tiny_model(name: str) -> FrozenModel:
    """Random weights whose scales and means spread over the tables, with escapes and saturation."""
    config = TINY[name]
    params = init_params(jax.random.key(len(name)), config)
    rng = np.random.default_rng(0)
    for part, layer in (("z_step", "kernel2"), ("offset", "kernel2")):
        shape = params[part][layer].shape
        params[part][layer] = rng.normal(0.1, 0.3, shape).astype(np.float32)
    params["g_a"]["conv3"]["kernel"] *= 400.0
    params["h_a"]["conv2"]["kernel"] *= 40.0
    params["g_s"]["deconv0"]["kernel"] /= 100.0  # pixels mostly within 0 … 1
    params["g_s"]["deconv3"]["bias"] += 0.5
    spread = rng.uniform(-3, 6, config.M) if config.log_scale else rng.uniform(-9, 9, config.M)
    if config.has_context:
        params["h_s"]["conv2"]["kernel"] *= 4.0
        params["context"]["conv"]["kernel"] *= 8.0
        params["context"]["step"]["kernel"] += rng.normal(0, 1, (1, 2 * config.M))
        last = params["entropy_parameters"]["conv2"]
        last["bias"] = last["bias"].at[: config.M].add(spread.astype(np.float32))
    else:
        last = params["h_s"]["conv2"]
        last["kernel"] = last["kernel"] * 4.0
        last["bias"] = last["bias"].at[: config.M].set(spread.astype(np.float32))
    return freezing.freeze(config, params, qstep_range=(1.0, 16.0), recipe="random weights")


def image(height: int, width: int) -> np.ndarray:
    """A slope with noise, uint8 [H,W,3]."""
    rng = np.random.default_rng((height, width))
    slope = np.add.outer(np.arange(height) * 2, np.arange(width))[:, :, None] % 256
    return np.clip(slope + rng.integers(-40, 40, (height, width, 3)), 0, 255).astype(np.uint8)


def write(name: str, weights: str, model: FrozenModel, img: np.ndarray, qstep: float) -> dict:
    """One stream and what it decodes to; its entry of golden.json."""
    data = jvrc.compress(model, img, qstep)
    (HERE / f"{name}.jvrc").write_bytes(data)
    Image.fromarray(jvrc.decompress(model, data)).save(HERE / f"{name}.png")
    return {"weights": weights, **decode.hashes(*decode_symbols(model, data))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", required=True)
    parser.parse_args()
    index = HERE / "golden.json"
    entries = json.loads(index.read_text()) if index.exists() else {}
    for name in TINY:
        path = HERE / f"{name}.safetensors"
        model = read_model(path) if path.exists() else save_model(tiny_model(name), path)
        for suffix, shape in SHAPES.items():
            stream = f"{name}-{suffix}"
            if stream not in entries:
                img = image(*shape)
                lanes = LANES[suffix]
                with mock.patch.object(range_coder, "choose_lanes", return_value=lanes):
                    entries[stream] = write(stream, path.name, model, img, QSTEPS[suffix])
    photo = images.read_image(demo.bundled_photo())
    for weights in jvrc.models():
        model = jvrc.load(weights)
        for suffix, (qstep, height, width) in CROPS.items():
            stream = f"{weights}-{model.model_id}-{suffix}"
            if stream not in entries:
                img = photo[100 : 100 + height, 200 : 200 + width]
                entries[stream] = write(stream, weights, model, img, qstep)
    index.write_text(json.dumps(entries, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
