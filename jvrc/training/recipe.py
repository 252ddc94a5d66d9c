"""Everything that determines a training run, as one small record that is saved with it.

May import: step_grid, images (to write files), model.config.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from jvrc.images import write_bytes
from jvrc.model.config import Config
from jvrc.step_grid import QSTEP_MAX, QSTEP_MIN

OPTIMIZERS = ("muon", "adam")
STARTS = ("pyramid", "random")
_HIGH_RULE = f"at least qstep_low and at most {QSTEP_MAX}"


@dataclass(frozen=True)
class Recipe:
    """One run. crop in pixels, qstep_* the range of Delta trained, seed for all randomness."""

    model: str = "mbt2018-mean"
    n: int = 64
    m: int = 192
    steps: int = 10_000
    batch: int = 8
    crop: int = 128
    learning_rate: float = 1e-3
    optimizer: str = "muon"
    start: str = "pyramid"
    qstep_low: float = 1.5
    qstep_high: float = 16.0
    ema: float = 0.998
    seed: int = 0
    init: str = ""  # what training began with instead of `start`, for the record

    def __post_init__(self) -> None:
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise ValueError(f"{field.name} must be {kind.__name__}; got {value!r}")
        rules = (
            ("steps", self.steps >= 1, "at least 1"),
            ("batch", self.batch >= 1, "at least 1"),
            ("crop", self.crop >= 64 and self.crop % 64 == 0, "a positive multiple of 64"),
            ("learning_rate", 0 < self.learning_rate < 1, "in (0, 1)"),
            ("optimizer", self.optimizer in OPTIMIZERS, f"one of {', '.join(OPTIMIZERS)}"),
            ("start", self.start in STARTS, f"one of {', '.join(STARTS)}"),
            ("qstep_low", self.qstep_low >= QSTEP_MIN, f"at least {QSTEP_MIN}"),
            ("qstep_high", self.qstep_low <= self.qstep_high <= QSTEP_MAX, _HIGH_RULE),
            ("seed", self.seed >= 0, "at least 0"),
            ("ema", 0 <= self.ema < 1, "in [0, 1)"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"{name} must be {rule}; got {getattr(self, name)!r}")
        self.config()  # checks model, n and m

    def config(self) -> Config:
        return Config(self.model, self.n, self.m)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    def save(self, path: Path) -> None:
        write_bytes(path, self.to_json().encode())


def load_recipe(path: str | Path) -> Recipe:
    """Reads a recipe: JSON with any of the fields of Recipe; lines that start with # are prose.

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
    unknown = set(values) - {f.name for f in fields(Recipe)}
    if unknown:
        raise ValueError(f"{path}: unknown recipe fields: {', '.join(sorted(unknown))}")
    return Recipe(**values)
