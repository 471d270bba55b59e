"""Two bands: identities with Gamma and single amplitudes, the sign of the lag, what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.likelihoods.whittle import averaged_powers
from eagleray.likelihoods.wishart import SpectralMatrix, fourier_amplitudes, spectral_matrix, wishart

N, M = 6, 5
RNG = np.random.default_rng(5)
SEGMENTS = RNG.normal(size=(2, M, N, 2)) @ np.array([1.0, 1j])
OBSERVED = SpectralMatrix(
    (np.abs(SEGMENTS[0]) ** 2).mean(0),
    (np.abs(SEGMENTS[1]) ** 2).mean(0),
    (np.conj(SEGMENTS[0]) * SEGMENTS[1]).mean(0),
)
SIGNAL = np.linspace(3.0, 0.5, N)


def model(coherence, lag):
    return spectral_matrix(SIGNAL, 0.8 * SIGNAL, coherence, lag, 2.0, 1.7)


def test_spectral_matrix():
    """Noise adds to the powers; coherence and phase lag are those of the signals."""
    with jax.enable_x64(True):
        power1, power2, cross = model(0.49, -0.3)
        np.testing.assert_allclose(power1, SIGNAL + 2.0)
        np.testing.assert_allclose(power2, 0.8 * SIGNAL + 1.7)
        np.testing.assert_allclose(cross, 0.7 * np.sqrt(0.8) * SIGNAL * np.exp(-0.3j))


def test_without_cross_spectrum_it_is_two_gamma_likelihoods():
    """And the density of the cross spectrum of independent bands, (m - 1) (1 - coherence)^(m - 2) / (pi P1 P2)."""
    p1, p2, cross = OBSERVED
    with jax.enable_x64(True):
        expected = model(0.0, 0.0)
        separate = averaged_powers(p1, expected.power1, M) + averaged_powers(p2, expected.power2, M)
        rest = np.log((M - 1) * (1 - np.abs(cross) ** 2 / (p1 * p2)) ** (M - 2) / (np.pi * p1 * p2)).sum()
        assert float(wishart(OBSERVED, expected, M)) == pytest.approx(float(separate) + rest, rel=1e-12)


def test_it_is_the_sum_over_segments_up_to_a_constant():
    with jax.enable_x64(True):

        def difference(expected):
            single = jax.vmap(fourier_amplitudes, (0, 0, None))(*jnp.asarray(SEGMENTS), expected).sum()
            return float(wishart(OBSERVED, expected, M) - single)

        assert difference(model(0.6, 0.4)) == pytest.approx(difference(model(0.1, -1.0)), rel=1e-10)


def test_lag_is_positive_where_the_first_band_lags():
    """A wave that reaches the first band two bins late; exchanging the bands changes the sign."""
    n_bins, late = 64, 2
    wave = np.random.default_rng(6).normal(size=n_bins)
    second, first = np.fft.rfft(wave)[1:9], np.fft.rfft(np.roll(wave, late))[1:9]
    lag = 2 * np.pi * np.arange(1, 9) * late / n_bins
    signal = np.full(8, float(n_bins))
    positive, negative = (
        float(fourier_amplitudes(first, second, spectral_matrix(signal, signal, 0.99, sign * lag, 1.0, 1.0)))
        for sign in (1.0, -1.0)
    )
    assert positive > negative + 10.0
    exchanged = fourier_amplitudes(second, first, spectral_matrix(signal, signal, 0.99, -lag, 1.0, 1.0))
    assert float(exchanged) == pytest.approx(positive, rel=1e-4)


def test_rebinned_and_traced_averages():
    """Arrays of averages, the smallest included; many averages in float32; NaN where a traced m is one."""
    m = np.array([2, 2, 5, 5, 5000, 5000])
    expected = model(0.5, 0.2)
    observed = SpectralMatrix(*(np.asarray(part) * 1.01 for part in expected))
    with jax.enable_x64(True):
        exact = float(wishart(observed, expected, m))
    assert float(wishart(observed, expected, m)) == pytest.approx(exact, rel=1e-4)
    traced = jax.jit(wishart)
    assert float(traced(observed, expected, jnp.asarray(m))) == pytest.approx(exact, rel=1e-4)
    assert jnp.isnan(traced(observed, expected, jnp.ones(N)))


def test_refusals():
    with pytest.raises(ValueError, match=r"m must be at least 2, got 1"):
        wishart(OBSERVED, model(0.5, 0.0), 1)
    with pytest.raises(ValueError, match=r"model power2 must have shape \(\) or \(6,\), got \(5,\)"):
        wishart(OBSERVED, model(0.5, 0.0)._replace(power2=np.ones(5)), 3)
    with pytest.raises(ValueError, match=r"amplitude2 must have shape \(\) or \(6,\), got \(5,\)"):
        fourier_amplitudes(SEGMENTS[0, 0], SEGMENTS[1, 0, :5], model(0.5, 0.0))
    with pytest.raises(ValueError, match=r"phase_lag must have shape \(\) or \(6,\), got \(5,\)"):
        model(0.5, np.ones(5))
