"""Which data are ever seen: the chance that a simulation is valid, given its parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from eagleray.networks.layers import Constant, Mlp
from eagleray.networks.warps import Warp
from eagleray.records import AnyArray

_HIDDEN = (64, 64)


class Selection(nnx.Module):
    """Ln p(valid | theta), by a classifier.

    Args:
        n_theta: Number of parameters.
        settings: None; there is nothing to choose.
        rngs: Keys for the initial weights.
    """

    def __init__(self, n_theta: int, settings: Any = None, *, rngs: nnx.Rngs) -> None:
        """Start with one chance everywhere."""
        self.warp = Warp(n_theta)
        self.offset = Constant(jnp.zeros(()))
        self.logit = Mlp(n_theta, _HIDDEN, 1, zero_output=True, rngs=rngs)

    def learn_scales(self, theta: Float[AnyArray, "n n_theta"], valid: Bool[AnyArray, "n n_views"]) -> None:
        """Take scales from training data, and start from the chance of all together."""
        self.warp.learn(theta, bend=False)
        odds = (np.sum(valid) + 0.5) / (np.size(valid) - np.sum(valid) + 0.5)
        self.offset.set_value(jnp.asarray(np.log(odds), jnp.float32))

    def log_odds(self, theta: Float[Array, " n_theta"]) -> Float[Array, ""]:
        """Ln of p(valid | theta) over p(not valid | theta)."""
        return self.offset[...] + self.logit(self.warp(theta))[0]

    def log_prob(self, theta: Float[Array, " n_theta"]) -> Float[Array, ""]:
        """Ln p(valid | theta)."""
        return jax.nn.log_sigmoid(self.log_odds(theta))
