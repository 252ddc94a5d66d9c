"""Training steps lower for TPUs and GPUs, on a machine that has neither.

tests/codec/test_lowering.py has all programs of coding and freezing; those here that belong to them
are quick ones.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from small import small_config

from jvrc.coding import rans
from jvrc.model import architectures
from jvrc.model.config import ARCHITECTURES
from jvrc.model.modules import init_params
from jvrc.training import feeding
from jvrc.training.multi_rate import MultiRate
from jvrc.training.recipe.schema import MultiRateRecipe, SingleRateRecipe
from jvrc.training.run import parallel
from jvrc.training.run.run_folder import abstract_state
from jvrc.training.single_rate import SingleRate
from jvrc.training.update.state import State

PLATFORMS = ("tpu", "cuda")
SIZES = {"C": 6, "K": 7, "H": 6, "E": 3, "g_a_blocks": 1, "g_s_blocks": 1, "context_blocks": 1}
MODEL = {"model": "jvrc2026", "n": 3, "m": 8, "sizes": SIZES}
TINY = {"batch": 2, "crop": 64}
METHODS = {
    "train": SingleRate(SingleRateRecipe(**MODEL, **TINY)),
    "posttrain": MultiRate(MultiRateRecipe(**MODEL, **TINY, qsteps=(8.0, 2.0), optimizer="adam")),
}


def shape(dtype, *sides):
    return jax.ShapeDtypeStruct(sides, dtype)


def assert_lowers(function, *shapes):
    exported = export.export(jax.jit(function), platforms=PLATFORMS)(*shapes)
    assert exported.platforms == PLATFORMS


@pytest.mark.slow
def test_post_training():
    method, mesh = METHODS["posttrain"], parallel.make_mesh()
    batch = shape(np.uint8, 2, 64, 64, 3)
    assert_lowers(method.make_step(mesh), abstract_state(method.recipe), batch)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "optimizer"),
    [("bmshj2018-hyperprior", "adam"), ("mbt2018-mean", "soap"), ("mbt2018", "muon-all")],
)
def test_training_of_the_architectures_of_2018(architecture, optimizer):
    recipe = SingleRateRecipe(model=architecture, n=4, m=6, optimizer=optimizer, **TINY)
    step = SingleRate(recipe).make_step(parallel.make_mesh())
    assert_lowers(step, abstract_state(recipe), shape(np.uint8, 2, 64, 64, 3))


@pytest.mark.slow
def test_training_with_crops_drawn_on_the_device():
    method, mesh = METHODS["train"], parallel.make_mesh()
    program = feeding.steps_on_device(method.recipe, method.make_step(mesh), mesh, side=96)
    inputs = (shape(np.uint8, 5, 96, 96, 3), shape(np.float32, 5))
    assert_lowers(program, abstract_state(method.recipe), inputs, shape(np.int32))


def test_runs_that_differ_in_numbers_share_a_program():
    """So do a run and one that goes on from it: a training step compiles for a minute."""
    mesh, texts = parallel.make_mesh(), set()
    others = {
        "warm_start": "run runs/piece-1, step 34000",
        "steps": 7,
        "learning_rate": 3e-4,
        "warmup": 1,
        "final_lr_fraction": 0.1,
        "weight_decay": 0.2,
        "ema_decay": 0.9,
        "unnatural_share": 0.5,
        "balance": 1.6,
        "qstep_low": 0.8,
        "qstep_high": 18.0,
        "seed": 4,
    }
    for changed in ({}, others):
        recipe = dataclasses.replace(METHODS["train"].recipe, **changed)
        step = SingleRate(recipe).make_step(mesh)
        program = jax.jit(feeding.steps_on_device(recipe, step, mesh, side=96))
        inputs = (shape(np.uint8, 5, 96, 96, 3), shape(np.float32, 5))
        texts.add(program.lower(abstract_state(recipe), inputs, shape(np.int32)).as_text())
    assert len(texts) == 1


def test_the_length_of_a_dispatch_is_known_when_it_compiles():
    """Else an accelerator idles after each training step: the host asks whether to go on."""

    def step(state, crops):
        after = state._replace(step=state.step + 1, params=state.params + crops)
        return after, {"loss": jnp.sum(after.params)}

    program = jax.jit(partial(feeding.take_steps, step, lambda state, crop: crop))
    state = State(jnp.int32(0), jnp.zeros(3), *[None] * 6)
    compiled = program.lower(state, (jnp.ones(3),), jnp.int32(4)).compile()
    after, reports = compiled(state, (jnp.ones(3),), jnp.int32(4))
    assert (after.step, after.params.tolist()) == (4, [4, 4, 4])
    assert reports["loss"].tolist()[:4] == [3, 6, 9, 12]
    loops = [line for line in compiled.as_text().splitlines() if " while(" in line]
    assert len(loops) == 1
    assert f'"known_trip_count":{{"n":"{feeding.STEPS_TOGETHER}"}}' in loops[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_coding_an_image(architecture):
    """Analysis, reconstruction and estimated rate; exact entropy decoding is the CPU's."""
    config = small_config(architecture)
    params = jax.eval_shape(partial(init_params, config=config), jax.random.key(0))
    forward = partial(architectures.forward, config, key=None)
    assert_lowers(
        lambda p, x, q: forward(params=p, x=x, qstep=q),
        *(params, shape(np.float32, 1, 64, 64, 3), shape(np.float32, 1)),
    )


def test_the_range_encoder():
    lanes, symbols = shape(np.uint32, 4), shape(np.int32, 64)
    assert_lowers(
        rans.encode_chunk,
        *(lanes, symbols, symbols, shape(np.int32, 8), shape(np.uint32, 100)),
    )
