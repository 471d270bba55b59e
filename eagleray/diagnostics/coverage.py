"""Expected coverage of regions in all parameters at once: by highest density, and by distance to random points."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from eagleray.diagnostics.calibration import LEVELS
from eagleray.diagnostics.inputs import finite, generator, same
from eagleray.diagnostics.rank_bands import N_POINTS, evenness
from eagleray.records import AnyArray, Key

Regions = Literal["highest density", "random points"]

_NUMBERS_AT_ONCE = 10_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class RegionCoverage:
    """How often regions of a posterior, of all parameters together, hold the truth.

    Attributes:
        regions: How the regions are made.
        levels: (n_levels,) nominal probabilities of the regions.
        coverage: (n_levels,) part of the simulations whose truth lies in the region.
        error: (n_levels,) standard error of each, by bootstrap over simulations.
        credibility: (n,) probability of the smallest region that holds each truth; even for a right posterior.
        deviation: Mean over levels of |coverage - nominal|.
        excess: Coverage less nominal, averaged: over all levels for highest density, where it is positive for
            posteriors that are too wide and negative for too narrow or shifted ones; over levels above one half for
            random points, where it is negative for too narrow ones.
        excess_error: Standard error of it.
        p_value: Probability that even credibilities stray as far, somewhere.
        n: Simulations.
        n_draws: Posterior draws of each.
    """

    regions: Regions
    levels: NDArray[np.float64]
    coverage: NDArray[np.float64]
    error: NDArray[np.float64]
    credibility: NDArray[np.float64]
    deviation: float
    excess: float
    excess_error: float
    p_value: float
    n: int
    n_draws: int


def density_coverage(
    key: Key, log_prob_truth: Float[AnyArray, " n"], log_prob_draws: Float[AnyArray, "n n_draws"]
) -> RegionCoverage:
    """Coverage of highest-density regions, from log densities alone.

    The truth's credibility is the part of the draws whose density is higher. It sees widths, shifts and correlations of
    any posterior with a density, in any number of dimensions; it does not see that a posterior left information unused:
    the prior itself passes.

    False-alarm rate: `p_value` is below any a with a probability of at most a for a right posterior, for any number
    of draws, ties included (they are broken by chance).

    Args:
        key: Typed PRNG key; consumed by ties and the bootstrap.
        log_prob_truth: (n,) ln of the posterior density at each truth, whose simulation the posterior is given;
            -inf where the posterior excludes the truth. Normalisation may differ between simulations.
        log_prob_draws: (n, n_draws) the same at draws of that posterior.

    Returns:
        Coverage of regions of growing probability, and the p-value.

    Raises:
        ValueError: If shapes do not match, there is nothing, or a log density is NaN or inf.

    References:
        Hermans et al. (2022), TMLR, arXiv:2110.06581; Deistler, Gonçalves & Macke (2022), NeurIPS,
        arXiv:2210.04815.
    """
    truth = _densities("log_prob_truth", log_prob_truth, "(n,)", 1)
    draws = _densities("log_prob_draws", log_prob_draws, "(n, n_draws)", 2)
    same("log_prob_draws", len(draws), len(truth), "a row for each truth")
    return _coverage(generator(key), "highest density", -draws, -truth)


def tarp(
    key: Key,
    truth: Float[AnyArray, "n d"],
    draws: Float[AnyArray, "n n_draws d"],
    *,
    references: Float[AnyArray, "n d"] | None = None,
) -> RegionCoverage:
    """Tests of accuracy with random points (TARP): coverage of balls about random points.

    The truth's credibility is the part of the draws nearer to a random point than the truth is. Distances are
    Euclidean, in units of the range of draws and truths together (1 % to 99 % of each parameter), and points are
    even in that range, so that truth and draws are exchangeable and ranks exactly even for a right posterior.

    Draws alone are asked for, no density. The prior in place of the posterior passes, unless `references` depend on the
    data.

    False-alarm rate: `p_value` is below any a with a probability of at most a for a right posterior, for any number
    of draws, ties included (they are broken by chance, so that discrete parameters need no care).

    Args:
        key: Typed PRNG key; consumed by points, ties and the bootstrap.
        truth: (n, d) true parameters, drawn from the prior.
        draws: (n, n_draws, d) draws of the posterior for the data simulated with each truth.
        references: (n, d) points, in the units of the parameters, in place of random ones. They may depend on the
            data, never on the truth or its draws.

    Returns:
        Coverage of regions of growing probability, and the p-value.

    Raises:
        ValueError: If shapes do not match, there is nothing, a number is not finite, or a parameter does not vary.

    References:
        Lemos et al. (2023), ICML, arXiv:2302.03026, section 3 and algorithm 2.
    """
    true_values = finite("truth", truth, "(n, d)", n_axes=2, fewest=1)
    drawn = finite("draws", draws, "(n, n_draws, d)", n_axes=3)
    same("draws", len(drawn), len(true_values), "a set for each truth")
    same("draws", drawn.shape[2], true_values.shape[1], "the truth's number of parameters")
    rng = generator(key)
    low, high = _range(true_values, drawn)
    if references is None:
        points = rng.uniform(low, high, true_values.shape)
    else:
        points = finite("references", references, "(n, d)", n_axes=2)
        if points.shape != true_values.shape:
            raise ValueError(f"references must be of the truth's shape {true_values.shape}, got {points.shape}")
    scale = high - low
    to_draws = np.empty(drawn.shape[:2])
    n_at_once = max(1, _NUMBERS_AT_ONCE // drawn[0].size)
    for start in range(0, len(drawn), n_at_once):
        rows = slice(start, start + n_at_once)
        to_draws[rows] = np.linalg.norm((drawn[rows] - points[rows, None]) / scale, axis=2)
    return _coverage(rng, "random points", to_draws, np.linalg.norm((true_values - points) / scale, axis=1))


def broken_ties(
    rng: np.random.Generator, draws: NDArray[np.floating], truth: NDArray[np.floating]
) -> NDArray[np.integer]:
    """Number of draws below the truth, (n,); where draws equal it, the truth is put among them by chance."""
    below, equal = (draws < truth[:, None]).sum(axis=1), (draws == truth[:, None]).sum(axis=1)
    return below + rng.integers(0, equal + 1)


def _densities(name: str, values: ArrayLike, shape: str, n_axes: int) -> NDArray[np.float64]:
    """Log densities, which may be -inf."""
    array = np.asarray(values, np.float64)
    finite(name, np.where(array == -np.inf, 0.0, array), shape, n_axes=n_axes, fewest=1)
    return array


def _range(truth: NDArray[np.float64], draws: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Range of each parameter, of truths and draws alike, far tails apart; refused where it is empty."""
    together = np.concatenate([truth[:, None], draws], axis=1).reshape(-1, truth.shape[1])
    low, high = np.quantile(together, [0.01, 0.99], axis=0)
    flat = high == low
    low, high = np.where(flat, together.min(axis=0), low), np.where(flat, together.max(axis=0), high)
    if not (high > low).all():
        raise ValueError(f"every parameter must vary, got only one value of {np.flatnonzero(high == low).tolist()}")
    return low, high


def _coverage(
    rng: np.random.Generator, regions: Regions, draws: NDArray[np.float64], truth: NDArray[np.float64]
) -> RegionCoverage:
    """The record of regions that hold everything below a number; a draw spreads evenly over its part of them."""
    n, n_draws = draws.shape
    credibility = (broken_ties(rng, draws, truth) + rng.random(n)) / (n_draws + 1)
    points = np.arange(1, N_POINTS + 1) / (N_POINTS + 1)
    inside = credibility[:, None] <= LEVELS
    coverage = inside.mean(axis=0)
    start = 0.0 if regions == "highest density" else 0.5
    # Integral of coverage less nominal from `start` to 1, over its length.
    excesses = (1 - np.maximum(credibility, start)) / (1 - start) - 0.5 * (1 + start)
    return RegionCoverage(
        regions=regions,
        levels=LEVELS,
        coverage=coverage,
        error=_bootstrap(rng, inside),
        credibility=credibility,
        deviation=float(np.abs(coverage - LEVELS).mean()),
        excess=float(excesses.mean()),
        excess_error=float(excesses.std() / np.sqrt(n)),
        p_value=evenness((credibility[:, None] <= points).sum(axis=0), points, n),
        n=n,
        n_draws=n_draws,
    )


def _bootstrap(rng: np.random.Generator, inside: NDArray[np.bool_], n_resamples: int = 200) -> NDArray[np.float64]:
    """Standard deviation of the means of columns over resampled rows."""
    n = len(inside)
    times = rng.multinomial(n, np.full(n, 1 / n), size=n_resamples)
    return (times @ inside.astype(np.float64) / n).std(axis=0, ddof=1)
