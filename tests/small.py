"""Small configs of every architecture, and random weights for them, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np

from jvrc.codec.tiles import tile_coder
from jvrc.codec.tiles.latent_coder import LatentCoder, Symbols, TableChoice
from jvrc.codec.tiles.table_choice import shifted_tables
from jvrc.export import freezing
from jvrc.frozen.file import save_model
from jvrc.frozen.model import FrozenModel
from jvrc.integer.scale_refinement import ScaleRefinement
from jvrc.model.config import Config, config_of
from jvrc.model.modules import init_params


def small_config(architecture: str, *, N: int = 4, M: int = 6, **scales: float) -> Config:
    """Return a config with N channels of z and about M channels of y, and the scales given."""
    if architecture != "jvrc2026":
        return config_of(architecture, N=N, M=M, **scales)
    sizes = {"C": 6, "M": -(-M // 4) * 4, "N": N, "K": 7, "H": 6, "E": 3}
    blocks = {"g_a_blocks": 1, "g_s_blocks": 2, "context_blocks": 1}
    return config_of(architecture, **sizes, **blocks, h_s_kernel=1, **scales)


def shapes_of(config: Config) -> dict:
    """Return the shapes of the parameters of a config."""
    return jax.eval_shape(partial(init_params, config=config), jax.random.key(0))


def by_name(tree: dict) -> dict:
    """{"g_a/conv0/kernel": leaf, …}."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(k.key for k in path): leaf for path, leaf in leaves}


def trained_params(config: Config) -> dict:
    """Parameters of which none stands where it starts: small networks' last layers above all."""
    rng = np.random.default_rng(11)

    def draw(path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.Array:
        group, name = path[0].key, path[-1].key
        if name in ("beta", "gamma"):
            value = rng.uniform(0.1, 0.5 if name == "gamma" else 1.0, leaf.shape)
        elif name == "quantiles":
            value = np.array([-10, 0.2, 9]) + 0.1 * rng.normal(size=leaf.shape)
        elif group in ("offset", "z_step"):
            value = rng.uniform(0.02, 0.1, leaf.shape) + (name == "bias2" and group == "z_step")
        elif name == "kernel":
            gain = 0.6 if group in ("context", "entropy_parameters") else 1.2
            value = rng.normal(0, gain, leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))
        else:
            value = rng.normal(0, 0.2, leaf.shape)
        return jax.numpy.asarray(value, np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes_of(config))


def random_params(config: Config) -> dict:
    """Return random weights, also where those of a new model are zero (jvrc2026)."""
    params = init_params(jax.random.key(1), config)
    if config.architecture == "jvrc2026":
        params = jax.tree_util.tree_map_with_path(_drawn, params)
    return params


def _drawn(path: tuple, leaf: jax.Array) -> jax.Array:
    """The leaf; drawn at random if it is a kernel of zeros, as those are that end a new block."""
    if path[-1].key != "kernel" or np.any(leaf):
        return leaf
    key = jax.random.key(sum("/".join(k.key for k in path).encode()))
    return 0.5 * jax.random.normal(key, leaf.shape) / np.sqrt(leaf.shape[0], dtype=np.float32)


def random_model(config: Config, params: dict, path: Path) -> FrozenModel:
    """Return the frozen model of random weights, saved and read back."""
    model = freezing.freeze(config, params, qstep_range=(1.0, 16.0), recipe="random weights")
    return save_model(model, path)


def spread_2026(path: Path, z_scale: float = 1.0, **fields: Any) -> FrozenModel:
    """Return a frozen jvrc2026 of random weights, with z, scales and means that vary.

    Few of its pixels are clipped. z_scale: z has this times the range. fields: of its config.
    """
    config = small_config("jvrc2026", N=6, M=12, latent_scale=20.0, hyper_scale=4.0)
    config = replace(config, **fields)
    params, rng = random_params(config), np.random.default_rng(0)

    def drawn(leaf_path: tuple, leaf: jax.Array) -> jax.Array:
        part, *_, name = (key.key for key in leaf_path)
        if part not in ("context", "g_s", "h_s") or name != "bias":
            return leaf
        return jax.numpy.asarray(rng.normal(0, 0.1, leaf.shape), np.float32)

    def scale(part: str, layer: str, factor: float) -> None:
        kernel = params[part][layer]["kernel"]
        params[part][layer] = params[part][layer] | {"kernel": np.float32(factor) * kernel}

    params = jax.tree_util.tree_map_with_path(drawn, params)
    scale("h_a", "conv2", 400.0 * z_scale)
    scale("h_s", "deconv0", 1 / z_scale)
    scale("h_s", "conv2", 2.0)
    scale("g_s", "last", 0.2)
    log_scales = np.append(rng.uniform(-3, 4, config.M), np.zeros(config.M))
    last, widths = params["h_s"]["conv2"], params["bottleneck"]
    last["bias"] = last["bias"] + log_scales.astype(np.float32)
    medians = z_scale * rng.uniform(-3, 3, (config.N, 1, 1)).astype(np.float32)
    widths["quantiles"] = widths["quantiles"] + medians
    widths["matrix0"] = widths["matrix0"] - np.float32(np.log(z_scale))
    return random_model(config, params, path)


def random_refinement(m: int, hidden: int = 5) -> ScaleRefinement:
    """Return a refinement of random integers, by several scale indices, up and down."""
    rng = np.random.default_rng(m)

    def drawn(low: int, high: int, *shape: int) -> np.ndarray:
        return rng.integers(low, high, shape)

    fields = ScaleRefinement(
        score=drawn(-127, 128, 90, 16),
        hidden_kernel=drawn(-900, 900, 4, 2 * m + 1, hidden),
        hidden_bias=drawn(-99999, 99999, 4, hidden),
        hidden_shift=drawn(6, 11, 4, hidden),
        out_kernel=drawn(-2000, 2000, 4, hidden + 1, m),
        around=drawn(-400, 400, 4, 5, 5, m),
        out_bias=drawn(-9999, 9999, 4, m),
        out_shift=drawn(11, 14, 4, m),
        by_index=drawn(-40, 40, 4, 90),
    )
    kinds = (np.int8, np.int16, np.int32, np.int8, np.int16, np.int16, np.int32, np.int8, np.int16)
    return ScaleRefinement(*(a.astype(k) for a, k in zip(fields, kinds, strict=True)))


def refined_2026(path: Path, **options: Any) -> FrozenModel:
    """Return `spread_2026` with a random refinement of scales."""
    model = spread_2026(path, **options)
    return save_model(replace(model, refinement=random_refinement(model.config.M)), path)


@contextmanager
def always_refined() -> Iterator[None]:
    """Let every tile be coded by refined scales, where the model has them."""

    def choose(coder: LatentCoder, symbols: Symbols) -> TableChoice:
        found = shifted_tables(coder.model.y_tables, symbols.y, coder.refined(symbols))
        return found._replace(refined=True)

    with mock.patch.object(tile_coder, "choose_tables", choose):
        yield
