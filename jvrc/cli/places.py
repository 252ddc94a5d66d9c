"""The devices that several images are coded on at a time, and models on them."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from jvrc.runtime import devices

_PER_ACCELERATOR = 2  # while one thread's image is on the device, the other's is on the processor
_MOST = 8  # threads on the processor

Place = Callable[[], AbstractContextManager]


def places(count: int | None) -> list[Place]:
    """Return where each thread computes, as contexts for it to enter; devices take turns.

    count: of threads. By default two for each accelerator; on the processor, which a single image
    keeps busy for the most part, one for two cores, and two at least.
    """
    import jax

    found = jax.local_devices()
    on_processor = found[0].platform == "cpu"
    if on_processor:
        default = max(len(found), min(_MOST, devices.cores() // 2), 2)
    else:
        default = _PER_ACCELERATOR * len(found)
    if on_processor and len(found) == 1:
        return [nullcontext] * (count or default)
    return [_place(found[i % len(found)]) for i in range(count or default)]


def _place(device: Any) -> Place:
    import jax

    return lambda: jax.default_device(device)


def _accelerator() -> Any:
    """Return the device that computes where none was chosen; None if it is the processor."""
    import jax

    first = jax.local_devices()[0]
    return None if first.platform == "cpu" else first


class Models:
    """Models by name, loaded once for each device."""

    def __init__(self) -> None:
        self._lock, self._held = threading.Lock(), dict[tuple, Any]()

    def __call__(self, name: str) -> Any:
        """Return a model, its parameters on the device of the calling thread.

        Its integer networks stay in the host's memory: they run on the CPU.
        """
        import jax

        import jvrc

        device = jax.config.jax_default_device or _accelerator()
        with self._lock:
            if (name, device) not in self._held:
                model = jvrc.load(name)
                if device is not None:
                    model = replace(model, params=jax.device_put(model.params, device))
                self._held[name, device] = model
            return self._held[name, device]
