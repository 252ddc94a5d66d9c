"""Where `compress` and `decompress` write: one file, or a tree of files; standard output.

Into a folder an input's whole name is kept, a.png -> a.png.jvrc -> a.png.jvrc.png, so that no two
inputs of a folder share an output, and no output can be an original.
"""

import os
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jvrc.cli.common import STANDARD
from jvrc.cli.messages import counted, note
from jvrc.io.files import check_writable, is_stream, write_bytes

Identity = tuple[int, int]  # of a file: device and inode


class Job(NamedTuple):
    """One input and its output."""

    source: Path
    output: Path
    whole: bool = False  # the output's name tells the input: if it is newer, the job is done


class Naming(NamedTuple):
    """How a command names outputs."""

    suffix: str  # appended
    found: tuple[str, ...]  # suffixes of the files that are taken from folders
    written: tuple[str, ...]  # suffixes that outputs may have
    replaced: tuple[str, ...] = ()  # suffixes that `suffix` replaces, beside the input

    def whole(self, source: Path) -> str:
        """Return the name of an output in a folder."""
        return source.name + self.suffix

    def beside(self, source: Path) -> Path:
        """Return the output for an input that was named itself, in the same folder."""
        short = source.stem if source.suffix.lower() in self.replaced else source.name
        return source.with_name(short + self.suffix)


def one_job(inputs: Sequence[Path], output: str | None, naming: Naming) -> Job | None:
    """Return the job of an input that is one file; None for several or a folder."""
    source = inputs[0]
    if len(inputs) > 1 or source.is_dir():
        return None
    if output is None:
        return Job(source, STANDARD if source == STANDARD else naming.beside(source))
    if not _names_folder(output):
        return Job(source, Path(output))
    if source == STANDARD:
        raise IsADirectoryError(f"{output}: is a folder; name a file for standard input")
    return Job(source, Path(output) / naming.whole(source))


def all_jobs(inputs: Sequence[Path], output: str | None, naming: Naming) -> list[Job]:
    """Return the jobs of several files, and of folders with all below them.

    Raises:
      ValueError: two inputs would have one output, or there is no input.
      OSError: output is no folder, or can't be made.
    """
    if STANDARD in inputs or output == str(STANDARD):
        raise ValueError("- is standard input or output, for one image; name files or folders")
    folder = None if output is None else Path(output)
    if folder and not folder.is_dir() and (folder.exists() or folder.suffix in naming.written):
        raise NotADirectoryError(f"{folder}: is not a folder; several inputs need one")
    jobs = list(dict.fromkeys(job for path in inputs for job in _jobs_of(path, folder, naming)))
    _check_distinct(jobs)
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
        if sys.stdout.isatty():
            raise ValueError("standard output is a terminal; redirect it, or name a file with -o")
        return
    check_writable(output)
    if is_stream(output) or not output.exists():
        return
    if identity(output) in sources:
        raise ValueError(f"{output}: is the input itself; choose another output with -o")
    if not force:
        raise FileExistsError(
            f"{output}: exists; choose another output with -o, or overwrite it with --force"
        )


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
    """Return whether an earlier run did the job: the output is newer than the input."""
    try:
        made = job.output.stat()
        return job.whole and made.st_size > 0 and made.st_mtime >= job.source.stat().st_mtime
    except OSError:
        return False


def read_source(source: Path) -> bytes:
    """Return the bytes of a file or of standard input."""
    if source != STANDARD:
        return source.read_bytes()
    if sys.stdin.isatty():
        raise ValueError("standard input is a terminal; redirect it, or name a file")
    return sys.stdin.buffer.read()


def write_output(output: Path, data: bytes) -> None:
    """Write a file, or to standard output."""
    if output == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write_bytes(output, data)


def report(output: Path, line: str) -> None:
    """Print a line of result: to stderr if the data has gone to standard output."""
    if output == STANDARD or identity(output) == identity(1):
        note(line)
    else:
        print(f"{output}: {line}")


def _names_folder(output: str) -> bool:
    return output != str(STANDARD) and (output.endswith(("/", os.sep)) or Path(output).is_dir())


def _jobs_of(path: Path, folder: Path | None, naming: Naming) -> Iterator[Job]:
    if path.is_dir():
        for source in _files_below(path, naming.found):
            place = (folder or path) / source.relative_to(path).parent
            yield Job(source, place / naming.whole(source), whole=True)
    elif folder is None:
        yield Job(path, naming.beside(path))
    else:
        yield Job(path, folder / naming.whole(path), whole=True)


def _files_below(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files below a folder, sorted, without what is hidden; say what is left out."""
    others = streams = 0
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            wanted = name.lower().endswith(suffixes) and not name.startswith(".")
            if wanted and is_stream(Path(place, name)):
                streams += 1  # reading one may wait for ever
            elif wanted:
                yield Path(place, name)
            else:
                others += not name.startswith(".")
    if others:
        note(f"jvrc: {folder}: left out, for their suffixes: {counted(others, 'file')}")
    if streams:
        note(f"jvrc: {folder}: left out, as pipes or devices: {counted(streams, 'file')}")


def _check_distinct(jobs: Sequence[Job]) -> None:
    taken: dict[Path, Path] = {}
    for source, output, _ in jobs:
        if output in taken:
            raise ValueError(
                f"{taken[output]} and {source} would both become {output}: -o DIR keeps whole "
                "names; files of one name need an -o of their own"
            )
        taken[output] = source
