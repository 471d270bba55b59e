"""Embedding of light curves at even steps, with gaps, of any length."""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from eagleray.networks.densities.settings import check_sizes
from eagleray.networks.embeddings.embedding import Embedding, as_features, check_axes
from eagleray.networks.embeddings.sequences import (
    Convolution,
    ConvolutionBlock,
    SequenceInput,
    coarser,
    masked_max,
    masked_mean,
    zero_gaps,
)
from eagleray.networks.layers import Mlp
from eagleray.records import Features


class ConvolutionalEmbedding(Embedding):
    """Residual convolutions at time scales that double from level to level; every level is pooled over all points.

    A gap is a channel of its own and zero in all others. The length may change from call to call.

    Args:
        example: Features, of which only the shapes are read.
        settings: Sizes.
        rngs: Keys for the initial weights.

    References:
        He et al. (2016), Identity mappings in deep residual networks; Lin, Chen & Yan (2014), ICLR, section 3.2 (global
        pooling).
    """

    def __init__(self, example: Features, settings: "CnnSettings", *, rngs: nnx.Rngs) -> None:
        """Build the levels."""
        width, self.n_embedded = settings.width, settings.n_embedded
        self.input = SequenceInput(example)
        self.stem = Convolution(self.input.n_points_in + 1, width, settings.kernel, rngs=rngs)
        self.levels = nnx.List([ConvolutionBlock(width, settings.kernel, rngs=rngs) for _ in range(settings.n_levels)])
        self.head = Mlp(2 * width * settings.n_levels + self.input.n_whole, settings.hidden, self.n_embedded, rngs=rngs)

    def _learn(self, batch: Features) -> None:
        """Take all constants from a batch on the host."""
        self.input.learn(batch)

    def __call__(self, features: Float[Array, " n_points"] | Features) -> Float[Array, " n_embedded"]:
        """Digest one light curve.

        Raises:
            ValueError: If there are other channels or settings than it was made for, or the mask does not fit.
        """
        points, there, whole = self.input(as_features(features))
        # One where there are data: beyond the ends, where convolutions see zeros, nothing must look like a datum.
        seen = jnp.where(there, 1.0, 0.0).astype(points.dtype)
        hidden = zero_gaps(self.stem(jnp.concatenate([points, seen[:, None]], axis=1)), there)
        pooled = []
        for level, block in enumerate(self.levels):
            if level:
                hidden, there = coarser(hidden, there)
            hidden = block(hidden, there)
            pooled += [masked_mean(hidden, there), masked_max(hidden, there)]
        return self.head(jnp.concatenate([*pooled, whole]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class CnnSettings:
    """Size of a convolutional network that digests light curves.

    Attributes:
        kind: Its name in settings.
        width: Channels.
        n_levels: Residual blocks, each but the first at half the sampling of the one before: the longest time scale
            that is seen as a whole is about kernel 2^n_levels steps.
        kernel: Points that a convolution sees; odd.
        hidden: Hidden layers of the perceptron behind the pooling.
        n_embedded: Size of the output.
    """

    kind: Literal["cnn"] = "cnn"
    width: int = 32
    n_levels: int = 6
    kernel: int = 5
    hidden: tuple[int, ...] = (128,)
    n_embedded: int = 32

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        check_sizes(width=self.width, n_levels=self.n_levels, hidden=self.hidden, n_embedded=self.n_embedded)
        check_kernel(self.kernel)

    def build(self, example: Any, *, rngs: nnx.Rngs) -> ConvolutionalEmbedding:
        """Make the embedding.

        Args:
            example: Values (n_points,) or (n_points, n_channels), or `Features` of them; only the shapes are read.
            rngs: Keys for the initial weights.

        Raises:
            ValueError: If the example is no sequence, or has times.
        """
        example = as_features(example)
        check_axes(self.kind, example, (1, 2))
        return ConvolutionalEmbedding(example, self, rngs=rngs)


def check_kernel(kernel: int) -> None:
    """Refuse convolutions without a centre.

    Raises:
        ValueError: If the kernel is even or has no points.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel must be odd and at least 1, got {kernel!r}")
