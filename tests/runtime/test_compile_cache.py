"""Claims about where the compilation cache lies and that it never gets in the way."""

import os
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

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


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The cache's folder, turned on for one test."""
    compilation_cache.reset_cache()  # that of the session lies elsewhere
    monkeypatch.setenv("JVRC_CACHE_DIR", str(tmp_path))
    assert compile_cache.enable() == compile_cache.folder() == tmp_path
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    monkeypatch.setenv("JVRC_CACHE_DIR", "0")
    assert compile_cache.enable() is None


def enable_anew():
    jax.config.update("jax_compilation_cache_dir", None)
    return compile_cache.enable()


def compile_program():
    jax.clear_caches()
    return jax.jit(lambda x: 3 * x + 1)(np.float32(2))


def test_what_a_full_disk_leaves_is_deleted(folder):
    (folder / "jit_f-00-cache").write_bytes(b"")
    (folder / "jit_g-00-cache").write_bytes(b"entry")
    assert enable_anew() == folder
    assert [path.name for path in folder.iterdir()] == ["jit_g-00-cache"]


def test_entries_that_other_processes_delete_meanwhile_are_no_failure(folder, monkeypatch):
    (folder / "jit_f-00-cache").write_bytes(b"entry")
    gone = SimpleNamespace(
        name="jit_f-01-cache",
        is_file=lambda **_: True,
        stat=lambda: os.stat(folder / "none"),
    )
    found = list(os.scandir(folder))
    monkeypatch.setattr(os, "scandir", lambda _: iter([gone, *found]))
    assert enable_anew() == folder


def test_a_damaged_entry_is_written_anew(folder):
    compile_program()
    (entry,) = folder.glob("*-cache")
    intact = entry.read_bytes()
    entry.write_bytes(b"garbage")
    healed = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: healed.append(compile_cache.heal(str(message)))
        compile_program()
    assert healed == [True]
    assert len(entry.read_bytes()) > len(intact) // 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compile_program() == 7


def test_only_warnings_of_unreadable_entries_are_healed(folder):
    (folder / "jit_f-00-cache").write_bytes(b"entry")
    assert not compile_cache.heal("Error writing persistent compilation cache entry for 'jit_f'")
    assert len(list(folder.iterdir())) == 1
    assert compile_cache.heal("Error reading persistent compilation cache entry for 'jit_f': why")
    assert list(folder.iterdir()) == []


def test_the_entries_written_last_are_kept_up_to_a_size(folder, monkeypatch):
    monkeypatch.setattr(compile_cache, "MAX_BYTES", 250)
    for age in range(5):
        path = folder / f"jit_f-{age}-cache"
        path.write_bytes(bytes(100))
        os.utime(path, (10**9 - age, 10**9 - age))
    assert enable_anew() == folder
    assert sorted(path.name for path in folder.iterdir()) == ["jit_f-0-cache", "jit_f-1-cache"]


def test_files_of_others_in_the_folder_stay(folder, monkeypatch):
    monkeypatch.setattr(compile_cache, "MAX_BYTES", 0)
    others = {"my.lock": b"", "photo.png": bytes(100), "a-cache": b"", "main.program": b"1"}
    entries = {"jit_f-0a-cache": b"1", "g_s-0a.program": b"1", ".g_s-0a.program.01234567": b""}
    for name, data in (others | entries).items():
        (folder / name).write_bytes(data)
    assert enable_anew() == folder
    assert {path.name for path in folder.iterdir()} == set(others)


def test_an_entry_is_written_whole_or_not_at_all(folder):
    compile_cache.write(folder / "a.program", b"entry")
    compile_cache.write(folder / "none" / "a.program", b"entry")
    assert [path.name for path in folder.iterdir()] == ["a.program"]
