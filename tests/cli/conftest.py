"""Fixtures for commands over files: a folder of their own, and a tiny model in it."""

import pytest


@pytest.fixture
def in_tmp_path(tmp_path, monkeypatch):
    """The test runs in its temporary folder, and stores no programs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JVRC_CACHE_DIR", "0")


@pytest.fixture
def model(tiny_2026, tmp_path):
    """Options that choose the tiny model, which has its own file."""
    from jvrc.frozen.file import save_model

    save_model(tiny_2026, tmp_path / "m.safetensors")
    return ["--model", "m.safetensors"]
