"""Atomic writing of files."""

import os
import secrets
from pathlib import Path


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write a file atomically: it appears complete or not at all, and an old one stays till then.

    Symbolic links are followed; what is not a regular file (a pipe, /dev/null) is written directly.

    Raises:
      OSError: the file can't be written.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        with target.open("wb") as file:
            file.write(data)
        return
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
        os.replace(temporary, target)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{target.parent}: no such folder") from error
    finally:
        temporary.unlink(missing_ok=True)
