"""Embedding of sets: segments, trials, sources; their order does not matter."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from eagleray.networks.densities.settings import check_sizes
from eagleray.networks.embeddings.embedding import Embedding, SettingsInput, as_features, check_axes, present
from eagleray.networks.embeddings.light_curves import CnnSettings
from eagleray.networks.embeddings.sequences import AttentionPool, masked_mean, zero_gaps
from eagleray.networks.embeddings.spectra import SpectrumSettings
from eagleray.networks.embeddings.transformer import TransformerSettings
from eagleray.networks.embeddings.vectors import MlpSettings, ResidualSettings
from eagleray.networks.layers import Mlp, Standardise
from eagleray.records import Features

ItemSettings = MlpSettings | ResidualSettings | CnnSettings | SpectrumSettings | TransformerSettings
"""Settings of what digests one item of a set."""


class SetEmbedding(Embedding):
    """Digest every item alike, pool over items, and digest the pooled: the order of items does not matter.

    Args:
        example: Features, of which only the shapes are read.
        settings: Sizes.
        rngs: Keys for the initial weights.

    References:
        Zaheer et al. (2017), NeurIPS 30, theorem 2; Ilse, Tomczak & Welling (2018), ICML 35 (attention pooling).
    """

    def __init__(self, example: Features, settings: "SetSettings", *, rngs: nnx.Rngs) -> None:
        """Build item network, pooling and head."""
        self.n_embedded = settings.n_embedded
        item = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), _items(example))
        self.item = settings.item.build(item, rngs=rngs)
        width = self.item.n_embedded
        self.settings = SettingsInput(example)
        self.count = Standardise(1)
        self.pool = AttentionPool(width, settings.n_queries, rngs=rngs)
        n_in = (1 + settings.n_queries) * width + 1 + self.settings.n
        self.head = Mlp(n_in, settings.hidden, self.n_embedded, rngs=rngs)

    def _learn(self, batch: Features) -> None:
        """Take all constants from a batch on the host."""
        there = np.ones(batch.values.shape[:2], bool) if batch.mask is None else batch.mask
        there = there.any(axis=2) if there.ndim == 3 else there
        self.item.learn_scales(jax.tree.map(lambda leaf: leaf[there], _items(batch, item_axis=1)))
        self.count.learn(jnp.log1p(jnp.asarray(there.sum(axis=1, keepdims=True))))
        self.settings.learn(batch)

    def __call__(self, features: Float[Array, "n_items n_features"] | Features) -> Float[Array, " n_embedded"]:
        """Digest one set; the number of items may change from call to call.

        Raises:
            ValueError: If shapes are not those that it was made for.
        """
        features = as_features(features)
        there = _present_items(features)
        # What stands in items that do not count may be anything: they are replaced before anything is computed.
        items = jax.tree.map(lambda leaf: _replaced(leaf, there), _items(features))
        points = zero_gaps(jax.vmap(self.item)(items), there)
        log_n = jnp.log1p(there.sum().astype(points.dtype))
        pooled = [masked_mean(points, there), self.pool(points, there), self.count(log_n[None])]
        return self.head(jnp.concatenate([*pooled, self.settings(features)]))


def _items(features: Features, item_axis: int = 0) -> Features:
    """The items of a set as features of their own, along the axis of items."""
    inner = features.mask is not None and len(features.mask.shape) > item_axis + 1
    return Features(values=features.values, mask=features.mask if inner else None, time=features.time)


def _present_items(features: Features) -> Bool[Array, " n_items"]:
    """Which items there are: with a mask of points, those that have any."""
    if features.mask is not None and features.mask.ndim == 2:
        return jnp.asarray(features.mask).any(axis=1)
    return present(features)


def _replaced(leaf: Array, there: Bool[Array, " n_items"]) -> Array:
    """Items, zero (False) where there are none."""
    leaf = jnp.asarray(leaf)
    return jnp.where(there.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, jnp.zeros((), leaf.dtype))


@dataclasses.dataclass(frozen=True, kw_only=True)
class SetSettings:
    """Size of a network that digests sets.

    Attributes:
        kind: Its name in settings.
        item: What digests one item.
        n_queries: Means over items that attention gives weights.
        hidden: Hidden layers of the perceptron behind the pooling.
        n_embedded: Size of the output.
    """

    kind: Literal["set"] = "set"
    item: ItemSettings = MlpSettings(hidden=(64, 64), n_embedded=64)
    n_queries: int = 2
    hidden: tuple[int, ...] = (128,)
    n_embedded: int = 32

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        check_sizes(n_queries=self.n_queries, hidden=self.hidden, n_embedded=self.n_embedded)

    def build(self, example: Any, *, rngs: nnx.Rngs) -> SetEmbedding:
        """Make the embedding.

        Args:
            example: Values (n_items, n_features) or (n_items, n_points, n_channels), or `Features` of them, of which
                only the shapes are read. The time, if the items are sequences with times, is (n_items, n_points).
            rngs: Keys for the initial weights.

        Raises:
            ValueError: If the example is no set, or its items are nothing for the network that is to digest them.
        """
        example = as_features(example)
        check_axes(self.kind, example, (2, 3), timed=True)
        return SetEmbedding(example, self, rngs=rngs)
