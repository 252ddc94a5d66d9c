"""What the step Delta changes: quantisation-reconstruction offsets and the step of z.

Kamisli et al. 2024 (arXiv 2402.18930), modifications 2 and 3. Freezing clips Delta to the range
that training saw, where two small networks can be trusted.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jvrc.model import layers

Z_STEP_MIN = 0.5


def init_mlp(key: Array, sizes: tuple[int, ...], *, last_bias: float = 0.0) -> dict:
    """Dense layers; the last one starts at zero, so that the output starts at `last_bias`."""
    params = {}
    for i, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        bound = 1 / n_in**0.5 if i < len(sizes) - 2 else 0.0
        k_kernel, k_bias = jax.random.split(jax.random.fold_in(key, i))
        params[f"kernel{i}"] = bound * jax.random.uniform(k_kernel, (n_in, n_out), minval=-1.0)
        params[f"bias{i}"] = bound * jax.random.uniform(k_bias, (n_out,), minval=-1.0)
    params[f"bias{len(sizes) - 2}"] += last_bias
    return params


def mlp(params: dict, x: Array) -> Array:
    """ReLU between the layers. x: [..., sizes[0]] -> [..., sizes[-1]]."""
    count = sum(name.startswith("kernel") for name in params)
    for i in range(count):
        x = x @ params[f"kernel{i}"] + params[f"bias{i}"]
        x = jax.nn.relu(x) if i < count - 1 else x
    return x


def init_offset(key: Array) -> dict:
    """f_theta, 2 -> 12 -> 12 -> 1."""
    return init_mlp(key, (2, 12, 12, 1))


def init_z_step(key: Array) -> dict:
    """1 -> 10 -> 10 -> 1, starting at a step of one."""
    return init_mlp(key, (1, 10, 10, 1), last_bias=0.5413)  # softplus(0.5413) = 1


def offset(params: dict, scale: Array, qstep: Array) -> Array:
    """delta = f_theta(sigma/Delta, 1/Delta), in units of Delta. scale = sigma/Delta: [...]."""
    features = jnp.stack(jnp.broadcast_arrays(scale, 1 / qstep), axis=-1)
    return mlp(params, features)[..., 0]


def z_step(params: dict, qstep: Array) -> Array:
    """Delta_z = max(0.5, softplus(MLP(Delta))). qstep: [...] -> [...]."""
    raw = jax.nn.softplus(mlp(params, qstep[..., None])[..., 0])
    return layers.lower_bound(raw, Z_STEP_MIN)


def reconstruct(q: Array, mu: Array, qstep: Array | float, delta: Array) -> Array:
    """Return y^ = mu + Delta * sign(q) * (|q| - delta), and mu where q = 0.

    Arrays of JAX or NumPy, all of one shape. delta is in units of Delta.
    """
    xp = q.__array_namespace__()
    return mu + qstep * (q - xp.sign(q) * delta)
