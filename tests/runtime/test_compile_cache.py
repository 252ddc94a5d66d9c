"""Claims about where the compilation cache lies and that it never gets in the way."""

import sys
from pathlib import Path

import jax
import pytest

from jvrc.runtime import compile_cache

OPTIONS = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)


@pytest.fixture(autouse=True)
def restored_config():
    before = {option: getattr(jax.config, option) for option in OPTIONS}
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    for option, value in before.items():
        jax.config.update(option, value)


@pytest.mark.parametrize("value", ["", "0"])
def test_environment_turns_the_cache_off(monkeypatch, value):
    monkeypatch.setenv("JVRC_CACHE_DIR", value)
    assert compile_cache.enable() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_environment_moves_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("JVRC_CACHE_DIR", str(tmp_path / "a" / "b"))
    assert compile_cache.enable() == tmp_path / "a" / "b"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "a" / "b")
    assert jax.config.jax_persistent_cache_min_compile_time_secs == 0


def test_a_folder_that_cannot_be_made_is_no_failure(monkeypatch, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("JVRC_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert compile_cache.enable() is None
    assert jax.config.jax_compilation_cache_dir is None


def test_the_users_own_jax_cache_stays(monkeypatch, tmp_path):
    monkeypatch.setenv("JVRC_CACHE_DIR", str(tmp_path / "ours"))
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "theirs"))
    assert compile_cache.enable() is None
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "theirs")


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "x"}, Path("x/jvrc/xla")),
        ("linux", {}, Path.home() / ".cache/jvrc/xla"),
        ("darwin", {}, Path.home() / "Library/Caches/jvrc/xla"),
        ("win32", {"LOCALAPPDATA": "l"}, Path("l/jvrc/xla")),
        ("win32", {}, Path.home() / "AppData/Local/jvrc/xla"),
    ],
)
def test_default_is_the_platforms_cache_folder(monkeypatch, platform, variables, expected):
    for name in ("JVRC_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert compile_cache.cache_folder() == expected
