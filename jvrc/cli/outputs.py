"""Where `compress` and `decompress` write: one file, or a tree of files; standard output.

Into a folder an input's whole name is kept, a.png -> a.png.jvrc -> a.png.jvrc.png, so that no two
inputs of a folder share an output, and no output can be an original.
"""

import errno
import glob
import os
import sys
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jvrc.cli.common import STANDARD
from jvrc.cli.messages import UsageError, counted, note
from jvrc.io.files import check_writable, is_stream, write_bytes
from jvrc.runtime import streams

Identity = tuple[int, int]  # of a file: device and inode
# Nanoseconds to which file systems cut dates: SMB, some of networks, exFAT, HFS+, FAT.
_UNITS = (1, 100, 10**3, 10**6, 10**7, 10**9, 2 * 10**9)

SHELL_EXPANDS = os.name != "nt"


class Job(NamedTuple):
    """One input and its output."""

    source: Path
    output: Path
    whole: bool = False  # the output's name tells the input, and its date that the job is done
    error: OSError | None = None  # why the input, a folder, can't be listed


class Naming(NamedTuple):
    """How a command names outputs."""

    suffix: str  # appended
    found: tuple[str, ...]  # suffixes of the files that are taken from folders
    written: tuple[str, ...]  # suffixes that outputs may have
    replaced: tuple[str, ...] = ()  # suffixes that `suffix` replaces, beside the input
    made: str | None = None  # what tells names that the opposite command gave, in a folder

    def whole(self, source: Path) -> str:
        """Return the name of an output in a folder."""
        return source.name + self.suffix

    def beside(self, source: Path) -> Path:
        """Return the output for an input that was named itself, in the same folder."""
        short = source.stem if source.suffix.lower() in self.replaced else source.name
        return source.with_name(short + self.suffix)


def expand(inputs: Iterable[Path]) -> list[Path]:
    """Return inputs with patterns replaced by the names that they match, where no shell does it."""
    found: list[Path] = []
    for path in inputs:
        names = [] if SHELL_EXPANDS or path.exists() else sorted(glob.glob(str(path)))
        found += map(Path, names) if names else [path]
    return found


def one_job(inputs: Sequence[Path], output: str | None, naming: Naming) -> Job | None:
    """Return the job of an input that is one file; None for several or a folder.

    A folder to write to, whose name ends in a slash, is made.
    """
    source = inputs[0]
    if len(inputs) > 1 or source.is_dir():
        return None
    if output is None:
        return Job(source, STANDARD if source == STANDARD else naming.beside(source))
    if not _names_folder(output):
        return Job(source, Path(output))
    if source == STANDARD:
        raise IsADirectoryError(f"{output}: is a folder; name a file for standard input")
    if not source.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))
    Path(output).mkdir(parents=True, exist_ok=True)
    return Job(source, Path(output) / naming.whole(source))


def all_jobs(inputs: Sequence[Path], output: str | None, naming: Naming) -> list[Job]:
    """Return the jobs of several files, and of folders with all below them.

    Raises:
      ValueError: two inputs would have one output, or there is no input.
      UsageError: standard input or output is among several.
      OSError: output is no folder, or can't be made.
    """
    if STANDARD in inputs or output == str(STANDARD):
        raise UsageError("- is standard input or output, for one image; name files or folders")
    folder = None if output is None else Path(output)
    if folder and not folder.is_dir() and (folder.exists() or folder.suffix in naming.written):
        raise NotADirectoryError(f"{folder}: is not a folder; several inputs need one")
    found = (job for path in inputs for job in _jobs_of(path, folder, naming))
    jobs = list({job[:3]: job for job in found}.values())
    _check_distinct([job for job in jobs if job.error is None])
    if not jobs:
        names = ", ".join(map(str, inputs))
        raise ValueError(f"{names}: no files to take there ({' '.join(naming.found)})")
    return jobs


def check_output(output: Path, sources: Collection[Identity], *, force: bool) -> None:
    """Raise an error unless the output can be written, and nothing is lost by that.

    sources: `identities` of all inputs.

    Raises:
      FileExistsError: it exists, and force is False.
      ValueError: it is one of the sources, whatever the names.
      OSError: no file can be written there.
    """
    if output == STANDARD:
        if streams.was_closed(1):
            raise ValueError("standard output is closed; name a file with -o")
        if sys.stdout.isatty():
            raise ValueError("standard output is a terminal; redirect it, or name a file with -o")
        return
    check_writable(output)
    if is_stream(output) or not output.exists():
        return
    if identity(output) in sources:
        raise ValueError(f"{output}: is the input itself; choose another output with -o")
    if not force:
        raise _exists(output)


def identities(sources: Iterable[Path]) -> set[Identity]:
    """Return the identities of those files that exist."""
    found = {identity(0 if source == STANDARD else source) for source in sources}
    return {one for one in found if one is not None}


def identity(file: Path | int) -> Identity | None:
    """Return what all names of a file share; None if there is no file."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_done(job: Job) -> bool:
    """Return whether an earlier run did the job: the output has the date of the input.

    So no other input of that name counts, nor one that has changed.
    """
    try:
        return job.whole and has_date(job.output, date_of(job.source))
    except OSError:
        return False


def has_date(output: Path, date: int) -> bool:
    """Return whether a file holds something and has a date, as its file system cuts it."""
    try:
        made = output.stat()
    except OSError:
        return False
    dates = (date - date % unit for unit in _UNITS)
    return made.st_size > 0 and made.st_mtime_ns in dates


def date_of(source: Path) -> int:
    """Return when a file was changed last, in nanoseconds."""
    return source.stat().st_mtime_ns


def read_input(source: Path) -> bytes:
    """Return the bytes of a file or of standard input."""
    if source != STANDARD:
        return source.read_bytes()
    if sys.stdin.isatty():
        raise ValueError("standard input is a terminal; redirect it, or name a file")
    return sys.stdin.buffer.read()


def write_output(output: Path, data: bytes, *, force: bool) -> None:
    """Write a file, or to standard output; FileExistsError if there is one that force spares."""
    if output == STANDARD:
        _write_whole(sys.stdout.buffer, data)
        return
    with not_over_another(output):
        write_bytes(output, data, replace=force)


def _write_whole(file: BinaryIO, data: bytes) -> None:
    """Write all of data; a file without a buffer, as of `python -u`, may take a part at a time."""
    rest = memoryview(data)
    while rest:
        taken = file.write(rest)
        if taken is None:
            raise BlockingIOError(errno.EAGAIN, "standard output takes no more data for now")
        rest = rest[taken:]
    file.flush()


@contextmanager
def not_over_another(output: Path) -> Iterator[None]:
    """Name the remedy if a file has come to the output's place while it was made."""
    try:
        yield
    except FileExistsError as error:
        raise _exists(output) from error


def report(output: Path, line: str) -> None:
    """Print a line of result: to stderr if the data has gone to standard output."""
    if output == STANDARD or identity(output) == identity(1):
        note(line)
    else:
        print(f"{output}: {line}")


def _exists(output: Path) -> FileExistsError:
    return FileExistsError(
        f"{output}: exists; choose another output with -o, or overwrite it with --force"
    )


def _names_folder(output: str) -> bool:
    return output != str(STANDARD) and (output.endswith(("/", os.sep)) or Path(output).is_dir())


def _jobs_of(path: Path, folder: Path | None, naming: Naming) -> Iterator[Job]:
    if path.is_dir():
        closed: list[OSError] = []
        for source in _files_below(path, naming, closed):
            place = (folder or path) / source.relative_to(path).parent
            yield Job(source, place / naming.whole(source), whole=True)
        for error in closed:
            source = Path(error.filename)
            yield Job(source, naming.beside(source), error=error)
    elif folder is None:
        yield Job(path, naming.beside(path))
    else:
        yield Job(path, folder / naming.whole(path), whole=True)


def _files_below(folder: Path, naming: Naming, closed: list[OSError]) -> Iterator[Path]:
    """Yield the files below a folder, sorted, without what is hidden; say what is left out.

    closed: gets the errors of folders that can't be listed.
    """
    others = pipes = made = links = 0
    for place, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        links += sum(Path(place, name).is_symlink() for name in folders)
        for name in sorted(names):
            wanted = name.lower().endswith(naming.found) and not name.startswith(".")
            if wanted and naming.made and naming.made in name:
                made += 1
            elif wanted and is_stream(Path(place, name)):
                pipes += 1  # reading one may wait for ever
            elif wanted:
                yield Path(place, name)
            else:
                others += not name.startswith(".")
    if others:
        note(f"jvrc: {folder}: left out, for their suffixes: {counted(others, 'file')}")
    if made:
        note(f"jvrc: {folder}: left out, as restored by jvrc: {counted(made, 'file')}")
    if pipes:
        note(f"jvrc: {folder}: left out, as pipes or devices: {counted(pipes, 'file')}")
    if links:
        note(f"jvrc: {folder}: left out, as links: {counted(links, 'folder')}: name them as inputs")


def _check_distinct(jobs: Sequence[Job]) -> None:
    taken: dict[str, Job] = {}
    for job in jobs:
        name = unicodedata.normalize("NFC", str(job.output)).casefold()
        other = taken.setdefault(name, job)
        if other is job or (other.output != job.output and not ignores_case(job.output)):
            continue
        raise ValueError(
            f"{other.source} and {job.source} would both become {job.output}: -o DIR "
            "keeps whole names; files of one name need an -o of their own"
        )


def ignores_case(path: Path) -> bool:
    """Return whether names that differ in case alone are one file where a path is to lie."""
    folder = next((p for p in path.absolute().parents if p.exists()), path)
    other = folder.with_name(folder.name.swapcase()) if folder.name else folder
    return other != folder and other.exists() and other.samefile(folder)
