"""What flows of alike layers share, whatever a layer is."""

import math
from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jaxtyping import Array, Float

from eagleray.networks.densities.density import Density
from eagleray.records import Key


class LayeredFlow(Density):
    """Invertible layers of one kind over a standard normal, with the entries put in another order between them.

    A layer has `forward(value, context) -> (value, ln |det|)` towards the noise, and `inverse(value, context)`.

    Args:
        n_value: Size of the vector whose density it is.
        n_layers: How many layers.
        make_layer: Makes one.
        rngs: Keys for the initial weights.
    """

    def __init__(self, n_value: int, n_layers: int, make_layer: Callable[[nnx.Rngs], Any], *, rngs: nnx.Rngs) -> None:
        """Build the layers: one, with a leading axis on its weights, compiled once whatever their number."""
        self.n_value = n_value
        self.layers: Any = nnx.split_rngs(splits=n_layers)(nnx.vmap(make_layer))(rngs)

    def reorder(self, value: Float[Array, " n_value"]) -> Float[Array, " n_value"]:
        """Entries in the order in which the next layer takes them."""
        raise NotImplementedError

    def order_back(self, value: Float[Array, " n_value"]) -> Float[Array, " n_value"]:
        """Inverse of `reorder`."""
        raise NotImplementedError

    def log_prob(self, value: Float[Array, " n_value"], context: Float[Array, " n_context"]) -> Float[Array, ""]:
        """Ln density of one vector."""
        graphdef, weights = nnx.split(self.layers)

        def step(value: Array, layer_weights: Any) -> tuple[Array, Array]:
            layer: Any = nnx.merge(graphdef, layer_weights)
            value, log_det = layer.forward(value, context)
            return self.reorder(value), log_det

        value, log_dets = jax.lax.scan(step, value, weights)
        return log_dets.sum() - 0.5 * (value**2).sum() - 0.5 * self.n_value * math.log(2.0 * math.pi)

    def sample(self, key: Key, context: Float[Array, " n_context"]) -> Float[Array, " n_value"]:
        """Draw one vector."""
        return self._from_noise(jax.random.normal(key, (self.n_value,), context.dtype), context)

    def sample_many(self, key: Key, context: Float[Array, " n_context"], n: int) -> Float[Array, "n n_value"]:
        """Draw n vectors with one context, of noise drawn at once."""
        noise = jax.random.normal(key, (n, self.n_value), context.dtype)
        return jax.vmap(self._from_noise, in_axes=(0, None))(noise, context)

    def _from_noise(self, noise: Float[Array, " n_value"], context: Array) -> Float[Array, " n_value"]:
        """The vector that a vector of noise stands for."""
        graphdef, weights = nnx.split(self.layers)

        def step(value: Array, layer_weights: Any) -> tuple[Array, None]:
            layer: Any = nnx.merge(graphdef, layer_weights)
            return layer.inverse(self.order_back(value), context), None

        value, _ = jax.lax.scan(step, noise, weights, reverse=True)
        return value
