"""Gaussian series have the spectrum asked for, and its natural scatter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from eagleray.simulators.timmer_koenig import fourier_frequencies, gaussian_process, long_length, process_variance

DT = 0.5
N_SIM = 4000


def model(n):
    """A red spectrum over white noise, float32."""
    freq = fourier_frequencies(n, DT)
    return jnp.asarray(0.01 * freq**-2.0 + 0.02, jnp.float32)


@functools.cache
def simulated(n):
    """(N_SIM, n) series."""
    draw = jax.jit(jax.vmap(lambda key: gaussian_process(key, model(n), n, DT)))
    return np.asarray(draw(jax.random.split(jax.random.key(n), N_SIM)), np.float64)


def rescaled(n):
    """The same, each series scaled to the expected variance: Timmer & Koenig as often misused."""
    series = simulated(n)
    return series / series.std(axis=1, keepdims=True) * np.sqrt(float(process_variance(model(n), n, DT)))


def periodogram(series):
    """(n_sim, n // 2) powers, Nyquist included."""
    return 2.0 * DT * np.abs(np.fft.rfft(series, axis=1)[:, 1:]) ** 2 / series.shape[1]


def power_scores(series):
    """How far mean powers are from the model, in standard errors of chi-squared powers."""
    n = series.shape[1]
    expected = np.asarray(model(n), np.float64)
    spread = np.full(n // 2, 1.0)
    if n % 2 == 0:
        spread[-1] = np.sqrt(2.0)  # the amplitude at Nyquist is real: one degree of freedom
    return (periodogram(series).mean(axis=0) / expected - 1.0) / (spread / np.sqrt(N_SIM))


def exponential_p_value(series):
    """KS p-value of powers over model against the unit exponential, Nyquist left out."""
    n = series.shape[1]
    ratio = (periodogram(series) / np.asarray(model(n), np.float64))[:, : (n - 1) // 2]
    return stats.kstest(ratio.ravel(), stats.expon.cdf).pvalue


@pytest.mark.parametrize("n", [64, 63])
def test_expected_periodogram_is_the_spectrum(n):
    scores = power_scores(simulated(n))
    assert scores.shape == (n // 2,)
    assert np.abs(scores).max() < 5.5  # false alarm 32 * 4e-8 = 1e-6; the powers' mean is normal enough


@pytest.mark.parametrize("n", [64, 63])
def test_powers_scatter_exponentially_and_independently(n):
    assert exponential_p_value(simulated(n)) > 1e-5  # false alarm 1e-5
    correlation = np.corrcoef(np.log(periodogram(simulated(n))[:, : (n - 1) // 2]), rowvar=False)
    np.fill_diagonal(correlation, 0.0)
    assert np.abs(correlation).max() < 6.0 / np.sqrt(N_SIM)  # 465 pairs: false alarm 1e-6


@pytest.mark.parametrize("n", [64, 63])
def test_rescaling_to_the_expected_rms_fails_the_same_checks(n):
    assert exponential_p_value(rescaled(n)) < 1e-5
    assert np.abs(power_scores(rescaled(n))).max() > 5.5


@pytest.mark.parametrize("n", [64, 63])
def test_variance_is_that_of_the_process_and_scatters(n):
    expected = float(process_variance(model(n), n, DT))
    variance = (simulated(n) ** 2).mean(axis=1)
    assert abs(variance.mean() - expected) < 5.0 * variance.std() / np.sqrt(N_SIM)  # false alarm 6e-7
    assert variance.std() > 0.2 * expected
    np.testing.assert_allclose(simulated(n).mean(axis=1), 0.0, atol=1e-5)
    ends = 0.5 if n % 2 == 0 else 1.0  # a wrong weight of Nyquist would be seen in this sum
    spectrum = np.asarray(model(n), np.float64)
    np.testing.assert_allclose(expected, (spectrum[:-1].sum() + ends * spectrum[-1]) / (n * DT), rtol=1e-5)


def test_strict_mode_and_dtype(strict):
    series = jax.jit(lambda key: gaussian_process(key, model(32), 32, DT))(jax.random.key(0))
    assert (series.shape, series.dtype) == ((32,), jnp.float32)


def test_frequencies_include_nyquist():
    np.testing.assert_allclose(fourier_frequencies(4, DT), [0.5, 1.0])
    np.testing.assert_allclose(fourier_frequencies(5, DT), [0.4, 0.8])


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"power must have shape \(32,\) for a series of 64 bins, got \(33,\)"):
        gaussian_process(jax.random.key(0), jnp.ones(33), 64, DT)


def test_long_length():
    for n_bins, red_noise in ((200, 8.0), (1, 1.0), (97, 3.3)):
        length = long_length(n_bins, red_noise)
        assert n_bins * red_noise <= length <= 1.3 * n_bins * red_noise + 1
    for bad in (0.5, float("nan")):
        with pytest.raises(ValueError, match="red_noise must be at least 1, got"):
            long_length(10, bad)
