"""One scan that tunes a Metropolis kernel and then samples with it: Stan's windows, one step and metric per chain.

Warm-up and sampling share one copy of the kernel, so that it is compiled once.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
from blackjax.adaptation.staged_adaptation import build_schedule
from blackjax.adaptation.step_size import dual_averaging_adaptation
from jaxtyping import Array, Float

from eagleray.errors import InputError
from eagleray.inference.samplers.chains import Outcome, Task, over_chains
from eagleray.inference.samplers.targets import Bound
from eagleray.records import Key

_SLOW, _FIXED = 1, 2  # stages: BlackJAX has 0 (the step alone) and 1 (step and metric); 2 is sampling
_FIRST_STEP = 0.1  # small, so that the first trajectories do not leave the region where numbers are finite
MOST_FOR_DENSE = 50


class Report(NamedTuple):
    """What one step of a kernel tells: acceptance probability, and flags."""

    acceptance: Array
    n_steps: Array
    divergent: Array
    nan: Array
    truncated: Array


Kernel = Callable[[Key, Any, Any, Array, Array], tuple[Any, Report]]
"""`(key, state, log_density, step_size, inverse_mass_matrix) -> (state, report)`."""


def tune_and_sample(
    task: Task,
    make_kernel: Callable[..., tuple[Callable[..., Any], Kernel]],
    *,
    target_acceptance: float,
    metric: str,
    thinning: int,
    **settings: Any,
) -> tuple[Outcome, Any]:
    """Run a kernel for all chains, tuned by windows.

    Args:
        task: What is asked for.
        make_kernel: `make_kernel(**settings)` gives `init(position, log_density) -> state`, and the kernel.
        target_acceptance: Acceptance probability that the step size aims at.
        metric: "dense" or "diagonal"; "auto" is dense up to 50 parameters.
        thinning: Steps behind each draw, and behind each step of the warm-up.
        settings: Hashable settings of the kernel.

    Returns:
        The outcome, and (n_chains,) the fraction of steps that the kernel cut short.

    Raises:
        InputError: If an option is out of its range.
    """
    if not 0 < target_acceptance < 1:
        raise InputError(f"target_acceptance must be between 0 and 1, got {target_acceptance!r}")
    if metric not in ("auto", "dense", "diagonal"):
        raise InputError(f"metric must be 'auto', 'dense' or 'diagonal', got {metric!r}")
    check_count("thinning", thinning)
    if task.n_warmup < 20:
        raise InputError(f"n_warmup must be at least 20 to tune the step, got {task.n_warmup!r}")
    outputs, seconds = over_chains(
        _make_chain,
        task,
        (task.keys, task.initial),
        make_kernel=make_kernel,
        n_warmup=task.n_warmup * thinning,
        n_draws=task.n_draws,
        thinning=thinning,
        target_acceptance=float(target_acceptance),
        dense=metric == "dense" or (metric == "auto" and task.n_theta <= MOST_FOR_DENSE),
        settings=tuple(sorted(settings.items())),
    )
    truncated = outputs.pop("truncated")
    return Outcome(**outputs, seconds=seconds), truncated


def check_count(name: str, value: Any) -> None:
    """Refuse what is no count of at least one."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")


def is_fault(state: Any) -> Array:
    """Whether the log density is not a number at a position that is one: a fault of the target, not of the step."""
    return jnp.isnan(state.logdensity) & jnp.isfinite(state.position).all()


def _make_chain(
    *,
    make_kernel: Callable[..., Any],
    n_warmup: int,
    n_draws: int,
    thinning: int,
    target_acceptance: float,
    dense: bool,
    settings: tuple[tuple[str, Any], ...],
) -> Callable[..., Any]:
    """One chain: `chain(bound, key, position)`."""
    init, kernel = make_kernel(**dict(settings))
    metric_init, metric_update, metric_final = mass_matrix_adaptation(is_diagonal_matrix=not dense)
    step_init, step_update, step_final = dual_averaging_adaptation(target_acceptance)
    # Stan ends with 50 steps for the step size, too few where each step says little of the acceptance.
    windows = build_schedule(n_warmup, final_buffer_size=max(50, n_warmup // 4))
    schedule = np.concatenate([np.asarray(windows, int), np.full((n_draws * thinning, 2), [_FIXED, 0])])

    def close_window(metric: Any, tuned: Any) -> tuple[Any, Any]:
        return metric_final(metric), _like(tuned, step_init(step_final(tuned)))

    def chain(bound: Bound, key: Key, position: Float[Array, " n_theta"]) -> dict[str, Array]:
        def step(carry: Any, scanned: Any) -> tuple[Any, Any]:
            state, metric, tuned = carry
            key, stage, closes = scanned
            log_step = jnp.where(stage == _FIXED, tuned.log_step_size_avg, tuned.log_step_size)
            state, report = kernel(key, state, bound.log_density, jnp.exp(log_step), metric.inverse_mass_matrix)
            updated = _like(tuned, step_update(tuned, report.acceptance))
            tuned = jax.tree.map(lambda new, old: jnp.where(stage == _FIXED, old, new), updated, tuned)
            metric = jax.lax.cond(stage == _SLOW, lambda m: metric_update(m, state.position), lambda m: m, metric)
            metric, tuned = jax.lax.cond(closes == 1, close_window, lambda m, t: (m, t), metric, tuned)
            return (state, metric, tuned), (state.position, state.logdensity, report)

        first = jnp.asarray(_FIRST_STEP, position.dtype)
        tuned = jax.tree.map(lambda x: jnp.asarray(x, position.dtype), step_init(first))
        start = (init(position, bound.log_density), jax.tree.map(jnp.asarray, metric_init(position.size)), tuned)
        keys = jax.random.split(key, len(schedule))
        scanned = (keys, jnp.asarray(schedule[:, 0]), jnp.asarray(schedule[:, 1]))
        (_, _, tuned), (positions, log_density, report) = jax.lax.scan(step, start, scanned)
        blocks = jax.tree.map(lambda x: x[n_warmup:].reshape(n_draws, thinning), report)
        return {
            "positions": positions[n_warmup + thinning - 1 :: thinning],
            "log_density": log_density[n_warmup + thinning - 1 :: thinning],
            "divergent": blocks.divergent.any(axis=1),
            "acceptance": blocks.acceptance.mean(axis=1),
            "n_steps": blocks.n_steps.sum(axis=1),
            "n_warmup_steps": report.n_steps[:n_warmup].sum(),
            "n_nan": blocks.nan.sum(),  # the warm-up may step where no likelihood is finite
            "truncated": blocks.truncated.mean(),
            "step_size": step_final(tuned),
        }

    return chain


def _like(old: Any, new: Any) -> Any:
    """A pytree with the dtypes of another."""
    return jax.tree.map(lambda o, n: jnp.asarray(n, o.dtype), old, new)
