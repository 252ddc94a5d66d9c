"""Fixtures of the tests of integer networks: golden models and the reference decoder."""

import importlib.util
from functools import cache
from pathlib import Path

import pytest

from jvrc.frozen.file import read_model

TESTS = Path(__file__).parents[1]
_spec = importlib.util.spec_from_file_location("reference", TESTS / "reference_decoder.py")
_reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_reference)


@pytest.fixture(scope="session")
def reference():
    """The decoder in plain NumPy integers, written from FORMAT.md alone."""
    return _reference


@pytest.fixture(scope="session")
def golden():
    """A function: name of a model in tests/golden, with fixed random weights -> FrozenModel."""
    return cache(lambda name: read_model(TESTS / "golden" / "v1" / f"{name}.safetensors"))
