"""Claims about writing files, and about checking beforehand that it can be done."""

import contextlib
import os
import subprocess
import sys

import pytest

from jvrc.io.files import (
    alone_in,
    check_writable,
    is_stream,
    remove_unfinished,
    replacing,
    write_bytes,
)


def test_an_error_names_the_path_that_was_given(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_bytes(tmp_path / "a", b"data")
    assert caught.value.filename == str(tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_the_longest_name_can_be_written_and_a_longer_one_is_refused_before(tmp_path):
    longest = tmp_path / ("x" * 255)
    check_writable(longest)
    write_bytes(longest, b"data")
    assert longest.read_bytes() == b"data"
    check_writable(longest)
    with pytest.raises(OSError, match="File name too long"):
        check_writable(tmp_path / ("x" * 256))


def test_temporary_files_can_be_removed_before_the_process_ends(tmp_path):
    with contextlib.suppress(FileNotFoundError), replacing(tmp_path / "a") as temporary:
        temporary.write_bytes(b"part")
        remove_unfinished()
        assert not list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_links_are_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/file")
    check_writable(tmp_path / "link")
    write_bytes(tmp_path / "link", b"data")
    assert (tmp_path / "folder" / "file").read_bytes() == b"data"
    assert (tmp_path / "link").is_symlink()
    (tmp_path / "astray").symlink_to("missing/file")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check_writable(tmp_path / "astray")


def test_folders_are_no_files(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder"):
        check_writable(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="file: no such folder"):
        check_writable(tmp_path / "file" / "a")


def test_open_files_and_devices_are_streams_and_files_are_not(tmp_path):
    (tmp_path / "a").write_bytes(b"")
    assert not is_stream(tmp_path / "a")
    assert not is_stream(tmp_path / "missing")
    assert not is_stream(tmp_path)
    assert is_stream(os.devnull)
    for path in ("/dev/stdout", "/dev/fd/7", "/proc/self/fd/1", "/dev/../dev/stdout"):
        assert is_stream(path)
    assert not is_stream("/dev/shm/a.jvrc")


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_has_just_come_is_spared_if_asked(tmp_path, monkeypatch, links):
    def none(*_):
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", none)
    write_bytes(tmp_path / "a", b"mine", replace=False)
    with pytest.raises(FileExistsError) as caught:
        write_bytes(tmp_path / "a", b"other", replace=False)
    assert caught.value.filename == str(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 1
    write_bytes(tmp_path / "a", b"other")
    assert (tmp_path / "a").read_bytes() == b"other"


def test_a_folder_is_one_process_at_a_time(tmp_path):
    """Until the other one ends, however it ends."""
    program = (
        "import pathlib, sys\n"
        "from jvrc.io.files import alone_in\n"
        "with alone_in(pathlib.Path(sys.argv[1])):\n"
        "    print(flush=True)\n"
        "    input()"
    )
    arguments = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(ValueError, match="another process writes there"), alone_in(tmp_path):
            pass
        other.kill()
    with alone_in(tmp_path), pytest.raises(ValueError, match="another"), alone_in(tmp_path):
        pass
    with alone_in(tmp_path):
        pass
