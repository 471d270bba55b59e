"""Distances between two samples, with what chance gives: maximum mean discrepancy and sliced Wasserstein.

Both shuffle which sample each row is of. Rows must be independent: thin the draws of a chain first.
"""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist, pdist

from eagleray.diagnostics.inputs import finite, generator, p_value_error, same
from eagleray.records import AnyArray, Key

FEWEST_ROWS = 10
_ROWS_OF_MEDIAN = 1000
_NUMBERS_AT_ONCE = 20_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleDistance:
    """Distance between draws and reference draws, and what it is for two samples of one law.

    Attributes:
        kind: Which distance: the unbiased squared maximum mean discrepancy, which may be negative, or the sliced
            Wasserstein distance of order 2, in standard deviations of both samples together.
        value: The distance.
        error: Its standard error: of the discrepancy, from the finite number of rows; of sliced Wasserstein, from the
            finite number of directions alone.
        null: (n_permutations,) the distance after shuffling the rows of both samples; its spread is the noise of
            `value` where both have one law.
        p_value: Part of them at least as large, (k + 1) / (n_permutations + 1).
        p_value_error: Its standard error, from the finite number of permutations.
        scale: Width of the kernel, in standard deviations of both together; NaN for sliced Wasserstein.
    """

    kind: Literal["maximum mean discrepancy", "sliced Wasserstein"]
    value: float
    error: float
    null: NDArray[np.float64]
    p_value: float
    p_value_error: float
    scale: float = float("nan")


def mmd(
    key: Key,
    reference: Float[AnyArray, "n d"],
    draws: Float[AnyArray, "m d"],
    *,
    scale: float | None = None,
    n_permutations: int = 199,
) -> SampleDistance:
    """Squared maximum mean discrepancy with a Gaussian kernel, unbiased, and its permutation test.

    The kernel matrix is never held: ten thousand rows of each take some 80 MB at a time, and half a minute.

    False-alarm rate: `p_value` is below any a with a probability of at most a, exactly, for independent rows of one
    law. It sees any difference in principle; one that is much narrower than the kernel, only with many rows.

    Args:
        key: Typed PRNG key; consumed.
        reference: (n, d) reference draws.
        draws: (m, d) draws to compare with them.
        scale: Standard deviation of the kernel, in those of both samples together; None for the median distance between
            the rows of both (of a thousand of them).
        n_permutations: Shuffles; 199 can show a p-value of 0.005.

    Returns:
        Discrepancy, its error and its p-value.

    Raises:
        ValueError: If a sample is not of shape (n, d), has fewer than 10 rows or is not finite, the numbers of columns
            differ, a column does not vary, or a setting is not positive.

    References:
        Gretton et al. (2012), JMLR 13, 723, equation 3 (the estimate) and section 8 (median distance).
    """
    first, second = _standardised(reference, draws, n_permutations)
    rng = generator(key)
    together = np.concatenate([first, second])
    if scale is None:
        some = rng.choice(together, min(_ROWS_OF_MEDIAN, len(together)), replace=False)
        scale = float(np.median(pdist(some)))
    if not 0 < scale < np.inf:
        raise ValueError(f"scale must be positive and finite, got {scale!r}")
    of_first = _labels(rng, len(first), len(together), n_permutations)
    inside, to_first, to_all = _kernel_sums(together, of_first.T.astype(np.float64), scale)
    values = _unbiased(inside, to_all @ of_first.T, to_all.sum(), len(first), len(second))
    observed = _projections(to_first, to_all, len(first))
    variance = 4 * sum(part.var(ddof=1) / len(part) for part in observed)
    return _distance("maximum mean discrepancy", values, float(np.sqrt(variance)), scale)


def sliced_wasserstein(
    key: Key,
    reference: Float[AnyArray, "n d"],
    draws: Float[AnyArray, "m d"],
    *,
    n_directions: int = 100,
    n_permutations: int = 199,
) -> SampleDistance:
    """Sliced Wasserstein distance of order 2, and its permutation test.

    Root mean square, over random directions, of the Wasserstein distance between both samples' projections; columns
    are in standard deviations of both samples together. It is positive even for two samples of one law: compare it with
    `null`.

    False-alarm rate: `p_value` is below any a with a probability of at most a, exactly, for independent rows of one
    law. It sees any difference in principle; shifts and widths best, fine structure and far tails last.

    Args:
        key: Typed PRNG key; consumed.
        reference: (n, d) reference draws.
        draws: (m, d) draws to compare with them.
        n_directions: Random directions.
        n_permutations: Shuffles; 199 can show a p-value of 0.005.

    Returns:
        Distance, its error and its p-value.

    Raises:
        ValueError: As `mmd`.

    References:
        Bonneel et al. (2015), J. Math. Imaging Vis. 51, 22, section 3 (sliced distance).
    """
    first, second = _standardised(reference, draws, n_permutations)
    if n_directions < 2:
        raise ValueError(f"n_directions must be at least 2, got {n_directions}")
    rng = generator(key)
    directions = rng.normal(size=(n_directions, first.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    projected = directions @ np.concatenate([first, second]).T
    of_first = _labels(rng, len(first), projected.shape[1], n_permutations)
    squares = np.stack([_squared_wasserstein(row, of_first) for row in projected])
    values = np.sqrt(squares.mean(axis=0))
    error = squares[:, 0].std(ddof=1) / np.sqrt(n_directions) / max(2 * values[0], np.finfo(float).tiny)
    return _distance("sliced Wasserstein", values, float(error), float("nan"))


def _standardised(
    reference: ArrayLike, draws: ArrayLike, n_permutations: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both samples, checked, in standard deviations of both together, so that shuffling changes no unit."""
    if n_permutations < 1:
        raise ValueError(f"n_permutations must be at least 1, got {n_permutations}")
    first = finite("reference", reference, "(n, d)", n_axes=2, fewest=FEWEST_ROWS)
    second = finite("draws", draws, "(m, d)", n_axes=2, fewest=FEWEST_ROWS)
    same("draws", second.shape[1], first.shape[1], "the reference's number of columns")
    together = np.concatenate([first, second])
    deviation = together.std(axis=0)
    if not (deviation > 0).all():
        raise ValueError(f"every column must vary, got standard deviations {deviation}; leave constants out")
    scaled = (together - together.mean(axis=0)) / deviation
    return scaled[: len(first)], scaled[len(first) :]


def _labels(rng: np.random.Generator, n_first: int, n: int, n_permutations: int) -> NDArray[np.bool_]:
    """Which rows are of the first sample, (1 + n_permutations, n): as they are, then shuffled."""
    given = np.arange(n) < n_first
    return np.vstack([given, rng.permuted(np.tile(given, (n_permutations, 1)), axis=1)])


def _kernel_sums(
    rows: NDArray[np.float64], of_first: NDArray[np.float64], scale: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sums of the kernel, a row with itself left out, a block of rows at a time.

    Args:
        rows: (n, d) both samples.
        of_first: (n, n_labels) one for rows of the first sample.
        scale: Standard deviation of the kernel.

    Returns:
        Sums over pairs within the first sample, (n_labels,); of each row with the first sample as given, (n,); and of
        each row with all, (n,).
    """
    n = len(rows)
    inside, to_first, to_all = np.zeros(of_first.shape[1]), np.empty(n), np.empty(n)
    n_at_once = max(1, _NUMBERS_AT_ONCE // (2 * n))
    for start in range(0, n, n_at_once):
        block = slice(start, min(start + n_at_once, n))
        kernel = np.exp(cdist(rows[block], rows, "sqeuclidean") / (-2 * scale**2))
        kernel[np.arange(block.stop - start), np.arange(start, block.stop)] = 0.0
        sums = kernel @ of_first
        inside += (sums * of_first[block]).sum(axis=0)
        to_first[block], to_all[block] = sums[:, 0], kernel.sum(axis=1)
    return inside, to_first, to_all


def _unbiased(
    inside: NDArray[np.float64], touching: NDArray[np.float64], total: float, n: int, m: int
) -> NDArray[np.float64]:
    """Equation 3 of Gretton et al., from sums within the first sample, of the first with all, and of all with all."""
    across = touching - inside
    return inside / (n * (n - 1)) + (total - inside - 2 * across) / (m * (m - 1)) - 2 * across / (n * m)


def _projections(
    to_first: NDArray[np.float64], to_all: NDArray[np.float64], n: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Difference between mean kernels with own and other sample, of each row of the first and of the second."""
    m, to_second = len(to_all) - n, to_all - to_first
    return to_first[:n] / (n - 1) - to_second[:n] / m, to_second[n:] / (m - 1) - to_first[n:] / n


def _squared_wasserstein(values: NDArray[np.float64], of_first: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Squared distances of order 2 between the values of the first and of the second sample, for each row of labels."""
    order = np.argsort(values)
    ordered, labels = values[order], of_first[:, order]
    n = int(labels[0].sum())
    m = len(values) - n
    # Labels are True n times in every row, so that what they choose, in order, fills (n_labels, n).
    everything = np.broadcast_to(ordered, labels.shape)
    first, second = everything[labels].reshape(-1, n), everything[~labels].reshape(-1, m)
    if n == m:
        return ((first - second) ** 2).mean(axis=1)
    # Both quantile functions are steps; between two ends of steps, of either, both are constant.
    ends = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    width = np.diff(ends, prepend=0) / (n * m)
    return ((first[:, (ends - 1) // m] - second[:, (ends - 1) // n]) ** 2) @ width


def _distance(
    kind: Literal["maximum mean discrepancy", "sliced Wasserstein"],
    values: NDArray[np.float64],
    error: float,
    scale: float,
) -> SampleDistance:
    """The record of a distance that stands first among those of shuffled samples."""
    observed, null = float(values[0]), values[1:]
    p_value = (int((null >= observed).sum()) + 1) / (len(null) + 1)
    return SampleDistance(
        kind=kind,
        value=observed,
        error=error,
        null=null,
        p_value=p_value,
        p_value_error=p_value_error(p_value, len(null)),
        scale=scale,
    )
