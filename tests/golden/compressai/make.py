"""Writes what models of CompressAI give, beside their weights; run by hand, with the extra `peers`.

    python tests/golden/compressai/make.py

For each case one file: `state/NAME` the state dict, `y`, `z`, and for each step what an evaluation
gives. All arrays of results are [h,w,C]. Weights are random, but made so that nothing hides: GDN's
gammas are neither diagonal nor symmetric, biases and medians are not zero, scales reach from under
the bound of 0.11 to above ten, offsets and steps of z change with the step. They are rounded to
float16. No value that is rounded lies near a half, where two libraries could decide differently.
"""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from compressai.models import google, vbr
from torch.nn.functional import softplus

HERE = Path(__file__).parent
QSTEPS = (1.0, 2.7, 10.0)
STRIDE = 5  # of the samples that are kept of a picture
MARGIN = 1e-4  # of what is rounded, to the next half
CASES = {
    "hyperprior-vbr": lambda: vbr.ScaleHyperpriorVbr(8, 12, vr_entbttlnck=True),
    "mean-vbr": lambda: vbr.MeanScaleHyperpriorVbr(8, 12, vr_entbttlnck=True),
    "mean-vbr-plain-z": lambda: vbr.MeanScaleHyperpriorVbr(5, 7, vr_entbttlnck=False),
    "context-vbr": lambda: vbr.JointAutoregressiveHierarchicalPriorsVbr(8, 12),
    "hyperprior": lambda: google.ScaleHyperprior(5, 7),
    "mean": lambda: google.MeanScaleHyperprior(5, 7),
    "context": lambda: google.JointAutoregressiveHierarchicalPriors(5, 7),
}


def picture(height: int, width: int) -> np.ndarray:
    """uint8 [H,W,3]: waves, an edge and noise."""
    i, j = np.mgrid[:height, :width]
    waves = np.stack([np.sin(i / 9 + j / 7), np.cos(i / 5 - j / 11), np.sin(i * j / 300)], axis=-1)
    noise = np.random.default_rng(1).normal(0, 12, (height, width, 3))
    x = 128 + 60 * waves + 40 * (i > j)[:, :, None] + noise
    return np.clip(np.rint(x), 0, 255).astype(np.uint8)


def nchw(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(x.astype(np.float32)).permute(2, 0, 1)[None]


def hwc(t: torch.Tensor) -> np.ndarray:
    return t[0].permute(1, 2, 0).numpy()


def has(net: Any, name: str) -> bool:
    return hasattr(net, name)


# Interesting weights


def spread(layer: Any, out: torch.Tensor, std: Any, mean: Any, *, axis: int = 0) -> None:
    """Scales a layer so that its outputs [1,C,h,w] have these deviations and means by channel."""
    std, mean = (torch.as_tensor(v, dtype=torch.float32).expand(out.shape[1]) for v in (std, mean))
    gain = std / out.std((0, 2, 3)).clamp_min(1e-3)
    shape = [1] * layer.weight.ndim
    shape[axis] = -1
    layer.weight *= gain.reshape(shape)
    layer.bias.copy_((layer.bias - out.mean((0, 2, 3))) * gain + mean)


def into_range(last: Any, mlp: Callable, inputs: torch.Tensor, low: float, high: float) -> None:
    """Scales the last layer so that the network's outputs for inputs [n,I] fill low … high."""
    out = mlp(inputs)
    gain = (high - low) / (out.max() - out.min())
    last.weight *= gain
    last.bias.copy_((last.bias - out.min()) * gain + low)


def randomise(net: Any) -> None:
    """Every parameter, before any scaling."""
    for name, p in net.named_parameters():
        if name.endswith(".beta"):
            p.uniform_(0.7, 1.3)
        elif name.endswith(".gamma"):
            p.uniform_(0.0, 0.4)
        elif name.endswith(".bias"):
            p.normal_(0, 0.1)
    bottleneck = net.entropy_bottleneck
    for name, p in bottleneck.named_parameters():
        if "quantiles" in name:
            p[:, 0, 1].uniform_(-1.5, 1.5)
        else:
            p.add_(0.4 * torch.randn_like(p))
            if name in ("_matrix0", "matrices.0"):  # as narrow as z is: freezing draws from it
                p.copy_(torch.log(torch.expm1(4 * softplus(p))))


def scale(net: Any, x: torch.Tensor) -> None:
    """Layer by layer, so that latents, scales, means and pixels reach over their ranges."""
    m = net.M
    y = net.g_a(x)
    spread(net.g_a[-1], y, torch.logspace(0, 1.2, m), torch.linspace(-4, 4, m))
    y = net.g_a(x)
    seen = y if isinstance(net, google.MeanScaleHyperprior) else y.abs()
    spread(net.h_a[-1], net.h_a(seen), 3.0, torch.linspace(-2, 2, net.N))
    z = net.h_a(seen)
    if has(net, "context_prediction"):
        psi, ctx = net.h_s(z), net.context_prediction(y)
        spread(net.h_s[-1], psi, 1.0, 0.0)
        spread(net.context_prediction, ctx, 1.0, 0.0)
        both = torch.cat([net.h_s(z), net.context_prediction(y)], 1)
        last, out = net.entropy_parameters[-1], net.entropy_parameters(both)
    else:
        is_mean = isinstance(net, google.MeanScaleHyperprior)
        last = net.h_s[-1 if is_mean else -2]
        out = (net.h_s if is_mean else net.h_s[:-1])(z)  # without the ReLU
    sigma = torch.logspace(-1.3, 1.2, m)
    if out.shape[1] == m:
        spread(last, out, sigma / 4, sigma)
    else:
        std, mean = torch.cat([sigma / 4, torch.full((m,), 2.0)]), torch.linspace(-4, 4, m)
        spread(last, out, std, torch.cat([sigma, mean]))
    spread(net.g_s[-1], net.g_s(y), 0.12, torch.tensor([0.4, 0.5, 0.6]), axis=1)
    gains = torch.logspace(-1, 0, 12)[:, None]
    if has(net, "QuantABCD"):
        ratio = torch.logspace(np.log10(0.11), 1.5, 30)
        grid = torch.cartesian_prod(ratio, gains[:, 0])
        into_range(net.QuantABCD[-1], net.QuantABCD, grid, 0.02, 0.28)
    if has(net, "gayn2zqstep"):
        low, high = np.log(np.expm1([0.65, 1.9]))
        into_range(net.gayn2zqstep[-2], net.gayn2zqstep[:-1], 1 / gains, low, high)
    if has(net, "scale_to_context"):
        net.scale_to_context.weight.normal_(0, 0.5)


def random_net(case: str, x: torch.Tensor, seed: int) -> Any:
    torch.manual_seed(seed)
    net = CASES[case]().eval()
    randomise(net)
    scale(net, x)
    for p in net.parameters():
        p.copy_(p.half().float())
    return net


# What it gives


@contextmanager
def recorded(module: Any, *, entering: bool = False) -> Iterator[list[torch.Tensor]]:
    """What a module gives, or is given, while the context lasts."""
    found: list[torch.Tensor] = []

    def hook(module: Any, args: tuple, out: torch.Tensor) -> None:
        found.append((args[0] if entering else out).clone())

    handle = module.register_forward_hook(hook)
    yield found
    handle.remove()


def over_positions(found: list[torch.Tensor], shape: torch.Size) -> torch.Tensor:
    """[1,C,h,w] of what came whole, or for one position after another in raster order."""
    if len(found) == 1:
        return found[0].reshape(1, -1, *shape)
    return torch.stack([f.reshape(-1) for f in found], -1).reshape(1, -1, *shape)


def split(net: Any, found: torch.Tensor) -> dict[str, torch.Tensor]:
    sigma, mu = found[:, : net.M], found[:, net.M :]
    return {"sigma": sigma, "mu": mu if mu.shape[1] else torch.zeros_like(sigma)}


def variable_rate(net: Any, x: torch.Tensor, y: torch.Tensor, qstep: float) -> dict[str, Any]:
    gain = torch.tensor(1 / qstep)
    last = getattr(net, "entropy_parameters", net.h_s)
    with (
        recorded(last) as parameters,
        recorded(net.QuantABCD[-1]) as offsets,
        recorded(net.h_s, entering=True) as z_hat,
        recorded(net.g_s, entering=True) as y_hat,
    ):
        out = net(x, stage=2, inputscale=gain)
    found = split(net, over_positions(parameters, y.shape[2:]))
    delta = over_positions([o.squeeze(-1) for o in offsets], y.shape[2:])
    found |= {"z_hat": z_hat[0], "y_hat": y_hat[0], "x_hat": out["x_hat"], "delta": delta}
    found |= {"p_y": out["likelihoods"]["y"], "p_z": out["likelihoods"]["z"]}
    if net.vr_entbttlnck:
        z_step = net.lower_bound_zqstep(net.gayn2zqstep(1 / gain.view(1)))[0]
        channels = z_hat[0].transpose(0, 1)
        right, *_ = net.entropy_bottleneck._likelihood_variable(
            channels.reshape(net.N, 1, -1), qs=z_step
        )
        # what its forward pass gives, for bins of width 1, and what its coder uses
        found["p_z_forward"] = found["p_z"]
        found["p_z"] = right.clamp_min(1e-9).reshape(channels.shape).transpose(0, 1)
        return {k: hwc(v) for k, v in found.items()} | {"z_step": z_step.numpy()}
    return {k: hwc(v) for k, v in found.items()}


def single_rate(net: Any, x: torch.Tensor, y: torch.Tensor, _: float) -> dict[str, Any]:
    """By `compress` and `decompress`: an mbt2018 does otherwise in its forward pass."""
    net.update()
    coded = net.compress(x)
    last = getattr(net, "entropy_parameters", net.h_s)
    with (
        recorded(last) as parameters,
        recorded(net.h_s, entering=True) as z_hat,
        recorded(net.g_s, entering=True) as y_hat,
    ):
        net.decompress(coded["strings"], coded["shape"])
    found = split(net, over_positions(parameters, y.shape[2:]))
    _, p_z = net.entropy_bottleneck(z_hat[0])
    _, p_y = net.gaussian_conditional(y, found["sigma"], means=found["mu"])
    with recorded(net.g_s, entering=True) as forward:
        net(x)
    found |= {"z_hat": z_hat[0], "y_hat": y_hat[0], "x_hat": net.g_s(y_hat[0].clone())}
    return {k: hwc(v) for k, v in (found | {"p_y": p_y, "p_z": p_z}).items()} | (
        {"y_hat_forward": hwc(forward[0])} if has(net, "context_prediction") else {}
    )


def margin(values: np.ndarray) -> float:
    """The least distance to a half."""
    return float(np.abs(np.abs(values - np.floor(values)) - 0.5).min())


def evaluated(net: Any, x: torch.Tensor) -> dict[str, np.ndarray] | None:
    """All arrays of a file but the weights; None if a value lies near a half."""
    y = net.g_a(x)
    z = net.h_a(y if isinstance(net, google.MeanScaleHyperprior) else y.abs())
    medians = net.entropy_bottleneck.quantiles[:, 0, 1].numpy()
    found = {"y": hwc(y), "z": hwc(z)}
    evaluate, qsteps = (variable_rate, QSTEPS) if has(net, "Gain") else (single_rate, QSTEPS[:1])
    for qstep in qsteps:
        given = evaluate(net, x, y, qstep)
        z_step = float(given.get("z_step", 1.0))
        margins = margin((found["y"] - given["mu"]) / qstep), margin((hwc(z) - medians) / z_step)
        if min(margins) < MARGIN:
            return None
        print(f"  {qstep}: z step {z_step:.3f}", *(summary(k, v) for k, v in given.items()))
        given["x_hat"] = given["x_hat"][::STRIDE, ::STRIDE]
        found |= {f"{qstep}/{name}": value for name, value in given.items()}
    return found


def summary(name: str, values: np.ndarray) -> str:
    return f"{name} {values.min():.3g}…{values.max():.3g}"


def state(net: Any) -> dict[str, np.ndarray]:
    found = {k: v.clone() for k, v in net.state_dict().items()}
    if has(net, "context_prediction"):  # what a mask hides must not matter
        weight = found["context_prediction.weight"]
        weight[found["context_prediction.mask"] == 0] = 7.0
    arrays = {f"state/{k}": v.numpy() for k, v in found.items()}
    # parameters are values of float16; tables, which nobody reads, are left out
    return {
        k: v.astype(np.float16) if v.dtype == np.float32 else v
        for k, v in arrays.items()
        if not k.endswith("_quantized_cdf")
    }


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    img = picture(64, 128)
    np.savez_compressed(HERE / "picture.npz", x=img)
    x = nchw(img) / 255
    for case in CASES:
        for seed in itertools.count():
            net = random_net(case, x, seed)
            found = evaluated(net, x)
            if found is not None:
                break
        print(f"{case}: seed {seed}")
        np.savez_compressed(HERE / f"{case}.npz", **state(net), **found)


if __name__ == "__main__":
    main()
