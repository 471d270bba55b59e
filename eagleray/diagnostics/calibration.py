"""Simulation-based calibration: do intervals of a posterior hold the truth as often as they say?"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eagleray.records import Calibration

LEVELS = np.linspace(0.05, 0.95, 19)
"""Nominal probabilities at which coverage is measured."""


def calibration(truth: Mapping[str, NDArray[np.floating]], draws: Mapping[str, NDArray[np.floating]]) -> Calibration:
    """Ranks of true parameters among posterior draws, and the coverage of central intervals that follows.

    For a posterior that is right on average over the prior, every rank is uniform on 0 ... n_draws.

    Args:
        truth: Parameter name -> (n_simulations,) true values, drawn from the prior.
        draws: Parameter name -> (n_simulations, n_draws) posterior draws for the data simulated with each truth.

    Raises:
        ValueError: If there are no simulations, or any number is not finite.

    References:
        Talts et al. (2018), arXiv:1804.06788; Cook, Gelman & Rubin (2006), JCGS 15, 675.
    """
    names = tuple(truth)
    true_values = np.stack([np.asarray(truth[name]) for name in names], axis=1)
    drawn = np.stack([np.asarray(draws[name]) for name in names], axis=2)
    if true_values.size == 0 or not (np.isfinite(true_values).all() and np.isfinite(drawn).all()):
        raise ValueError(f"truth and draws must be finite and not empty, got shapes {true_values.shape}, {drawn.shape}")
    n_simulations, n_draws = drawn.shape[0], drawn.shape[1]
    ranks = (drawn < true_values[:, None, :]).sum(axis=1)
    # The centre of the rank's cell, so that coverage has no bias of order 1 / n_draws.
    distance_from_centre = np.abs((ranks + 0.5) / (n_draws + 1) - 0.5)
    coverage = (2.0 * distance_from_centre[None] <= LEVELS[:, None, None]).mean(axis=1)
    deviation = np.sqrt(LEVELS * (1 - LEVELS) / n_simulations)
    return Calibration(
        names=names,
        ranks=ranks,
        n_draws=n_draws,
        levels=LEVELS,
        coverage=coverage,
        error=float(np.abs(coverage - LEVELS[:, None]).mean()),
        error_floor=float(np.sqrt(2 / np.pi) * deviation.mean()),
        p_values=np.array([_uniformity(ranks[:, i], n_draws) for i in range(len(names))]),
    )


def _uniformity(ranks: NDArray[np.int64], n_draws: int) -> float:
    """Chi-squared p-value of ranks against the uniform, in at most 20 bins of at least 10 expected ranks."""
    n_bins = int(np.clip(ranks.size // 10, 2, min(20, n_draws + 1)))
    edges = np.linspace(-0.5, n_draws + 0.5, n_bins + 1)
    cells, _ = np.histogram(np.arange(n_draws + 1), edges)  # whole ranks in each bin
    observed, _ = np.histogram(ranks, edges)
    return float(stats.chisquare(observed, cells / cells.sum() * ranks.size).pvalue)
