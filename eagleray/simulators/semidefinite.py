"""Cholesky factors of small matrices that may be singular: noise covariances and fully coherent bands."""

import jax.numpy as jnp
from jaxtyping import Array, Inexact


def semidefinite_cholesky(
    matrix: Inexact[Array, "*batch m m"], tolerance: float | None = None
) -> Inexact[Array, "*batch m m"]:
    """Lower factor L with L L^H = matrix, for Hermitian matrices of rank m or less.

    A direction that the ones before it explain, to within rounding, gets a zero column instead of the square root of
    a rounding error. The loop over the m columns is unrolled: meant for m up to about eight, batched over all else,
    where it is far quicker on a CPU than one library call a matrix.

    Args:
        matrix: Hermitian matrices, positive semidefinite; the lower triangle is read.
        tolerance: Fraction of a diagonal entry below which what remains of it counts as zero; by default 8 m times
            the rounding of the type.

    Returns:
        Lower triangular factors. NaN where a diagonal entry is NaN.

    References:
        Higham (2002), Accuracy and Stability of Numerical Algorithms, section 10.3.
    """
    m = matrix.shape[-1]
    if tolerance is None:
        tolerance = 8.0 * m * float(jnp.finfo(matrix.dtype).eps)
    index = jnp.arange(m)
    rest, columns = matrix, []
    for j in range(m):
        pivot = rest[..., j, j].real
        dropped = pivot <= tolerance * matrix[..., j, j].real
        # The root of one, not of the remainder, so that the gradient of a dropped column is zero and not NaN.
        root = jnp.sqrt(jnp.where(dropped, 1.0, pivot)).astype(matrix.dtype)[..., None]
        kept = ~dropped[..., None] & (index >= j).reshape((1,) * dropped.ndim + (m,))
        column = jnp.where(kept, rest[..., :, j] / root, 0.0)
        rest = rest - column[..., :, None] * column.conj()[..., None, :]
        columns.append(column)
    return jnp.stack(columns, -1)
