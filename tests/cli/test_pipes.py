"""Claims about standard input and output, devices and pipes, with a tiny model."""

import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from PIL import Image

import jvrc
from jvrc.cli import main

pytestmark = pytest.mark.usefixtures("in_tmp_path")


@pytest.fixture
def png(tmp_path):
    y, x = np.mgrid[:40, :56]
    img = np.stack([3 * x, 2 * y + x, 4 * y], axis=-1).astype(np.uint8)
    Image.fromarray(img).save(tmp_path / "a.png")
    return (tmp_path / "a.png").read_bytes()


@pytest.fixture
def stream(png, tiny_2026):
    return jvrc.compress(tiny_2026, Image.open(io.BytesIO(png)), 2)


def feed(monkeypatch, data, *, terminal=False):
    """Let standard input hold these bytes."""
    text = io.TextIOWrapper(io.BytesIO(data))
    monkeypatch.setattr(text, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stdin", text)


def test_standard_input_goes_to_standard_output(capsysbinary, monkeypatch, model, png, stream):
    feed(monkeypatch, png)
    assert main(["compress", "-", *model]) == 0
    out, err = capsysbinary.readouterr()
    assert out == stream
    assert err.startswith(b"%d bytes, " % len(stream))
    feed(monkeypatch, stream)
    assert main(["decompress", "-", *model, "--format", "ppm"]) == 0
    out, err = capsysbinary.readouterr()
    assert out.startswith(b"P6\n56 40\n255\n")
    assert err.startswith(b"40x56 from %d bytes, " % len(stream))


def test_standard_input_is_described(capsysbinary, monkeypatch, stream):
    feed(monkeypatch, stream)
    assert main(["info", "-"]) == 0
    described = b"file      standard input\nsize      %d bytes" % len(stream)
    assert described in capsysbinary.readouterr().out


def test_standard_input_goes_to_a_file_and_files_to_standard_output(
    capsysbinary, monkeypatch, model, png, stream, tmp_path
):
    feed(monkeypatch, png)
    assert main(["compress", "-", "-o", "b.jvrc", *model]) == 0
    assert capsysbinary.readouterr().out.startswith(b"b.jvrc: ")
    assert (tmp_path / "b.jvrc").read_bytes() == stream
    assert main(["compress", "a.png", "-o", "-", *model]) == 0
    assert capsysbinary.readouterr().out == stream


def test_a_terminal_gets_no_bytes_and_is_not_read(capsys, monkeypatch, model, png):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["compress", "a.png", "-o", "-", *model]) == 1
    assert "standard output is a terminal; redirect it" in capsys.readouterr().err
    feed(monkeypatch, png, terminal=True)
    assert main(["compress", "-", "-o", "b.jvrc", *model]) == 1
    assert "standard input is a terminal; redirect it" in capsys.readouterr().err


def test_what_standard_input_holds_is_named_in_errors(capsys, monkeypatch, tmp_path):
    feed(monkeypatch, b"text")
    assert main(["compress", "-", "-o", "b.jvrc"]) == 1
    assert capsys.readouterr().err == (
        "jvrc: error: standard input: not an image that Pillow can read\n"
    )
    feed(monkeypatch, b"text")
    assert main(["decompress", "-", "-o", "b.png"]) == 1
    assert "error: standard input: not a jvrc stream" in capsys.readouterr().err
    assert not list(tmp_path.glob("b.*"))


def test_standard_input_is_one_image(capsys, png):
    assert main(["compress", "a.png", "-"]) == 2
    assert "- is standard input or output, for one image" in capsys.readouterr().err
    assert main(["compress", "a.png", "a.png", "-o", "-"]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev and named pipes")
def test_pipes_are_written_to_and_never_replaced(capsys, model, png, stream, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    found = []
    reader = threading.Thread(target=lambda: found.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    assert main(["compress", "a.png", "-o", "pipe", "--force", *model]) == 0
    reader.join(timeout=60)
    assert found == [stream]
    assert (tmp_path / "pipe").is_fifo()
    assert main(["compress", "a.png", "-o", os.devnull, "--force", *model]) == 0
    assert not os.path.isfile(os.devnull)
    assert capsys.readouterr().out.count("\n") == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev and named pipes")
def test_open_files_are_continued(capfdbinary, model, png, stream, tmp_path):
    file = os.open(tmp_path / "b", os.O_CREAT | os.O_WRONLY)
    os.write(file, b"before ")
    assert main(["compress", "a.png", "-o", f"/dev/fd/{file}", *model]) == 0
    os.close(file)
    assert (tmp_path / "b").read_bytes() == b"before " + stream
    capfdbinary.readouterr()
    assert main(["compress", "a.png", "-o", "/dev/stdout", *model]) == 0
    out, err = capfdbinary.readouterr()
    assert out == stream
    assert err.startswith(b"%d bytes, " % len(stream))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
def test_a_closed_standard_output_is_an_error(png, tmp_path):
    command = f"'{sys.executable}' -m jvrc compress a.png -o - >&-"
    done = subprocess.run(command, shell=True, capture_output=True)
    assert done.returncode == 1
    assert done.stderr == b"jvrc: error: standard output is closed; name a file with -o\n"


def test_a_file_that_comes_during_the_work_is_spared(capsys, monkeypatch, model, png, tmp_path):
    compress = jvrc.compress

    def slow(*args, **options):
        (tmp_path / "x.jvrc").write_bytes(b"precious")
        return compress(*args, **options)

    monkeypatch.setattr(jvrc, "compress", slow)
    assert main(["compress", "a.png", "-o", "x.jvrc", *model]) == 1
    assert "x.jvrc: exists; choose another output" in capsys.readouterr().err
    assert (tmp_path / "x.jvrc").read_bytes() == b"precious"
    assert main(["compress", "a.png", "-o", "x.jvrc", "--force", *model]) == 0


def test_a_folder_whose_name_ends_in_a_slash_is_made(model, png, tmp_path):
    assert main(["compress", "a.png", "-o", "new/sub/", *model]) == 0
    assert (tmp_path / "new" / "sub" / "a.png.jvrc").is_file()
