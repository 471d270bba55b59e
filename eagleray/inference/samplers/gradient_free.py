"""Methods without gradients: the random walk and the elliptical slice."""

from collections.abc import Callable
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eagleray.inference.log_density import Target
from eagleray.inference.samplers.chains import Outcome, Task, over_chains
from eagleray.inference.samplers.targets import Bound
from eagleray.inference.samplers.tuning import Kernel, Report, check_count, tune_and_sample
from eagleray.records import Key

_N_PRIOR_DRAWS = 2048


def random_walk(task: Task, *, target_acceptance: float = 0.3, metric: str = "auto", thinning: int = 10) -> Outcome:
    """Random-walk Metropolis; step and covariance of the proposal are tuned in the warm-up, then fixed.

    The step is tuned by dual averaging to the acceptance asked for, the covariance by the windows that NUTS has.

    Args:
        task: What is asked for.
        target_acceptance: Acceptance probability that the step size aims at: 0.44 is optimal for one parameter, 0.234
            for many.
        metric: "dense" or "diagonal"; "auto" is dense up to 50 parameters.
        thinning: Steps behind each draw, and behind each step of the warm-up.
    """
    return tune_and_sample(task, _walk_kernel, target_acceptance=target_acceptance, metric=metric, thinning=thinning)[0]


def elliptical_slice(task: Task, *, thinning: int = 5) -> Outcome:
    """Elliptical slice sampling about a Gaussian with the prior's mean and spread in the unconstrained space.

    What the prior has over that Gaussian (nothing, for normal and log-normal priors) is counted with the likelihood, so
    that the posterior is exact for every prior. There is nothing to tune; it is slow where the likelihood is much
    narrower than the prior.

    Args:
        task: What is asked for.
        thinning: Steps behind each draw, and behind each step of the warm-up.
    """
    check_count("thinning", thinning)
    outputs, seconds = over_chains(
        _make_elliptical,
        task,
        (task.keys, task.initial),
        n_warmup=task.n_warmup * thinning,
        n_draws=task.n_draws,
        thinning=thinning,
    )
    return Outcome(**outputs, seconds=seconds)


def _walk_kernel() -> tuple[Callable[..., Any], Kernel]:
    """A Gaussian step, accepted or rejected."""
    build: Any = blackjax.additive_step_random_walk
    step = build.build_kernel()

    def kernel(key: Key, state: Any, log_density: Any, step_size: Any, metric: Any) -> tuple[Any, Report]:
        def move(key: Key, position: Float[Array, " n_theta"]) -> Float[Array, " n_theta"]:
            normal = jax.random.normal(key, position.shape, position.dtype)
            spread = jnp.sqrt(metric) * normal if metric.ndim == 1 else jnp.linalg.cholesky(metric) @ normal
            return step_size * spread

        proposed = []  # BlackJAX tells the state that was accepted, not the one that was proposed

        def watched(position: Float[Array, " n_theta"]) -> Float[Array, ""]:
            proposed.append(log_density(position))
            return proposed[-1]

        state, info = step(key, state, watched, move)
        return state, Report(
            acceptance=info.acceptance_rate,
            n_steps=jnp.ones((), int),
            divergent=jnp.zeros((), bool),
            nan=jnp.isnan(proposed[-1]),
            truncated=jnp.zeros((), bool),
        )

    return build.init, kernel


def gaussian_of_prior(target: Target, like: Float[Array, " n_theta"]) -> tuple[Array, Array]:
    """Mean and standard deviation of the prior in the unconstrained space, each (n_theta,)."""
    draws = target.initial(jax.random.key(0), _N_PRIOR_DRAWS).astype(like.dtype)
    return draws.mean(axis=0), draws.std(axis=0)


def _make_elliptical(*, n_warmup: int, n_draws: int, thinning: int) -> Callable[..., Any]:
    """One chain: `chain(bound, key, position)`, in coordinates in which the Gaussian is standard."""
    build: Any = blackjax.elliptical_slice

    def chain(bound: Bound, key: Key, position: Float[Array, " n_theta"]) -> dict[str, Array]:
        mean, sd = gaussian_of_prior(bound.posterior, position)

        def log_likelihood(z: Float[Array, " n_theta"]) -> Float[Array, ""]:
            return bound.log_density(mean + sd * z) + 0.5 * z @ z

        step = build.build_kernel(jnp.ones_like(mean), jnp.zeros_like(mean))

        def one(state: Any, key: Key) -> tuple[Any, Any]:
            state, info = step(key, state, log_likelihood)
            return state, (state.position, state.logdensity, info.subiter)

        start = build.init((position - mean) / sd, log_likelihood)
        keys = jax.random.split(key, n_warmup + n_draws * thinning)
        _, (z, log_ratio, n_steps) = jax.lax.scan(one, start, keys)
        kept = z[n_warmup + thinning - 1 :: thinning]
        return {
            "positions": mean + sd * kept,
            "log_density": log_ratio[n_warmup + thinning - 1 :: thinning] - 0.5 * (kept**2).sum(axis=1),
            "n_steps": n_steps[n_warmup:].reshape(n_draws, thinning).sum(axis=1),
            "n_warmup_steps": n_steps[:n_warmup].sum(),
            "n_nan": jnp.isnan(log_ratio).sum(),
        }

    return chain
