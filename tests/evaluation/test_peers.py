"""Claims about the other codecs and their files of a given size."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jvrc.evaluation import peers
from jvrc.evaluation.metrics import psnr


@pytest.fixture(scope="module")
def img():
    rows, cols = np.mgrid[:96, :80]
    waves = [np.sin(cols / 9 + rows / 5), np.cos(cols / 4), np.sin(rows * cols / 300)]
    return np.rint(128 + 100 * np.stack(waves, -1)).astype(np.uint8)


@pytest.mark.parametrize("name", peers.NAMES)
def test_a_peer_trades_bytes_for_quality(name, img):
    try:
        peer = peers.peer(name)
    except ValueError as error:
        pytest.skip(str(error))
    coded = [peer.encode(img, quality) for quality in peer.qualities]
    sizes = [len(data) for data in coded]
    quality = [psnr(img, peers.decode(data)) for data in coded]
    assert sizes[0] < sizes[-1]
    assert quality[0] < quality[-1]
    assert peer.qualities[-1] <= peer.highest
    assert peer.encode(img, 50) == peer.encode(img, 50)


def test_unknown_peers_are_refused():
    with pytest.raises(ValueError, match="some of jpeg, jpeg444, mozjpeg, webp, .*; got 'heic'"):
        peers.peer("heic")


def test_mozjpeg_needs_libvips(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvips", None)
    with pytest.raises(ValueError, match='pip install "pyvips'):
        peers.peer("mozjpeg")


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40).map(sorted), st.integers(0, 30))
def test_encode_within_finds_the_highest_quality_that_fits(sizes, limit):
    peer = peers.Peer("", "", "", "", (), len(sizes) - 1, lambda _, quality: bytes(sizes[quality]))
    found = peer.encode_within(np.zeros((1, 1, 3), np.uint8), limit)
    fitting = [size for size in sizes if size <= limit]
    assert found == (bytes(fitting[-1]) if fitting else None)
