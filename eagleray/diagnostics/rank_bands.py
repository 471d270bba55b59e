"""Even ranks as a curve: the distribution of the truth's ranks, and the band in which all of it stays by chance.

Counts below the evaluation points are a Markov chain, so that the probability of leaving a band is computed, not
simulated: bands and p-values here are exact for independent simulations, whatever their number.
"""

import dataclasses
import functools
import math

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from eagleray.records import Calibration

N_POINTS = 99
"""Points at which ranks are compared with even ones, unless told otherwise."""
_MARGIN = 1e-9  # local p-values nearer than this are the same one, rounded


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankBands:
    """Cumulative distribution of each parameter's ranks, less that of even ranks, and a simultaneous band for it.

    Attributes:
        names: Parameter names.
        points: (n_points,) ranks as fractions, at which the distribution is evaluated.
        difference: (n_points, n_theta) part of the ranks below each point, less the part of even ranks.
        error: (n_points,) standard error of each difference by itself, for even ranks.
        lower: (n_points,) lower edge of the band that all curves stay in with probability `level`, if ranks are even.
        upper: (n_points,) upper edge.
        outside: (n_theta,) whether a parameter's curve leaves the band.
        p_values: (n_theta,) probability that even ranks stray as far somewhere; of each parameter alone.
        p_value: The smallest of them times the number of parameters (Bonferroni), at most 1.
        level: Probability that the band holds all parameters' curves.
        n_simulations: Ranks of each parameter.
    """

    names: tuple[str, ...]
    points: NDArray[np.float64]
    difference: NDArray[np.float64]
    error: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    outside: NDArray[np.bool_]
    p_values: NDArray[np.float64]
    p_value: float
    level: float
    n_simulations: int


def rank_bands(calibration: Calibration, *, level: float = 0.95, n_points: int = N_POINTS) -> RankBands:
    """Ranks of simulation-based calibration with simultaneous bands, for a figure and as a test.

    False-alarm rate: `outside` has any True with a probability of at most 1 - `level` for a right posterior (exact
    for one parameter but for the steps of counts; Bonferroni's bound over parameters), and `p_value` is below any a
    with a probability of at most a.

    A narrow posterior gives a curve above zero at low ranks and below at high ones, a wide one the reverse; one that
    lies too high is above zero throughout. Ranks are of one parameter at a time: correlations are not seen.

    Args:
        calibration: Ranks (n_simulations, n_theta) of the truth among posterior draws.
        level: Probability that all curves stay in the band if all ranks are even.
        n_points: Evaluation points, spread evenly; at most as many as there are ranks between the ends.

    Returns:
        Curves, band, and p-values.

    Raises:
        ValueError: If there are no ranks, they are outside 0 ... n_draws, or `level` is not between 0 and 1.

    References:
        Säilynoja, Bürkner & Vehtari (2022), Stat. Comput. 32, 32, section 2 (bands that adjust the pointwise level);
        Moscovich & Nadler (2017), Stat. Probab. Lett. 123, 177 (the recursion over Poisson increments).
    """
    ranks = np.asarray(calibration.ranks)
    if ranks.size == 0 or ranks.min() < 0 or ranks.max() > calibration.n_draws:
        raise ValueError(
            f"ranks must be 0 ... {calibration.n_draws} and not empty, got shape {ranks.shape}"
            + (f" and values {ranks.min()} ... {ranks.max()}" if ranks.size else "")
        )
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    n, n_theta = ranks.shape
    # The last rank that counts as below each point; even ranks are below it with probability (rank + 1) / (n_draws + 1)
    last = np.unique(np.linspace(0, calibration.n_draws - 1, min(n_points, calibration.n_draws)).round().astype(int))
    points = (last + 1) / (calibration.n_draws + 1)
    counts = (ranks[None] <= last[:, None, None]).sum(axis=1)
    low, high = even_band(n, tuple(points), (1 - level) / n_theta)
    p_values = np.array([evenness(counts[:, i], points, n) for i in range(n_theta)])
    return RankBands(
        names=calibration.names,
        points=points,
        difference=counts / n - points[:, None],
        error=np.sqrt(points * (1 - points) / n),
        lower=low / n - points,
        upper=high / n - points,
        outside=((counts < low[:, None]) | (counts > high[:, None])).any(axis=0),
        p_values=p_values,
        p_value=min(1.0, float(p_values.min()) * n_theta),
        level=level,
        n_simulations=n,
    )


def evenness(counts: NDArray[np.integer], points: NDArray[np.float64], n: int) -> float:
    """Probability that of n even numbers the counts below the points stray as far, somewhere, as the given ones.

    How far one count strays is its two-sided binomial p-value; the smallest of them is the statistic.

    Args:
        counts: (n_points,) of n numbers, those below each point.
        points: (n_points,) ascending, between 0 and 1.
        n: Numbers in all.

    Returns:
        Exact p-value; below any a with a probability of at most a for independent, even numbers.
    """
    below, above = stats.binom.cdf(counts, n, points), stats.binom.sf(counts - 1, n, points)
    local = max(float(2 * np.minimum(below, above).min()), np.finfo(float).tiny)
    if local >= 1:
        return 1.0
    low, high = _local_band(n, points, local * (1 + _MARGIN))
    # Where the sum of probabilities rounds to 1, bounds on its distance from 1 take over.
    return float(np.clip(1 - _stays_inside(n, points, low, high), local, len(points) * local))


@functools.lru_cache(maxsize=64)
def even_band(n: int, points: tuple[float, ...], false_alarm: float) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Counts below each point that n even numbers keep to, all at once, with a probability of at least 1 - false_alarm.

    Args:
        n: Numbers in all.
        points: Ascending, between 0 and 1.
        false_alarm: Highest probability that a count is outside.

    Returns:
        Lowest and highest count at each point, (n_points,) each.
    """
    z = np.array(points)
    # The pointwise level lies between Bonferroni's and the joint one.
    inside, outside = math.log(false_alarm / len(z)), math.log(false_alarm) + _MARGIN
    while outside - inside > 1e-4:
        middle = 0.5 * (inside + outside)
        good = 1 - _stays_inside(n, z, *_local_band(n, z, math.exp(middle))) <= false_alarm
        inside, outside = (middle, outside) if good else (inside, middle)
    return _local_band(n, z, math.exp(inside))


def _local_band(n: int, points: NDArray[np.float64], local: float) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Lowest and highest count at each point whose two-sided binomial p-value exceeds `local`."""
    low, missing = stats.binom.ppf(local / 2, n, points), stats.binom.ppf(local / 2, n, 1 - points)
    return np.maximum(low, 0).astype(int), n - np.maximum(missing, 0).astype(int)


def _stays_inside(n: int, points: NDArray[np.float64], low: NDArray[np.integer], high: NDArray[np.integer]) -> float:
    """Probability that the counts of n even numbers below all points lie in low ... high.

    Counts are those of a Poisson process of rate n, given that it has n points in all.
    """
    if (low > high).any():
        return 0.0
    log_factorial = special.gammaln(np.arange(n + 1) + 1.0)

    def poisson(n_most: int, mean: float) -> NDArray[np.float64]:
        k = np.arange(n_most + 1)
        return np.exp(k * math.log(mean) - mean - log_factorial[: n_most + 1])

    inside, first, z = np.ones(1), 0, 0.0
    for point, least, most in zip(points.tolist(), low.tolist(), high.tolist(), strict=True):
        reached = np.convolve(inside, poisson(most - first, n * (point - z)))
        inside = reached[least - first : most - first + 1]
        first, z = least, point
    rest = poisson(n - first, n * (1 - z))[::-1][: len(inside)]
    return float(min(1.0, inside @ rest / math.exp(n * math.log(n) - n - log_factorial[n])))
