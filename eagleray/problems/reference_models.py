"""What a few fixed Gaussian models make of a series: features from which a network reads a likelihood surface.

The likelihood of a series y under a Gaussian process of covariance a K depends on it through the quadratic form
q = (y - m)^T K^-1 (y - m) alone, m the best mean: ln L = -n/2 ln a - q / (2 a) + a constant. Values of ln q at a grid
of K are the likelihood's profile over the amplitude on that grid, and between its nodes it is smooth; so a grid that is
fine on the scale of the posterior holds nearly all that the series tells of the covariance's parameters.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64
from scipy.linalg import solve_triangular


@dataclasses.dataclass(frozen=True, eq=False)
class ReferenceModels:
    """Fixed covariances of a series, up to a factor each.

    Attributes:
        whitening: (n_models, n, n) matrices that take off the best mean and whiten the rest.
        weights: (n_models, n) weights of the best mean, which add up to 1.
    """

    whitening: Float64[np.ndarray, "n_models n n"]
    weights: Float64[np.ndarray, "n_models n"]

    @classmethod
    def of(cls, covariances: Float64[np.ndarray, "n_models n n"]) -> "ReferenceModels":
        """The models of given covariance matrices, which must be positive definite."""
        n = covariances.shape[-1]
        inverses = [solve_triangular(np.linalg.cholesky(matrix), np.eye(n), lower=True) for matrix in covariances]
        precise = [inverse.T @ inverse.sum(axis=1) for inverse in inverses]
        weights = np.array([row / row.sum() for row in precise])
        whitening = [
            inverse - np.outer(inverse.sum(axis=1), row) for inverse, row in zip(inverses, weights, strict=True)
        ]
        return cls(np.array(whitening), weights)

    def misfits(self, values: Float[Array, " n"]) -> Float[Array, " n_models"]:
        """Ln of the mean squared whitened value under each model: ln (q / n), shape (n_models,)."""
        n_models, n = self.weights.shape
        white = jnp.asarray(self.whitening.reshape(n_models * n, n), values.dtype) @ (values - values.mean())
        return jnp.log((white.reshape(n_models, n) ** 2).mean(axis=1))

    def means(self, values: Float[Array, " n"]) -> Float[Array, " n_models"]:
        """Best mean under each model, in the unit of the values, shape (n_models,)."""
        middle = values.mean()
        return middle + jnp.asarray(self.weights, values.dtype) @ (values - middle)
