"""metrics.jsonl: what a run reports, one line for every so many training steps."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jvrc.io.files import write_bytes
from jvrc.training.run import parallel


class MetricsFile:
    """Appends lines to a metrics file; only process 0 writes."""

    def __init__(self, path: Path, step: int) -> None:
        """Open the file; drop lines beyond `step`, the checkpoint that a run resumes from."""
        self._path = path
        self._writes = parallel.is_first_process()
        if self._writes:
            kept = [row for row in read_metrics(path) if row["step"] <= step]
            text = "".join(json.dumps(row) + "\n" for row in kept)
            write_bytes(path, text.encode())

    def write(self, step: int, **values: object) -> None:
        """Write one line: numbers are rounded, NaN (a rate that was not drawn) becomes null."""
        if self._writes:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step} | _plain(values)) + "\n")


class Meter:
    """Collects the reports of training steps between two lines of the metrics file."""

    def __init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self._added: list[tuple[dict, int | None]] = []  # arrays that may not be computed yet
        self._begun, self._waited = time.monotonic(), 0.0

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time within as waiting for data."""
        before = time.monotonic()
        yield
        self._waited += time.monotonic() - before

    def add(self, reports: dict, count: int | None = None) -> None:
        """Add the report of one training step, or those of `count` steps, stacked on axis 0."""
        self._added.append((reports, count))

    def window(self) -> "Window":
        """Return the reports that were added, without waiting for them; begin anew."""
        elapsed = max(1e-9, time.monotonic() - self._begun)  # clocks may be coarse
        found = Window(self._added, elapsed, self._waited)
        self._restart()
        return found


class Window(NamedTuple):
    """The reports of the training steps of one line of the metrics file."""

    added: list[tuple[dict, int | None]]
    elapsed: float  # seconds
    waited: float  # seconds of these, for data

    def means(self) -> dict:
        """Return means of all reports, the number of skipped steps and the speed."""
        reports = [one for added in self.added for one in _each(*added)]
        speed = {
            "steps_per_s": len(reports) / self.elapsed,
            "data_wait": self.waited / self.elapsed,
        }
        result = means(reports) | speed
        result["skipped"] = sum(int(report["skipped"]) for report in reports)
        return result


def read_metrics(path: Path) -> list[dict]:
    """Read the lines of a metrics file, except one that a crash cut off; [] if there is no file."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows


def _each(reports: dict, count: int | None) -> list[dict]:
    """Return the report of each training step."""
    found = {name: np.asarray(value) for name, value in reports.items()}
    if count is None:
        return [found]
    return [{name: value[i] for name, value in found.items()} for i in range(count)]


def means(reports: list[dict]) -> dict:
    """Return the mean of each reported number or array; NaN entries of arrays do not count.

    Reports of skipped training steps count only if there are no others.
    """
    taken = [report for report in reports if not report["skipped"]] or reports
    result = {}
    for name, first in reports[0].items():
        values = np.stack([np.asarray(r[name], np.float64) for r in taken])
        if np.ndim(first) == 0:
            result[name] = float(values.mean())
        else:
            seen = np.isfinite(values)
            total = np.where(seen, values, 0).sum(0)
            result[name] = np.where(seen.any(0), total / np.maximum(seen.sum(0), 1), np.nan)
    return result


def _plain(value: object) -> object:
    """Return a value as JSON has it."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 5) if np.isfinite(value) else None
    return value
