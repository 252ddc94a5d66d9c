"""The mesh of devices that a run trains on, and agreement between its processes."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


def make_mesh(rate_devices: int = 1) -> Mesh:
    """Return all devices of all processes as a mesh of data x rate; `rate_devices` share the rates.

    Raises:
      ValueError: rate_devices does not divide the number of devices.
    """
    count = jax.device_count()
    if rate_devices < 1 or count % rate_devices:
        raise ValueError(
            f"rate_devices must divide the number of devices, {count}; got {rate_devices}"
        )
    shape, automatic = (count // rate_devices, rate_devices), (AxisType.Auto,) * 2
    return jax.make_mesh(shape, ("data", "rate"), axis_types=automatic)


def described() -> str:
    """Return the number and the kind of the devices, as in "1 x NVIDIA H200"."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"


def check_divides(name: str, size: int, devices: int) -> None:
    """Raise ValueError unless `devices` can share `size` evenly; name: the recipe's field."""
    if size % devices:
        raise ValueError(
            f"{name} must divide evenly over {devices} devices; got {size}: choose another number "
            "of them, or of devices"
        )


def everywhere(mesh: Mesh) -> NamedSharding:
    """Return the sharding of arrays that every device of the mesh holds whole."""
    return NamedSharding(mesh, PartitionSpec())


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Return arrays that all processes have alike on the devices of a sharding.

    `jax.device_put` asks all processes whether they do, and so waits for the devices.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def one(array: Any) -> jax.Array:
        return jax.make_array_from_callback(
            np.shape(array), sharding, lambda part: np.asarray(array)[part]
        )

    return jax.tree.map(one, tree)


def local_copy(tree: Any) -> Any:
    """Return this process's own copy of a pytree that all devices hold whole."""
    return jax.tree.map(lambda a: a.addressable_data(0), tree)


def is_first_process() -> bool:
    """Return True on the process that writes the files of a run (process 0)."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Wait until all processes have come to the point of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"jvrc: {name}")


def shared(value: float) -> float:
    """Return the value that process 0 has."""
    if jax.process_count() == 1:
        return value
    return float(multihost_utils.broadcast_one_to_all(np.float32(value)))


def agree(decision: bool, *, ask: bool) -> bool:
    """Return whether any process decides so: all of them stop or save at the same step.

    ask: whether to communicate at this step; if not, several processes decide False.
    """
    if jax.process_count() == 1:
        return decision
    return ask and bool(np.any(multihost_utils.process_allgather(np.array(decision))))
