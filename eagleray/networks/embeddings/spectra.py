"""Embedding of power and cross spectra."""

import dataclasses
from typing import Any, Literal

import jax
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
    or_nan,
    present,
)
from eagleray.networks.embeddings.light_curves import check_kernel
from eagleray.networks.embeddings.sequences import Convolution, ConvolutionBlock, channels, coarser, zero_gaps
from eagleray.networks.layers import Mlp
from eagleray.networks.warps import Warp
from eagleray.records import Features


class SpectrumEmbedding(Embedding):
    """Convolutions along frequency whose output keeps its place: a spectrum is not the same when shifted.

    Every channel is warped, and then standardised frequency by frequency. Two more channels say which frequency it is:
    the number of the bin, and its logarithm. After a few halvings, what is left is averaged into cells, whose
    contents all go to a perceptron. A spectrum with fewer bins than the example is one without the highest frequencies.

    Args:
        example: Features, of which only the shapes are read; with the most bins that there will be.
        settings: Sizes.
        rngs: Keys for the initial weights.

    References:
        Liu et al. (2018), NeurIPS 31 (coordinates as channels).
    """

    def __init__(self, example: Features, settings: "SpectrumSettings", *, rngs: nnx.Rngs) -> None:
        """Build the network."""
        width, self.n_embedded, self.n_freq = settings.width, settings.n_embedded, example.values.shape[0]
        self.n_channels = example.values.shape[1] if len(example.values.shape) == 2 else 1
        self.warp = Warp(self.n_channels)
        self.by_frequency = Warp(self.n_freq * self.n_channels)
        self.settings = SettingsInput(example)
        self.stem = Convolution(self.n_channels + 3, width, settings.kernel, rngs=rngs)
        self.levels = nnx.List([ConvolutionBlock(width, settings.kernel, rngs=rngs) for _ in range(settings.n_levels)])
        n_left = -(-self.n_freq // 2 ** (settings.n_levels - 1))
        self.cell = -(-n_left // settings.n_cells)
        n_cells = -(-n_left // self.cell)
        self.head = Mlp(n_cells * width + self.settings.n, settings.hidden, self.n_embedded, rngs=rngs)

    def _learn(self, batch: Features) -> None:
        """Take all constants from a batch on the host."""
        values = batch.values.reshape(*batch.values.shape[:2], -1)
        values = or_nan(values, batch.mask)
        self.warp.learn(values.reshape(-1, self.n_channels))
        warped = np.asarray(jax.vmap(jax.vmap(self.warp))(jnp.asarray(values, jnp.float32)))
        unseen = ((0, 0), (0, self.n_freq - values.shape[1]), (0, 0))
        warped = np.pad(warped, unseen, constant_values=np.nan)
        self.by_frequency.learn(warped.reshape(len(warped), -1), bend=False)
        self.settings.learn(batch)

    def __call__(self, features: Float[Array, " n_freq"] | Features) -> Float[Array, " n_embedded"]:
        """Digest one spectrum.

        Raises:
            ValueError: If there are more bins, or other channels or settings, than it was made for, or the mask does
                not fit.
        """
        features = as_features(features)
        values, there = channels(features, self.n_channels), present(features)
        unseen = self.n_freq - len(values)
        if unseen < 0:
            raise ValueError(f"features.values must have at most {self.n_freq} points, got {len(values)}")
        values, there = jnp.pad(values, ((0, unseen), (0, 0))), jnp.pad(there, (0, unseen))
        warped = jax.vmap(self.warp)(zero_gaps(values, there))
        points = self.by_frequency(warped.reshape(-1)).reshape(warped.shape)
        place = jnp.asarray(self._coordinates(), points.dtype)
        ones = jnp.ones((self.n_freq, 1), points.dtype)
        hidden = zero_gaps(jnp.concatenate([points, place, ones], axis=1), there)
        hidden = zero_gaps(self.stem(hidden), there)
        for level, block in enumerate(self.levels):
            if level:
                hidden, there = coarser(hidden, there)
            hidden = block(hidden, there)
        cells, _ = coarser(hidden, there, self.cell)
        return self.head(jnp.concatenate([cells.reshape(-1), self.settings(features)]))

    def _coordinates(self) -> np.ndarray:
        """Number of each bin and its logarithm (n_freq, 2), from -1 to 1."""
        number = np.arange(1, self.n_freq + 1)
        return 2.0 * np.stack([number / self.n_freq, np.log(number) / np.log(self.n_freq + 1)], axis=1) - 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectrumSettings:
    """Size of a convolutional network that digests spectra.

    Attributes:
        kind: Its name in settings.
        width: Channels.
        n_levels: Residual blocks, each but the first at half the resolution of the one before.
        kernel: Frequencies that a convolution sees; odd.
        n_cells: Cells that keep their place, at most.
        hidden: Hidden layers of the perceptron behind them.
        n_embedded: Size of the output.
    """

    kind: Literal["spectrum"] = "spectrum"
    width: int = 32
    n_levels: int = 3
    kernel: int = 5
    n_cells: int = 32
    hidden: tuple[int, ...] = (128,)
    n_embedded: int = 32

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        check_sizes(
            width=self.width,
            n_levels=self.n_levels,
            n_cells=self.n_cells,
            hidden=self.hidden,
            n_embedded=self.n_embedded,
        )
        check_kernel(self.kernel)

    def build(self, example: Any, *, rngs: nnx.Rngs) -> SpectrumEmbedding:
        """Make the embedding.

        Args:
            example: Powers (n_freq,) or (n_freq, n_channels), or `Features` of them; only the shapes are read.
            rngs: Keys for the initial weights.

        Raises:
            ValueError: If the example is no spectrum, or has times.
        """
        example = as_features(example)
        check_axes(self.kind, example, (1, 2))
        return SpectrumEmbedding(example, self, rngs=rngs)
