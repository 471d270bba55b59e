"""Posteriors of the time-domain likelihoods are calibrated for what the simulators draw; wrong ones are found out."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sbc

from eagleray.likelihoods.gaussian_process import (
    autocovariance_of_power,
    damped_oscillator,
    damped_random_walk,
    gaussian_process_log_likelihood,
    stationary_log_likelihood,
)
from eagleray.likelihoods.whittle import whittle
from eagleray.priors import Prior
from eagleray.simulators import state_space
from eagleray.simulators.shapes import power_law
from eagleray.simulators.timmer_koenig import fourier_frequencies, gaussian_process

N = 24
TIMES = np.cumsum(np.random.default_rng(8).exponential(1.0, N)).astype(np.float32)
NOISE = np.random.default_rng(9).uniform(0.1, 0.5, N).astype(np.float32)

IRREGULAR = {
    "random_walk": (
        {"sigma": "lognormal(0, 0.5)", "tau": "lognormal(1, 0.7)"},
        state_space.damped_random_walk,
        damped_random_walk,
    ),
    "oscillator": (
        {"sigma": "lognormal(0, 0.5)", "freq": "lognormal(-2, 0.3)", "quality": "lognormal(0.5, 0.7)"},
        state_space.damped_oscillator,
        damped_oscillator,
    ),
}


def irregular_ranks(name, noise_factor, n_simulations):
    """Ranks for simulated light curves with measurement noise, of which the likelihood knows `noise_factor`."""
    priors, simulator, make = IRREGULAR[name]

    def simulate(key, theta):
        key_source, key_noise = jax.random.split(key)
        noise = jnp.sqrt(NOISE) * jax.random.normal(key_noise, (N,))
        return simulator(key_source, jnp.asarray(TIMES), **theta) + noise

    def log_likelihood(theta, values):
        return gaussian_process_log_likelihood(make(**theta), TIMES, values, noise_factor * NOISE)

    return sbc.ranks(jax.random.key(1), Prior(priors), simulate, log_likelihood, n_simulations=n_simulations)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(IRREGULAR))
def test_irregular_times(name):
    """Exact steps between irregular times, unequal noise; false alarm 1e-4."""
    sbc.assert_uniform(irregular_ranks(name, 1.0, 400))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(IRREGULAR))
def test_forgotten_noise_is_found_out(name):
    """Stingray's Gaussian processes have no measurement noise; a hundredth stands for none."""
    sbc.assert_not_uniform(irregular_ranks(name, 0.01, 400))


N_BINS, N_LONG, LEVEL = 32, 512, 0.02
REGULAR = {"norm": "lognormal(0, 1)", "slope": "uniform(1.5, 3)"}
PIVOT = 0.1


def leaky_red_noise(key, theta):
    """A window cut from a power law's long series, with white noise."""
    key_source, key_noise = jax.random.split(key)
    series = gaussian_process(key_source, long_power(theta), N_LONG, 1.0)[:N_BINS]
    return series + jnp.sqrt(LEVEL) * jax.random.normal(key_noise, (N_BINS,))


def long_power(theta, n=N_LONG):
    """Power law at the Fourier frequencies of a series."""
    freq = jnp.asarray(fourier_frequencies(n, 1.0), jnp.float32)
    return theta["norm"] * power_law(freq / PIVOT, slope=theta["slope"])


@functools.cache
def regular_ranks(kind):
    """Ranks for leaky red noise by the exact likelihood or Whittle's, whose powers are those of the window."""

    def exact(theta, values):
        covariance = autocovariance_of_power(long_power(theta), N_LONG, 1.0)[:N_BINS]
        return stationary_log_likelihood(covariance, values, LEVEL)

    def by_whittle(theta, values):
        observed = 2.0 / N_BINS * jnp.abs(jnp.fft.rfft(values - values.mean())[1:-1]) ** 2
        return whittle(observed, long_power(theta, N_BINS)[:-1] + 2.0 * LEVEL)

    log_likelihood = {"exact": exact, "whittle": by_whittle}[kind]
    return sbc.ranks(jax.random.key(2), Prior(REGULAR), leaky_red_noise, log_likelihood, n_simulations=200)


@pytest.mark.slow
def test_leaky_red_noise():
    """The window of a sixteen times longer series: the exact likelihood is calibrated (false alarm 1e-4)."""
    sbc.assert_uniform(regular_ranks("exact"))


@pytest.mark.slow
def test_whittle_fails_on_leaky_red_noise():
    """Whittle's likelihood on the same windows is not: leakage flattens their spectra."""
    sbc.assert_not_uniform(regular_ranks("whittle"))
