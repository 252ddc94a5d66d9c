"""Claims about the parameter files of jvrc2026's prototype."""

from pathlib import Path

import jax
import numpy as np
import pytest
from small import small_config

from jvrc.interop.prototype import is_prototype, read_prototype
from jvrc.model.config import config_of
from jvrc.model.modules import init_params

SIZES = small_config("jvrc2026").to_dict() | {"latent_scale": 1 / 0.06, "hyper_scale": 8.0}
CONFIGS = {
    "fold": SIZES | {"expansion": 4, "fold": 4, "h_s_kernel": 3},
    "unequal": SIZES | {"C": 5, "M": 12, "N": 3, "K": 7, "H": 8, "E": 2, "g_a_blocks": 3},
    "no block": SIZES | {"g_a_blocks": 0, "g_s_blocks": 0, "context_blocks": 0},
}
RENAMED = {"depthwise": "dw"}


def prototype_name(path):
    """The prototype's name of a leaf."""
    part, *folders, kind = (key.key for key in path)
    if part == "delta":
        return f"delta.{ {'kernel': 'w0', 'bias': 'b0'}[kind] }"
    if part in ("g_a", "g_s", "context"):
        *folders, layer = folders
        kind = ("b_" if kind == "bias" else "") + RENAMED.get(layer, layer)
    return ".".join([part, *folders, kind])


@pytest.fixture(params=CONFIGS)
def model(request):
    """(config, parameters, arrays by the prototype's names)"""
    config = config_of(**CONFIGS[request.param])
    params = jax.tree.map(np.asarray, init_params(jax.random.key(0), config))
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return config, params, {prototype_name(path): leaf for path, leaf in leaves}


def test_the_names_of_the_test_are_the_prototype_s(model):
    expected = {"g_a.first", "g_a.b_down", "context.b_in1", "delta.w0", "h_s.conv2.kernel"}
    if model[0].g_s_blocks:
        expected |= {"g_s.block0.dw", "g_s.block0.b_dw", "g_s.block1.film1", "g_s.film"}
    assert expected <= set(model[2])


def test_one_file_gives_config_and_parameters(model, tmp_path):
    config, params, arrays = model
    np.savez(tmp_path / "params.npz", **arrays)
    found, read = read_prototype(tmp_path / "params.npz")
    assert found == config
    jax.tree.map(np.testing.assert_array_equal, read, params)


def test_so_do_several_files_in_half_precision(model, tmp_path):
    config, params, arrays = model
    for i in range(3):
        part = {n: a.astype(np.float16) for n, a in sorted(arrays.items())[i::3]}
        np.savez(tmp_path / f"params-{i}.npz", **part)
    for name in ("params", "params.npz"):
        found, read = read_prototype(tmp_path / name)
        assert found == config
        assert {leaf.dtype for leaf in jax.tree.leaves(read)} == {np.dtype(np.float32)}
        rounded = jax.tree.map(lambda a: a.astype(np.float16).astype(np.float32), params)
        jax.tree.map(np.testing.assert_array_equal, read, rounded)


def test_other_files_are_refused_by_name(model, tmp_path):
    arrays, file = model[2], tmp_path / "params.npz"
    assert not is_prototype(file)
    assert not is_prototype(Path(__file__))
    with pytest.raises(FileNotFoundError, match=r"no such file, and no params-0\.npz"):
        read_prototype(tmp_path / "params")
    cases = {
        "h_a/conv0/bias missing": {n: a for n, a in arrays.items() if n != "h_a.conv0.bias"},
        "must be finite": arrays | {"delta.b0": np.full_like(arrays["delta.b0"], np.nan)},
        r"g_s/other/kernel \(1,\)": arrays | {"g_s.other": np.zeros(1)},
        "no parameters of jvrc2026's prototype": {"a": np.zeros(1)},
    }
    for message, content in cases.items():
        np.savez(file, **content)
        assert is_prototype(file)
        with pytest.raises(ValueError, match=message):
            read_prototype(file)
    whole = file.read_bytes()
    for content in (b"", b"other", whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(ValueError, match="no parameters of jvrc2026's prototype"):
            read_prototype(file)
