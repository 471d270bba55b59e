"""What every conditional density can do."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from eagleray.records import Key


class Density(nnx.Module):
    """p(value | context) of one vector given another, both standardised.

    Kinds of density differ in what they are made of; methods differ in what is value and what is context. None knows of
    the other.

    Attributes:
        discrete: Which entries are whole numbers, and must reach the density as they are; empty: none.
    """

    discrete: tuple[bool, ...] = ()

    def log_prob(self, value: Float[Array, " n_value"], context: Float[Array, " n_context"]) -> Float[Array, ""]:
        """Ln density of one vector."""
        raise NotImplementedError

    def sample(self, key: Key, context: Float[Array, " n_context"]) -> Float[Array, " n_value"]:
        """Draw one vector."""
        raise NotImplementedError

    def sample_many(self, key: Key, context: Float[Array, " n_context"], n: int) -> Float[Array, "n n_value"]:
        """Draw n vectors with one context."""
        return jax.vmap(self.sample, in_axes=(0, None))(jax.random.split(key, n), context)

    def loss(self, key: Key, value: Float[Array, " n_value"], context: Float[Array, " n_context"]) -> Float[Array, ""]:
        """What training minimises, for one pair; its minimum over all densities is the true one.

        Minus the ln density, unless a kind of density has something cheaper. The key is for those.
        """
        del key
        return -self.log_prob(value, context)
