"""Energies of events drawn from a spectrum, and channels from energies."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from eagleray.records import Key


def draw_from_histogram(
    key: Key, edges: Float[Array, " n_edges"], weights: Float[Array, " n_bins"], n_draws: int
) -> Float[Array, " n_draws"]:
    """Draw from a density that is constant in each bin, by the inverse of its cumulative distribution.

    For photon energies from a spectrum (independent of time), or dead times from a measured histogram.

    Args:
        key: Typed PRNG key; consumed.
        edges: (n_bins + 1,) increasing bin edges.
        weights: (n_bins,) weight of each bin (photons in it, not per unit width), of any normalisation.
        n_draws: Number of draws (static).

    Returns:
        (n_draws,) values in the unit of the edges, differentiable in edges and weights.

    Raises:
        ValueError: If there is not one more edge than weights.

    References:
        Devroye (1986), Non-Uniform Random Variate Generation, section II.2. The law of
        `stingray.simulator.base.simulate_with_inverse_cdf`, which stands behind `EventList.simulate_energies`.
    """
    if edges.shape != (weights.shape[0] + 1,):
        raise ValueError(f"edges must have shape ({weights.shape[0] + 1},), one more than weights, got {edges.shape}")
    cumulative = jnp.concatenate([jnp.zeros((1,), weights.dtype), jnp.cumsum(weights)])
    target = jax.random.uniform(key, (n_draws,), weights.dtype) * cumulative[-1]
    return jnp.interp(target, cumulative, edges)


def channels_from_energies(energies: Float[Array, " n"], edges: Float[Array, " n_edges"]) -> Int[Array, " n"]:
    """Find the channel of each energy; a channel includes its lower edge.

    Args:
        energies: (n,) energies [keV].
        edges: (n_channels + 1,) increasing channel edges [keV].

    Returns:
        (n,) channel numbers from 0, int32; -1 for energies outside all channels.
    """
    channel = jnp.searchsorted(edges, energies, side="right").astype(jnp.int32) - 1
    return jnp.where((energies >= edges[0]) & (energies < edges[-1]), channel, -1)
