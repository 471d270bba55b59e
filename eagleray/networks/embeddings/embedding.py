"""What every embedding can do, and how it reads what it is given."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from eagleray.networks.layers import Constant, Standardise
from eagleray.records import Features

# Numbers from which scales are learnt, at most; more would make them no better.
_N_LEARNT = 2_000_000


class Embedding(nnx.Module):
    """One observation to a vector. Embeddings differ in what they take an observation for.

    Attributes:
        n_embedded: Size of the vector.
    """

    n_embedded: int

    def learn_scales(self, batch: Any, targets: Any = None) -> None:
        """Take all constants from training data, in place. What the masks leave out does not count.

        Args:
            batch: Arrays or `Features`, with a leading axis on every leaf.
            targets: (n, n_targets) what each of them is digested for; only vectors need to know.
        """
        del targets
        self._learn(_thinned(as_features(batch)))

    def _learn(self, batch: Features) -> None:
        """Take all constants from a batch on the host."""
        raise NotImplementedError

    def __call__(self, features: Float[Array, " n_features"] | Features) -> Float[Array, " n_embedded"]:
        """Digest one observation."""
        raise NotImplementedError


class SettingsInput(nnx.Module):
    """The settings of an observation, as a network takes them: ln where all of training's were positive, standardised.

    Args:
        example: Features, of which only the shapes are read.
    """

    def __init__(self, example: Features) -> None:
        """Start as the identity."""
        self.n = 0 if example.settings is None else example.settings.shape[0]
        if self.n:
            self.logarithmic = Constant(jnp.zeros(self.n, bool))
            self.scale = Standardise(self.n)

    def learn(self, batch: Features) -> None:
        """Take constants from a batch; settings that never vary keep scale one."""
        if self.n:
            settings = np.asarray(batch.settings, np.float64)
            logarithmic = (settings > 0).all(axis=0)
            self.logarithmic.set_value(jnp.asarray(logarithmic))
            scaled = np.where(logarithmic, np.log(np.where(logarithmic, settings, 1.0)), settings)
            self.scale.learn(jnp.asarray(scaled))

    def __call__(self, features: Features) -> Float[Array, " n_settings"]:
        """Standardised settings.

        Raises:
            ValueError: If there are more or fewer settings than the embedding was made for.
        """
        shape = (0,) if features.settings is None else features.settings.shape
        check_shape("features.settings", shape, (self.n,))
        if features.settings is None:
            return jnp.zeros(0)
        settings, logarithmic = floats(features.settings), self.logarithmic[...]
        # Zeros stand where an observation does not exist; their gradient must exist nevertheless.
        positive = jnp.maximum(jnp.where(logarithmic, settings, 1.0), jnp.finfo(settings.dtype).tiny)
        return self.scale(jnp.where(logarithmic, jnp.log(positive), settings))


def as_features(given: Any) -> Features:
    """Features of a plain array are its values."""
    return given if isinstance(given, Features) else Features(values=given)


def floats(values: Any) -> Array:
    """Whole numbers and truth values as float32; floating ones stay as they are."""
    values = jnp.asarray(values)
    return values if jnp.issubdtype(values.dtype, jnp.floating) else values.astype(jnp.float32)


def present(features: Features) -> Bool[Array, " n_points"]:
    """Where there are data along the first axis.

    Raises:
        ValueError: If the mask does not fit the values.
    """
    n_points = features.values.shape[0]
    if features.mask is None:
        return jnp.ones(n_points, bool)
    check_shape("features.mask", features.mask.shape, (n_points,))
    return jnp.asarray(features.mask)


def or_nan(values: Any, mask: Any) -> np.ndarray:
    """Values on the host, NaN where the mask of their first axes is False; such as `Warp.learn` leaves out."""
    values = np.asarray(values, np.float64)
    if mask is None:
        return values
    mask = np.asarray(mask)
    return np.where(mask.reshape(*mask.shape, *[1] * (values.ndim - mask.ndim)), values, np.nan)


def check_shape(name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Refuse what the network was not made for.

    Raises:
        ValueError: If the shapes differ.
    """
    if tuple(shape) != expected:
        raise ValueError(f"{name} must have shape {expected}, got {tuple(shape)}")


def check_axes(kind: str, example: Features, n_axes: tuple[int, ...], *, timed: bool = False) -> None:
    """Refuse examples that are nothing for a kind of embedding.

    Raises:
        ValueError: If the values have another number of axes, or there are times and the kind takes none.
    """
    shape = example.values.shape
    if len(shape) not in n_axes:
        wanted = " or ".join(map(str, n_axes))
        raise ValueError(f"features.values must have {wanted} axes for the embedding {kind!r}, got shape {shape}")
    if example.time is not None and not timed:
        raise ValueError(
            f"features.time must be None for the embedding {kind!r}, which takes even steps ('transformer' takes any), "
            f"got shape {example.time.shape}"
        )


def _thinned(batch: Features) -> Features:
    """Evenly spaced rows of a batch, on the host, enough to learn scales from."""
    step = -(-int(np.prod(batch.values.shape)) // _N_LEARNT)
    some = jax.tree.map(lambda leaf: np.asarray(leaf[::step]), batch)
    return some if some.mask is None else dataclasses.replace(some, mask=some.mask.astype(bool))
