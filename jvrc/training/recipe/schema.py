"""Recipes: all that determines a training run, as a frozen dataclass that is saved with the run.

`SingleRateRecipe` is a run of `jvrc train`, `MultiRateRecipe` one of `jvrc posttrain`. Nothing here
imports JAX, so that the command line can show fields and defaults at once.
"""

import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar

from jvrc.model.config import (
    ARCHITECTURES,
    ENCODER_PARTS,
    Config,
    HyperpriorConfig,
    config_of,
)
from jvrc.qstep import QSTEP_MAX, QSTEP_MIN
from jvrc.training.initialisation.klt_scales import klt_config
from jvrc.training.recipe.options import Rule, at_least, between, check, option, other_default

INITIALISATIONS = ("klt", "random")
OPTIMIZERS = ("muon", "muon-all", "soap", "adam")
PRECISIONS = ("float32", "bfloat16", "bfloat16-products")
WEIGHTINGS = ("mgda", "frank-wolfe", "mean", "random", "upgrad", "cagrad")
OBJECTIVE_SCALES = ("none", "loss", "rate", "gradient", "lambda")
GRAMS = ("exact", "latents")
LOG_QSTEP = "log_qstep"  # [K], a parameter where the quantisation steps are learned
# 1 / Delta of Kamisli et al. 2024, Sec. 4; its lambdas are 0.18 / Delta^2, rounded.
PUBLISHED_QSTEPS = tuple(
    1 / g for g in (0.1, 0.13944, 0.19293, 0.26874, 0.37268, 0.51801, 0.71957, 1.0)
)

_CROP = Rule(lambda v: v >= 64 and v % 64 == 0, "a positive multiple of 64")
_LEARNING_RATE = Rule(lambda v: 0 < v < 1, "in (0, 1)")
_DECAY = Rule(lambda v: 0 <= v < 1, "in [0, 1)")
_POSITIVE = Rule(lambda v: v > 0, "positive")
_QSTEP = Rule(lambda v: QSTEP_MIN <= v <= QSTEP_MAX, f"in {QSTEP_MIN} … {QSTEP_MAX}")
_QSTEPS = Rule(
    lambda v: len(v) > 0 and all(map(_QSTEP.holds, v)),
    f"one or more quantisation steps, each {_QSTEP.text}",
)
_LAMBDAS = Rule(lambda v: all(map(_POSITIVE.holds, v)), "positive")


# Fields of configs that recipes have under a name of their own.
_OTHER_NAMES = ("N", "M", "log_scale", "latent_scale", "hyper_scale")


def size_names(architecture: str) -> tuple[str, ...]:
    """Return the names of the sizes that an architecture has beside N and M."""
    return tuple(f.name for f in fields(config_of(architecture)) if f.name not in _OTHER_NAMES)


def model_fields(config: Config) -> dict[str, Any]:
    """Return the fields of a recipe that say architecture and sizes."""
    sizes = {name: getattr(config, name) for name in size_names(config.architecture)}
    return {"model": config.architecture, "n": config.N, "m": config.M, "sizes": sizes}


@dataclass(frozen=True)
class Recipe:
    """The fields that every run has."""

    command: ClassVar[str]  # of `jvrc`, that trains by this kind of recipe
    of_model_fields: ClassVar[tuple[str, ...]] = ()  # taken from the model that is trained further
    balance: ClassVar[float] = 1.0  # power of Delta that losses are weighted by

    model: str = option("mbt2018-mean", "architecture", choices=ARCHITECTURES)
    n: int = option(64, "channels of z, and of the transforms of the architectures of 2018")
    m: int = option(192, "channels of y")
    sizes: Mapping[str, int] = option(
        {}, f"further sizes of jvrc2026: {', '.join(size_names('jvrc2026'))}"
    )
    steps: int = option(10_000, "training steps of the whole schedule", rule=between(1, 2**31 - 1))
    minutes: float = option(
        0.0,
        "length of the schedule by the clock, from the command on, instead of --steps; 0: none",
        rule=at_least(0),
    )
    batch: int = option(8, "crops a training step", rule=at_least(1))
    crop: int = option(128, "side of a crop in pixels, a multiple of 64", rule=_CROP)
    learning_rate: float = option(
        1e-3, "peak of the schedule of learning rates", rule=_LEARNING_RATE
    )
    final_lr_fraction: float = option(
        0.0, "where the cosine schedule ends, as a fraction of its peak", rule=between(0, 1)
    )
    warmup: int = option(
        300,
        "training steps of rising learning rate, a tenth of all at most; with --minutes, 3 %% "
        "of these",
        rule=at_least(0),
    )
    optimizer: str = option(
        "muon",
        "for kernels, with Adam for the rest; muon-all: those of the 2018 entropy models too",
        choices=OPTIMIZERS,
    )
    weight_decay: float = option(
        0.0, "decay of kernels at each training step, over the learning rate", rule=between(0, 1)
    )
    ema_decay: float = option(
        0.998, "decay of the moving average of the parameters, which is saved", rule=_DECAY
    )
    unnatural_share: float = option(
        0.015, "share of crops that are text, screens, dither, patterns, noise", rule=between(0, 1)
    )
    train_transforms: bool = option(True, "train g_a and g_s too, not the entropy model alone")
    train_decoder: bool = option(
        True, "train what decoding needs too, not g_a and h_a alone: see `freeze --decoder-of`"
    )
    train_offsets: bool = option(True, "train the reconstruction offsets")
    train_z_qstep: bool = option(True, "train the quantisation step of the hyper latent z")
    log_scale: bool = option(True, "predict log sigma; no: sigma, as models of CompressAI do")
    seed: int = option(0, "seed of all random numbers", rule=between(0, 2**63 - 1))
    precision: str = option(
        "float32",
        "of g_a and g_s; bfloat16-products: of the 1x1 products of jvrc2026 alone, sums in float32",
        choices=PRECISIONS,
    )
    warm_start: str = option("")  # a record of the run or file that training began from

    def __post_init__(self) -> None:
        check(self)
        self.check_together()
        self.config()  # checks model and sizes

    def check_together(self) -> None:
        """Raise ValueError if one field contradicts another."""
        if self.rounds_products() and self.model != "jvrc2026":
            raise ValueError(
                f"precision must be float32 or bfloat16 for {self.model}; got {self.precision!r}"
            )

    def check_beginning(self, *, warm: bool) -> None:
        """Raise ValueError if a run cannot begin.

        warm: whether it is given trained parameters.
        """

    def run_seed(self) -> int:
        """Return the seed of crops and noise: another one for a run that goes on from another."""
        if not self.warm_start:
            return self.seed
        return zlib.crc32(f"{self.seed}, {self.warm_start}".encode()) >> 1

    def rounds_products(self) -> bool:
        """Return True if 1x1 products have bfloat16 operands, while all else is float32."""
        return self.precision == "bfloat16-products"

    def transforms_dtype(self) -> str:
        """Return the name of the dtype of g_a and g_s."""
        return "float32" if self.rounds_products() else self.precision

    def config(self) -> Config:
        """Return the configuration of the model, with the scales in which it is trained."""
        raise NotImplementedError

    def config_in_scales(self, **scales: float) -> Config:
        """Return the configuration of the model with the scales given: latent_ and hyper_scale.

        Raises:
          ValueError: the architecture has no such size, or no choice of log_scale.
        """
        known = size_names(self.model)
        unknown = sorted(set(self.sizes) - set(known))
        if unknown:
            rule = f"of {', '.join(known)}" if known else "none"
            raise ValueError(f"sizes of {self.model} must be {rule}; got {', '.join(unknown)}")
        config = config_of(self.model, N=self.n, M=self.m, **self.sizes, **scales)
        if isinstance(config, HyperpriorConfig):
            return replace(config, log_scale=self.log_scale)
        if not self.log_scale:
            raise ValueError(f"log_scale must be true for {self.model}; got False")
        return config

    def qstep_range(self) -> tuple[float, float]:
        """Return the smallest and the largest quantisation step that training begins with."""
        raise NotImplementedError

    def qstep_range_of(self, params: Mapping[str, Any]) -> tuple[float, float]:
        """Return the smallest and the largest quantisation step that parameters are trained for."""
        return self.qstep_range()

    def fixed_parts(self) -> tuple[str, ...]:
        """Return the names of the parts of the model that are not trained."""
        trained = {
            "g_a": self.train_transforms,
            "g_s": self.train_transforms,
            "offset": self.train_offsets,
            "z_step": self.train_z_qstep,
        }
        fixed = {name for name, yes in trained.items() if not yes}
        if not self.train_decoder:
            fixed |= set(self.config().parts) - set(ENCODER_PARTS)
        return tuple(sorted(fixed))

    def extra_params(self) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the parameters that training adds to those of the model."""
        return {}

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


@dataclass(frozen=True)
class SingleRateRecipe(Recipe):
    """A run of `jvrc train`: each crop is coded at one quantisation step, drawn for it."""

    command: ClassVar[str] = "train"

    initialisation: str = option(
        "klt",
        "initial parameters: klt (fitted to the images) or random",
        choices=INITIALISATIONS,
        flag="init",
    )
    balance: float = option(
        1.0,
        "losses are weighted by Delta to this power; more favours low rates",
        rule=between(0, 4),
    )
    qstep_low: float = option(1.5, "smallest quantisation step", rule=at_least(QSTEP_MIN))
    qstep_high: float = option(16.0, "largest quantisation step")

    def check_together(self) -> None:
        super().check_together()
        if not self.qstep_low <= self.qstep_high <= QSTEP_MAX:
            rule = f"at least qstep_low and at most {QSTEP_MAX}"
            raise ValueError(f"qstep_high must be {rule}; got {self.qstep_high}")

    def config(self) -> Config:
        config = self.config_in_scales()
        return klt_config(config) if self.initialisation == "klt" else config

    def qstep_range(self) -> tuple[float, float]:
        return self.qstep_low, self.qstep_high


@dataclass(frozen=True)
class MultiRateRecipe(Recipe):
    """A run of `jvrc posttrain`: each crop is coded at K rates, whose K gradients are combined.

    How weights come from gradients (`jvrc.training.moo`): objective k is first divided by its
    `objective_scale` (its value, its bpp, the norm of its gradient, the root of its lambda), the
    `weighting` weighs these, and no weight may fall below `weight_floor` times their mean.
    `gram`: see `jvrc.training.rate_gradients`. Architecture, sizes and scales are those of the
    model that training begins from (`of_model`).
    """

    command: ClassVar[str] = "posttrain"
    of_model_fields: ClassVar[tuple[str, ...]] = (
        *("model", "n", "m", "sizes", "log_scale"),
        *("latent_scale", "hyper_scale"),
    )

    steps: int = other_default(Recipe, "steps", 2000)
    learning_rate: float = other_default(Recipe, "learning_rate", 5e-4)
    qsteps: tuple[float, ...] = option(
        PUBLISHED_QSTEPS, "quantisation step Delta_k of each rate", rule=_QSTEPS
    )
    lambdas: tuple[float, ...] = option(
        (), "lambda_k of each rate; none: 0.18 / Delta_k^2", rule=_LAMBDAS
    )
    draw_qsteps: bool = option(
        False, "draw Delta_k anew at each training step, in the range of --qsteps"
    )
    learn_qsteps: bool = option(False, "train Delta_k too, at fixed lambda_k")
    weighting: str = option("mgda", "how weights come from gradients", choices=WEIGHTINGS)
    objective_scale: str = option(
        "gradient", "what each objective is divided by before weighting", choices=OBJECTIVE_SCALES
    )
    weight_floor: float = option(
        0.5, "least weight of a scaled objective, as a fraction of the mean", rule=between(0, 1)
    )
    gram: str = option(
        "exact",
        "inner products of whole gradients, or those at the latents: one pass back through g_a",
        choices=GRAMS,
    )
    latent_scale: float = option(1.0)
    hyper_scale: float = option(1.0)

    def __post_init__(self) -> None:
        for name in ("qsteps", "lambdas"):  # lists, from JSON and TOML
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        super().__post_init__()

    def check_together(self) -> None:
        super().check_together()
        if len(self.lambdas) not in (0, len(self.qsteps)):
            rule = f"none, or one for each of {len(self.qsteps)} qsteps"
            raise ValueError(f"lambdas must be {rule}; got {self.lambdas}")
        if self.draw_qsteps and (self.learn_qsteps or self.lambdas):
            raise ValueError("draw_qsteps must be false where lambdas are given or qsteps learned")

    def check_beginning(self, *, warm: bool) -> None:
        if not warm:
            raise ValueError("init must hold the parameters of a trained model; got None")

    def config(self) -> Config:
        return self.config_in_scales(latent_scale=self.latent_scale, hyper_scale=self.hyper_scale)

    def qstep_range(self) -> tuple[float, float]:
        return min(self.qsteps), max(self.qsteps)

    def qstep_range_of(self, params: Mapping[str, Any]) -> tuple[float, float]:
        if not self.learn_qsteps:
            return self.qstep_range()
        learned = [min(max(math.exp(v), QSTEP_MIN), QSTEP_MAX) for v in params[LOG_QSTEP]]
        return min(learned), max(learned)

    def extra_params(self) -> dict[str, tuple[int, ...]]:
        return {LOG_QSTEP: (len(self.qsteps),)} if self.learn_qsteps else {}

    def of_model(self, config: Config, warm_start: str) -> "MultiRateRecipe":
        """Return this recipe for a model of that configuration.

        warm_start: a line for the record that says where the model comes from.
        """
        scales = {k: getattr(config, k) for k in ("latent_scale", "hyper_scale", "log_scale")}
        return replace(self, **model_fields(config), **scales, warm_start=warm_start)
