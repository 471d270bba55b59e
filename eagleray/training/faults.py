"""What is not finite in a fit: how it is found, said and kept for inspection."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from eagleray.errors import InputError
from eagleray.records import Features, Key


class TrainingError(InputError):
    """Training cannot go on; the message says at which step and why, and where it is kept."""


class Steps(NamedTuple):
    """What is known of each step of a segment: arrays (n_steps,).

    Attributes:
        loss: Mean loss over the batch.
        gradient_norm: Norm of the gradient before it is clipped.
        learning_rate: That of the schedule.
        non_finite: Fraction of the batch's rows that hold a number that is not finite.
    """

    loss: Any
    gradient_norm: Any
    learning_rate: Any
    non_finite: Any


class Fault(NamedTuple):
    """Where it went wrong. where: in words. params, batch, key: what the loss was called with."""

    where: str
    params: Any
    batch: Any
    key: Key


def finite_rows(batch: Any) -> Bool[Array, " n"]:
    """Whether each row holds finite numbers alone, where its masks say that there are any."""
    batch = jax.tree.map(_shown, batch, is_leaf=lambda part: isinstance(part, Features))
    leaves = [leaf for leaf in jax.tree.leaves(batch) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    n = jax.tree.leaves(batch)[0].shape[0]
    finite = [jnp.isfinite(leaf).all(axis=tuple(range(1, leaf.ndim))) for leaf in leaves]
    return jnp.stack(finite).all(axis=0) if finite else jnp.ones(n, bool)


def _shown(part: Any) -> Any:
    """Features with zeros where the mask is False; anything else as it is."""
    if not isinstance(part, Features) or part.mask is None:
        return part
    mask = jnp.asarray(part.mask, bool)

    def shown(leaf: Any) -> Any:
        return jnp.where(mask.reshape(*mask.shape, *[1] * (leaf.ndim - mask.ndim)), leaf, 0)

    time = part.time if part.time is None or part.time.ndim < mask.ndim else shown(part.time)
    return dataclasses.replace(part, values=shown(part.values), time=time)


def first_bad_step(steps: Steps) -> int | None:
    """The first step whose loss or gradient is not finite."""
    bad = ~(np.isfinite(steps.loss) & np.isfinite(steps.gradient_norm))
    return int(bad.argmax()) if bad.any() else None


def stop_training(fault: Fault, *, learning_rate: float, folder: Path | None) -> NoReturn:
    """Keep the fault, if there is a folder for it, and say what happened.

    Raises:
        TrainingError: Always.
    """
    bad = int((~np.asarray(finite_rows(fault.batch))).sum())
    if bad:
        cause = f"{bad} of its rows hold numbers that are not finite: mask them in the loss or leave them out"
    else:
        cause = f"its data are finite: lower the learning rate (now {learning_rate:g})"
    kept = "" if folder is None else f"; parameters, batch and key are in {save_fault(fault, folder)}"
    raise TrainingError(f"{fault.where}; {cause}{kept}")


def save_fault(fault: Fault, folder: Path) -> Path:
    """Write what the loss was called with as `fault.npz`, whose names are the paths in the pytrees; no pickles.

    Returns:
        The file.
    """
    arrays = {"key": np.asarray(jax.random.key_data(fault.key)), "where": np.asarray(fault.where)}
    for name in ("params", "batch"):
        for path, leaf in jax.tree_util.tree_leaves_with_path(getattr(fault, name)):
            arrays[name + jax.tree_util.keystr(path)] = np.asarray(leaf)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "fault.npz", allow_pickle=False, **arrays)
    return folder / "fault.npz"
