"""Work in a thread while other work goes on: compiling, above all."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


def in_background(function: Callable[[], Any]) -> Future:
    """Return the future result of a function that runs in a thread of its own."""
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(function)
    finally:
        pool.shutdown(wait=False)
