"""Dead times that differ from event to event: scattered, or set by the energy.

From a measured histogram draw them with `energies.draw_from_histogram`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eagleray.records import Key


def scattered_dead_times(
    key: Key, mean: Float[Array, ""], sd: Float[Array, ""], n_events: int
) -> Float[Array, " n_events"]:
    """Draw dead times from a normal distribution, negative ones set to zero.

    Args:
        key: Typed PRNG key; consumed.
        mean: Mean [s], before negative values are cut.
        sd: Standard deviation [s].
        n_events: Number of dead times (static).

    Returns:
        (n_events,) dead times [s], differentiable in mean and sd.

    References:
        As `stingray.filters.filter_for_deadtime(dt_sigma=...)`. For NuSTAR, mean 2.54 ms and sd 0.21 ms:
        Huppenkothen & Bachetti (2022), MNRAS 511, 5689.
    """
    mean = jnp.asarray(mean)
    return jnp.maximum(mean + sd * jax.random.normal(key, (n_events,), mean.dtype), 0)


def energy_dead_times(
    energies: Float[Array, " n"], energy_grid: Float[Array, " n_grid"], dead_times: Float[Array, " n_grid"]
) -> Float[Array, " n"]:
    """Dead time of each event from its energy, by linear interpolation.

    Args:
        energies: (n,) energies [keV].
        energy_grid: (n_grid,) increasing energies at which the dead time is known [keV].
        dead_times: (n_grid,) dead time at each of them [s].

    Returns:
        (n,) dead times [s]; constant outside the grid.
    """
    return jnp.interp(energies, energy_grid, dead_times)
