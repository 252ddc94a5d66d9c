"""Claims about signals that end a run: the first asks, the second acts as before."""

import signal
import threading

import pytest

from jvrc.training.run.stopping import Stopped, StopRequest


@pytest.fixture
def handled(monkeypatch):
    """The numbers of signals that a handler of the program's own has seen."""
    seen = []
    before = {s: signal.signal(s, lambda n, _: seen.append(n)) for s in (2, signal.SIGTERM)}
    yield seen
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_the_second_acts_as_before(handled, capfd, number):
    with StopRequest() as request:
        assert request.signal is None
        signal.raise_signal(number)
        assert (request.signal, handled) == (number, [])
        assert "ending with a checkpoint" in capfd.readouterr().err
        signal.raise_signal(number)
        assert handled == [number]


def test_handlers_come_back_when_no_signal_came(handled):
    with StopRequest():
        pass
    signal.raise_signal(signal.SIGTERM)
    assert handled == [signal.SIGTERM]


def test_another_thread_than_the_main_one_notes_nothing(handled):
    found = []

    def work():
        with StopRequest() as request:
            found.append(request.signal)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]


def test_the_error_tells_signal_and_step():
    stop = Stopped(12, signal.SIGTERM)
    assert str(stop) == "stopped by SIGTERM after training step 12"
    assert (stop.step, stop.signal) == (12, signal.SIGTERM)
