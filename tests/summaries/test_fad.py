"""Cospectra and FAD are Stingray's; both take away what dead time does to the noise."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from stingray import AveragedCrossspectrum, Lightcurve
from stingray.deadtime.fad import FAD as stingray_fad

from eagleray.summaries.dead_time import _smooth, _smoothing_response, cospectrum, fad
from eagleray.summaries.spectra import power_spectrum

RNG = np.random.default_rng(10)
DT, N_SEGMENTS, N_BINS = 0.25, 12, 200
RATE = 30.0 * (1.0 + 0.4 * np.sin(np.arange(N_SEGMENTS * N_BINS) / 5.0))
COUNTS = RNG.poisson(RATE, (2, RATE.size)).astype(float).reshape(2, N_SEGMENTS, N_BINS)
NORMS = ["leahy", "frac", "abs", "none"]
X64 = pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-10), (False, 2e-5)])


def curves():
    times = (np.arange(RATE.size) + 0.5) * DT
    gti = [[0.0, RATE.size * DT]]
    return [Lightcurve(times, c.ravel(), dt=DT, gti=gti, err_dist="poisson", skip_checks=True) for c in COUNTS]


@pytest.mark.parametrize("n", [40, 99])
@pytest.mark.parametrize("length", [0.3, 4.0, 60.0])
def test_smoothing_is_scipys(n, length):
    values = RNG.exponential(size=n)
    with jax.enable_x64(True):
        ours = _smooth(jnp.asarray(values), jnp.asarray(_smoothing_response(n, length)))
    np.testing.assert_allclose(ours, scipy.ndimage.gaussian_filter1d(values, length), rtol=1e-12)


@X64
def test_fad_is_stingrays(x64, rtol):
    with jax.enable_x64(x64):
        arrays = [jnp.asarray(c, float) for c in COUNTS]
        function = jax.jit(lambda a, b: [fad(a, b, DT, norm=norm, smoothing_length=20.0) for norm in NORMS])
        ours = function(*arrays)
        default = jax.jit(lambda a, b: fad(a, b, DT))(*arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tables = [stingray_fad(*curves(), N_BINS * DT, norm=norm, smoothing_length=20.0) for norm in NORMS]
        tables.append(stingray_fad(*curves(), N_BINS * DT))
    for got, table in zip([*ours, default], tables, strict=True):
        for name, column in (
            ("power_1", "pds1"),
            ("power_2", "pds2"),
            ("power_sum", "ptot"),
            ("cross", "cs"),
            ("difference", "fad"),
        ):
            theirs = np.asarray(table[column])
            floor = 1e-12 if x64 else 2e-5
            np.testing.assert_allclose(getattr(got, name), theirs, rtol=rtol, atol=floor * np.abs(theirs).mean())
        np.testing.assert_allclose(got.deviation, table.meta["fad_delta"], rtol=rtol, atol=rtol)
        assert float(got.m) == table.meta["M"]


@X64
def test_cospectrum_is_stingrays(x64, rtol):
    with jax.enable_x64(x64):
        function = jax.jit(lambda a, b: [cospectrum(a, b, DT, norm=norm).cross for norm in NORMS])
        ours = function(*(jnp.asarray(c, float) for c in COUNTS))
    for norm, cross in zip(NORMS, ours, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = AveragedCrossspectrum(*curves(), segment_size=N_BINS * DT, norm=norm, silent=True).power
        floor = 1e-12 if x64 else 2e-5
        np.testing.assert_allclose(cross, theirs, rtol=rtol, atol=floor * np.abs(theirs).mean())


@pytest.mark.slow
def test_segments_with_gaps_do_not_matter():
    used = jnp.asarray(np.arange(N_SEGMENTS) < 9, jnp.float32)
    broken = [jnp.where(used[:, None] > 0, jnp.asarray(c, jnp.float32), 0.0) for c in COUNTS]
    whole = [jnp.asarray(c[:9], jnp.float32) for c in COUNTS]
    for function in (fad, cospectrum):
        both = jax.jit(lambda a, b, c, d, f=function: (f(a, b, DT, used=used), f(c, d, DT)))
        for one, other in zip(*both(*broken, *whole), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * float(np.abs(other).max()))
    gradient = jax.jit(jax.grad(lambda a: fad(a, broken[1], DT, used=used).power_sum.sum()))(broken[0])
    assert jnp.isfinite(gradient).all()
    assert (gradient[9:] == 0).all()


@pytest.mark.slow
def test_gradient_is_finite_differences():
    with jax.enable_x64(True):
        one, two = (jnp.asarray(c[:2]) for c in COUNTS)
        function = jax.jit(lambda v: fad(v, two, DT).power_1[::7].sum() + cospectrum(v, two, DT).cross.real[3])
        direction = jnp.asarray(RNG.normal(size=one.shape))
        numeric = (function(one + 1e-5 * direction) - function(one - 1e-5 * direction)) / 2e-5
        np.testing.assert_allclose((jax.jit(jax.grad(function))(one) * direction).sum(), numeric, rtol=1e-6)


def record(rng, rate, duration, dead_time):
    """Times of events that a non-paralyzable detector keeps: each waits for the end of the last one's dead time."""
    gaps = dead_time + rng.exponential(1.0 / rate, int(2 * rate * duration / (1 + rate * dead_time)))
    return np.cumsum(gaps)


def test_dead_time_is_taken_away():
    """400 c/s through 2.5 ms in each of two detectors, no variability. Leahy noise is 2 and the cospectrum 0.

    In each of six bands: the cospectrum within 5 standard errors (false alarm 4e-6), FAD within those and the 5 % that
    smoothing costs. Twin: the plain spectrum, wrong by a factor of four at low frequencies.
    """
    n_segments, n_bins, dt = 400, 512, 1.0 / 512.0
    edges = np.arange(n_segments * n_bins + 1) * dt
    counts = [
        jnp.asarray(
            np.histogram(record(RNG, 400.0, n_segments, 2.5e-3), edges)[0].reshape(n_segments, n_bins), jnp.float32
        )
        for _ in range(2)
    ]
    corrected, cross, plain = jax.jit(
        lambda a, b: (
            fad(a, b, dt, norm="leahy", smoothing_length=20.0),
            cospectrum(a, b, dt, norm="leahy"),
            jax.vmap(lambda v: power_spectrum(v, dt, norm="leahy"))(a).mean(0),
        )
    )(*counts)

    def bands(power):
        return np.asarray(power, np.float64)[3:].reshape(6, 42).mean(axis=1)

    scatter = 2.0 / np.sqrt(42 * n_segments)
    assert (np.abs(bands(corrected.power_1) - 2.0) < 5 * scatter + 0.1).all()
    assert (np.abs(bands(cross.cross.real)) < 5 * scatter / np.sqrt(2.0)).all()
    assert abs(float(corrected.deviation)) < 0.05
    assert (np.abs(bands(plain) - 2.0) > 5 * scatter + 0.1)[:4].all()


def test_strict_mode_and_errors(strict):
    one, two = (jnp.asarray(c, jnp.float32) for c in COUNTS)
    used = jnp.ones(N_SEGMENTS)
    assert jax.eval_shape(lambda a, b: fad(a, b, DT, used=used), one, two).power_1.dtype == jnp.float32
    assert jax.eval_shape(lambda a, b: cospectrum(a, b, DT, used=used), one, two).cross.dtype == jnp.complex64
    for function in (fad, cospectrum):
        with pytest.raises(ValueError, match="norm must be one of .*, got 'rms'"):
            function(one, two, DT, norm="rms")
        with pytest.raises(ValueError, match=r"values must be two arrays of one shape \(n_segments, n_bins\), got"):
            function(one, two[:3], DT)
    with pytest.raises(ValueError, match=r"smoothing_length must be positive \(frequency bins\), got 0.0"):
        fad(one, two, DT, smoothing_length=0.0)
