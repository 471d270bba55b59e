"""Adaptive tempered sequential Monte Carlo: particles led from the prior to the posterior, and the evidence."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from blackjax.mcmc import random_walk
from blackjax.smc import adaptive_tempered, resampling
from jaxtyping import Array, Float
from numpy.typing import NDArray
from scipy.special import logsumexp

from eagleray.errors import InputError
from eagleray.inference.samplers.chains import Outcome, Task, over_chains
from eagleray.inference.samplers.targets import Bound
from eagleray.inference.samplers.tuning import check_count
from eagleray.records import Key

_ACCEPTANCE = 0.3  # of the random walk that moves the particles
_FLOOR = -1e30  # stands for a log likelihood of -inf, which times a temperature of zero would be NaN


def tempered_smc(
    task: Task, *, target_ess: float = 0.7, n_moves: int | None = None, max_temperatures: int = 200
) -> Outcome:
    """Sequential Monte Carlo along likelihood^temperature, each temperature chosen by the particles.

    Every chain is a run by itself, with as many particles as draws. Particles are moved by a random walk with their own
    covariance. The evidence is the mean of the runs' evidences; its error the larger of what their scatter says and
    what the family trees of their particles say.

    Args:
        task: What is asked for; there is no warm-up.
        target_ess: Fraction of the particles that shall stay effective from one temperature to the next.
        n_moves: Random-walk steps of each particle at each temperature; 5 n_theta, and at least 10, if None.
        max_temperatures: Temperatures after which a run is given up.

    Raises:
        InputError: If an option is out of its range.

    References:
        Del Moral, Doucet & Jasra (2006), JRSS B 68, 411; Lee & Whiteley (2018), Biometrika 105, 609 (variance).
    """
    if not 0 < target_ess < 1:
        raise InputError(f"target_ess must be between 0 and 1, got {target_ess!r}")
    n_moves = max(10, 5 * task.n_theta) if n_moves is None else n_moves
    check_count("n_moves", n_moves)
    check_count("max_temperatures", max_temperatures)
    if task.n_draws < 2:
        raise InputError(f"n_draws must be at least 2 particles, got {task.n_draws!r}")
    outputs, seconds = over_chains(
        _make_run,
        task,
        (task.keys,),
        n_particles=task.n_draws,
        target_ess=float(target_ess),
        n_moves=int(n_moves),
        max_temperatures=int(max_temperatures),
    )
    reached, log_z, kin = (outputs.pop(name) for name in ("reached", "log_z", "kin"))
    value, error = combined_evidence(log_z, _variances(kin, outputs["n_temperatures"], task.n_draws))
    lost = [str(i) for i in np.flatnonzero(~reached)]
    notes = (f"runs {', '.join(lost)} did not reach the posterior; raise max_temperatures",) if lost else ()
    del outputs["n_temperatures"]
    return Outcome(**outputs, seconds=seconds, log_evidence=value, log_evidence_error=error, notes=notes)


def combined_evidence(log_z: NDArray[np.floating], variances: NDArray[np.floating]) -> tuple[float, float]:
    """Ln of the mean of independent evidences, and its error: from their scatter or their own variances.

    Args:
        log_z: (n_runs,) ln evidence of each run.
        variances: (n_runs,) relative variance that each run estimates for itself.
    """
    n = len(log_z)
    own = float(np.sqrt(np.mean(variances) / n))
    scatter = float(np.std(log_z, ddof=1) / np.sqrt(n)) if n > 1 else 0.0
    return float(logsumexp(np.asarray(log_z, np.float64)) - np.log(n)), max(own, scatter)


def _variances(kin: NDArray[np.floating], n_temperatures: NDArray[np.integer], n: int) -> NDArray[np.floating]:
    """Relative variance of each run's evidence, from the chance `kin` that two particles share their first ancestor."""
    return np.maximum(1 - (n / (n - 1)) ** (n_temperatures + 1.0) * (1 - kin), 0.0)


def _make_run(*, n_particles: int, target_ess: float, n_moves: int, max_temperatures: int) -> Callable[..., Any]:
    """One run: `chain(bound, key)`."""
    walk = random_walk.build_additive_step()

    def move(key: Key, state: Any, log_density: Any, factor: Float[Array, "n n"]) -> tuple[Any, Any]:
        def step(key: Key, position: Float[Array, " n"]) -> Float[Array, " n"]:
            return factor @ jax.random.normal(key, position.shape, position.dtype)

        proposed = []  # BlackJAX tells the state that was accepted, not the one that was proposed

        def watched(position: Float[Array, " n"]) -> Float[Array, ""]:
            proposed.append(log_density(position))
            return proposed[-1]

        state, info = walk(key, state, watched, step)
        return state, (info.acceptance_rate, jnp.isnan(proposed[-1]))

    def chain(bound: Bound, key: Key) -> dict[str, Array]:
        target = bound.posterior

        def log_likelihood(position: Float[Array, " n"]) -> Float[Array, ""]:
            value = target.log_likelihood_at(position)
            return jnp.where(value == -jnp.inf, _FLOOR, value)

        kernel = adaptive_tempered.build_kernel(
            target.log_prior, log_likelihood, move, random_walk.init, resampling.systematic, target_ess
        )
        key_start, key_loop = jax.random.split(key)
        particles = target.initial(key_start, n_particles)
        dtype, n_theta = particles.dtype, particles.shape[1]

        def going(carry: Any) -> Array:
            _, count, _, _, _, _, finished, _ = carry
            return ~finished & (count < max_temperatures)

        def advance(carry: Any) -> Any:
            state, count, log_scale, log_z, eve, n_nan, _, _ = carry
            offset = state.particles - state.weights @ state.particles
            covariance = (state.weights[:, None] * offset).T @ offset
            ridge = 1e-6 * jnp.diag(covariance).mean() * jnp.eye(n_theta, dtype=dtype)
            factor = jnp.exp(log_scale) * jnp.linalg.cholesky(covariance + ridge)
            at_posterior = state.tempering_param >= 1 - 1e-6  # these are the last moves
            state, info = kernel(jax.random.fold_in(key_loop, count), state, n_moves, {"factor": factor[None]})
            state = state._replace(tempering_param=jnp.asarray(state.tempering_param, dtype))
            acceptance, nan = info.update_info
            return (
                state,
                count + 1,
                log_scale + 2 * (acceptance.mean() - _ACCEPTANCE),
                log_z + info.log_likelihood_increment,
                eve[info.ancestors],
                n_nan + nan.sum(),
                at_posterior,
                acceptance.mean(axis=1),
            )

        state = adaptive_tempered.init(particles)
        state = state._replace(tempering_param=jnp.zeros((), dtype), weights=jnp.asarray(state.weights, dtype))
        start = (
            state,
            jnp.zeros((), int),
            jnp.asarray(jnp.log(2.38 / n_theta**0.5), dtype),
            jnp.zeros((), dtype),
            jnp.arange(n_particles),
            jnp.isnan(jax.vmap(log_likelihood)(particles)).sum(),
            jnp.zeros((), bool),
            jnp.zeros(n_particles, dtype),
        )
        state, count, _, log_z, eve, n_nan, reached, acceptance = jax.lax.while_loop(going, advance, start)
        shares = jnp.bincount(eve, length=n_particles) / n_particles
        return {
            "positions": state.particles,
            "log_density": jax.vmap(target.log_density)(state.particles),
            "acceptance": acceptance,
            "n_steps": jnp.full(n_particles, n_moves),
            "n_warmup_steps": (count * (n_moves + 3) - n_moves) * n_particles,
            "n_nan": n_nan,
            "log_z": log_z,
            "kin": (shares**2).sum(),
            "n_temperatures": count,
            "reached": reached,
        }

    return chain
