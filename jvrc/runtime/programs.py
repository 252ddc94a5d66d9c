"""`stored`: `jax.jit` whose executables are kept on disk, beside JAX's compilation cache.

JAX's cache spares a process the compilation, but not tracing and lowering, which for a small image
take longer than coding it. Here a call is looked up by what is known without tracing: the function,
its static arguments, shapes and dtypes, the device, the configuration of JAX, the versions of JAX
and jaxlib, the processor, and a hash of jvrc's source. Nothing is computed differently: what is
loaded is the executable that `jax.jit` compiled.

Only processes that called `compile_cache.enable` use it, and only for concrete arrays on one
device; every other call goes to `jax.jit`. An entry that does not load is deleted and made anew.
"""

import functools
import hashlib
import itertools
import os
import pickle
import platform
import sys
import threading
import types
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np
from jax.experimental import serialize_executable

from jvrc.runtime import compile_cache

SUFFIX = ".program"
_DIGEST_BYTES = 32
_NOTICE_AFTER = 1.0  # seconds of compilation
# Source folders whose functions end up in programs.
_SOURCES = ("codec", "coding", "integer", "model")
_DEBUGGING = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs", "jax_enable_checks")

_on_compile: Callable[[], None] | None = None
_hits: list[str] = []  # of JAX's cache


def _listen(event: str, **_: object) -> None:
    if event == "/jax/compilation_cache/cache_hits":
        _hits.append(event)


jax.monitoring.register_event_listener(_listen)


def on_compile(notice: Callable[[], None] | None) -> None:
    """Let `notice` be called, once, when a program has been compiling for a second."""
    global _on_compile
    _on_compile = notice


def stored(
    function: Callable, *, static_argnums: tuple[int, ...] = (), donate_argnums: tuple = ()
) -> "Stored":
    """Return `jax.jit(function)`, its executables kept on disk; static arguments come first."""
    jitted = jax.jit(function, static_argnums=static_argnums, donate_argnums=donate_argnums)
    return Stored(jitted, f"{function.__module__}.{function.__qualname__}", len(static_argnums))


class Stored:
    """A jitted function; attributes are those of `jax.jit`'s result."""

    def __init__(self, jitted: Any, name: str, statics: int) -> None:
        functools.update_wrapper(self, jitted)
        self._jitted, self._name, self._statics = jitted, name, statics
        self._programs: dict[tuple, Callable] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._jitted, name)

    def __reduce__(self) -> str:
        return self.__qualname__  # another process imports it, as it does functions

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        folder = compile_cache.folder()
        if folder is None or any(getattr(jax.config, name, False) for name in _DEBUGGING):
            return self._jitted(*args, **kwargs)
        statics, arrays = args[: self._statics], args[self._statics :]
        leaves, tree = jax.tree.flatten((arrays, kwargs))
        device = _common_device(leaves)
        if device is None:
            return self._jitted(*args, **kwargs)
        shapes = tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        key = (statics, tree, shapes, device, _configuration())
        if key in self._programs:
            return self._programs[key](*arrays, **kwargs)
        path = self._path(folder, key)
        if path is None:
            return self._jitted(*args, **kwargs)
        with suppress(Exception):  # whatever is wrong with a file, it can be compiled anew
            program = _load(path, tree, device)
            result = jax.block_until_ready(program(*arrays, **kwargs))
            self._programs[key] = program
            return result
        self._programs[key] = self._compiled(path, args, kwargs)
        return self._programs[key](*arrays, **kwargs)

    def _path(self, folder: Path, key: tuple) -> Path | None:
        """Return the file of a program, None if no other process would find it."""
        statics, tree, shapes, device, configuration = key
        if (named := _named(statics)) is None:
            return None
        described = (self._name, named, str(tree), shapes, device.id, configuration)
        digest = hashlib.sha256(repr((described, _machine(device))).encode()).hexdigest()
        return folder / f"{self._jitted.__name__.strip('_')}-{digest[:40]}{SUFFIX}"

    def _compiled(self, path: Path, args: tuple, kwargs: dict) -> jax.stages.Compiled:
        """Compile the program of a call and keep it.

        JAX's entry is deleted then. What comes from there can't be written once more: the next
        process compiles it.
        """
        before = len(_hits)
        with _announced():
            program = self._jitted.lower(*args, **kwargs).compile()
        with suppress(Exception):  # a kind of program that can't be kept
            data = _packed(program)
            if len(_hits) == before:
                compile_cache.write(path, data)
            compile_cache.forget(f"jit_{self._jitted.__name__}")
        return program


def _common_device(leaves: list) -> jax.Device | None:
    """Return the one device that a call of these arguments runs on; None if that is not plain."""
    devices = set()
    for leaf in leaves:
        if isinstance(leaf, np.ndarray | np.generic):
            continue
        if not isinstance(leaf, jax.Array) or isinstance(leaf, jax.core.Tracer) or leaf.weak_type:
            return None
        devices |= leaf.devices() if leaf.committed else set()
    if not devices:
        default = jax.config.jax_default_device
        devices = {jax.local_devices()[0] if default is None else default}
    device = devices.pop()
    return device if isinstance(device, jax.Device) and not devices else None


def _configuration() -> tuple:
    """Return all options of JAX, as the calling thread has them."""
    return tuple(repr(getattr(jax.config, name, None)) for name in sorted(jax.config.values))


def _named(static: Any) -> Any:
    """Return a static argument as a value whose repr is the same in every process, or None."""
    if isinstance(static, tuple):
        parts = tuple(map(_named, static))
        return None if None in parts else parts
    if not isinstance(static, types.FunctionType):
        return static
    inner = "<" in static.__qualname__  # a lambda, or defined in a function
    return None if inner else f"{static.__module__}.{static.__qualname__}"


def _machine(device: jax.Device) -> tuple:
    versions = (jax.__version__, jaxlib.__version__, sys.version_info[:2], _source_digest())
    flags = tuple(os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS"))
    backend = (device.platform, device.device_kind, device.client.platform_version)
    return (versions, flags, backend, platform.machine(), os.cpu_count(), _processor())


@functools.cache
def _processor() -> str:
    """Return the model and the features of the processor."""
    wanted = ("model name", "flags", "Features", "CPU part")
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = itertools.takewhile(str.strip, file)  # of the processors
            return "".join(line for line in first if line.startswith(wanted))
    except OSError:
        return platform.processor()


@functools.cache
def _source_digest() -> str:
    """Return a hash over the source that programs are made from."""
    digest, root = hashlib.sha256(), Path(__file__).parents[1]
    for path in sources(root):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def sources(root: Path) -> list[Path]:
    """Return the files of the package in the folder `root` that programs are made from."""
    folders = (path for folder in _SOURCES for path in sorted((root / folder).rglob("*.py")))
    return [Path(__file__), *folders]


def _load(path: Path, tree: Any, device: jax.Device) -> jax.stages.Compiled:
    """Return the program of a file; raise some exception if there is none or it is damaged."""
    data = path.read_bytes()
    digest, packed = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    if hashlib.sha256(packed).digest() != digest:
        raise ValueError("damaged")
    executable, out_tree = pickle.loads(zlib.decompress(packed))
    os.utime(path)  # entries used last stay longest
    return serialize_executable.deserialize_and_load(
        executable, tree, out_tree, backend=device.client, execution_devices=[device]
    )


def _packed(program: jax.stages.Compiled) -> bytes:
    """Return the content of a program's file; raise some exception if its kind has none."""
    executable, _, out_tree = serialize_executable.serialize(program)
    packed = zlib.compress(pickle.dumps((executable, out_tree)), 1)
    return hashlib.sha256(packed).digest() + packed


@contextmanager
def _announced() -> Iterator[None]:
    """Call what `on_compile` was given if the block takes long."""
    timer = threading.Timer(_NOTICE_AFTER, _announce)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _announce() -> None:
    global _on_compile
    notice, _on_compile = _on_compile, None
    if notice:
        notice()
