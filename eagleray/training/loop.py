"""The training loop, one for all methods."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from eagleray.errors import InputError
from eagleray.records import Key, TrainingHistory
from eagleray.training.losses import Loss

EpochReport = Callable[[int, int, float, float], None]
"""Called with (epochs done, most epochs, training loss, validation loss) after each epoch."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a network is trained.

    Attributes:
        batch_size: Simulations per gradient step.
        learning_rate: Peak learning rate of AdamW, reached after the warm-up and then lowered along a cosine.
        max_epochs: Epochs over which the cosine runs to zero.
        patience: Epochs without a better validation loss before training stops.
        validation_fraction: Part of the simulations set aside to choose the weights.
        weight_decay: AdamW's weight decay.
        clip_norm: Largest norm of a gradient.
    """

    batch_size: int = 128
    learning_rate: float = 5e-3
    max_epochs: int = 60
    patience: int = 12
    validation_fraction: float = 0.1
    weight_decay: float = 1e-5
    clip_norm: float = 5.0

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse settings with which nothing is learnt."""
        for name in ("batch_size", "max_epochs", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        for name in ("learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)!r}")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must be between 0 and 1, got {self.validation_fraction!r}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay!r}")


class TrainingError(InputError):
    """Training cannot go on; the message says at which epoch and why."""


def split_validation(data: Any, key: Key, fraction: float) -> tuple[Any, Any]:
    """Set a random fraction of the data aside: (training, validation), along the leading axis of every leaf."""
    n = jax.tree.leaves(data)[0].shape[0]
    n_validation = min(n - 1, max(1, round(fraction * n)))
    order = np.asarray(jax.random.permutation(key, n))
    held, kept = order[:n_validation], order[n_validation:]
    return jax.tree.map(lambda a: a[kept], data), jax.tree.map(lambda a: a[held], data)


def fit(
    loss: Loss,
    params: Any,
    training: Any,
    validation: Any,
    key: Key,
    *,
    settings: TrainingSettings,
    report: EpochReport | None = None,
) -> tuple[Any, TrainingHistory]:
    """Minimise a loss by AdamW and keep the weights that were best on the validation data.

    An epoch, shuffling and validation included, is one compiled call. The batches of an epoch are whole; what is left
    over (fewer than one batch, others in each epoch) waits for the next epoch.

    Args:
        loss: What to minimise.
        params: Trainable parameters to start from.
        training: Pytree of arrays that share their leading axis.
        validation: The same, for choosing the weights.
        key: Typed PRNG key; consumed.
        settings: How to train.
        report: Called after each epoch.

    Returns:
        The best parameters and the history.

    Raises:
        TrainingError: If a loss stops being finite.
    """
    start = time.perf_counter()
    training, validation = jax.device_put((training, validation))
    n = jax.tree.leaves(training)[0].shape[0]
    batch_size = min(settings.batch_size, n)
    n_steps = n // batch_size
    optimiser = _optimiser(settings, n_steps)

    @jax.jit
    def run_epoch(
        params: Any, state: Any, key: Key, training: Any, validation: Any
    ) -> tuple[Any, Any, jax.Array, jax.Array]:
        key_order, key_steps, key_validation = jax.random.split(key, 3)
        order = jax.random.permutation(key_order, n)[: n_steps * batch_size].reshape(n_steps, batch_size)

        def step(carry: tuple[Any, Any], inputs: tuple[jax.Array, Key]) -> tuple[tuple[Any, Any], jax.Array]:
            params, state = carry
            rows, key = inputs
            batch = jax.tree.map(lambda a: a[rows], training)
            value, gradient = jax.value_and_grad(loss)(params, batch, key)
            updates, state = optimiser.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), value

        keys = jax.random.split(key_steps, n_steps)
        (params, state), losses = jax.lax.scan(step, (params, state), (order, keys))
        return params, state, losses.mean(), loss(params, validation, key_validation)

    state = optimiser.init(params)
    best_params, best_epoch, train_losses, validation_losses = params, -1, [], []
    for epoch in range(settings.max_epochs):
        params, state, *losses = run_epoch(params, state, jax.random.fold_in(key, epoch), training, validation)
        train_loss, validation_loss = (float(value) for value in jax.device_get(losses))
        if not (np.isfinite(train_loss) and np.isfinite(validation_loss)):
            raise TrainingError(
                f"the loss stopped being finite in epoch {epoch + 1} (training {train_loss}, validation "
                f"{validation_loss}); lower the learning rate (now {settings.learning_rate:g})"
            )
        train_losses.append(train_loss)
        validation_losses.append(validation_loss)
        if best_epoch < 0 or validation_loss < validation_losses[best_epoch]:
            best_params, best_epoch = params, epoch
        if report is not None:
            report(epoch + 1, settings.max_epochs, train_loss, validation_loss)
        if epoch - best_epoch >= settings.patience:
            break
    history = TrainingHistory(
        train_loss=tuple(train_losses),
        validation_loss=tuple(validation_losses),
        best_epoch=best_epoch,
        seconds=time.perf_counter() - start,
    )
    return best_params, history


def _optimiser(settings: TrainingSettings, steps_per_epoch: int) -> optax.GradientTransformation:
    """AdamW with a short warm-up, a cosine, and clipped gradients."""
    n_steps = settings.max_epochs * steps_per_epoch
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.1 * settings.learning_rate,
        peak_value=settings.learning_rate,
        warmup_steps=max(1, n_steps // 50),
        decay_steps=max(2, n_steps),
    )
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adamw(schedule, weight_decay=settings.weight_decay),
    )
