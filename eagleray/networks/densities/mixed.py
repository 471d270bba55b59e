"""Distributions of vectors with discrete entries: all discrete, or discrete and continuous ones."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from eagleray.networks.densities.autoregressive import MaskedMlp
from eagleray.networks.densities.coupling import CouplingSettings
from eagleray.networks.densities.density import Density
from eagleray.networks.densities.settings import check_sizes
from eagleray.records import Key


class MixedDensity(Density):
    """Discrete entries one after the other, each given those before; then the continuous ones given all discrete ones.

    Discrete entries are whole numbers from 0 to one less than their number of categories, held as floats; any other
    value has probability 0. The result is a probability for discrete entries times a density for continuous ones.

    Args:
        n_value: Size of the vector.
        n_context: Size of the context.
        settings: Categories and sizes.
        rngs: Keys for the initial weights.

    Raises:
        ValueError: If there are not as many categories as entries.

    References:
        Germain et al. (2015), MADE, section 4; Boelts et al. (2022), eLife 11, e77220 (mixed likelihoods).
    """

    def __init__(self, n_value: int, n_context: int, settings: "MixedSettings", *, rngs: nnx.Rngs) -> None:
        """Build both parts."""
        if len(settings.categories) != n_value:
            raise ValueError(
                f"categories must have one number for each of {n_value} entries, got {settings.categories}"
            )
        categories = np.array(settings.categories)
        self.discrete = tuple((categories > 0).tolist())
        self.where_discrete = tuple(np.flatnonzero(categories > 0).tolist())
        self.where_continuous = tuple(np.flatnonzero(categories == 0).tolist())
        self.categories = tuple(categories[categories > 0].tolist())
        n_discrete, n_continuous = len(self.where_discrete), len(self.where_continuous)
        self.masked = MaskedMlp(n_discrete, n_context, settings.hidden, max(self.categories), rngs=rngs)
        parts = [settings.continuous.build(n_continuous, n_context + n_discrete, rngs=rngs)] if n_continuous else []
        self.continuous = nnx.List(parts)  # of one, or none

    def _centred(self, whole: Array) -> Array:
        """Discrete entries as numbers from -1 to 1, as a network likes them."""
        half = jnp.maximum(0.5 * (jnp.asarray(self.categories, whole.dtype) - 1.0), 0.5)
        return whole / half - 1.0

    def _log_probabilities(self, whole: Array, context: Array) -> Array:
        """Ln probabilities (n_discrete, most categories) of every discrete entry given those before it."""
        logits = self.masked(self._centred(whole), context)
        exists = np.arange(logits.shape[-1]) < np.array(self.categories)[:, None]
        return jax.nn.log_softmax(jnp.where(exists, logits, -jnp.inf), axis=-1)

    def log_prob(self, value: Float[Array, " n_value"], context: Float[Array, " n_context"]) -> Float[Array, ""]:
        """Ln probability of the discrete entries, plus ln density of the continuous ones; -inf for no category."""
        whole = value[np.array(self.where_discrete)]
        among = (whole == jnp.round(whole)) & (whole >= 0) & (whole < np.array(self.categories))
        whole = jnp.where(among, whole, 0.0)
        picked = jax.nn.one_hot(whole.astype(int), max(self.categories), dtype=bool)
        log_probabilities = self._log_probabilities(whole, context)
        total = jnp.where(picked, log_probabilities, 0.0).sum()
        for density in self.continuous:
            rest = value[np.array(self.where_continuous)]
            total = total + density.log_prob(rest, jnp.concatenate([self._centred(whole), context]))
        return jnp.where(among.all(), total, -jnp.inf)

    def sample(self, key: Key, context: Float[Array, " n_context"]) -> Float[Array, " n_value"]:
        """Draw one vector, entry after entry."""
        key_discrete, key_continuous = jax.random.split(key)
        keys = jax.random.split(key_discrete, len(self.where_discrete))

        def fill(i: Array, whole: Array) -> Array:
            drawn = jax.random.categorical(keys[i], self._log_probabilities(whole, context)[i])
            return whole.at[i].set(drawn.astype(whole.dtype))

        n_discrete = len(self.where_discrete)
        whole = jax.lax.fori_loop(0, n_discrete, fill, jnp.zeros(n_discrete, context.dtype))
        value = jnp.zeros(len(self.discrete), context.dtype).at[np.array(self.where_discrete)].set(whole)
        for density in self.continuous:
            rest = density.sample(key_continuous, jnp.concatenate([self._centred(whole), context]))
            value = value.at[np.array(self.where_continuous)].set(rest)
        return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixedSettings:
    """Size of a density with discrete entries.

    Attributes:
        kind: Its name in settings.
        categories: Number of values that each entry can take; 0 for a continuous one.
        hidden: Hidden layers of the masked network of the discrete entries.
        continuous: Density of the continuous entries.
    """

    categories: tuple[int, ...]
    kind: Literal["mixed"] = "mixed"
    hidden: tuple[int, ...] = (64, 64)
    continuous: CouplingSettings = CouplingSettings()

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        check_sizes(hidden=self.hidden)
        if not all(n >= 0 and n != 1 for n in self.categories) or not any(self.categories):
            raise ValueError(f"categories must be 0 or at least 2, not all of them 0, got {self.categories}")

    def build(self, n_value: int, n_context: int, *, rngs: nnx.Rngs) -> MixedDensity:
        """Make the density."""
        return MixedDensity(n_value, n_context, self, rngs=rngs)
