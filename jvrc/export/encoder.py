"""A new encoder for a decoder that is in use: files stay what they are, and get smaller.

Decoding reads neither g_a nor h_a. So these may be trained further alone (`jvrc train
--train-decoder no`), with more blocks in g_a too. The weights file then keeps the id that streams
name: what either encoder wrote decodes with either file.
"""

import json
from dataclasses import asdict, replace
from typing import Any

import jax
import numpy as np

from jvrc.frozen.file import as_stored, seal
from jvrc.frozen.header import INHERITED_FORMAT
from jvrc.frozen.model import FrozenModel
from jvrc.model import architectures
from jvrc.model.config import ENCODER_PARTS, ENCODER_SIZES, Config

_TOLERANCE = 1e-4  # of a decoder's parameters, which training scales and freezing scales back


def freeze_encoder(decoder: FrozenModel, run: Any, notes: dict[str, str]) -> FrozenModel:
    """Return a frozen model with the encoder of a run (jvrc.training.run.run_folder.Run).

    All else, the id too, is the decoder's. notes: further entries of the header.

    Raises:
      ValueError: the run has other sizes, or another decoder.
    """
    config, params = architectures.with_scales(run.config, run.params)
    _check_sizes(decoder.config, config)
    params = as_stored({name: params[name] for name in decoder.config.parts})
    _check_decoder(decoder.params, params)
    described = {k: v for k, v in decoder.metadata.items() if k != "measured"}
    described |= notes | {"encoder": asdict(run.recipe) | {"steps_done": run.step}}
    params = decoder.params | {name: params[name] for name in ENCODER_PARTS}
    return _inherited(decoder, replace(decoder, config=config, params=params), described)


def _inherited(decoder: FrozenModel, model: FrozenModel, described: dict) -> FrozenModel:
    """Return the model with what the header is to describe, and the decoder's id."""
    sealed = seal(replace(model, header=json.dumps(described)))
    if sealed.fingerprint == decoder.fingerprint:
        return decoder
    names = {
        "format": INHERITED_FORMAT,
        "model_id": decoder.model_id,
        "fingerprint": sealed.fingerprint,
    }
    return seal(replace(sealed, header=json.dumps(sealed.metadata | names)))


def _check_sizes(expected: Config, found: Config) -> None:
    a, b = expected.to_dict(), found.to_dict()
    other = [k for k in a if a[k] != b.get(k) and k not in ENCODER_SIZES]
    if other:
        sizes = ", ".join(f"{k} = {b.get(k)} instead of {a[k]}" for k in other)
        raise ValueError(f"the run must have the sizes of the decoder's model; it has {sizes}")


def _check_decoder(expected: dict, found: dict) -> None:
    """Raise ValueError if parameters that decoding reads differ."""
    for part in found.keys() - set(ENCODER_PARTS):
        kept = {k: v for k, v in expected[part].items() if k in found[part]}  # freezing added some
        pairs = jax.tree.map(lambda a, b: np.allclose(a, b, _TOLERANCE, 1e-6), kept, found[part])
        if not all(jax.tree.leaves(pairs)):
            raise ValueError(
                f"the run must have the decoder of the model; its {part} is another: train it with "
                "--from that model and --train-decoder no"
            )
