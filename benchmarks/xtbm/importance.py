"""Exact posteriors of many data sets by adaptive importance sampling: cheap, independent of chains and of networks.

About the highest of several maxima, positions are proposed by a Student's t that takes its centre and covariance from
the weighted positions of the round before. It is right for posteriors of one mode; few effective draws and a large
Pareto exponent tell where it is not, unless a mode was never met.
"""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from benchmarks.xtbm.packing import Facts
from eagleray.inference.fits import draw_starts, optimise_each
from eagleray.inference.log_density import Target
from eagleray.inference.samplers.variational import psis
from eagleray.priors import Prior
from eagleray.records import Key, Theta

_N_STARTS, _N_OFFERED = 6, 512
_N_ROUNDS, _N_ADAPT = 12, 1500
_LEAST_EFFECTIVE = 150.0
_FREEDOM = 5.0  # of Student's t
_STRETCH = 1.2
_LOWEST = 300.0  # below the highest log weight: nothing
_BATCH = 64  # positions evaluated at once

LogLikelihood = Callable[[Theta, Any], jax.Array]
Proposal = tuple[jax.Array, jax.Array]  # centre, square root of the covariance


def sample_each(
    key: Key, prior: Prior, log_likelihood: LogLikelihood, data: Any, n: int, *, n_proposed: int = 3000
) -> tuple[NDArray[np.floating], list[Facts]]:
    """Draws of many posteriors.

    Args:
        key: Typed PRNG key; consumed.
        prior: Named priors.
        log_likelihood: `log_likelihood(theta, datum)`.
        data: Many data sets: a pytree of arrays with a leading axis.
        n: Draws of each.
        n_proposed: Positions proposed in the last round.

    Returns:
        (n_data, n, n_theta) draws in the prior's order; of each, the share of effective draws among those proposed in
        the last round, their number, the Pareto exponent of their weights, and seconds.
    """
    start = time.perf_counter()
    key_starts, key_draws = jax.random.split(key)
    starts = draw_starts(key_starts, log_likelihood, prior, data, n_starts=_N_STARTS, n_draws=_N_OFFERED)
    fits = optimise_each(log_likelihood, prior, data, starts)
    keys = jax.random.split(key_draws, len(fits.position))
    run = jax.jit(
        functools.partial(jax.lax.map, lambda one: _sample(prior, log_likelihood, *one, n=n, n_proposed=n_proposed))
    )
    theta, log_w = jax.device_get(run((keys, fits.position, data)))
    seconds = (time.perf_counter() - start) / len(keys)
    each = []
    for one in log_w:
        weights, pareto_k = psis(np.maximum(one, one.max() - _LOWEST).astype(np.float64))
        effective = float(1.0 / np.square(weights / weights.sum()).sum())
        share = effective / n_proposed
        each.append({"efficiency": share, "effective": effective, "pareto_k": float(pareto_k), "seconds": seconds})
    return np.stack([theta[name] for name in prior.names], axis=2), each


def _sample(
    prior: Prior, log_likelihood: LogLikelihood, key: Key, position: jax.Array, datum: Any, *, n: int, n_proposed: int
) -> tuple[Theta, jax.Array]:
    """Draws of one posterior, and the log weights that they were drawn by."""
    log_density = Target(prior, lambda theta: log_likelihood(theta, datum)).log_density
    key_last, key_rounds, key_pick = jax.random.split(key, 3)

    def propose(key: Key, proposal: Proposal, n: int) -> tuple[jax.Array, jax.Array]:
        centre, root = proposal
        t = jax.random.t(key, _FREEDOM, (n, position.size), position.dtype)
        positions = centre + _STRETCH * t @ root.T
        log_q = jax.scipy.stats.t.logpdf(t, _FREEDOM).sum(axis=1)
        log_w = jax.lax.map(log_density, positions, batch_size=_BATCH) - log_q
        return positions, jnp.where(jnp.isfinite(log_w), log_w, -jnp.inf)

    def adapt(proposal: Proposal, key: Key) -> tuple[Proposal, None]:
        positions, log_w = propose(key, proposal, _N_ADAPT)
        weights = _tempered(log_w)
        centre = weights @ positions
        covariance = (weights[:, None] * (positions - centre)).T @ (positions - centre)
        return (centre, jnp.linalg.cholesky(covariance + 1e-8 * jnp.eye(position.size))), None

    first = position, _root_of_covariance(-jax.hessian(log_density)(position))
    proposal, _ = jax.lax.scan(adapt, first, jax.random.split(key_rounds, _N_ROUNDS))
    positions, log_w = propose(key_last, proposal, n_proposed)
    return jax.vmap(prior.constrain)(positions[_picked(key_pick, log_w, n)]), log_w


def _picked(key: Key, log_w: jax.Array, n: int) -> jax.Array:
    """Places of n draws by weight, in random order; systematic, as repeats give draws away to a classifier."""
    key_step, key_order = jax.random.split(key)
    steps = (jax.random.uniform(key_step, dtype=log_w.dtype) + jnp.arange(n)) / n
    places = jnp.searchsorted(jnp.cumsum(jax.nn.softmax(log_w)), steps)
    return jax.random.permutation(key_order, jnp.minimum(places, log_w.size - 1))


def _tempered(log_w: jax.Array) -> jax.Array:
    """Weights to the highest of the powers 1, 1/2, 1/4, ... that leaves enough effective draws, or to the last."""
    each = jax.nn.softmax(log_w * 0.5 ** jnp.arange(12.0)[:, None], axis=1)
    enough = 1.0 / jnp.square(each).sum(axis=1) >= _LEAST_EFFECTIVE
    return each[jnp.where(enough.any(), jnp.argmax(enough), -1)]


def _root_of_covariance(precision: jax.Array) -> jax.Array:
    """A square root of the inverse of a matrix, with eigenvalues brought into a range that a prior's width allows."""
    values, vectors = jnp.linalg.eigh(precision)
    return vectors / jnp.sqrt(jnp.clip(values, 0.3, None))
