"""Simulation-based calibration of exact likelihoods: the truth's rank among NUTS draws, many data sets at once."""

from collections.abc import Callable
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from eagleray.inference.log_density import log_posterior
from eagleray.priors import Prior

_THIN = 10


def ranks(
    key: jax.Array,
    prior: Prior,
    simulate: Callable[[jax.Array, Any], Any],
    log_likelihood: Callable[[Any, Any], jax.Array],
    *,
    n_simulations: int = 400,
    n_warmup: int = 300,
    n_draws: int = 19,
) -> np.ndarray:
    """Ranks (n_simulations, n_theta), 0 to n_draws, of true parameters among thinned posterior draws.

    `simulate(key, theta) -> data` (any pytree of fixed shapes) and `log_likelihood(theta, data) -> scalar` are traced.
    Every data set has one chain, started at the truth, so that calibration and not burn-in is tested.
    """

    def one(key: jax.Array) -> jax.Array:
        key_theta, key_data, key_warmup, key_draws = jax.random.split(key, 4)
        theta = prior.sample(key_theta)
        data = simulate(key_data, theta)
        log_density = log_posterior(prior, lambda theta: log_likelihood(theta, data))
        truth = prior.unconstrain(theta)
        warmup: Any = blackjax.window_adaptation(blackjax.nuts, log_density)
        (state, tuned), _ = warmup.run(key_warmup, truth, num_steps=n_warmup)
        kernel: Any = blackjax.nuts(log_density, **tuned, max_num_doublings=6).step

        def step(state: Any, key: jax.Array) -> tuple[Any, jax.Array]:
            state, _ = jax.lax.scan(lambda s, k: (kernel(k, s)[0], None), state, jax.random.split(key, _THIN))
            return state, state.position

        _, draws = jax.lax.scan(step, state, jax.random.split(key_draws, n_draws))
        return (draws < truth).sum(axis=0)

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(key, n_simulations)))


def uniformity(ranks: np.ndarray, n_draws: int = 19, n_bins: int = 5) -> float:
    """Smallest chi-squared p-value of the parameters' rank histograms, times the number of parameters (Bonferroni)."""
    edges = np.linspace(0, n_draws + 1, n_bins + 1) - 0.5
    counts = np.stack([np.histogram(column, edges)[0] for column in ranks.T])
    return float(min(1.0, stats.chisquare(counts, axis=1).pvalue.min() * len(counts)))


def assert_uniform(ranks: np.ndarray, n_draws: int = 19) -> None:
    """Fail if the ranks are not those of a calibrated posterior (false alarm 1e-4)."""
    assert jnp.isfinite(ranks).all()
    assert uniformity(ranks, n_draws) > 1e-4


def assert_not_uniform(ranks: np.ndarray, n_draws: int = 19) -> None:
    """Fail unless the ranks betray a wrong posterior."""
    assert uniformity(ranks, n_draws) < 1e-4
