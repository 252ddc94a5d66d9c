"""Ctrl-C and SIGTERM during training: they ask for a checkpoint and an orderly end."""

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType

from jvrc.runtime import interrupts

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(Exception):
    """A signal has ended a run, with a checkpoint.

    Attributes:
      step: training steps done, all of them in the checkpoint.
      signal: SIGINT or SIGTERM.
    """

    def __init__(self, step: int, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after training step {step}")
        self.step, self.signal = step, signal.Signals(number)


class StopRequest:
    """A context in which the first SIGINT or SIGTERM is noted, and a second one acts as before.

    Outside of the main thread, where Python allows no handlers, nothing is noted.
    """

    def __init__(self) -> None:
        self.signal: int | None = None  # the number of the one that came
        self._before: dict = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            interrupts.stop_watching()
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            self._restore()
            signal.raise_signal(number)
            return
        self.signal = number
        line = "\nending with a checkpoint after this training step; once more: at once, without"
        with contextlib.suppress(OSError):  # not by sys.stderr, which may be amid a write
            os.write(2, f"{line}\n".encode())

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before = {}
