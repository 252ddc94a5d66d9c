"""Claims about the command line, with the shipped model on a small image."""

import json
import os
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest

import jvrc
from jvrc.cli import build_parser, main
from jvrc.coding import packing
from jvrc.io.images import read_image, write_image

MODEL = "jvrc2026"
COMMANDS = ["compress", "decompress", "info", "models", "annotate", "demo"]


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JVRC_CACHE_DIR", "0")


@pytest.fixture(scope="module")
def img():
    y, x = np.mgrid[:40, :56]
    return np.stack([3 * x, 2 * y + x, 128 + 40 * np.sin(x / 5)], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def stream(img):
    return jvrc.compress(jvrc.load(MODEL), img, 2.0)


@pytest.fixture
def photo(img, tmp_path):
    write_image(tmp_path / "photo.png", img)


@pytest.fixture
def compressed(stream, tmp_path):
    (tmp_path / "photo.jvrc").write_bytes(stream)


def fails(capsys, message, *argv, code=1):
    """The command fails with an exit code and one line on stderr that contains ``message``."""
    assert main(argv) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("jvrc: error: ")
    assert err.count("\n") == 1
    assert message in err


def fails_as_usage(capsys, message, *argv):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("photo")
def test_files_round_trip_with_default_names_and_one_line_each(capsys, tmp_path, img, stream):
    assert main(["compress", "photo.png"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"photo.jvrc: {len(stream)} bytes, {8 * len(stream) / 2240:.3f} bpp, ")
    assert out.count("\n") == 1
    assert (tmp_path / "photo.jvrc").read_bytes() == stream
    before = (tmp_path / "photo.png").read_bytes()
    assert main(["decompress", "photo.jvrc"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"photo.jvrc.png: 40x56 from {len(stream)} bytes, ")
    assert out.count("\n") == 1
    expected = jvrc.decompress(jvrc.load(MODEL), stream)
    np.testing.assert_array_equal(read_image("photo.jvrc.png"), expected)
    assert expected.shape == img.shape
    assert (tmp_path / "photo.png").read_bytes() == before


def test_only_the_suffix_of_an_image_is_replaced(tmp_path, img):
    for name, output in [("v1.2", "v1.2.jvrc"), ("b.JPEG", "b.jvrc"), ("c", "c.jvrc")]:
        write_image(tmp_path / "a.png", img)
        (tmp_path / "a.png").rename(tmp_path / name)
        assert main(["compress", name]) == 0
        assert (tmp_path / output).is_file()


@pytest.mark.usefixtures("compressed")
def test_a_crop_is_decompressed_alone(capsys, stream):
    assert main(["decompress", "photo.jvrc", "-o", "a.png", "--crop", "8,4,33,20"]) == 0
    assert capsys.readouterr().out.startswith("a.png: 20x33 of 40x56, ")
    whole = jvrc.decompress(jvrc.load(MODEL), stream)
    np.testing.assert_array_equal(read_image("a.png"), whole[4:24, 8:41])
    outside = ["decompress", "photo.jvrc", "-o", "b.png", "--crop", "8,4,33,37"]
    fails(capsys, "crop must be (x, y, width, height) within the image's 56 x 40", *outside)
    for crop in ("1,2,3", "0,0,-1,2", "a,b,c,d", "1,2,3,4,5"):
        argv = ["decompress", "photo.jvrc", "-o", "b.png", f"--crop={crop}"]
        fails_as_usage(capsys, "must be X,Y,WIDTH,HEIGHT", *argv)


@pytest.mark.usefixtures("photo")
def test_verify_adds_the_psnr(capsys):
    argv = ["compress", "photo.png", "-o", "a.jvrc", "--qstep", "8", "--model", MODEL, "--verify"]
    assert main(argv) == 0
    assert capsys.readouterr().out.endswith(" dB\n")


@pytest.mark.usefixtures("photo")
def test_a_larger_step_gives_fewer_bytes(tmp_path):
    for qstep in ("0.5", "32"):
        assert main(["compress", "photo.png", "-o", f"{qstep}.jvrc", "--qstep", qstep]) == 0
    assert (tmp_path / "32.jvrc").stat().st_size < (tmp_path / "0.5.jvrc").stat().st_size


@pytest.mark.usefixtures("photo", "compressed")
def test_nothing_is_overwritten_without_force(capsys, tmp_path):
    before = (tmp_path / "photo.png").read_bytes()
    refused = "exists; choose another output with -o, or overwrite it with --force"
    fails(capsys, f"photo.jvrc: {refused}", "compress", "photo.png")
    fails(capsys, f"photo.png: {refused}", "decompress", "photo.jvrc", "-o", "photo.png")
    assert (tmp_path / "photo.png").read_bytes() == before
    assert main(["decompress", "photo.jvrc", "-o", "photo.png", "--force"]) == 0
    assert (tmp_path / "photo.png").read_bytes() != before


@pytest.mark.usefixtures("photo")
def test_the_input_is_never_the_output_through_any_link(capsys, tmp_path):
    (tmp_path / "link.png").symlink_to("photo.png")
    (tmp_path / "hard.png").hardlink_to("photo.png")
    before = (tmp_path / "photo.png").read_bytes()
    for output in ("photo.png", "link.png", "hard.png", "./photo.png"):
        argv = ["compress", "photo.png", "-o", output, "--force"]
        fails(capsys, "is the input itself", *argv)
    assert (tmp_path / "photo.png").read_bytes() == before


@pytest.mark.usefixtures("photo")
def test_long_names_are_written_or_refused_by_their_own_name(capsys, tmp_path):
    longest = "x" * 250 + ".jvrc"
    assert main(["compress", "photo.png", "-o", longest]) == 0
    assert (tmp_path / longest).is_file()
    capsys.readouterr()
    fails(capsys, f"x{longest}: File name too long", "compress", "photo.png", "-o", f"x{longest}")


@pytest.mark.usefixtures("photo", "compressed")
def test_outputs_are_checked_before_the_work(capsys, monkeypatch, tmp_path):
    def worked(*_, **options):
        raise AssertionError

    for name in ("compress", "decompress_picture", "load"):
        monkeypatch.setattr(jvrc, name, worked)
    (tmp_path / "folder.jvrc").mkdir()
    (tmp_path / "closed").mkdir()
    (tmp_path / "folder.png").mkdir()
    fails(capsys, "no: no such folder", "compress", "photo.png", "-o", "no/a.jvrc")
    fails(capsys, "no: no such folder", "decompress", "photo.jvrc", "-o", "no/a.png")
    fails(capsys, "photo.png: no such folder", "compress", "photo.png", "-o", "photo.png/a.jvrc")
    fails(capsys, "unknown image format '.xyz'", "decompress", "photo.jvrc", "-o", "a.xyz")
    monkeypatch.setattr("os.access", lambda path, mode: "closed" not in str(path))
    refused = "closed/a.jvrc: can't write into its folder"
    fails(capsys, refused, "compress", "photo.png", "-o", "closed/a.jvrc")


@pytest.mark.usefixtures("photo", "compressed")
def test_a_folder_as_output_keeps_whole_names(tmp_path):
    (tmp_path / "out").mkdir()
    assert main(["compress", "photo.png", "-o", "out"]) == 0
    assert main(["decompress", "photo.jvrc", "-o", "out/", "--format", "ppm"]) == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"photo.png.jvrc", "photo.jvrc.ppm"}


@pytest.mark.usefixtures("compressed")
@pytest.mark.parametrize(
    ("name", "form"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP"), ("tiff", "TIFF")]
)
def test_the_format_is_an_option_or_the_suffix(capsys, tmp_path, name, form):
    from PIL import Image

    assert main(["decompress", "photo.jvrc", "--format", name]) == 0
    assert main(["decompress", "photo.jvrc", "-o", f"a.{name}"]) == 0
    for path in [*tmp_path.glob("photo.jvrc.*"), tmp_path / f"a.{name}"]:
        with Image.open(path) as img:
            assert img.format == form
    capsys.readouterr()
    argv = ["decompress", "photo.jvrc", "-o", "b.bmp", "--format", name]
    fails(capsys, f"b.bmp: its suffix is not that of --format {name}", *argv)


@pytest.mark.usefixtures("photo", "compressed")
@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["compress", "none.png"], "none.png: no such file"),
        (["compress", "photo.png", "-o", "no/a.jvrc"], "no: no such folder"),
        (["compress", "photo.png", "-o", "a.PNG"], "a.PNG: names an image of another format"),
        (
            ["compress", "photo.png", "-o", "a.jvrc", "--bpp", "1e-9"],
            "(0 bpp) can't be reached",
        ),
        (["compress", "photo.png", "-o", "a.jvrc", "--model", "no-such-model"], "no-such-model"),
        (["decompress", "none.jvrc"], "none.jvrc: No such file"),
        (["compress", "photo.png", "-o", "a.jvrc", "--model", "photo.png"], "photo.png"),
        (["decompress", "photo.jvrc", "-o", "a.xyz"], "unknown image format '.xyz'"),
        (["decompress", "photo.png", "-o", "a.png"], "photo.png: not a jvrc stream"),
        (["decompress", "photo.png"], "photo.png: not a jvrc stream"),
        (["info", "photo.png"], "photo.png: not a jvrc stream"),
        (["info", "none.jvrc"], "none.jvrc: No such file"),
        (["demo", "--image", "none.png"], "none.png: no such file"),
    ],
)
def test_errors_take_one_line_and_exit_code_1(capsys, argv, message):
    fails(capsys, message, *argv)


@pytest.mark.parametrize("array", [np.zeros((5, 7, 3)), np.zeros((5, 7, 2), np.uint8)])
def test_an_array_that_is_no_image_is_refused_with_the_rule(capsys, array):
    np.save("x.npy", array)
    fails(capsys, "x.npy: holds no array uint8 [H,W,3], [H,W] or [H,W,4]", "compress", "x.npy")


def test_a_stream_of_an_unknown_model_asks_for_its_file(capsys, tmp_path, stream):
    from jvrc.coding.packing import pack, unpack

    known = unpack(stream).model_id
    foreign = f"{int(known, 16) ^ 1:08x}"
    (tmp_path / "a.jvrc").write_bytes(pack(unpack(stream)._replace(model_id=foreign)))
    fails(capsys, f"no shipped model has the id {foreign}", "decompress", "a.jvrc")
    fails(capsys, f"{MODEL} {known}", "decompress", "a.jvrc")
    fails(capsys, f"needs the model {foreign}", "decompress", "a.jvrc", "--model", MODEL)
    assert main(["info", "a.jvrc"]) == 0
    assert "none of the shipped ones" in capsys.readouterr().out


@pytest.mark.parametrize("qstep", ["0", "-1", "nan", "inf", "0.4", "33", "two"])
def test_a_step_outside_the_range_is_wrong_usage(capsys, qstep):
    message = f"argument --qstep: must be a number in 0.5 ... 32, got {qstep}"
    fails_as_usage(capsys, message, "compress", "photo.png", f"--qstep={qstep}")


@pytest.mark.parametrize(
    "argv", [[], ["enhance"], ["compress"], ["info", "a", "b"], ["compress", "a", "-j0"]]
)
def test_wrong_usage_exits_with_2(capsys, argv):
    fails_as_usage(capsys, "usage: jvrc", *argv)


@pytest.mark.usefixtures("photo", "compressed")
@pytest.mark.parametrize(
    "argv",
    [
        ["compress", ""],
        ["compress", "photo.png", ""],
        ["compress", "photo.png", "-o", ""],
        ["decompress", ""],
        ["decompress", "photo.jvrc", "-o", ""],
        ["info", ""],
        ["eval", ""],
        ["eval", "photos", "-o", ""],
        ["train", "--data", "photos", "-o", ""],
        ["train", "--data", "", "-o", "run"],
        ["pack", ""],
        ["plot", ""],
        ["freeze", ""],
        ["demo", "--image", ""],
    ],
)
def test_an_empty_name_is_not_the_current_folder(capsys, tmp_path, argv):
    fails_as_usage(capsys, "must name a file or a folder, got an empty text", *argv)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.jvrc", "photo.png"]


@pytest.mark.usefixtures("photo")
def test_interruption_exits_with_130_and_writes_nothing(capsys, monkeypatch, tmp_path):
    def interrupted(*_, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(jvrc, "compress", interrupted)
    assert main(["compress", "photo.png"]) == 130
    assert "Traceback" not in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_each_loss_is_a_line_of_warning(capsys, tmp_path, img):
    from PIL import Image

    first = Image.fromarray(img)
    first.save(tmp_path / "a.tif", save_all=True, append_images=[first])
    assert main(["compress", "a.tif"]) == 0
    assert capsys.readouterr().err == "jvrc: warning: a.tif: 1 further page is left out\n"
    alpha = np.zeros_like(img[..., :1])
    Image.fromarray(np.concatenate([img, alpha], axis=-1)).save(tmp_path / "b.png")
    assert main(["compress", "b.png"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["decompress", "b.jvrc", "-o", "b.jpg"]) == 0
    expected = "jvrc: warning: b.jpg: JPEG holds no transparency: it is composited on white\n"
    assert capsys.readouterr().err == expected


def test_metadata_is_stripped_and_colours_are_converted_on_request(tmp_path, img):
    from PIL import Image, ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    Image.fromarray(img).save(tmp_path / "a.png", exif=exif, icc_profile=profile)
    kept = {(): (True, True), ("--strip",): (False, True), ("--srgb",): (True, False)}
    for options, (has_exif, has_profile) in kept.items():
        assert main(["compress", "a.png", "--force", *options]) == 0
        info = jvrc.inspect((tmp_path / "a.jvrc").read_bytes())
        assert (info.exif > 0, info.icc > 0) == (has_exif, has_profile), options


def test_text_is_coded_without_the_model_unless_asked_not_to(tmp_path, capsys):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::2] = 255
    write_image(tmp_path / "a.png", stripes)
    for options, share in (((), "100"), (("--no-patches",), "0")):
        assert main(["compress", "a.png", "--model", MODEL, "--force", *options]) == 0
        assert main(["info", "a.jvrc"]) == 0
        assert f"patches   {share} % of the image, coded without" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "expected"),
    [("12000", 12000), ("12k", 12000), ("1.5M", 1500000), ("64Ki", 65536), ("2kB", 2000)],
)
def test_sizes_have_units(text, expected):
    assert build_parser().parse_args(["compress", "a", "--bytes", text]).target_bytes == expected


def test_rates_are_chosen_in_one_way(capsys):
    fails_as_usage(capsys, "not allowed with", "compress", "a", "--qstep", "2", "--bpp", "1")
    for text in ("0", "-1", "12x", "k", "1e3", "9" * 400):
        fails_as_usage(capsys, "must be bytes as in", "compress", "a", f"--bytes={text}")
    for text in ("0", "-1", "nan", "inf", "high"):
        fails_as_usage(capsys, "must be a positive number", "compress", "a", f"--psnr={text}")


@pytest.mark.filterwarnings("always")
@pytest.mark.usefixtures("photo")
def test_remarks_of_pillow_on_size_and_metadata_are_not_printed(capsys, monkeypatch, img):
    from PIL import Image

    cut = b"Exif\0\0II*\0\x08\0\0\0" + b"\x02\0" + b"\x12\x01"  # ends in its first tag
    Image.fromarray(img).save("photo.png", exif=cut)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.warns() as seen:
        read_image("photo.png")
    assert {record.category for record in seen} == {UserWarning, Image.DecompressionBombWarning}
    assert main(["compress", "photo.png"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("failing", [False, True])
def test_the_callers_way_to_show_warnings_comes_back(monkeypatch, failing):
    filters, shown = list(warnings.filters), warnings.showwarning
    assert main(["info", "none.jvrc" if failing else MODEL]) == int(failing)
    assert warnings.showwarning is shown
    assert warnings.filters == filters


@pytest.mark.usefixtures("compressed")
def test_info_accounts_for_every_byte(capsys, stream):
    assert main(["info", "photo.jvrc", "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert sum(info["content"].values()) == info["bytes"] == len(stream)
    assert (info["version"], info["tiles"], info["refined"]) == (3, 1, 1)
    assert (info["height"], info["width"], info["qstep"]) == (40, 56, 2.0)
    assert (info["model"], info["model_id"]) == (MODEL, jvrc.load(MODEL).model_id)
    assert info["bpp"] == 8 * len(stream) / (40 * 56)
    assert set(info["lanes"]) == {"z", "y"}
    assert main(["info", "photo.jvrc"]) == 0
    out = capsys.readouterr().out
    assert "image     40x56 (height x width)" in out
    assert "format    version 3, tiles: 1" in out
    assert "of 1 tiles, refined in 1" in out
    assert f"({MODEL})" in out


def test_info_lists_versions_tiles_and_sections_without_decoding(capsys, tmp_path):
    from jvrc.coding.container import Container, Section, Stream, Tile
    from jvrc.coding.packing import pack

    tiles = [Tile(n == 1, Stream(b"zz", b"", 1), Stream(b"yyy", b"e", 1 << n)) for n in range(6)]
    sections = (Section(140, b"exif"), Section(200, b"?"), Section(140, b"more"))
    coded = Container("01234567", 3000, 2000, 0, tiles, sections=sections)
    (tmp_path / "a.jvrc").write_bytes(pack(coded))
    assert main(["info", "a.jvrc"]) == 0
    out = capsys.readouterr().out
    assert "format    version 2, tiles: 6" in out
    assert "lanes     z 1, y 1 ... 32 (of" in out
    assert "in 1 of 6 tiles" in out
    content = "z words 12, z escapes 0, y words 18, y escapes 6, section 140 8, section 200 1"
    assert f"content   {content}, headers, checksums " in out


def test_info_names_a_file_whose_step_does_not_exist(capsys, tmp_path, stream):
    path = tmp_path / "bad.jvrc"
    path.write_bytes(packing.pack(packing.unpack(stream)._replace(qstep_code=9999)))
    assert main(["info", str(path)]) == 1
    assert f"{path}: damaged stream: there is no qstep code 9999" in capsys.readouterr().err


def test_info_describes_a_model_by_name_or_file(capsys):
    assert main(["info", MODEL, "--json"]) == 0
    info = json.loads(capsys.readouterr().out)
    assert (info["model_id"], info["file"]) == (
        jvrc.load(MODEL).model_id,
        str(jvrc.models()[MODEL]),
    )
    assert main(["info", str(jvrc.models()[MODEL])]) == 0
    out = capsys.readouterr().out
    assert f"id        {info['model_id']}\n" in out
    assert f"N = {info['config']['N']}, M = {info['config']['M']}" in out
    for key in ("recipe", "license", "data"):
        assert f"\n{key:<9} " in out


@pytest.mark.parametrize("content", [b"", b"\xff" * 99, b"\x02\0\0\0\0\0\0\0{}", b"photo"])
def test_what_is_no_weights_file_is_not_described(capsys, tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    fails(capsys, "a.safetensors: not a weights file", "info", "a.safetensors")


def test_annotations_go_into_the_header_and_change_nothing_else(capsys, tmp_path):
    original = jvrc.models()[MODEL]
    (tmp_path / "m.safetensors").write_bytes(original.read_bytes())
    model_id = jvrc.load(MODEL).model_id
    row = {"images": 2, "ms_ssim": 0.9, "psnr_luma": 31.0}
    measured = [("6.2", 0.9, 29.0), (model_id, 0.5, 30.0)]
    rows = [row | {"version": v, "setting": 4.0, "bpp": b, "psnr": p} for v, b, p in measured]
    (tmp_path / "r.json").write_text(json.dumps({"means": rows}))
    argv = ["annotate", "m.safetensors", "--note", "by=a test", "--measured", "few=r.json"]
    assert main(argv) == 0
    after = jvrc.load("m.safetensors")
    assert after.model_id == model_id
    assert after.metadata["by"] == "a test"
    assert after.metadata["measured"]["few"] == {
        "images": 2, "qstep": [4.0], "bpp": [0.5], "psnr": [30.0], "psnr_luma": [31.0],
        "ms_ssim": [0.9],
    }  # fmt: skip
    capsys.readouterr()
    assert main(["info", "m.safetensors"]) == 0
    assert "qstep 4     0.5000 bpp  30.000 dB" in capsys.readouterr().out
    (tmp_path / "r.json").write_text(json.dumps({"means": rows[:1]}))
    fails(capsys, f"no means of model {model_id}", *argv)
    (tmp_path / "r.json").write_text("[]")
    fails(capsys, "r.json: not a results.json of `jvrc eval`", *argv)
    fails(capsys, "pass --note or --measured", *argv[:2], code=2)
    fails(capsys, "--measured must be SET=RESULTS.json", *argv[:2], "--measured", "r.json", code=2)
    fails(capsys, "--note must be KEY=TEXT", *argv[:2], "--note", "measured=x", code=2)


def test_output_that_nobody_reads_is_no_error():
    code = f"from jvrc.cli import main; import sys; sys.exit(main(['info', '{MODEL}']))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_models_lists_what_load_accepts(capsys):
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(jvrc.models())
    model = jvrc.load(MODEL)
    assert rows[MODEL]["model_id"] == model.model_id
    assert (rows[MODEL]["N"], rows[MODEL]["M"]) == (model.config.N, model.config.M)
    assert rows[MODEL]["bytes"] == jvrc.models()[MODEL].stat().st_size
    assert main(["models"]) == 0
    assert capsys.readouterr().out.count("\n") == len(rows)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"examples:\n  jvrc {command}" in capsys.readouterr().out


def output_without_importing(unwanted, code):
    """What a fresh process prints that runs the code, which must not import these packages."""
    check = f"import sys; found = {unwanted!r} & set(sys.modules); assert not found, found"
    argv = [sys.executable, "-c", f"from jvrc.cli import main\n{code}\n{check}"]
    result = subprocess.run(argv, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_help_imports_nothing_heavy():
    code = "import contextlib\nwith contextlib.suppress(SystemExit): main(['--help'])"
    out = output_without_importing({"jax", "numpy", "PIL", "safetensors", "tqdm"}, code)
    for command in COMMANDS:
        assert command in out


@pytest.mark.usefixtures("compressed")
def test_info_and_models_do_without_jax():
    code = "assert main(['info', 'photo.jvrc']) == main(['models']) == 0"
    assert MODEL in output_without_importing({"jax", "numpy", "PIL", "safetensors"}, code)


@pytest.mark.usefixtures("photo")
def test_a_fresh_process_decodes_to_the_same_bytes(tmp_path, stream):
    (tmp_path / "a.jvrc").write_bytes(stream)
    argv = [sys.executable, "-m", "jvrc", "decompress", "a.jvrc"]
    folder = str(jax.config.jax_compilation_cache_dir)
    quick = {
        "JAX_COMPILATION_CACHE_DIR": folder,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    result = subprocess.run(argv, env=os.environ | quick, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(
        read_image("a.jvrc.png"), jvrc.decompress(jvrc.load(MODEL), stream)
    )
