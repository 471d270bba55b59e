"""Which bins of a light curve make a segment: chosen on the host, used on the device as fixed indices."""

import dataclasses
import functools
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Int
from numpy.typing import ArrayLike

from eagleray.errors import InputError
from eagleray.records import EventList, TimeGrid

EDGE_TOLERANCE = 1e-3
"""How far a bin may stick out of a good time interval [bins], as in Stingray."""
EVENT_TOLERANCE = 1e-5
"""How far a segment of events may stick out of a good time interval [s], as in Stingray."""
ROUNDING_TOLERANCE = 0.01
"""A segment this close below a whole number of bins is rounded up [bins], as in Stingray."""


@dataclasses.dataclass(frozen=True, eq=False)
class Segments:
    """Equally long runs of neighbouring bins.

    Attributes:
        starts: (n_segments,) first bin of each segment.
        n_bins: Bins of a segment.
        dt: Bin width [s].
    """

    starts: Int[np.ndarray, " n_segments"]
    n_bins: int
    dt: float

    @functools.cached_property
    def bins(self) -> Int[np.ndarray, "n_segments n_bins"]:
        """Bins of each segment, shape (n_segments, n_bins)."""
        return self.starts[:, None] + np.arange(self.n_bins)

    @property
    def duration(self) -> float:
        """Length of a segment [s]."""
        return self.n_bins * self.dt

    @property
    def times(self) -> Float64[np.ndarray, " n_segments"]:
        """Middle of each segment [s], as an offset from the left edge of the first bin, shape (n_segments,)."""
        return (self.starts + 0.5 * self.n_bins) * self.dt

    def cut(self, values: Float[Array, "*channels n_total"]) -> Float[Array, "*channels n_segments n_bins"]:
        """The segments of one light curve, or of several on the same bins.

        Args:
            values: (..., n_total) values of all bins.

        Returns:
            (..., n_segments, n_bins) values of the bins in segments.
        """
        return jnp.take(jnp.asarray(values), self.bins, axis=-1)


def bins_in_segment(segment_size: float, dt: float) -> int:
    """Bins of a segment: as many as fit, or one more where that is within 1 % of a bin.

    Args:
        segment_size: Wanted length [s].
        dt: Bin width [s].

    Raises:
        InputError: If fewer than two bins fit.
    """
    wanted = segment_size / dt if dt > 0 else math.nan
    if not 2 - ROUNDING_TOLERANCE < wanted < math.inf:
        raise InputError(f"segment_size must be at least two bins of dt = {dt!r} s, got {segment_size!r} s")
    up = math.ceil(wanted)
    return up if up - wanted < ROUNDING_TOLERANCE else math.floor(wanted)


def segments_from_exposure(
    exposure: ArrayLike, segment_size: float, dt: float, *, min_exposure: float = 1.0 - EDGE_TOLERANCE
) -> Segments:
    """Segments without gaps: each run of exposed bins is cut from its start; what is left at its end is not used.

    Args:
        exposure: (n_total,) fraction of each bin watched.
        segment_size: Wanted length of a segment [s].
        dt: Bin width [s].
        min_exposure: Least exposure of a bin in a segment.

    Returns:
        The segments, in time order.

    Raises:
        ValueError: If a segment has fewer than two bins.
        InputError: If no run of exposed bins is as long as a segment.
    """
    n_bins = bins_in_segment(segment_size, dt)
    watched = np.concatenate([[False], np.asarray(exposure, np.float64) >= min_exposure, [False]])
    change = np.flatnonzero(watched[1:] != watched[:-1])
    return _cut(change[::2], change[1::2], n_bins, dt)


def segments_from_gti(gti: ArrayLike, segment_size: float, grid: TimeGrid) -> Segments:
    """Segments that restart at each good time interval, as Stingray cuts binned light curves.

    Args:
        gti: (n_gti, 2) good time intervals [s], as offsets from the left edge of the first bin, sorted and disjoint.
        segment_size: Wanted length of a segment [s].
        grid: Time bins.

    Returns:
        The segments, in time order. A bin belongs to an interval if it lies inside to a thousandth of its width.

    Raises:
        ValueError: If the intervals are not of shape (n_gti, 2), or a segment has fewer than two bins.
        InputError: If no interval is as long as a segment.
    """
    edges = np.asarray(gti, np.float64)
    if edges.ndim != 2 or edges.shape[1] != 2:
        raise ValueError(f"gti must have shape (n_gti, 2), got {edges.shape}")
    first = np.ceil(edges[:, 0] / grid.dt - EDGE_TOLERANCE).astype(int)
    last = np.floor(edges[:, 1] / grid.dt + EDGE_TOLERANCE).astype(int)
    n_bins = bins_in_segment(segment_size, grid.dt)
    return _cut(np.clip(first, 0, grid.n_bins), np.clip(last, 0, grid.n_bins), n_bins, grid.dt)


def _cut(first: np.ndarray, last: np.ndarray, n_bins: int, dt: float) -> Segments:
    """Segments of n_bins in each run of bins from `first` up to, not with, `last`."""
    starts = [np.arange(a, b - n_bins + 1, n_bins) for a, b in zip(first, last, strict=True)]
    joined = np.concatenate([*starts, np.zeros(0, int)]).astype(int)
    if joined.size == 0:
        longest = max(0, int(np.max(last - first, initial=0))) * dt
        raise InputError(
            f"no stretch without gaps is as long as a segment of {n_bins * dt:g} s (the longest has {longest:g} s); "
            "use a shorter segment_size"
        )
    return Segments(starts=joined, n_bins=n_bins, dt=dt)


def event_segments(gti: ArrayLike, segment_size: float, dt: float) -> tuple[Float64[np.ndarray, " n_segments"], int]:
    """Where segments of an event list start, and how many bins each has.

    Args:
        gti: (n_gti, 2) good time intervals [s], sorted and disjoint.
        segment_size: Wanted length of a segment [s].
        dt: Bin width [s].

    Returns:
        (n_segments,) starts [s], and the number of bins. As in Stingray a segment may stick out of its interval by
        1e-5 s.

    Raises:
        ValueError: If a segment has fewer than two bins.
        InputError: If no interval is as long as a segment.
    """
    n_bins = bins_in_segment(segment_size, dt)
    duration = n_bins * dt
    starts = [np.zeros(0)]
    for begin, end in np.asarray(gti, np.float64):
        n_segments = max(0, math.floor((end - begin + EVENT_TOLERANCE) / duration))
        starts.append(begin + duration * np.arange(n_segments))
    joined = np.concatenate(starts)
    if joined.size == 0:
        raise InputError(f"no good time interval is as long as a segment of {duration:g} s; use a shorter segment_size")
    return joined, n_bins


def common_gti(gti_1: ArrayLike, gti_2: ArrayLike) -> Float64[np.ndarray, "n_gti 2"]:
    """Good time intervals of two instruments together, shape (n_gti, 2), in the unit of the two."""
    pairs = [(max(a, c), min(b, d)) for a, b in np.asarray(gti_1, np.float64) for c, d in np.asarray(gti_2, np.float64)]
    return np.array(sorted(pair for pair in pairs if pair[0] < pair[1])).reshape(-1, 2)


def count_in_segments(
    events: EventList, segment_size: float | None, dt: float, *, gti: ArrayLike | None = None, stretch: bool = False
) -> tuple[Float64[np.ndarray, "n_segments n_bins"], Float64[np.ndarray, " n_segments"]]:
    """Counts per bin of each segment of an event list.

    Args:
        events: Arrival times and good time intervals.
        segment_size: Wanted length of a segment [s]; None for one segment as long as the one good time interval.
        dt: Bin width [s].
        gti: (n_gti, 2) good time intervals [s] instead of those of the events.
        stretch: Where one segment is no whole number of bins long, do not cut it to one but fill it with wider bins,
            as Stingray does.

    Returns:
        (n_segments, n_bins) counts, and the (n_segments,) starts of the segments [s]. Bins are closed on the left.

    Raises:
        ValueError: If a segment has fewer than two bins, or `segment_size` is None and there are several intervals.
        InputError: If no interval is as long as a segment.
    """
    times = np.asarray(events.times, np.float64)
    intervals = np.asarray(events.gti if gti is None else gti, np.float64)
    if segment_size is None:
        if len(intervals) != 1:
            raise ValueError(f"segment_size must be given where there are several gti, got {len(intervals)} of them")
        start, end = (float(edge) for edge in intervals[0])
        starts, n_bins = np.array([start]), bins_in_segment(end - start, dt)
        duration = end - start if stretch else n_bins * dt
    else:
        starts, n_bins = event_segments(intervals, segment_size, dt)
        duration = n_bins * dt
    first, last = np.searchsorted(times, starts), np.searchsorted(times, starts + duration)
    counts = [_count(times[a:b] - start, n_bins, duration) for start, a, b in zip(starts, first, last, strict=True)]
    return np.stack(counts), starts


def _count(offsets: np.ndarray, n_bins: int, duration: float) -> Float64[np.ndarray, " n_bins"]:
    """Histogram of event times within [0, duration)."""
    bins = (offsets * (n_bins / duration)).astype(int)
    return np.bincount(np.minimum(bins, n_bins - 1), minlength=n_bins).astype(np.float64)
