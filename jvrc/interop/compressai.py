"""Conversion of CompressAI's state dicts.

Both projects have the same networks, with GDN and the entropy bottleneck in the same
parametrisation; `to_params` says in what their entropy models differ, and jvrc.interop.layout where
each array goes.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jvrc.export import freezing
from jvrc.frozen.model import FrozenModel
from jvrc.interop.layout import Entry, arrays_of, is_vbr
from jvrc.model.config import Config, config_of
from jvrc.qstep import QSTEP_MAX, QSTEP_MIN

_KNOWN = "bmshj2018-hyperprior, mbt2018-mean or mbt2018, or one of these with -vbr"
# Names that the state dicts of all these architectures have.
_SIGNATURE = ("g_a.0.weight", "g_a.1.gamma", "g_a.6.weight", "h_a.0.weight", "h_s.4.weight")
# Last parts of the names of buffers: tables and constants that jvrc makes itself, and masks.
_BUFFERS = {
    *("_quantized_cdf", "_offset", "_cdf_length", "scale_table", "scale_bound"),
    *("target", "pedestal", "bound", "mask", "QuantOffset"),
}
# The bottleneck's parameters have had three names: _matrix0, _matrices.0, matrices.0.
_BOTTLENECK = re.compile(
    r"entropy_bottleneck\.(?:_(matrix|bias|factor)|_?(matrices|biases|factors)\.)(\d+)"
)
_SINGULAR = {"matrices": "matrix", "biases": "bias", "factors": "factor"}
_SHOWN = 3  # names in an error


def from_compressai(state_dict: Mapping[str, Any], **metadata: Any) -> FrozenModel:
    """Convert the state dict of a CompressAI model to a frozen model, as `jvrc.load` returns it.

    The model is frozen for the range of quantisation steps of its gains; for 1 alone if it is a
    single-rate model, which codes badly at other steps until it is post-trained. Freezing rounds
    kernels to float16, h_s (and a context model) to integers, medians of z to 1/16, Delta_z to an
    eighth of an octave, and reconstruction offsets to 1/512 within 0 … 1/2 (negative ones to zero).
    `jvrc.export.calibration.calibrate` then fits CDF tables and fixed-point formats to photographs,
    which makes files smaller.

    Args:
      state_dict: as for `to_params`.
      metadata: JSON values for the header, which also gets `imported`, the model's name and steps.

    Raises:
      ValueError: as `to_params`; or weights too large for integers.
    """
    arrays = _arrays(state_dict)
    config, params = _params_of(arrays)
    steps = _qsteps_of(arrays)
    name = _name_of(config, arrays)
    imported = {"from": "CompressAI", "model": name, "qsteps": list(steps)}
    described = {"imported": imported} | metadata
    low, high = np.clip((min(steps), max(steps)), QSTEP_MIN, QSTEP_MAX).tolist()
    return freezing.freeze(config, params, qstep_range=(low, high), **described)


def to_params(state_dict: Mapping[str, Any]) -> tuple[Config, dict]:
    """Return the config and parameters, float32, of the same model in jvrc.

    N and M are read from the shapes; latent_scale and hyper_scale are 1 and log_scale is False.
    Parts that the model lacks are initialised: reconstruction offsets of zero (a last layer of
    zeros behind random ones, so that training can change them), Delta_z = 1, and a context model
    that does not depend on Delta.

    Two things differ on purpose from what CompressAI's forward passes compute; its `compress`
    agrees with jvrc. That of a `-vbr` model reports the rate of z for bins of width 1 whatever
    Delta_z is; jvrc for bins of width Delta_z. That of a single-rate mbt2018 shows its context
    model y rounded around 0; jvrc rounds around mu.

    Args:
      state_dict: arrays by name, of PyTorch (on any device) or NumPy; or a checkpoint that has
        them under "state_dict". Names may begin with "module.", as DataParallel saves them.

    Raises:
      ValueError: another architecture, missing or unknown names, a wrong shape, or a value that is
        not finite.
    """
    return _params_of(_arrays(state_dict))


def qsteps(state_dict: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the steps Delta = 1 / Gain that a `-vbr` model was trained for; (1.0,) without gains.

    state_dict and errors: as in `to_params`.
    """
    return _qsteps_of(_arrays(state_dict))


def _params_of(arrays: dict[str, np.ndarray]) -> tuple[Config, dict]:
    config = _config_of(arrays)
    table = list(arrays_of(config, arrays))
    names = {entry.name for entry in table} | ({"Gain"} if is_vbr(arrays) else set())
    _check_names(_name_of(config, arrays), names, set(arrays))
    params: dict = _defaults(config, {entry.path[0] for entry in table})
    for entry in table:
        _check_array(entry, arrays[entry.name], config)
        *folders, name = entry.path
        node = params
        for key in folders:
            node = node.setdefault(key, {})
        node[name] = np.ascontiguousarray(entry.convert(arrays[entry.name]))
    return config, params


def _check_array(entry: Entry, value: np.ndarray, config: Config) -> None:
    if value.shape != entry.shape:
        raise ValueError(
            f"{entry.name} must have the shape {list(entry.shape)} for N = {config.N}, "
            f"M = {config.M}; got {list(value.shape)}"
        )
    if not np.isfinite(value).all():
        raise ValueError(f"{entry.name} must be finite, and is not: did training diverge?")


def _qsteps_of(arrays: dict[str, np.ndarray]) -> tuple[float, ...]:
    gains = arrays.get("Gain", np.ones(1, np.float32))
    if gains.ndim != 1 or not gains.size or not np.all(np.abs(gains) > 0):
        raise ValueError(f"Gain must be numbers other than zero; got {gains.tolist()}")
    return tuple((1 / np.abs(gains)).tolist())  # CompressAI also codes with |Gain|


def _arrays(state_dict: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the arrays, float32, by CompressAI's present names; without buffers."""
    found: Any = state_dict
    if isinstance(found, Mapping) and "state_dict" in found:
        found = found["state_dict"]
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise ValueError(
            "state_dict must be arrays by name, or a checkpoint that has them under 'state_dict'; "
            f"got {type(found).__name__}"
        )
    named = {_present_name(name): value for name, value in found.items()}
    return {
        name: _float32(name, value)
        for name, value in named.items()
        if name.rpartition(".")[2] not in _BUFFERS
    }


def _present_name(name: str) -> str:
    name = name.removeprefix("module.")
    match = _BOTTLENECK.fullmatch(name)
    if match is None:
        return name
    single, plural, number = match.groups()
    return f"entropy_bottleneck.{single or _SINGULAR[plural]}{number}"


def _float32(name: str, value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a tensor of PyTorch; float, for NumPy has no bfloat16
        value = value.detach().cpu().float()
    try:
        return np.asarray(value, np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array; got {type(value).__name__}") from error


def _config_of(arrays: dict[str, np.ndarray]) -> Config:
    """Return architecture and sizes, from names and shapes."""
    lacking = [name for name in _SIGNATURE if name not in arrays]
    if lacking:
        raise ValueError(
            f"state_dict must be that of CompressAI's {_KNOWN}; this is another architecture: it "
            f"has no {lacking[0]}"
        )
    n, m, last = (len(np.atleast_1d(arrays[_SIGNATURE[i]])) for i in (0, 2, 4))
    if "context_prediction.weight" in arrays:
        architecture = "mbt2018"
    else:
        architecture = "bmshj2018-hyperprior" if last == m else "mbt2018-mean"
    return config_of(architecture, N=n, M=m, log_scale=False)


def _name_of(config: Config, arrays: dict[str, np.ndarray]) -> str:
    return config.architecture + ("-vbr" if is_vbr(arrays) else "")


def _check_names(model: str, expected: set[str], found: set[str]) -> None:
    missing, unknown = sorted(expected - found), sorted(found - expected)
    if missing or unknown:
        parts = [("missing", missing), ("unknown", unknown)]
        listed = "; ".join(f"{len(v)} {kind}: {_few(v)}" for kind, v in parts if v)
        raise ValueError(f"state_dict must have the names of {model}; {listed}")


def _few(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def _defaults(config: Config, given: set[str]) -> dict:
    """Return initial values of the parts that only some of CompressAI's models have."""
    from jvrc.model.modules import init_params  # Flax: only where parameters are made

    fresh = init_params(jax.random.key(0), config)
    made: dict = {name: fresh[name] for name in ("offset", "z_step") if name not in given}
    if config.has_context:
        zeros = np.zeros((1, 2 * config.M), np.float32)
        made["context"] = {"step": {"kernel": zeros, "bias": zeros[0]}}
    return jax.tree.map(np.asarray, made)
