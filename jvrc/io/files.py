"""Writing of files: atomic, and checked before long work."""

import errno
import os
import re
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

# Names of files that the process has open already.
_OPEN = re.compile(r"/(?:dev/fd|proc/self/fd)/(\d+)|/dev/(stdin|stdout|stderr)")
_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}

_unfinished: set[Path] = set()  # temporary files of this process
_date: ContextVar[int | None] = ContextVar("_date", default=None)  # see `dated`


def write_bytes(path: str | os.PathLike, data: bytes, *, replace: bool = True) -> None:
    """Write a file atomically: it appears complete or not at all, and an old one stays till then.

    Symbolic links are followed. A device, a pipe or an open file (/dev/stdout, /dev/fd/3) is never
    replaced, but written to. replace: whether the place of an old file may be taken.

    Raises:
      OSError: the file can't be written; the error names the path that was given.
      FileExistsError: replace is False, and there is an old one, even one that has just come.
    """
    try:
        if is_stream(path):
            _append(path, data)
            return
        target = Path(os.path.realpath(path))
        with replacing(target, replace=replace) as temporary, temporary.open("xb") as file:
            file.write(data)
    except FileExistsError as error:
        raise FileExistsError(errno.EEXIST, "exists", os.fspath(path)) from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{Path(path).parent}: no such folder") from error
    except OSError as error:
        if error.strerror is None:
            raise OSError(f"{path}: {error}") from error
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


@contextmanager
def dated(date: int) -> Iterator[None]:
    """Let files that appear within the block have a date, in nanoseconds, if the system can."""
    before = _date.set(date)
    try:
        yield
    finally:
        _date.reset(before)


@contextmanager
def replacing(target: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield the name of a temporary file, to be made, that becomes the target at the end.

    Nothing is left of it if the block raises; on Windows, where a file that is still mapped can't
    be deleted, nothing after `remove_unfinished`.

    Raises:
      FileExistsError: replace is False, and the target exists by then.
    """
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")  # short, however long the name
    _unfinished.add(temporary)
    try:
        yield temporary
        _set_date(temporary)
        (os.replace if replace else _rename)(temporary, target)
    finally:
        with suppress(PermissionError):  # which would hide why the block raised
            temporary.unlink(missing_ok=True)
            _unfinished.discard(temporary)


def _set_date(path: Path) -> None:
    date = _date.get()
    if date is not None:
        with suppress(OSError):
            os.utime(path, ns=(date, date))


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let no other process enter a block of this kind for the same folder; leaves .lock in it.

    Where the file system has no locks, nothing is kept apart.

    Raises:
      ValueError: another process is in such a block.
      OSError: the folder can't be written to.
    """
    with (folder / ".lock").open("ab") as file:
        try:
            _lock(file.fileno())
        except (BlockingIOError, PermissionError) as error:  # the second one on Windows
            raise ValueError(f"{folder}: another process writes there now") from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
        yield


def _lock(descriptor: int) -> None:
    """Lock a file until it is closed, or the process ends."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_unfinished() -> None:
    """Delete the temporary files of this process, which is about to end without cleaning up."""
    for temporary in tuple(_unfinished):
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_stream(path: str | os.PathLike) -> bool:
    """Return whether a path names a device, a pipe, a socket or an open file."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_writable(path: str | os.PathLike) -> None:
    """Raise OSError, naming the path, unless a file can be written there."""
    if is_stream(path):
        return
    folder = Path(os.path.realpath(path)).parent
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path}: is a folder")
    if not folder.is_dir():
        raise FileNotFoundError(f"{Path(path).parent}: no such folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "can't write into its folder", os.fspath(path))
    with suppress(FileNotFoundError):
        os.lstat(path)  # raises if the system takes no such name


def _descriptor(path: str | os.PathLike) -> int | None:
    """Return the number of the open file that a path names, None if it names none."""
    found = _OPEN.fullmatch(os.path.abspath(path))
    return found and int(found[1] or _STANDARD[found[2]])


def _append(path: str | os.PathLike, data: bytes) -> None:
    number = _descriptor(path)
    with open(path if number is None else os.dup(number), "wb") as file:
        file.write(data)


def _rename(source: Path, target: Path) -> None:
    """Give a file another name; FileExistsError if there is a file of that name."""
    if sys.platform == "win32":
        os.rename(source, target)  # fails there if the target exists; elsewhere it replaces it
        return
    try:
        os.link(source, target)  # the second name is removed with what is unfinished
    except FileExistsError:
        raise
    except OSError as error:  # a file system without links
        if target.exists():
            raise FileExistsError(errno.EEXIST, "exists", os.fspath(target)) from error
        os.replace(source, target)
