"""Pulse profiles: folding, exposure of each phase, phaseograms."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64


class Profile(NamedTuple):
    """A pulse profile corrected for exposure.

    Attributes:
        phase: (n_bins,) centres of the phase bins [cycles].
        values: (n_bins,) what each bin would hold if all were exposed as long as the one exposed longest.
        error: (n_bins,) standard deviation of each value, from the counting statistics of the profile.
    """

    phase: Float[Array, " n_bins"]
    values: Float[Array, " n_bins"]
    error: Float[Array, " n_bins"]


def fold(phase: Float[Array, " n"], n_bins: int, weights: Float[Array, " n"] | None = None) -> Float[Array, " n_bins"]:
    """Pulse profile: the sum of the weights in each bin of phase.

    Args:
        phase: (n,) phases [cycles], any whole number of cycles added.
        n_bins: Phase bins (static).
        weights: (n,) counts that each phase stands for; 0 masks. Default all ones (photons).

    Returns:
        (n_bins,) profile, linear in the weights. It is a step function of the phases: no gradient.
    """
    weights = jnp.ones_like(phase) if weights is None else weights
    return jax.ops.segment_sum(weights, phase_bin(phase, n_bins), num_segments=n_bins)


def phase_bin(phase: Float[Array, " n"], n_bins: int) -> Array:
    """Bin of each phase, integers from 0 to n_bins - 1."""
    fraction = phase - jnp.floor(phase)
    return jnp.minimum((fraction * n_bins).astype(jnp.int32), n_bins - 1)


def phase_exposure(
    start: Float[Array, " n_gti"], length: Float[Array, " n_gti"], n_bins: int
) -> Float[Array, " n_bins"]:
    """How long each bin of phase was watched, relative to the bin watched longest.

    Args:
        start: (n_gti,) phase at the start of each good time interval [cycles]; its fraction is enough, and in float32
            better.
        length: (n_gti,) cycles in each interval; 0 masks.
        n_bins: Phase bins (static).

    Returns:
        (n_bins,) exposure, 0 to 1. Not finite if nothing was watched.
    """
    start = start - jnp.floor(start)
    whole = jnp.floor(length)
    end = start + (length - whole)
    left = (jnp.arange(2 * n_bins, dtype=start.dtype) / n_bins)[None]
    # What is left after the whole cycles lies within two cycles; the second is laid over the first.
    overlap = jnp.clip(jnp.minimum(end[:, None], left + 1.0 / n_bins) - jnp.maximum(start[:, None], left), 0.0)
    exposure = overlap.sum(0).reshape(2, n_bins).sum(0) + whole.sum() / n_bins
    return exposure / exposure.max()


def interval_phases(
    gti: Float64[np.ndarray, "n_gti 2"], freqs: Sequence[float]
) -> tuple[Float64[np.ndarray, " n_gti"], Float64[np.ndarray, " n_gti"]]:
    """Phase at the start of each good time interval and its length, for `phase_exposure`; on the host in float64.

    Args:
        gti: (n_gti, 2) good time intervals, from the epoch of the frequencies [s].
        freqs: Frequency and its derivatives at the epoch [Hz, Hz/s, ...].

    Returns:
        Phases at the starts, in [0, 1), and lengths, both in cycles.
    """
    gti = np.asarray(gti, np.float64)
    total, power = np.zeros_like(gti), np.ones_like(gti)
    for k, freq in enumerate(freqs, start=1):
        power = power * gti / k
        total = total + freq * power
    return np.remainder(total[:, 0], 1.0), total[:, 1] - total[:, 0]


def correct_exposure(profile: Float[Array, " n_bins"], exposure: Float[Array, " n_bins"]) -> Profile:
    """Profile of counts, divided by the exposure of each bin.

    Args:
        profile: (n_bins,) counts in each bin, from `fold`.
        exposure: (n_bins,) relative exposure, from `phase_exposure`.

    Returns:
        The corrected profile, with errors from Poisson statistics of the counts. Not finite in bins never watched.
    """
    n_bins = profile.shape[0]
    centres = (jnp.arange(n_bins, dtype=profile.dtype) + 0.5) / n_bins
    counted = profile > 0
    error = jnp.where(counted, jnp.sqrt(jnp.where(counted, profile, 1.0)), 0.0)
    return Profile(phase=centres, values=profile / exposure, error=error / exposure)


def phaseogram(
    phase: Float[Array, " n"],
    times: Float[Array, " n"],
    edges: Float[Array, " n_edges"],
    n_bins: int,
    weights: Float[Array, " n"] | None = None,
) -> Float[Array, "n_intervals n_bins"]:
    """Pulse profile in each of several intervals of time.

    Args:
        phase: (n,) phases [cycles].
        times: (n,) times [s].
        edges: (n_intervals + 1,) ascending edges of the intervals [s]; times beyond them are left out, the last edge
            itself is within.
        n_bins: Phase bins (static).
        weights: (n,) counts that each phase stands for; 0 masks. Default all ones.

    Returns:
        (n_intervals, n_bins) profiles.
    """
    n_intervals = edges.shape[0] - 1
    weights = jnp.ones_like(phase) if weights is None else weights
    interval = jnp.searchsorted(edges, times, side="right") - 1
    interval = jnp.where(times == edges[-1], n_intervals - 1, interval)
    within = (interval >= 0) & (interval < n_intervals)
    cell = jnp.clip(interval, 0, n_intervals - 1) * n_bins + phase_bin(phase, n_bins)
    total = jax.ops.segment_sum(jnp.where(within, weights, 0.0), cell, num_segments=n_intervals * n_bins)
    return total.reshape(n_intervals, n_bins)


def frequencies_from_periods(periods: Float[Array, " n_terms"]) -> Float[Array, " n_terms"]:
    """Frequency and its derivatives from a period and its derivatives; the other way round by the same formula.

    Args:
        periods: (n_terms,) period, first, second and third derivative, as many as are known [s, 1, 1/s, 1/s^2].

    Returns:
        (n_terms,) frequency and derivatives [Hz, Hz/s, ...].

    Raises:
        ValueError: If there are more than four terms, or none.
    """
    n_terms = periods.shape[0]
    if not 1 <= n_terms <= 4:
        raise ValueError(f"periods must hold 1 to 4 terms, got {n_terms}")
    freq = 1.0 / periods[0]
    first, second, third = (periods[k] if k < n_terms else jnp.zeros_like(freq) for k in (1, 2, 3))
    terms = [
        freq,
        -first * freq**2,
        2.0 * first**2 * freq**3 - second * freq**2,
        -6.0 * first**3 * freq**4 + 6.0 * first * second * freq**3 - third * freq**2,
    ]
    return jnp.stack(terms[:n_terms])
