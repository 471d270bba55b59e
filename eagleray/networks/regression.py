"""What of a value is linear in its context: taken out before a network sees it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float
from numpy.typing import NDArray

from eagleray.networks.layers import Constant
from eagleray.networks.warps import Warp
from eagleray.records import AnyArray

# Longest context in which a linear relation is looked for: that of summaries, and not of raw light curves.
# Products of its entries as further features were worse: the residuals of a curved relation have heavy tails.
_LONGEST = 512
# Penalties that are tried, as fractions of the largest squared singular value.
_PENALTIES = np.geomspace(1e-8, 1e2, 41)
# Variance of an entry, given those before it, at least, as a fraction of its own.
_LEAST_VARIANCE = 1e-6


class Regression(nnx.Module):
    """r = L^-1 (value - A c), c the warped context: a ridge regression and the Cholesky factor of its residuals.

    A network that starts from here learns only what a linear-Gaussian model has not said. Where relations are curved,
    the line is far off for some contexts; a network that is given A c too can undo it there.

    Args:
        n_value: Size of the value.
        n_context: Size of the context; 0, or more than 512: r is the value.

    References:
        Hoerl & Kennard (1970), Technometrics 12, 55 (ridge); Golub, Heath & Wahba (1979), Technometrics 21, 215
        (generalised cross-validation, which chooses the penalty of each entry).
    """

    def __init__(self, n_value: int, n_context: int) -> None:
        """Start as the identity."""
        n_context = n_context if n_context <= _LONGEST else 0
        self.n_context = n_context
        self.n_predicted = n_value if n_context else 0
        if n_context:  # empty arrays cannot be stored
            self.warp = Warp(n_context)
            self.slopes = Constant(jnp.zeros((n_value, n_context)))
        self.factor = Constant(jnp.eye(n_value))

    def learn(
        self,
        values: Float[AnyArray, "n n_value"],
        contexts: Float[AnyArray, "n n_context"],
        *,
        keep: tuple[bool, ...] = (),
    ) -> None:
        """Take all constants from training data; none where rows are fewer than twice the entries of value or context.

        Args:
            values: (n, n_value), standardised.
            contexts: (n, n_context).
            keep: Which entries of the value are left as they are, as discrete ones must be; none by default.
        """
        if not self.n_context or len(values) <= 2 * max(np.shape(values)[1], self.n_context):
            return
        values = np.asarray(values, np.float64)
        kept = np.array(keep) if any(keep) else np.zeros(values.shape[1], bool)
        self.warp.learn(contexts)
        features = np.asarray(jax.jit(jax.vmap(self.warp))(jnp.asarray(contexts)), np.float64)
        slopes = np.where(kept[:, None], 0.0, _ridge(features, values))
        factor = _factor(values - features @ slopes.T, kept)
        self.slopes.set_value(jnp.asarray(slopes, jnp.float32))
        self.factor.set_value(jnp.asarray(factor, jnp.float32))

    def predicted(self, context: Any) -> Float[Array, " n_predicted"]:
        """The linear part of the value; nothing, of size 0, where no relation is looked for."""
        return self.slopes[...] @ self.warp(context) if self.n_context else jnp.zeros(0)

    def residual(self, value: Float[Array, " n_value"], predicted: Array) -> Float[Array, " n_value"]:
        """What is left of a value."""
        rest = value - predicted if self.n_context else value
        return jax.scipy.linalg.solve_triangular(self.factor[...], rest, lower=True)

    def restore(self, residual: Float[Array, " n_value"], predicted: Array) -> Float[Array, " n_value"]:
        """Inverse of `residual`."""
        correlated = self.factor[...] @ residual
        return correlated + predicted if self.n_context else correlated

    def log_det(self) -> Float[Array, ""]:
        """Ln |d residual / d value|."""
        return -jnp.log(jnp.diag(self.factor[...])).sum()


def _ridge(features: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Slopes (n_value, n_features) of centred values on centred features, with the penalty of least GCV score."""
    n = len(features)
    # Eigenvectors of the Gram matrix: far cheaper than singular vectors, and only directions that a penalty leaves
    # nothing of lose digits.
    squares, vectors = np.linalg.eigh(features.T @ features)
    lengths, right = np.sqrt(np.maximum(squares[::-1], 0.0)), vectors[:, ::-1].T
    inverse = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 1e-7 * max(lengths[0], 1e-12))
    projected = inverse[:, None] * (right @ (features.T @ values))  # (k, n_value)
    total = (values**2).sum(axis=0)
    shrinkage = lengths**2 / (lengths**2 + (_PENALTIES * max(lengths[0], 1e-12) ** 2)[:, None])  # (n_penalties, k)
    errors = total - ((2.0 * shrinkage - shrinkage**2)[:, :, None] * projected**2).sum(axis=1)
    scores = errors / (n - shrinkage.sum(axis=1)[:, None]) ** 2
    best = shrinkage[np.argmin(scores, axis=0)]  # (n_value, k)
    return (best * projected.T * inverse) @ right


def _factor(residuals: NDArray[np.floating], kept: Bool[np.ndarray, " n_value"]) -> NDArray[np.floating]:
    """Cholesky factor of the covariance of residuals; the identity for kept entries and where nothing varies."""
    covariance = np.cov(residuals.T).reshape(len(kept), len(kept))
    alone = kept | (np.diag(covariance) < 1e-10)
    covariance = np.where(alone[:, None] | alone, np.eye(len(kept)), covariance)
    # Entries that are functions of each other are kept apart by as much as float32 can bear; kept ones stay exact.
    return np.linalg.cholesky(covariance + np.diag(np.where(alone, 0.0, _LEAST_VARIANCE * np.diag(covariance))))
