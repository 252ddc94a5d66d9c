"""Files that appear complete or not at all."""

import os
import secrets
from pathlib import Path


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Writes a file that appears complete or not at all; OSError if that fails.

    Links are followed; what is not a regular file (a pipe, /dev/null) is written to directly.
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
