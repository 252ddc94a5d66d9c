"""Claims about `effort`: a search for better integers that decoders know nothing of."""

from pathlib import Path

import numpy as np
import pytest

import jvrc
from jvrc import cli
from jvrc.codec import image as codec
from jvrc.codec import rdoq, tiling
from jvrc.coding import scale_adaptation
from jvrc.frozen.file import read_model
from jvrc.io.images import write_image
from jvrc.qstep import LAMBDA_AT_ONE, qstep_code_of

CODE = qstep_code_of(4.0)


@pytest.fixture(scope="module")
def img():
    rows, cols = np.mgrid[:70, :100]
    waves = [np.sin(cols / 9 + rows / 15), np.cos(cols / 4), np.sin(rows * cols / 200)]
    noise = (rows * 7919 + cols * 104729) % 21
    return np.rint(118 + 90 * np.stack(waves, -1) + noise[..., None]).astype(np.uint8)


@pytest.fixture(scope="module")
def model():
    return jvrc.load("mbt2018-mean")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(rdoq, "PASSES", (0, 3, 6, 9))


def first_latents(model, img):
    return codec.quantise(model, *codec.analyse(model, img), CODE)


def refined(model, img, passes):
    latents = first_latents(model, img)
    by = scale_adaptation.choose(latents.y, latents.index, model.y_tables)
    table = scale_adaptation.apply(latents.index, by, len(model.y_tables.low))
    y = rdoq.refine(model, img, latents[1:], table, CODE, passes=passes)
    return latents._replace(y=y)


def test_no_effort_gives_the_same_bytes(model, img):
    assert jvrc.compress(model, img, 4, effort=0) == jvrc.compress(model, img, 4)


def test_more_passes_lower_the_loss_of_what_a_decoder_gets(model, img):
    found = [first_latents(model, img), *(refined(model, img, n) for n in (2, 12))]
    costs = [codec._cost(model, img, latents, CODE) for latents in found]
    assert costs[0] > costs[1] > costs[2]
    assert costs[2] < 0.96 * costs[0]


def test_integers_move_by_little_and_only_those_of_y(model, img):
    before, after = first_latents(model, img), refined(model, img, 4)
    assert before.y.dtype == after.y.dtype
    assert 0 < np.abs(after.y - before.y).max() <= 4
    assert np.array_equal(before.index, after.index)


def test_a_stream_of_any_effort_decodes_to_the_integers_that_were_chosen(model, img, quick):
    data = jvrc.compress(model, img, 4, effort=3)
    assert data == jvrc.compress(model, img, 4, effort=3)  # the search is the same each time
    assert len(data) < len(jvrc.compress(model, img, 4))
    decoded = codec.decode_latents(model, data)
    assert np.array_equal(decoded.y, refined(model, img, 9).y)
    assert jvrc.decompress(model, data).shape == img.shape


def test_pictures_of_several_tiles_are_refined_too(img, monkeypatch, quick):
    tiny = read_model(Path(__file__).parents[1] / "golden" / "v1" / "tiny-mean.safetensors")
    wide = np.tile(img, (1, 4, 1))
    plain = codec.quantise(tiny, *codec.analyse(tiny, wide), CODE)
    whole = codec._refined(tiny, wide, plain, CODE, 1, False)
    monkeypatch.setattr(tiling, "TILE", 6)
    cut = codec._refined(tiny, wide, plain, CODE, 1, False)
    costs = [codec._cost(tiny, wide, found, CODE) for found in (plain, whole, cut)]
    assert costs[0] - costs[2] > 0.9 * (costs[0] - costs[1]) > 0


def test_every_architecture_gives_streams_that_decode(tiny, img, quick):
    data = jvrc.compress(tiny, img, 4, effort=1)
    assert jvrc.decompress(tiny, data).shape == img.shape


def test_with_a_context_the_loss_falls_too_and_the_stream_holds_what_was_chosen(img):
    model = jvrc.load("mbt2018")
    before = first_latents(model, img)
    after = codec._refined(model, img, before, CODE, 1, False)
    assert codec._cost(model, img, after, CODE) < 0.98 * codec._cost(model, img, before, CODE)
    decoded = codec.decode_latents(model, jvrc.compress(model, img, 4, effort=1))
    for part, chosen in zip(decoded, after, strict=True):
        assert np.array_equal(part, chosen)


def test_nothing_worse_is_ever_returned(model, img, monkeypatch, quick):
    def worse(params, img, latents, table, code, **_):
        return latents[0] + 3

    monkeypatch.setattr(rdoq, "refine", worse)
    assert jvrc.compress(model, img, 4, effort=1) == jvrc.compress(model, img, 4)


def test_lambda_is_that_of_training():

    assert rdoq.LAMBDA == LAMBDA_AT_ONE


@pytest.mark.parametrize("effort", [-1, 4, 1.5, 1.0, True, "1", None])
def test_other_efforts_are_refused(model, img, effort):
    with pytest.raises(ValueError, match="effort must be an integer in 0 … 3; got"):
        jvrc.compress(model, img, 4, effort=effort)


def test_the_command_takes_an_effort(img, tmp_path, monkeypatch, quick, capsys):
    monkeypatch.chdir(tmp_path)
    write_image("x.png", img)
    assert cli.main(["compress", "x.png", "--qstep", "4", "-o", "plain.jvrc"]) == 0
    assert cli.main(["compress", "x.png", "--qstep", "4", "--effort", "2", "--verify"]) == 0
    assert (tmp_path / "x.jvrc").stat().st_size < (tmp_path / "plain.jvrc").stat().st_size
    with pytest.raises(SystemExit) as error:
        cli.main(["compress", "x.png", "--effort", "4"])
    assert error.value.code == 2
