"""A fit on disk, so that one that was cut short goes on where it was: Orbax for arrays, JSON for the rest."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from eagleray.errors import InputError
from eagleray.records import TrainingHistory


class Checkpoints:
    """The checkpoints of one fit in a folder, of which the last complete one counts.

    Orbax writes each in the background, into a folder of another name that is renamed when complete; what a killed run
    left half-written is ignored and cleaned up.

    Args:
        folder: Folder of the checkpoints; made when missing.
        identity: What makes this fit what it is, as JSON values by name; one that goes on must agree in all.
        seconds: Least time between two checkpoints [s].
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], seconds: float) -> None:
        """Open the folder."""
        import orbax.checkpoint as ocp  # takes a second

        self._folder = Path(folder).resolve()
        self._identity = json.loads(json.dumps(identity))
        self._seconds = seconds
        self._last = time.monotonic()
        self._args = ocp.args
        options = ocp.CheckpointManagerOptions(max_to_keep=1, cleanup_tmp_directories=True, lightweight_initialize=True)
        try:
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        except OSError as error:
            raise InputError(
                f"cannot keep checkpoints in {self._folder}: {error.strerror}; choose another folder"
            ) from error

    def restore(self, like: Any) -> tuple[Any, TrainingHistory] | None:
        """What was saved last; None if nothing was.

        Args:
            like: Pytree of arrays with the structure, shapes and devices of what was saved.

        Raises:
            InputError: If it is damaged or of another fit.
        """
        epoch = self._manager.latest_step()
        if epoch is None:
            return None
        try:
            record = self._manager.restore(epoch, args=self._args.Composite(record=self._args.JsonRestore()))["record"]
            self._check(record["identity"])
            leaves, structure = jax.tree.flatten(like)
            wanted = self._args.Composite(leaves=self._args.StandardRestore(_not_empty(leaves)))
            saved = self._manager.restore(epoch, args=wanted)["leaves"]
        except InputError:
            raise
        except Exception as error:  # whatever a damaged folder makes the reader raise
            raise InputError(
                f"the checkpoint in {self._folder} is damaged ({type(error).__name__}); remove the folder to start anew"
            ) from error
        leaves = [saved.get(str(i), leaf) for i, leaf in enumerate(leaves)]
        history: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in record["history"].items()
        }
        return jax.tree.unflatten(structure, leaves), TrainingHistory(**history)

    def save(self, state: Any, history: TrainingHistory, *, last: bool = False) -> None:
        """Begin to write, if it is time to and the write before is done, or if it is the last.

        Args:
            state: Pytree of arrays.
            history: The fit so far.
            last: Whether nothing will come after it.
        """
        epoch = len(history.train_loss)
        due = time.monotonic() - self._last >= self._seconds and not self._manager.is_saving_in_progress()
        if not (due or last) or self._manager.latest_step() == epoch:
            return
        self._last = time.monotonic()
        record = {"identity": self._identity, "history": dataclasses.asdict(history)}
        leaves = self._args.StandardSave(_not_empty(jax.tree.leaves(state)))
        self._manager.wait_until_finished()
        self._manager.save(epoch, args=self._args.Composite(leaves=leaves, record=self._args.JsonSave(record)))

    def close(self) -> None:
        """Wait until what is being written is complete."""
        self._manager.close()

    def _check(self, saved: Mapping[str, Any]) -> None:
        """Refuse the checkpoint of another fit."""
        for name, ours in self._identity.items():
            if saved.get(name) != ours:
                raise InputError(
                    f"the checkpoint in {self._folder} is of a training with {name} {saved.get(name)}, not {ours}; "
                    "remove the folder or choose another"
                )


def digest(tree: Any) -> str:
    """Short hash of the numbers, shapes and names of a pytree of arrays, keys included."""
    found = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        keys = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        values = np.ascontiguousarray(jax.random.key_data(leaf) if keys else leaf)
        found.update(f"{jax.tree_util.keystr(path)} {values.shape} {values.dtype}".encode())
        found.update(values.data.cast("B") if values.size else b"")
    return found.hexdigest()[:16]


def _not_empty(leaves: list[Any]) -> dict[str, Any]:
    """Leaves by number; Orbax writes no empty ones."""
    return {str(i): leaf for i, leaf in enumerate(leaves) if leaf.size}
