"""Good time intervals: how much of each bin was watched (host), and which events were seen (device)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Num
from numpy.typing import NDArray

from eagleray.records import TimeGrid


def exposure_fraction(gti: NDArray[np.float64], grid: TimeGrid) -> NDArray[np.float64]:
    """Fraction of each time bin inside the good time intervals (host, float64).

    Args:
        gti: (n_gti, 2) start and stop of each interval [s], offsets from the start of the grid; sorted and disjoint.
            They may reach beyond the grid.
        grid: Time bins.

    Returns:
        (n_bins,) fraction of each bin that was watched, 0 (a gap) to 1.

    Raises:
        ValueError: If gti is not a sorted list of disjoint intervals of positive length.
    """
    gti = _checked_gti(gti)
    if gti.size == 0:
        return np.zeros(grid.n_bins)
    watched = np.concatenate([[0.0], np.cumsum(gti[:, 1] - gti[:, 0])])
    # Good time before each bound: it grows inside an interval and stands still between intervals.
    good_time = np.stack([watched[:-1], watched[1:]], axis=1)
    edges = np.arange(grid.n_bins + 1) * grid.dt
    in_bins = np.diff(np.interp(edges, gti.ravel(), good_time.ravel()))
    return np.clip(in_bins / grid.dt, 0.0, 1.0)


def in_gti(times: Num[Array, " n"], gti: Num[Array, "n_gti 2"]) -> Bool[Array, " n"]:
    """Mark the events inside good time intervals; an interval includes its start but not its stop.

    Args:
        times: (n,) padded times [s] or ticks.
        gti: (n_gti, 2) start and stop of each interval, sorted and disjoint, in the unit and type of the times.

    Returns:
        (n,) True for events that were seen; False for padding.
    """
    if gti.shape[0] == 0:
        return jnp.zeros(times.shape, bool)
    last_start = jnp.searchsorted(gti[:, 0], times, side="right") - 1
    return (last_start >= 0) & (times < gti[jnp.maximum(last_start, 0), 1])


def _checked_gti(gti: NDArray[np.float64]) -> NDArray[np.float64]:
    """Good time intervals as a float64 array, if they are in order."""
    gti = np.asarray(gti, np.float64).reshape(-1, 2)
    if not np.all(np.diff(gti.ravel()) >= 0) or not np.all(gti[:, 1] > gti[:, 0]):
        raise ValueError(f"gti must hold sorted, disjoint intervals of positive length, got {gti.tolist()!r}")
    return gti
