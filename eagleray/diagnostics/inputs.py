"""What the diagnostics ask of numbers given to them, and how keys become NumPy's generators."""

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

from eagleray.records import Key


def generator(key: Key) -> np.random.Generator:
    """NumPy's generator, seeded by a typed key, which is consumed."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def finite(name: str, values: ArrayLike, shape: str, *, n_axes: int, fewest: int = 1) -> NDArray[np.float64]:
    """Values as float64, refused unless they have the axes named, enough rows, and are finite.

    Args:
        name: What the caller calls them.
        values: The numbers.
        shape: Their shape in words, such as "(n, d)".
        n_axes: Number of axes.
        fewest: Fewest rows that will do.

    Raises:
        ValueError: If they do not comply.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != n_axes or 0 in array.shape[1:]:
        raise ValueError(f"{name} must be of shape {shape} and not empty, got {array.shape}")
    if len(array) < fewest:
        raise ValueError(f"{name} must have at least {fewest} rows, got {len(array)}")
    n_wrong = int((~np.isfinite(array)).sum())
    if n_wrong:
        raise ValueError(f"{name} must be finite, got {n_wrong} of {array.size} numbers that are not; leave them out")
    return array


def same(name: str, got: int, wanted: int, what: str) -> None:
    """Refuse a size that differs from the one it has to match; `what` names that one."""
    if got != wanted:
        raise ValueError(f"{name} must have {what}, {wanted}, got {got}")


def p_value_error(p_value: float, n: int) -> float:
    """Standard error of a p-value counted among n trials."""
    return float(np.sqrt(p_value * (1 - p_value) / n))
