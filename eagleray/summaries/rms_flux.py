"""The rms-flux relation: how the scatter of short stretches of a light curve grows with their mean."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.summaries.spectra import power_spectrum


class RmsFlux(NamedTuple):
    """Rms in groups of segments of like flux, and the line through it, rms = slope (flux - offset).

    Attributes:
        flux: (n_groups,) mean value of the segments in each group, units of the values.
        rms: (n_groups,) root of their mean excess variance, same units; NaN where that is not positive.
        rms_error: (n_groups,) its error, from the scatter of the variances in the group.
        n_segments: (n_groups,) segments in each group.
        slope: Slope of the line: the fractional rms if the offset is zero.
        slope_error: Its error.
        intercept: rms of the line at zero flux, -slope offset.
        intercept_error: Its error.
        offset: Flux at which the line reaches zero.
        chi_squared: Of the line, over the groups that have an rms, less two for degrees of freedom.
    """

    flux: Float[Array, " n_groups"]
    rms: Float[Array, " n_groups"]
    rms_error: Float[Array, " n_groups"]
    n_segments: Float[Array, " n_groups"]
    slope: Float[Array, ""]
    slope_error: Float[Array, ""]
    intercept: Float[Array, ""]
    intercept_error: Float[Array, ""]
    offset: Float[Array, ""]
    chi_squared: Float[Array, ""]


def rms_flux(
    values: Float[Array, " n_bins"],
    errors: Float[Array, " n_bins"],
    *,
    segment_bins: int,
    n_groups: int,
    mask: Float[Array, " n_bins"] | None = None,
    harmonics: tuple[int, int] | None = None,
) -> RmsFlux:
    """The rms-flux relation of a light curve. Segments that a gap touches are left out.

    Args:
        values: (n_bins,) rates or counts.
        errors: (n_bins,) standard deviation of each value.
        segment_bins: Bins in a segment (static); an incomplete last segment is left out.
        n_groups: Groups of segments of like flux, equally many in each (static).
        mask: (n_bins,) 1 where a value counts, 0 where not; default all ones.
        harmonics: Take the variance between these two Fourier frequencies of a segment, both included, in units of
            one over its length (static); default all of it.

    Returns:
        Groups and line. Differentiable by the values while their order of flux stays.

    Raises:
        ValueError: If there are fewer segments than groups, fewer than two groups, or the harmonics are out of range.

    References:
        Uttley & McHardy (2001), MNRAS 323, L26.
    """
    n_segments = values.shape[0] // segment_bins if segment_bins > 1 else 0
    if not 2 <= n_groups <= n_segments:
        raise ValueError(f"n_groups must be between 2 and the number of segments {n_segments}, got {n_groups}")
    if harmonics is not None and not 1 <= harmonics[0] <= harmonics[1] <= (segment_bins - 1) // 2:
        raise ValueError(f"harmonics must lie between 1 and {(segment_bins - 1) // 2}, got {harmonics}")
    shape = (n_segments, segment_bins)
    mask = jnp.ones_like(values) if mask is None else mask
    cut, noise, seen = (array[: n_segments * segment_bins].reshape(shape) for array in (values, errors**2, mask))
    complete = jnp.all(seen > 0, axis=1)
    flux = cut.mean(1)
    excess = _excess(cut, noise.mean(1), harmonics)
    group = _groups(jax.lax.stop_gradient(flux), complete, n_groups)
    number = _sum_by(jnp.ones_like(flux), group, n_groups)
    mean_flux = _sum_by(flux, group, n_groups) / number
    mean_excess = _sum_by(excess, group, n_groups) / number
    scatter = _sum_by((excess - jnp.append(mean_excess, 0.0)[group]) ** 2, group, n_groups) / (number - 1.0)
    good = (mean_excess > 0) & (scatter > 0)
    rms = jnp.sqrt(jnp.where(good, mean_excess, 1.0))
    error = jnp.sqrt(jnp.where(good, scatter, 1.0) / jnp.maximum(number, 1.0)) / (2.0 * rms)
    line = _line(jnp.where(good, mean_flux, 0.0), rms, jnp.where(good, 1.0 / error**2, 0.0))
    return RmsFlux(mean_flux, jnp.where(good, rms, jnp.nan), jnp.where(good, error, jnp.nan), number, *line)


def _excess(cut: Array, noise: Array, harmonics: tuple[int, int] | None) -> Array:
    """Excess variance of each segment."""
    n = cut.shape[1]
    if harmonics is None:
        return cut.var(1, ddof=1) - noise
    low, high = harmonics
    power = jax.vmap(lambda segment: power_spectrum(segment, 1.0, norm="none"))(cut)[:, low - 1 : high]
    return (2.0 / n**2) * power.sum(1) - noise * (2.0 * (high - low + 1) / n)


def _groups(flux: Array, complete: Array, n_groups: int) -> Array:
    """Group of each segment by rank of flux; n_groups for segments that do not count."""
    order = jnp.argsort(jnp.where(complete, flux, jnp.inf))
    rank = jnp.zeros(flux.shape, jnp.int32).at[order].set(np.arange(flux.shape[0], dtype=np.int32))
    n_complete = jnp.maximum(complete.sum(dtype=jnp.int32), 1)
    return jnp.where(complete, rank * n_groups // n_complete, n_groups)


def _sum_by(values: Array, group: Array, n_groups: int) -> Array:
    return jax.ops.segment_sum(values, group, num_segments=n_groups + 1)[:n_groups]


def _line(x: Array, y: Array, weight: Array) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Weighted least squares: slope, its error, intercept, its error, zero of the line, chi-squared."""
    total = weight.sum()
    x_mean, y_mean = (weight * x).sum() / total, (weight * y).sum() / total
    spread = (weight * (x - x_mean) ** 2).sum()
    slope = (weight * (x - x_mean) * (y - y_mean)).sum() / spread
    intercept = y_mean - slope * x_mean
    chi_squared = (weight * (y - intercept - slope * x) ** 2).sum()
    slope_error, intercept_error = 1.0 / jnp.sqrt(spread), jnp.sqrt(1.0 / total + x_mean**2 / spread)
    return slope, slope_error, intercept, intercept_error, -intercept / slope, chi_squared
