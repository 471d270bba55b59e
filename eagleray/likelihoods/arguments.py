"""What all likelihoods ask of their arguments, and special functions that several need."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Num

from eagleray.records import AnyArray

Values = Num[AnyArray, " n"]
"""Data, one number for each of n frequencies or bins."""
OneOrEach = Num[AnyArray, " n"] | Num[AnyArray, ""] | float
"""What belongs to the data: one number for all, or one for each."""

_SERIES_FROM = 8.0


def matched(**arrays: Any) -> tuple[Array, ...]:
    """Arguments as floating-point arrays of one type, each a scalar or of the shape of the first.

    Args:
        **arrays: The data first, then what belongs to them, under the names by which a user knows them. Integers
            (counts, numbers of averages) take the type of the others.

    Returns:
        The arrays, in the same order.

    Raises:
        TypeError: If one is complex.
        ValueError: If one, not a scalar, has another shape than the first: broadcasting would count data twice.
    """
    given = {name: jnp.asarray(array) for name, array in arrays.items()}
    first, *_ = given.values()
    for name, array in given.items():
        if jnp.iscomplexobj(array):
            raise TypeError(f"{name} must be real, got {array.dtype}")
        if array.shape not in ((), first.shape):
            raise ValueError(f"{name} must have shape () or {first.shape}, got {array.shape}")
    floats = [array for array in given.values() if jnp.issubdtype(array.dtype, jnp.floating)]
    dtype = jnp.result_type(*floats) if floats else jnp.result_type(float)
    return tuple(array.astype(dtype) for array in given.values())


def at_least(name: str, value: Any, low: float, *, whole: bool = False) -> None:
    """Refuse numbers below a bound, or that are not whole; values that JAX traces pass, because they are not known.

    Raises:
        ValueError: If a number is below `low`, not a number, or not whole although it must be.
    """
    if isinstance(value, Tracer):
        return
    numbers = np.asarray(value, np.float64)
    if not np.all(numbers >= low):
        raise ValueError(f"{name} must be at least {low:g}, got {np.min(numbers):g}")
    if whole and np.any(numbers != np.round(numbers)):
        raise ValueError(f"{name} must be whole, got {numbers[numbers != np.round(numbers)].flat[0]:g}")


def log_gamma_excess(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Difference x ln x - x - ln Gamma(x), for x > 0, of the order of ln x.

    The three terms are large and cancel: taken one by one in float32 they lose the first decimal at x = 1e5.
    Above 8, Stirling's series, exact to 1e-12.
    """
    large = x >= _SERIES_FROM
    big, small = jnp.where(large, x, _SERIES_FROM), jnp.where(large, 1.0, x)
    inverse = 1.0 / big
    square = inverse * inverse
    tail = inverse * (
        1.0 / 12 - square * (1.0 / 360 - square * (1.0 / 1260 - square * (1.0 / 1680 - square * (1.0 / 1188))))
    )
    series = 0.5 * jnp.log(big) - 0.5 * math.log(2.0 * math.pi) - tail
    return jnp.where(large, series, small * jnp.log(small) - small - jax.scipy.special.gammaln(small))


def log_ratio_excess(excess: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """ln(1 + d) - d for d > -1: never positive; near 0, where it is -d^2/2, without loss."""
    return jnp.log1p(excess) - excess
