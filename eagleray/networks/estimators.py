"""Conditional density estimators: embedding, standardisation and flow in one, made from a plain configuration."""

import dataclasses

import jax
from flax import nnx
from jaxtyping import Array, Float

from eagleray.networks.flows import SplineCouplingFlow
from eagleray.networks.layers import Mlp, Standardise
from eagleray.records import Key

# Spline bins have a smallest size; more of them than this would not fit.
_MAX_BINS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowSettings:
    """Size of a `FlowEstimator`.

    Attributes:
        embedding: Hidden layers of the network that digests the context.
        n_embedded: Numbers that it hands to the flow.
        n_layers: Coupling layers of the flow.
        hidden: Hidden layers of each conditioner.
        n_bins: Spline bins.
        bound: Half-width of the interval that the splines bend, in standard deviations of the value.
    """

    embedding: tuple[int, ...] = (128, 128)
    n_embedded: int = 32
    n_layers: int = 5
    hidden: tuple[int, ...] = (64, 64)
    n_bins: int = 6
    bound: float = 5.0

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        for name in ("n_embedded", "n_layers", "n_bins"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        for size in (*self.embedding, *self.hidden):
            if size < 1:
                raise ValueError(f"layer sizes must be at least 1, got {size!r}")
        if self.n_bins > _MAX_BINS:
            raise ValueError(f"n_bins must be at most {_MAX_BINS}, got {self.n_bins!r}")
        if not self.bound > 0:
            raise ValueError(f"bound must be positive, got {self.bound!r}")


class FlowEstimator(nnx.Module):
    """Density of a vector given raw features: standardise both, embed the features, and condition a spline flow.

    Args:
        n_value: Size of the vector whose density it is.
        n_context: Size of the features.
        settings: Sizes of the network.
        rngs: Keys for the initial weights.
    """

    def __init__(self, n_value: int, n_context: int, settings: FlowSettings, *, rngs: nnx.Rngs) -> None:
        """Build the parts."""
        self.value_scale = Standardise(n_value)
        self.context_scale = Standardise(n_context)
        self.embedding = Mlp(n_context, settings.embedding, settings.n_embedded, rngs=rngs)
        self.flow = SplineCouplingFlow(
            n_value,
            settings.n_embedded,
            n_layers=settings.n_layers,
            hidden=settings.hidden,
            n_bins=settings.n_bins,
            bound=settings.bound,
            rngs=rngs,
        )

    def learn_scales(self, values: Float[Array, "n n_value"], contexts: Float[Array, "n n_context"]) -> None:
        """Take the standardisation from training data."""
        self.value_scale.learn(values)
        self.context_scale.learn(contexts)

    def _embed(self, context: Array) -> Array:
        return self.embedding(self.context_scale(context))

    def log_prob(self, value: Float[Array, " n_value"], context: Float[Array, " n_context"]) -> Float[Array, ""]:
        """Ln density of one vector given its context."""
        log_density = self.flow.log_prob(self.value_scale(value), self._embed(context))
        return log_density + self.value_scale.log_det()

    def sample(self, key: Key, context: Float[Array, " n_context"]) -> Float[Array, " n_value"]:
        """Draw one vector given a context."""
        return self.value_scale.inverse(self.flow.sample(key, self._embed(context)))

    def sample_many(self, key: Key, context: Float[Array, " n_context"], n: int) -> Float[Array, "n n_value"]:
        """Draw n vectors given one context, which is embedded once."""
        embedded = self._embed(context)
        draws = jax.vmap(self.flow.sample, in_axes=(0, None))(jax.random.split(key, n), embedded)
        return jax.vmap(self.value_scale.inverse)(draws)
