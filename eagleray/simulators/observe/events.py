"""Event lists on the device: fixed-size padded arrays, drawn from counts, thinned, merged and binned.

Valid events come first and in order of time; the rest of the array is padding (+inf for times in seconds, the largest
integer for ticks). A list that did not fit says so (`overflow`): it is never silently cut.

In float32 the step of a time t is about 1.2e-7 t: 1.2 us at 10 s, 0.1 ms at 1000 s. Where that matters use integer
ticks of the detector's own clock, which are exact up to 2^31 ticks.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Num, Shaped

from eagleray.records import Key, TimeGrid
from eagleray.simulators.observe.running import running_sum

Number = Float[Array, "..."] | float
"""A number or an array of numbers."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Events:
    """Arrival times of one observation, padded to a fixed size (`jax.vmap` puts batch axes in front).

    Attributes:
        times: (max_events,) sorted times [s] as offsets from the start of the window, or integer ticks; then padding.
        n_events: Number of valid entries.
        overflow: Whether there were, or may have been, more events than entries: such a draw must not be used.
    """

    times: Num[Array, "*batch max_events"]
    n_events: Int[Array, "*batch"]
    overflow: Bool[Array, "*batch"]


def padding_time(dtype: DTypeLike) -> float | int:
    """Time that marks an unused entry: +inf for floating-point times, the largest integer for ticks.

    Args:
        dtype: Type of the times.

    Returns:
        The padding value, as a Python number.
    """
    return math.inf if jnp.issubdtype(dtype, jnp.floating) else int(jnp.iinfo(dtype).max)


def is_valid(times: Num[Array, " n"]) -> Bool[Array, " n"]:
    """Mark the entries that are events and not padding.

    Args:
        times: (n,) padded times [s] or ticks.

    Returns:
        (n,) True for events.
    """
    return times < padding_time(times.dtype)


def event_capacity(expected_events: float, n_sigma: float = 8.0) -> int:
    """Size an array so that a Poisson number of events practically always fits.

    Args:
        expected_events: Largest expected number of events in the window.
        n_sigma: Standard deviations to leave free. With 8, fewer than one draw in 1e14 overflows.

    Returns:
        Number of entries: expected + n_sigma sqrt(expected) + n_sigma^2, rounded up.

    Raises:
        ValueError: If the expected number is negative or not finite.
    """
    if not 0 <= expected_events < math.inf:
        raise ValueError(f"expected_events must be finite and not negative, got {expected_events!r}")
    return math.ceil(expected_events + n_sigma * math.sqrt(expected_events) + n_sigma**2)


def unit_exponentials(key: Key, n_draws: int, dtype: DTypeLike) -> Float[Array, " n_draws"]:
    """Draw unit exponentials: the gaps of a Poisson process of rate one.

    Args:
        key: Typed PRNG key; consumed.
        n_draws: Number of draws (static).
        dtype: Floating-point type.

    Returns:
        (n_draws,) gaps [dimensionless].
    """
    # 1 - u is exact, and its logarithm costs half of log1p(-u) on a CPU.
    return -jnp.log(1 - jax.random.uniform(key, (n_draws,), dtype))


def _bins_of_events(counts: Num[Array, " n_bins"], max_events: int) -> tuple[Int[Array, " n"], Int[Array, ""]]:
    """Bin index of each event in order of time, and the total number of events."""
    counts = counts.astype(jnp.int32)
    bins = jnp.repeat(jnp.arange(counts.shape[0], dtype=jnp.int32), counts, total_repeat_length=max_events)
    return bins, counts.sum(dtype=jnp.int32)


def _padded(times: Num[Array, " n"], n_events: Int[Array, ""]) -> Events:
    """Sort the first n_events times and pad the rest."""
    max_events = times.shape[0]
    valid = jnp.arange(max_events, dtype=jnp.int32) < n_events
    padded = jnp.sort(jnp.where(valid, times, padding_time(times.dtype)))
    return Events(times=padded, n_events=jnp.minimum(n_events, max_events), overflow=n_events > max_events)


def events_from_counts(key: Key, counts: Num[Array, " n_bins"], grid: TimeGrid, max_events: int) -> Events:
    """Place the counted events uniformly inside their bins.

    With Poisson counts this is an exact draw of a Poisson process whose rate is constant within each bin.

    Args:
        key: Typed PRNG key; consumed.
        counts: (n_bins,) whole numbers of events per bin, of any type; a floating type fixes the type of the times,
            integer counts give float32.
        grid: Time bins (static).
        max_events: Entries of the result (static); see `event_capacity`.

    Returns:
        Events with times [s]. On overflow the latest events are missing.

    Raises:
        ValueError: If counts does not have one entry for each bin (found while tracing).
    """
    check_bins(counts, grid, "counts")
    dtype = counts.dtype if jnp.issubdtype(counts.dtype, jnp.floating) else jnp.float32
    bins, n_events = _bins_of_events(counts, max_events)
    times = (bins.astype(dtype) + jax.random.uniform(key, (max_events,), dtype)) * grid.dt
    return _padded(times, n_events)


def event_ticks_from_counts(key: Key, counts: Num[Array, " n_bins"], ticks_per_bin: int, max_events: int) -> Events:
    """Place the counted events on the ticks of a clock, uniformly inside their bins.

    Args:
        key: Typed PRNG key; consumed.
        counts: (n_bins,) whole numbers of events per bin.
        ticks_per_bin: Clock ticks in one bin (static).
        max_events: Entries of the result (static).

    Returns:
        Events whose times are int32 ticks since the start of the window; ties are possible.

    Raises:
        ValueError: If the window has more ticks than an int32 can count.
    """
    if ticks_per_bin < 1 or counts.shape[0] * ticks_per_bin >= jnp.iinfo(jnp.int32).max:
        raise ValueError(f"ticks_per_bin must be at least 1 and the window below 2^31 ticks, got {ticks_per_bin!r}")
    bins, n_events = _bins_of_events(counts, max_events)
    ticks = bins * ticks_per_bin + jax.random.randint(key, (max_events,), 0, ticks_per_bin, jnp.int32)
    return _padded(ticks, n_events)


def select_events(times: Shaped[Array, " n"], keep: Bool[Array, " n"]) -> Events:
    """Close ranks: move the kept events to the front and pad the rest.

    Args:
        times: (n,) padded times [s] or ticks.
        keep: (n,) which of them to keep; padding is dropped whatever it says.

    Returns:
        Events of the same size. `overflow` is False: nothing is lost here, but the flag of the list that the times
        came from still holds.
    """
    n = times.shape[0]
    keep = keep & is_valid(times)
    place = jnp.where(keep, running_sum(keep.astype(jnp.int32)) - 1, n)
    empty = jnp.full((n,), padding_time(times.dtype), times.dtype)
    packed = empty.at[place].set(times, mode="drop")
    return Events(times=packed, n_events=keep.sum(dtype=jnp.int32), overflow=jnp.zeros((), bool))


def thin_events(
    key: Key, times: Float[Array, " n"], fraction: Float[Array, " n_bins"], grid: TimeGrid
) -> Bool[Array, " n"]:
    """Keep each event with the probability of its time bin.

    Thinning a Poisson process of rate r with a fraction f gives two independent Poisson processes, of rates f r (kept)
    and (1 - f) r (not kept): so source and background can be drawn as one list and told apart afterwards.

    Args:
        key: Typed PRNG key; consumed.
        times: (n,) padded times [s].
        fraction: (n_bins,) probability of being kept in each bin [dimensionless].
        grid: Time bins (static).

    Returns:
        (n,) True for the kept events, False for padding and for times outside the grid.

    Raises:
        ValueError: If fraction does not have one entry for each bin (found while tracing).

    References:
        Lewis & Shedler (1979), Naval Research Logistics 26, 403.
    """
    check_bins(fraction, grid, "fraction")
    bins = bin_index(times, grid)
    probability = fraction.at[bins].get(mode="fill", fill_value=0.0)
    return jax.random.uniform(key, times.shape, fraction.dtype) < probability


def bin_index(times: Float[Array, " n"], grid: TimeGrid) -> Int[Array, " n"]:
    """Find the time bin of each event: floor(t / dt), with the end of the window in the last bin.

    Args:
        times: (n,) padded times [s].
        grid: Time bins (static).

    Returns:
        (n,) int32 index; n_bins for padding and for times outside the grid.
    """
    inside = (times >= 0) & (times <= grid.duration)
    # Rounding can move an event just inside the window onto its end; it must not be lost.
    index = jnp.minimum(times / grid.dt, grid.n_bins - 1)
    return jnp.where(inside, index, grid.n_bins).astype(jnp.int32)


def bin_events(
    times: Float[Array, " n"], grid: TimeGrid, weights: Shaped[Array, " n"] | None = None
) -> Float[Array, " n_bins"]:
    """Count events in time bins.

    Args:
        times: (n,) padded times [s]; they need not be sorted.
        grid: Time bins (static).
        weights: (n,) mask of the events to count, or a weight for each; all events if None.

    Returns:
        (n_bins,) counts per bin, in the type of the times (exact below 2^24 per bin in float32). Events outside the
        grid are not counted.
    """
    return _count(bin_index(times, grid), grid.n_bins, weights, times.dtype)


def bin_ticks(
    ticks: Int[Array, " n"], ticks_per_bin: int, n_bins: int, weights: Shaped[Array, " n"] | None = None
) -> Float[Array, " n_bins"]:
    """Count events given in clock ticks, exactly: an event on an edge belongs to the later bin.

    Args:
        ticks: (n,) padded ticks since the start of the window.
        ticks_per_bin: Clock ticks in one bin (static).
        n_bins: Number of bins (static).
        weights: (n,) mask of the events to count, or a weight for each; all events if None.

    Returns:
        (n_bins,) counts per bin, float32.
    """
    index = jnp.where((ticks >= 0) & is_valid(ticks), ticks // ticks_per_bin, n_bins)
    return _count(index, n_bins, weights, jnp.float32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class MergedEvents:
    """Two event lists in one order of time.

    Attributes:
        times: (n + m,) sorted times, padding last.
        first: (n,) position of each event of the first list: `mask[first]` brings a mask of the merged list back.
        second: (m,) position of each event of the second list.
    """

    times: Num[Array, "*batch n_merged"]
    first: Int[Array, "*batch n"]
    second: Int[Array, "*batch m"]


def merge_events(first: Num[Array, " n"], second: Num[Array, " m"]) -> MergedEvents:
    """Merge two sorted, padded lists, such as source and background events of one detector.

    Args:
        first: (n,) sorted, padded times.
        second: (m,) sorted, padded times in the same unit and of the same type.

    Returns:
        The merged list; of two equal times the one of the first list comes first.
    """
    n, m = first.shape[0], second.shape[0]
    of_first = jnp.arange(n, dtype=jnp.int32) + jnp.searchsorted(second, first, side="left").astype(jnp.int32)
    of_second = jnp.arange(m, dtype=jnp.int32) + jnp.searchsorted(first, second, side="right").astype(jnp.int32)
    times = jnp.zeros((n + m,), first.dtype).at[of_first].set(first).at[of_second].set(second)
    return MergedEvents(times=times, first=of_first, second=of_second)


def _count(
    index: Int[Array, " n"], n_bins: int, weights: Shaped[Array, " n"] | None, dtype: DTypeLike
) -> Float[Array, " n_bins"]:
    """Sum weights (ones if None) by bin; an index of n_bins falls off the end."""
    each = jnp.ones(index.shape, dtype) if weights is None else weights.astype(dtype)
    return jnp.zeros((n_bins,), dtype).at[index].add(each, mode="drop")


def check_bins(values: Shaped[Array, " n"], grid: TimeGrid, name: str) -> None:
    """Refuse an array that does not match the grid.

    Args:
        values: Array to check.
        grid: Time bins.
        name: Name of the array, for the message.

    Raises:
        ValueError: If the shape of values is not (n_bins,).
    """
    if values.shape != (grid.n_bins,):
        raise ValueError(f"{name} must have shape ({grid.n_bins},), one entry for each bin, got {values.shape}")
