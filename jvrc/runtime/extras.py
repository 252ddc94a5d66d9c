"""The optional dependencies of jvrc, as pyproject.toml groups them into extras."""

import importlib

# The packages of each extra that jvrc imports.
_PACKAGES = {
    "train": ("flax", "optax", "orbax.checkpoint", "scipy"),
    "tfds": ("array_record", "tensorflow_datasets"),
    "eval": ("matplotlib", "scipy"),
}


def require(extra: str) -> None:
    """Check that the packages of an extra, "train", "tfds" or "eval", can be imported.

    Raises:
      ImportError: one is missing; the message, one line, has the command that installs it.
    """
    for package in _PACKAGES[extra]:
        try:
            importlib.import_module(package)
        except ImportError as error:
            missing = error.name or package
            raise ImportError(
                f'{missing} is missing, of the extra `{extra}`: pip install "jvrc[{extra}]"',
                name=missing,
            ) from error
