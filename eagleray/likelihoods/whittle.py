"""Likelihoods of power spectra: single periodogram powers, and averages of many."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.likelihoods.arguments import OneOrEach, Values, at_least, log_gamma_excess, log_ratio_excess, matched


def whittle(power: Values, model: OneOrEach) -> Float[Array, ""]:
    """Ln likelihood of a periodogram whose powers are independent and exponential about a model.

    Exact for Gaussian series that are periodic over the window; an approximation, biased by leakage, for others.

    Args:
        power: (n,) observed powers, Nyquist left out.
        model: (n,) or scalar expected powers, positive, in the same norm.

    Returns:
        Ln probability density of the powers, fully normalised.

    Raises:
        ValueError: If the shapes do not match.

    References:
        Whittle (1953), Ark. Mat. 2, 423; Vaughan (2010), MNRAS 402, 307, equation 18.
    """
    power, model = matched(power=power, model=model)
    return -(jnp.log(model) + power / model).sum()


def averaged_powers(
    power: Values, model: OneOrEach, m: OneOrEach, *, stingray_compat: bool = False
) -> Float[Array, ""]:
    """Ln likelihood of averages of periodogram powers: each is Gamma distributed, with shape m and mean the model.

    Args:
        power: (n,) observed powers, each the mean of m, Nyquist left out.
        model: (n,) or scalar expected powers, positive, in the same norm.
        m: Periodogram powers averaged in each, at least 1: one number, or (n,) for rebinned spectra.
        stingray_compat: Give Stingray's `PSDLogLikelihood` instead (static). For m other than the single number 1
            that is twice this log-likelihood up to a constant: its posteriors are too narrow by sqrt 2.

    Returns:
        Ln probability density of the powers, fully normalised. For m = 1 it is `whittle`.

    Raises:
        ValueError: If the shapes do not match, or an m that is known while tracing is below 1.

    References:
        van der Klis (1989), in Timing Neutron Stars (Kluwer), 27; Barret & Vaughan (2012), ApJ 746, 131, whose
        statistic is -2 ln L.
    """
    at_least("m", m, 1)
    single = np.ndim(m) == 0
    power, model, m = matched(power=power, model=model, m=m)
    if stingray_compat:
        factor = jnp.where(m == 1, 1.0, 2.0) if single else 2.0
        log_power = jnp.log(jnp.where(m == 1, 1.0, power))
        return -(factor * m * (jnp.log(model) + power / model + (1.0 / m - 1.0) * log_power)).sum()
    return gamma_log_density(power, model, m).sum()


def gamma_log_density(
    power: Float[Array, "*shape"], model: Float[Array, "*shape"], m: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
    """Ln density of each averaged power: Gamma of shape m and mean `model`, with no loss where m is large."""
    excess = (power - model) / model
    # A power of zero is no fault where m = 1: its logarithm then has weight zero.
    peaked = jnp.where(m == 1, 0.0, (m - 1.0) * log_ratio_excess(jnp.where(m == 1, 0.0, excess)))
    return log_gamma_excess(m) + peaked - excess - jnp.log(model)
