"""Polynomials in place of transcendental functions, which cost most on a CPU."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float


def polynomial(coefficients: Sequence[float], x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Evaluate a polynomial by Horner's rule.

    Args:
        coefficients: Lowest power first.
        x: Where to evaluate it.
    """
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total
