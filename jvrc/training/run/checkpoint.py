"""Orbax checkpoints of a run: the training state in named parts; the last two are kept."""

from pathlib import Path
from typing import Any

import jax


class Checkpoints:
    """Reads and writes the folder `checkpoints` of a run."""

    def __init__(self, run: str | Path, *, read_only: bool = False) -> None:
        """read_only: leave what a run that goes on may be writing now."""
        import orbax.checkpoint as ocp

        self._ocp = ocp
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        self._manager = ocp.CheckpointManager(
            (Path(run) / "checkpoints").absolute(), options=options
        )

    def latest(self) -> int | None:
        """Return the training step of the newest complete checkpoint; None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, parts: dict[str, Any]) -> None:
        """Write pytrees of arrays, a folder for each name; all appear complete or not at all."""
        items = {name: self._ocp.args.StandardSave(tree) for name, tree in parts.items()}
        self._manager.save(step, args=self._ocp.args.Composite(**items), force=True)

    def restore(self, like: dict[str, Any], sharding: jax.sharding.Sharding) -> dict[str, Any]:
        """Return the parts named in `like` of the newest checkpoint, bit for bit.

        like: for each part its structure, shapes and dtypes. sharding: of every array returned.

        Raises:
          ValueError: there is no checkpoint, as in a run that was killed while it began, or it
            lacks a part.
        """
        folder, step = Path(self._manager.directory), self.latest()
        if step is None:
            raise ValueError(f"{folder}: no checkpoint yet; delete the folder and begin again")
        missing = [name for name in like if not (folder / str(step) / name).is_dir()]
        if missing:
            raise ValueError(
                f"{folder / str(step)}: holds no {' and no '.join(missing)}: copy it there "
                "(--from needs model, --resume needs model and optimizer)"
            )

        def wanted(a: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding)

        restore = self._ocp.args.StandardRestore
        items = {name: restore(jax.tree.map(wanted, tree)) for name, tree in like.items()}
        return dict(self._manager.restore(step, args=self._ocp.args.Composite(**items)).items())

    def close(self) -> None:
        self._manager.close()
