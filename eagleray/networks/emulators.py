"""Emulators: networks in the place of expensive deterministic functions, such as spectra and lags."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from eagleray.networks.densities.settings import check_sizes
from eagleray.networks.layers import Constant, ResidualMlp, Standardise
from eagleray.records import AnyArray


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmulatorSettings:
    """Size of an emulator.

    Attributes:
        n_components: Principal components of the outputs that the network predicts, at most.
        width: Size of its hidden layers.
        n_blocks: Residual blocks of two layers.
        n_members: Networks of the ensemble; their spread is the estimate of the error.
    """

    n_components: int = 16
    width: int = 128
    n_blocks: int = 3
    n_members: int = 4

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        check_sizes(n_components=self.n_components, width=self.width, n_blocks=self.n_blocks, n_members=self.n_members)


class Emulator(nnx.Module):
    """A smooth function of parameters: an ensemble of perceptrons predicts the principal components of its output.

    Args:
        n_inputs: Number of parameters.
        n_outputs: Numbers that the function returns.
        settings: Sizes.
        rngs: Keys for the initial weights.

    References:
        Speculator: Alsing et al. (2020), ApJS 249, 5, section 2 (principal components of spectra by a perceptron).
    """

    def __init__(self, n_inputs: int, n_outputs: int, settings: EmulatorSettings, *, rngs: nnx.Rngs) -> None:
        """Build the members."""
        self.n_components = min(settings.n_components, n_outputs)
        self.input_scale = Standardise(n_inputs)
        self.centre = Constant(jnp.zeros(n_outputs))
        self.spread = Constant(jnp.ones(n_outputs))
        self.components = Constant(jnp.eye(self.n_components, n_outputs))

        @nnx.split_rngs(splits=settings.n_members)
        @nnx.vmap
        def make_members(rngs: nnx.Rngs) -> ResidualMlp:
            return ResidualMlp(n_inputs, settings.width, settings.n_blocks, self.n_components, rngs=rngs)

        self.members = make_members(rngs)

    def learn_scales(self, inputs: Float[AnyArray, "n n_inputs"], outputs: Float[AnyArray, "n n_outputs"]) -> None:
        """Take scales and the principal components of scaled outputs from training data, of unit variance in them."""
        self.input_scale.learn(jnp.asarray(inputs))
        outputs = np.asarray(outputs, np.float64)
        centre = outputs.mean(axis=0)
        spread = outputs.std(axis=0)
        spread = np.where(spread > 1e-6 * np.abs(outputs).max(axis=0), spread, 1.0)
        _, lengths, directions = np.linalg.svd((outputs - centre) / spread, full_matrices=False)
        components = lengths[:, None] / np.sqrt(len(outputs)) * directions
        kept = np.zeros(self.components.shape)  # fewer rows than components: the rest stay zero
        kept[: len(components)] = components[: self.n_components]
        self.centre.set_value(jnp.asarray(centre, jnp.float32))
        self.spread.set_value(jnp.asarray(spread, jnp.float32))
        self.components.set_value(jnp.asarray(kept, jnp.float32))

    def each(self, inputs: Float[Array, " n_inputs"]) -> Float[Array, "n_members n_outputs"]:
        """What every member says."""
        graphdef, weights = nnx.split(self.members)
        scaled = self.input_scale(inputs)
        coefficients = jax.vmap(lambda member: nnx.merge(graphdef, member)(scaled))(weights)
        return self.centre[...] + self.spread[...] * (coefficients @ self.components[...])

    def __call__(self, inputs: Float[Array, " n_inputs"]) -> Float[Array, " n_outputs"]:
        """The mean of the members."""
        return self.each(inputs).mean(axis=0)

    def with_error(self, inputs: Float[Array, " n_inputs"]) -> tuple[Array, Array]:
        """The mean of the members, and their standard deviation: how far they are from agreeing, not from the truth."""
        said = self.each(inputs)
        return said.mean(axis=0), said.std(axis=0)
