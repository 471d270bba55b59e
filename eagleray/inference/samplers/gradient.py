"""Methods that follow the gradient: NUTS, Hamiltonian Monte Carlo, Langevin and Barker proposals."""

from collections.abc import Callable
from typing import Any

import blackjax
import jax
import jax.numpy as jnp

from eagleray.inference.samplers.chains import Outcome, Task
from eagleray.inference.samplers.tuning import Kernel, Report, check_count, is_fault, tune_and_sample
from eagleray.records import Key


def nuts(
    task: Task, *, target_acceptance: float = 0.8, metric: str = "auto", max_doublings: int = 10, thinning: int = 1
) -> Outcome:
    """The no-U-turn sampler; every chain is tuned by itself and keeps its own step and metric.

    Args:
        task: What is asked for.
        target_acceptance: Acceptance probability that the step size aims at.
        metric: "dense" or "diagonal"; "auto" is dense up to 50 parameters.
        max_doublings: A trajectory has at most 2^max_doublings steps.
        thinning: Steps behind each draw.
    """
    check_count("max_doublings", max_doublings)
    outcome, truncated = tune_and_sample(
        task,
        _nuts_kernel,
        target_acceptance=target_acceptance,
        metric=metric,
        thinning=thinning,
        max_doublings=max_doublings,
    )
    share = float(truncated.mean())
    if share <= 0.01:
        return outcome
    note = f"{share:.0%} of the trajectories were cut at 2^{max_doublings} steps; raise max_doublings or n_warmup"
    return _with_note(outcome, note)


def hmc(
    task: Task, *, target_acceptance: float = 0.8, metric: str = "auto", n_leapfrog: int = 8, thinning: int = 1
) -> Outcome:
    """Hamiltonian Monte Carlo with trajectories of 1 to 2 n_leapfrog - 1 steps, drawn at random for each.

    Args:
        task: What is asked for.
        target_acceptance: Acceptance probability that the step size aims at.
        metric: "dense" or "diagonal"; "auto" is dense up to 50 parameters.
        n_leapfrog: Mean number of steps in a trajectory; a fixed number would resonate with Gaussian directions.
        thinning: Trajectories behind each draw.
    """
    check_count("n_leapfrog", n_leapfrog)
    return tune_and_sample(
        task,
        _hmc_kernel,
        target_acceptance=target_acceptance,
        metric=metric,
        thinning=thinning,
        n_leapfrog=n_leapfrog,
    )[0]


def mala(task: Task, *, target_acceptance: float = 0.574, metric: str = "auto", thinning: int = 4) -> Outcome:
    """Metropolis-adjusted Langevin: Hamiltonian Monte Carlo with one step, and so with a metric.

    Args:
        task: What is asked for.
        target_acceptance: Acceptance probability that the step size aims at; 0.574 is optimal in many dimensions.
        metric: "dense" or "diagonal"; "auto" is dense up to 50 parameters.
        thinning: Steps behind each draw.
    """
    return tune_and_sample(
        task, _hmc_kernel, target_acceptance=target_acceptance, metric=metric, thinning=thinning, n_leapfrog=1
    )[0]


def barker(task: Task, *, target_acceptance: float = 0.4, metric: str = "auto", thinning: int = 4) -> Outcome:
    """Barker's proposal: skewed by the gradient, and less upset than Langevin's by a badly tuned step.

    Args:
        task: What is asked for.
        target_acceptance: Acceptance probability that the step size aims at; 0.4 is optimal in many dimensions.
        metric: "dense" or "diagonal"; "auto" is dense up to 50 parameters.
        thinning: Steps behind each draw.
    """
    return tune_and_sample(task, _barker_kernel, target_acceptance=target_acceptance, metric=metric, thinning=thinning)[
        0
    ]


def _with_note(outcome: Outcome, note: str) -> Outcome:
    """The same outcome with one note more."""
    return Outcome(**{**vars(outcome), "notes": (*outcome.notes, note)})


def _nuts_kernel(*, max_doublings: int) -> tuple[Callable[..., Any], Kernel]:
    """The no-U-turn transition."""
    build: Any = blackjax.nuts
    step = build.build_kernel()

    def kernel(key: Key, state: Any, log_density: Any, step_size: Any, metric: Any) -> tuple[Any, Report]:
        state, info = step(key, state, log_density, step_size, metric, max_doublings)
        ends = (info.trajectory_leftmost_state, info.trajectory_rightmost_state)
        return state, Report(
            acceptance=info.acceptance_rate,
            n_steps=info.num_integration_steps,
            divergent=info.is_divergent,
            nan=is_fault(ends[0]) | is_fault(ends[1]),
            truncated=(info.num_trajectory_expansions >= max_doublings) & ~info.is_turning & ~info.is_divergent,
        )

    return build.init, kernel


def _hmc_kernel(*, n_leapfrog: int) -> tuple[Callable[..., Any], Kernel]:
    """A Hamiltonian trajectory of random length."""
    build: Any = blackjax.hmc
    step = build.build_kernel()

    def kernel(key: Key, state: Any, log_density: Any, step_size: Any, metric: Any) -> tuple[Any, Report]:
        key_length, key_step = jax.random.split(key)
        length = jax.random.randint(key_length, (), 1, 2 * n_leapfrog)
        state, info = step(key_step, state, log_density, step_size, metric, length)
        return state, Report(
            acceptance=info.acceptance_rate,
            n_steps=length,
            divergent=info.is_divergent,
            nan=is_fault(info.proposal),
            truncated=jnp.zeros((), bool),
        )

    return build.init, kernel


def _barker_kernel() -> tuple[Callable[..., Any], Kernel]:
    """Barker's proposal, accepted or rejected.

    It steps in coordinates u, position = here + factor u, in which the metric is the identity: BlackJAX 1.7 scales the
    proposal by the root of the mass matrix instead of that of its inverse.
    """
    build: Any = blackjax.barker
    step = build.build_kernel()

    def kernel(key: Key, state: Any, log_density: Any, step_size: Any, metric: Any) -> tuple[Any, Report]:
        here = state.position
        factor = jnp.diag(jnp.sqrt(metric)) if metric.ndim == 1 else jnp.linalg.cholesky(metric)
        start = type(state)(jnp.zeros_like(here), state.logdensity, factor.T @ state.logdensity_grad)
        moved, info = step(key, start, lambda u: log_density(here + factor @ u), step_size)
        gradient = jax.scipy.linalg.solve_triangular(factor.T, moved.logdensity_grad)
        gradient = jnp.where(info.is_accepted, gradient, state.logdensity_grad)
        return type(state)(here + factor @ moved.position, moved.logdensity, gradient), Report(
            acceptance=info.acceptance_rate,
            n_steps=jnp.ones((), int),
            divergent=jnp.zeros((), bool),
            nan=is_fault(info.proposal),
            truncated=jnp.zeros((), bool),
        )

    return build.init, kernel
