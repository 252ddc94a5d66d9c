"""The static description of a model: everything about it that is not an array."""

from dataclasses import asdict, dataclass

ARCHITECTURES = ("bmshj2018-hyperprior", "mbt2018-mean", "mbt2018")


@dataclass(frozen=True)
class Config:
    """Architecture and sizes.

    architecture: name as in the literature. N: channels of the transforms and of z. M: channels of
      y, at least about N and better 192 for high rates.
    latent_scale: y is g_a's output times this constant. It keeps weights and activations near one
      while the natural quantisation step of y is one; folded into the kernels when frozen.
    hyper_scale: the hyper transforms see y / hyper_scale; folded likewise.
    log_scale: the network gives log(sigma) (ours) or sigma itself (imported CompressAI models).
    """

    architecture: str = "mbt2018-mean"
    N: int = 128
    M: int = 192
    latent_scale: float = 1.0
    hyper_scale: float = 1.0
    log_scale: bool = True

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise ValueError(f"architecture must be one of {known}; got {self.architecture!r}")
        for name, value in (("N", self.N), ("M", self.M)):
            if not isinstance(value, int) or not 1 <= value <= 4096:
                raise ValueError(f"{name} must be an integer in 1..4096; got {value!r}")
        for name in ("latent_scale", "hyper_scale"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive; got {getattr(self, name)!r}")

    @property
    def predicts_mean(self) -> bool:
        """Whether mu is predicted beside sigma, or mu = 0 (scale hyperprior)."""
        return self.architecture != "bmshj2018-hyperprior"

    @property
    def has_context(self) -> bool:
        """Whether sigma and mu also depend on the latents decoded before (mbt2018)."""
        return self.architecture == "mbt2018"

    @property
    def parts(self) -> tuple[str, ...]:
        """The names at the top of the pytree of parameters."""
        common = ("g_a", "g_s", "h_a", "h_s", "bottleneck", "offset", "z_step")
        return (*common, "context", "entropy_parameters") if self.has_context else common

    def to_dict(self) -> dict:
        return asdict(self)
