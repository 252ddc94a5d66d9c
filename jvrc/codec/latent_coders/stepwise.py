"""The latent coder of jvrc2026: scales depend on integers alone, means on latents reconstructed.

CDF tables are chosen on integers: by scales from the integer h_s, which are refined by symbols
decoded before where the model has a refinement (jvrc.integer.scale_refinement) and it pays. Then
symbols are coded in the order of the four steps, in each in row-major order; without it all at
once, in row-major order.

Means are refined in the same four steps by a float network, which encoder and decoder run alike.
Symbols are known before any mean is, so a mean that another machine rounds differently moves a
reconstruction by about as much and changes no symbol.
"""

from functools import partial
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jvrc.codec.effort import annealing
from jvrc.codec.latent_coders.independent import IndependentCoder
from jvrc.codec.tiles.latent_coder import Symbols, TableChoice
from jvrc.codec.tiles.scene import Scene
from jvrc.codec.tiles.streams import StreamReader, encode_stream
from jvrc.codec.transforms.latents import full_precision
from jvrc.codec.transforms.tiling import map_tiles
from jvrc.coding import scale_adaptation
from jvrc.coding.container import Stream
from jvrc.coding.escapes import LIMIT
from jvrc.coding.tile_grid import Y_UNIT
from jvrc.frozen.model import OFFSET_UNIT
from jvrc.integer import scale_refinement
from jvrc.integer.scale_refinement import ScaleRefinement
from jvrc.model import jvrc2026, variable_rate
from jvrc.model.config import Jvrc2026Config
from jvrc.model.stepwise import in_steps
from jvrc.qstep import qstep_of, qstep_row
from jvrc.runtime import devices
from jvrc.runtime.programs import stored

_REFINEMENT_MARGIN = -(-scale_refinement.REACH // Y_UNIT)  # in blocks of 64 pixels, rounded up


def context_margin(config: Jvrc2026Config) -> int:
    """Return how far the steps look around together, in blocks of 64 pixels, rounded up."""
    return -(-(jvrc2026.STEPS - 1) * config.context_blocks // Y_UNIT)


class StepwiseCoder(IndependentCoder):
    """Implements jvrc.codec.tiles.latent_coder.LatentCoder; mu is the first step's, of h_s."""

    _nearest: tuple[np.ndarray, np.ndarray] | None = None  # symbols of `quantise`, and their y^

    def at(self, qstep_code: int) -> Self:
        """Return the coder of the same z^ at another step."""
        found = super().at(qstep_code)
        found._nearest = None
        return found

    def quantise(self, y: np.ndarray) -> Symbols:
        """Return q = round((y - mu) / Delta), with the mu of each step."""
        y_hat, q = self.run_steps(y, given=False)
        self._nearest = q, y_hat
        return Symbols(q, self._index, self._mu)

    def reconstruct(self, symbols: Symbols) -> np.ndarray:
        """Return y^ from symbols, the means of each step and offsets."""
        if self._nearest is not None and symbols.y is self._nearest[0]:
            return self._nearest[1]
        return self.run_steps(symbols.y.astype(np.float32), given=True)[0]

    def optimise(
        self, scene: Scene, symbols: Symbols, *, effort: int, progress: bool = False
    ) -> Symbols:
        """Return symbols of a smaller J, by annealing."""
        return annealing.optimise(self, scene, symbols, effort=effort, progress=progress)

    def refined(self, symbols: Symbols) -> np.ndarray | None:
        """Return scale indices refined by the symbols of earlier steps."""
        if self.model.refinement is None:
            return None
        magnitude, steps, found = _magnitudes(symbols.y), self._steps(), self._index.copy()
        for step in range(jvrc2026.STEPS):
            np.copyto(found, self._refined(step, magnitude), where=steps == step)
        return found

    def encode(self, symbols: Symbols, choice: TableChoice) -> Stream:
        """Return the stream of symbols, in the order of the steps if scales are refined."""
        if not choice.refined:
            return super().encode(symbols, choice)
        order = np.argsort(self._steps(), axis=None, kind="stable")
        y, tables = symbols.y.ravel()[order], choice.tables.ravel()[order]
        return encode_stream(y, tables, self.model.y_tables)

    def decode(self, stream: Stream, index_shift: np.ndarray, *, refined: bool = False) -> Symbols:
        """Return the symbols of a stream; BitstreamError if it is damaged."""
        if not refined:
            return super().decode(stream, index_shift)
        y_tables, steps = self.model.y_tables, self._steps()
        y, magnitude = np.zeros(steps.shape, np.int32), np.zeros(steps.shape, np.uint8)
        reader = StreamReader(stream, y.size, y_tables)
        for step in range(jvrc2026.STEPS):
            now, index = steps == step, self._refined(step, magnitude)
            values = reader.take(scale_adaptation.apply(index, index_shift, len(y_tables.low))[now])
            y[now], magnitude[now] = values, _magnitudes(values)
        reader.finish()
        return Symbols(y, self._index, self._mu)

    def _steps(self) -> np.ndarray:
        """Return the step of each symbol, uint8 [h,w,M]."""
        height, width, m = self._index.shape
        return jvrc2026.step_numbers(m, height, width)

    def _refined(self, step: int, magnitude: np.ndarray) -> np.ndarray:
        """Return scale indices, uint8 [h,w,M], of which those of a step are refined.

        magnitude: see scale_refinement.refine. On the CPU, as all that chooses tables.
        """
        cpu = devices.cpu()
        refinement = jax.device_put(self.model.refinement, cpu)
        code = np.int32(scale_refinement.coarse_code(self.qstep_code))
        blocks = magnitude.shape[0] // Y_UNIT, magnitude.shape[1] // Y_UNIT

        def on_tile(*tile: np.ndarray) -> tuple[Array]:
            return (_refine(refinement, np.int32(step), code, *tile),)

        with jax.default_device(cpu):
            (found,) = map_tiles(on_tile, (magnitude, self._index), blocks, _REFINEMENT_MARGIN)
        return found

    def run_steps(self, target: np.ndarray, *, given: bool) -> list[np.ndarray]:
        """Return (y^ float32, symbols int32), each [h,w,M], after all steps of the context model.

        target: the symbols as float32, if `given`; else y, which is quantised step by step.
        """
        model, blocks = self.model, (target.shape[0] // Y_UNIT, target.shape[1] // Y_UNIT)
        params = {name: model.params[name] for name in ("context", "delta") if name in model.params}
        offsets = np.asarray(model.offsets)[qstep_row(self.qstep_code)] * np.float32(OFFSET_UNIT)
        qstep = np.float32(qstep_of(self.qstep_code))

        def on_tile(*tile: np.ndarray) -> tuple[Array, Array]:
            return _steps(model.config, params, np.bool_(given), qstep, offsets, *tile)

        inputs = (target, self._index, self._mu)
        return map_tiles(on_tile, inputs, blocks, context_margin(model.config))


def _magnitudes(y: np.ndarray) -> np.ndarray:
    """Return |q| as refinement sees it, uint8."""
    return np.minimum(np.abs(y), scale_refinement.MAGNITUDE_MAX).astype(np.uint8)


@stored
def _refine(
    refinement: ScaleRefinement,
    step: Array,
    code: Array,
    magnitude: Array,
    index: Array,
    valid: Array,
) -> Array:
    return scale_refinement.refine(refinement, step, magnitude, index, code, tuple(valid))


@partial(stored, static_argnums=(0,))
def _steps(
    config: Jvrc2026Config,
    params: dict,
    given: Array,
    qstep: Array,
    offsets: Array,
    target: Array,
    index: Array,
    mu: Array,
    valid: Array,
) -> tuple[Array, Array]:
    """Return (y^, symbols) of a tile [h,w,M].

    given: whether target holds symbols, or else y. One program for both, so that a machine that
    decodes what it coded finds the same means to the last bit. offsets: delta [90] by scale index.
    """
    delta, target = offsets[index][None], target[None]
    with full_precision():
        features = jvrc2026.features_of(params, qstep[None])
        context = jvrc2026.at_features(params["context"], features)

        def reconstruct(mean: Array) -> tuple[Array, Array]:
            q = jnp.round(jnp.clip((target - mean) / qstep, -float(LIMIT), float(LIMIT)))
            q = jnp.where(given, target, q)
            return variable_rate.reconstruct(q, mean, qstep, delta), q

        first = mu[None] / config.hyper_scale
        found = in_steps(config, context, first, None, reconstruct, tuple(valid))
    return found[0][0], found[1][0].astype(jnp.int32)
