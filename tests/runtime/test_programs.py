"""Claims about the programs that are kept on disk: the same results, and never in the way."""

import pickle
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

import jvrc
from jvrc.coding import rans
from jvrc.runtime import compile_cache, programs
from jvrc.runtime.programs import stored

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


class Pair(NamedTuple):
    first: jax.Array
    second: jax.Array


def scaled(factor, x, *, offset):
    traced.append(x.shape)
    return Pair(factor * x + offset["b"], x.sum())


traced: list[tuple] = []  # the shapes that `scaled` was traced with
X, OFFSET = np.arange(6, dtype=np.float32).reshape(2, 3), {"b": np.ones((2, 3), np.float32)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The cache's folder, turned on for one test."""
    before = {option: getattr(jax.config, option) for option in OPTIONS}
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()  # that of the session lies elsewhere
    monkeypatch.setenv("JVRC_CACHE_DIR", str(tmp_path))
    assert compile_cache.enable() == tmp_path
    traced.clear()
    yield tmp_path
    monkeypatch.setenv("JVRC_CACHE_DIR", "0")
    for option, value in before.items():
        jax.config.update(option, value)
    compilation_cache.reset_cache()
    assert compile_cache.enable() is None


def anew():
    """The function as another process has it: nothing is known but what lies on disk."""
    jax.clear_caches()
    return stored(scaled, static_argnums=(0,))


def kept(folder):
    return sorted(folder.glob("*.program"))


def expected(x=X):
    return 3 * x + 1, x.sum()


def test_a_program_is_traced_once_for_all_processes(folder):
    for _ in range(2):
        function = anew()
        for _ in range(2):
            found = function(3, X, offset=OFFSET)
            assert isinstance(found, Pair)
            np.testing.assert_array_equal(found.first, expected()[0])
            np.testing.assert_array_equal(found.second, expected()[1])
    assert traced == [(2, 3)]
    assert len(kept(folder)) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda f: f(2, X, offset=OFFSET),
        lambda f: f(3, X[:1], offset={"b": X[:1]}),
        lambda f: f(3, X.astype(np.int32), offset=jax.tree.map(np.int32, OFFSET)),
    ],
)
def test_another_static_argument_shape_or_dtype_is_another_program(folder, call):
    anew()(3, X, offset=OFFSET)
    call(anew())
    assert len(traced) == len(kept(folder)) == 2


@pytest.mark.parametrize("option", ["default_matmul_precision", "numpy_rank_promotion"])
def test_another_configuration_of_jax_is_another_program(folder, option):
    anew()(3, X, offset=OFFSET)
    with getattr(jax, option)("highest" if "matmul" in option else "warn"):
        anew()(3, X, offset=OFFSET)
    assert len(kept(folder)) == 2


def test_another_version_of_jax_is_another_program(folder, monkeypatch):
    anew()(3, X, offset=OFFSET)
    monkeypatch.setattr(jax, "__version__", "0.0.0")
    anew()(3, X, offset=OFFSET)
    assert len(kept(folder)) == 2


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_damaged_file_is_replaced(folder, content):
    anew()(3, X, offset=OFFSET)
    (path,) = kept(folder)
    intact = path.read_bytes()
    path.write_bytes(intact[:-1] if content is None else content)
    np.testing.assert_array_equal(anew()(3, X, offset=OFFSET).first, expected()[0])
    assert len(path.read_bytes()) > len(intact) // 2
    anew()(3, X, offset=OFFSET)
    assert len(traced) == 2


def test_what_comes_from_the_cache_of_jax_is_compiled_by_the_next_process(folder):
    jax.jit(scaled, static_argnums=0)(3, X, offset=OFFSET)
    assert len(list(folder.glob("jit_scaled-*-cache"))) == 1
    for programs_kept in (0, 1, 1):
        np.testing.assert_array_equal(anew()(3, X, offset=OFFSET).first, expected()[0])
        assert len(kept(folder)) == programs_kept
        assert list(folder.glob("jit_scaled-*-cache")) == []
    assert len(traced) == 3


def test_what_jax_transforms_is_not_stored(folder):
    function = anew()
    call = partial(function, 3, offset=OFFSET)
    np.testing.assert_array_equal(jax.jit(call)(X).first, expected()[0])
    np.testing.assert_array_equal(jax.vmap(call)(X[None]).first[0], expected()[0])
    gradient = jax.grad(lambda x: call(x).first.sum())(X)
    np.testing.assert_array_equal(gradient, np.full_like(X, 3))
    assert kept(folder) == []


def test_python_numbers_and_debugging_go_to_jit(folder):
    assert float(anew()(3, X, offset={"b": 1.0}).first[0, 0]) == 1
    with jax.debug_nans(True):
        anew()(3, X, offset=OFFSET)
    assert kept(folder) == []


def test_without_the_cache_it_is_plain_jit(tmp_path, monkeypatch):
    monkeypatch.setenv("JVRC_CACHE_DIR", "0")
    assert compile_cache.enable() is None
    function = anew()
    np.testing.assert_array_equal(function(3, X, offset=OFFSET).first, expected()[0])
    assert function.lower(3, X, offset=OFFSET).out_info.first.shape == (2, 3)
    assert list(tmp_path.iterdir()) == []


def test_a_function_that_no_other_process_knows_is_not_stored(folder):
    function = stored(lambda source, x: source(x), static_argnums=(0,))
    assert float(function(lambda x: jnp.sum(x), X)) == X.sum()
    assert kept(folder) == []


def test_a_long_compilation_is_said_once(folder, monkeypatch):
    said = []
    programs.on_compile(lambda: said.append(1))

    def slow(x):
        time.sleep(1.5)
        return 2 * x

    for _ in range(2):
        stored(slow)(X)
        jax.clear_caches()
        for path in kept(folder):
            path.unlink()
    assert said == [1]


def test_it_pickles_by_its_name():
    assert pickle.loads(pickle.dumps(rans.encode_chunk)) is rans.encode_chunk


CODE = """
import sys, numpy as np, jax
from jvrc.runtime import compile_cache
from jvrc.coding import rans
compile_cache.enable()
state = np.full(4, 2**16, np.uint32)
table = np.zeros(8, np.int32)
first = np.array([0, 2], np.int32)
packed = np.array([2**31 - 2**16, (2**15 - 1) << 16 | 2**15], np.uint32)
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: print(event) if "trace" in event else None)
print(*map(np.asarray, rans.encode_chunk(state, table, table, first, packed)))
"""


def test_another_process_traces_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("JVRC_CACHE_DIR", str(tmp_path))
    command = [sys.executable, "-c", CODE]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        for _ in range(2)
    )
    assert len(first) > 1
    assert second == first[-1:]


def test_the_hash_of_the_source_covers_every_module_with_a_stored_function():
    root = Path(jvrc.__file__).parent
    stored_in = {
        path for path in root.rglob("*.py") if "import stored" in path.read_text(encoding="utf-8")
    }
    assert len(stored_in) > 5
    assert stored_in <= set(programs.sources(root))
