"""Checks that the settings of several densities share."""

import math

# Spline bins have a smallest size; more of them than this would not fit.
_MAX_BINS = 100


def check_sizes(**sizes: int | tuple[int, ...]) -> None:
    """Refuse sizes that make no network.

    Raises:
        ValueError: If a size, or one of a tuple of layer sizes, is below one.
    """
    for name, size in sizes.items():
        for entry in size if isinstance(size, tuple) else (size,):
            if entry < 1:
                raise ValueError(f"{name} must be at least 1, got {entry!r}")


def check_splines(n_bins: int, bound: float) -> None:
    """Refuse splines that cannot be.

    Raises:
        ValueError: If there are no bins or too many, or the interval is empty.
    """
    if not 1 <= n_bins <= _MAX_BINS:
        raise ValueError(f"n_bins must be from 1 to {_MAX_BINS}, got {n_bins!r}")
    if not 0 < bound < math.inf:
        raise ValueError(f"bound must be positive and finite, got {bound!r}")
