"""Embeddings of plain vectors, such as summary statistics."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from eagleray.networks.densities.settings import check_sizes
from eagleray.networks.embeddings.embedding import (
    Embedding,
    SettingsInput,
    as_features,
    check_axes,
    check_shape,
    floats,
    or_nan,
    present,
)
from eagleray.networks.embeddings.relevance import depends_on
from eagleray.networks.layers import Constant, Mlp, ResidualMlp
from eagleray.networks.warps import Warp
from eagleray.records import Features

# An entry that shows no dependence on what it is digested for starts as faint as this.
_FAINT = 0.1
# Rows in which that is looked for, at most.
_N_LOOKED_AT = 50_000


class VectorEmbedding(Embedding):
    """A perceptron of warped numbers and settings; masked numbers are zeros, and said to be missing.

    Numbers that tell nothing by themselves start faint: what they may tell together with others can still be learnt,
    but their noise is not learnt by heart first.

    Args:
        example: Features, of which only the shapes are read.
        n_embedded: Size of the output.
        make_network: Makes the perceptron, given the size of its input.
    """

    def __init__(self, example: Features, n_embedded: int, make_network: Callable[[int], nnx.Module]) -> None:
        """Build the perceptron."""
        self.n_embedded = n_embedded
        self.n = example.values.shape[0]
        self.masked = example.mask is not None
        self.warp = Warp(self.n)
        self.strength = Constant(jnp.ones(self.n))
        self.settings = SettingsInput(example)
        self.network: Any = make_network(self.n * (1 + self.masked) + self.settings.n)

    def learn_scales(self, batch: Any, targets: Any = None) -> None:
        """Take all constants from training data, in place; the strengths from what depends on the targets."""
        super().learn_scales(batch, targets)
        features = as_features(batch)
        if targets is None or features.mask is not None:
            return
        depends = depends_on(np.asarray(targets)[:_N_LOOKED_AT], np.asarray(features.values)[:_N_LOOKED_AT])
        faint = _FAINT if depends.any() else 1.0
        self.strength.set_value(jnp.where(depends, 1.0, faint).astype(self.strength.get_value().dtype))

    def _learn(self, batch: Features) -> None:
        """Take warps and scales from a batch on the host."""
        self.warp.learn(or_nan(batch.values, batch.mask))
        self.settings.learn(batch)

    def __call__(self, features: Float[Array, " n_features"] | Features) -> Float[Array, " n_embedded"]:
        """Digest one vector.

        Raises:
            ValueError: If shapes are not those that it was made for.
        """
        features = as_features(features)
        check_shape("features.values", features.values.shape, (self.n,))
        there = present(features)
        warped = self.strength[...] * jnp.where(there, self.warp(jnp.where(there, floats(features.values), 0.0)), 0.0)
        missing = [jnp.where(there, 0.0, 1.0)] if self.masked else []
        return self.network(jnp.concatenate([warped, *missing, self.settings(features)]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MlpSettings:
    """Size of a perceptron that digests vectors.

    Attributes:
        kind: Its name in settings.
        hidden: Hidden layers.
        n_embedded: Size of the output.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[int, ...] = (128, 128)
    n_embedded: int = 32

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        check_sizes(hidden=self.hidden, n_embedded=self.n_embedded)

    def build(self, example: Any, *, rngs: nnx.Rngs) -> VectorEmbedding:
        """Make the embedding.

        Args:
            example: A vector or `Features` of one, of which only the shapes are read.
            rngs: Keys for the initial weights.

        Raises:
            ValueError: If the example is no vector, or has times.
        """
        example = as_features(example)
        check_axes(self.kind, example, (1,))
        return VectorEmbedding(
            example, self.n_embedded, lambda n_in: Mlp(n_in, self.hidden, self.n_embedded, rngs=rngs)
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResidualSettings:
    """Size of a residual perceptron that digests vectors.

    Attributes:
        kind: Its name in settings.
        width: Size of the hidden layers.
        n_blocks: Residual blocks of two layers.
        n_embedded: Size of the output.
    """

    kind: Literal["residual"] = "residual"
    width: int = 128
    n_blocks: int = 3
    n_embedded: int = 32

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        check_sizes(width=self.width, n_blocks=self.n_blocks, n_embedded=self.n_embedded)

    def build(self, example: Any, *, rngs: nnx.Rngs) -> VectorEmbedding:
        """Make the embedding; see `MlpSettings.build`."""
        example = as_features(example)
        check_axes(self.kind, example, (1,))
        return VectorEmbedding(
            example,
            self.n_embedded,
            lambda n_in: ResidualMlp(n_in, self.width, self.n_blocks, self.n_embedded, rngs=rngs),
        )
