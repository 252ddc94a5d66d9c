"""Claims about signals: Ctrl-C is exit code 130, without a traceback, whatever the process does."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends signals")

BEGIN = "from jvrc.runtime import interrupts; interrupts.install(); import os, sys, signal, time\n"
INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)\n"


def ends(code, tmp_path, **files):
    """Return (exit code, stdout, stderr) of a process."""
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    command = [sys.executable, "-c", BEGIN + code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    return result.returncode, result.stdout, result.stderr


def test_the_usual_exception_is_raised_so_that_files_are_removed(tmp_path):
    code = (
        f"try:\n    {INTERRUPT}    time.sleep(9)\n"
        "except KeyboardInterrupt:\n    print('removed')\n    interrupts.leave(130)"
    )
    assert ends(code, tmp_path) == (130, "removed\n", "")


def test_an_import_ends_at_once(tmp_path):
    module = f"import os, signal\ntry:\n    {INTERRUPT}finally:\n    print('finally')\n"
    assert ends("import slow", tmp_path, slow=module) == (130, "", "")


def test_a_callback_that_swallows_exceptions_does_not_swallow_it(tmp_path):
    code = f"class A:\n    def __del__(self):\n        {INTERRUPT}a = A(); del a; time.sleep(9)"
    assert ends(code, tmp_path) == (130, "", "")


@pytest.mark.skipif(sys.platform != "linux", reason="knows the mutex of glibc")
def test_code_that_python_cannot_interrupt_is_ended(tmp_path):
    """A wait within C that is begun again after each signal, without running handlers."""
    code = (
        "import ctypes, threading\n"
        "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "lock = ctypes.create_string_buffer(256)\n"
        "c = ctypes.CDLL(None)\n"
        "print('waits', flush=True)\n"
        "c.pthread_mutex_lock(lock); c.pthread_mutex_lock(lock)\n"
    )
    assert ends(code, tmp_path) == (130, "waits\n", "")


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_other_signals_end_the_process_after_it_has_cleaned_up(tmp_path, name, code):
    text = (
        f"signal.signal(signal.{name}, signal.SIG_DFL)\n"  # whatever these tests run under
        "interrupts.install(lambda: os.write(1, b'cleaned\\n'))\n"
        f"os.kill(os.getpid(), signal.{name}); time.sleep(9)"
    )
    found, out, err = ends(text, tmp_path)
    assert (found, set(out.splitlines()), err) == (code, {"cleaned"}, "")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no such signal here")
def test_a_signal_that_is_ignored_as_nohup_does_stays_ignored(tmp_path):
    text = (
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "interrupts.install()\n"
        "os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    )
    assert ends(text, tmp_path) == (0, "alive\n", "")


@pytest.mark.skipif(sys.platform != "linux", reason="knows the mutex of glibc")
def test_code_that_python_cannot_interrupt_is_terminated(tmp_path):
    code = (
        "import ctypes, threading\n"
        "threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        "lock = ctypes.create_string_buffer(256)\n"
        "c = ctypes.CDLL(None)\n"
        "c.pthread_mutex_lock(lock); c.pthread_mutex_lock(lock)\n"
    )
    assert ends(code, tmp_path) == (143, "", "")


def test_another_handler_takes_over_even_if_it_does_so_once(tmp_path):
    code = (
        "def once(*_):\n    print('theirs')\n    signal.signal(signal.SIGINT, before)\n"
        "interrupts.stop_watching()\nbefore = signal.signal(signal.SIGINT, once)\n"
        f"{INTERRUPT}time.sleep(1)\nprint('goes on')\n"
    )
    assert ends(code, tmp_path) == (0, "theirs\ngoes on\n", "")


def test_a_background_job_goes_on_ignoring_it(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a child inherits that
    try:
        assert ends(f"{INTERRUPT}time.sleep(1)\nprint('goes on')", tmp_path) == (0, "goes on\n", "")
    finally:
        signal.signal(signal.SIGINT, before)
