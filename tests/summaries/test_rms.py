"""Rms in a band and noise levels are Stingray's; fractions of bins on the edge of a band are exact."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.records import PowerSpectrum
from eagleray.summaries.rebin import rebin_log
from eagleray.summaries.rms import band_rms, integrated_power, poisson_noise_level
from eagleray.summaries.spectra import segment_power_spectrum

DT = 0.25
quick_rms = jax.jit(band_rms, static_argnames="stingray_compat")
quick_integral = jax.jit(integrated_power)


def spectra(n_segments, *, factor=0.0, n_bins=130, norm="frac"):
    """A spectrum of red counts, and Stingray's."""
    rng = np.random.default_rng(n_segments)
    shape = np.convolve(rng.normal(size=n_segments * n_bins), np.exp(-np.arange(30) / 6.0), "same")
    values = rng.poisson(20.0 * np.exp(0.2 * shape)).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from stingray import AveragedPowerspectrum, Lightcurve, Powerspectrum

        curve = Lightcurve(
            (np.arange(values.size) + 0.5) * DT, values, dt=DT, gti=[[0.0, values.size * DT]], err_dist="poisson"
        )
        theirs = (
            AveragedPowerspectrum(curve, segment_size=n_bins * DT, norm="leahy", silent=True)
            if n_segments > 1
            else Powerspectrum(curve, norm="leahy")
        )
        ours = segment_power_spectrum(jnp.asarray(values.reshape(n_segments, n_bins)), DT, norm=norm)
        return (rebin_log(ours, factor), theirs.rebin_log(factor)) if factor else (ours, theirs)


@pytest.mark.parametrize(("n_segments", "factor"), [(1, 0.0), (40, 0.0), (40, 0.05)])
def test_rms_is_stingrays(n_segments, factor):
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ours, theirs = spectra(n_segments, factor=factor)
        theirs.segment_size = 130 * DT
        for low, high in ((0.1, 1.0), (0.05, 0.5), (0.3, 0.34)):
            mine = quick_rms(ours, low, high)
            value, error = theirs.compute_rms(low, high)
            assert float(mine.rms.value) == pytest.approx(value, rel=1e-10)
            assert float(mine.rms.error) == pytest.approx(error, rel=1e-10)
        high_noise = quick_rms(ours, 0.1, 1.0, noise=10.0)
        assert np.isnan(float(high_noise.rms.value))
        assert float(high_noise.variance.value) < 0
        compat = quick_rms(ours, 0.1, 1.0, noise=10.0, stingray_compat=True)
        assert (float(compat.rms.value), float(compat.rms.error)) == (0.0, 0.0)


def test_integrated_power_is_stingrays():
    with jax.enable_x64(True):
        from stingray.fourier import integrate_power_in_frequency_range

        ours, theirs = spectra(40)
        noise = float(ours.noise)
        for low, high in ((0.1, 1.0), (0.0777, 0.52345)):
            value, error = integrate_power_in_frequency_range(
                theirs.freq, np.asarray(ours.power), (low, high), df=theirs.df, m=40, poisson_power=noise
            )
            mine = quick_integral(ours, low, high)
            assert float(mine.value) == pytest.approx(value, rel=1e-10)
            assert float(mine.error) == pytest.approx(error, rel=1e-10)


def test_parts_of_a_bin_add_up():
    flat = PowerSpectrum(
        freq=np.arange(1.0, 9.0), power=np.full(8, 3.0), m=np.ones(8), n_photons=np.array(1.0), norm="abs", dt=0.05
    )
    flat = dataclasses.replace(flat, width=np.ones(8), noise=np.array(1.0))
    assert float(quick_integral(flat, 2.6, 3.1).value) == pytest.approx(2.0 * 0.5)  # within one bin
    assert float(quick_integral(flat, 0.0, 20.0).value) == pytest.approx(16.0)  # beyond the spectrum
    assert float(jax.grad(lambda f: integrated_power(flat, f, 5.0).value)(2.7)) == pytest.approx(-2.0)


@pytest.mark.parametrize("norm", ["leahy", "frac", "abs", "none"])
def test_noise_levels_are_stingrays(norm):
    from stingray.fourier import poisson_level

    level = poisson_noise_level(norm, rate=12.0, n_photons=345.0, background_rate=2.0 if norm == "frac" else 0.0)
    kwargs = {"backrate": 2.0} if norm == "frac" else {}
    assert float(level) == pytest.approx(poisson_level(norm, meanrate=12.0, n_ph=345.0, **kwargs))
    ours, _ = spectra(4, norm=norm)
    photons = float(ours.n_photons)
    assert float(ours.noise) == pytest.approx(
        float(poisson_noise_level(norm, rate=photons / (130 * DT), n_photons=photons)), rel=1e-5
    )


def test_gradients(strict):
    ours, _ = spectra(1)
    ours = dataclasses.replace(ours, freq=jnp.asarray(ours.freq), width=jnp.asarray(ours.width))

    def loss(power, noise):
        return band_rms(dataclasses.replace(ours, power=power), 0.1, 1.0, noise=noise)

    for noise in (0.0, 10.0):
        gradient = jax.jit(jax.grad(lambda p, n=noise: jnp.nan_to_num(loss(p, n).rms.value) + loss(p, n).rms.error))(
            ours.power
        )
        assert bool(jnp.isfinite(gradient).all())


def test_error_messages():
    ours, _ = spectra(2)
    with pytest.raises(ValueError, match="spectrum.norm must be 'frac' or 'abs' for an rms, got 'leahy'"):
        band_rms(dataclasses.replace(ours, norm="leahy"), 0.1, 1.0)
    with pytest.raises(ValueError, match=r"spectrum.width must be given"):
        band_rms(dataclasses.replace(ours, width=None), 0.1, 1.0)
    with pytest.raises(ValueError, match="noise must be given"):
        integrated_power(dataclasses.replace(ours, noise=None), 0.1, 1.0)
    with pytest.raises(ValueError, match="norm must be one of"):
        poisson_noise_level("rms", rate=1.0)
    with pytest.raises(ValueError, match="rate must be given for norm 'abs', got None"):
        poisson_noise_level("abs")
    with pytest.raises(ValueError, match="n_photons must be given for norm 'none', got None"):
        poisson_noise_level("none")
