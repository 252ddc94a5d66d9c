"""Everything that determines a training run, as one small record that is saved with it."""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from jvrc.io.files import write_bytes
from jvrc.model.config import Config
from jvrc.qstep import QSTEP_MAX, QSTEP_MIN
from jvrc.training import klt_init

OPTIMIZERS = ("muon", "adam")
STARTS = ("pyramid", "random")
AGGREGATORS = ("mgda", "frank-wolfe", "mean", "random", "upgrad", "cagrad")
SCALES = ("none", "loss", "rate", "gradient", "lambda")
GRAMS = ("exact", "latents")
PRECISIONS = ("float32", "bfloat16")
# 1 / Delta of Kamisli et al. 2024, Sec. 4; its lambdas are 0.18 / Delta^2, rounded.
PUBLISHED_QSTEPS = tuple(
    1 / g for g in (0.1, 0.13944, 0.19293, 0.26874, 0.37268, 0.51801, 0.71957, 1.0)
)
_STEPS_RULE = f"in {QSTEP_MIN} … {QSTEP_MAX}"


@dataclass(frozen=True)
class _Common:
    """What every run has. crop in pixels, seed for all randomness."""

    model: str = "mbt2018-mean"
    n: int = 64
    m: int = 192
    steps: int = 10_000
    batch: int = 8
    crop: int = 128
    learning_rate: float = 1e-3  # at the peak
    final_rate: float = 0.0  # where the cosine ends, as a fraction of the peak
    warmup: int = 300  # steps; at most a tenth of them all
    begin: int = 0  # the first step: those before were another run's, which `init` names
    optimizer: str = "muon"
    ema: float = 0.998
    transforms: bool = True  # g_a and g_s are trained; if not, only the entropy model is
    offsets: bool = True  # trained; if not they stay as they are, at 0 from a recipe's start
    z_step: bool = True  # likewise the step of z, 1 from a recipe's start
    log_scale: bool = True  # the entropy model gives log sigma; if not, sigma, as CompressAI's do
    seed: int = 0
    precision: str = "float32"  # of the multiplications in g_a and g_s
    init: str = ""  # the run or file that training began from, for the record

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_kind(field.name, getattr(self, field.name), field.default)
        for name, holds, rule in self.rules():
            if not holds:
                raise ValueError(f"{name} must be {rule}; got {getattr(self, name)!r}")
        self.config()  # checks model, n and m

    def rules(self) -> tuple[tuple[str, bool, str], ...]:
        """(field, whether it holds, the rule)."""
        return (
            ("steps", self.steps >= 1, "at least 1"),
            ("batch", self.batch >= 1, "at least 1"),
            ("crop", self.crop >= 64 and self.crop % 64 == 0, "a positive multiple of 64"),
            ("learning_rate", 0 < self.learning_rate < 1, "in (0, 1)"),
            ("final_rate", 0 <= self.final_rate <= 1, "in [0, 1]"),
            ("warmup", self.warmup >= 0, "at least 0"),
            ("begin", 0 <= self.begin < self.steps, f"at least 0 and below steps, {self.steps}"),
            ("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}"),
            ("optimizer", self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
            ("seed", self.seed >= 0, "at least 0"),
            ("ema", 0 <= self.ema < 1, "in [0, 1)"),
        )

    def config(self) -> Config:
        """The model's description, with the scales in which it is trained."""
        raise NotImplementedError

    def qstep_range(self) -> tuple[float, float]:
        """The smallest and the largest step trained."""
        raise NotImplementedError

    def fixed_parts(self) -> tuple[str, ...]:
        """Names of the parameters that are not trained."""
        wide = {"g_a": self.transforms, "g_s": self.transforms}
        trained = wide | {"offset": self.offsets, "z_step": self.z_step}
        return tuple(name for name, yes in trained.items() if not yes)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    def save(self, path: Path) -> None:
        write_bytes(path, self.to_json().encode())


@dataclass(frozen=True)
class Recipe(_Common):
    """A run of `jvrc train`: every crop has a step of its own in qstep_low … qstep_high.

    balance: losses are weighted by this power of the step (`objectives.balanced_mean`); the greater
    it is, the more the low rates count.
    """

    start: str = "pyramid"
    balance: float = 1.0
    qstep_low: float = 1.5
    qstep_high: float = 16.0

    def rules(self) -> tuple[tuple[str, bool, str], ...]:
        high_rule = f"at least qstep_low and at most {QSTEP_MAX}"
        return (
            *super().rules(),
            ("start", self.start in STARTS, f"one of {', '.join(STARTS)}"),
            ("balance", 0 <= self.balance <= 4, "in [0, 4]"),
            ("qstep_low", self.qstep_low >= QSTEP_MIN, f"at least {QSTEP_MIN}"),
            ("qstep_high", self.qstep_low <= self.qstep_high <= QSTEP_MAX, high_rule),
        )

    def config(self) -> Config:
        config = Config(self.model, self.n, self.m, log_scale=self.log_scale)
        return klt_init.klt_config(config) if self.start == "pyramid" else config

    def qstep_range(self) -> tuple[float, float]:
        return self.qstep_low, self.qstep_high


@dataclass(frozen=True)
class PostRecipe(_Common):
    """A run of `jvrc posttrain`: every crop at K rates, K gradients combined into one.

    qsteps: Delta_k, one for each rate; lambdas: lambda_k, or none for 0.18 / Delta_k^2.
    between: draw K steps anew each time, log-uniform over the range of qsteps. learn_qsteps: let
    gradients move Delta_k at fixed lambda_k. aggregator, scale, floor: how weights come from
    gradients (`training.moo`): objectives are divided by `scale` first (its value, its bpp, the
    norm of its gradient, the root of its lambda), and among these no weight falls below `floor`
    times their mean. gram: see `training.multirate`. The model's scales are those of what training
    starts from.
    """

    steps: int = 2000
    learning_rate: float = 5e-4
    qsteps: tuple[float, ...] = PUBLISHED_QSTEPS
    lambdas: tuple[float, ...] = ()
    between: bool = False
    learn_qsteps: bool = False
    aggregator: str = "mgda"
    scale: str = "gradient"
    floor: float = 0.5
    gram: str = "exact"
    latent_scale: float = 1.0
    hyper_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("qsteps", "lambdas"):  # lists, from JSON
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)
        super().__post_init__()

    def rules(self) -> tuple[tuple[str, bool, str], ...]:
        count = len(self.qsteps)
        in_range = count > 0 and all(QSTEP_MIN <= q <= QSTEP_MAX for q in self.qsteps)
        positive = all(v > 0 for v in self.lambdas)
        free = not (self.between and (self.learn_qsteps or self.lambdas))
        choices = (
            ("aggregator", AGGREGATORS),
            ("scale", SCALES),
            ("gram", GRAMS),
        )
        return (
            *super().rules(),
            ("qsteps", in_range, f"one or more steps, each {_STEPS_RULE}"),
            ("lambdas", positive, "positive"),
            ("lambdas", len(self.lambdas) in (0, count), "none, or one for each of qsteps"),
            ("between", free, "false where lambdas are given or qsteps are learned"),
            ("floor", 0 <= self.floor <= 1, "in [0, 1]"),
            *((n, getattr(self, n) in known, f"one of {', '.join(known)}") for n, known in choices),
        )

    def config(self) -> Config:
        scales = (self.latent_scale, self.hyper_scale, self.log_scale)
        return Config(self.model, self.n, self.m, *scales)

    def qstep_range(self) -> tuple[float, float]:
        return min(self.qsteps), max(self.qsteps)

    def of_model(self, config: Config, init: str) -> "PostRecipe":
        """This recipe for a model of that description; init: where it comes from."""
        scales = {k: getattr(config, k) for k in ("latent_scale", "hyper_scale", "log_scale")}
        sizes = {"model": config.architecture, "n": config.N, "m": config.M}
        return replace(self, **sizes, **scales, init=init)


def check_divides(name: str, size: int, devices: int) -> None:
    """ValueError unless so many devices can share `size` evenly; name: the recipe's field."""
    if size % devices:
        raise ValueError(
            f"{name} must divide evenly over {devices} devices; got {size}: choose another number "
            "of them, or of devices"
        )


def load_recipe(path: str | Path, kind: type[_Common] | None = None) -> Recipe | PostRecipe:
    """Reads a recipe: JSON with any fields of Recipe or of PostRecipe; lines with # are prose.

    kind: which of them is asked for; None: the one that has all the fields.

    Raises:
      ValueError: not JSON, or an unknown field.
    """
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    try:
        values = json.loads("\n".join(line for line in lines if not line.startswith("#")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not a recipe: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: not a recipe: it must be a JSON object")
    found = PostRecipe if "aggregator" in values else Recipe
    if kind is Recipe and found is PostRecipe:
        raise ValueError(f"{path}: a recipe of `jvrc posttrain`, not of `jvrc train`")
    if kind is PostRecipe and "start" in values:
        raise ValueError(f"{path}: a recipe of `jvrc train`, not of `jvrc posttrain`")
    kind = kind or found
    unknown = set(values) - {f.name for f in fields(kind)}
    if unknown:
        raise ValueError(f"{path}: unknown recipe fields: {', '.join(sorted(unknown))}")
    return kind(**values)


def _check_kind(name: str, value: object, default: object) -> None:
    """A value is of its default's type; integers will do for floats."""
    if isinstance(default, tuple):
        fits = isinstance(value, tuple) and all(type(v) in (int, float) for v in value)
        expected = "a list of numbers"
    else:
        fits = type(value) is type(default) or (type(default) is float and type(value) is int)
        expected = type(default).__name__
    if not fits:
        raise ValueError(f"{name} must be {expected}; got {value!r}")
