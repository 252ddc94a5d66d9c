"""Claims about `effort`: a search for better integers that decoders know nothing of."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

import jvrc
from jvrc import cli
from jvrc.codec.effort import annealing, rdoq
from jvrc.codec.image.decoder import decode_symbols
from jvrc.codec.image.encoder import quantise_image
from jvrc.codec.transforms import tiling
from jvrc.frozen.file import read_model
from jvrc.io.images import write_image
from jvrc.qstep import qstep_code_of

compress = partial(jvrc.compress, patches=False)  # claims are about the model's streams

CODE = qstep_code_of(4.0)
EQUAL = np.ones((1, 1, 1), np.float32)


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
    monkeypatch.setattr(annealing, "ITERATIONS", (0, 3, 6, 9))


def quantised(model, img):
    """(coder, symbols) without effort."""
    found = quantise_image(model, img, CODE)
    return found.coder, found.symbols


def searched(model, img, passes):
    """Symbols after one search."""
    _, symbols = quantised(model, img)
    return symbols._replace(y=rdoq.search(model, img, EQUAL, symbols, CODE, passes=passes))


def test_no_effort_gives_the_same_bytes(model, img):
    assert compress(model, img, 4, effort=0) == compress(model, img, 4)


def test_more_passes_lower_the_loss_of_what_a_decoder_gets(model, img):
    coder, before = quantised(model, img)
    found = [before, *(searched(model, img, n) for n in (2, 12))]
    costs = [rdoq.cost(coder, img, EQUAL, symbols) for symbols in found]
    assert costs[0] > costs[1] > costs[2]
    assert costs[2] < 0.96 * costs[0]


def test_few_integers_move_and_mostly_towards_zero(model, img):
    """Zero costs least; index and mu are those of z, which stays."""
    before, after = quantised(model, img)[1], searched(model, img, 4)
    assert before.y.dtype == after.y.dtype
    smaller = np.count_nonzero(np.abs(after.y) < np.abs(before.y))
    larger = np.count_nonzero(np.abs(after.y) > np.abs(before.y))
    assert smaller > 2 * larger
    assert 0 < smaller + larger < 0.1 * before.y.size
    assert np.array_equal(before.index, after.index)


def test_a_stream_of_any_effort_decodes_to_the_integers_that_were_chosen(model, img, quick):
    data = compress(model, img, 4, effort=3)
    assert data == compress(model, img, 4, effort=3)  # the search is the same each time
    assert len(data) < len(compress(model, img, 4))
    decoded = decode_symbols(model, data)[1]
    assert np.array_equal(decoded.y, searched(model, img, 9).y)
    assert jvrc.decompress(model, data).shape == img.shape


@pytest.mark.slow
def test_images_of_several_tiles_are_searched_too(img, monkeypatch, quick):
    tiny = read_model(Path(__file__).parents[1] / "golden" / "v1" / "tiny-mean.safetensors")
    wide = np.tile(img, (1, 4, 1))
    coder, plain = quantised(tiny, wide)
    whole = rdoq.optimise(coder, wide, EQUAL, plain, effort=1)
    monkeypatch.setattr(tiling, "SHAPES", ((6, 6),))
    cut = rdoq.optimise(coder, wide, EQUAL, plain, effort=1)
    costs = [rdoq.cost(coder, wide, EQUAL, found) for found in (plain, whole, cut)]
    assert costs[0] - costs[2] > 0.9 * (costs[0] - costs[1]) > 0


@pytest.mark.slow
def test_every_architecture_gives_streams_that_decode(tiny, img, quick):
    data = compress(tiny, img, 4, effort=1)
    assert jvrc.decompress(tiny, data).shape == img.shape


@pytest.mark.slow
def test_with_a_context_the_loss_falls_too_and_the_stream_holds_what_was_chosen(img):
    model = jvrc.load("mbt2018")
    coder, before = quantised(model, img)
    after = rdoq.optimise(coder, img, EQUAL, before, effort=1)
    assert rdoq.cost(coder, img, EQUAL, after) < 0.98 * rdoq.cost(coder, img, EQUAL, before)
    decoded = decode_symbols(model, compress(model, img, 4, effort=1))[1]
    for part, chosen in zip(decoded, after, strict=True):
        assert np.array_equal(part, chosen)


def test_nothing_worse_is_ever_returned(model, img, monkeypatch, quick):
    def worse(model, img, weight, symbols, qstep_code, **_):
        return symbols.y + 3

    monkeypatch.setattr(rdoq, "search", worse)
    assert compress(model, img, 4, effort=1) == compress(model, img, 4)


@pytest.mark.parametrize("effort", [-1, 4, 1.5, 1.0, True, "1", None])
def test_other_efforts_are_refused(model, img, effort):
    with pytest.raises(ValueError, match="effort must be an integer in 0 … 3; got"):
        compress(model, img, 4, effort=effort)


def test_the_command_takes_an_effort(img, tmp_path, monkeypatch, quick, capsys):
    monkeypatch.chdir(tmp_path)
    write_image("x.png", img)
    command = ["compress", "x.png", "--qstep", "4", "--model", "mbt2018-mean"]
    assert cli.main([*command, "-o", "plain.jvrc"]) == 0
    assert cli.main([*command, "--effort", "2", "--verify"]) == 0
    assert (tmp_path / "x.jvrc").stat().st_size < (tmp_path / "plain.jvrc").stat().st_size
    with pytest.raises(SystemExit) as error:
        cli.main(["compress", "x.png", "--effort", "4"])
    assert error.value.code == 2
