"""Dynamical spectra are Stingray's: powers, both rebinnings, the trace of the maximum, shift and add."""

import copy
import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.errors import InputError
from eagleray.records import LightCurve, TimeGrid
from eagleray.summaries.dynamical import (
    average_times,
    dynamical_power_spectrum,
    rebin_frequencies,
    rebin_times,
    shift_and_add,
    trace_maximum,
)

DT, SEGMENT, N = 0.125, 8.0, 1300


@pytest.fixture(scope="module")
def drifting():
    """Counts with an oscillation whose frequency drifts from 1 to 2 Hz."""
    times = (np.arange(N) + 0.5) * DT
    phase = 2.0 * np.pi * (times + 0.5 * times**2 / times[-1])
    counts = np.random.default_rng(0).poisson(40.0 * (1.0 + 0.6 * np.sin(phase))).astype(np.float64)
    return times, counts


def observed(counts, gap=slice(0)):
    exposure = np.ones(counts.size)
    exposure[gap] = 0.0
    return LightCurve(
        values=counts * exposure,
        exposure=exposure,
        background=np.zeros(counts.size),
        error=None,
        grid=TimeGrid(n_bins=counts.size, dt=DT),
        kind="counts",
    )


@pytest.fixture(scope="module")
def theirs(drifting):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from stingray import DynamicalPowerspectrum, Lightcurve

        times, counts = drifting
        curve = Lightcurve(times, counts, dt=DT, gti=[[0.0, N * DT]], err_dist="poisson")
        return DynamicalPowerspectrum(curve, segment_size=SEGMENT, norm="leahy")


@pytest.fixture(scope="module")
def ours(drifting):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, dynamical_power_spectrum(observed(drifting[1]), SEGMENT, norm="leahy"))


def same(mine, other, rtol=1e-10):
    np.testing.assert_allclose(mine.power, other.dyn_ps.T, rtol=rtol)
    np.testing.assert_allclose(mine.freq, other.freq, rtol=1e-10)
    np.testing.assert_allclose(mine.times, np.asarray(other.time, float), rtol=1e-10)


def test_powers_are_stingrays(ours, theirs, drifting):
    same(ours, theirs)
    assert (float(ours.noise), float(ours.m)) == (pytest.approx(2.0), 1.0)
    np.testing.assert_allclose(ours.row(3).power, ours.power[3], rtol=1e-6)
    single = dynamical_power_spectrum(observed(drifting[1]), SEGMENT, norm="leahy")
    assert single.power.dtype == jnp.float32
    np.testing.assert_allclose(single.power, ours.power, atol=1e-5 * float(ours.power.mean()))


def test_rebinnings_are_stingrays(ours, theirs):
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same(rebin_times(ours, 20.0), theirs.rebin_time(20.0))
        same(rebin_frequencies(ours, 0.3), theirs.rebin_frequency(0.3))
        # Stingray adds the rows up in the original.
        averaged = copy.deepcopy(theirs).rebin_by_n_intervals(3)
        mine = average_times(ours, 3)
        same(mine, averaged)
        assert float(mine.m) == averaged.m == 3
        assert float(rebin_times(ours, 20.0).m) == 2.5


def test_maxima_are_stingrays(ours, theirs):
    for band in ((None, None), (0.5, 3.0)):
        kwargs = {} if band[0] is None else {"low": band[0], "high": band[1]}
        np.testing.assert_array_equal(trace_maximum(ours, **kwargs), theirs.trace_maximum(*band))
    trace = np.asarray(ours.freq)[np.asarray(trace_maximum(ours))]
    np.testing.assert_allclose(trace, 1.0 + ours.times / (N * DT), atol=0.13)


def test_shift_and_add_is_stingrays(ours, theirs):
    centres = 1.0 + np.asarray(ours.times) / (N * DT)
    for n_bins in (9, 30):
        expected = theirs.shift_and_add(centres, nbins=n_bins)
        with jax.enable_x64(True):
            freq, power, m = jax.jit(shift_and_add, static_argnums=2)(ours, jnp.asarray(centres), n_bins)
        good = np.isfinite(power)
        np.testing.assert_allclose(np.asarray(freq)[good], expected.freq, rtol=1e-10)
        np.testing.assert_allclose(np.asarray(power)[good], expected.power, rtol=1e-10)
        np.testing.assert_allclose(np.asarray(m)[good], expected.m)
    assert np.argmax(power) in (14, 15, 16)


def test_gaps(drifting):
    gappy = dynamical_power_spectrum(observed(drifting[1], slice(500, 530)), SEGMENT)
    starts = [*range(0, 500 - 63, 64), *range(530, N - 63, 64)]
    np.testing.assert_allclose(gappy.times, (np.array(starts) + 32) * DT)
    with pytest.raises(InputError, match="must follow each other without gaps"):
        rebin_times(gappy, 20.0)
    assert average_times(gappy, 4).power.shape == (gappy.times.size // 4, 31)


def test_gradients(strict, drifting):
    spectrum = dynamical_power_spectrum(observed(drifting[1].astype(np.float32)), SEGMENT)

    def loss(power):
        held = dataclasses.replace(spectrum, power=power)
        return rebin_frequencies(average_times(held, 2), 0.3).power.sum()

    assert bool(jnp.isfinite(jax.grad(loss)(spectrum.power)).all())


def test_error_messages(ours):
    for bad in (0, 100):
        with pytest.raises(ValueError, match="n_averaged must be between 1 and the 20 rows, got"):
            average_times(ours, bad)
    with pytest.raises(ValueError, match="new_width must be at least"):
        rebin_times(ours, 1.0)
