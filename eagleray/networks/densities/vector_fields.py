"""Densities that a vector field carries from noise to data: their network, draws and exact ln density."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.networks.densities.density import Density
from eagleray.networks.densities.odes import integrate
from eagleray.networks.layers import Mlp
from eagleray.records import Key

# Angular frequencies at which a network sees the ln of the noise level [radians per e-fold].
_FREQUENCIES = np.geomspace(0.25, 4.0, 8)


class FieldBlock(nnx.Module):
    """One residual block, its input and the layer within shifted and scaled by a condition.

    Args:
        width: Size of what comes in and goes out.
        n_condition: Size of the condition.
        rngs: Keys for the initial weights; the block starts as the identity.
    """

    def __init__(self, width: int, n_condition: int, *, rngs: nnx.Rngs) -> None:
        """Draw the initial weights."""
        self.modulation = nnx.Linear(n_condition, 2 * width, rngs=rngs)
        self.inner = Mlp(width, (width,), width, zero_output=True, rngs=rngs)

    def __call__(self, hidden: Float[Array, " width"], condition: Float[Array, " n_condition"]) -> Array:
        """New hidden vector."""
        scale, shift = jnp.split(self.modulation(condition).astype(hidden.dtype), 2)
        return hidden + self.inner(jax.nn.silu(hidden * (1.0 + scale) + shift))


class FieldNetwork(nnx.Module):
    """Vector as a function of a vector, a noise level and a context.

    Noise level and context enter by what they make of each block, so that many vectors at one of each share that work.

    Args:
        n_value: Size of the vector.
        n_context: Size of the context.
        width: Size of every hidden layer.
        n_blocks: Residual blocks; compiled once, whatever their number.
        rngs: Keys for the initial weights; the output starts at zero.

    References:
        Perez et al. (2018), FiLM, equation 2; Peebles & Xie (2023), section 3.2 (adaLN-Zero).
    """

    def __init__(self, n_value: int, n_context: int, width: int, n_blocks: int, *, rngs: nnx.Rngs) -> None:
        """Draw the initial weights."""

        @nnx.split_rngs(splits=n_blocks)
        @nnx.vmap
        def make_blocks(rngs: nnx.Rngs) -> FieldBlock:
            return FieldBlock(width, width, rngs=rngs)

        self.condition = Mlp(2 * len(_FREQUENCIES) + n_context, (width,), width, rngs=rngs)
        self.input = nnx.Linear(n_value, width, rngs=rngs)
        self.blocks = make_blocks(rngs)
        self.output = nnx.Linear(width, n_value, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(
        self, value: Float[Array, " n_value"], log_noise: Float[Array, ""], context: Float[Array, " n_context"]
    ) -> Float[Array, " n_value"]:
        """Output vector."""
        angles = log_noise * jnp.asarray(_FREQUENCIES, log_noise.dtype)
        condition = jax.nn.silu(self.condition(jnp.concatenate([jnp.sin(angles), jnp.cos(angles), context])))
        graphdef, weights = nnx.split(self.blocks)

        def block(hidden: Array, block_weights: Any) -> tuple[Array, None]:
            return nnx.merge(graphdef, block_weights)(hidden, condition), None

        hidden, _ = jax.lax.scan(block, self.input(value).astype(value.dtype), weights)
        return self.output(jax.nn.silu(hidden)).astype(value.dtype)


class VectorField(Density):
    """Standard normal noise carried to data along d value / d time = velocity, in fixed steps.

    Draws and the ln density follow the same field over the same steps, and so agree as well as the steps are short.

    Args:
        n_value: Size of the vector whose density it is.
        n_context: Size of the context.
        width: Size of every hidden layer.
        n_blocks: Residual blocks.
        times: Ends of the steps, from noise to data.
        rngs: Keys for the initial weights.

    References:
        Chen et al. (2018), Neural Ordinary Differential Equations, section 4.
    """

    def __init__(
        self,
        n_value: int,
        n_context: int,
        *,
        width: int,
        n_blocks: int,
        times: NDArray[np.floating],
        rngs: nnx.Rngs,
    ) -> None:
        """Build the network."""
        self.n_value = n_value
        self.times = tuple(times.tolist())
        self.network = FieldNetwork(n_value, n_context, width, n_blocks, rngs=rngs)

    def velocity(
        self, time: Float[Array, ""], value: Float[Array, " n_value"], context: Float[Array, " n_context"]
    ) -> Float[Array, " n_value"]:
        """Derivative of the value by time."""
        raise NotImplementedError

    def log_prob(self, value: Float[Array, " n_value"], context: Float[Array, " n_context"]) -> Float[Array, ""]:
        """Ln density of one vector; the divergence of the field is exact, its Jacobian taken column by column."""

        def field(time: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
            def velocity(value: Array) -> tuple[Array, Array]:
                slope = self.velocity(time, value, context)
                return slope, slope

            jacobian, slope = jax.jacfwd(velocity, has_aux=True)(state[0])
            return slope, jnp.trace(jacobian)

        times = jnp.asarray(self.times[::-1], value.dtype)
        noise, log_det = integrate(field, (value, jnp.zeros((), value.dtype)), times)
        return log_det - 0.5 * (noise**2).sum() - 0.5 * self.n_value * math.log(2.0 * math.pi)

    def carry(self, noise: Float[Array, " n_value"], context: Float[Array, " n_context"]) -> Float[Array, " n_value"]:
        """Vector that the field makes of noise."""
        times = jnp.asarray(self.times, noise.dtype)
        return integrate(lambda time, value: self.velocity(time, value, context), noise, times)

    def sample(self, key: Key, context: Float[Array, " n_context"]) -> Float[Array, " n_value"]:
        """Draw one vector."""
        return self.carry(jax.random.normal(key, (self.n_value,), context.dtype), context)
