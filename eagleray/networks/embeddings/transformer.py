"""Embedding of sequences at any times, with gaps, of any length."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from eagleray.networks.densities.settings import check_sizes
from eagleray.networks.embeddings.embedding import Embedding, as_features, check_axes, check_shape, floats
from eagleray.networks.embeddings.sequences import (
    AttentionPool,
    SequenceInput,
    coarser,
    masked_mean,
    masked_softmax,
    split_points,
    zero_gaps,
)
from eagleray.networks.layers import Constant, Mlp, Standardise
from eagleray.records import Features

# Tokens over which the attention of the last head falls by a factor e, before training; of the first, over one.
_LONGEST_REACH = 100.0


class TransformerEmbedding(Embedding):
    """Attention among patches of neighbouring points, which know their times.

    A patch holds its points, where it has gaps, how far each point is from its neighbours in time, and its place in the
    whole as Fourier features. Attention falls with the time between two patches, at a rate that each head learns.

    Args:
        example: Features, of which only the shapes are read.
        settings: Sizes.
        rngs: Keys for the initial weights.

    References:
        Vaswani et al. (2017), NeurIPS 30; Xiong et al. (2020), ICML 37 (norms first); Press, Smith & Lewis (2022), ICLR
        (attention that falls with distance); Tancik et al. (2020), NeurIPS 33 (Fourier features).
    """

    def __init__(self, example: Features, settings: "TransformerSettings", *, rngs: nnx.Rngs) -> None:
        """Build the blocks."""
        width, self.n_embedded = settings.width, settings.n_embedded
        self.patch, self.n_frequencies, self.timed = settings.patch, settings.n_frequencies, example.time is not None
        self.input = SequenceInput(example)
        self.step = Constant(jnp.ones(()))
        self.span = Standardise(1)
        n_whole = self.input.n_whole + 1

        @nnx.split_rngs(splits=settings.n_blocks)
        @nnx.vmap
        def make_blocks(rngs: nnx.Rngs) -> _Block:
            return _Block(width, settings.n_heads, rngs=rngs)

        n_token = self.patch * (self.input.n_points_in + 3) + 2 * self.n_frequencies
        self.tokens = nnx.Linear(n_token, width, rngs=rngs)
        self.whole = nnx.Linear(n_whole, width, rngs=rngs)
        self.blocks = make_blocks(rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.pool = AttentionPool(width, settings.n_queries, rngs=rngs)
        n_pooled = width * (1 + settings.n_queries)
        self.head = Mlp(n_pooled + n_whole, settings.hidden, self.n_embedded, rngs=rngs)

    def _learn(self, batch: Features) -> None:
        """Take all constants from a batch on the host."""
        self.input.learn(batch)
        shape = batch.values.shape[:2]
        there = np.ones(shape, bool) if batch.mask is None else batch.mask
        times = np.broadcast_to(np.arange(shape[1]), shape) if batch.time is None else batch.time
        kept = [np.asarray(row[mask], np.float64) for row, mask in zip(times, there, strict=True) if mask.any()]
        steps = np.concatenate([np.diff(row) for row in kept])
        step = np.median(steps[steps > 0]) if (steps > 0).any() else 1.0
        self.step.set_value(jnp.asarray(step, self.step.get_value().dtype))
        spans = np.array([row[-1] - row[0] for row in kept])
        self.span.learn(jnp.log1p(jnp.asarray(spans / step))[:, None])

    def __call__(self, features: Float[Array, " n_points"] | Features) -> Float[Array, " n_embedded"]:
        """Digest one sequence.

        Raises:
            ValueError: If there are other channels or settings than it was made for, times where it was made without or
                none where it was made with them, or mask or times do not fit.
        """
        features = as_features(features)
        n_times = len(features.values) if self.timed else 0
        check_shape("features.time", (0,) if features.time is None else features.time.shape, (n_times,))
        points, there, whole = self.input(features)
        steps, before, after = self._times(features, there)
        whole = jnp.concatenate([whole, self.span(jnp.log1p(steps.max())[None])])
        seen = jnp.where(there, 1.0, 0.0).astype(points.dtype)
        points = jnp.concatenate([points, jnp.stack([before, after, seen], axis=1)], axis=1)
        tokens, times, there = self._tokens(points, steps, there)
        hidden = zero_gaps(tokens + self.whole(whole)[None].astype(tokens.dtype), there)
        hidden = self.norm(self._attend(hidden, times / self.patch, there))
        return self.head(jnp.concatenate([masked_mean(hidden, there), self.pool(hidden, there), whole]))

    def _tokens(self, points: Array, steps: Array, there: Array) -> tuple[Array, Array, Array]:
        """Tokens (n_tokens, width) of patches of points, their times in typical steps, and which hold data."""
        patches, _ = split_points(points, there, self.patch)
        times, there = coarser(steps[:, None], there, self.patch)
        span = steps.max()
        place = _fourier(times[:, 0] / jnp.where(span > 0, span, 1.0), self.n_frequencies)
        seen = jnp.concatenate([patches.reshape(len(patches), -1), place], axis=1)
        return self.tokens(seen).astype(points.dtype), times[:, 0], there

    def _times(self, features: Features, there: Array) -> tuple[Array, Array, Array]:
        """Time since the first datum, and ln(1 + time) to the data before and after, in typical steps; zero in gaps."""
        time = floats(jnp.arange(len(there)) if features.time is None else features.time)
        first = jnp.where(there, time, jnp.inf).min()
        steps = jnp.where(there, time - jnp.where(there.any(), first, 0.0), 0.0) / self.step[...]
        latest = jax.lax.cummax(steps)
        soonest = jax.lax.cummin(jnp.where(there, steps, latest[-1]), reverse=True)
        before = steps - jnp.concatenate([jnp.zeros_like(steps[:1]), latest[:-1]])
        after = jnp.concatenate([soonest[1:], latest[-1:]]) - steps
        return steps, jnp.log1p(jnp.where(there, before, 0.0)), jnp.log1p(jnp.where(there, after, 0.0))

    def _attend(self, hidden: Array, times: Array, there: Array) -> Array:
        """All blocks, one after the other; compiled once."""
        graphdef, weights = nnx.split(self.blocks)
        apart = jnp.abs(times[:, None] - times[None])

        def block(hidden: Array, block_weights: Any) -> tuple[Array, None]:
            return zero_gaps(nnx.merge(graphdef, block_weights)(hidden, apart, there), there), None

        return jax.lax.scan(block, hidden, weights)[0]


class _Block(nnx.Module):
    """Attention and a perceptron, each added to what came in."""

    def __init__(self, width: int, n_heads: int, *, rngs: nnx.Rngs) -> None:
        """Draw the initial weights."""
        self.n_heads = n_heads
        self.log_rate = nnx.Param(-jnp.linspace(0.0, np.log(_LONGEST_REACH), n_heads))
        self.norm_attention, self.norm_mlp = nnx.LayerNorm(width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)
        self.queries_keys_values = nnx.Linear(width, 3 * width, rngs=rngs)
        self.mix = nnx.Linear(width, width, kernel_init=nnx.initializers.zeros, rngs=rngs)
        self.mlp = Mlp(width, (2 * width,), width, zero_output=True, rngs=rngs)

    def __call__(
        self, hidden: Float[Array, "n width"], apart: Float[Array, "n n"], there: Bool[Array, " n"]
    ) -> Float[Array, "n width"]:
        """Hidden tokens."""
        hidden = hidden + self._attention(self.norm_attention(hidden), apart, there).astype(hidden.dtype)
        return hidden + self.mlp(self.norm_mlp(hidden))

    def _attention(self, tokens: Array, apart: Array, there: Array) -> Array:
        """What the tokens where there are data tell each other."""
        n, width = tokens.shape
        per_head = self.queries_keys_values(tokens).reshape(n, 3, self.n_heads, width // self.n_heads)
        queries, keys, values = per_head[:, 0], per_head[:, 1], per_head[:, 2]
        alike = jnp.einsum("ihd,jhd->hij", queries, keys).astype(tokens.dtype) / np.sqrt(width // self.n_heads)
        logits = alike - jnp.exp(self.log_rate[...])[:, None, None] * apart[None]
        weights = masked_softmax(logits, there[None, None])
        return self.mix(jnp.einsum("hij,jhd->ihd", weights.astype(values.dtype), values).reshape(n, width))


def _fourier(place: Float[Array, " n"], n_frequencies: int) -> Float[Array, "n n_features"]:
    """Sines and cosines of places from 0 to 1, of half a turn and its doublings."""
    turns = np.pi * 2.0 ** np.arange(n_frequencies)
    phase = place[:, None] * jnp.asarray(turns, place.dtype)[None]
    return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)], axis=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerSettings:
    """Size of a transformer that digests sequences at any times.

    Attributes:
        kind: Its name in settings.
        width: Size of a token; a multiple of `n_heads`.
        n_heads: Heads of the attention.
        n_blocks: Blocks of attention and perceptron; compiled once, whatever their number.
        patch: Points in a token: attention costs the square of the number of tokens.
        n_frequencies: Fourier features of a token's place, each half as long as the one before.
        n_queries: Means of the tokens that attention gives weights.
        hidden: Hidden layers of the perceptron behind the pooling.
        n_embedded: Size of the output.
    """

    kind: Literal["transformer"] = "transformer"
    width: int = 64
    n_heads: int = 4
    n_blocks: int = 3
    patch: int = 8
    n_frequencies: int = 6
    n_queries: int = 2
    hidden: tuple[int, ...] = (128,)
    n_embedded: int = 32

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        sizes = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "kind"}
        check_sizes(**sizes)
        if self.width % self.n_heads:
            raise ValueError(f"width must be a multiple of n_heads = {self.n_heads}, got {self.width!r}")

    def build(self, example: Any, *, rngs: nnx.Rngs) -> TransformerEmbedding:
        """Make the embedding.

        Args:
            example: Values (n_points,) or (n_points, n_channels), or `Features` of them; only the shapes are read.
            rngs: Keys for the initial weights.

        Raises:
            ValueError: If the example is no sequence.
        """
        example = as_features(example)
        check_axes(self.kind, example, (1, 2), timed=True)
        return TransformerEmbedding(example, self, rngs=rngs)
