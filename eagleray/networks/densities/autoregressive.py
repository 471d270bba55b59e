"""Autoregressive flows: each entry mapped given those before it, by one masked network."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.networks.densities.flow import LayeredFlow
from eagleray.networks.densities.settings import check_sizes, check_splines
from eagleray.networks.densities.splines import n_spline_parameters, spline_forward, spline_inverse
from eagleray.networks.layers import Constant

_MAX_LOG_SCALE = 4.0


class MaskedMlp(nnx.Module):
    """Multilayer perceptron whose outputs for entry i depend on entries before i, and on all of a context.

    Args:
        n_value: Number of entries.
        n_context: Size of the context.
        hidden: Hidden layers.
        n_outputs: Outputs for each entry.
        rngs: Keys for the initial weights; the outputs start at zero.

    References:
        Germain et al. (2015), MADE, equations 8-11.
    """

    def __init__(self, n_value: int, n_context: int, hidden: Sequence[int], n_outputs: int, *, rngs: nnx.Rngs) -> None:
        """Draw weights and lay the masks."""
        degrees = [np.arange(1, n_value + 1)]
        # With a context, some units may see it alone: degree 0 makes the first entry more than linear in it.
        degrees += [np.arange(size) % n_value for size in hidden]
        sizes = [n_value, *hidden]
        self.n_value, self.n_outputs = n_value, n_outputs
        self.linears = nnx.List(
            [nnx.Linear(a, b, use_bias=False, rngs=rngs) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
        )
        self.contexts = nnx.List([nnx.Linear(n_context, size, rngs=rngs) for size in hidden])
        self.masks = nnx.List(
            [
                Constant(jnp.asarray(before[:, None] <= after, jnp.float32))
                for before, after in zip(degrees[:-1], degrees[1:], strict=True)
            ]
        )
        self.output = nnx.Linear(
            sizes[-1], n_value * n_outputs, use_bias=False, kernel_init=nnx.initializers.zeros, rngs=rngs
        )
        last: NDArray[Any] = degrees[-1][:, None] < degrees[0]
        self.output_mask = Constant(jnp.asarray(np.repeat(last, n_outputs, axis=1), jnp.float32))
        self.output_context = nnx.Linear(n_context, n_value * n_outputs, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(
        self, value: Float[Array, " n_value"], context: Float[Array, " n_context"]
    ) -> Float[Array, "n_value n_outputs"]:
        """Outputs of every entry, given the entries before it."""
        hidden = value
        for linear, from_context, mask in zip(self.linears, self.contexts, self.masks, strict=True):
            hidden = jax.nn.silu(_masked(linear, mask, hidden) + from_context(context))
        outputs = _masked(self.output, self.output_mask, hidden) + self.output_context(context)
        return outputs.reshape(self.n_value, self.n_outputs).astype(value.dtype)


def _masked(linear: nnx.Linear, mask: Constant, value: Array) -> Array:
    """A linear layer without some of its weights, in its precision."""
    dtype = linear.dtype or value.dtype
    return value.astype(dtype) @ (linear.kernel[...] * mask[...]).astype(dtype)


class AutoregressiveLayer(nnx.Module):
    """One autoregressive step: an affine map of each entry, and after it a spline if it has bins.

    Args:
        n_value: Size of the vector.
        n_context: Size of the context.
        hidden: Hidden layers of the network that sets the maps.
        n_bins: Bins of each spline; 0 for an affine map alone.
        bound: Half-width of the interval that the splines bend.
        rngs: Keys for the initial weights; the layer starts as the identity.
    """

    def __init__(
        self, n_value: int, n_context: int, *, hidden: Sequence[int], n_bins: int, bound: float, rngs: nnx.Rngs
    ) -> None:
        """Build the conditioner."""
        self.n_value, self.n_bins, self.bound = n_value, n_bins, bound
        n_outputs = 2 + (n_spline_parameters(n_bins) if n_bins else 0)
        self.conditioner = MaskedMlp(n_value, n_context, hidden, n_outputs, rngs=rngs)

    def _maps(self, value: Array, context: Array) -> tuple[Array, Array, Array]:
        """Shift, ln scale and spline parameters of every entry."""
        numbers = self.conditioner(value, context)
        # Bounded, so that one wild step of training cannot overflow.
        return numbers[:, 0], _MAX_LOG_SCALE * jnp.tanh(numbers[:, 1] / _MAX_LOG_SCALE), numbers[:, 2:]

    def forward(self, value: Float[Array, " n_value"], context: Float[Array, " n_context"]) -> tuple[Array, Array]:
        """From data towards noise: new vector and ln |det|."""
        shift, log_scale, spline = self._maps(value, context)
        mapped = (value - shift) * jnp.exp(-log_scale)
        if not self.n_bins:
            return mapped, -log_scale.sum()
        mapped, log_det = spline_forward(mapped, spline, self.bound)
        return mapped, (log_det - log_scale).sum()

    def inverse(self, noise: Float[Array, " n_value"], context: Float[Array, " n_context"]) -> Array:
        """From noise towards data, entry after entry."""

        def fill(i: Array, value: Array) -> Array:
            shift, log_scale, spline = self._maps(value, context)
            mapped = spline_inverse(noise, spline, self.bound)[0] if self.n_bins else noise
            return value.at[i].set((mapped * jnp.exp(log_scale) + shift)[i])

        return jax.lax.fori_loop(0, self.n_value, fill, jnp.zeros_like(noise))


class AutoregressiveFlow(LayeredFlow):
    """Masked autoregressive flow: layers with the order of the entries reversed between them, over a standard normal.

    The density of a vector takes one pass; a draw takes as many as the vector has entries.

    Args:
        n_value: Size of the vector whose density it is.
        n_context: Size of the context.
        settings: Sizes.
        rngs: Keys for the initial weights.

    References:
        Papamakarios, Pavlakou & Murray (2017), NeurIPS 30, section 3; Durkan et al. (2019), section 3.
    """

    def __init__(self, n_value: int, n_context: int, settings: "AutoregressiveSettings", *, rngs: nnx.Rngs) -> None:
        """Build the layers."""

        def make_layer(rngs: nnx.Rngs) -> AutoregressiveLayer:
            return AutoregressiveLayer(
                n_value, n_context, hidden=settings.hidden, n_bins=settings.n_bins, bound=settings.bound, rngs=rngs
            )

        super().__init__(n_value, settings.n_layers, make_layer, rngs=rngs)

    def reorder(self, value: Float[Array, " n_value"]) -> Float[Array, " n_value"]:
        """The last entry first."""
        return value[::-1]

    order_back = reorder


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoregressiveSettings:
    """Size of an autoregressive flow.

    Attributes:
        kind: Its name in settings.
        n_layers: Autoregressive layers.
        hidden: Hidden layers of each masked network.
        n_bins: Spline bins of each layer; 0 makes it affine (the MAF of the literature).
        bound: Half-width of the interval that the splines bend, in standard deviations of the value.
    """

    kind: Literal["autoregressive"] = "autoregressive"
    n_layers: int = 5
    hidden: tuple[int, ...] = (64, 64)
    n_bins: int = 8
    bound: float = 5.0

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        check_sizes(n_layers=self.n_layers, hidden=self.hidden)
        if self.n_bins != 0:
            check_splines(self.n_bins, self.bound)

    def build(self, n_value: int, n_context: int, *, rngs: nnx.Rngs) -> AutoregressiveFlow:
        """Make the flow."""
        return AutoregressiveFlow(n_value, n_context, self, rngs=rngs)
