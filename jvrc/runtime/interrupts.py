"""Signals end the process without a traceback or temporary files, whatever it is doing.

Ctrl-C (SIGINT) gives exit code 130.

Python runs its handler of SIGINT between two of its own instructions. While XLA compiles it does
not for seconds, and the KeyboardInterrupt that it raises can be lost in a callback from C++, or
leave a half-imported JAX that crashes. So a thread watches for signals that the main thread does
not answer, and during an import the process ends at once. Elsewhere KeyboardInterrupt is raised as
usual, so that temporary files are removed.

SIGTERM and SIGHUP end the process at once, with exit codes 143 and 129.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

EXIT_CODE = 130
_PATIENCE = 0.5  # seconds that the main thread may take to raise KeyboardInterrupt

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]

_raised = threading.Event()
_watching = True
_clean_up: Callable[[], None] | None = None


def install(clean_up: Callable[[], None] | None = None) -> None:
    """Handle signals as above, in a process of jvrc's own; call it from the main thread.

    Leaves alone what is ignored, as SIGINT is in a shell's background jobs, and SIGHUP by nohup.
    Code that sets a handler of its own calls `stop_watching` before.

    clean_up: called before the process ends without the interpreter's cleaning up, maybe from two
    threads.
    """
    global _clean_up
    _clean_up = clean_up
    read, write = os.pipe()
    if sys.platform != "win32":  # which takes one that blocks, and can't change it in Python 3.11
        os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _handle)
        sys.unraisablehook = _report_unless_interrupted
    for number in _ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)
    threading.Thread(target=_watch, args=(read,), daemon=True).start()


def stop_watching() -> None:
    """Wait for the main thread from now on, however long it takes to run a handler of SIGINT."""
    global _watching
    _watching = False


def leave(code: int) -> NoReturn:
    """End the process at once: without the interpreter's cleaning up, which XLA may not survive."""
    with suppress(Exception):
        if _clean_up is not None:
            _clean_up()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, full, or in use by the code that was interrupted
            stream.flush()
    os._exit(code)


def _handle(signum: int, frame: FrameType | None) -> None:
    if _is_importing(frame):
        leave(EXIT_CODE)
    _raised.set()
    raise KeyboardInterrupt


def _end(signum: int, frame: FrameType | None) -> None:
    del frame
    leave(128 + signum)


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _watch(pipe: int) -> None:
    while signals := os.read(pipe, 1):
        if _watching and signals[0] in _ENDING and signal.getsignal(signals[0]) is _end:
            leave(128 + signals[0])
        if signals[0] != signal.SIGINT or _raised.wait(_PATIENCE):
            continue
        if _watching and signal.getsignal(signal.SIGINT) is _handle:
            leave(EXIT_CODE)


def _report_unless_interrupted(unraisable: Any) -> None:
    """Print an exception that can't be raised, such as in a callback, but obey an interrupt."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        leave(EXIT_CODE)
    sys.__unraisablehook__(unraisable)
