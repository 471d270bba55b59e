"""Mixtures of Gaussians with full covariances."""

import dataclasses
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from eagleray.networks.densities.density import Density
from eagleray.networks.densities.settings import check_sizes
from eagleray.networks.layers import Mlp
from eagleray.records import Key

_MAX_LOG_DIAGONAL = 7.0


class MixtureDensity(Density):
    """Mixture of Gaussians whose weights, means and covariances are functions of the context.

    Args:
        n_value: Size of the vector whose density it is.
        n_context: Size of the context.
        settings: Sizes.
        rngs: Keys for the initial weights.

    References:
        Bishop (1994), Mixture density networks; Papamakarios & Murray (2016), NeurIPS 29, section 2.2, whose
        parametrisation of the precisions by triangular factors is taken.
    """

    def __init__(self, n_value: int, n_context: int, settings: "MixtureSettings", *, rngs: nnx.Rngs) -> None:
        """Build the network that sets the mixture."""
        self.n_value, self.n_components = n_value, settings.n_components
        self.n_lower = n_value * (n_value - 1) // 2
        n_numbers = 1 + 2 * n_value + self.n_lower
        self.network = Mlp(n_context, settings.hidden, self.n_components * n_numbers, rngs=rngs)

    def _components(self, context: Array) -> tuple[Array, Array, Array, Array]:
        """Ln weights (k,), means (k, n), triangular factors of the precisions (k, n, n), ln of their diagonals."""
        numbers = self.network(context).reshape(self.n_components, -1)
        n = self.n_value
        log_weights = jax.nn.log_softmax(numbers[:, 0])
        means = numbers[:, 1 : 1 + n]
        # Bounded, so that one wild step of training cannot overflow.
        log_diagonal = _MAX_LOG_DIAGONAL * jnp.tanh(numbers[:, 1 + n : 1 + 2 * n] / _MAX_LOG_DIAGONAL)
        rows, columns = np.tril_indices(n, -1)
        factor = jnp.zeros((self.n_components, n, n), numbers.dtype).at[:, rows, columns].set(numbers[:, 1 + 2 * n :])
        factor = factor.at[:, np.arange(n), np.arange(n)].set(jnp.exp(log_diagonal))
        return log_weights, means, factor, log_diagonal

    def log_prob(self, value: Float[Array, " n_value"], context: Float[Array, " n_context"]) -> Float[Array, ""]:
        """Ln density of one vector."""
        log_weights, means, factor, log_diagonal = self._components(context)
        standard = jnp.einsum("kji,kj->ki", factor, value - means)  # L^T (value - mean), with precision L L^T
        normal = -0.5 * (standard**2).sum(axis=-1) - 0.5 * self.n_value * math.log(2.0 * math.pi)
        return jax.nn.logsumexp(log_weights + normal + log_diagonal.sum(axis=-1))

    def sample(self, key: Key, context: Float[Array, " n_context"]) -> Float[Array, " n_value"]:
        """Draw one vector."""
        return self.sample_many(key, context, 1)[0]

    def sample_many(self, key: Key, context: Float[Array, " n_context"], n: int) -> Float[Array, "n n_value"]:
        """Draw n vectors; the mixture is set up once."""
        log_weights, means, factor, _ = self._components(context)
        key_component, key_noise = jax.random.split(key)
        component = jax.random.categorical(key_component, log_weights, shape=(n,))
        noise = jax.random.normal(key_noise, (n, self.n_value), context.dtype)
        inverse = jax.vmap(lambda f: jax.scipy.linalg.solve_triangular(f.T, jnp.eye(self.n_value), lower=False))(factor)
        return means[component] + jnp.einsum("nij,nj->ni", inverse[component], noise)


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixtureSettings:
    """Size of a mixture density.

    Attributes:
        kind: Its name in settings.
        n_components: Gaussians; 1 for a single one.
        hidden: Hidden layers of the network that sets them.
    """

    kind: Literal["mixture"] = "mixture"
    n_components: int = 8
    hidden: tuple[int, ...] = (64, 64)

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        check_sizes(n_components=self.n_components, hidden=self.hidden)

    def build(self, n_value: int, n_context: int, *, rngs: nnx.Rngs) -> MixtureDensity:
        """Make the density."""
        return MixtureDensity(n_value, n_context, self, rngs=rngs)
