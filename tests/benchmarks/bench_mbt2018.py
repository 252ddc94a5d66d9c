"""Speed of mbt2018 beside CompressAI's mbt2018-vbr: both with random weights, on the same photo.

    python tests/benchmarks/bench_mbt2018.py IMAGE --peer PYTHON [--rounds 5] [--n 192] [--m 320]

PYTHON: the interpreter of another environment (see peer_worker.py), say /tmp/peer/bin/python.
One run times both sides in turns, each while the other waits. Same N, M, step and threads, float32;
one warm-up call of each; medians. Neither side's start, compilation and reading of files count.

Run it on an idle machine: work beside it slows PyTorch's small operations, whose threads wait for
each other thousands of times, much more than it slows jvrc, and the ratios come out too high. The
load average stands in the output, and what other processes used while the turns ran, in cores.
"""

import tempfile
from pathlib import Path

import peer_codec
import peer_turns
from peer_worker import read

MODEL = "mbt2018"
AIMS = {"encode": 15, "decode": 20}  # times as fast


def main() -> None:
    args = peer_turns.parser(__doc__.splitlines()[0]).parse_args()
    with peer_turns.begin(args) as peer, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random.safetensors"
        peer_codec.write_model(file, MODEL, read(args.image), args.n, args.m)
        images = peer_codec.Images(args, MODEL, file, peer)
        results = peer_turns.take_turns(images.contests(AIMS), args.rounds, peer)
        peer_turns.print_results(results)
        images.print_stages()


if __name__ == "__main__":
    main()
