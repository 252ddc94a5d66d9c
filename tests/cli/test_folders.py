"""Claims about many files in one run, with a tiny model."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import jvrc
from jvrc.cli import main, outputs
from jvrc.cli.folders import run_all
from jvrc.cli.outputs import Job, is_done

pytestmark = pytest.mark.usefixtures("in_tmp_path")

SUMMARY = r"{}, [\d.]+ MP, \d+ bytes, [\d.]+ bpp, [\d.]+ s, [\d.]+ files/s, [\d.]+ MP/s"


def image(number):
    y, x = np.mgrid[:40, :56]
    return np.stack([3 * x, 2 * y + number, 4 * y], axis=-1).astype(np.uint8)


@pytest.fixture
def photos(tmp_path):
    """A tree with four images, one name twice, a hidden file and one that is no image."""
    for number, name in enumerate(["a.png", "a.PPM", "sub/b.png", "sub/deeper/c.webp"]):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image(number)).save(path, lossless=True)
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    (tmp_path / "photos" / ".hidden.png").write_bytes(b"")
    return tmp_path / "photos"


def names(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


CODED = {"a.png.jvrc", "a.PPM.jvrc", "sub/b.png.jvrc", "sub/deeper/c.webp.jvrc"}


@pytest.mark.parametrize("part", [["--crop", "8,4,33,20"], ["--thumbnail"]])
def test_parts_of_files_have_no_bits_per_pixel(capsys, model, photos, part):
    """The bytes are those of the whole file."""
    Image.fromarray(np.tile(image(0), (26, 19, 1))).save("photos/large.png")
    assert main(["compress", "photos/large.png", "photos/a.png", "-o", "out", *model]) == 0
    capsys.readouterr()
    main(["decompress", "out", "-o", "parts", *part, *model])
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"\d files?, [\d.]+ MP, [\d.]+ s, [\d.]+ files/s, [\d.]+ MP/s", line)


def test_folders_go_into_the_same_tree_and_back(capsys, model, photos, tmp_path, tiny_2026):
    assert main(["compress", "photos", "-o", "out", *model]) == 0
    out, err = capsys.readouterr()
    assert re.fullmatch(SUMMARY.format("4 files") + "\n", out)
    assert err == "jvrc: photos: left out, for their suffixes: 1 file\n"
    assert names(tmp_path / "out") == CODED
    data = (tmp_path / "out" / "sub" / "b.png.jvrc").read_bytes()
    assert data == jvrc.compress(tiny_2026, image(2), 2)
    assert main(["decompress", "out", "-o", "back", *model]) == 0
    assert names(tmp_path / "back") == {f"{name}.png" for name in CODED}
    with Image.open(tmp_path / "back" / "sub" / "b.png.jvrc.png") as img:
        np.testing.assert_array_equal(img, jvrc.decompress(tiny_2026, data))


@pytest.mark.skipif(sys.platform == "win32", reason="needs named pipes")
def test_a_named_pipe_is_left_out(capsys, model, photos, tmp_path):
    """Reading it would wait for ever."""
    os.mkfifo(photos / "pipe.png")
    assert main(["compress", "photos", "-o", "out", *model]) == 0
    assert "photos: left out, as pipes or devices: 1 file\n" in capsys.readouterr().err
    assert names(tmp_path / "out") == CODED


def test_folders_behind_links_and_those_that_cannot_be_listed_are_named(
    capsys, model, photos, tmp_path, monkeypatch
):
    """So an archive is never less than whole without a word."""
    (tmp_path / "elsewhere").mkdir()
    (photos / "link").symlink_to(tmp_path / "elsewhere")
    (photos / "closed").mkdir()

    def scandir(path):
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return original(path)

    original = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    assert main(["compress", "photos", "-o", "out", *model]) == 1
    shown = capsys.readouterr().err
    assert "photos: left out, as links: 1 folder: name them as inputs\n" in shown
    assert f"jvrc: {Path('photos', 'closed')}: Permission denied\n" in shown
    assert "1 of 5 files failed" in shown
    assert names(tmp_path / "out") == CODED
    assert main(["compress", "photos", "photos/closed", "-o", "out", *model]) == 1
    assert "1 of 5 files failed" in capsys.readouterr().err


def test_what_another_run_has_done_meanwhile_is_done(photos, tmp_path, capsys):
    source = photos / "a.png"
    job = Job(source, tmp_path / "a.png.jvrc", whole=True)

    def work(job):  # the other one is faster
        shutil.copy2(source, job.output)
        raise FileExistsError(errno.EEXIST, "exists", os.fspath(job.output))

    run_all([job], work, lambda: [nullcontext], force=False, verb="compress")
    assert capsys.readouterr().out.startswith("1 file,")


@pytest.mark.skipif(sys.platform == "win32", reason="a file appears there by os.rename")
def test_an_output_has_its_date_when_it_appears(model, photos, tmp_path, monkeypatch):
    """A run that is killed then leaves nothing that the next one would not take for done."""
    appeared = []

    def link(source, target):
        appeared.append(os.stat(source).st_mtime_ns)
        original(source, target)

    original = os.link
    monkeypatch.setattr(os, "link", link)
    assert main(["compress", "photos", "-o", "out", *model]) == 0
    assert len(appeared) == len(CODED)
    assert set(appeared) <= {path.stat().st_mtime_ns for path in photos.rglob("*")}


def test_where_dates_cannot_be_set_that_is_said(model, photos, monkeypatch, capsys):
    def utime(*_, **__):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "utime", utime)
    assert main(["compress", "photos", "-o", "out", *model]) == 0
    warning = "warning: the modification time of 4 outputs can't be set: a later run"
    assert warning in capsys.readouterr().err


def test_without_an_output_files_lie_beside_their_inputs(model, photos):
    before = names(photos)
    assert main(["compress", "photos", *model]) == 0
    assert names(photos) == before | CODED
    assert main(["decompress", "photos", "--format", "ppm", *model]) == 0
    assert names(photos) == before | CODED | {f"{name}.ppm" for name in CODED}


def test_what_is_done_is_skipped_and_what_has_another_date_is_not_overwritten(
    capsys, model, photos, tmp_path
):
    argv = ["compress", "photos", "-o", "out", *model]
    assert main(argv) == 0
    (tmp_path / "out" / "a.png.jvrc").unlink()
    old = tmp_path / "out" / "sub" / "b.png.jvrc"
    os.utime(old, (0, 0))
    before = old.read_bytes()
    capsys.readouterr()
    assert main(argv) == 1
    out, err = capsys.readouterr()
    assert re.match(SUMMARY.format("1 file") + ", 2 done before", out)
    assert "out/sub/b.png.jvrc: exists; choose another output" in err
    assert old.read_bytes() == before
    assert main([*argv, "--force"]) == 0
    assert capsys.readouterr().out.startswith("4 files, ")
    assert main(argv) == 0
    assert capsys.readouterr().out.startswith("0 files, 4 done before")


def test_another_image_of_that_name_is_not_taken_for_done(capsys, model, photos, tmp_path):
    """As with the folders of two cameras; it may be deleted next."""
    (tmp_path / "other").mkdir()
    Image.fromarray(image(9)).save("other/a.png")
    os.utime("other/a.png", (0, 0))
    assert main(["compress", "photos/a.png", "photos/a.PPM", "-o", "out", *model]) == 0
    before = (tmp_path / "out" / "a.png.jvrc").read_bytes()
    for inputs in (["other"], ["other/a.png", "photos/a.PPM"]):
        capsys.readouterr()
        assert main(["compress", *inputs, "-o", "out", *model]) == 1
        assert "out/a.png.jvrc: exists; choose another output" in capsys.readouterr().err
    assert (tmp_path / "out" / "a.png.jvrc").read_bytes() == before


def test_crops_are_not_taken_for_whole_images(capsys, model, photos):
    assert main(["compress", "photos", "-o", "out", *model]) == 0
    assert main(["decompress", "out", "-o", "back", "--crop", "0,0,8,8", *model]) == 0
    capsys.readouterr()
    assert main(["decompress", "out", "-o", "back", *model]) == 1
    assert "4 of 4 files failed" in capsys.readouterr().err


def test_an_image_that_has_changed_is_not_taken_for_done(capsys, model, photos):
    assert main(["compress", "photos", "-o", "out", *model]) == 0
    os.utime("photos/a.png", (1, 1))
    assert main(["compress", "photos", "-o", "out", *model]) == 1
    assert "1 of 4 files failed" in capsys.readouterr().err


def test_outputs_have_the_dates_of_their_inputs(model, photos, tmp_path):
    moment = 1_234_567_890_123_456_700
    os.utime(photos / "a.png", ns=(moment, moment))
    assert main(["compress", "photos", "-o", "out", *model]) == 0
    assert main(["decompress", "out", "-o", "back", *model]) == 0
    for path in ("out/a.png.jvrc", "back/a.png.jvrc.png"):
        assert (tmp_path / path).stat().st_mtime_ns == moment


@pytest.mark.parametrize(
    ("date", "done"),
    [
        (1_234_567_891_123_456_700, True),
        (1_234_567_891_123_456_000, True),  # in microseconds
        (1_234_567_890_000_000_000, True),  # FAT has even seconds
        (1_234_567_891_123_456_800, False),
        (1_234_567_892_000_000_000, False),
    ],
)
def test_a_date_may_be_cut_by_the_file_system(tmp_path, date, done):
    job = Job(tmp_path / "a", tmp_path / "b", whole=True)
    for path, moment in ((job.source, 1_234_567_891_123_456_700), (job.output, date)):
        path.write_bytes(b"x")
        os.utime(path, ns=(moment, moment))
    assert is_done(job) == done
    assert not is_done(job._replace(whole=False))


def test_what_was_restored_is_not_compressed_again(capsys, model, photos):
    assert main(["compress", "photos", *model]) == 0
    assert main(["decompress", "photos", *model]) == 0
    before = names(photos)
    capsys.readouterr()
    assert main(["compress", "photos", *model]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("0 files, 4 done before")
    assert "photos: left out, as restored by jvrc: 4 files\n" in err
    assert names(photos) == before


def test_patterns_are_expanded_where_no_shell_does_it(photos, monkeypatch):
    shutil.copy(photos / "a.png", photos / "[x].png")
    inputs = [photos / "*.png", photos / "[x].png", photos / "none*.png"]
    if os.name != "nt":
        assert outputs.expand(inputs) == inputs
    monkeypatch.setattr(outputs, "SHELL_EXPANDS", False)
    pngs = [photos / "[x].png", photos / "a.png"]  # as in a shell, hidden files are no matches
    assert outputs.expand(inputs) == [*pngs, photos / "[x].png", photos / "none*.png"]


def test_bad_files_are_listed_at_the_end(capsys, model, photos, tmp_path):
    whole = (photos / "sub" / "b.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "text.png").write_bytes(b"text")
    assert main(["compress", "photos", "none.png", "-o", "out", *model]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("4 files, ")
    *lines, last = err.splitlines()[1:]
    assert len(lines) == 3
    for name in ("photos/cut.png", "photos/text.png", "none.png"):
        assert sum(line.startswith(f"jvrc: {name}: ") for line in lines) == 1
    assert last == "jvrc: error: 3 of 7 files failed, listed above"
    assert names(tmp_path / "out") == CODED
    (tmp_path / "out" / "damaged.jvrc").write_bytes(b"JVRC\x02")
    assert main(["decompress", "out", "-o", "back", *model]) == 1
    assert "jvrc: out/damaged.jvrc: truncated stream" in capsys.readouterr().err
    assert len(names(tmp_path / "back")) == 4


def test_two_inputs_never_share_an_output(capsys, model, photos, tmp_path):
    assert main(["compress", "photos/a.png", "photos/a.PPM", *model]) == 1
    shared = "photos/a.png and photos/a.PPM would both become photos/a.jvrc: -o DIR keeps whole"
    assert shared in capsys.readouterr().err
    (tmp_path / "a.png").write_bytes((photos / "a.png").read_bytes())
    assert main(["compress", "a.png", "photos/a.png", "-o", "out", *model]) == 1
    assert "would both become out/a.png.jvrc" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["compress", "photos/a.png", "photos/a.PPM", "-o", "out", *model]) == 0
    assert names(tmp_path / "out") == {"a.png.jvrc", "a.PPM.jvrc"}


def test_files_that_are_named_have_short_names_and_are_not_skipped(capsys, model, photos):
    argv = ["compress", "photos/a.png", "photos/sub/b.png", *model]
    assert main(argv) == 0
    assert {"a.jvrc", "sub/b.jvrc"} <= names(photos)
    assert main(argv) == 1
    assert "2 of 2 files failed" in capsys.readouterr().err


def test_an_input_is_never_overwritten(capsys, model, photos):
    (photos / "sub" / "b.png.jvrc").hardlink_to(photos / "a.png")
    before = (photos / "a.png").read_bytes()
    assert main(["compress", "photos", "--force", *model]) == 1
    assert "photos/sub/b.png.jvrc: is the input itself" in capsys.readouterr().err
    assert (photos / "a.png").read_bytes() == before


def test_several_inputs_need_a_folder(capsys, photos, tmp_path):
    (tmp_path / "file").write_bytes(b"precious")
    assert main(["compress", "photos", "-o", "file"]) == 1
    assert "file: is not a folder; several inputs need one" in capsys.readouterr().err
    assert main(["compress", "photos", "-o", "all.jvrc"]) == 1
    assert "all.jvrc: is not a folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["compress", "empty", "-o", "out"]) == 1
    assert "empty: no files to take there" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["1", "3"])
def test_the_number_of_threads_changes_no_byte(model, photos, tmp_path, tiny_2026, count):
    assert main(["compress", "photos", "-o", "out", "--jobs", count, *model]) == 0
    for number, name in enumerate(["a.png", "a.PPM", "sub/b.png"]):
        data = (tmp_path / "out" / f"{name}.jvrc").read_bytes()
        assert data == jvrc.compress(tiny_2026, image(number), 2)


# The other thread is ended wherever it is, at times between the opening of a file and `with`.
@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_an_error_of_the_program_is_not_taken_for_a_bad_file(monkeypatch, model, photos):
    def wrong(*_, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(jvrc, "compress", wrong)
    with pytest.raises(ZeroDivisionError):
        main(["compress", "photos", "-o", "out", *model])


def test_after_an_error_of_the_program_the_others_go_on(monkeypatch, capsys, model, photos):
    compress = jvrc.compress

    def wrong(model, img, *rest, **options):
        if np.array_equal(np.asarray(getattr(img, "pixels", img)), image(2)):
            raise ZeroDivisionError("division by zero")
        return compress(model, img, *rest, **options)

    monkeypatch.setattr(jvrc, "compress", wrong)
    with pytest.raises(ZeroDivisionError):
        main(["compress", "photos", "-o", "out", "-j", "1", *model])
    assert names(Path("out")) == CODED - {"sub/b.png.jvrc"}
    line = "jvrc: photos/sub/b.png: unexpected ZeroDivisionError: division by zero"
    assert line in capsys.readouterr().err


def test_outputs_that_differ_in_case_alone_are_refused_where_case_does_not_count(
    capsys, monkeypatch, model, tmp_path
):
    for folder, name in (("one", "Photo.png"), ("two", "photo.png")):
        (tmp_path / folder).mkdir()
        Image.fromarray(image(0)).save(tmp_path / folder / name)
    argv = ["compress", "one", "two", "-o", "out", *model]
    monkeypatch.setattr(outputs, "ignores_case", lambda _: True)
    assert main(argv) == 1
    assert "would both become" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_whether_case_counts_is_what_the_file_system_says(tmp_path):
    folder = tmp_path / "Folder"
    folder.mkdir()
    same = (tmp_path / "fOLDER").exists()
    assert outputs.ignores_case(folder / "none" / "x.jvrc") == same


def test_verify_prints_the_lowest_psnr(capsys, model, photos):
    assert main(["compress", "photos", "-o", "out", "--verify", *model]) == 0
    assert re.search(r", lowest \d+\.\d\d dB$", capsys.readouterr().out)


def test_several_devices_share_the_files(model, photos, tmp_path, tiny_2026):
    flags = {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [sys.executable, "-m", "jvrc", "compress", "photos", "-o", "out", *model]
    done = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert names(tmp_path / "out") == CODED
    data = (tmp_path / "out" / "sub" / "b.png.jvrc").read_bytes()
    assert np.all(
        jvrc.decompress(tiny_2026, data)
        == jvrc.decompress(tiny_2026, jvrc.compress(tiny_2026, image(2), 2))
    )


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_interruption_ends_all_threads_and_leaves_nothing_half_written(model, photos, tmp_path):
    code = f"""
import os, signal, sys, threading, time
import jvrc
from jvrc.cli import main
started = threading.Barrier(3)

def endless(*_, **options):
    started.wait()
    while True:
        time.sleep(0.01)

def interrupt():
    started.wait()
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt).start()
jvrc.compress = endless
sys.exit(main(["compress", "photos", "-o", "out", "-j", "2", *{model!r}]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in done.stderr
    assert names(tmp_path / "out") == set()
