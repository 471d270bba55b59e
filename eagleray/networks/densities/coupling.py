"""Coupling flows: half of the entries mapped given the other half."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from eagleray.networks.densities.flow import LayeredFlow
from eagleray.networks.densities.settings import check_sizes, check_splines
from eagleray.networks.densities.splines import n_spline_parameters, spline_forward, spline_inverse
from eagleray.networks.layers import Mlp

_MAX_LOG_SCALE = 4.0


class CouplingLayer(nnx.Module):
    """One coupling step: the first entries pass, and set an affine map and a spline for the others.

    Args:
        n_value: Size of the vector; of size one, the context alone sets the map.
        n_context: Size of the context.
        hidden: Hidden layers of the network that sets the maps.
        n_bins: Bins of each spline.
        bound: Half-width of the interval that the splines bend.
        rngs: Keys for the initial weights; the layer starts as the identity.
    """

    def __init__(
        self, n_value: int, n_context: int, *, hidden: Sequence[int], n_bins: int, bound: float, rngs: nnx.Rngs
    ) -> None:
        """Build the conditioner."""
        self.n_passed = n_value // 2
        self.n_mapped = n_value - self.n_passed
        self.bound = bound
        self.n_numbers = n_spline_parameters(n_bins) + 2
        self.conditioner = Mlp(
            self.n_passed + n_context, hidden, self.n_mapped * self.n_numbers, zero_output=True, rngs=rngs
        )

    def _maps(self, passed: Array, context: Array) -> tuple[Array, Array, Array]:
        """Shift, ln scale and spline parameters of the mapped entries."""
        numbers = self.conditioner(jnp.concatenate([passed, context])).reshape(self.n_mapped, self.n_numbers)
        # Bounded, so that one wild step of training cannot overflow.
        log_scale = _MAX_LOG_SCALE * jnp.tanh(numbers[:, 1] / _MAX_LOG_SCALE)
        return numbers[:, 0], log_scale, numbers[:, 2:]

    def forward(self, value: Float[Array, " n_value"], context: Float[Array, " n_context"]) -> tuple[Array, Array]:
        """From data towards noise: new vector and ln |det|."""
        passed, mapped = value[: self.n_passed], value[self.n_passed :]
        shift, log_scale, spline = self._maps(passed, context)
        mapped, log_det = spline_forward((mapped - shift) * jnp.exp(-log_scale), spline, self.bound)
        return jnp.concatenate([passed, mapped]), (log_det - log_scale).sum()

    def inverse(self, value: Float[Array, " n_value"], context: Float[Array, " n_context"]) -> Array:
        """From noise towards data."""
        passed, mapped = value[: self.n_passed], value[self.n_passed :]
        shift, log_scale, spline = self._maps(passed, context)
        mapped, _ = spline_inverse(mapped, spline, self.bound)
        return jnp.concatenate([passed, mapped * jnp.exp(log_scale) + shift])


class CouplingFlow(LayeredFlow):
    """Neural spline flow: coupling layers with rotations between them, over a standard normal base.

    Args:
        n_value: Size of the vector whose density it is.
        n_context: Size of the context.
        settings: Sizes.
        rngs: Keys for the initial weights.

    References:
        Durkan et al. (2019), Neural Spline Flows, section 3.
    """

    def __init__(self, n_value: int, n_context: int, settings: "CouplingSettings", *, rngs: nnx.Rngs) -> None:
        """Build the layers."""
        self.turn = n_value - n_value // 2

        def make_layer(rngs: nnx.Rngs) -> CouplingLayer:
            return CouplingLayer(
                n_value, n_context, hidden=settings.hidden, n_bins=settings.n_bins, bound=settings.bound, rngs=rngs
            )

        super().__init__(n_value, settings.n_layers, make_layer, rngs=rngs)

    def reorder(self, value: Float[Array, " n_value"]) -> Float[Array, " n_value"]:
        """The mapped entries first."""
        return jnp.roll(value, self.turn)

    def order_back(self, value: Float[Array, " n_value"]) -> Float[Array, " n_value"]:
        """The passed entries first."""
        return jnp.roll(value, -self.turn)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CouplingSettings:
    """Size of a coupling flow.

    Attributes:
        kind: Its name in settings.
        n_layers: Coupling layers.
        hidden: Hidden layers of each conditioner.
        n_bins: Spline bins.
        bound: Half-width of the interval that the splines bend, in standard deviations of the value.
    """

    kind: Literal["coupling"] = "coupling"
    n_layers: int = 5
    hidden: tuple[int, ...] = (64, 64)
    n_bins: int = 6
    bound: float = 5.0

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        check_sizes(n_layers=self.n_layers, hidden=self.hidden)
        check_splines(self.n_bins, self.bound)

    def build(self, n_value: int, n_context: int, *, rngs: nnx.Rngs) -> CouplingFlow:
        """Make the flow."""
        return CouplingFlow(n_value, n_context, self, rngs=rngs)
