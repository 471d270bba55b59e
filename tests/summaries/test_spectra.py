"""Power spectra and their bins are Stingray's; gaps leave the expected power where it was."""

import contextlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.simulators.timmer_koenig import fourier_frequencies, gaussian_process
from eagleray.summaries.rebin import log_bins
from eagleray.summaries.spectra import positive_frequencies, power_spectrum

DT = 0.25


def counts(n):
    rng = np.random.default_rng(n)
    return rng.poisson(20.0 * np.exp(0.3 * np.sin(np.arange(n) / 9.0))).astype(np.float64)


def stingray_spectrum(values, norm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from stingray import Lightcurve, Powerspectrum

        times = (np.arange(values.size) + 0.5) * DT
        curve = Lightcurve(times, values, dt=DT, gti=[[0.0, values.size * DT]], err_dist="poisson")
        return Powerspectrum(curve, norm=norm)


@pytest.mark.parametrize("n", [200, 201])
@pytest.mark.parametrize("norm", ["leahy", "frac", "abs", "none"])
@pytest.mark.parametrize(("x64", "rtol"), [(False, 1e-5), (True, 1e-10)])
def test_power_is_stingrays(norm, n, x64, rtol):
    theirs = stingray_spectrum(counts(n), norm)
    with jax.enable_x64(True) if x64 else contextlib.nullcontext():
        values = jnp.asarray(counts(n), jnp.float64 if x64 else jnp.float32)
        ours = jax.jit(lambda v: power_spectrum(v, DT, norm=norm))(values)
        assert ours.dtype == values.dtype
        # Powers near zero lose relative digits in float32.
        floor = 0.0 if x64 else 1e-5 * theirs.power.mean()
        np.testing.assert_allclose(ours, theirs.power, rtol=rtol, atol=floor)
    np.testing.assert_allclose(positive_frequencies(n, DT), theirs.freq, rtol=1e-12)


@pytest.mark.parametrize("n", [20, 200, 201, 777, 4096])
@pytest.mark.parametrize("factor", [0.0, 0.01, 0.1, 0.5])
def test_log_bins_are_stingrays(n, factor):
    theirs = stingray_spectrum(counts(n), "frac")
    rebinned = theirs.rebin_log(factor) if factor else theirs
    full = np.isfinite(rebinned.power)
    bins = log_bins(positive_frequencies(n, DT), factor)
    np.testing.assert_allclose(bins.freq, rebinned.freq[full], rtol=1e-12)
    with jax.enable_x64(True):
        np.testing.assert_allclose(bins.average(jnp.asarray(theirs.power)), rebinned.power[full], rtol=1e-12)
    if factor:
        np.testing.assert_array_equal(bins.n_powers, np.asarray(rebinned.k)[np.asarray(rebinned.k) > 0])
    assert bins.n_powers.sum() == bins.group.size == positive_frequencies(n, DT).size


def test_strict_mode(strict):
    values = jnp.asarray(counts(64), jnp.float32)
    bins = log_bins(positive_frequencies(64, DT), 0.1)
    power = jax.jit(lambda v, e, b: bins.average(power_spectrum(v, DT, norm="leahy", exposure=e, background=b)))(
        values, jnp.ones(64), jnp.zeros(64)
    )
    assert (power.shape, power.dtype) == (bins.freq.shape, jnp.float32)


def test_partial_exposure_and_background_are_taken_off():
    """The same relative fluctuations, half watched and with a background: the same fractional spectrum."""
    values = jnp.asarray(counts(128), jnp.float32)
    half = jax.jit(
        lambda v: power_spectrum(
            0.5 * v + 7.0, DT, norm="frac", exposure=jnp.full(128, 0.5), background=jnp.full(128, 7.0)
        )
    )(values)
    np.testing.assert_allclose(half, power_spectrum(values, DT, norm="frac"), rtol=1e-3)


N, N_SIM, MEAN = 256, 3000, 10.0


def mean_powers(exposure, norm, seed):
    """Mean power of white plus mildly red relative fluctuations, and its standard error, in eight bands."""
    freq = fourier_frequencies(N, DT)
    model = jnp.asarray(0.01 + 0.002 / (freq + 0.1), jnp.float32)
    window = jnp.asarray(exposure, jnp.float32)

    @jax.jit
    @jax.vmap
    def draw(key):
        rate = MEAN * (1.0 + gaussian_process(key, model, N, DT))
        return power_spectrum(rate * window * DT, DT, norm=norm, exposure=window)

    power = np.asarray(draw(jax.random.split(jax.random.key(seed), N_SIM)), np.float64)
    power = power[:, 7:].reshape(N_SIM, 8, 15).mean(axis=2)
    expected = np.asarray(model, np.float64)[7:127].reshape(8, 15).mean(axis=1)
    return power.mean(axis=0), power.std(axis=0) / np.sqrt(N_SIM), expected


WINDOWS = {
    "one half": np.arange(N) < N // 2,
    "blocks": (np.arange(N) // 32) % 2 == 0,
    "half of each bin": np.full(N, 0.5),
}


@pytest.mark.parametrize("window", WINDOWS)
def test_expected_power_is_unchanged_when_half_is_watched(window):
    """False alarm 8 * 6e-7 for each window; 2 % is allowed for what the window smears."""
    exposure = np.asarray(WINDOWS[window], np.float64)
    mean, error, expected = mean_powers(exposure, "frac", 0)
    assert (np.abs(mean - expected) < 5.0 * error + 0.02 * expected).all()
    # Twin: powers normalised as though all had been watched.
    naive = mean * (exposure**2).sum() / N
    assert (np.abs(naive - expected) > 5.0 * error + 0.02 * expected).all()


def test_error_messages():
    with pytest.raises(ValueError, match=r"norm must be one of \('leahy', 'frac', 'abs', 'none'\), got 'rms'"):
        power_spectrum(jnp.ones(8), DT, norm="rms")
    for bad in (-0.1, float("nan")):
        with pytest.raises(ValueError, match="factor must be at least 0, got"):
            log_bins(np.array([1.0, 2.0]), bad)
    with pytest.raises(ValueError, match="freq must hold at least one frequency, got none"):
        log_bins(np.array([]), 0.1)
