"""The bispectrum is Stingray's where its definition holds; the bicoherence finds coupled phases and no others."""

import warnings
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.summaries.bispectrum import LagWindow, bicoherence, cumulant_bispectrum, lag_window, third_cumulant

DT = 0.5


def skewed(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.exp(np.convolve(rng.normal(size=n + 8), np.ones(4) / 3.0, "valid")[:n]) + 5.0


def stingray_bispectrum(values, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from stingray import Lightcurve
        from stingray.bispectrum import Bispectrum

        curve = Lightcurve(
            np.arange(values.size) * DT, values, dt=DT, err=np.ones(values.size), err_dist="gauss", skip_checks=True
        )
        return Bispectrum(curve, **kwargs)


@pytest.mark.parametrize(
    ("n", "max_lag", "scale", "window"),
    [
        (32, None, "biased", None),
        (33, 9, "unbiased", "parzen"),
        (32, 8, "biased", "hanning"),
        (33, 16, "unbiased", None),
    ],
)
def test_cumulant_and_bispectrum_are_stingrays(n, max_lag, scale, window):
    values = skewed(n)
    theirs = stingray_bispectrum(values, maxlag=max_lag, scale=scale, window=window)
    with jax.enable_x64(True):
        ours = jax.jit(
            lambda x: cumulant_bispectrum(x, DT, max_lag=max_lag, scale=scale, window=window, stingray_compat=True)
        )(jnp.asarray(values))
        size = np.abs(theirs.cum3).max()
        np.testing.assert_allclose(ours.cumulant, theirs.cum3, rtol=1e-10, atol=1e-13 * size)
        np.testing.assert_allclose(ours.bispectrum, theirs.bispec, rtol=1e-10, atol=1e-11 * np.abs(theirs.bispec).max())
        np.testing.assert_allclose(ours.lags, theirs.lags)
        np.testing.assert_allclose(ours.freq, theirs.freq)
    single = third_cumulant(jnp.asarray(values, jnp.float32), ours.lags.size // 2, scale=scale)
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, theirs.cum3, atol=1e-5 * size)


@pytest.mark.parametrize("window", get_args(LagWindow))
@pytest.mark.parametrize("n_lags", [9, 19])
def test_lag_windows_are_stingrays(window, n_lags):
    from stingray.utils import create_window

    ours = lag_window(window, n_lags, stingray_compat=True)
    np.testing.assert_allclose(ours, create_window(n_lags, window), atol=1e-14)
    np.testing.assert_allclose(ours, lag_window(window, n_lags), atol=2e-3 if window == "parzen" else 0.0)


def test_frequencies_and_symmetry():
    """The default has the frequencies of its transform and keeps the symmetry c(i, j) = c(-i, j - i)."""
    values = jnp.asarray(skewed(48), jnp.float32)
    ours = cumulant_bispectrum(values, DT, max_lag=10, window="parzen")
    np.testing.assert_allclose(ours.freq, np.fft.fftshift(np.fft.fftfreq(21, DT)), atol=1e-12)
    ones = {
        compat: np.asarray(
            cumulant_bispectrum(values, DT, max_lag=10, window="parzen", stingray_compat=compat).bispectrum
        )
        for compat in (False, True)
    }
    # In the transform that is B(f1, f2) = B(f2, -f1 - f2): entries 10 + k.
    k1, k2 = np.meshgrid(np.arange(-4, 5), np.arange(-4, 5), indexing="ij")
    for compat, spectrum in ones.items():
        other = spectrum[10 + k2, 10 - k1 - k2]
        same = np.abs(spectrum[10 + k1, 10 + k2] - other).max() < 1e-4 * np.abs(spectrum).max()
        assert same == (not compat)


N_SEGMENTS, N_BINS = 400, 64


def three_waves(coupled, seed=0):
    """Segments of waves at entries 7, 12 and their sum, whose phase is the sum of phases or its own; and noise."""
    rng = np.random.default_rng(seed)
    phase_1, phase_2, phase_3 = rng.uniform(0.0, 2 * np.pi, (3, N_SEGMENTS, 1))
    phase_3 = phase_1 + phase_2 + 0.7 if coupled else phase_3
    angle = 2.0 * np.pi * np.arange(N_BINS) / N_BINS
    waves = np.cos(8 * angle + phase_1) + np.cos(13 * angle + phase_2) + np.cos(21 * angle + phase_3)
    return jnp.asarray(waves + 0.3 * rng.normal(size=(N_SEGMENTS, N_BINS)) + 10.0, jnp.float32)


def test_coupled_phases_are_found():
    found = jax.jit(lambda x: bicoherence(x, DT))(three_waves(coupled=True))
    assert float(found.squared[7, 12]) > 0.9
    assert float(found.biphase[7, 12]) == pytest.approx(-0.7, abs=0.05)
    # Twin: the same waves of independent phases. b^2 is exponential of mean 1/400: below 17/400 but for 4e-8.
    apart = jax.jit(lambda x: bicoherence(x, DT))(three_waves(coupled=False))
    assert float(apart.squared[7, 12]) < 17.0 / N_SEGMENTS


def test_bicoherence_is_its_definition():
    values = np.random.default_rng(3).gamma(2.0, size=(5, 18))
    with jax.enable_x64(True):
        ours = jax.tree.map(np.asarray, bicoherence(jnp.asarray(values), DT, n_freq=6))
    f = np.fft.fft(values, axis=1)
    for i in range(6):
        for j in range(6):
            k1, k2, k3 = i + 1, j + 1, i + j + 2
            if k3 > 8:
                assert np.isnan(ours.squared[i, j])
                continue
            triple = (f[:, k1] * f[:, k2] * f[:, k3].conj()).mean()
            norm = (np.abs(f[:, k1] * f[:, k2]) ** 2).mean() * (np.abs(f[:, k3]) ** 2).mean()
            np.testing.assert_allclose(ours.bispectrum[i, j], triple, rtol=1e-10)
            np.testing.assert_allclose(ours.squared[i, j], np.abs(triple) ** 2 / norm, rtol=1e-10)
            assert 0 <= ours.squared[i, j] <= 1


def test_noise_has_the_bicoherence_of_its_number_of_segments():
    """Mean of m b^2 is 1 for Gaussian noise; over about 480 pairs it is known to 5 %. False alarm 6e-7."""
    values = jax.random.normal(jax.random.key(1), (300, N_BINS))
    squared = np.asarray(bicoherence(values, DT).squared)
    pairs = squared[np.tril(np.isfinite(squared))] * 300
    allowed = 5.0 / np.sqrt(pairs.size)
    assert abs(pairs.mean() - 1.0) < allowed
    skew = np.asarray(bicoherence(values + 0.5 * values**2, DT).squared)  # twin
    assert abs((skew[np.tril(np.isfinite(skew))] * 300).mean() - 1.0) > allowed


def test_gradients_and_batches(strict):
    values = jnp.asarray(np.stack([skewed(24, seed=s) for s in range(3)]), jnp.float32)

    def loss(x):
        squared = bicoherence(x.reshape(3, 8), DT).squared
        spectrum = cumulant_bispectrum(x, DT, max_lag=5, window="welch", scale="unbiased").bispectrum
        return jnp.where(jnp.isnan(squared), 0.0, squared).sum() + spectrum.real.sum()

    gradients = jax.jit(jax.vmap(jax.grad(loss)))(values)
    assert bool(jnp.isfinite(gradients).all())


def test_error_messages():
    values = jnp.ones(16)
    with pytest.raises(ValueError, match="scale must be one of"):
        third_cumulant(values, 4, scale="no")
    for bad in (0, 9):
        with pytest.raises(ValueError, match="max_lag must be between 1 and half the 16 bins, got"):
            third_cumulant(values, bad)
    with pytest.raises(ValueError, match="window must be one of"):
        cumulant_bispectrum(values, DT, window="boxcar")
    with pytest.raises(ValueError, match=r"values must have shape \(n_segments, n_bins\), got \(16,\)"):
        bicoherence(values, DT)
    with pytest.raises(ValueError, match="n_freq must be between 1 and 7, got 8"):
        bicoherence(values[None], DT, n_freq=8)
