"""Cross spectra, coherence and lags are Stingray's, to rounding; where Stingray errs, scatter decides."""

import contextlib
import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.errors import InputError
from eagleray.records import EventList, LightCurve, TimeGrid
from eagleray.summaries.coherence import intrinsic_coherence, modulus, phase_lag, raw_coherence, time_lag
from eagleray.summaries.cross import (
    averaged_cross_spectrum,
    event_cross_spectrum,
    segment_cross_spectrum,
)
from eagleray.summaries.rebin import rebin_linear, rebin_log

DT, N_SEGMENTS, N_BINS = 0.25, 60, 64


def two_channels(n=N_SEGMENTS * N_BINS, lag=3, seed=0):
    """Counts of two channels that vary together, the second `lag` bins after the first."""
    rng = np.random.default_rng(seed)
    shape = np.convolve(rng.normal(size=n + 30), np.exp(-np.arange(20) / 4.0), "same")
    rate = np.exp(0.25 * shape)
    return tuple(
        rng.poisson(mean * rate[start : start + n]).astype(np.float64) for mean, start in ((30.0, 20), (50.0, 20 - lag))
    )


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def stingray_cross(first, second, n_bins=N_BINS, *, errors=None, **kwargs):
    with quiet():
        from stingray import AveragedCrossspectrum, Lightcurve

        times = (np.arange(first.size) + 0.5) * DT
        gti = [[0.0, first.size * DT]]
        statistics = {"err_dist": "poisson"} if errors is None else {"err_dist": "gauss"}
        curves = [
            Lightcurve(times, x, dt=DT, gti=gti, err=None if errors is None else errors[i], **statistics)
            for i, x in enumerate((first, second))
        ]
        return AveragedCrossspectrum(*curves, segment_size=n_bins * DT, silent=True, **kwargs)


def ours(first, second, n_bins=N_BINS, *, errors=None, dtype=jnp.float64, **kwargs):
    n = first.size // n_bins * n_bins
    first, second, *errors = (jnp.asarray(x[:n].reshape(-1, n_bins), dtype) for x in (first, second, *(errors or ())))
    error_1, error_2 = errors or (None, None)
    return segment_cross_spectrum(first, second, DT, error_1=error_1, error_2=error_2, **kwargs)


def close(actual, desired, rtol=1e-10, atol=0.0):
    np.testing.assert_allclose(np.asarray(actual), np.asarray(desired), rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    ("norm", "use_common_mean", "n_bins"),
    [("leahy", True, 64), ("frac", True, 51), ("abs", False, 64), ("none", True, 51), ("frac", False, 64)],
)
def test_cross_powers_are_stingrays(norm, use_common_mean, n_bins):
    first, second = two_channels()
    theirs = stingray_cross(first, second, n_bins, norm=norm, use_common_mean=use_common_mean)
    with jax.enable_x64(True):
        cross = ours(first, second, n_bins, norm=norm, use_common_mean=use_common_mean)
        scale = np.abs(theirs.power).mean()
        close(cross.freq, theirs.freq, 1e-12)
        close(cross.power, theirs.power, atol=1e-12 * scale)
        # Without a common mean Stingray's auxiliary powers are sums over the segments.
        n_summed = 1 if use_common_mean else theirs.m
        close(cross.power_1, theirs.pds1.power / n_summed)
        close(cross.power_2, theirs.pds2.power / n_summed)
        assert (np.asarray(cross.m) == theirs.m).all()
        close(cross.n_photons_1, theirs.nphots1)
        if use_common_mean:
            close(cross.error, theirs.power_err, atol=1e-12 * scale)


@pytest.mark.parametrize("overlapping", [False, True])
def test_coherence_and_lags_are_stingrays(overlapping):
    first, second = two_channels()
    if overlapping:
        second = second + first
    theirs = stingray_cross(first, second, norm="leahy", channels_overlap=overlapping)
    with jax.enable_x64(True), quiet():
        cross = ours(first, second, norm="leahy", overlapping=overlapping, stingray_compat=True)
        close(cross.error, theirs.power_err)
        for mine, (value, error) in (
            (raw_coherence(cross, stingray_compat=True), theirs.raw_coherence()),
            (intrinsic_coherence(cross, stingray_compat=True), theirs.intrinsic_coherence()),
            (
                intrinsic_coherence(cross, adjust_bias=True, stingray_compat=True),
                theirs.intrinsic_coherence(adjust_bias=True),
            ),
            (phase_lag(cross, stingray_compat=True), theirs.phase_lag()),
            (time_lag(cross, stingray_compat=True), theirs.time_lag()),
        ):
            close(mine.value, value, 1e-9)
            close(mine.error, error, 1e-8)
        from stingray.fourier import error_on_averaged_cross_spectrum

        *_, d_modulus = error_on_averaged_cross_spectrum(
            theirs.unnorm_power,
            theirs.pds1.unnorm_power,
            theirs.pds2.unnorm_power,
            theirs.m,
            theirs.nphots1,
            theirs.nphots2,
            common_ref=overlapping,
        )
        mine = ours(first, second, norm="none", overlapping=overlapping, stingray_compat=True)
        close(modulus(mine, stingray_compat=True).error, d_modulus)


def test_single_precision():
    first, second = two_channels()
    theirs = stingray_cross(first, second, norm="frac")
    cross = ours(first, second, norm="frac", dtype=jnp.float32)
    assert (cross.power.dtype, cross.error.dtype) == (jnp.complex64, jnp.complex64)
    size = np.sqrt(theirs.pds1.power * theirs.pds2.power)
    assert (np.abs(np.asarray(cross.power) - theirs.power) < 1e-5 * size).all()
    close(cross.error, theirs.power_err, 1e-4)
    with quiet():
        close(time_lag(cross).value[:8], theirs.time_lag()[0][:8], 1e-4, 1e-5)


@pytest.mark.parametrize("rebin", ["log", "linear"])
def test_rebinned_cross_spectra_are_stingrays(rebin):
    first, second = two_channels()
    with jax.enable_x64(True), quiet():
        raw = stingray_cross(first, second, norm="abs")
        cross = dataclasses.replace(ours(first, second, norm="abs"), freq=raw.freq)
        theirs, mine = (
            (raw.rebin_log(0.1), rebin_log(cross, 0.1))
            if rebin == "log"
            else (raw.rebin(0.17), rebin_linear(cross, 0.17))
        )
        full = np.isfinite(theirs.power)
        close(mine.freq, theirs.freq[full], 1e-12)
        close(mine.power, theirs.power[full])
        if rebin == "log":
            close(mine.error, theirs.power_err[full])
        else:  # Stingray squares, adds and takes the root of complex errors: real and imaginary part mix.
            close(mine.error.real**2 - mine.error.imag**2, (theirs.power_err**2).real)
        close(mine.power_1, theirs.pds1.power[full])
        close(mine.m, theirs.m[np.asarray(theirs.m) > 0] if rebin == "log" else np.full(mine.freq.size, theirs.m))
        if rebin == "linear":
            close(raw_coherence(mine).value, theirs.raw_coherence()[0])
            close(phase_lag(mine).value, theirs.phase_lag()[0])


def test_gaussian_errors():
    first, second = two_channels()
    rng = np.random.default_rng(1)
    errors = tuple(np.sqrt(x.mean()) * rng.uniform(0.8, 1.2, x.size) for x in (first, second))
    theirs = stingray_cross(first, second, norm="leahy", errors=errors)
    with jax.enable_x64(True):
        close(ours(first, second, norm="leahy", errors=errors, stingray_compat=True).power, theirs.power, 1e-9)
        assert float(ours(first, second, norm="leahy", errors=errors).noise_1) == pytest.approx(2.0)


def test_positive_lag_means_the_first_is_late():
    late, early = two_channels(lag=3)[::-1]
    lag = time_lag(ours(late, early, dtype=jnp.float32))
    assert np.asarray(lag.value)[:4] == pytest.approx(3 * DT, rel=0.25)
    assert np.asarray(time_lag(ours(early, late, dtype=jnp.float32)).value)[:4] == pytest.approx(-3 * DT, rel=0.25)


def test_light_curves_with_gaps():
    first, second = two_channels()
    n = first.size
    exposure_1, exposure_2 = np.ones(n), np.ones(n)
    exposure_1[1000:1100], exposure_2[2500:2513] = 0.0, 0.0
    curves = [
        LightCurve(
            values=x * e, exposure=e, background=np.zeros(n), error=None, grid=TimeGrid(n_bins=n, dt=DT), kind="counts"
        )
        for x, e in ((first, exposure_1), (second, exposure_2))
    ]
    with quiet():
        from stingray import AveragedCrossspectrum, Lightcurve

        gti = np.array([[0, 1000], [1100, 2500], [2513, n]]) * DT
        theirs = AveragedCrossspectrum(
            *[Lightcurve((np.arange(n) + 0.5) * DT, x, dt=DT, gti=gti, err_dist="poisson") for x in (first, second)],
            segment_size=N_BINS * DT,
            norm="frac",
            silent=True,
        )
    with jax.enable_x64(True):
        cross = averaged_cross_spectrum(*curves, segment_size=N_BINS * DT)
        close(cross.power, theirs.power, 1e-9)
        assert float(cross.m[0]) == theirs.m
        whole = averaged_cross_spectrum(*[dataclasses.replace(c, exposure=np.ones(n)) for c in curves], norm="leahy")
        close(raw_coherence(dataclasses.replace(whole, m=whole.m * 1e9)).value, 1.0, 1e-4)
    with pytest.raises(InputError, match="no stretch without gaps is as long as a segment"):
        averaged_cross_spectrum(*curves)
    with pytest.raises(InputError, match="must have the same bins and start"):
        averaged_cross_spectrum(curves[0], dataclasses.replace(curves[1], start=5.0))


def event_lists(rate=40.0, duration=200.0, seed=0):
    rng = np.random.default_rng(seed)
    gtis = (np.array([[0.0, 90.3], [101.1, duration]]), np.array([[2.2, 95.0], [100.0, duration - 1.3]]))
    lists = []
    for gti in gtis:
        times = np.sort(rng.uniform(0.0, duration, rng.poisson(rate * duration)))
        good = ((times[:, None] >= gti[:, 0]) & (times[:, None] < gti[:, 1])).any(axis=1)
        lists.append(EventList(times=times[good], gti=gti))
    return lists


@pytest.mark.parametrize("rate", [40.0, 0.6])
def test_events(rate):
    lists = event_lists(rate)
    with quiet():
        from stingray import AveragedCrossspectrum
        from stingray import EventList as StingrayEvents

        theirs = AveragedCrossspectrum(
            *[StingrayEvents(x.times, gti=x.gti) for x in lists], segment_size=5.0, dt=0.125, norm="abs", silent=True
        )
    with jax.enable_x64(True):
        mine = event_cross_spectrum(*lists, 0.125, segment_size=5.0, norm="abs", stingray_compat=True)
        close(mine.power, theirs.power, 1e-9)
        assert float(mine.m[0]) == theirs.m
        every = event_cross_spectrum(*lists, 0.125, segment_size=5.0, norm="abs")
        assert float(every.m[0]) == (88.1 // 5) + (97.6 // 5)
    with pytest.raises(InputError, match="same start"):
        event_cross_spectrum(lists[0], dataclasses.replace(lists[1], start=1.0), 0.125)


def complex_normals(rng, *shape):
    return (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / np.sqrt(2.0)


def scatter(true_coherence, signal, noise, m, n_trials=2000, seed=3):
    """Averaged spectra of many trials, from their law."""
    rng = np.random.default_rng(seed)
    common, other = complex_normals(rng, n_trials, m), complex_normals(rng, n_trials, m)
    first = np.sqrt(signal) * common + np.sqrt(noise) * complex_normals(rng, n_trials, m)
    second = np.sqrt(signal) * (np.sqrt(true_coherence) * common + np.sqrt(1 - true_coherence) * other)
    second = second + np.sqrt(noise) * complex_normals(rng, n_trials, m)
    cross = segment_cross_spectrum(jnp.ones((2, 8)), jnp.ones((2, 8)), DT)
    return dataclasses.replace(
        cross,
        power=jnp.asarray((first.conj() * second).mean(axis=1)),
        power_1=jnp.asarray((np.abs(first) ** 2).mean(axis=1)),
        power_2=jnp.asarray((np.abs(second) ** 2).mean(axis=1)),
        noise_1=jnp.asarray(noise),
        noise_2=jnp.asarray(noise),
        m=jnp.full(n_trials, float(m)),
    )


@jax.jit
def _estimates(trials):
    """Coherence and modulus, by default and as Stingray has them."""
    return tuple(
        estimate
        for compat in (False, True)
        for estimate in (
            intrinsic_coherence(trials, adjust_bias=True, stingray_compat=compat),
            modulus(trials, stingray_compat=compat),
        )
    )


@pytest.mark.parametrize(("true", "signal", "noise"), [(0.5, 10.0, 0.1), (0.8, 10.0, 2.0), (0.9, 5.0, 1.0)])
def test_errors_are_the_scatter(true, signal, noise):
    """Standard deviations of 2000 trials are known to 1.6 %; 10 % is allowed, for the errors are of first order."""
    with jax.enable_x64(True):
        trials = scatter(true, signal, noise, 200)
        coherence, size, theirs, their_size = _estimates(trials)
        assert float(coherence.value.mean()) == pytest.approx(true, abs=0.005)
        assert float(jnp.median(coherence.error)) == pytest.approx(float(coherence.value.std()), rel=0.1)
        assert float(jnp.median(size.error)) == pytest.approx(float(size.value.std()), rel=0.1)
        # Twin: the errors of Stingray.
        assert float(jnp.median(theirs.error)) != pytest.approx(float(theirs.value.std()), rel=0.2)
        assert float(their_size.error.mean()) != pytest.approx(float(size.value.std()), rel=0.03)


def test_shared_photons_leave_no_lag():
    """A channel within its reference: the photons it shares are in phase with themselves, and are taken off.

    The mean of 15 lags is known to 3 %; a twelfth of the true lag is allowed. False alarm below 1e-6.
    """
    late, early = two_channels(64 * 600, lag=2)[::-1]
    thin = np.random.default_rng(5).binomial(late.astype(int), 0.15).astype(float)
    lags = {
        compat: float(
            phase_lag(ours(thin, early + thin, dtype=jnp.float32, overlapping=True, stingray_compat=compat))
            .value[12:]
            .mean()
        )
        for compat in (False, True)
    }
    apart = float(phase_lag(ours(thin, early, dtype=jnp.float32)).value[12:].mean())
    assert abs(lags[False] - apart) < abs(lags[True] - apart)


def test_gradients_and_batches(strict):
    rng = np.random.default_rng(0)
    values = jnp.asarray(rng.poisson(9.0, (3, 2, 6, 16)), jnp.float32).at[:, 0, 2].set(0.0)

    def loss(x):
        total = jnp.zeros(())
        for common in (True, False):
            cross = segment_cross_spectrum(x[0], x[1], DT, norm="frac", use_common_mean=common)
            for estimate in (raw_coherence(cross), time_lag(cross), modulus(cross)):
                total = total + estimate.value.sum()
            total = total + jnp.nan_to_num(intrinsic_coherence(cross, adjust_bias=True).value).sum()
            total = total + cross.error.real.sum()
        return total

    gradients = jax.jit(jax.vmap(jax.grad(loss)))(values)
    assert gradients.shape == values.shape
    assert bool(jnp.isfinite(gradients).all())


def test_error_messages():
    values = jnp.ones((3, 8))
    with pytest.raises(ValueError, match=r"must both have shape \(n_segments, n_bins\), got \(3, 8\) and \(2, 8\)"):
        segment_cross_spectrum(values, values[:2], DT)
    with pytest.raises(ValueError, match="error_1 and error_2 must be given together"):
        segment_cross_spectrum(values, values, DT, error_1=values)
