"""First-order structure functions: the mean squared change of a light curve over a lag."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_PAIRS_AT_ONCE = 1 << 20


class StructureFunction(NamedTuple):
    """A structure function in bins of lag.

    Attributes:
        lag: (n_lags,) mean lag of the pairs in each bin; NaN without pairs.
        value: (n_lags,) mean squared difference, less the noise, in squared units of the values; NaN without pairs.
        scatter: (n_lags,) standard deviation of the squared differences over the root of the number of pairs. Pairs
            share values, so it is below the error of `value`.
        n_pairs: (n_lags,) pairs in each bin.
    """

    lag: Float[Array, " n_lags"]
    value: Float[Array, " n_lags"]
    scatter: Float[Array, " n_lags"]
    n_pairs: Float[Array, " n_lags"]


def structure_function(
    times: Float[Array, " n"],
    values: Float[Array, " n"],
    edges: Float[Array, " n_edges"],
    *,
    errors: Float[Array, " n"] | None = None,
    mask: Float[Array, " n"] | None = None,
) -> StructureFunction:
    """Structure function of values at any times, over all pairs. Differentiable by the values and errors.

    SF(lag) = <(x(t + lag) - x(t))^2>, less the variances of the two measurements. For a stationary process it is twice
    the variance times one minus the autocorrelation.

    Args:
        times: (n,) times [s], in any order.
        values: (n,) rates, counts or magnitudes.
        edges: (n_lags + 1,) ascending edges of the bins of lag [s]; a lag on an edge belongs to the bin above.
        errors: (n,) standard deviation of each value, to take the noise off; default none.
        mask: (n,) 1 where a value counts, 0 where not; default all ones.

    Returns:
        Structure function in each bin of lag.

    Raises:
        ValueError: If there are fewer than two edges.

    References:
        Simonetti, Cordes & Heeschen (1985), ApJ 296, 46; Emmanoulopoulos, McHardy & Uttley (2010), MNRAS 404, 931, on
        its false breaks.
    """
    n_lags = edges.shape[0] - 1
    if n_lags < 1:
        raise ValueError(f"edges must hold at least two edges, got {edges.shape[0]}")
    n = times.shape[0]
    mask = jnp.ones_like(values) if mask is None else mask
    noise = jnp.zeros_like(values) if errors is None else errors**2
    # Differences do not feel a constant, and without it they keep more digits.
    values = values - jax.lax.stop_gradient((mask * values).sum() / jnp.maximum(mask.sum(), 1.0))

    def with_one(row: Array) -> Array:
        """Sums over pairs of one value with all later in the array."""
        lag = jnp.abs(times - times[row])
        pair = jnp.where(jnp.arange(n) > row, mask * mask[row], 0.0)
        square = (values - values[row]) ** 2 - noise - noise[row]
        index = jnp.searchsorted(edges, lag, side="right") - 1
        index = jnp.where((index >= 0) & (index < n_lags), index, n_lags)
        columns = jnp.stack([pair, pair * lag, pair * square, pair * square**2], axis=1)
        return jax.ops.segment_sum(columns, index, num_segments=n_lags + 1)[:n_lags]

    total = _sum_over(with_one, n, n)
    return _finish(*total.T)


def grid_structure_function(
    values: Float[Array, " n_bins"],
    dt: float,
    lags: np.ndarray,
    *,
    errors: Float[Array, " n_bins"] | None = None,
    mask: Float[Array, " n_bins"] | None = None,
) -> StructureFunction:
    """Structure function of a light curve on a uniform grid, at chosen lags. Differentiable by values and errors.

    Args:
        values: (n_bins,) rates or counts.
        dt: Bin width [s].
        lags: (n_lags,) lags in bins, integers from 1 to n_bins - 1 (static).
        errors: (n_bins,) standard deviation of each value, to take the noise off; default none.
        mask: (n_bins,) 1 where a value counts, 0 in a gap; default all ones.

    Returns:
        Structure function at each lag.

    Raises:
        ValueError: If a lag is not between 1 and n_bins - 1.

    References:
        Simonetti, Cordes & Heeschen (1985), ApJ 296, 46.
    """
    n = values.shape[0]
    lags = np.asarray(lags, np.int32)
    if lags.size == 0 or lags.min() < 1 or lags.max() >= n:
        raise ValueError(f"lags must be between 1 and n_bins - 1 = {n - 1}, got {lags}")
    mask = jnp.ones_like(values) if mask is None else mask
    noise = jnp.zeros_like(values) if errors is None else errors**2
    values = values - jax.lax.stop_gradient((mask * values).sum() / jnp.maximum(mask.sum(), 1.0))

    def at_lag(lag: Array) -> Array:
        def later(x: Array) -> Array:
            return jnp.roll(x, -lag)

        pair = jnp.where(jnp.arange(n) < n - lag, mask * later(mask), 0.0)
        square = (later(values) - values) ** 2 - noise - later(noise)
        return jnp.stack([pair.sum(), (pair * square).sum(), (pair * square**2).sum()])

    batch = max(1, min(lags.size, _PAIRS_AT_ONCE // n))
    n_pairs, total, squares = jax.lax.map(at_lag, jnp.asarray(lags), batch_size=batch).T
    return _finish(n_pairs, n_pairs * jnp.asarray(lags * dt, values.dtype), total, squares)


def _sum_over(function, n_rows: int, row_size: int) -> Array:
    """Sum of a function of the row number over all rows, some of them at a time."""
    batch = max(1, min(n_rows, _PAIRS_AT_ONCE // row_size))
    n_batches = -(-n_rows // batch)

    def add(total: Array, first: Array) -> tuple[Array, None]:
        rows = first + jnp.arange(batch)
        # A row beyond the last has no later values: it is the last, which adds nothing either.
        return total + jax.vmap(function)(jnp.minimum(rows, n_rows - 1)).sum(0), None

    shape = jax.eval_shape(function, jax.ShapeDtypeStruct((), jnp.int32))
    return jax.lax.scan(add, jnp.zeros(shape.shape, shape.dtype), jnp.arange(n_batches) * batch)[0]


def _finish(n_pairs: Array, lag: Array, total: Array, squares: Array) -> StructureFunction:
    """Means and scatter from sums over pairs."""
    some = n_pairs > 0
    number = jnp.where(some, n_pairs, 1.0)
    value = total / number
    variance = jnp.maximum(squares / number - value**2, 0.0)
    spread = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0) / number), 0.0)
    lag, value, spread = (jnp.where(some, x, jnp.nan) for x in (lag / number, value, spread))
    return StructureFunction(lag=lag, value=value, scatter=spread, n_pairs=n_pairs)
