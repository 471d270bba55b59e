"""Searches give Stingray's numbers at every trial, and find a kilohertz pulsar after 1e8 cycles in float32."""

import jax
import numpy as np
import pytest
from stingray.pulse import search

from eagleray.summaries.phases import pulse_phase
from eagleray.summaries.pulsations.search import (
    epoch_folding_search,
    h_test_search,
    phase_dispersion_search,
    z_squared_search,
)
from eagleray.summaries.pulsations.statistics import z_squared

RNG = np.random.default_rng(4)
FREQ = 3.21
TIMES = np.sort(RNG.uniform(0.0, 100.0, 1500))
TIMES = TIMES[RNG.uniform(size=1500) < 0.6 + 0.4 * np.sin(2 * np.pi * FREQ * TIMES)]
TIMES = TIMES - TIMES[0]
FREQS = np.linspace(3.15, 3.27, 9)
DERIVATIVES = np.array([-1e-4, 0.0])
# Stingray leaves the last event out.
SEEN = TIMES[:-1]


@pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-10), (False, 2e-2)])
def test_binned_searches_are_stingrays(x64, rtol):
    """In float32 an event may cross a bin's edge: a whole event changes place."""
    with jax.enable_x64(x64):
        _, _, z = search.z_n_search(TIMES, FREQS, nharm=3, nbin=32, fdots=DERIVATIVES)
        ours = z_squared_search(SEEN, FREQS[None, :], DERIVATIVES[:, None], n_harmonics=3, n_bins=32)
        np.testing.assert_allclose(ours, z, rtol=rtol)
        _, chi_squared = search.epoch_folding_search(TIMES, FREQS, nbin=16)
        np.testing.assert_allclose(epoch_folding_search(SEEN, FREQS, n_bins=16), chi_squared, rtol=rtol)
        values = np.sin(2 * np.pi * FREQ * TIMES) + RNG.normal(size=TIMES.size)
        _, theta = search.phase_dispersion_search(TIMES, values, FREQS, nbin=8)
        # Stingray takes the variance over all values, the last included in no bin.
        ours = phase_dispersion_search(SEEN, values[:-1], FREQS, n_bins=8)
        np.testing.assert_allclose(ours, theta, rtol=max(rtol, 1e-9))


def test_segments_are_averaged_as_in_stingray():
    with jax.enable_x64(True):
        _, theirs = search.z_n_search(TIMES, FREQS, nharm=2, nbin=64, segment_size=30.0)
        ours = z_squared_search(TIMES, FREQS, n_harmonics=2, n_bins=64, segment_size=30.0)
        np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_unbinned_search_is_z_squared_of_the_phases():
    z = z_squared_search(TIMES, FREQS, n_harmonics=2)
    statistic = jax.jit(lambda phase: z_squared(phase, 2)[-1])
    for got, freq in zip(z, FREQS, strict=True):
        direct = statistic(pulse_phase(TIMES, [freq]).astype(np.float32))
        np.testing.assert_allclose(got, direct, rtol=1e-4)
    assert FREQS[np.argmax(h_test_search(TIMES, FREQS, n_harmonics=5))] == pytest.approx(FREQ, abs=0.01)


def test_a_kilohertz_pulsar_after_1e8_cycles():
    """Frequency and derivative of a pulsar; twin: the same search on times rounded to float32."""
    freq, derivative = 1000.123456789, -3e-10
    times = np.sort(RNG.uniform(0.0, 1e5, 6000))
    phase = pulse_phase(times, [freq, derivative])
    times = times[RNG.uniform(size=6000) < 0.5 + 0.5 * np.cos(2 * np.pi * phase)]
    freqs = freq + np.arange(-2, 3) * 1e-5
    derivatives = derivative + np.arange(-2, 3) * 2e-10
    z = z_squared_search(times, freqs[None, :], derivatives[:, None], n_harmonics=1)
    assert np.unravel_index(np.argmax(z), z.shape) == (2, 2)
    assert float(z[2, 2]) == pytest.approx(times.size / 2, rel=0.1)
    rounded = z_squared_search(times.astype(np.float32).astype(np.float64), freqs[None, :], derivatives[:, None])
    assert float(rounded.max()) < 50.0


def test_error_messages():
    with pytest.raises(ValueError, match="n_bins must be at least 2, got 1"):
        epoch_folding_search(TIMES, FREQS, n_bins=1)
    with pytest.raises(ValueError, match=r"weights must have the shape of times \(3,\), got \(2,\)"):
        z_squared_search(TIMES[:3], FREQS, weights=np.ones(2))
    with pytest.raises(ValueError, match=r"values must have the shape of times \(3,\), got \(2,\)"):
        phase_dispersion_search(TIMES[:3], np.ones(2), FREQS)
    with pytest.raises(ValueError, match="segment_size must be positive"):
        z_squared_search(TIMES, FREQS, segment_size=0.0)
    with pytest.raises(ValueError, match="segment_size must leave a segment filled to 0.2, got 1000.0"):
        z_squared_search(TIMES, FREQS, segment_size=1000.0)
