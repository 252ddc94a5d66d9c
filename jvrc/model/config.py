"""The static description of a model: its architecture, sizes and constants, one class for each.

A config is part of the fingerprint of a weights file (a hash over `to_dict()` and all arrays): the
dict of an existing class must never change. `config_of` picks the class by the architecture's name.
"""

from dataclasses import asdict, dataclass
from typing import ClassVar

_CHANNELS_MAX = 4096
# What decoding does without: parts of the parameters, for `architectures.analyse` alone, and sizes
# that only these have.
ENCODER_PARTS = ("g_a", "h_a")
ENCODER_SIZES = ("g_a_blocks",)


@dataclass(frozen=True)
class Config:
    """What all architectures have: a name, and values that describe one model of it."""

    architecture: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]  # the names at the top of the pytree of parameters
    predicts_mean: ClassVar[bool] = True  # h_s gives mu beside sigma; otherwise mu = 0
    h_s_kernel: ClassVar[int] = 3  # side of the last kernel of h_s
    # sigma and mu also depend on latents decoded before, by the integer networks of mbt2018
    has_context: ClassVar[bool] = False

    @property
    def hyper_widths(self) -> tuple[int, int, int, int]:
        """The channels before, between and after the three layers of h_s."""
        raise NotImplementedError

    @property
    def analysis_reach(self) -> int:
        """How far g_a looks around, in pixels."""
        raise NotImplementedError

    @property
    def synthesis_reach(self) -> int:
        """How far g_s looks around, in pixels of the image."""
        raise NotImplementedError

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

    parts = (*("g_a", "g_s", "h_a", "h_s"), *("bottleneck", "offset", "z_step"))

    N: int = 128
    M: int = 192
    latent_scale: float = 1.0
    hyper_scale: float = 1.0
    log_scale: bool = True

    def __post_init__(self) -> None:
        _check_integers(self, 1, "N", "M")
        _check_positive(self, "latent_scale", "hyper_scale")

    @property
    def hyper_widths(self) -> tuple[int, int, int, int]:
        n, m = self.N, self.M
        return (n, m, m * 3 // 2, 2 * m) if self.predicts_mean else (n, n, n, m)

    @property
    def analysis_reach(self) -> int:
        return 30

    @property
    def synthesis_reach(self) -> int:
        return 31  # 1.9 samples of y


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


@dataclass(frozen=True)
class Jvrc2026Config(Config):
    """The sizes and constants of jvrc2026 (jvrc.model.jvrc2026).

    C: channels of the blocks of g_a and g_s. M: channels of y, a multiple of 4. N: channels of z.
    K: channels of the context model. H: channels behind the first layer of h_s.
    E: features of Delta that g_s and the context model see.
    g_a_blocks, g_s_blocks, context_blocks: how many residual blocks each has.
    expansion: the wide layer of a block has this times the channels of the block.
    fold: as many parts of the wide layer are summed before the block's last layer.
    h_s_kernel: side of the last kernel of h_s, odd.
    latent_scale, hyper_scale: as in HyperpriorConfig.
    """

    architecture = "jvrc2026"
    log_scale: ClassVar[bool] = True
    parts = (*HyperpriorConfig.parts, "context", "delta")

    C: int = 192
    M: int = 320
    N: int = 128
    K: int = 256
    H: int = 256
    E: int = 16
    g_a_blocks: int = 4
    g_s_blocks: int = 8
    context_blocks: int = 2
    expansion: int = 2
    fold: int = 1
    h_s_kernel: int = 1
    latent_scale: float = 1.0
    hyper_scale: float = 1.0

    def __post_init__(self) -> None:
        _check_integers(self, 1, "C", "M", "N", "K", "H", "E", "expansion", "fold", "h_s_kernel")
        _check_integers(self, 0, "g_a_blocks", "g_s_blocks", "context_blocks")
        _check_positive(self, "latent_scale", "hyper_scale")
        for name, value, rule, right in (
            ("M", self.M, "a multiple of 4", self.M % 4 == 0),
            ("fold", self.fold, "a divisor of expansion", self.expansion % self.fold == 0),
            ("h_s_kernel", self.h_s_kernel, "odd", self.h_s_kernel % 2 == 1),
        ):
            if not right:
                raise ValueError(f"{name} must be {rule}; got {value}")

    @property
    def hyper_widths(self) -> tuple[int, int, int, int]:
        return (self.N, self.H, self.H * 3 // 2, 2 * self.M)

    @property
    def analysis_reach(self) -> int:
        return 8 * (self.g_a_blocks + 2)  # `down` looks at two samples more

    @property
    def synthesis_reach(self) -> int:
        return 8 * self.g_s_blocks


def _check_integers(config: Config, low: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or not low <= value <= _CHANNELS_MAX:
            raise ValueError(f"{name} must be an integer in {low}..{_CHANNELS_MAX}; got {value!r}")


def _check_positive(config: Config, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be positive; got {value!r}")


_CLASSES = {
    kind.architecture: kind
    for kind in (
        ScaleHyperpriorConfig,
        MeanScaleHyperpriorConfig,
        JointAutoregressiveConfig,
        Jvrc2026Config,
    )
}
ARCHITECTURES = tuple(_CLASSES)


def config_of(architecture: str, **fields: int | float | bool) -> Config:
    """Return the config of an architecture by its name; `config_of(**config.to_dict())` is config.

    Raises:
      ValueError: there is no such architecture, or a value is out of its range.
      TypeError: the architecture has no such field.
    """
    if architecture not in _CLASSES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"architecture must be one of {known}; got {architecture!r}")
    return _CLASSES[architecture](**fields)
