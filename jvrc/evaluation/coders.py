"""Coders to measure: models of jvrc, and other codecs."""

from functools import partial

import numpy as np

import jvrc
from jvrc.evaluation import peers
from jvrc.evaluation.measure import Coder
from jvrc.evaluation.peers import Peer


def of_model(
    model: jvrc.FrozenModel,
    name: str,
    qsteps: tuple[float, ...],
    *,
    effort: int = 0,
    masking: bool = False,
) -> Coder:
    """Return a model as a coder with quantisation steps as settings."""
    compress = partial(jvrc.compress, model, effort=effort, masking=masking)
    decompress = partial(jvrc.decompress, model)
    label = f"{name}, effort {effort}" if effort else name
    label += ", masking" if masking else ""
    refined = f", refined by {model.refinement_id}" if model.refinement_id else ""
    version = f"{model.fingerprint}{refined}, jvrc {jvrc.__version__}"  # the encoder may change
    return Coder(label, version, "qstep", qsteps, compress, decompress)


def of_peer(peer: Peer) -> Coder:
    """Return another codec as a coder with its qualities as settings."""

    def encode(img: np.ndarray, quality: float) -> bytes:
        return peer.encode(img, int(quality))

    return Coder(peer.title, peer.version, "quality", peer.qualities, encode, peers.decode)
