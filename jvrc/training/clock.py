"""Time in a training run: the schedule by the clock, the cost of validation, and the start-up.

All moments are those of `time.monotonic`, in seconds.
"""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

OVERHEAD = 0.01  # of the time that validation may take, and that checkpoints may take


@dataclass
class Clock:
    """The progress of a schedule that ends at a moment, whatever the machine.

    The fraction done grows so that it reaches one at the end, from where it stands: when a call
    resumes a run, or after a long validation, it goes on without a jump.
    """

    end: float  # moment at which the schedule ends, without the reserve
    fraction: float  # done
    last: float  # moment of the last `advance`

    def advance(self, reserve: float, now: float | None = None) -> float:
        """Return the fraction done by now; reserve: seconds that are needed after training."""
        now = time.monotonic() if now is None else now
        passed, left = now - self.last, self.end - reserve - now
        self.last = now
        share = passed / (passed + left) if left > 0 else 1.0
        self.fraction = 1.0 if left <= 0 else self.fraction + (1 - self.fraction) * share
        return self.fraction


@dataclass
class Cost:
    """What an activity beside training has cost, and whether it may be done again."""

    begun: float = field(default_factory=time.monotonic)
    total: float = 0.0  # seconds
    newest: float = 0.0  # of the last time
    times: int = 0

    @contextlib.contextmanager
    def counted(self) -> Iterator[None]:
        """Count the time within."""
        before = time.monotonic()
        yield
        self.newest = time.monotonic() - before
        self.total, self.times = self.total + self.newest, self.times + 1

    def affordable(self, now: float | None = None) -> bool:
        """Return True if once more keeps the total below OVERHEAD; the first is free."""
        now = time.monotonic() if now is None else now
        return not self.times or self.total + self.newest <= OVERHEAD * (now - self.begun)


class StartUp:
    """Seconds from the command to the first training step, by part."""

    def __init__(self, begun: float | None = None) -> None:
        """begun: the moment of the command; None: now."""
        self.parts: dict[str, float] = {}
        self.begun = self._last = time.monotonic() if begun is None else begun

    def lap(self, part: str) -> None:
        """Count the time since the lap before for a part."""
        now = time.monotonic()
        self.parts[part] = round(self.parts.get(part, 0.0) + now - self._last, 2)
        self._last = now

    def __str__(self) -> str:
        parts = ", ".join(f"{part} {seconds:.1f}" for part, seconds in self.parts.items())
        return f"first training step after {sum(self.parts.values()):.1f} s: {parts}"
