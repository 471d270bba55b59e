"""How much a light curve varies: excess variance, fractional rms, moments of the flux distribution. Gaps by mask."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class ExcessVariance(NamedTuple):
    """Variance above that of the measurement errors.

    Attributes:
        variance: Excess variance, in squared units of the values.
        variance_error: Its error.
        normalised: Excess variance over the squared mean.
        normalised_error: Its error, from the measurement errors alone: the scatter of the process is not in it.
        fractional_rms: F_var, the root of the normalised excess variance; NaN where that is negative.
        fractional_rms_error: Its error; NaN where F_var is.
    """

    variance: Float[Array, ""]
    variance_error: Float[Array, ""]
    normalised: Float[Array, ""]
    normalised_error: Float[Array, ""]
    fractional_rms: Float[Array, ""]
    fractional_rms_error: Float[Array, ""]


class FluxMoments(NamedTuple):
    """Moments of a flux distribution and of its logarithm.

    Skewness and excess kurtosis are ratios of plain central moments (zero for a Gaussian); variances divide by the
    number of values.

    Attributes:
        mean: Mean.
        variance: Variance.
        skewness: Skewness.
        kurtosis: Excess kurtosis.
        log_mean: Mean of ln value, over positive values.
        log_variance: Variance of ln value.
        log_skewness: Skewness of ln value: zero for a log-normal distribution.
        log_kurtosis: Excess kurtosis of ln value.
        n_values: Values not masked.
        n_positive: Those of them that have a logarithm.
    """

    mean: Float[Array, ""]
    variance: Float[Array, ""]
    skewness: Float[Array, ""]
    kurtosis: Float[Array, ""]
    log_mean: Float[Array, ""]
    log_variance: Float[Array, ""]
    log_skewness: Float[Array, ""]
    log_kurtosis: Float[Array, ""]
    n_values: Float[Array, ""]
    n_positive: Float[Array, ""]


def excess_variance(
    values: Float[Array, " n"],
    errors: Float[Array, " n"],
    mask: Float[Array, " n"] | None = None,
    *,
    stingray_compat: bool = False,
) -> ExcessVariance:
    """Excess variance of a light curve, normalised and as fractional rms, with errors.

    Args:
        values: (n,) rates or counts.
        errors: (n,) standard deviation of each value, in the same units.
        mask: (n,) 1 where a value counts, 0 where not; default all ones.
        stingray_compat: Divide the sum of squares by n, as Stingray does, not by n - 1 (static). The expectation for
            values that do not vary is then below zero.

    Returns:
        Six numbers. Not finite if fewer than two values count or the mean is zero.

    References:
        Vaughan et al. (2003), MNRAS 345, 1271; the errors are in its appendix B.
    """
    mask = jnp.ones_like(values) if mask is None else mask
    n = mask.sum()
    mean = (mask * values).sum() / n
    noise = (mask * errors**2).sum() / n
    total = (mask * (values - mean) ** 2).sum() / (n if stingray_compat else n - 1.0)
    variance = total - noise
    normalised = variance / mean**2
    positive = normalised > 0
    fractional = jnp.where(positive, jnp.sqrt(jnp.where(positive, normalised, 1.0)), 0.0)
    noise_ratio = noise / mean**2
    squared_error = (2.0 * noise_ratio**2 + 4.0 * noise_ratio * fractional**2) / n
    noisy = squared_error > 0
    normalised_error = jnp.where(noisy, jnp.sqrt(jnp.where(noisy, squared_error, 1.0)), 0.0)
    return ExcessVariance(
        variance=variance,
        variance_error=normalised_error * mean**2,
        normalised=normalised,
        normalised_error=normalised_error,
        fractional_rms=jnp.where(positive, fractional, jnp.nan),
        fractional_rms_error=jnp.where(
            positive, 0.5 * normalised_error / jnp.where(positive, fractional, 1.0), jnp.nan
        ),
    )


def expected_scatter(n: float, normalised: Float[Array, ""]) -> Float[Array, ""]:
    """Scatter of the normalised excess variance of white variability about its mean, beside the measurement errors.

    Args:
        n: Number of values.
        normalised: Normalised excess variance of the process.

    Returns:
        Standard deviation, normalised sqrt(2 / (n - 1)). Red noise scatters more: simulate it.
    """
    return normalised * math.sqrt(2.0 / (n - 1.0))


def flux_moments(values: Float[Array, " n"], mask: Float[Array, " n"] | None = None) -> FluxMoments:
    """Mean, variance, skewness and kurtosis of the values and of their logarithms. Differentiable.

    Args:
        values: (n,) rates or counts.
        mask: (n,) 1 where a value counts, 0 where not; default all ones.

    Returns:
        The moments, and how many values they rest on: those without a logarithm are left out of the moments of the
        logarithm and can be told from the two numbers. Skewness and kurtosis are not finite if nothing varies.
    """
    mask = jnp.ones_like(values) if mask is None else mask
    positive = values > 0
    logs = jnp.log(jnp.where(positive, values, 1.0))
    log_mask = jnp.where(positive, mask, 0.0)
    return FluxMoments(
        *_moments(values, mask), *_moments(logs, log_mask), n_values=mask.sum(), n_positive=log_mask.sum()
    )


def _moments(values: Array, mask: Array) -> tuple[Array, Array, Array, Array]:
    """Mean, variance, skewness and excess kurtosis."""
    n = mask.sum()
    first = (mask * values).sum() / n
    # A second pass takes off what rounding left of the mean of many values.
    mean = first + (mask * (values - first)).sum() / n
    residual = mask * (values - mean)
    square = residual * residual
    variance = square.sum() / n
    skewness = (square * residual).sum() / n / (variance * jax.lax.sqrt(variance))
    kurtosis = (square * square).sum() / n / (variance * variance) - 3.0
    return mean, variance, skewness, kurtosis
