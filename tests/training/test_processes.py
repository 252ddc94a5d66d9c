"""Claims about several processes: they train as one process with as many devices does.

Processes find each other as under Slurm, which JAX knows by its environment.
"""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from jvrc.cli import main
from jvrc.io.images import write_image

pytestmark = pytest.mark.weekly

QUICK = os.environ.get("XLA_FLAGS", "")
TINY = ["--n", "4", "--m", "6", "--crop", "64", "--optimizer", "adam", "--batch", "2"]

TRAIN = """
import jax

if {processes} > 1:
    jax.distributed.initialize()
from jvrc.training import loop
from jvrc.training.data import tile_file
from jvrc.training.recipe.schema import SingleRateRecipe
from jvrc.training.single_rate import SingleRate

sizes = dict(n=4, m=6, batch=4, crop=64)
recipe = SingleRateRecipe(**sizes, optimizer="adam", steps=12, minutes={minutes})
images = tile_file.open_tiles("photos.tiles")
run = loop.train(SingleRate(recipe), images, {folder!r}, on_device=True)
print(run.step, *(float(abs(a).sum()) for a in jax.tree.leaves(run.params)))
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with images and their tiles, and with a finished run."""
    root = tmp_path_factory.mktemp("processes")
    (root / "photos").mkdir()
    rng = np.random.default_rng(2)
    for i in range(3):
        soft = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        write_image(root / "photos" / f"{i}.png", soft)
    tiles = ["--side", "64", "--stride", "32", "--unnatural", "4"]
    assert main(["pack", str(root / "photos"), "-o", str(root / "photos.tiles"), *tiles]) == 0
    command = ["train", "--data", str(root / "photos"), "-o", str(root / "run"), *TINY]
    assert main([*command, "--steps", "2", "--init", "random"]) == 0
    return root


def together(count, arguments, folder):
    """Run a program as so many processes; return what each wrote to standard output."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    slurm = {"JOB_ID": "7", "STEP_NODELIST": "localhost", "STEP_NUM_NODES": "1"}
    shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_PLATFORMS": "cpu"}
    running = []
    for number in range(count):
        own = slurm | {"NTASKS": str(count), "PROCID": str(number), "LOCALID": str(number)}
        environment = os.environ | shared | {f"SLURM_{name}": text for name, text in own.items()}
        command = [sys.executable, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen(command, cwd=folder, env=environment, **pipes))
    found = [process.communicate(timeout=900) for process in running]
    for process, (_, errors) in zip(running, found, strict=True):
        assert process.returncode == 0, errors[-2000:]
    return [output for output, _ in found]


def result_of(output):
    return np.array(output.splitlines()[-1].split(), float)


@pytest.mark.parametrize("minutes", [0, 0.01])
def test_two_processes_train_as_two_devices_of_one(photos, minutes):
    """By steps to the same parameters; by the clock, all processes to the same step."""
    options = {"minutes": minutes, "folder": f"two-{minutes}", "processes": 2}
    results = [result_of(o) for o in together(2, ["-c", TRAIN.format(**options)], photos)]
    np.testing.assert_array_equal(*results)
    assert results[0][0] >= 1
    if minutes:
        return
    code = TRAIN.format(**options | {"folder": "one", "processes": 1})
    flags = {"XLA_FLAGS": f"{QUICK} --xla_force_host_platform_device_count=2"}
    environment = os.environ | flags | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        check=True,
        cwd=photos,
        env=environment,
        text=True,
    )
    np.testing.assert_allclose(result_of(done.stdout), results[0], rtol=1e-4)


@pytest.mark.parametrize(
    "command",
    [
        ["posttrain", "--data", "photos", "--qsteps", "6,2", *TINY[4:]],
        ["train", "--data", "photos.tiles", "--host-crops", *TINY],
    ],
    ids=lambda command: command[0],
)
def test_commands_train_in_several_processes(photos, command):
    command = [*command, "--distributed", "--from", "run/model.safetensors", "--steps", "3"]
    run = photos / f"together-{command[0]}"
    first, second = together(2, ["-m", "jvrc", *command, "-o", str(run)], photos)
    assert f"{run.name}/model.safetensors: model " in first  # one process freezes
    assert "model.safetensors" not in second
    assert (run / "model.safetensors").is_file()
