"""Approximations of the posterior by Gaussians in the unconstrained space, each with a check of how good it is."""

from collections.abc import Callable
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from blackjax.vi import fullrank_vi as full_rank
from blackjax.vi import pathfinder as path
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.inference.samplers.chains import Outcome, Task, over_chains
from eagleray.inference.samplers.targets import Bound
from eagleray.inference.samplers.tuning import check_count
from eagleray.records import Key


def pathfinder(task: Task, *, max_iterations: int = 100, n_elbo: int = 50) -> Outcome:
    """Pathfinder: the best Gaussian along the path of an optimiser; every chain is a path of its own.

    Args:
        task: What is asked for; there is no warm-up.
        max_iterations: Steps of the optimiser.
        n_elbo: Draws that judge each Gaussian of the path.

    References:
        Zhang, Carpenter, Gelman & Vehtari (2022), JMLR 23, 306.
    """
    outputs, seconds = _paths(task, max_iterations, n_elbo)
    log_ratio = outputs.pop("log_ratio")
    return Outcome(**outputs, seconds=seconds, pareto_k=np.array([psis(ratio)[1] for ratio in log_ratio]))


def multi_pathfinder(task: Task, *, max_iterations: int = 100, n_elbo: int = 50) -> Outcome:
    """Pathfinder along several paths, one for each chain, whose draws are resampled together by importance.

    The resampled draws are dealt out to the chains at random, so that chains do not differ by construction.

    Args:
        task: What is asked for; there is no warm-up.
        max_iterations: Steps of the optimiser.
        n_elbo: Draws that judge each Gaussian of a path.

    References:
        Zhang, Carpenter, Gelman & Vehtari (2022), JMLR 23, 306; Vehtari et al. (2024), JMLR 25, 72 (smoothed weights).
    """
    outputs, seconds = _paths(task, max_iterations, n_elbo)
    weight, k = psis(outputs.pop("log_ratio").ravel())
    rng = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(task.key, 1))))
    chosen = rng.choice(len(weight), size=len(weight), p=weight)
    for name in ("positions", "log_density"):
        values = outputs[name]
        outputs[name] = values.reshape(-1, *values.shape[2:])[chosen].reshape(values.shape)
    effective = 1 / float((weight**2).sum())
    return Outcome(**outputs, seconds=seconds, pareto_k=np.full(task.n_chains, k), effective=effective)


def fullrank_vi(task: Task, *, n_steps: int = 2000, n_samples: int = 16, learning_rate: float = 0.03) -> Outcome:
    """Full-rank variational inference: the Gaussian of least Kullback-Leibler divergence, fitted anew for every chain.

    Args:
        task: What is asked for; there is no warm-up.
        n_steps: Steps of the optimiser, whose learning rate falls to zero as a cosine.
        n_samples: Draws behind each step.
        learning_rate: Learning rate at the start, of Adam.

    Raises:
        InputError: If an option is out of its range.

    References:
        Kucukelbir et al. (2017), JMLR 18, 14; Yao et al. (2018), ICML, PMLR 80 (the check by importance weights).
    """
    check_count("n_steps", n_steps)
    check_count("n_samples", n_samples)
    if not learning_rate > 0:
        raise InputError(f"learning_rate must be positive, got {learning_rate!r}")
    outputs, seconds = over_chains(
        _make_full_rank,
        task,
        (task.keys, task.initial),
        n_draws=task.n_draws,
        n_steps=int(n_steps),
        n_samples=int(n_samples),
        learning_rate=float(learning_rate),
    )
    log_ratio = outputs.pop("log_ratio")
    return Outcome(**outputs, seconds=seconds, pareto_k=np.array([psis(ratio)[1] for ratio in log_ratio]))


def psis(log_ratio: NDArray[np.floating]) -> tuple[NDArray[np.float64], float]:
    """Pareto-smoothed importance weights (n,), which sum to one, and the shape k of their tail.

    Where a ratio is not finite the weights are equal and k is inf.
    """
    from arviz_stats.base import array_stats

    ratio = np.asarray(log_ratio, np.float64)
    if not np.isfinite(ratio).all():
        return np.full(len(ratio), 1 / len(ratio)), np.inf
    log_weight, k = array_stats.psislw(ratio.max() - ratio)  # it takes the log of what it divides by
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum(), float(k)


def _paths(task: Task, max_iterations: int, n_elbo: int) -> tuple[dict[str, Any], dict[str, float]]:
    """One path for every chain."""
    check_count("max_iterations", max_iterations)
    check_count("n_elbo", n_elbo)
    return over_chains(
        _make_path,
        task,
        (task.keys, task.initial),
        n_draws=task.n_draws,
        max_iterations=int(max_iterations),
        n_elbo=int(n_elbo),
    )


def _weighed(bound: Bound, positions: Float[Array, "n n_theta"], log_q: Float[Array, " n"], n_fit: Any) -> Any:
    """What both families hand back: draws, their log density, and how far it is from the approximation's."""
    log_density = jax.vmap(bound.log_density)(positions)
    return {
        "positions": positions,
        "log_density": log_density,
        "log_ratio": log_density - log_q,
        "n_steps": jnp.ones(len(positions), int),
        "n_warmup_steps": jnp.asarray(n_fit),
        "n_nan": jnp.isnan(log_density).sum(),
    }


def _make_path(*, n_draws: int, max_iterations: int, n_elbo: int) -> Callable[..., Any]:
    """One path: `chain(bound, key, position)`."""

    def chain(bound: Bound, key: Key, position: Float[Array, " n_theta"]) -> dict[str, Array]:
        key_path, key_draws = jax.random.split(key)
        state, _ = path.approximate(key_path, bound.log_density, position, n_elbo, maxiter=max_iterations)
        drawn: Any = path.sample(key_draws, state, n_draws)  # pyright: ignore[reportArgumentType]
        positions, log_q = drawn
        return _weighed(bound, positions, log_q, max_iterations * (n_elbo + 1))

    return chain


def _make_full_rank(*, n_draws: int, n_steps: int, n_samples: int, learning_rate: float) -> Callable[..., Any]:
    """One fit: `chain(bound, key, position)`."""
    optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, n_steps))

    def chain(bound: Bound, key: Key, position: Float[Array, " n_theta"]) -> dict[str, Array]:
        key_fit, key_draws = jax.random.split(key)
        algorithm = blackjax.fullrank_vi(bound.log_density, optimiser, n_samples)
        start: Any = algorithm.init(position)
        narrow = start.chol_params.at[: position.size].set(np.log(0.1))  # so that no first draw is far from the start

        def step(state: Any, key: Key) -> tuple[Any, None]:
            return algorithm.step(key, state)[0], None

        start = start._replace(mu=position, chol_params=narrow)
        state, _ = jax.lax.scan(step, start, jax.random.split(key_fit, n_steps))
        positions: Any = algorithm.sample(key_draws, state, n_draws)
        log_q = jax.vmap(full_rank.generate_fullrank_logdensity(state.mu, state.chol_params))(positions)
        return _weighed(bound, positions, log_q, n_steps * n_samples)

    return chain
