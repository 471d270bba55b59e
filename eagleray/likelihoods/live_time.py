"""Exact likelihood of the events that a detector with non-paralyzable dead time records, for any rate.

The recorded events are a point process whose intensity is the rate wherever the detector is live and zero elsewhere, so

    ln L = sum_i ln rate(t_i) - integral of rate(t) over the live time,

with the detector blind for a dead time tau_i after each recorded event. Nothing is approximated: what a network must
learn from simulations of dead time is written down here, as long as tau is known. Several detectors that see the same
rate add their terms: their events and live intervals simply stand in one record.

The host makes records from event lists, good time intervals and dead times in float64 (`live_events`, `live_bins`); the
likelihoods are functions of the records. A rate that is constant in each bin needs only the counts and the live time
of the bins, which are sufficient statistics.

References:
    Daley & Vere-Jones (2003), An Introduction to the Theory of Point Processes I, section 7.2 (likelihood from the
    conditional intensity).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.records import AnyArray, EventList, TimeGrid

Rate = Callable[[Float[Array, " n"]], Float[Array, " n"]]
"""Times [s] -> a rate, or its logarithm, at each."""
RateIntegral = Callable[[Float[Array, " n"], Float[Array, " n"]], Float[Array, " n"]]
"""Starts and stops of intervals [s] -> expected number of events in each."""
DeadTime = float | Float[AnyArray, " n_events"]

# Clocks tick, and float32 times are rounded: intervals this much shorter than the dead time, in parts of it, pass.
_TOLERANCE = 0.01


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LiveEvents:
    """Recorded events, and when the detectors that recorded them were live.

    Attributes:
        times: (n_events,) arrival times [s]; entries of +inf are padding.
        live_start: (n_intervals,) starts of the live intervals [s].
        live_stop: (n_intervals,) their ends [s]; an interval that does not end after its start is padding.
    """

    times: Float[AnyArray, " n_events"]
    live_start: Float[AnyArray, " n_intervals"]
    live_stop: Float[AnyArray, " n_intervals"]

    @property
    def n_events(self) -> Float[Array, ""]:
        """Number of events."""
        return (self.times < jnp.inf).sum().astype(jnp.asarray(self.live_start).dtype)

    @property
    def live_time(self) -> Float[Array, ""]:
        """Live time of all detectors together [s]."""
        return jnp.maximum(jnp.asarray(self.live_stop) - jnp.asarray(self.live_start), 0).sum()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LiveBins:
    """Recorded events and live time in bins: all that a rate constant in each bin asks of the data.

    Attributes:
        counts: (n_bins,) events recorded in each bin.
        live: (n_bins,) live time of all detectors together in each bin [s].
    """

    counts: Float[AnyArray, " n_bins"]
    live: Float[AnyArray, " n_bins"]


def live_intervals(events: EventList, dead_time: DeadTime) -> NDArray[np.float64]:
    """Intervals in which one detector could record an event (host).

    Events outside the good time intervals are no data, but the dead time that they start is taken off.

    Args:
        events: Recorded events of one detector, with its good time intervals.
        dead_time: Dead time after each recorded event [s], one for all or (n_events,).

    Returns:
        (n_intervals, 2) starts and ends [s], sorted and disjoint.

    Raises:
        ValueError: If times are not sorted, dead times are negative or of another shape, or events follow each other
            within a dead time, which such a detector cannot record.
    """
    times, busy = _checked(events, dead_time)
    starts = np.concatenate([[-np.inf], times + busy])
    stops = np.concatenate([times, [np.inf]])
    pieces = []
    for low, high in np.asarray(events.gti, np.float64):
        first, last = np.searchsorted(stops, low, side="right"), np.searchsorted(starts, high, side="left")
        inside = np.stack([np.maximum(starts[first:last], low), np.minimum(stops[first:last], high)], axis=1)
        pieces.append(inside[inside[:, 1] > inside[:, 0]])
    return np.concatenate([np.zeros((0, 2)), *pieces])


def live_events(
    events: EventList | Sequence[EventList], dead_time: DeadTime | Sequence[DeadTime], *, longest: float = math.inf
) -> LiveEvents:
    """Recorded events and live intervals of one or more detectors that see the same rate (host).

    Args:
        events: Recorded events of one detector, or of each.
        dead_time: Dead time [s]: a number, or (n_events,) one for each event; for several detectors a number, or one
            of these for each.
        longest: Live intervals longer than this are split [s]: for rates that have to be integrated numerically.

    Returns:
        Events inside the good time intervals and live intervals, in JAX's default floating type.

    Raises:
        ValueError: As `live_intervals`; or if `longest` is not positive, or there is not a dead time for each detector.
    """
    if not longest > 0:
        raise ValueError(f"longest must be positive (seconds), got {longest!r}")
    times, intervals = [], []
    for one, busy in _detectors(events, dead_time):
        times.append(_inside(one))
        intervals.append(_split(live_intervals(one, busy), longest))
    start, stop = np.concatenate(intervals).T
    return LiveEvents(
        times=jnp.asarray(np.concatenate(times), float),
        live_start=jnp.asarray(start, float),
        live_stop=jnp.asarray(stop, float),
    )


def live_bins(
    events: EventList | Sequence[EventList], dead_time: DeadTime | Sequence[DeadTime], grid: TimeGrid
) -> LiveBins:
    """Events and exact live time in each bin, of one or more detectors that see the same rate (host).

    Args:
        events: Recorded events of one detector, or of each, as offsets from the start of the grid. Events outside the
            grid are left out, but dead time that reaches in is taken off.
        dead_time: As in `live_events`.
        grid: Time bins.

    Returns:
        Counts and live time of each bin, in JAX's default floating type.

    Raises:
        ValueError: As `live_intervals`, or if there is not a dead time for each detector.
    """
    edges = np.arange(grid.n_bins + 1, dtype=np.float64) * grid.dt
    counts, live = np.zeros(grid.n_bins), np.zeros(grid.n_bins)
    for one, busy in _detectors(events, dead_time):
        bins = np.floor(_inside(one) / grid.dt).astype(np.int64)
        counts += np.bincount(bins[(bins >= 0) & (bins < grid.n_bins)], minlength=grid.n_bins)
        intervals = live_intervals(one, busy)
        if len(intervals):
            elapsed = np.concatenate([[0.0], np.cumsum(intervals[:, 1] - intervals[:, 0])])
            # Live time grows along intervals and stands still between them.
            corners = np.stack([elapsed[:-1], elapsed[1:]], axis=1).ravel()
            live += np.diff(np.interp(edges, intervals.ravel(), corners))
    return LiveBins(counts=jnp.asarray(counts, float), live=jnp.asarray(np.clip(live, 0.0, None), float))


def window_live_events(
    times: Float[Array, " max_events"], duration: float, dead_time: Float[Array, ""] | float
) -> LiveEvents:
    """Live intervals of one detector over one uninterrupted window, in JAX: to be jitted and vmapped with a simulator.

    Args:
        times: (max_events,) sorted times of recorded events from the start of the window [s], padded with +inf.
        duration: Length of the window [s].
        dead_time: Dead time after each recorded event [s], one for all or (max_events,).

    Returns:
        Record with max_events + 1 live intervals. The detector is taken to be live when the window opens.
    """
    end = jnp.full((1,), duration, times.dtype)
    start = jnp.concatenate([jnp.zeros_like(end), times + jnp.asarray(dead_time, times.dtype)])
    return LiveEvents(
        times=times,
        live_start=jnp.minimum(start, end),
        live_stop=jnp.minimum(jnp.concatenate([times, end]), end),
    )


def live_log_likelihood(events: LiveEvents, log_rate: Rate, integral: RateIntegral) -> Float[Array, ""]:
    """Ln likelihood of recorded events under a rate.

    Args:
        events: Events and live intervals.
        log_rate: Times [s] -> ln of the incident rate [counts/s].
        integral: Starts and stops [s] -> integral of the rate over each interval: a closed form, or `quadrature`.

    Returns:
        Ln likelihood, up to nothing: the density of the times with respect to a Poisson process of unit rate.
    """
    times = jnp.asarray(events.times)
    start, stop = jnp.asarray(events.live_start), jnp.asarray(events.live_stop)
    valid, live = times < jnp.inf, stop > start
    # Padding is evaluated at real times, so that no gradient through it is NaN.
    recorded = log_rate(jnp.where(valid, times, start[0]))
    missed = integral(jnp.where(live, start, start[0]), jnp.where(live, stop, start[0]))
    return jnp.where(valid, recorded, 0).sum() - jnp.where(live, missed, 0).sum()


def quadrature(rate: Rate, n_nodes: int = 4) -> RateIntegral:
    """Integral of a smooth rate by the Gauss-Legendre rule on each interval.

    Args:
        rate: Times [s] -> rate [counts/s]; it is given all nodes as one vector.
        n_nodes: Nodes of each interval (static). An oscillation needs intervals no longer than about a cycle to be
            exact to 1e-4 with four nodes: see `longest` of `live_events`.

    Returns:
        Function of starts and stops.

    Raises:
        ValueError: If there is no node.
    """
    if n_nodes < 1:
        raise ValueError(f"n_nodes must be at least 1, got {n_nodes!r}")
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)

    def integral(start: Float[Array, " n"], stop: Float[Array, " n"]) -> Float[Array, " n"]:
        half = 0.5 * (stop - start)
        at = (start + half)[:, None] + half[:, None] * jnp.asarray(nodes, start.dtype)
        return half * (rate(at.ravel()).reshape(at.shape) @ jnp.asarray(weights, start.dtype))

    return integral


def binned_log_likelihood(bins: LiveBins, log_rate: Float[Array, " n_bins"]) -> Float[Array, ""]:
    """Ln likelihood of recorded events under a rate that is constant in each bin: exact, whatever the dead time.

    Args:
        bins: Counts and live time of each bin.
        log_rate: (n_bins,) ln of the incident rate [counts/s].

    Returns:
        Ln likelihood, as `live_log_likelihood`.

    Raises:
        ValueError: If the rate has not one entry for each bin.
    """
    counts, live = jnp.asarray(bins.counts), jnp.asarray(bins.live)
    if log_rate.shape != counts.shape:
        raise ValueError(f"log_rate must have shape {counts.shape}, one entry for each bin, got {log_rate.shape}")
    return (counts * log_rate - live * jnp.exp(log_rate)).sum()


def gamma_posterior(
    events: LiveEvents, shape: Float[Array, ""] | float, inverse_scale: Float[Array, ""] | float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Posterior of a constant rate under a Gamma prior, which is conjugate to events behind dead time.

    Args:
        events: Events and live intervals.
        shape: Shape of the prior.
        inverse_scale: Inverse scale of the prior [s]; its mean is shape / inverse_scale.

    Returns:
        Shape and inverse scale of the posterior: the events are added to one and the live time to the other.
    """
    return shape + events.n_events, inverse_scale + events.live_time


def sinusoidal_log_likelihood(
    events: LiveEvents,
    *,
    rate: Float[Array, ""],
    amplitude: Float[Array, ""],
    freq: Float[Array, ""],
    phase: Float[Array, ""],
) -> Float[Array, ""]:
    """Ln likelihood of recorded events under rate (1 + amplitude cos(2 pi (freq t - phase))), in closed form.

    In float32 a time t knows its phase to about freq t 1e-7 cycles: beyond 1e4 cycles enable float64.

    Args:
        events: Events and live intervals.
        rate: Mean incident rate [counts/s].
        amplitude: Fractional amplitude, 0 to below 1.
        freq: Pulse frequency [Hz], positive.
        phase: Phase of the maximum at time zero [cycles].

    Returns:
        Ln likelihood, as `live_log_likelihood`.
    """

    def log_rate(times: Float[Array, " n"]) -> Float[Array, " n"]:
        return jnp.log(rate) + jnp.log1p(amplitude * _cosine(freq * times - phase))

    def integral(start: Float[Array, " n"], stop: Float[Array, " n"]) -> Float[Array, " n"]:
        # A difference of sines at both ends would lose what is left of the phase; this product does not.
        length = stop - start
        middle = _cosine(freq * (start + 0.5 * length) - phase)
        return rate * length * (1.0 + amplitude * middle * jnp.sinc(freq * length))

    return live_log_likelihood(events, log_rate, integral)


def _cosine(cycles: Float[Array, " n"]) -> Float[Array, " n"]:
    """Cosine of phases in cycles, whole cycles taken off first."""
    return jnp.cos(2.0 * math.pi * (cycles - jax.lax.stop_gradient(jnp.round(cycles))))


def _detectors(
    events: EventList | Sequence[EventList], dead_time: DeadTime | Sequence[DeadTime]
) -> list[tuple[EventList, DeadTime]]:
    """Each detector's events with its dead time."""
    if isinstance(events, EventList):
        return [(events, np.asarray(dead_time, np.float64))]
    if isinstance(dead_time, Sequence):
        if len(dead_time) != len(events):
            raise ValueError(f"dead_time must have one entry for each of {len(events)} detectors, got {len(dead_time)}")
        return list(zip(events, dead_time, strict=True))
    if np.ndim(dead_time) > 0:
        raise ValueError(f"dead_time must be a number, or a sequence with an entry for each of {len(events)} detectors")
    return [(one, dead_time) for one in events]


def _checked(events: EventList, dead_time: DeadTime) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Times and dead times of one detector, if it can have recorded them."""
    times = np.asarray(events.times, np.float64)
    busy = np.asarray(dead_time, np.float64)
    if busy.shape not in ((), times.shape):
        raise ValueError(f"dead_time must have shape () or {times.shape}, got {busy.shape}")
    busy = np.broadcast_to(busy, times.shape)
    if not np.all(busy >= 0):
        raise ValueError(f"dead_time must not be negative (seconds), got {busy.min()!r}")
    gaps = np.diff(times)
    if np.any(gaps < 0):
        raise ValueError("times must be sorted")
    short = gaps < (1.0 - _TOLERANCE) * busy[:-1]
    if short.any():
        raise ValueError(
            f"dead_time must not exceed the interval to the next recorded event of the same detector, got "
            f"{busy[:-1][short][0]:g} s before an interval of {gaps[short][0]:g} s"
        )
    return times, busy


def _inside(events: EventList) -> NDArray[np.float64]:
    """Times inside the good time intervals, ends excluded."""
    times, gti = np.asarray(events.times, np.float64), np.asarray(events.gti, np.float64)
    index = np.searchsorted(gti[:, 0], times, side="right") - 1
    return times[(index >= 0) & (times < gti[np.maximum(index, 0), 1])] if len(gti) else times[:0]


def _split(intervals: NDArray[np.float64], longest: float) -> NDArray[np.float64]:
    """Cut each interval into the fewest equal parts that are not longer than a limit."""
    length = intervals[:, 1] - intervals[:, 0]
    parts = np.maximum(np.ceil(length / longest), 1).astype(np.int64)
    owner = np.repeat(np.arange(len(intervals)), parts)
    place = np.arange(len(owner)) - np.repeat(np.cumsum(parts) - parts, parts)
    step = (length / parts)[owner]
    start = intervals[owner, 0] + place * step
    return np.stack([start, np.minimum(start + step, intervals[owner, 1])], axis=1)
