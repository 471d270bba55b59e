"""Burst envelopes against Stingray's mean functions (by their formulas), and the burst's moments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.simulators import bursts
from eagleray.simulators.timmer_koenig import fourier_frequencies

TIMES = np.linspace(0.05, 10.0, 200)


def scalars(**values):
    """Parameters in the default type."""
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in values.items()}


def skewed(before, after):
    """One function before time 3, another after it."""
    return lambda t: np.where(t > 3.0, after(t), before(t))


# Stingray 2.3.2, modeling/gpmodeling.py: _gaussian, _skew_gaussian, _skew_exponential, _fred, with A = 1 (importing
# that module would switch the whole process to float64); QPOEstimation, model/mean.py: fred_norris_extended.
FORMULAS = {
    "gaussian": (
        bursts.gaussian_envelope,
        {"peak_time": 3.0, "width": 0.7},
        lambda t: np.exp(-((t - 3.0) ** 2) / (2 * 0.7**2)),
    ),
    "skew_gaussian": (
        bursts.skew_gaussian_envelope,
        {"peak_time": 3.0, "rise": 0.7, "fall": 1.4},
        skewed(lambda t: np.exp(-((t - 3.0) ** 2) / (2 * 0.7**2)), lambda t: np.exp(-((t - 3.0) ** 2) / (2 * 1.4**2))),
    ),
    "skew_exponential": (
        bursts.exponential_envelope,
        {"peak_time": 3.0, "rise": 2 * 0.7**2, "fall": 2 * 1.4**2},
        skewed(lambda t: np.exp((t - 3.0) / (2 * 0.7**2)), lambda t: np.exp(-(t - 3.0) / (2 * 1.4**2))),
    ),
    "fred": (
        bursts.fred_envelope,
        {"start": -0.5, "peak_delay": 2.0, "sharpness": 1.7},
        lambda t: np.exp(-1.7 * ((t + 0.5) / 2.0 + 2.0 / (t + 0.5))) * np.exp(2 * 1.7),
    ),
    "extended": (
        bursts.extended_fred_envelope,
        {"start": -0.5, "peak_delay": 2.0, "sharpness": 1.7, "decay_power": 1.3, "rise_power": 0.6},
        lambda t: np.exp(-((1.7 * (t + 0.5) / 2.0) ** 1.3) - 1.7**0.6 / ((t + 0.5) / 2.0) ** 0.6) * np.exp(2 * 1.7),
    ),
}


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_envelope_is_the_formula(name):
    """To rounding."""
    envelope, values, formula = FORMULAS[name]
    with jax.enable_x64(True):
        np.testing.assert_allclose(envelope(jnp.asarray(TIMES), **scalars(**values)), formula(TIMES), rtol=1e-12)


def test_fred_before_its_start_is_zero_with_zero_gradient():
    """Where the formula divides by zero."""
    values = scalars(start=5.0, peak_delay=1e-3, sharpness=3.0)
    times = jnp.asarray([1.0, 5.0, 5.0 + 1e-6])

    def total(start):
        return bursts.fred_envelope(times, **(values | {"start": start})).sum()

    assert float(total(values["start"])) == 0.0
    assert float(jax.grad(total)(values["start"])) == 0.0


N, DT, N_SIM = 64, 0.1, 4000
ENVELOPE = np.exp(-0.5 * (np.arange(N) * DT - 3.0) ** 2)


@functools.cache
def gaussian_bursts():
    """Bursts of peak rate 500 over a background of 10."""
    power = 0.1 / jnp.asarray(fourier_frequencies(N, DT), jnp.float32)
    envelope = jnp.asarray(ENVELOPE, jnp.float32)
    rate = scalars(peak_rate=500.0, background=10.0)
    simulate = jax.jit(jax.vmap(lambda key: bursts.burst_rate(key, envelope, power, dt=DT, **rate)))
    return np.asarray(simulate(jax.random.split(jax.random.key(1), N_SIM)), np.float64)


def mean_burst(factor=1.0):
    """Deviation of the mean burst from background + peak * envelope * factor, in standard errors."""
    sample = gaussian_bursts()
    expected = 10.0 + 500.0 * ENVELOPE * factor
    return np.abs((sample.mean(0) - expected) / (sample.std(0) / np.sqrt(N_SIM) + 1e-4))[20:40].max()


def test_mean_burst_is_its_envelope():
    """20 bins within 5.5 standard errors: false alarm 8e-7. Twin: 10 % brighter."""
    assert mean_burst() < 5.5
    assert mean_burst(1.1) > 5.5
