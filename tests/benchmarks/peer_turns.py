"""Timing of jvrc and others in turns, each while the other waits: shared by the bench_… scripts.

jvrc keeps freed memory, as its commands do, and the worker does the same by glibc's environment
variables; --no-keep-memory leaves both as they are. Not on Windows.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import peer_worker
from peer_worker import Took

CALM = 0.2  # seconds between turns, in which the other side's threads stop spinning
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)}
WORKER = Path(peer_worker.__file__).resolve()


def parser(description: str) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=description)
    result.add_argument("image", type=Path)
    result.add_argument("--peer", required=True, metavar="PYTHON", help="see peer_worker.py")
    result.add_argument("--rounds", type=int, default=5)
    result.add_argument("--n", type=int, default=192)
    result.add_argument("--m", type=int, default=320)
    result.add_argument("--qstep", type=float, default=2.0)
    result.add_argument("--threads", type=int, help="of each side; Linux only (default: all cores)")
    result.add_argument("--no-keep-memory", action="store_true")
    return result


class Peer:
    """The worker process, in an environment of its own: it answers dicts with dicts."""

    def __init__(self, python: str, keep_memory: bool) -> None:
        self.python, self.env = python, os.environ | (KEEP_MEMORY if keep_memory else {})
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [python, str(WORKER)], env=self.env, stdin=pipe, stdout=pipe, text=True
        )

    def ask(self, do: str, **question) -> dict:
        print(json.dumps({"do": do} | question), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"the worker ended at {do!r}; its message is above")
        return json.loads(answer)

    def took(self, do: str, **question) -> Took:
        return Took(*self.ask(do, **question)["took"])

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exc) -> None:
        self.process.stdin.close()
        self.process.wait()


def begin(args: argparse.Namespace) -> Peer:
    """Limit this process to the threads asked for, start the worker, print the machine."""
    if args.threads:  # before JAX starts its threads, one for each core that it may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.threads])
    able = hasattr(os, "sched_getaffinity")
    threads = len(os.sched_getaffinity(0)) if able else os.cpu_count()
    kept = False
    if not args.no_keep_memory:
        from jvrc.runtime.memory import keep_freed_memory

        kept = keep_freed_memory()
    import jax

    jax.config.update("jax_platforms", "cpu")
    peer = Peer(args.peer, kept)
    found = peer.ask("Machine.begin", threads=threads)
    print(f"{processor()}, {os.cpu_count()} cores; threads: {threads}, {found['threads']}")
    print(f"freed memory kept: {'yes' if kept else 'no'}, on both sides")
    print(f"jvrc: {peer_worker.versions('jvrc', 'jax', 'jaxlib', 'numpy')}")
    print(f"peers: {found['versions']}")
    print(f"load average before {os.getloadavg()[0]:.1f}", flush=True)
    return peer


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


class Contest(NamedTuple):
    """A row of the table: functions that take one turn and return its times."""

    name: str
    ours: Callable[[], Took]
    theirs: dict[str, Callable[[], Took]]  # by the peer's name
    aim: float | None = None  # times as fast
    millions: float | None = None  # of what `unit` names, in a turn: then speeds are shown
    unit: str = ""


class Result(NamedTuple):
    contest: Contest
    ours: list[Took]
    theirs: dict[str, list[Took]]
    others: float  # cores that other processes used meanwhile


def take_turns(contests: list[Contest], rounds: int, peer: Peer) -> list[Result]:
    """Run all contests in turns, jvrc first; one more round comes first and is not counted."""
    mine = [[] for _ in contests]
    theirs = [{name: [] for name in contest.theirs} for contest in contests]
    begun, others = time.perf_counter(), others_seconds(peer)
    for turn in range(rounds + 1):
        for contest, found, peers in zip(contests, mine, theirs, strict=True):
            for call, to in [(contest.ours, found)] + [
                (call, peers[name]) for name, call in contest.theirs.items()
            ]:
                time.sleep(CALM)
                took = call()
                if turn:
                    to.append(took)
    share = (others_seconds(peer) - others) / (time.perf_counter() - begun)
    return [Result(*parts, share) for parts in zip(contests, mine, theirs, strict=True)]


def others_seconds(peer: Peer) -> float:
    """Return CPU seconds of all other processes (not children or worker); 0 if not on Linux."""
    try:
        used = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
        fields = Path(f"/proc/{peer.process.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    user, nice, system = map(int, used[:3])
    ticks = user + nice + system - sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def print_results(results: list[Result]) -> None:
    print(
        f"\n{'medians':18} {'jvrc':>13}  {'peer':25}{'':>13}{'ratio':>8}{'aim':>6}{'':>8}  others"
    )
    for result in results:
        for name in result.theirs:
            _print_row(result, name)
    print("\nseconds: minimum, median and maximum, and the median of CPU seconds")
    for contest, ours, theirs, _ in results:
        for name, turns in {"jvrc": ours, **theirs}.items():
            walls, cpus = zip(*turns, strict=True)
            wall = f"{min(walls):9.4f} {median(walls):9.4f} {max(walls):9.4f}"
            print(f"{contest.name:18} {name:25}{wall} {median(cpus):9.4f}")


def _print_row(result: Result, name: str) -> None:
    contest = result.contest
    ours, theirs = (median(t.wall for t in turns) for turns in (result.ours, result.theirs[name]))
    ratio, aim, met = theirs / ours, "", ""
    if contest.aim:
        aim, met = f"{contest.aim:g}x", "met" if ratio >= contest.aim else "missed"
    print(
        f"{contest.name:18} {_shown(contest, ours):>13}  {name:25}{_shown(contest, theirs):>13}"
        f"{ratio:7.2f}x{aim:>6}{met:>8}{result.others:8.2f}"
    )


def _shown(contest: Contest, seconds: float) -> str:
    if contest.millions is None:
        return f"{seconds:.3f} s"
    return f"{contest.millions / seconds:.1f} {contest.unit}"
