"""A training step that needs more memory than there is ends with a remedy."""

import jax
import jax.numpy as jnp
import pytest

from jvrc.training.run import step_memory


def test_a_step_that_fits_is_compiled():
    shape = jax.ShapeDtypeStruct((8,), jnp.float32)
    program = step_memory.compiled(jax.jit(lambda x: 2 * x), shape)
    assert program(jnp.ones(8, jnp.float32))[0] == 2


def test_a_step_that_does_not_fit_names_its_memory_and_a_remedy(monkeypatch):
    monkeypatch.setattr(step_memory, "bytes_of", lambda device: 2**20)
    shape = jax.ShapeDtypeStruct((2**20,), jnp.float32)
    with pytest.raises(ValueError, match="needs 0.0 GiB of memory.*smaller --batch or --crop, or"):
        step_memory.compiled(jax.jit(lambda x: 2 * x), shape, remedy=", or wait")


def test_where_memory_is_unknown_nothing_is_refused():
    step_memory.check_memory(2**60, None)


def test_the_memory_of_a_cpu_is_that_of_the_machine():
    found = step_memory.bytes_of(jax.devices("cpu")[0])
    assert found is None or 2**28 < found < 2**50
