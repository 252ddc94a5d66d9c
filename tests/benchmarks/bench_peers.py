"""Times of jvrc and of its peers, on equal threads and sizes: a table of ratios of medians.

    python tests/benchmarks/bench_peers.py IMAGE --peer PYTHON [--rounds 5] [--n 192] [--m 320]
        [--only encode,decode,step,coder,start,product]

PYTHON: the interpreter of another environment (see peer_worker.py), say /tmp/peer/bin/python.
All is float32. In each row both sides take turns, each while the other waits; a first turn of each
warms up and isn't counted. The rows:

encode, decode  a whole image with mbt2018-mean, beside CompressAI's mbt2018-mean-vbr: random
    weights, bytes and pixels in memory. See peer_codec.py.
training step   mbt2018-mean on 8 crops of 128x128 of the image, Adam. jvrc: the jitted step of
    `jvrc train --optimizer adam`: crops from uint8, a Delta of its own for each crop, forward with
    offsets and Delta_z, rate-distortion loss and the quantiles' loss, gradients of all
    parameters, clipping, Adam, the moving average of weights, metrics. CompressAI: that of
    its examples/train.py: forward in training mode, rate-distortion loss, backward, clipping, Adam;
    auxiliary loss of the bottleneck, its backward and Adam. "stage 1" is mbt2018-mean as
    published, one rate and no offsets; "vbr, stage 2" has the offsets, one rate for all crops.
coder           491,520 symbols (as many as y has for 768x512, M = 320), 64 tables; see
    bench_range_coder.py. jvrc and CompressAI's C++ coder: symbols in their order, a table index for
    each. constriction has no such call: "tables" codes the symbols sorted by table, one call for
    each table, and sorting isn't counted; "Gaussians" evaluates a Gaussian for each symbol.
    CompressAI takes and gives lists; turning arrays into lists isn't counted.
process         a 256x256 part of the image, file to file, from the start of the process to its
    end: `jvrc compress --model FILE` with a warm compilation cache; beside it Python that imports
    torch and CompressAI's class, builds it with new weights, makes its tables, compresses and
    writes. Packages that compressai imports but does not need are replaced by empty ones.
product         2048x2048 matrices, float32: the speed of the cores in XLA and in torch.

Run it on an idle machine; "others" are the cores that other processes used while the row ran. On a
busy machine the CPU seconds beside them tell more, though PyTorch's threads use some in waiting.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import bench_range_coder
import jax
import numpy as np
import peer_codec
import peer_turns
from peer_turns import Contest, Peer
from peer_worker import Took, read, timed
from PIL import Image

MODEL = "mbt2018-mean"
FASTER, LEVEL = 1.5, 1.0  # aims, times as fast: whole images; a training step
ROWS = ("encode", "decode", "step", "coder", "start", "product")
BATCH, CROP, SMALL, PRODUCT = 8, 128, 256, 2048


def training(img: np.ndarray, n: int, m: int, folder: Path, peer: Peer) -> list[Contest]:
    from jvrc.training import loop
    from jvrc.training.recipe.schema import SingleRateRecipe
    from jvrc.training.run import parallel
    from jvrc.training.single_rate import SingleRate

    crops, file = random_crops(img), folder / "crops.npy"
    np.save(file, crops)
    peer.ask("Training.load", path=str(file), n=n, m=m)
    sizes = {"n": n, "m": m, "batch": BATCH, "crop": CROP}
    method = SingleRate(SingleRateRecipe(**sizes, optimizer="adam", initialisation="random"))
    mesh = parallel.make_mesh()
    step = loop.jit_step(method, mesh)
    state = loop.first_state(method, mesh)

    def update() -> None:
        nonlocal state
        state, _ = jax.block_until_ready(step(state, crops))

    stages = {"CompressAI, stage 1": 1, "CompressAI, vbr, stage 2": 2}
    theirs = {k: partial(peer.took, "Training.step", stage=s) for k, s in stages.items()}
    return [Contest("training step", lambda: timed(update)[0], theirs, LEVEL)]


def random_crops(img: np.ndarray) -> np.ndarray:
    """uint8 [BATCH,CROP,CROP,3]."""
    rng = np.random.default_rng(0)
    tops, lefts = (rng.integers(0, size - CROP + 1, BATCH) for size in img.shape[:2])
    corners = zip(tops, lefts, strict=True)
    return np.stack([img[top : top + CROP, left : left + CROP] for top, left in corners])


def coders(folder: Path, peer: Peer) -> list[Contest]:
    tables = bench_range_coder.gaussian_tables()
    symbols, index, ideal = bench_range_coder.draw(tables)
    file = folder / "symbols.npz"
    np.savez(file, symbols=symbols, index=index, freq=tables.freq, start=tables.start)
    names = peer.ask("Coders.load", path=str(file))["names"]
    lanes = bench_range_coder.choose_lanes(ideal)
    encode, decode = bench_range_coder.ours(symbols, index, tables, lanes)
    data = encode()
    if not np.array_equal(decode(data), symbols):
        sys.exit("jvrc: decoded symbols differ")
    sizes = {"jvrc": len(data)} | {k: peer.ask("Coders.encode", name=k)["bytes"] for k in names}
    print(f"\n{symbols.size:,} symbols, ideal {ideal:,.0f} bytes; {lanes} lanes; ", end="")
    print("bytes: " + ", ".join(f"{name} {size:,}" for name, size in sizes.items()))

    def contest(direction: str, call: Callable, *args) -> Contest:
        theirs = {k: partial(peer.took, f"Coders.{direction}", name=k) for k in names}
        speed = {"millions": symbols.size / 1e6, "unit": "Msym/s"}
        return Contest(f"coder, {direction}", lambda: timed(call, *args)[0], theirs, **speed)

    return [contest("encode", encode), contest("decode", decode, data)]


def start(img: np.ndarray, qstep: float, file: Path, n: int, m: int, peer: Peer) -> list[Contest]:
    image, output = file.with_name("small.png"), str(file.with_name("small.out"))
    top, left = ((size - SMALL) // 2 for size in img.shape[:2])
    Image.fromarray(img[top : top + SMALL, left : left + SMALL]).save(image)
    ours = [sys.executable, "-m", "jvrc", "compress", str(image), "-o", output, "--force"]
    ours += ["--model", str(file), "--qstep", str(qstep)]
    cache = os.environ | {"JVRC_CACHE_DIR": str(file.with_name("cache"))}
    theirs = [peer.python, str(peer_turns.WORKER), "--start", MODEL, str(image), str(n), str(m)]
    theirs += [str(qstep), output]

    def run(command: list[str], env: dict) -> Took:
        options = {"check": True, "env": env, "stdout": subprocess.DEVNULL}
        return timed(lambda: subprocess.run(command, **options))[0]

    name = f"process, {SMALL}x{SMALL}"
    ours = partial(run, ours, cache)
    return [Contest(name, ours, {"CompressAI": partial(run, theirs, peer.env)})]


def product(peer: Peer) -> list[Contest]:
    a, b = np.random.default_rng(0).standard_normal((2, PRODUCT, PRODUCT), np.float32)
    a, b = jax.device_put(a), jax.device_put(b)
    multiply = jax.jit(lambda a, b: a @ b)
    return [
        Contest(
            "product",
            lambda: timed(lambda: multiply(a, b).block_until_ready())[0],
            {"torch": partial(peer.took, "Machine.product", size=PRODUCT)},
            millions=2 * PRODUCT**3 / 1e9,
            unit="Gflop/s",
        )
    ]


def main() -> None:
    parser = peer_turns.parser(__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(ROWS), help="of %(default)s")
    args = parser.parse_args()
    only = args.only.split(",")
    if unknown := set(only) - set(ROWS):
        parser.error(f"--only knows {', '.join(ROWS)}; got {', '.join(sorted(unknown))}")
    img = read(args.image)
    if min(img.shape[:2]) < SMALL:
        parser.error(f"IMAGE must have {SMALL}x{SMALL} pixels at least; got {img.shape[:2]}")
    results, images = [], None
    with peer_turns.begin(args) as peer, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "random.safetensors"
        peer_codec.write_model(file, MODEL, img, args.n, args.m)

        def play(contests: list[Contest]) -> None:
            results.extend(peer_turns.take_turns(contests, args.rounds, peer))

        if directions := [d for d in ("encode", "decode") if d in only]:
            images = peer_codec.Images(args, MODEL, file, peer)
            play(images.contests(dict.fromkeys(directions, FASTER)))
        if "step" in only:
            play(training(img, args.n, args.m, folder, peer))
        if "coder" in only:
            play(coders(folder, peer))
        if "start" in only:
            play(start(img, args.qstep, file, args.n, args.m, peer))
        if "product" in only:
            play(product(peer))
        peer_turns.print_results(results)
        if images:
            images.print_stages()


if __name__ == "__main__":
    main()
