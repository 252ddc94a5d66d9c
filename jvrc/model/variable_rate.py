"""Functions of the quantisation step Delta: reconstruction offsets of y and the step Delta_z of z.

Kamisli et al. 2024 (arXiv 2402.18930), modifications 2 and 3; each is a small network. Freezing
evaluates them only within the range of Delta that training saw.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jvrc.model import layers

Z_STEP_MIN = 0.5
OFFSET_SIZES = (2, 12, 12, 1)  # widths of f_theta
Z_STEP_SIZES = (1, 10, 10, 1)


def mlp(params: dict, x: Array) -> Array:
    """Return the output of dense layers with ReLU between: [...,sizes[0]] -> [...,sizes[-1]]."""
    count = sum(name.startswith("kernel") for name in params)
    for i in range(count):
        x = layers.add_bias(x @ params[f"kernel{i}"], params[f"bias{i}"])
        x = jax.nn.relu(x) if i < count - 1 else x
    return x


def offset(params: dict, scale: Array, qstep: Array) -> Array:
    """Return delta = f_theta(sigma/Delta, 1/Delta), in units of Delta. scale: sigma/Delta [...]."""
    features = jnp.stack(jnp.broadcast_arrays(scale, 1 / qstep), axis=-1)
    return mlp(params, features)[..., 0]


def z_step(params: dict, qstep: Array) -> Array:
    """Return Delta_z = max(0.5, softplus(MLP(Delta))): [...] -> [...]."""
    raw = jax.nn.softplus(mlp(params, qstep[..., None])[..., 0])
    return layers.lower_bound(raw, Z_STEP_MIN)


def reconstruct(q: Array, mu: Array, qstep: Array | float, delta: Array) -> Array:
    """Return y^ = mu + Delta * sign(q) * (|q| - delta), which is mu where q = 0.

    Arrays of JAX or NumPy, all of one shape. delta is in units of Delta.
    """
    xp = q.__array_namespace__()
    return mu + qstep * (q - xp.sign(q) * delta)
