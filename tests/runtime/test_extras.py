"""Claims about optional dependencies."""

import sys
import tomllib
from pathlib import Path

import pytest

from jvrc.runtime.extras import require

PACKAGES = [
    ("train", "flax"),
    ("train", "optax"),
    ("train", "orbax.checkpoint"),
    ("train", "scipy"),
    ("tfds", "array_record"),
    ("tfds", "tensorflow_datasets"),
    ("eval", "matplotlib"),
    ("eval", "scipy"),
]


@pytest.mark.parametrize(("extra", "package"), PACKAGES)
def test_a_missing_package_is_named_with_its_remedy(monkeypatch, extra, package):
    if extra == "tfds":
        pytest.importorskip("array_record", reason="array_record has no wheels for Windows")
    monkeypatch.setitem(sys.modules, package, None)  # importing it fails
    with pytest.raises(ImportError) as caught:
        require(extra)
    expected = f'{package} is missing, of the extra `{extra}`: pip install "jvrc[{extra}]"'
    assert str(caught.value) == expected
    assert caught.value.name == package


@pytest.mark.parametrize("extra", ["train", "eval"])
def test_installed_extras_pass(extra):
    require(extra)


@pytest.mark.parametrize(("extra", "package"), PACKAGES)
def test_each_package_is_in_the_extra_of_pyproject(extra, package):
    project = Path(__file__).parents[2] / "pyproject.toml"
    extras = tomllib.loads(project.read_text())["project"]["optional-dependencies"]
    distribution = package.replace(".", "-").replace("_", "-")
    assert any(text.startswith(distribution) for text in extras[extra])
