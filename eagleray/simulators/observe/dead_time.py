"""Dead time, event by event: which events a detector records, and how long it was live.

Every function takes one sorted, padded event list (see `events`); `jax.vmap` makes many. Times are floating-point
seconds or integer ticks, and dead times are in the same unit: one for all events, or one for each. `paralysing` marks
the events that reach the detector at all: leave out of it what an earlier stage removed. Events of the background
paralyse like those of the source: merge them first (`events.merge_events`) and bring the mask back afterwards.

Batches: with `jax.vmap(..., in_axes=1, out_axes=1)` on arrays of shape (n_events, n_batch) the scan reads memory in
order and is about five times faster on a CPU than with the batch first.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Num

from eagleray.records import TimeGrid
from eagleray.simulators.observe.events import Number, bin_index, is_valid
from eagleray.simulators.observe.running import running_max

DeadTime = Num[Array, ""] | Num[Array, " n"] | float | int
"""One dead time for all events, or one for each, in the unit of the times."""


def non_paralyzable_mask(
    times: Num[Array, " n"], dead_time: DeadTime, paralysing: Bool[Array, " n"] | None = None
) -> Bool[Array, " n"]:
    """Find the events recorded by a detector whose dead time starts with recorded events only.

    An event is lost if it comes before the end of the dead time of the last recorded event; exactly at the end it is
    recorded. The dead time of a lost event has no effect.

    Args:
        times: (n,) sorted, padded times [s] or ticks.
        dead_time: Dead time, or (n,) one for each event, not negative, in the unit of the times.
        paralysing: (n,) events that reach the detector; all if None.

    Returns:
        (n,) True for recorded events; False for padding.

    References:
        Zhang et al. (1995), ApJ 449, 930, section 2. The same mask as `stingray.filters.filter_for_deadtime`.
    """
    busy = _as_type_of(times, dead_time)
    never, first = _before_all(times.dtype)
    # One stream instead of two: an event that comes before everything is never recorded and changes nothing.
    arrivals = times if paralysing is None else jnp.where(paralysing, times, never)

    def step(live_from: Num[Array, ""], event: tuple[Num[Array, ""], ...]):
        time, *own = event
        recorded = time >= live_from
        return jnp.where(recorded, time + (own[0] if own else busy), live_from), recorded

    events = (arrivals,) if busy.ndim == 0 else (arrivals, busy)
    _, recorded = lax.scan(step, first, events)
    return recorded & is_valid(times)


def paralyzable_mask(
    times: Num[Array, " n"],
    dead_time: DeadTime,
    paralysing: Bool[Array, " n"] | None = None,
    overlap: Literal["longest", "latest"] = "longest",
) -> Bool[Array, " n"]:
    """Find the events recorded by a detector in which every event, recorded or lost, starts a dead time.

    Args:
        times: (n,) sorted, padded times [s] or ticks.
        dead_time: Dead time, or (n,) one for each event, not negative, in the unit of the times.
        paralysing: (n,) events that reach the detector; all if None.
        overlap: How dead times of different length overlap (static). "longest": the detector is live once all of them
            are over, the type II counter. "latest": each event replaces the dead time before it, as in Stingray. For
            one constant dead time the two agree.

    Returns:
        (n,) True for recorded events; False for padding.

    Raises:
        ValueError: If overlap is not one of the two names.

    References:
        Takacs (1958), Annals of Mathematical Statistics 29, 1257 (type II counters). "latest" is the mask of
        `stingray.filters.filter_for_deadtime(paralyzable=True)`.
    """
    live_from = _live_from(times, dead_time, paralysing, overlap)
    reached = is_valid(times) if paralysing is None else is_valid(times) & paralysing
    return reached & (times >= live_from)


def detector_mask(
    mask: Callable[[Bool[Array, " n"]], Bool[Array, " n"]], detector: Int[Array, " n"], n_detectors: int
) -> Bool[Array, " n"]:
    """Apply dead time to several independent detectors whose events share one list.

    Args:
        mask: Function from the paralysing events to the recorded ones, for example
            `lambda paralysing: non_paralyzable_mask(times, dead_time, paralysing)`.
        detector: (n,) number of the detector of each event, 0 to n_detectors - 1.
        n_detectors: Number of detectors (static). The work grows in proportion; for many detectors draw one list for
            each and use `jax.vmap`.

    Returns:
        (n,) True for events recorded by their own detector; False for any other detector number.
    """
    numbers = jnp.arange(n_detectors, dtype=detector.dtype)
    return jax.vmap(lambda number: mask(detector == number))(numbers).any(axis=0)


def prior_live_time(
    times: Num[Array, " n"],
    dead_time: DeadTime,
    recorded: Bool[Array, " n"],
    paralysing: Bool[Array, " n"] | None = None,
) -> Num[Array, " n"]:
    """Live time between each recorded event and the one recorded before it: the PRIOR column of NuSTAR event files.

    Args:
        times: (n,) sorted, padded times [s] or ticks.
        dead_time: Dead time, or (n,) one for each event, in the unit of the times.
        recorded: (n,) recorded events.
        paralysing: (n,) events that start a dead time: None means the recorded ones (non-paralyzable); give all
            events that reach the detector if it is paralyzable (dead times then overlap as "longest").

    Returns:
        (n,) live time [unit of the times]; for the first event, since the start of the window. Zero for events that
        were not recorded. Its sum is the live time up to the last recorded event.

    References:
        Column PRIOR of NuSTAR event files: the NuSTAR Data Analysis Software Guide. There it counts from the previous
        event of any kind, so leave in `recorded` what the ground software would reject.
    """
    live_from = _live_from(times, dead_time, recorded if paralysing is None else paralysing, "longest")
    since = jnp.where(recorded, times, 0) - jnp.where(recorded, jnp.maximum(live_from, 0), 0)
    return jnp.where(recorded, since, 0)


def live_time(
    times: Float[Array, " n"],
    dead_time: DeadTime,
    paralysing: Bool[Array, " n"],
    grid: TimeGrid,
) -> Float[Array, " n_bins"]:
    """Time in each bin during which the detector could record an event.

    Args:
        times: (n,) sorted, padded times [s].
        dead_time: Dead time [s], or (n,) one for each event.
        paralysing: (n,) events that start a dead time: the recorded ones if non-paralyzable, all that reach the
            detector if paralyzable (overlapping dead times count once).
        grid: Time bins (static).

    Returns:
        (n_bins,) live time [s], between 0 and dt up to rounding.

    References:
        The integral of the rate in the likelihood of a point process, sum_i log lambda(t_i) - int lambda(t) live(t) dt:
        Daley & Vere-Jones (2003), An Introduction to the Theory of Point Processes I, section 7.2.
    """
    busy = _as_type_of(times, dead_time)
    active = paralysing & is_valid(times)
    ends = running_max(jnp.where(active, times + busy, 0))
    added = jnp.where(active, ends - jnp.maximum(times, _shift(ends, 0)), 0)
    index = bin_index(times, grid)
    nothing = jnp.zeros((grid.n_bins,), times.dtype)
    by_start = nothing.at[index].add(added, mode="drop")
    # Each dead time is booked where it starts; what reaches over an edge then moves to the next bin.
    last_end = running_max(nothing.at[index].max(ends, mode="drop"))
    right_edges = (jnp.arange(grid.n_bins, dtype=times.dtype) + 1) * grid.dt
    over = jnp.maximum(last_end - right_edges, 0)
    return grid.dt - (by_start - over + _shift(over, 0))


def non_paralyzable_rate(rate: Number, dead_time: Number) -> Number:
    """Mean recorded rate of a steady source behind non-paralyzable dead time: r / (1 + r tau).

    Args:
        rate: Incident rate r [counts/s].
        dead_time: Dead time tau [s]; its mean if it varies from event to event.

    Returns:
        Recorded rate [counts/s].

    References:
        Zhang et al. (1995), ApJ 449, 930, section 2.
    """
    return rate / (1 + rate * dead_time)


def incident_rate(recorded_rate: Number, dead_time: Number) -> Number:
    """Incident rate behind non-paralyzable dead time, the inverse of `non_paralyzable_rate`: r / (1 - r tau).

    Args:
        recorded_rate: Recorded rate r [counts/s], below 1 / tau.
        dead_time: Dead time tau [s].

    Returns:
        Incident rate [counts/s].
    """
    return recorded_rate / (1 - recorded_rate * dead_time)


def paralyzable_rate(rate: Number, dead_time: Number) -> Number:
    """Mean recorded rate of a steady source behind paralyzable dead time: r exp(-r tau).

    Args:
        rate: Incident rate r [counts/s].
        dead_time: Dead time tau [s]; its mean if it varies from event to event and overlaps as "longest".

    Returns:
        Recorded rate [counts/s]; highest, 1 / (e tau), at r = 1 / tau.

    References:
        Zhang et al. (1995), ApJ 449, 930, section 2. For varying dead times: Takacs (1958), idle probability of the
        M/G/infinity queue.
    """
    return rate * jnp.exp(-rate * dead_time)


def _live_from(
    times: Num[Array, " n"], dead_time: DeadTime, paralysing: Bool[Array, " n"] | None, overlap: str
) -> Num[Array, " n"]:
    """Moment from which each event would find the detector live, given the paralysing events before it."""
    if overlap not in ("longest", "latest"):
        raise ValueError(f"overlap must be 'longest' or 'latest', got {overlap!r}")
    busy = _as_type_of(times, dead_time)
    _, first = _before_all(times.dtype)
    ends = times + busy
    if paralysing is None:
        # Constant dead times end in the order in which they start.
        return _shift(ends if overlap == "latest" or busy.ndim == 0 else running_max(ends), first)
    if overlap == "longest":
        return _shift(running_max(jnp.where(paralysing, ends, first)), first)
    order = jnp.arange(times.shape[0], dtype=jnp.int32)
    latest = _shift(running_max(jnp.where(paralysing, order, -1)), jnp.int32(-1))
    return jnp.where(latest >= 0, ends[latest], first)


def _shift(values: Num[Array, " n"], first: Num[Array, ""] | int) -> Num[Array, " n"]:
    """Each entry becomes the one before it."""
    return jnp.concatenate([jnp.full((1,), first, values.dtype), values[:-1]])


def _as_type_of(times: Num[Array, " n"], dead_time: DeadTime) -> Num[Array, "..."]:
    """Dead time as an array of the type of the times, of no or the same dimension."""
    busy = jnp.asarray(dead_time)
    if jnp.issubdtype(times.dtype, jnp.integer) and not jnp.issubdtype(busy.dtype, jnp.integer):
        raise TypeError(f"dead_time must be in whole ticks where times are, got {busy.dtype}")
    if busy.shape not in ((), times.shape):
        raise ValueError(f"dead_time must have shape () or {times.shape}, got {busy.shape}")
    return busy.astype(times.dtype)


def _before_all(dtype: DTypeLike) -> tuple[Num[Array, ""], Num[Array, ""]]:
    """A time that is never recorded, and the start of a detector that records the first event whenever it comes."""
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.asarray(-jnp.inf, dtype), jnp.asarray(jnp.finfo(dtype).min, dtype)
    lowest = jnp.iinfo(dtype).min
    return jnp.asarray(lowest, dtype), jnp.asarray(lowest + 1, dtype)
