"""Averages of neighbouring powers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True, eq=False)
class LogBins:
    """Groups of neighbouring Fourier frequencies, each wider than the one before.

    Attributes:
        freq: (n_groups,) mean frequency of each group [Hz].
        n_powers: (n_groups,) powers averaged in each group.
        group: (n_freq,) the group of each frequency, ascending.
    """

    freq: np.ndarray
    n_powers: np.ndarray
    group: np.ndarray

    def average(self, power: Float[Array, " n_freq"]) -> Float[Array, " n_groups"]:
        """Mean power of each group, shape (n_groups,)."""
        total = jax.ops.segment_sum(power, self.group, num_segments=self.freq.size, indices_are_sorted=True)
        return total / jnp.asarray(self.n_powers, power.dtype)


def log_bins(freq: np.ndarray, factor: float) -> LogBins:
    """Logarithmic frequency bins, each wider than the one before by the fraction `factor`; empty bins are left out.

    The edges are Stingray's (`rebin_log`): the first bin is one frequency step wide, each next one `1 + factor` times
    wider, accumulated in float64.

    Args:
        freq: (n_freq,) evenly spaced positive frequencies, starting at their spacing [Hz].
        factor: Growth of the bin width, 0 for none.

    Raises:
        ValueError: If `factor` is negative, or there is no frequency.
    """
    if not factor >= 0:
        raise ValueError(f"factor must be at least 0, got {factor!r}")
    if freq.size == 0:
        raise ValueError("freq must hold at least one frequency, got none")
    width = freq[0]
    edges = [0.5 * freq[0], 1.5 * freq[0]]
    while edges[-1] <= freq[-1]:
        width *= 1.0 + factor
        edges.append(edges[-1] + width)
    raw = np.digitize(freq, np.asarray(edges)) - 1
    _, group, n_powers = np.unique(raw, return_inverse=True, return_counts=True)
    mean_freq = np.bincount(group, weights=freq) / n_powers
    return LogBins(freq=mean_freq, n_powers=n_powers, group=group)
