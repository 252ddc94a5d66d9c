"""Orbax checkpoints of a run: the whole training state, the last two kept.

May import: nothing of jvrc. Orbax is imported by the functions that need it.
"""

from pathlib import Path
from typing import Any

import jax


class Checkpoints:
    """The `checkpoints/` folder of a run."""

    def __init__(self, run: str | Path) -> None:
        import orbax.checkpoint as ocp

        self._ocp = ocp
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(
            (Path(run) / "checkpoints").absolute(), options=options
        )

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Writes the state (a pytree of arrays); it appears complete or not at all."""
        self._manager.save(step, args=self._ocp.args.StandardSave(state), force=True)

    def restore(self, like: Any, sharding: jax.sharding.Sharding) -> Any:
        """The newest state, bit for bit; `like` gives structure, shapes and dtypes.

        Raises:
          ValueError: there is none, as in a run that was killed while it started.
        """
        if self.latest() is None:
            folder = self._manager.directory
            raise ValueError(f"{folder}: no checkpoint yet; delete the run and start it anew")
        abstract = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), like
        )
        return self._manager.restore(
            self._manager.latest_step(), args=self._ocp.args.StandardRestore(abstract)
        )

    def close(self) -> None:
        self._manager.close()
