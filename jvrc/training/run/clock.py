"""Time in a training run: the schedule by the clock, the cost of validation, and the start-up.

All moments are those of `time.monotonic`, in seconds.
"""

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

OVERHEAD = 0.01  # of the time that validation may take, and that checkpoints may take
LEAST = 0.25  # of the time of a schedule's rest that a call that resumes it trains at least


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


class Schedule(NamedTuple):
    """What a call knows of a schedule by the clock before it trains."""

    seconds: float  # of the whole schedule
    spent: float  # seconds that earlier calls took
    fraction: float  # done by them
    begun: float  # moment of this call's command
    pause: float  # moment at which this call ends; inf: none

    def clock(self, now: float) -> Clock:
        """Return the clock of this call; now: the moment at which training begins."""
        return Clock(self._end(now), self.fraction, now)

    def _end(self, now: float) -> float:
        """Return the moment at which the schedule has to end.

        Later calls will take as long to start as this one did. If that leaves them less than half
        of their time to train, this call comes to the end of the schedule, at its pause. A call
        that resumes trains a while in any case, although it then ends late.
        """
        end, start = self.begun + self.seconds - self.spent, now - self.begun
        if now < self.pause < end:
            later = math.ceil((end - self.pause) / (self.pause - self.begun))
            end = self.pause if 2 * start * later > end - self.pause else end - start * later
        least = LEAST * (1 - self.fraction) * self.seconds if self.spent else 0.0
        return max(end, now + least)


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
