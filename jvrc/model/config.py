"""The static description of a model: its architecture, sizes and constants, one class for each.

A config is part of the model id (a hash over `to_dict()` and the weights): the dict of an existing
class must never change. `config_of` picks the class by the architecture's name.
"""

from dataclasses import asdict, dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Config:
    """What all architectures have: a name, and values that describe one model of it."""

    architecture: ClassVar[str]

    def to_dict(self) -> dict:
        """Return the architecture's name and all fields, as weights files hold them."""
        return {"architecture": self.architecture} | asdict(self)


@dataclass(frozen=True)
class HyperpriorConfig(Config):
    """The sizes and constants of the architectures with the transforms of `jvrc.model.transforms`.

    N: channels of the transforms and of z. M: channels of y, at least about N and better 192 for
      high rates.
    latent_scale: y is g_a's output times this constant. It keeps weights and activations near one
      while the natural quantisation step of y is one; freezing folds it into the kernels.
    hyper_scale: the hyper transforms see y / hyper_scale; folded likewise.
    log_scale: the network gives log(sigma) (ours) or sigma itself (imported CompressAI models).
    """

    predicts_mean: ClassVar[bool] = True  # mu beside sigma; otherwise mu = 0
    has_context: ClassVar[bool] = False  # sigma and mu also depend on latents decoded before
    # the names at the top of the pytree of parameters
    parts: ClassVar[tuple[str, ...]] = (
        *("g_a", "g_s", "h_a", "h_s"),
        *("bottleneck", "offset", "z_step"),
    )

    N: int = 128
    M: int = 192
    latent_scale: float = 1.0
    hyper_scale: float = 1.0
    log_scale: bool = True

    def __post_init__(self) -> None:
        for name, value in (("N", self.N), ("M", self.M)):
            if not isinstance(value, int) or not 1 <= value <= 4096:
                raise ValueError(f"{name} must be an integer in 1..4096; got {value!r}")
        for name in ("latent_scale", "hyper_scale"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive; got {getattr(self, name)!r}")


class ScaleHyperpriorConfig(HyperpriorConfig):
    """The scale hyperprior of Ballé et al. 2018."""

    architecture = "bmshj2018-hyperprior"
    predicts_mean = False


class MeanScaleHyperpriorConfig(HyperpriorConfig):
    """The hyperprior with mean and scale of Minnen et al. 2018."""

    architecture = "mbt2018-mean"


class JointAutoregressiveConfig(HyperpriorConfig):
    """The hyperprior with mean, scale and context model of Minnen et al. 2018."""

    architecture = "mbt2018"
    has_context = True
    parts = (*HyperpriorConfig.parts, "context", "entropy_parameters")


_CLASSES = {
    kind.architecture: kind
    for kind in (ScaleHyperpriorConfig, MeanScaleHyperpriorConfig, JointAutoregressiveConfig)
}
ARCHITECTURES = tuple(_CLASSES)


def config_of(architecture: str, **fields: int | float | bool) -> Config:
    """Return the config of an architecture by its name; `config_of(**config.to_dict())` is config.

    Raises:
      ValueError: there is no such architecture, or a value is out of its range.
    """
    if architecture not in _CLASSES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"architecture must be one of {known}; got {architecture!r}")
    return _CLASSES[architecture](**fields)
