"""metrics.jsonl: what a run reports, a line every so many steps."""

import json
from pathlib import Path

import jax
import numpy as np

from jvrc.io.files import write_bytes


class MetricsFile:
    """Appends lines; on resuming, what lies beyond the checkpoint is dropped. Process 0 writes."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._writes = jax.process_index() == 0
        if self._writes:
            kept = [row for row in read_metrics(path) if row["step"] <= step]
            text = "".join(json.dumps(row) + "\n" for row in kept)
            write_bytes(path, text.encode())

    def write(self, step: int, **values: object) -> None:
        """One line: numbers rounded, NaN (a rate that was not drawn) as null."""
        if self._writes:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step} | _plain(values)) + "\n")


def read_metrics(path: Path) -> list[dict]:
    """The lines of a metrics file, without one that a crash cut off; none if there is no file."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "step" in row:
            rows.append(row)
    return rows


def means(reports: list[dict]) -> dict:
    """Means of what was reported, numbers or arrays; of arrays over what is not NaN."""
    result = {}
    for name, first in reports[0].items():
        values = np.stack([np.asarray(r[name], np.float64) for r in reports])
        if np.ndim(first) == 0:
            result[name] = float(values.mean())
        else:
            seen = np.isfinite(values)
            total = np.where(seen, values, 0).sum(0)
            result[name] = np.where(seen.any(0), total / np.maximum(seen.sum(0), 1), np.nan)
    return result


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 5) if np.isfinite(value) else None
    return value
