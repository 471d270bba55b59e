"""The no-U-turn sampler where the answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.inference.log_density import log_posterior
from eagleray.inference.samplers import nuts
from eagleray.likelihoods.whittle import whittle
from eagleray.priors import Prior

MEAN = np.array([1.0, -2.0])
COVARIANCE = np.array([[1.0, 0.09], [0.09, 0.01]])  # correlation 0.9, scales 1 and 0.1
PRECISION = jnp.asarray(np.linalg.inv(COVARIANCE), jnp.float32)


def log_gaussian(position):
    """A correlated Gaussian."""
    offset = position - jnp.asarray(MEAN, jnp.float32)
    return -0.5 * offset @ PRECISION @ offset


@pytest.fixture(scope="module")
def gaussian_chains():
    initial = jnp.asarray(MEAN + np.array([[0, 0], [1, 0], [-1, 0.1], [0, -0.1]]), jnp.float32)
    return nuts(jax.random.key(0), log_gaussian, initial, n_warmup=300, n_draws=500)


def departures(draws, mean, covariance):
    """Worst departure of mean [sd] and of each covariance [product of sds]."""
    sd = np.sqrt(np.diag(covariance))
    covariances = np.abs(np.cov(draws, rowvar=False) - covariance) / np.outer(sd, sd)
    return np.abs((draws.mean(axis=0) - mean) / sd).max(), covariances.max()


def test_correlated_gaussian(gaussian_chains):
    """2000 draws worth 600 or more independent ones: 0.2 and 0.3 are five standard errors, false alarm 3e-6."""
    draws = gaussian_chains.positions.reshape(-1, 2).astype(np.float64)
    off_mean, off_covariance = departures(draws, MEAN, COVARIANCE)
    assert off_mean < 0.2
    assert off_covariance < 0.3
    # Twins: a mean off by half a standard deviation, and no correlation.
    assert departures(draws, MEAN + np.array([0.5, 0.0]), COVARIANCE)[0] > 0.2
    assert departures(draws, MEAN, np.diag(np.diag(COVARIANCE)))[1] > 0.3


def test_chains_report_on_themselves(gaussian_chains):
    chains = gaussian_chains
    assert chains.positions.shape == (4, 500, 2)
    assert chains.log_density.shape == chains.divergent.shape == chains.acceptance.shape == (4, 500)
    assert chains.divergent.dtype == bool
    assert not chains.divergent.any()
    assert 0.6 < chains.acceptance.mean() < 0.97
    expected = jax.jit(jax.vmap(jax.vmap(log_gaussian)))(chains.positions)
    np.testing.assert_allclose(chains.log_density, expected, atol=1e-3)


def test_every_chain_keeps_its_own_step(gaussian_chains):
    assert gaussian_chains.step_size.shape == (4,)
    assert len(np.unique(gaussian_chains.step_size)) == 4


def test_whittle_likelihood_of_a_white_level():
    """With a flat prior on ln(level) the posterior of a constant spectrum's level is an inverse gamma."""
    n, level = 100, 3.0
    power = np.random.default_rng(0).exponential(level, n)
    prior = Prior({"level": "loguniform(1e-4, 1e5)"})
    observed = jnp.asarray(power, jnp.float32)
    density = log_posterior(prior, lambda theta: whittle(observed, jnp.full(n, 1.0) * theta["level"]))
    start = jax.vmap(prior.unconstrain)({"level": jnp.array([2.0, 3.0, 4.0], jnp.float32)})
    chains = nuts(jax.random.key(1), density, start, n_warmup=300, n_draws=700)
    draws = np.asarray(jax.jit(jax.vmap(prior.constrain))(chains.positions.reshape(-1, 1))["level"], np.float64)
    mean = power.sum() / (n - 1)
    sd = mean / np.sqrt(n - 2)
    assert abs(draws.mean() - mean) / sd < 0.25  # 2100 draws worth 500 or more: false alarm below 1e-7
    assert abs(draws.std() / sd - 1.0) < 0.2
    # Twins: half as many powers would be this much wider, and a flat prior on the level shifts the mean by 2 / sqrt(n).
    assert abs(draws.std() / (mean / np.sqrt(n / 2 - 2)) - 1.0) > 0.2


def test_log_posterior_is_likelihood_prior_and_jacobian(strict):
    prior = Prior({"b": "loguniform(0.1, 10)", "a": "normal(1, 2)"})
    density = log_posterior(prior, lambda theta: -((theta["a"] - theta["b"]) ** 2))
    position = jnp.array([0.3, -0.7], jnp.float32)
    theta = prior.constrain(position)
    expected = -((theta["a"] - theta["b"]) ** 2) + prior.log_prob(theta) + prior.log_det(position)
    np.testing.assert_allclose(jax.jit(density)(position), expected, rtol=1e-5)


def test_not_a_number_stays_one():
    prior = Prior({"a": "normal(0, 1)"})
    assert np.isnan(log_posterior(prior, lambda theta: jnp.nan * theta["a"])(jnp.zeros(1)))
