"""Segments are Stingray's: from good time intervals, from exposure, and of events."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eagleray.errors import InputError
from eagleray.records import EventList, TimeGrid
from eagleray.summaries.segments import (
    bins_in_segment,
    common_gti,
    count_in_segments,
    event_segments,
    segments_from_exposure,
    segments_from_gti,
)

DT = 0.1
gaps = st.lists(st.floats(0.05, 30.0), min_size=2, max_size=8)


def intervals(steps):
    """Good time intervals from alternating lengths."""
    edges = np.cumsum(steps[: len(steps) // 2 * 2])
    return edges.reshape(-1, 2)


@settings(max_examples=60, deadline=None)
@given(gaps, st.floats(0.3, 5.0))
def test_binned_segments_are_stingrays(steps, segment_size):
    from stingray.gti import bin_intervals_from_gtis
    from stingray.utils import fix_segment_size_to_integer_samples

    gti = intervals(steps)
    n_total = int(np.ceil(gti[-1, 1] / DT)) + 3
    times = (np.arange(n_total) + 0.5) * DT
    size, n_bins = fix_segment_size_to_integer_samples(segment_size, DT)
    assert bins_in_segment(segment_size, DT) == n_bins
    long_enough = gti[:, 1] - gti[:, 0] > DT
    try:
        theirs, _ = bin_intervals_from_gtis(gti[long_enough], size, times, dt=DT)
    except (AssertionError, ValueError, IndexError):
        with pytest.raises(InputError, match="no stretch without gaps"):
            segments_from_gti(gti, segment_size, TimeGrid(n_bins=n_total, dt=DT))
        return
    ours = segments_from_gti(gti, segment_size, TimeGrid(n_bins=n_total, dt=DT))
    np.testing.assert_array_equal(ours.starts, theirs)


@settings(max_examples=60, deadline=None)
@given(gaps, st.floats(0.3, 5.0))
def test_event_segments_are_stingrays(steps, segment_size):
    from stingray.gti import time_intervals_from_gtis
    from stingray.utils import fix_segment_size_to_integer_samples

    gti = intervals(steps)
    size, _ = fix_segment_size_to_integer_samples(segment_size, DT)
    try:
        theirs, _ = time_intervals_from_gtis(gti, size)
    except AssertionError:
        with pytest.raises(InputError, match="no good time interval is as long"):
            event_segments(gti, segment_size, DT)
        return
    np.testing.assert_allclose(event_segments(gti, segment_size, DT)[0], theirs.astype(float), rtol=1e-12)


def test_exposure_and_intervals_agree():
    exposure = np.ones(100)
    exposure[[0, 37, 38, 90]] = 0.0
    exposure[60] = 0.5
    gti = np.array([[1, 37], [39, 60], [61, 90], [91, 100]]) * DT
    segments = segments_from_exposure(exposure, 0.7, DT)
    same = segments_from_gti(gti, 0.7, TimeGrid(n_bins=100, dt=DT))
    np.testing.assert_array_equal(segments.starts, same.starts)
    assert (segments.n_bins, segments.duration) == (7, pytest.approx(0.7))
    assert segments.times[0] == pytest.approx(0.45)
    cut = segments.cut(jnp.asarray(np.stack([np.arange(100.0), exposure])))
    assert cut.shape == (2, segments.starts.size, 7)
    np.testing.assert_array_equal(cut[0, :, 0], segments.starts)
    assert (np.asarray(cut[1]) == 1).all()


@pytest.mark.parametrize(("size", "n_bins"), [(1.0, 10), (1.0999, 11), (1.0989, 10), (1.04, 10), (0.3, 3)])
def test_whole_number_of_bins(size, n_bins):
    assert bins_in_segment(size, DT) == n_bins


def test_counts_of_events():
    rng = np.random.default_rng(0)
    gti = np.array([[0.0, 12.3], [20.0, 55.55]])
    times = np.sort(rng.uniform(0.0, 60.0, 3000))
    events = EventList(times=times, gti=gti)
    counts, starts = count_in_segments(events, 5.0, DT)
    np.testing.assert_allclose(starts, [0.0, 5.0, 20.0, 25.0, 30.0, 35.0, 40.0, 45.0, 50.0])
    for row, start in zip(counts, starts, strict=True):
        np.testing.assert_array_equal(row, np.histogram(times, start + DT * np.arange(51))[0])
    with pytest.raises(ValueError, match="segment_size must be given where there are several gti, got 2 of them"):
        count_in_segments(events, None, DT)
    one = EventList(times=times[times < 10.35], gti=np.array([[0.0, 10.35]]))
    whole, _ = count_in_segments(one, None, 1.0)
    np.testing.assert_array_equal(whole[0], np.histogram(times, np.arange(11.0))[0])
    stretched, _ = count_in_segments(one, None, 1.0, stretch=True)
    np.testing.assert_array_equal(stretched[0], np.histogram(times, np.linspace(0.0, 10.35, 11))[0])


@settings(max_examples=40, deadline=None)
@given(gaps, gaps)
def test_common_intervals_are_stingrays(first, second):
    from stingray.gti import cross_two_gtis

    first, second = intervals(first), intervals(second)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = np.asarray(cross_two_gtis(first, second)).reshape(-1, 2)
    np.testing.assert_allclose(common_gti(first, second), theirs)


def test_error_messages():
    for bad in (0.1, 0.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="segment_size must be at least two bins of dt = 0.1 s, got"):
            bins_in_segment(bad, DT)
    with pytest.raises(ValueError, match="segment_size must be at least two bins of dt = 0.0 s"):
        bins_in_segment(1.0, 0.0)
    with pytest.raises(InputError, match=r"as long as a segment of 5 s \(the longest has 1 s\)"):
        segments_from_exposure(np.ones(10), 5.0, DT)
    with pytest.raises(InputError, match=r"the longest has 0 s"):
        segments_from_exposure(np.zeros(10), 0.5, DT)
    with pytest.raises(ValueError, match=r"gti must have shape \(n_gti, 2\), got \(3,\)"):
        segments_from_gti(np.ones(3), 1.0, TimeGrid(n_bins=5, dt=DT))
