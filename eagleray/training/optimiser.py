"""How weights change: settings, learning rate, AdamW, and the moving average of the weights."""

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a network is trained.

    Attributes:
        batch_size: Simulations per gradient step, about: the batch that divides the data evenly is used.
        learning_rate: Peak learning rate of AdamW, reached after the warm-up.
        max_epochs: Epochs at most; the cosine runs to zero over them.
        patience: Epochs without a better validation loss before training stops.
        validation_fraction: Part of the simulations set aside to choose the weights.
        weight_decay: AdamW's weight decay.
        clip_norm: Largest norm of a gradient.
        schedule: Learning rate after the warm-up: "cosine", lowered along one, or "constant".
        warmup_fraction: Part of all steps over which the learning rate rises from a tenth of its peak.
        ema: Decay per step of a moving average of the weights, which then are the ones validated and returned; 0: off.
        min_improvement: How much lower [nats] a validation loss must be to count as better for `patience`.
        max_seconds: Training ends after the epoch that passes this time [s], earlier runs included; None: no limit.
        checkpoint_seconds: Least time between two checkpoints [s]; 0: as many as can be written.
    """

    batch_size: int = 128
    learning_rate: float = 5e-3
    max_epochs: int = 60
    patience: int = 12
    validation_fraction: float = 0.1
    weight_decay: float = 1e-5
    clip_norm: float = 5.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_fraction: float = 0.02
    ema: float = 0.0
    min_improvement: float = 0.0
    max_seconds: float | None = None
    checkpoint_seconds: float = 60.0

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse settings with which nothing is learnt."""
        for name in ("batch_size", "max_epochs", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)!r}")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must be between 0 and 1, got {self.validation_fraction!r}")
        for name in ("weight_decay", "min_improvement", "checkpoint_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {getattr(self, name)!r}")
        for name in ("warmup_fraction", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)!r}")
        if self.schedule not in ("cosine", "constant"):
            raise ValueError(f"schedule must be one of cosine, constant, got {self.schedule!r}")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise ValueError(f"max_seconds must be positive, got {self.max_seconds!r}")


def step_settings(settings: TrainingSettings) -> TrainingSettings:
    """The settings with those at their defaults on which no gradient step depends: what is compiled is shared more."""
    elsewhere = (
        "batch_size",
        "patience",
        "validation_fraction",
        "min_improvement",
        "max_seconds",
        "checkpoint_seconds",
    )
    return dataclasses.replace(settings, **{name: getattr(TrainingSettings, name) for name in elsewhere})


def learning_rates(settings: TrainingSettings, n_steps: int) -> optax.Schedule:
    """Learning rate at each of the steps, counted from 0."""
    start, peak = 0.1 * settings.learning_rate, settings.learning_rate
    n_warmup = max(1, int(settings.warmup_fraction * n_steps))
    if settings.schedule == "constant":
        return optax.warmup_constant_schedule(start, peak, n_warmup)
    return optax.warmup_cosine_decay_schedule(start, peak, n_warmup, decay_steps=max(n_warmup + 1, n_steps))


def make_optimiser(settings: TrainingSettings, rates: optax.Schedule) -> optax.GradientTransformation:
    """AdamW with clipped gradients; on all weights as one vector, so that one program is compiled and not one each."""
    return optax.flatten(
        optax.chain(
            optax.clip_by_global_norm(settings.clip_norm),
            optax.adamw(rates, weight_decay=settings.weight_decay),
        )
    )


def move_average(average: Any, params: Any, decay: float, step: Int[Array, ""]) -> Any:
    """The moving average after one more step, whose number counts from 0; early on it forgets faster.

    References:
        Polyak & Juditsky (1992), SIAM J. Control Optim. 30, 838 (averaging); the early decay (1 + t) / (10 + t) is that
        of TensorFlow's `ExponentialMovingAverage`.
    """
    weight = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    return jax.tree.map(lambda a, p: a + (weight * (p - a)).astype(a.dtype), average, params)
