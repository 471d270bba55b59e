"""Flow matching: a vector field along straight lines from noise to data."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from eagleray.networks.densities.settings import check_sizes
from eagleray.networks.densities.vector_fields import VectorField
from eagleray.records import Key

# Steps are shorter towards the data, where the field is rougher: 1 - time falls as this power.
_STEP_POWER = 3.0


class FlowMatching(VectorField):
    """Density whose field is the mean velocity of straight lines x_t = t x + (1 - (1 - sigma_min) t) noise.

    Args:
        n_value: Size of the vector whose density it is.
        n_context: Size of the context.
        settings: Sizes.
        rngs: Keys for the initial weights.

    References:
        Lipman et al. (2023), Flow Matching for Generative Modeling, equations 20-23; Wildberger et al. (2023), Flow
        Matching for Scalable Simulation-Based Inference, section 3.
    """

    def __init__(self, n_value: int, n_context: int, settings: "FlowMatchingSettings", *, rngs: nnx.Rngs) -> None:
        """Build the network."""
        times = 1.0 - np.linspace(1.0, 0.0, settings.n_steps + 1) ** _STEP_POWER
        super().__init__(n_value, n_context, width=settings.width, n_blocks=settings.n_blocks, times=times, rngs=rngs)
        self.sigma_min, self.alpha = settings.sigma_min, settings.alpha

    def _noise(self, time: Array) -> Array:
        """Part of the noise in x_t."""
        return 1.0 - (1.0 - self.sigma_min) * time

    def velocity(
        self, time: Float[Array, ""], value: Float[Array, " n_value"], context: Float[Array, " n_context"]
    ) -> Float[Array, " n_value"]:
        """Derivative of the value by time."""
        return self.network(value, jnp.log(self._noise(time)), context)

    def loss(self, key: Key, value: Float[Array, " n_value"], context: Float[Array, " n_context"]) -> Float[Array, ""]:
        """Squared distance of the field from the velocity of one line, at a random time."""
        key_time, key_noise = jax.random.split(key)
        time = jax.random.uniform(key_time, (), value.dtype) ** (1.0 + self.alpha)
        noise = jax.random.normal(key_noise, value.shape, value.dtype)
        between = time * value + self._noise(time) * noise
        error = self.velocity(time, between, context) - (value - (1.0 - self.sigma_min) * noise)
        return (error**2).mean()


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowMatchingSettings:
    """Size of a flow-matching density.

    Attributes:
        kind: Its name in settings.
        width: Size of every hidden layer.
        n_blocks: Residual blocks.
        n_steps: Steps from noise to data; the field is asked four times in each.
        sigma_min: Noise left in the data, in standard deviations of the value.
        alpha: Times of training are u^(1 + alpha), u uniform: below zero, more of them are near the data.
    """

    kind: Literal["flow_matching"] = "flow_matching"
    width: int = 128
    n_blocks: int = 3
    n_steps: int = 16
    sigma_min: float = 1e-3
    alpha: float = -0.5

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse settings that make no density."""
        check_sizes(width=self.width, n_blocks=self.n_blocks, n_steps=self.n_steps)
        if not 0 < self.sigma_min < 1:
            raise ValueError(f"sigma_min must be between 0 and 1, got {self.sigma_min!r}")
        if not self.alpha > -1:
            raise ValueError(f"alpha must be above -1, got {self.alpha!r}")

    def build(self, n_value: int, n_context: int, *, rngs: nnx.Rngs) -> FlowMatching:
        """Make the density."""
        return FlowMatching(n_value, n_context, self, rngs=rngs)
