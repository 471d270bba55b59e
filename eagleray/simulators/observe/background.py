"""Expected counts of source and background, and what an off-source measurement says about them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eagleray.records import Key, TimeGrid


def expected_counts(
    rate: Float[Array, ""] | Float[Array, " n_bins"], exposure: Float[Array, " n_bins"], grid: TimeGrid
) -> Float[Array, " n_bins"]:
    """Expected counts of a constant or variable rate.

    Args:
        rate: Rate [counts/s], one for all bins or (n_bins,) one for each.
        exposure: (n_bins,) fraction of each bin that was watched, 0 to 1.
        grid: Time bins (static).

    Returns:
        (n_bins,) expected counts per bin.
    """
    return rate * exposure * grid.dt


def scale_off_source(
    off_counts: Float[Array, " n_bins"], area_ratio: Float[Array, ""], exposure_ratio: Float[Array, " n_bins"]
) -> Float[Array, " n_bins"]:
    """Expected background in the source region, from the counts of an off-source region.

    Args:
        off_counts: (n_bins,) counts in the off-source region.
        area_ratio: Area of the source region over that of the off-source region (BACKSCAL of the source over BACKSCAL
            of the background in OGIP files; BACKRATIO in eROSITA light curves).
        exposure_ratio: (n_bins,) exposure of the source region over that of the off-source region.

    Returns:
        (n_bins,) expected background counts per bin: the maximum-likelihood estimate. It carries the counting noise of
        the off-source region; `draw_background` propagates it.
    """
    return off_counts * area_ratio * exposure_ratio


def draw_background(
    key: Key,
    off_counts: Float[Array, " n_bins"],
    area_ratio: Float[Array, ""],
    exposure_ratio: Float[Array, " n_bins"],
    prior_counts: float = 0.5,
) -> Float[Array, " n_bins"]:
    """Draw the expected background from its posterior given the off-source counts.

    With a Gamma prior of shape `prior_counts` and no scale, the expected off-source counts given n follow
    Gamma(n + prior_counts, 1), independently in each bin.

    Args:
        key: Typed PRNG key; consumed.
        off_counts: (n_bins,) counts in the off-source region.
        area_ratio: Area of the source region over that of the off-source region.
        exposure_ratio: (n_bins,) exposure of the source region over that of the off-source region.
        prior_counts: Shape of the prior; 0.5 is Jeffreys' for a Poisson mean.

    Returns:
        (n_bins,) expected background counts per bin.

    References:
        Gelman et al. (2013), Bayesian Data Analysis, section 2.6.
    """
    mean_off = jax.random.gamma(key, off_counts + jnp.asarray(prior_counts, off_counts.dtype))
    return scale_off_source(mean_off, area_ratio, exposure_ratio)
