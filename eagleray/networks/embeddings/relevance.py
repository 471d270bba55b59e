"""Which entries of a vector tell something about the values by themselves."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import fdtri

# Chance that any entry of a vector that depends on nothing is taken for one that does.
_FALSE_ALARM = 0.01
# Groups of equal size into which an entry is cut to see whether the values differ between them.
_N_GROUPS = 20
_FEWEST_IN_GROUP = 10


def depends_on(
    values: Float[np.ndarray, "n n_values"], features: Float[np.ndarray, "n n_features"]
) -> Bool[np.ndarray, " n_features"]:
    """Whether the mean or the spread of any value differs between groups of like features, entry by entry.

    Analyses of variance of each value, and of its squared deviation, over groups of equal size of each feature. The
    chance of 0.01 of any false alarm is shared out among all tests (Bonferroni). A feature that matters only together
    with others escapes it; so this is reason to weaken a feature, not to leave it out.

    Args:
        values: (n, n_values).
        features: (n, n_features); rows must be in no order.

    Returns:
        (n_features,); all of them true where there are too few rows for two groups.

    References:
        Fisher (1925), Statistical methods for research workers, chapter 7.
    """
    n, n_features = features.shape
    n_groups = min(_N_GROUPS, n // _FEWEST_IN_GROUP)
    if n_groups < 2:
        return np.ones(n_features, bool)
    deviations = values - values.mean(axis=0)
    tested = np.concatenate([deviations, deviations**2], axis=1)
    tested = (tested - tested.mean(axis=0)) / np.maximum(tested.std(axis=0), 1e-12)
    limit = fdtri(n_groups - 1, n - n_groups, 1.0 - _FALSE_ALARM / (n_features * tested.shape[1]))
    starts = np.arange(n_groups) * n // n_groups
    counts = np.diff(np.append(starts, n))[:, None]
    found = np.zeros(n_features, bool)
    for i, feature in enumerate(features.T):
        means = np.add.reduceat(tested[np.argsort(feature, kind="stable")], starts, axis=0) / counts
        between = (counts * means**2).sum(axis=0)
        ratio = (between / (n_groups - 1)) / np.maximum((n - between) / (n - n_groups), 1e-12)
        found[i] = bool((ratio > limit).any())
    return found
