"""The training loop, one for all methods and all sources of data."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial

from eagleray.records import Key, TrainingHistory
from eagleray.training.checkpoints import Checkpoints, digest
from eagleray.training.compiled import Place, Rules, State, replay_segment, train_segment, validation_loss
from eagleray.training.data import InMemory, Plan, Source, plan_steps, split_validation
from eagleray.training.faults import Fault, Steps, TrainingError, first_bad_step, stop_training
from eagleray.training.losses import Loss
from eagleray.training.metrics import EpochMetrics, EpochReport, Progress, append_metrics, open_metrics
from eagleray.training.optimiser import TrainingSettings, step_settings

__all__ = ["EpochReport", "Progress", "TrainingError", "TrainingSettings", "fit", "split_validation"]

_NOT_IDENTITY = ("max_seconds", "checkpoint_seconds")  # settings that a fit may go on with others of


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Fit:
    """What stays the same throughout a fit."""

    loss: Loss
    rules: Rules
    max_non_finite: float
    validation: Any
    fault_folder: Path | None
    key_train: Key
    key_validate: Key


def fit(
    loss: Loss,
    params: Any,
    training: Any,
    validation: Any,
    key: Key,
    *,
    settings: TrainingSettings,
    report: EpochReport | None = None,
    checkpoint: Path | None = None,
    metrics: Path | None = None,
    fault_folder: Path | None = None,
) -> tuple[Any, TrainingHistory]:
    """Minimise a loss by AdamW and keep the weights that were best on the validation data.

    Batches are spread over all local devices. The few rows that no batch of an epoch holds, others in each epoch, wait
    for the next. The validation data are evaluated with the same key after each epoch, so that losses compare.

    With a checkpoint, a fit that was killed or ran out of `max_seconds` goes on when it is called again, and its
    weights are bit for bit those of one that never stopped.

    Args:
        loss: What to minimise, a mean over its batch.
        params: Trainable parameters to start from: a pytree of arrays.
        training: Pytree of arrays that share their leading axis, or another `Source` of rows.
        validation: Pytree of arrays, for choosing the weights. Every row counts: the loss is the mean over pieces.
        key: Typed PRNG key; consumed.
        settings: How to train.
        report: Called after each epoch.
        checkpoint: Folder to keep the state of the fit in, and to go on from.
        metrics: CSV file to write, a line for each epoch (`EpochMetrics`).
        fault_folder: Folder in which to keep parameters, batch and key of a step that is not finite.

    Returns:
        The best parameters and the history.

    Raises:
        TrainingError: If a loss or a gradient stops being finite, or too many of a source's rows are not.
        InputError: If the checkpoint is of another fit, or a file or folder cannot be written.
    """
    source = training if isinstance(training, Source) else InMemory(training)
    devices = jax.local_devices()
    everywhere = NamedSharding(Mesh(np.array(devices), ("rows",)), PartitionSpec())
    place = functools.partial(jax.device_put, device=everywhere)
    plan = plan_steps(source.rows(settings.batch_size), settings.batch_size, len(devices))
    key_order, key_train, key_validate = jax.random.split(key, 3)
    run = _Fit(
        loss=place(Partial(loss) if jax.tree_util.all_leaves([loss]) else loss),
        rules=Rules(source.sampler, step_settings(settings), plan, everywhere),
        max_non_finite=source.max_non_finite,
        validation=place(validation),
        fault_folder=fault_folder,
        key_train=key_train,
        key_validate=key_validate,
    )
    params = place(jax.tree.map(jnp.asarray, params))
    state, best, history = place(run.rules.start(params)), params, _no_history(plan)
    with contextlib.ExitStack() as stack:
        saved = None
        if checkpoint is not None:
            checkpoints = Checkpoints(checkpoint, _identity(run, settings, params, key), settings.checkpoint_seconds)
            saved = stack.enter_context(contextlib.closing(checkpoints))
            (state, best), history = saved.restore((state, best)) or ((state, best), history)
        if metrics is not None:
            open_metrics(metrics, len(history.train_loss))
        data = stack.enter_context(contextlib.closing(source.segments(key_order, len(history.train_loss), place)))
        while not is_over(history, settings):
            state, found = _run_epoch(run, state, data, history)
            if found.validation_loss < min(history.validation_loss, default=math.inf):
                best = state.weights()
            before, history = history, _extended(history, found)
            if metrics is not None:
                append_metrics(metrics, found)
            if report is not None:
                report(_progress(before, found, settings))
            if saved is not None:
                saved.save((state, best), history, last=is_over(history, settings))
    return jax.tree.map(jnp.asarray, jax.device_get(best)), history


def is_over(history: TrainingHistory, settings: TrainingSettings) -> bool:
    """Whether there is nothing left to do: epochs, patience or time have run out."""
    best, best_epoch = math.inf, -1
    for epoch, value in enumerate(history.validation_loss):
        if value < best - settings.min_improvement:
            best, best_epoch = value, epoch
    n_done = len(history.validation_loss)
    late = settings.max_seconds is not None and history.seconds >= settings.max_seconds
    return late or n_done >= settings.max_epochs or n_done - 1 - best_epoch >= settings.patience


def _run_epoch(run: _Fit, state: State, data: Iterator[Any], history: TrainingHistory) -> tuple[State, EpochMetrics]:
    """Train for an epoch, and validate."""
    epoch, n_steps, start = len(history.train_loss), sum(run.rules.plan.n_steps), time.perf_counter()
    records = []
    for segment in range(len(run.rules.plan.n_steps)):
        state, steps = _run_segment(run, state, epoch, segment, next(data))
        records.append(steps)
    seconds = time.perf_counter() - start
    steps = Steps(*(np.concatenate(values) for values in zip(*records, strict=True)))
    non_finite = float(steps.non_finite.mean())
    if non_finite > run.max_non_finite:
        raise TrainingError(
            f"{non_finite:.0%} of the rows of epoch {epoch + 1} hold numbers that are not finite, more than "
            f"{run.max_non_finite:.0%}; draw parameters for which the simulator works"
        )
    return state, EpochMetrics(
        epoch=epoch + 1,
        step=(epoch + 1) * n_steps,
        train_loss=float(steps.loss.mean(dtype=np.float64)),
        validation_loss=_validated(run, state, epoch),
        learning_rate=float(steps.learning_rate[-1]),
        gradient_norm=float(steps.gradient_norm.mean(dtype=np.float64)),
        non_finite=non_finite,
        rows_per_second=n_steps * run.rules.plan.batch_size / seconds,
        seconds=history.seconds + time.perf_counter() - start,
    )


def _run_segment(run: _Fit, state: State, epoch: int, segment: int, data: Any) -> tuple[State, Steps]:
    """Train on the data of a segment; raise where a step is not finite."""
    n_steps = run.rules.plan.n_steps[segment]
    inputs = (run.loss, state, Place(run.key_train, epoch, segment, data))
    after, steps = train_segment(*inputs, rules=run.rules, n_steps=n_steps)
    steps = jax.device_get(steps)
    if (bad := first_bad_step(steps)) is not None:
        step = sum(run.rules.plan.n_steps[:segment]) + bad
        what = "gradient" if math.isfinite(steps.loss[bad]) else "loss"
        where = (
            f"the {what} stopped being finite in epoch {epoch + 1}, step {step + 1} (loss {steps.loss[bad]:g}, "
            f"gradient norm {steps.gradient_norm[bad]:g})"
        )
        _stop(run, Fault(where, *replay_segment(*inputs, bad, rules=run.rules, n_steps=n_steps)))
    return after, steps


def _validated(run: _Fit, state: State, epoch: int) -> float:
    """Loss of the validation data; raise if it is not finite."""
    value = float(validation_loss(run.loss, state.weights(), run.validation, run.key_validate, rules=run.rules))
    if not math.isfinite(value):
        where = f"the validation loss stopped being finite in epoch {epoch + 1} ({value:g})"
        _stop(run, Fault(where, state.weights(), run.validation, run.key_validate))
    return value


def _stop(run: _Fit, fault: Fault) -> NoReturn:
    """Keep the fault and raise."""
    stop_training(fault, learning_rate=run.rules.settings.learning_rate, folder=run.fault_folder)


def _identity(run: _Fit, settings: TrainingSettings, params: Any, key: Key) -> dict[str, Any]:
    """What a fit must share with another to go on where that one was."""
    agreed = {name: value for name, value in dataclasses.asdict(settings).items() if name not in _NOT_IDENTITY}
    return agreed | {
        "rows of a batch": run.rules.plan.batch_size,
        "steps": run.rules.plan.n_steps,
        "key": np.asarray(jax.random.key_data(key)).tolist(),
        "starting weights": digest(params),
        "constants of the loss": digest(run.loss),
        "validation data": digest(run.validation),
    }


def _no_history(plan: Plan) -> TrainingHistory:
    """That of a fit before its first epoch."""
    return TrainingHistory(train_loss=(), validation_loss=(), best_epoch=-1, seconds=0.0, batch_size=plan.batch_size)


def _extended(history: TrainingHistory, found: EpochMetrics) -> TrainingHistory:
    """The history with one more epoch."""
    losses = (*history.validation_loss, found.validation_loss)
    return dataclasses.replace(
        history,
        train_loss=(*history.train_loss, found.train_loss),
        validation_loss=losses,
        best_epoch=losses.index(min(losses)),
        seconds=found.seconds,
    )


def _progress(history: TrainingHistory, found: EpochMetrics, settings: TrainingSettings) -> Progress:
    """What is reported after an epoch; `history` is that before it."""
    left = (settings.max_epochs - found.epoch) * (found.seconds - history.seconds)
    if settings.max_seconds is not None:
        left = min(left, max(0.0, settings.max_seconds - found.seconds))
    return Progress(
        epoch=found.epoch,
        n_epochs=settings.max_epochs,
        train_loss=found.train_loss,
        validation_loss=found.validation_loss,
        rows_per_second=found.rows_per_second,
        seconds_left=left,
    )
