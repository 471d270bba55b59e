"""Event times by time change: the inverse of the cumulative rate, applied to a unit-rate Poisson process.

If u_1 < u_2 < ... are the points of a unit-rate Poisson process (sums of unit exponentials), then t = Lambda^-1(u) are
the points of a process of rate lambda(t), with Lambda(t) the integral of lambda. The rate is constant within each bin,
Lambda is piecewise linear, and the inverse is exact; nothing is assumed about how events and bins compare in width.
Times are differentiable in the rate.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from eagleray.records import Key, TimeGrid
from eagleray.simulators.observe.events import Events, check_bins, unit_exponentials
from eagleray.simulators.observe.running import running_sum


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class CumulativeRate:
    """Integral of a rate that is constant in each bin, with an index for inverting it fast.

    Attributes:
        edges: (n_bins + 1,) expected number of events before each bin edge; never decreases.
        guide: (n_bins + 2,) entry c: how many edges lie below the c-th of n_bins equal parts of the total.
        grid: Time bins (static).
    """

    edges: Float[Array, "*batch n_edges"]
    guide: Int[Array, "*batch n_guide"]
    grid: TimeGrid = dataclasses.field(metadata={"static": True})

    @property
    def total(self) -> Float[Array, ""]:
        """Expected number of events in the window."""
        return self.edges[-1]


def cumulative_rate(rate: Float[Array, " n_bins"], grid: TimeGrid) -> CumulativeRate:
    """Integrate a rate over its bins.

    Args:
        rate: (n_bins,) rate in each bin [counts/s], not negative.
        grid: Time bins (static).

    Returns:
        Cumulative rate, in the type of the rate.

    Raises:
        ValueError: If rate does not have one entry for each bin (found while tracing).

    References:
        The index is the guide table of Chen & Asau (1974), AIIE Transactions 6, 163.
    """
    check_bins(rate, grid, "rate")
    edges = jnp.concatenate([jnp.zeros((1,), rate.dtype), running_sum(rate * grid.dt)])
    cell = _cell(edges, edges[-1], grid.n_bins)
    per_cell = jnp.zeros((grid.n_bins + 1,), jnp.int32).at[cell].add(1)
    guide = jnp.concatenate([jnp.zeros((1,), jnp.int32), running_sum(per_cell)])
    return CumulativeRate(edges=edges, guide=guide, grid=grid)


def evaluate_cumulative(cumulative: CumulativeRate, times: Float[Array, " *n"]) -> Float[Array, " *n"]:
    """Expected number of events before each time.

    Args:
        cumulative: Integral of the rate.
        times: Times [s] as offsets from the start of the window, of any shape.

    Returns:
        Expected number of events; the total for times after the end.
    """
    grid, edges = cumulative.grid, cumulative.edges
    scaled = jnp.clip(times / grid.dt, 0, grid.n_bins)
    index = jnp.minimum(scaled.astype(jnp.int32), grid.n_bins - 1)
    left = edges[index]
    return left + (scaled - index.astype(scaled.dtype)) * (edges[index + 1] - left)


def invert_cumulative(cumulative: CumulativeRate, expected: Float[Array, " *n"]) -> Float[Array, " *n"]:
    """Time before which a given number of events is expected.

    Args:
        cumulative: Integral of the rate.
        expected: Expected numbers of events, not negative, of any shape.

    Returns:
        Times [s]; +inf where the total does not reach the number.
    """
    grid, edges = cumulative.grid, cumulative.edges
    n_below = lax.stop_gradient(_count_edges_up_to(cumulative, expected))
    index = jnp.clip(n_below - 1, 0, grid.n_bins - 1)
    left, right = edges[index], edges[index + 1]
    inside = expected < cumulative.total
    # The inner where keeps 0/0 out of the gradient of entries that the outer one discards.
    width = jnp.where(inside & (right > left), right - left, 1)
    fraction = jnp.clip((jnp.where(inside, expected, left) - left) / width, 0, 1)
    return jnp.where(inside, (index.astype(edges.dtype) + fraction) * grid.dt, jnp.inf)


def events_from_rate(key: Key, cumulative: CumulativeRate, max_events: int) -> Events:
    """Draw a Poisson process whose rate varies with time.

    Args:
        key: Typed PRNG key; consumed.
        cumulative: Integral of the rate.
        max_events: Entries of the result (static); see `event_capacity`.

    Returns:
        Events with times [s], in the type of the rate. `overflow` says that the last entry lies within the window, so
        that later events may be missing.

    References:
        Cinlar (1975), Introduction to Stochastic Processes, chapter 4 (non-stationary Poisson processes).
    """
    gaps = unit_exponentials(key, max_events, cumulative.edges.dtype)
    return _as_events(invert_cumulative(cumulative, running_sum(gaps)))


def recorded_events_from_rate(
    key: Key, cumulative: CumulativeRate, dead_time: Float[Array, ""] | Float[Array, " max_events"], max_events: int
) -> Events:
    """Draw directly the events that a detector with non-paralyzable dead time records.

    After an event at t_k the detector is blind until t_k + tau, and the next event comes at
    t_(k+1) = Lambda^-1(Lambda(t_k + tau_k) + E) with E a unit exponential. This is exact also where the rate varies
    within a dead time, and has the same law as drawing all events and masking them; the unrecorded ones cost nothing,
    but the recorded ones are drawn one after the other.

    Args:
        key: Typed PRNG key; consumed.
        cumulative: Integral of the incident rate.
        dead_time: Dead time [s], or (max_events,) one for each recorded event.
        max_events: Entries of the result (static).

    Returns:
        Recorded events, in the type of the rate; `overflow` as in `events_from_rate`.

    References:
        Daley & Vere-Jones (2003), An Introduction to the Theory of Point Processes I, section 7.4 (random time change).
    """
    dtype = cumulative.edges.dtype
    gaps = unit_exponentials(key, max_events, dtype)
    dead_times = jnp.broadcast_to(jnp.asarray(dead_time, dtype), (max_events,))

    def step(live_from: Float[Array, ""], draw: tuple[Float[Array, ""], Float[Array, ""]]):
        gap, dead = draw
        time = invert_cumulative(cumulative, evaluate_cumulative(cumulative, live_from) + gap)
        return time + dead, time

    _, times = lax.scan(step, jnp.zeros((), dtype), (gaps, dead_times))
    return _as_events(times)


def _as_events(times: Float[Array, " n"]) -> Events:
    """Count times that are already sorted and padded."""
    valid = times < jnp.inf
    return Events(times=times, n_events=valid.sum(dtype=jnp.int32), overflow=valid[-1])


def _cell(expected: Float[Array, " *n"], total: Float[Array, ""], n_cells: int) -> Int[Array, " *n"]:
    """Which of n_cells equal parts of the total a number falls in; rounding keeps the order, which is all we need."""
    scale = jnp.where(total > 0, n_cells / jnp.where(total > 0, total, 1), 0)
    return jnp.clip(expected * scale, 0, n_cells).astype(jnp.int32)


def _count_edges_up_to(cumulative: CumulativeRate, expected: Float[Array, " *n"]) -> Int[Array, " *n"]:
    """Number of edges <= each entry: bisection that starts from the guide, so one or two steps mostly suffice."""
    edges, expected = lax.stop_gradient((cumulative.edges, expected))
    cell = _cell(expected, edges[-1], cumulative.grid.n_bins)
    bounds = (cumulative.guide[cell], cumulative.guide[cell + 1])

    def is_open(bounds: tuple[Int[Array, " *n"], Int[Array, " *n"]]):
        low, high = bounds
        return jnp.any(low < high)

    def halve(bounds: tuple[Int[Array, " *n"], Int[Array, " *n"]]):
        low, high = bounds
        middle = (low + high) // 2
        # A closed interval may point past the last edge; its bounds must then stay as they are.
        below = (low < high) & (edges[jnp.minimum(middle, edges.shape[0] - 1)] <= expected)
        return jnp.where(below, middle + 1, low), jnp.where(below | (low >= high), high, middle)

    low, _ = lax.while_loop(is_open, halve, bounds)
    return low
