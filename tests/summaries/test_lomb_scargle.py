"""Lomb-Scargle powers are Stingray's and astropy's; lags survive different samplings."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.timeseries import LombScargle
from stingray import Lightcurve, LombScargleCrossspectrum, LombScarglePowerspectrum

from eagleray.summaries.lomb_scargle import (
    grid_lomb_scargle,
    lomb_scargle,
    lomb_scargle_cross,
    lomb_scargle_frequencies,
    lomb_scargle_transform,
)
from eagleray.summaries.phases import trial_phases
from eagleray.summaries.spectra import positive_frequencies, power_spectrum

RNG = np.random.default_rng(9)
DT, N_GRID, N = 0.5, 150, 100
GRID = (np.arange(N_GRID) + 0.5) * DT
KEPT = np.sort(RNG.choice(N_GRID, N, replace=False))
MASK = np.isin(np.arange(N_GRID), KEPT).astype(float)
TIMES = GRID[KEPT]
COUNTS = RNG.poisson(30.0 * (1.0 + 0.3 * np.sin(TIMES))).astype(float)
OTHER = RNG.poisson(50.0 * (1.0 + 0.3 * np.sin(TIMES - 0.7))).astype(float)
ERRORS = RNG.uniform(3.0, 8.0, N)
FREQS = lomb_scargle_frequencies(TIMES[-1] - TIMES[0], DT)[:-1]  # the last is beyond Nyquist
NORMS = ["leahy", "frac", "abs", "none"]
FIT_NORMS = ["standard", "model", "log", "psd"]
X64 = pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-10), (False, 2e-5)])


def on_grid(values):
    """Values at all bins of the grid, nonsense in the gaps."""
    full = np.full(N_GRID, 99.0)
    full[KEPT] = values
    return full


def theirs_from(kind, *counts, method="slow", **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gti = [[0.0, N_GRID * DT]]
        curves = [Lightcurve(TIMES, c, dt=DT, gti=gti, err_dist="poisson", skip_checks=True) for c in counts]
        return kind(*curves, method=method, **options)


@X64
def test_powers_are_stingrays(x64, rtol):
    with jax.enable_x64(x64):
        phases = trial_phases(TIMES, FREQS)
        function = jax.jit(lambda v: [lomb_scargle(v, phases, DT, norm=norm) for norm in NORMS])
        ours = function(jnp.asarray(COUNTS, float))
        assert ours[0].dtype == (jnp.float64 if x64 else jnp.float32)
    for norm, power in zip(NORMS, ours, strict=True):
        theirs = theirs_from(LombScarglePowerspectrum, COUNTS, norm=norm)
        np.testing.assert_allclose(theirs.freq[:-1], FREQS, rtol=1e-12)
        theirs = theirs.power.real[:-1]
        np.testing.assert_allclose(power, theirs, rtol=rtol, atol=0.0 if x64 else 1e-5 * theirs.mean())


def test_the_fast_method_of_stingray_depends_on_the_number_of_frequencies():
    """Its sums take the number of frequencies for that of the values; ours do not change with the grid."""
    finer = {"norm": "leahy", "df": 0.25 / (TIMES[-1] - TIMES[0]), "min_freq": FREQS[0], "max_freq": 0.9}
    slow = theirs_from(LombScarglePowerspectrum, COUNTS, **finer)
    fast = theirs_from(LombScarglePowerspectrum, COUNTS, method="fast", **finer)
    assert np.median(np.abs(fast.power.real / slow.power.real - 1.0)) > 0.02
    with jax.enable_x64(True):
        phases = trial_phases(TIMES, slow.freq)
        ours = jax.jit(lambda v: lomb_scargle(v, phases, DT, norm="leahy"))(jnp.asarray(COUNTS))
    np.testing.assert_allclose(ours, slow.power.real, rtol=1e-9)


@X64
def test_powers_are_astropys(x64, rtol):
    cases = [(norm, fit) for norm in FIT_NORMS for fit in (True, False)]
    with jax.enable_x64(x64):
        phases = trial_phases(TIMES, FREQS)
        ours = jax.jit(
            lambda v, e: [lomb_scargle(v, phases, norm=norm, errors=e, fit_mean=fit) for norm, fit in cases]
        )(jnp.asarray(COUNTS, float), jnp.asarray(ERRORS, float))
    for (norm, fit), power in zip(cases, ours, strict=True):
        theirs = LombScargle(TIMES, COUNTS, ERRORS, fit_mean=fit).power(FREQS, normalization=norm, method="slow")
        np.testing.assert_allclose(power, theirs, rtol=rtol, atol=0.0 if x64 else 1e-5 * theirs.mean())


@X64
def test_grid_is_the_sum_over_times(x64, rtol):
    freqs = positive_frequencies(2 * N_GRID, DT)
    with jax.enable_x64(x64):
        phases = trial_phases(TIMES, freqs)
        errors = jnp.asarray(on_grid(ERRORS), float)
        ours, direct, masked = jax.jit(
            lambda v, full, mask: (
                grid_lomb_scargle(full, DT, errors=errors, mask=mask, fit_mean=True, oversampling=2),
                lomb_scargle(v, phases, DT, errors=errors[KEPT], fit_mean=True),
                lomb_scargle(full, trial_phases(GRID, freqs), DT, errors=errors, mask=mask, fit_mean=True),
            )
        )(jnp.asarray(COUNTS, float), jnp.asarray(on_grid(COUNTS), float), jnp.asarray(MASK, float))
        floor = 1e-13 if x64 else 1e-5
        for other in (direct, masked):
            np.testing.assert_allclose(ours, other, rtol=rtol, atol=floor * float(other.mean()))


def test_without_gaps_it_is_the_power_spectrum():
    values = jnp.asarray(RNG.poisson(20.0, N_GRID), jnp.float32)
    ours, plain = jax.jit(lambda v: (grid_lomb_scargle(v, DT), power_spectrum(v, DT)))(values)
    np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5 * float(plain.mean()))


@X64
def test_cross_spectrum_is_stingrays(x64, rtol):
    with jax.enable_x64(x64):
        phases = trial_phases(TIMES, FREQS)
        cross, transform, power = jax.jit(
            lambda a, b: (
                [lomb_scargle_cross(a, phases, b, phases, DT, norm=norm) for norm in NORMS],
                lomb_scargle_transform(a, phases),
                lomb_scargle(a, phases, norm="none"),
            )
        )(jnp.asarray(COUNTS, float), jnp.asarray(OTHER, float))
        np.testing.assert_allclose(np.abs(transform) ** 2, power, rtol=rtol, atol=rtol * float(power.mean()))
    for norm, ours in zip(NORMS, cross, strict=True):
        theirs = theirs_from(LombScargleCrossspectrum, COUNTS, OTHER, norm=norm).power[:-1]
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=1e-12 if x64 else 2e-5 * np.abs(theirs).mean())


def test_lag_of_differently_sampled_light_curves():
    """The first lags by 0.3 s; Stingray's transforms of the same data, the twin, do not give that lag."""
    from stingray.fourier import lsft_slow

    freq, lag = 0.11, 0.3
    times = [np.sort(RNG.uniform(0.0, 200.0, 900)), np.sort(RNG.uniform(31.0, 230.0, 1000))]
    values = [5.0 + np.sin(2 * np.pi * freq * (t - shift)) for t, shift in zip(times, (lag, 0.0), strict=True)]
    phases = [trial_phases(t, np.array([freq])) for t in times]
    cross = jax.jit(lambda a, b: lomb_scargle_cross(a, phases[0], b, phases[1]))(
        *(jnp.asarray(v, jnp.float32) for v in values)
    )
    assert float(jnp.angle(cross[0])) / (2 * np.pi * freq) == pytest.approx(lag, abs=0.06)
    theirs = [lsft_slow(v, t, np.array([freq])) for v, t in zip(values, times, strict=True)]
    found = np.angle(theirs[0] * np.conj(theirs[1]))[0] / (2 * np.pi * freq)
    assert abs(found - lag) > 0.3


def test_nyquist_of_a_uniform_grid_has_one_amplitude():
    values = np.resize([1.0, 3.0], 64)
    phases = trial_phases(np.arange(64.0), np.array([0.5]))
    power = jax.jit(lambda v: lomb_scargle(v, phases, norm="standard"))(jnp.asarray(values, jnp.float32))
    np.testing.assert_allclose(power, 1.0, rtol=1e-5)


def test_long_series_in_float32():
    """1e7 cycles after the first value: float32 times alone lose the phase."""
    times = np.sort(RNG.uniform(0.0, 1e6, 200))
    values = jnp.asarray(5.0 + np.sin(2 * np.pi * 10.0 * times), jnp.float32)
    power = jax.jit(lambda phases: lomb_scargle(values, phases, norm="standard", fit_mean=True))
    np.testing.assert_allclose(power(trial_phases(times, np.array([10.0]))), 1.0, rtol=1e-5)
    rounded = trial_phases(times.astype(np.float32).astype(float), np.array([10.0]))
    assert power(rounded)[0] < 0.9


def test_gradient_is_finite_differences():
    with jax.enable_x64(True):
        mask, values = jnp.asarray(MASK), jnp.asarray(on_grid(COUNTS))
        weights = jnp.asarray(RNG.normal(size=positive_frequencies(N_GRID, DT).size))
        function = jax.jit(lambda v: grid_lomb_scargle(v, DT, mask=mask, fit_mean=True) @ weights)
        direction = jnp.asarray(RNG.normal(size=N_GRID))
        numeric = (function(values + 1e-5 * direction) - function(values - 1e-5 * direction)) / 2e-5
        np.testing.assert_allclose(jax.jit(jax.grad(function))(values) @ direction, numeric, rtol=1e-6)


def test_strict_mode(strict):
    phases = trial_phases(TIMES, FREQS[:5])
    values, errors = jnp.asarray(COUNTS, jnp.float32), jnp.asarray(ERRORS, jnp.float32)
    for function in (
        lambda v: lomb_scargle(v, phases, DT, errors=errors, mask=jnp.ones(N), fit_mean=True, norm="leahy"),
        lambda v: grid_lomb_scargle(v, DT, errors=errors, mask=jnp.ones(N), norm="log"),
        lambda v: lomb_scargle_cross(v, phases, v, phases, mask_1=jnp.ones(N)).real,
    ):
        assert jax.eval_shape(function, values).dtype == jnp.float32


def test_error_messages():
    phases = trial_phases(TIMES, FREQS[:2])
    values = jnp.asarray(COUNTS, jnp.float32)
    with pytest.raises(ValueError, match="norm must be one of .*, got 'rms'"):
        lomb_scargle(values, phases, norm="rms")
    with pytest.raises(ValueError, match="norm must be one of .*, got 'log'"):
        lomb_scargle_cross(values, phases, values, phases, norm="log")
    with pytest.raises(ValueError, match="errors must be given for the norm 'psd', got None"):
        grid_lomb_scargle(values, DT, norm="psd")
    with pytest.raises(ValueError, match="oversampling must be at least 1, got 0"):
        grid_lomb_scargle(values, DT, oversampling=0)
    with pytest.raises(ValueError, match=r"df must be positive \(Hz\), got -1.0"):
        lomb_scargle_frequencies(10.0, 1.0, df=-1.0)
    with pytest.raises(ValueError, match="min_freq must be positive and below max_freq = 0.5 Hz, got 0.0"):
        lomb_scargle_frequencies(10.0, 1.0, min_freq=0.0)
