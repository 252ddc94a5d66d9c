"""Streams that released versions wrote decode to the same symbols, for ever and everywhere.

Those of each version of the format have a folder in tests/golden. Each configuration below is a
process of its own, for flags and environment are read once.
"""

import concurrent.futures
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import jvrc
from jvrc.codec.image.decoder import decode_image, decode_symbols
from jvrc.codec.image.encoder import encode_image
from jvrc.codec.latent_coders.independent import IndependentCoder
from jvrc.codec.transforms.latents import dequantise_z
from jvrc.coding.metadata import readable_metadata
from jvrc.coding.packing import unpack
from jvrc.model import transforms, variable_rate
from jvrc.qstep import QSTEP_CODE_MIN, qstep_code_of, qstep_of

GOLDEN = Path(__file__).parents[1] / "golden"
VERSIONS = ("v1", "v2", "v3")
ENTRIES = {v: json.loads((GOLDEN / v / "golden.json").read_text()) for v in VERSIONS}
STREAMS = [(version, name) for version in VERSIONS for name in ENTRIES[version]]
PARTS = ("z", "y", "index", "mu")
PROGRAM = GOLDEN / "decode.py"

# What has broken float codecs: each changes the last bits of a network's outputs, or could.
CONFIGURATIONS = {
    "as it comes": {},
    "one thread": {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "NPROC": "1"},
    "sixteen threads": {"NPROC": "16"},
    "fast math": {
        "XLA_FLAGS": "--xla_cpu_enable_fast_math=true --xla_cpu_fast_math_honor_nans=false "
        "--xla_cpu_fast_math_honor_infs=false --xla_cpu_fast_math_honor_division=false "
        "--xla_cpu_fast_math_honor_functions=false"
    },
    "64 bits": {"JAX_ENABLE_X64": "1"},
    "bfloat16 products": {"JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"},
    "TF32 products": {"JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32"},
    "not optimised": {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
}
if platform.machine() in ("x86_64", "AMD64"):
    CONFIGURATIONS["an old processor"] = {"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2"}


def model_of(version, name):
    weights = ENTRIES[version][name]["weights"]
    path = GOLDEN / version / weights
    return jvrc.load(path if path.exists() else weights)


@pytest.mark.parametrize(("version", "name"), STREAMS)
def test_a_golden_stream_decodes_to_its_image(version, name):
    """To one in a pixel's value, for g_s is float (see the bound below)."""
    data = (GOLDEN / version / f"{name}.jvrc").read_bytes()
    restored = jvrc.decompress(model_of(version, name), data)
    stored = np.asarray(Image.open(GOLDEN / version / f"{name}.png"))
    assert restored.shape == stored.shape
    assert np.abs(restored.astype(int) - stored).max() <= 1
    if stored.shape[-1] == 4:
        np.testing.assert_array_equal(restored[..., 3], stored[..., 3])


@pytest.mark.parametrize("name", [n for n, entry in ENTRIES["v2"].items() if "metadata" in entry])
def test_a_golden_stream_has_its_profile_and_metadata(name):
    coded = unpack((GOLDEN / "v2" / f"{name}.jvrc").read_bytes())
    found, _ = readable_metadata(coded.sections)
    assert [part.hex() for part in found] == ENTRIES["v2"][name]["metadata"]


@pytest.mark.parametrize(("version", "name"), [s for s in STREAMS if s[0] != "v1"])
def test_a_golden_stream_has_its_tiles_and_sections(version, name):
    coded = unpack((GOLDEN / version / f"{name}.jvrc").read_bytes())
    entry = ENTRIES[version][name]
    assert f"v{coded.version}" == version
    assert len(coded.tiles) == entry["tiles"]
    found = [[section.kind, section.payload.hex()] for section in coded.sections]
    assert found == entry["sections"]


def test_files_of_version_1_are_read_as_one_tile():
    for name in ENTRIES["v1"]:
        coded = unpack((GOLDEN / "v1" / f"{name}.jvrc").read_bytes())
        assert (coded.version, len(coded.tiles), coded.sections) == (1, 1, ())


def decode_under(settings, platforms="cpu"):
    env = (
        os.environ
        | {"XLA_FLAGS": ""}
        | ({"JAX_PLATFORMS": platforms} if platforms else {})
        | settings
    )
    return subprocess.run(
        [sys.executable, PROGRAM, *(GOLDEN / version for version in VERSIONS)],
        capture_output=True,
        text=True,
        env=env,
    )


def assert_golden(result):
    """That a process of `decode_under` found the stored symbols."""
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert set(found) == set(VERSIONS)
    for version, entries in ENTRIES.items():
        assert found[version] == {k: {n: e[n] for n in PARTS} for k, e in entries.items()}


@pytest.fixture(scope="module")
def processes():
    """All configurations, two at a time: a process mostly compiles, on one core."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return {k: pool.submit(decode_under, v) for k, v in CONFIGURATIONS.items()}


@pytest.mark.weekly
@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_golden_streams_decode_to_the_same_symbols_in_any_configuration(processes, name):
    assert_golden(processes[name].result())


@pytest.mark.slow
def test_golden_streams_decode_to_the_same_symbols_with_the_least_precise_products():
    """One configuration of those above, which changes most."""
    settings = CONFIGURATIONS["bfloat16 products"]
    assert_golden(decode_under(settings))


@pytest.mark.gpu
@pytest.mark.skipif(jax.default_backend() == "cpu", reason="no accelerator here")
def test_golden_streams_decode_beside_an_accelerator():
    """To the same integers, in a process whose default device is the accelerator."""
    assert_golden(decode_under({}, platforms=None))


@pytest.mark.gpu
@pytest.mark.skipif(jax.default_backend() == "cpu", reason="no accelerator here")
def test_a_stream_from_an_accelerator_decodes_on_the_cpu(photo):
    """The encoder's own latents may differ there; what it wrote means the same everywhere."""
    model = jvrc.load("mbt2018-mean")
    data = jvrc.compress(jax.device_put(model), photo, 2.0)
    there = jvrc.decompress(jax.device_put(model), data)
    with jax.default_device(jax.devices("cpu")[0]):
        here = jvrc.decompress(model, data)
    assert np.abs(here.astype(int) - there).max() <= 1


@pytest.mark.parametrize("qstep", [0.5, 2.0, 16.0])
def test_another_rounding_of_g_s_changes_a_pixel_by_one_at_most(photo, qstep):
    """float64 stands for any other arithmetic: its rounding errors are none of float32's."""
    model = jvrc.load("mbt2018-mean")
    img = photo[:256, :320]
    data = jvrc.compress(model, img, qstep)
    _, symbols = decode_symbols(model, data)
    code = qstep_code_of(qstep)
    delta = model.offsets[code - QSTEP_CODE_MIN][symbols.index] / 512
    step = qstep_of(code)
    with jax.enable_x64(True):
        y_hat = variable_rate.reconstruct(symbols.y.astype(float), symbols.mu, step, delta)
        weights = jax.tree.map(np.float64, model.params["g_s"])
        g_s = jax.jit(transforms.g_s, static_argnums=0)
        x = np.asarray(g_s(model.config, weights, y_hat[None]))[0]
    assert x.dtype == np.float64
    exact = np.rint(255 * np.clip(x, 0, 1)).astype(int)
    difference = np.abs(jvrc.decompress(model, data).astype(int) - exact[:256, :320])
    assert difference.max() <= 1
    assert np.mean(difference) < 1e-3


class FloatCoder(IndependentCoder):
    """Scale indices and means from the float h_s, as other codecs have it."""

    def entropy_parameters(self, z_q):
        z_hat = dequantise_z(self.model, z_q, self.qstep_code)[None] / np.float32(16)
        h_s = jax.jit(transforms.h_s, static_argnums=0)
        sigma, mu = h_s(self.model.config, self.weights(), z_hat)
        log_sigma = np.rint(128 * np.log2(np.maximum(sigma[0], 1e-9))).astype(np.int32)
        return log_sigma, np.asarray(mu[0])

    def weights(self):
        return self.model.params["h_s"]


class TF32Coder(FloatCoder):
    """The same with weights of ten bits, to which accelerators round factors."""

    def weights(self):
        def rounded(a):
            bits = (np.asarray(a, np.float32).view(np.int32) + 0x1000) & ~0x1FFF
            return bits.astype(np.int32).view(np.float32)

        return jax.tree.map(rounded, super().weights())


def test_a_float_hyper_decoder_does_not_survive_tf32(photo):
    """Why all this: with factors of ten bits indices change, and the stream is lost."""
    model, img = jvrc.load("mbt2018-mean"), photo[:256, :320]
    coded = encode_image(model, img, qstep_code_of(2.0), coder_of=FloatCoder)
    decode_image(model, coded, coder_of=FloatCoder)
    with pytest.raises(jvrc.BitstreamError):
        decode_image(model, coded, coder_of=TF32Coder)
