"""Log-normal rates have the mean and the spectrum asked for; the logarithm is Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from eagleray.simulators.lognormal import log_normal_rate, log_spectrum
from eagleray.simulators.timmer_koenig import fourier_frequencies, gaussian_process, process_variance

N, DT, MEAN, RMS = 128, 2.0, 7.0, 0.6
N_SIM = 6000
FREQ = fourier_frequencies(N, DT)
_SHAPE = FREQ**-1.0
POWER = jnp.asarray(RMS**2 * _SHAPE / ((_SHAPE.sum() - 0.5 * _SHAPE[-1]) / (N * DT)), jnp.float32)


def naive_rate(key, power, mean, n, dt):
    """The mistake: the spectrum of the rate used as that of its logarithm."""
    return mean * jnp.exp(gaussian_process(key, power, n, dt) - 0.5 * process_variance(power, n, dt))


def simulate(maker, seed):
    """(N_SIM, N) rates, float64."""
    draw = jax.jit(jax.vmap(lambda key: maker(key, POWER, jnp.float32(MEAN), N, DT)))
    return np.asarray(draw(jax.random.split(jax.random.key(seed), N_SIM)), np.float64)


@pytest.fixture(scope="module")
def right():
    return simulate(log_normal_rate, 0)


@pytest.fixture(scope="module")
def naive():
    return simulate(naive_rate, 1)


def spectrum_scores(rate):
    """Departure of the mean powers from the model, in standard errors, a model error of 1 % allowed for."""
    power = 2.0 * DT * np.abs(np.fft.rfft(rate / MEAN, axis=1)[:, 1:]) ** 2 / N
    departure = power.mean(axis=0) - np.asarray(POWER, np.float64)
    allowed = 0.01 * np.asarray(POWER, np.float64)
    return np.maximum(np.abs(departure) - allowed, 0.0) / (power.std(axis=0) / np.sqrt(N_SIM))


def rms_score(rate):
    """Departure of the fractional variance about the process mean, in standard errors."""
    variance = ((rate / MEAN - 1.0) ** 2).mean(axis=1)
    return abs(variance.mean() - RMS**2) / (variance.std() / np.sqrt(N_SIM))


def test_mean(right):
    means = right.mean(axis=1)
    assert right.min() > 0
    assert abs(means.mean() - MEAN) < 5.0 * right[:, 0].std() / np.sqrt(N_SIM)  # false alarm below 6e-7


def test_spectrum_and_rms(right):
    assert spectrum_scores(right).max() < 6.0  # 64 powers with heavy tails: false alarm below 1e-4
    assert rms_score(right) < 5.0  # false alarm 1e-5


def test_naive_exponentiation_fails(naive):
    assert spectrum_scores(naive).max() > 6.0
    assert rms_score(naive) > 5.0


def test_logarithm_is_gaussian(right):
    log_power = log_spectrum(POWER, N, DT)
    variance = float(process_variance(log_power, N, DT))
    law = stats.norm(np.log(MEAN) - 0.5 * variance, np.sqrt(variance))
    assert stats.kstest(np.log(right[:, 5]), law.cdf).pvalue > 1e-5  # false alarm 1e-5
    assert stats.kstest(np.log(right[:, 5]), stats.norm(np.log(MEAN), np.sqrt(variance)).cdf).pvalue < 1e-5  # twin


def test_weak_variability_needs_no_correction():
    weak = 1e-4 * POWER
    np.testing.assert_allclose(log_spectrum(weak, N, DT), weak, rtol=2e-3)


def test_impossible_spectra_stay_finite_and_positive():
    """A narrow line of rms 3 is no log-normal process; the powers that would be negative become zero."""
    line = jnp.zeros(N // 2, jnp.float32).at[10].set(9.0 * N * DT)
    log_power = log_spectrum(line, N, DT)
    assert np.isfinite(log_power).all()
    assert (np.asarray(log_power) >= 0).all()


def test_strict_mode(strict):
    rate = jax.jit(lambda key: log_normal_rate(key, POWER, jnp.float32(MEAN), N, DT))(jax.random.key(2))
    assert (rate.shape, rate.dtype) == ((N,), jnp.float32)
