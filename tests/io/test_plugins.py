"""Claims about Pillow's plugins for other formats."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jvrc.cli import main
from jvrc.io.images import read_picture
from jvrc.io.plugins import missing_package, register_plugins


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the plugins' own
@pytest.mark.parametrize(("module", "name"), [("pillow_heif", "a.heic"), ("pillow_jxl", "a.jxl")])
def test_files_of_installed_plugins_are_read(tmp_path, module, name):
    pytest.importorskip(module)
    register_plugins(tmp_path / name)
    img = np.full((16, 24, 3), (200, 100, 50), np.uint8)
    Image.fromarray(img).save(tmp_path / name, quality=95)
    picture = read_picture(tmp_path / name)
    assert picture.pixels.shape == (16, 24, 3)
    assert np.abs(picture.pixels.astype(int) - img).max() < 8
    assert missing_package(tmp_path / name) is None


def test_a_missing_plugin_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert missing_package(Path("a.HEIC")) == "pillow-heif"
    assert missing_package(Path("a.jxl")) == "pillow-jxl-plugin"
    assert missing_package(Path("a.png")) is None
    (tmp_path / "a.jxl").write_bytes(b"text")
    assert main(["compress", str(tmp_path / "a.jxl")]) == 1
    assert "install pillow-jxl-plugin to read such files" in capsys.readouterr().err


def test_other_files_need_none():
    register_plugins(Path("a.png"))
    register_plugins(Path("-"))
