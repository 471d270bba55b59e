"""Power spectra and their bins are Stingray's; gaps leave the expected power where it was."""

import contextlib
import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.errors import InputError
from eagleray.records import EventList, LightCurve, TimeGrid
from eagleray.simulators.timmer_koenig import fourier_frequencies, gaussian_process
from eagleray.summaries.rebin import log_bins, rebin_linear, rebin_log
from eagleray.summaries.spectra import (
    averaged_power_spectrum,
    event_power_spectrum,
    positive_frequencies,
    power_spectrum,
    segment_power_spectrum,
)

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


def test_neighbours_are_half_overlapping_sets_of_bins():
    bins = log_bins(np.arange(1.0, 8.0), 0.0)
    np.testing.assert_array_equal(bins.neighbours(4), [[0, 1, 2, 3], [2, 3, 4, 5]])
    np.testing.assert_array_equal(bins.neighbours(1), np.arange(7)[:, None])
    assert bins.neighbours(8).shape == (0, 8)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        bins.neighbours(0)


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


def observed(values, *, error=None, gap=slice(0), background=0.0):
    """A light curve of these counts; with errors, of rates."""
    exposure = np.ones(values.size)
    exposure[gap] = 0.0
    to_rate = 1.0 if error is None else 1.0 / DT
    return LightCurve(
        values=values * exposure * to_rate,
        exposure=exposure,
        background=background * exposure,
        error=None if error is None else error * exposure * to_rate,
        grid=TimeGrid(n_bins=values.size, dt=DT),
        kind="counts" if error is None else "rate",
    )


def stingray_average(values, segment_size, *, gti=None, error=None, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from stingray import AveragedPowerspectrum, Lightcurve

        times = (np.arange(values.size) + 0.5) * DT
        gti = [[0.0, values.size * DT]] if gti is None else gti
        statistics = {"err_dist": "poisson" if error is None else "gauss", "err": error}
        curve = Lightcurve(times, values, dt=DT, gti=gti, **statistics)
        return AveragedPowerspectrum(curve, segment_size=segment_size, silent=True, **kwargs)


def assert_same_spectrum(ours, theirs, rtol, **kwargs):
    np.testing.assert_allclose(ours.freq, theirs.freq, rtol=1e-6)
    np.testing.assert_allclose(ours.power, theirs.power, rtol=rtol, **kwargs)
    np.testing.assert_allclose(ours.power_error, theirs.power_err, rtol=rtol, **kwargs)
    np.testing.assert_allclose(ours.m, theirs.m)
    np.testing.assert_allclose(ours.n_photons, theirs.nphots, rtol=1e-6)


@pytest.mark.parametrize(
    ("norm", "use_common_mean"), [("leahy", True), ("frac", False), ("abs", True), ("none", True), ("leahy", False)]
)
def test_averages_with_gaps_and_an_empty_segment_are_stingrays(norm, use_common_mean):
    values = counts(1003)
    values[400:500] = 0.0  # 27 bins of segments that started at 300 remain, and one segment is all zero
    gti = np.array([[0, 130], [137, 288], [300, 1003]]) * DT
    curve = observed(values)
    exposure = curve.exposure.copy()
    exposure[[*range(130, 137), *range(288, 300)]] = 0.0
    curve = dataclasses.replace(curve, exposure=exposure)
    theirs = stingray_average(values, 25 * DT, gti=gti, norm=norm, use_common_mean=use_common_mean)
    kwargs = {"segment_size": 25 * DT, "norm": norm, "use_common_mean": use_common_mean}
    single = averaged_power_spectrum(curve, **kwargs)
    assert single.power.dtype == jnp.float32
    assert_same_spectrum(single, theirs, 1e-5, atol=1e-5 * theirs.power.mean())
    with jax.enable_x64(True):
        assert_same_spectrum(averaged_power_spectrum(curve, **kwargs), theirs, 1e-10)
    level = {"leahy": 2.0, "none": theirs.nphots}.get(norm)
    if level is not None:
        assert float(single.noise) == pytest.approx(level, rel=1e-5)


def test_gaussian_errors_set_the_leahy_norm():
    values = counts(640) * 1.7
    error = np.random.default_rng(0).uniform(3.0, 6.0, 640)
    with jax.enable_x64(True):
        for common in (True, False):
            theirs = stingray_average(values, 64 * DT, error=error, norm="leahy", use_common_mean=common)
            curve, kwargs = observed(values, error=error), {"segment_size": 64 * DT, "use_common_mean": common}
            ours = averaged_power_spectrum(curve, norm="leahy", stingray_compat=True, **kwargs)
            np.testing.assert_allclose(ours.power, theirs.power, rtol=1e-10)
        # By default the noise has level two; Stingray's is too high by mean(error^2) / mean(error)^2.
        noise = np.random.default_rng(1).normal(50.0, error, (400, 640))
        levels = {
            compat: float(
                averaged_power_spectrum(
                    observed(noise.ravel(), error=np.tile(error, 400)),
                    segment_size=640 * DT,
                    norm="leahy",
                    stingray_compat=compat,
                ).power.mean()
            )
            for compat in (False, True)
        }
    sigma = 2.0 / np.sqrt(400 * 319)
    assert abs(levels[False] - 2.0) < 5 * sigma  # false alarm 6e-7
    assert abs(levels[True] - 2.0) > 5 * sigma  # twin


def test_one_periodogram_of_an_observation():
    values = counts(301)
    theirs = stingray_spectrum(values, "frac")
    with jax.enable_x64(True):
        whole = averaged_power_spectrum(observed(values))
        np.testing.assert_allclose(whole.power, theirs.power, rtol=1e-10)
        np.testing.assert_allclose(whole.power_error, theirs.power_err, rtol=1e-10)
        assert float(whole.noise) == pytest.approx(2.0 / (values.mean() / DT))
        gappy = observed(values, gap=slice(100, 130), background=2.0)
        direct = power_spectrum(
            jnp.asarray(gappy.values),
            DT,
            norm="abs",
            exposure=jnp.asarray(gappy.exposure),
            background=jnp.asarray(gappy.background),
        )
        np.testing.assert_allclose(averaged_power_spectrum(gappy, norm="abs").power, direct, rtol=1e-12)


def events(rate, gti, seed=0):
    gti = np.asarray(gti, float)
    times = np.sort(np.random.default_rng(seed).uniform(0.0, gti.max(), int(rate * gti.max())))
    inside = ((times[:, None] >= gti[:, 0]) & (times[:, None] < gti[:, 1])).any(axis=1)
    return EventList(times=times[inside], gti=gti)


def stingray_event_spectrum(observed_events, dt, segment_size, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from stingray import AveragedPowerspectrum, Powerspectrum
        from stingray import EventList as StingrayEvents

        theirs = StingrayEvents(observed_events.times, gti=observed_events.gti)
        if segment_size is None:
            return Powerspectrum.from_events(theirs, dt=dt, **kwargs)
        return AveragedPowerspectrum.from_events(theirs, dt=dt, segment_size=segment_size, silent=True, **kwargs)


@pytest.mark.parametrize("rate", [50.0, 0.4])
@pytest.mark.parametrize("use_common_mean", [True, False])
def test_event_spectra_are_stingrays(rate, use_common_mean):
    observation = events(rate, [[0.0, 300.2], [310.0, 700.9]])
    theirs = stingray_event_spectrum(observation, 0.25, 4.0, norm="leahy", use_common_mean=use_common_mean)
    kwargs = {"segment_size": 4.0, "norm": "leahy", "use_common_mean": use_common_mean}
    with jax.enable_x64(True):
        ours = event_power_spectrum(observation, 0.25, stingray_compat=True, **kwargs)
        assert_same_spectrum(ours, theirs, 1e-10)
        every = event_power_spectrum(observation, 0.25, **kwargs)
    n_segments = 300.2 // 4.0 + 390.9 // 4.0
    if use_common_mean:
        assert float(every.m[0]) == n_segments
        assert float(every.n_photons) == pytest.approx(4.0 * rate, rel=0.1)
    if rate < 1:  # Stingray's mean is that of the segments it keeps.
        assert theirs.m < 0.7 * n_segments
        assert theirs.nphots > 1.2 * 4.0 * rate


def test_one_interval_of_events():
    observation = events(40.0, [[0.0, 10.3]])
    theirs = stingray_event_spectrum(observation, 1.0, None, norm="abs")
    with jax.enable_x64(True):
        ours = event_power_spectrum(observation, 1.0, norm="abs", stingray_compat=True)
        np.testing.assert_allclose(ours.power, theirs.power, rtol=1e-10)
        cut = event_power_spectrum(observation, 1.0, norm="abs")
        binned = jnp.asarray(np.histogram(observation.times, np.arange(11.0))[0], jnp.float64)
        np.testing.assert_allclose(cut.power, power_spectrum(binned, 1.0, norm="abs"), rtol=1e-10)
    with pytest.raises(InputError, match="no segment holds two events"):
        event_power_spectrum(events(0.01, [[0.0, 300.0]]), 0.25, segment_size=4.0, stingray_compat=True)


@pytest.mark.parametrize("factor", [0.01, 0.3])
def test_log_rebinned_spectra_are_stingrays(factor):
    values = counts(2048)
    theirs = stingray_average(values, 256 * DT, norm="frac").rebin_log(factor)
    with jax.enable_x64(True):
        ours = rebin_log(averaged_power_spectrum(observed(values), segment_size=256 * DT), factor)
        full = np.isfinite(theirs.power)
        for mine, other in (
            (ours.freq, theirs.freq),
            (ours.power, theirs.power),
            (ours.power_error, theirs.power_err),
            (ours.m, theirs.m),
            (ours.width, theirs.k * theirs.df),
        ):
            np.testing.assert_allclose(mine, np.asarray(other)[full], rtol=1e-10)
        with pytest.raises(ValueError, match="spectrum must have evenly spaced frequencies"):
            rebin_log(ours, factor)


@pytest.mark.parametrize("ratio", [2.0, 4.25, 10.4])
def test_linearly_rebinned_spectra_are_stingrays(ratio):
    values = counts(2500)
    raw = stingray_average(values, 250 * DT, norm="leahy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = raw.rebin(ratio * raw.df)
    with jax.enable_x64(True):
        spectrum = averaged_power_spectrum(observed(values), segment_size=250 * DT, norm="leahy")
        ours = rebin_linear(spectrum, ratio * raw.df)
        n = theirs.freq.size  # one fewer where rounding makes a full last bin seem short
        assert ours.freq.size - n in (0, 1)
        assert ours.freq.size == int(124 / ratio + 1e-6)
        for mine, other in ((ours.freq, theirs.freq), (ours.power, theirs.power), (ours.power_error, theirs.power_err)):
            np.testing.assert_allclose(mine[:n], other, rtol=1e-9)
        np.testing.assert_allclose(ours.m, theirs.m)
    assert float(ours.m[0]) == np.rint(10 * ratio)


def test_gradients_and_batches_of_averages(strict):
    values = jnp.asarray(np.random.default_rng(0).poisson(9.0, (3, 5, 16)), jnp.float32).at[:, 2].set(0.0)

    def loss(x, norm, common):
        spectrum = segment_power_spectrum(x, DT, norm=norm, use_common_mean=common)
        return jnp.log(spectrum.power).sum() + spectrum.noise

    for norm, common in (("leahy", True), ("frac", False)):
        gradients = jax.jit(jax.vmap(jax.grad(lambda x, n=norm, c=common: loss(x, n, c))))(values)
        assert bool(jnp.isfinite(gradients).all())
        step = jnp.zeros((5, 16)).at[1, 3].set(0.05)
        rise = (loss(values[0] + step, norm, common) - loss(values[0] - step, norm, common)) / 0.1
        assert float(gradients[0, 1, 3]) == pytest.approx(float(rise), rel=0.05, abs=0.01)


def test_error_messages_of_averages():
    with pytest.raises(ValueError, match=r"values must have shape \(n_segments, n_bins\), got \(8,\)"):
        segment_power_spectrum(jnp.ones(8), DT)
    with pytest.raises(ValueError, match="norm must be one of"):
        segment_power_spectrum(jnp.ones((2, 8)), DT, norm="rms")
    spectrum = segment_power_spectrum(jnp.ones((2, 8)), DT)
    with pytest.raises(ValueError, match="new_width must be at least the spacing"):
        rebin_linear(spectrum, 0.1)
    with pytest.raises(ValueError, match="new_width must be at most"):
        rebin_linear(spectrum, 100.0)
