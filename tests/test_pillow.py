"""Claims about the plugin for Pillow, with tiny models."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

import jvrc
import jvrc.pillow
from jvrc.coding.packing import pack, unpack
from jvrc.frozen.file import save_model


@pytest.fixture(autouse=True)
def known(tiny_2026):
    jvrc.pillow.add_model(tiny_2026)


@pytest.fixture
def rgb():
    y, x = np.mgrid[:40, :56]
    return np.stack([3 * x, 2 * y + x, 128 + 40 * np.sin(x / 5)], axis=-1).astype(np.uint8)


def saved(img, model, **options):
    file = BytesIO()
    img.save(file, "JVRC", model=model, **options)
    return file.getvalue()


def test_an_image_is_saved_and_opened_by_its_suffix(tiny_2026, rgb, tmp_path):
    path = tmp_path / "a.jvrc"
    Image.fromarray(rgb).save(path, qstep=2, model=tiny_2026)
    assert path.read_bytes() == jvrc.compress(tiny_2026, rgb, 2)
    with Image.open(path) as img:
        assert (img.format, img.mode, img.size) == ("JVRC", "RGB", (56, 40))
        assert img.get_format_mimetype() == "image/x-jvrc"
        np.testing.assert_array_equal(img, jvrc.decompress(tiny_2026, path.read_bytes()))
        assert img.resize((28, 20)).size == (28, 20)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_grey_and_alpha_keep_their_mode_from_the_header_on(tiny_2026, rgb, mode):
    original = Image.fromarray(rgb)
    if mode.endswith("A"):
        original.putalpha(Image.fromarray(rgb[..., 0]))
    original = original.convert(mode)
    img = Image.open(BytesIO(saved(original, tiny_2026)))
    assert img.mode == mode
    img.load()
    assert img.mode == mode
    if mode.endswith("A"):
        np.testing.assert_array_equal(img.getchannel("A"), original.getchannel("A"))


def test_opening_decodes_nothing(tiny_2026, rgb):
    data = saved(Image.fromarray(rgb), tiny_2026)
    foreign = pack(unpack(data)._replace(model_id="01234567"))
    img = Image.open(BytesIO(foreign))
    assert img.size == (56, 40)
    with pytest.raises(OSError, match=r"no shipped model has the id 01234567.*add_model"):
        img.load()


def test_options_of_saving_are_those_of_compress(tiny_2026, rgb):
    img = Image.fromarray(rgb)
    assert saved(img, tiny_2026) == jvrc.compress(tiny_2026, rgb, 2)
    searched = saved(img, tiny_2026, qstep=8, effort=1)
    assert searched == jvrc.compress(tiny_2026, rgb, 8, effort=1)
    masked = saved(img, tiny_2026, qstep=8, effort=1, masking=True)
    assert masked == jvrc.compress(tiny_2026, rgb, 8, effort=1, masking=True)
    with pytest.raises(ValueError, match="qstep must be"):
        saved(img, tiny_2026, qstep=0)


def test_a_model_that_was_frozen_anew_is_read_anew(tiny_2026, tiny, rgb, tmp_path):
    path, img = tmp_path / "model.safetensors", Image.fromarray(rgb)
    for model in (tiny_2026, tiny):
        save_model(model, path)
        assert jvrc.inspect(saved(img, path)).model_id == model.model_id


def test_a_failed_save_leaves_no_file(tiny_2026, rgb, tmp_path):
    with pytest.raises(ValueError, match="qstep must be"):
        Image.fromarray(rgb).save(tmp_path / "a.jvrc", qstep=99, model=tiny_2026)
    assert not list(tmp_path.iterdir())


def test_the_profile_is_kept_and_metadata_only_if_given(tiny_2026, rgb):
    from PIL import ImageCms

    img = Image.fromarray(rgb)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    exif[0x0112] = 6  # lies on its side
    img.info = {"icc_profile": profile, "exif": exif.tobytes(), "xmp": b"<x/>"}
    plain = Image.open(BytesIO(saved(img, tiny_2026)))
    assert plain.size == img.size
    assert plain.info == {"icc_profile": profile}
    full = Image.open(BytesIO(saved(img, tiny_2026, icc_profile=None, exif=exif, xmp="<y/>")))
    assert "icc_profile" not in full.info
    assert full.size == img.size[::-1]
    assert dict(full.getexif()) == dict(exif) | {0x0112: 1}
    assert full.info["xmp"] == b"<y/>"


def test_exif_that_is_none_is_refused(tiny_2026, rgb):
    with pytest.raises(ValueError, match="exif must begin with a byte order mark; got b'junk'"):
        saved(Image.fromarray(rgb), tiny_2026, exif=b"junk")


@pytest.mark.parametrize("exif", [b"", b"II*\0"])
def test_an_orientation_that_xmp_alone_states_is_applied(tiny_2026, rgb, exif):
    img, xmp = Image.fromarray(rgb[:32, :48]), b'<x tiff:Orientation="6"/>'
    found = Image.open(BytesIO(saved(img, tiny_2026, xmp=xmp, exif=exif)))
    assert found.size == (32, 48)
    assert found.info["xmp"] == b'<x tiff:Orientation="1"/>'


def test_exif_of_a_bigtiff_becomes_a_classic_structure(tiny_2026, rgb, tmp_path):
    tags = Image.Exif()
    tags[271] = "a camera"
    Image.fromarray(rgb).save(tmp_path / "a.tif", big_tiff=True, tiffinfo=tags)
    with Image.open(tmp_path / "a.tif") as img:
        data = saved(img, tiny_2026, exif=img.getexif())
    assert Image.open(BytesIO(data)).getexif()[271] == "a camera"


def test_an_image_of_several_frames_whose_file_is_closed_is_saved(tiny_2026, rgb, tmp_path):
    img = Image.fromarray(rgb)
    img.save(tmp_path / "a.tif", save_all=True, append_images=[img])
    with Image.open(tmp_path / "a.tif") as opened:
        opened.load()
    assert saved(opened, tiny_2026)


def test_further_frames_are_announced(tiny_2026, rgb, tmp_path):
    img = Image.fromarray(rgb)
    img.save(tmp_path / "a.webp", save_all=True, append_images=[img.rotate(90)])
    with pytest.warns(UserWarning, match="1 further frame is left out"):
        saved(Image.open(tmp_path / "a.webp"), tiny_2026)


def test_decompression_bombs_are_refused_before_they_are_decoded(tiny_2026, rgb, monkeypatch):
    data = saved(Image.fromarray(rgb), tiny_2026)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(BytesIO(data))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(BytesIO(data))


@pytest.mark.parametrize("end", [4, 12, -1])
def test_truncated_files_are_not_identified(tiny_2026, rgb, end):
    data = saved(Image.fromarray(rgb), tiny_2026)
    with pytest.raises(UnidentifiedImageError, match="truncated stream"):
        Image.open(BytesIO(data[:end]))


def test_damage_behind_checksums_is_a_broken_data_stream(tiny_2026, rgb):
    coded = unpack(saved(Image.fromarray(rgb), tiny_2026))
    z = coded.tiles[0].z
    tile = coded.tiles[0]._replace(z=z._replace(words=z.words[:-2]))
    img = Image.open(BytesIO(pack(coded._replace(tiles=(tile,)))))
    with pytest.raises(OSError, match="broken data stream when reading image file"):
        img.load()


def test_nothing_of_jax_is_imported_to_look_at_a_file(tiny_2026, rgb, tmp_path):
    (tmp_path / "a.jvrc").write_bytes(saved(Image.fromarray(rgb), tiny_2026))
    code = f"""
import sys, jvrc.pillow
from PIL import Image
with Image.open({str(tmp_path / "a.jvrc")!r}) as img:
    assert img.size == (56, 40)
assert "jax" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_closed_file_raises_what_other_formats_raise(tiny_2026, rgb, tmp_path):
    Image.fromarray(rgb).save(tmp_path / "a.jvrc", qstep=4, model=tiny_2026)
    img = Image.open(tmp_path / "a.jvrc")
    img.close()
    with pytest.raises(ValueError, match="closed image"):
        img.load()


def test_exif_of_another_type_is_refused(tiny_2026, rgb):
    with pytest.raises(TypeError, match="exif must be bytes or Image.Exif; got str"):
        saved(Image.fromarray(rgb), tiny_2026, exif="x")
