"""Writes references.json with the numbers of other implementations; run by hand.

    python tests/golden/metrics/make.py

Needs torch, pytorch-msssim (MS-SSIM), scikit-image (PSNR), bjontegaard (BD-rate) and the command
`ssimulacra2` of libjxl's tools (SSIMULACRA 2; the stored numbers are of libjxl 0.11.2).
"""

import itertools
import json
import subprocess
import tempfile
from pathlib import Path

import bjontegaard
import numpy as np
import torch
from pictures import CASES, CURVES, LARGE_CASES, pair
from PIL import Image
from pytorch_msssim import ms_ssim
from skimage.metrics import peak_signal_noise_ratio


def tensor(img: np.ndarray) -> torch.Tensor:
    return torch.tensor(img.transpose(2, 0, 1)[None]).double()


def bd_rate(anchor: str, test: str) -> float:
    columns = [np.array(CURVES[name]).T for name in (anchor, test)]
    options = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
    return float(bjontegaard.bd_rate(*columns[0], *columns[1], **options))


def ssimulacra2(*images: np.ndarray) -> float:
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{i}.png" for i in range(2)]
        for img, path in zip(images, paths, strict=True):
            Image.fromarray(img).save(path)
        return float(subprocess.check_output(["ssimulacra2", *paths]))


found = {
    "ms_ssim": [float(ms_ssim(*map(tensor, pair(*case)), data_range=255)) for case in CASES],
    "psnr": [float(peak_signal_noise_ratio(*pair(*case))) for case in CASES],
    "bd_rate": {f"{a} {b}": bd_rate(a, b) for a, b in itertools.permutations(CURVES, 2)},
    "ssimulacra2": [ssimulacra2(*pair(*case)) for case in LARGE_CASES],
}
Path(__file__).with_name("references.json").write_text(json.dumps(found, indent=1) + "\n")
