"""Claims about `jvrc` as a process: Ctrl-C, odd streams and platforms, the first use, spawning."""

import io
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import jvrc
from jvrc.cli.common import STANDARD
from jvrc.cli.outputs import write_output
from jvrc.io.images import write_image

IMG = (np.indices((40, 56, 3)).sum(0) * 3 % 256).astype(np.uint8)
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell or SIGINT")


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "photo.png", IMG)


def run(*argv, redirected="", **environment):
    """Return (exit code, stdout, stderr) of `jvrc ARGV`."""
    command = [sys.executable, "-m", "jvrc", *argv]
    if redirected:
        command = ["sh", "-c", f'"$0" "$@" {redirected}', *command]
    variables = os.environ | {"JVRC_CACHE_DIR": "0"} | environment
    result = subprocess.run(command, capture_output=True, env=variables)
    return result.returncode, result.stdout, result.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1251"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""},
    ],
)
def test_help_is_readable_in_any_encoding(environment):
    code, out, err = run("eval", "--help", **environment)
    assert (code, err) == (0, b"")
    assert b"--qsteps" in out
    assert b"?" not in out


@posix
@pytest.mark.parametrize(
    ("redirected", "code", "out", "err"),
    [
        (">&-", 0, b"", b""),
        ("2>&-", 0, b"bmshj2018", b""),
        ("> /dev/full", 1, b"", b"jvrc: error: "),
    ],
)
def test_streams_may_be_closed_or_full(redirected, code, out, err):
    if redirected.endswith("full") and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    found = run("models", redirected=redirected)
    assert found[0] == code
    assert found[1].startswith(out)
    assert found[2].startswith(err)
    assert found[2].count(b"\n") == (err != b"")


def test_data_goes_whole_to_a_standard_output_without_a_buffer(monkeypatch):
    """As in containers that set PYTHONUNBUFFERED: a write may then take a part."""
    taken = []

    class Raw(io.RawIOBase):
        def write(self, data):
            taken.append(bytes(data[:1000]))
            return len(taken[-1])

    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=Raw()))
    data = np.random.default_rng(0).bytes(4321)
    write_output(STANDARD, data, force=False)
    assert b"".join(taken) == data
    Raw.write = lambda *_: None
    with pytest.raises(BlockingIOError, match="takes no more data"):
        write_output(STANDARD, data, force=False)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="there is an accelerator")
def test_a_platform_that_is_not_there_is_one_line_with_a_remedy():
    code, out, err = run("compress", "photo.png", JAX_PLATFORMS="cuda")
    assert (code, out) == (1, b"")
    assert err.startswith(b"jvrc: error: JAX_PLATFORMS=cuda: JAX finds no such device here; unset ")
    assert err.count(b"\n") == 1


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="there is an accelerator")
def test_a_program_is_told_as_well():
    code = (
        "import jvrc, numpy\n"
        "jvrc.compress(jvrc.load('mbt2018-mean'), numpy.zeros((9, 9, 3), 'uint8'), 2)"
    )
    variables = os.environ | {"JAX_PLATFORMS": "cuda"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, env=variables)
    said = b"RuntimeError: JAX_PLATFORMS=cuda: JAX finds no such device here; unset JAX_PLATFORMS, "
    assert result.stderr.splitlines()[-1].startswith(said)


@posix
def test_an_interrupt_while_jax_is_imported_exits_at_once(tmp_path):
    (tmp_path / "jax.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    assert run("compress", "photo.png", PYTHONPATH=path) == (130, b"", b"")


@posix
def test_the_first_use_says_that_it_compiles_and_can_be_interrupted(tmp_path):
    at_once = (
        "from jvrc import cli; from jvrc.runtime import programs; "
        "programs._NOTICE_AFTER = 0.0; cli.run()"  # a fast machine is done within a second
    )
    command = [sys.executable, "-c", at_once, "compress", "photo.png"]
    variables = os.environ | {"JVRC_CACHE_DIR": str(tmp_path / "cache")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=variables)
    said = process.stderr.readline()
    assert said.startswith(b"jvrc: compiling for this machine")
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "photo.png"]


def test_spawned_processes_work_where_jvrc_was_used_before(tiny_2026, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    expected = jvrc.compress(tiny_2026, IMG, 2.0)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(jvrc.compress, tiny_2026, IMG, 2.0).result()
    np.testing.assert_array_equal(
        jvrc.decompress(tiny_2026, found), jvrc.decompress(tiny_2026, expected)
    )
