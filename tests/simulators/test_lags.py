"""Several bands: Stingray's cross spectrum finds the spectra, coherence and lags that went in, with its signs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stingray

from eagleray.simulators import lags
from eagleray.simulators.shapes import power_law
from eagleray.simulators.timmer_koenig import fourier_frequencies

pytestmark = [
    pytest.mark.filterwarnings("ignore:SIMON says"),  # Stingray, on Gaussian errors
    pytest.mark.filterwarnings("ignore:invalid value encountered in sqrt"),  # Stingray, in errors of coherent bands
]

N, DT, M = 128, 0.125, 400
FREQ = fourier_frequencies(N, DT)
MEAN = 1000.0


def segments(draws):
    """Independent draws, end to end, as one Stingray light curve with a small variability."""
    counts = MEAN + draws.reshape(-1)
    return stingray.Lightcurve(
        (np.arange(counts.size) + 0.5) * DT, counts, dt=DT, err=np.ones_like(counts), err_dist="gauss", skip_checks=True
    )


def pairs(lag, coherence):
    """Draws of two bands."""
    freq = jnp.asarray(FREQ, jnp.float32)
    power = power_law(freq, slope=jnp.asarray(1.0))

    def draw(key):
        return lags.lagged_pair(key, power, 2.0 * power, coherence=coherence + 0.0 * freq, lag=lag(freq), n=N, dt=DT)

    return np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(8), M)), np.float64)


def cross_spectrum(draws):
    """Stingray's averaged cross spectrum of the two bands."""
    return stingray.AveragedCrossspectrum(
        segments(draws[:, 0]), segments(draws[:, 1]), segment_size=N * DT, norm="none", silent=True
    )


@functools.cache
def delayed(tau, coherence):
    """Stingray's cross spectrum of draws with a time lag."""
    return cross_spectrum(pairs(lambda freq: lags.phase_lag(tau + 0.0 * freq, freq), coherence))


def lag_score(sign):
    """Chi-squared per degree of freedom of Stingray's phase lags about the lags asked for times a sign."""
    tau, coherence = 0.05, 0.8
    cross = delayed(tau, coherence)
    error = np.sqrt((1 - coherence) / (2 * coherence * M))
    deviation = np.angle(np.exp(1j * (np.angle(cross.power) - sign * 2 * np.pi * cross.freq * tau)))
    return np.mean((deviation / error) ** 2)


def test_positive_time_lag_is_stingrays():
    """62 phases: chi-squared / 62 below 2 has false alarm 4e-6. Twin: the opposite sign."""
    assert lag_score(1.0) < 2.0
    assert lag_score(-1.0) > 100.0


def test_time_lag_sign():
    """`time_lag()` itself is positive and of the right size where band 1 lags band 2."""
    cross = delayed(0.05, 1.0)
    measured = cross.time_lag()
    measured = measured[0] if isinstance(measured, tuple) else measured
    np.testing.assert_allclose(measured, 0.05, atol=1e-4)


@pytest.mark.parametrize("coherence", [0.0, 0.3, 0.9])
def test_coherence_and_powers(coherence):
    """Coherence and spectra within 5.5 standard errors at each of 63 frequencies: false alarm 5e-6."""
    draws = pairs(lambda freq: 0.4 + 0.0 * freq, coherence)
    first, second = np.fft.rfft(draws, axis=-1)[:, :, 1:-1].transpose(1, 0, 2) * np.sqrt(2 * DT / N)
    power = FREQ[:-1] ** -1.0
    for transform, expected in ((first, power), (second, 2.0 * power)):
        assert np.abs((np.abs(transform) ** 2).mean(0) / expected - 1.0).max() < 5.5 / np.sqrt(M)
    cross = (first.conj() * second).mean(0) / (np.sqrt(2.0) * power)
    expected = np.sqrt(coherence) * np.exp(0.4j)
    assert np.abs((cross - expected).real).max() < 5.5 / np.sqrt(M)
    assert np.abs((cross - expected).imag).max() < 5.5 / np.sqrt(M)
    assert np.abs((cross - np.exp(0.4j)).real).max() > 5.5 / np.sqrt(M) or coherence > 0.8  # twin: full coherence


def test_driven_bands_have_product_coherence():
    """Band i lags band j by the difference of their lags, with the product of their coherences."""
    freq = jnp.asarray(FREQ, jnp.float32)
    ones = jnp.ones_like(freq)
    level = jnp.stack([1.0 * ones, 0.5 * ones, 0.8 * ones])
    phase = jnp.stack([0.0 * ones, 0.3 * ones, -0.2 * ones])
    matrix = np.asarray(lags.driven_matrix(jnp.stack([ones, ones, ones]), level, phase))
    np.testing.assert_allclose(np.abs(matrix[:, 1, 2]) ** 2, 0.4, rtol=1e-5)
    np.testing.assert_allclose(np.angle(matrix[:, 1, 2]), 0.5, rtol=1e-5)
    np.testing.assert_allclose(np.diagonal(matrix, axis1=1, axis2=2), 1.0, rtol=1e-5)
    assert np.linalg.eigvalsh(matrix).min() > -1e-6


def test_two_band_case_of_driven_is_pair():
    """The two constructions agree."""
    freq = jnp.asarray(FREQ, jnp.float32)
    ones = jnp.ones_like(freq)
    driven = lags.driven_matrix(
        jnp.stack([ones, 2.0 * ones]), jnp.stack([0.6 * ones, ones]), jnp.stack([0.3 * ones, 0.0 * ones])
    )
    np.testing.assert_allclose(driven, lags.pair_matrix(ones, 2.0 * ones, 0.6 * ones, 0.3 * ones), rtol=1e-5)


def test_delayed_copy_is_band_one():
    """Full coherence and a delay of whole bins: band 1 is band 2, later."""
    freq = jnp.asarray(FREQ, jnp.float32)
    power = jnp.where(jnp.arange(N // 2) < N // 2 - 1, 1.0, 0.0)  # no Nyquist, which cannot carry a phase
    first, second = lags.lagged_pair(
        jax.random.key(2),
        power,
        power,
        coherence=1.0 + 0.0 * freq,
        lag=lags.phase_lag(3 * DT + 0.0 * freq, freq),
        n=N,
        dt=DT,
    )
    np.testing.assert_allclose(first, np.roll(second, 3), atol=2e-4 * float(jnp.abs(first).max()))


def test_wrong_number_of_frequencies_is_refused():
    """n // 2 matrices."""
    with pytest.raises(ValueError, match="n // 2 = 64 frequencies"):
        lags.correlated_processes(jax.random.key(0), jnp.zeros((3, 2, 2), jnp.complex64), N, DT)
