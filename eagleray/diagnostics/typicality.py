"""How typical an observed summary is among simulated ones."""

import numpy as np
from numpy.typing import NDArray

from eagleray.records import ReferenceSummaries, Typicality

MIN_SUMMARIES = 30
"""Fewest simulated summaries that say what is typical."""

# How far outside the simulated range a feature may lie, as a fraction of that range.
_MARGIN = 0.1


def reference_summaries(x: NDArray[np.floating]) -> ReferenceSummaries:
    """Describe simulated summaries by mean, covariance and the distances of a part held out.

    Two thirds of the summaries give mean and covariance (shrunk a little towards its diagonal), one third the
    distances, so that a new summary of the same kind has a uniform p-value whatever the summaries' true distribution.

    Args:
        x: (n, n_features) simulated summaries, finite.

    Raises:
        ValueError: If there are fewer than `MIN_SUMMARIES`.
    """
    x = np.asarray(x, np.float64)
    if len(x) < MIN_SUMMARIES:
        raise ValueError(f"at least {MIN_SUMMARIES} summaries are needed to say what is typical, got {len(x)}")
    n_shape = 2 * len(x) // 3
    shape, held = x[:n_shape], x[n_shape:]
    mean = shape.mean(axis=0)
    covariance = np.atleast_2d(np.cov(shape, rowvar=False))
    shrinkage = min(0.5, x.shape[1] / n_shape)
    variance = np.diag(covariance)
    covariance = (1 - shrinkage) * covariance + shrinkage * np.diag(variance)
    # A feature that never varies gets a tiny variance: any departure from it is then far.
    covariance = covariance + np.diag(1e-9 * np.maximum(variance, 1e-3))
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    return ReferenceSummaries(
        mean=mean,
        whitening=whitening,
        distances=np.sort(_distances(held, mean, whitening), axis=0),
        low=x.min(axis=0),
        high=x.max(axis=0),
    )


def typicality(x_obs: NDArray[np.floating], reference: ReferenceSummaries) -> Typicality:
    """Distance of one summary from simulated ones, and the fraction of these that lie at least as far out.

    A single feature far outside, such as a mean rate beyond the prior's, is diluted in the distance; features outside
    the simulated range by more than a tenth of it are therefore named besides.

    A small p-value says that nothing simulated looks like the observation: the network extrapolates, and its answer
    is not to be trusted.

    Args:
        x_obs: (n_features,) the summary.
        reference: What simulated summaries look like.
    """
    distance = float(_distances(np.asarray(x_obs, np.float64)[None], reference.mean, reference.whitening)[0])
    n = len(reference.distances)
    n_farther = n - int(np.searchsorted(reference.distances, distance, side="left"))
    margin = _MARGIN * (reference.high - reference.low)
    outside = np.flatnonzero((x_obs < reference.low - margin) | (x_obs > reference.high + margin))
    return Typicality(
        distance=distance, p_value=(n_farther + 1) / (n + 1), n_reference=n, outside=tuple(map(int, outside))
    )


def _distances(x: NDArray[np.floating], mean: NDArray[np.floating], whitening: NDArray[np.floating]) -> NDArray:
    """Mahalanobis distances, shape (n,)."""
    return np.linalg.norm((x - mean) @ whitening, axis=1)
