"""Speed of jvrc2026 beside CompressAI's mbt2018-mean-vbr with N = 192, M = 320, on the same photo.

    python tests/benchmarks/bench_jvrc2026.py IMAGE --peer PYTHON [--weights NAME|FILE] [--rounds 5]

PYTHON: the interpreter of another environment (see peer_worker.py), say /tmp/peer/bin/python.
--weights: ours; by default random ones of the size M = 320 with a 1x1 last kernel in h_s.
One run times both sides in turns, each while the other waits; one warm-up call of each; medians.
Run it on an idle machine: the load average stands in the output.
"""

import tempfile
from pathlib import Path

import peer_codec
import peer_turns
from peer_worker import read

PEER = "mbt2018-mean"
AIM = 2  # times as fast


def main() -> None:
    parser = peer_turns.parser(__doc__.splitlines()[0])
    parser.add_argument("--weights", help="ours; default: random, M = 320")
    args = parser.parse_args()
    with peer_turns.begin(args) as peer, tempfile.TemporaryDirectory() as folder:
        file = args.weights
        if file is None:
            file = Path(folder) / "random.safetensors"
            peer_codec.write_model(file, "jvrc2026", read(args.image), args.n, args.m)
        images = peer_codec.Images(args, PEER, file, peer)
        contests = images.contests({"encode": AIM, "decode": AIM})
        results = peer_turns.take_turns(contests, args.rounds, peer)
        peer_turns.print_results(results)
        images.print_stages()


if __name__ == "__main__":
    main()
