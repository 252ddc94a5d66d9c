"""Claims about the settings of the memory allocator."""

import ctypes
import sys

import pytest

from jvrc.runtime import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")


@pytest.mark.parametrize(("chosen", "settings"), [("", {-1, -4, -8}), ("16", {-1, -4})])
def test_the_users_limit_of_arenas_stays_in_force(monkeypatch, chosen, settings):
    asked = {}

    class Library:
        @staticmethod
        def mallopt(name, value):
            asked[name] = value
            return 1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Library)
    monkeypatch.setenv("MALLOC_ARENA_MAX", chosen)
    assert memory.keep_freed_memory()
    assert set(asked) == settings
