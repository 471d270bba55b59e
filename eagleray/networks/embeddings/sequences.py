"""Parts of embeddings of sequences: what goes in, convolutions with gaps, and pooling."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from eagleray.networks.embeddings.embedding import SettingsInput, as_features, floats, or_nan, present
from eagleray.networks.layers import Standardise
from eagleray.networks.warps import Warp
from eagleray.records import Features

# Least variance of a sequence, in units of the variance of all of them; zero has no logarithm.
_LEAST_VARIANCE = 1e-8


class SequenceInput(nnx.Module):
    """A sequence as networks take it: its points on two scales, and numbers that describe it as a whole.

    The points are warped to the scale of the training data, and also to zero mean and unit spread of their own, so that
    the shape of a faint or quiet sequence is seen as well as that of a bright one; what this takes away is told by the
    numbers: mean, ln spread, ln number of points, and the settings.

    Args:
        example: Features, of which only the shapes are read.
    """

    def __init__(self, example: Features) -> None:
        """Start as the identity."""
        self.n_channels = example.values.shape[1] if len(example.values.shape) == 2 else 1
        self.warp = Warp(self.n_channels)
        self.moments = Standardise(2 * self.n_channels + 1)
        self.settings = SettingsInput(example)
        self.n_points_in = 2 * self.n_channels
        self.n_whole = 2 * self.n_channels + 1 + self.settings.n

    def learn(self, batch: Features) -> None:
        """Take all constants from a batch on the host."""
        values = batch.values.reshape(*batch.values.shape[:2], -1)
        self.warp.learn(or_nan(values, batch.mask).reshape(-1, self.n_channels))
        there = np.ones(values.shape[:2], bool) if batch.mask is None else batch.mask
        seen = there.any(axis=1)
        moments = jax.jit(jax.vmap(lambda v, t: self._points(v, t)[1]))(floats(values[seen]), there[seen])
        self.moments.learn(moments)
        self.settings.learn(batch)

    def _points(self, values: Array, there: Array) -> tuple[Array, Array]:
        """Points on two scales (n_points, 2 n_channels), and moments of the sequence."""
        warped = zero_gaps(jax.vmap(self.warp)(zero_gaps(values, there)), there)
        mean = masked_mean(warped, there)
        residual = zero_gaps(warped - mean[None], there)
        variance = masked_mean(residual**2, there) + _LEAST_VARIANCE
        points = jnp.concatenate([warped, residual / jnp.sqrt(variance)[None]], axis=1)
        log_n = jnp.log1p(there.sum().astype(warped.dtype))
        return points, jnp.concatenate([mean, 0.5 * jnp.log(variance), log_n[None]])

    def __call__(
        self, features: Features
    ) -> tuple[Float[Array, "n_points n_points_in"], Bool[Array, " n_points"], Float[Array, " n_whole"]]:
        """Points, zero where there are no data; where there are; and the numbers.

        Raises:
            ValueError: If there are other channels or settings than it was made for, or the mask does not fit.
        """
        values, there = channels(features, self.n_channels), present(features)
        points, moments = self._points(values, there)
        return points, there, jnp.concatenate([self.moments(moments), self.settings(features)])


class Convolution(nnx.Module):
    """A convolution that keeps the number of points and is centred whatever that number is; beyond the ends are zeros.

    Written as one product of matrices: inside the loops of training, XLA's own convolutions are ten times as slow on
    processors, and worse for the weights of several networks at a time.

    Args:
        n_in: Channels of a point.
        n_out: Channels of the result.
        kernel: Points that go into one; odd.
        zero: Start with an output of zero.
        rngs: Keys for the initial weights.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, *, zero: bool = False, rngs: nnx.Rngs) -> None:
        """Draw the initial weights."""
        self.kernel = kernel
        initial = nnx.initializers.zeros if zero else nnx.initializers.lecun_normal()
        self.linear = nnx.Linear(kernel * n_in, n_out, kernel_init=initial, rngs=rngs)

    def __call__(self, points: Float[Array, "n_points n_in"]) -> Float[Array, "n_points n_out"]:
        """Convolved points."""
        half, n_points = self.kernel // 2, len(points)
        padded = jnp.pad(points, ((half, half), (0, 0)))
        windows = jnp.concatenate([padded[i : i + n_points] for i in range(self.kernel)], axis=1)
        return self.linear(windows).astype(points.dtype)


class ConvolutionBlock(nnx.Module):
    """Two convolutions added to what came in. Gaps stay zero, so that padding is not to be told from the edge.

    Args:
        width: Channels.
        kernel: Points that a convolution sees.
        rngs: Keys for the initial weights.

    References:
        He et al. (2016), Identity mappings in deep residual networks, figure 1b.
    """

    def __init__(self, width: int, kernel: int, *, rngs: nnx.Rngs) -> None:
        """Draw the initial weights."""
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.first = Convolution(width, width, kernel, rngs=rngs)
        self.second = Convolution(width, width, kernel, zero=True, rngs=rngs)

    def __call__(
        self, hidden: Float[Array, "n_points width"], there: Bool[Array, " n_points"]
    ) -> Float[Array, "n_points width"]:
        """Hidden points, zero where there are no data."""
        inner = self.first(zero_gaps(jax.nn.silu(self.norm(hidden)), there))
        return hidden + zero_gaps(self.second(zero_gaps(jax.nn.silu(inner), there)), there)


class AttentionPool(nnx.Module):
    """Means of points with weights that learnt queries give them.

    Args:
        width: Size of a point.
        n_queries: Means.
        rngs: Keys for the initial weights.

    References:
        Ilse, Tomczak & Welling (2018), ICML 35, equation 8.
    """

    def __init__(self, width: int, n_queries: int, *, rngs: nnx.Rngs) -> None:
        """Draw the initial weights."""
        self.score = nnx.Linear(width, n_queries, rngs=rngs)

    def __call__(
        self, points: Float[Array, "n_points width"], there: Bool[Array, " n_points"]
    ) -> Float[Array, " n_queries*width"]:
        """All means, one after the other; zeros where there are no data at all."""
        weights = masked_softmax(self.score(points).astype(points.dtype).T, there[None])
        return (weights @ points).reshape(-1)


def channels(features: Features, n_channels: int) -> Float[Array, "n_points n_channels"]:
    """The values of a sequence, one channel where there is no axis of channels.

    Raises:
        ValueError: If there are other channels than the network was made for.
    """
    values = floats(as_features(features).values)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.shape[1] != n_channels:
        raise ValueError(f"features.values must have shape (n_points, {n_channels}), got {features.values.shape}")
    return values


def zero_gaps(values: Float[Array, "n_points width"], there: Bool[Array, " n_points"]) -> Array:
    """Values, zero where there are no data, whatever stands there."""
    return jnp.where(there[:, None], values, 0.0)


def masked_mean(values: Float[Array, "n_points width"], there: Bool[Array, " n_points"]) -> Float[Array, " width"]:
    """Mean over the points where there are data; zero if there are none."""
    return zero_gaps(values, there).sum(axis=0) / jnp.maximum(there.sum(), 1).astype(values.dtype)


def masked_max(values: Float[Array, "n_points width"], there: Bool[Array, " n_points"]) -> Float[Array, " width"]:
    """Maximum over the points where there are data; zero if there are none."""
    greatest = jnp.where(there[:, None], values, jnp.finfo(values.dtype).min).max(axis=0)
    return jnp.where(there.any(), greatest, 0.0)


def masked_softmax(logits: Float[Array, "*batch n_points"], there: Bool[Array, "*batch n_points"]) -> Array:
    """Weights over the last axis, zero where there are no data; all zero if there are none."""
    weights = jax.nn.softmax(jnp.where(there, logits, jnp.finfo(logits.dtype).min), axis=-1)
    return jnp.where(there, weights, 0.0)


def split_points(
    values: Float[Array, "n_points width"], there: Bool[Array, " n_points"], size: int
) -> tuple[Float[Array, "n_patches size width"], Bool[Array, "n_patches size"]]:
    """Neighbouring points in patches of one size, the last filled up with points that do not count."""
    missing = -len(values) % size
    values, there = jnp.pad(values, ((0, missing), (0, 0))), jnp.pad(there, (0, missing))
    return values.reshape(-1, size, values.shape[1]), there.reshape(-1, size)


def coarser(
    values: Float[Array, "n_points width"], there: Bool[Array, " n_points"], size: int = 2
) -> tuple[Float[Array, "n_patches width"], Bool[Array, " n_patches"]]:
    """Masked means of patches of neighbouring points; a patch counts if any of its points does."""
    values, there = split_points(values, there, size)
    return jax.vmap(masked_mean)(values, there), there.any(axis=1)
