"""How alike two channels are at each frequency, and which one is late: coherence, phase and time lags."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.records import CrossSpectrum, Estimate
from eagleray.summaries.cross import bias_of_squared_modulus
from eagleray.summaries.spectra import square_root, squared_modulus

_LOW_POWER = 3.0
"""Powers must stand this many standard errors above the noise for an intrinsic coherence, as in Stingray."""
_ITERATIONS, _TOLERANCE = 40, 0.01
"""Stingray's iteration for the bias."""


def raw_coherence(cross: CrossSpectrum, *, stingray_compat: bool = False) -> Estimate:
    """Coherence of the measured light curves, noise included: (|C|^2 - b^2) / (P_1 P_2).

    Args:
        cross: Averaged cross spectrum.
        stingray_compat: Neglect the bias b^2 for m > 500, as Stingray does.

    Returns:
        Coherence, zero where the bias exceeds |C|^2, with errors sqrt(2/m) (1 - coherence) sqrt(coherence), at least
        1/m; each (n_freq,).

    References:
        Vaughan & Nowak (1997), ApJ 474, L43; Bendat & Piersol (2010), Random Data.
    """
    value = _raw(cross, stingray_compat)
    m = jnp.asarray(cross.m, value.dtype)
    error = jnp.sqrt(2.0 / m) * square_root(value) * (1.0 - value)
    return Estimate(value, jnp.where(value == 0, 1.0 / m, jnp.maximum(error, 1.0 / m)))


def _raw(cross: CrossSpectrum, stingray_compat: bool) -> Float[Array, " n_freq"]:
    """Raw coherence without its error."""
    p1, p2 = jnp.asarray(cross.power_1), jnp.asarray(cross.power_2)
    n1, n2, m = (jnp.asarray(x, p1.dtype) for x in (cross.noise_1, cross.noise_2, cross.m))
    bias = bias_of_squared_modulus(p1, p2, n1, n2, m, stingray_compat=stingray_compat)
    return jnp.maximum(squared_modulus(jnp.asarray(cross.power)) - bias, 0.0) / (p1 * p2)


def intrinsic_coherence(cross: CrossSpectrum, *, adjust_bias: bool = False, stingray_compat: bool = False) -> Estimate:
    """Coherence of the sources behind the noise: (|C|^2 - b^2) / [(P_1 - N_1) (P_2 - N_2)].

    Args:
        cross: Averaged cross spectrum. Its noise levels are those of counting without dead time.
        adjust_bias: The bias b^2 depends on the coherence itself; solve for both, instead of putting 1 there.
        stingray_compat: Do as Stingray where it differs. The bias is neglected for m > 500, and solved for by steps
            until they are below 0.01. The error is that of Vaughan & Nowak for high powers and high coherence, with b^2
            taken off twice: at coherence 0.5 without noise it is twice the scatter. The default error propagates the
            covariance of the three averaged spectra.

    Returns:
        Coherence and error, each (n_freq,). NaN where a power is within three standard errors of its noise; zero with
        error NaN where the bias exceeds |C|^2.

    References:
        Vaughan & Nowak (1997), ApJ 474, L43; Ingram (2019), MNRAS 489, 3927; Goodman (1963) for the covariance.
    """
    p1, p2 = jnp.asarray(cross.power_1), jnp.asarray(cross.power_2)
    n1, n2 = jnp.asarray(cross.noise_1, p1.dtype), jnp.asarray(cross.noise_2, p1.dtype)
    m = jnp.asarray(cross.m, p1.dtype)
    low = (p1 - n1 <= _LOW_POWER * n1 / jnp.sqrt(m)) | (p2 - n2 <= _LOW_POWER * n2 / jnp.sqrt(m))
    # Values that lead nowhere must stay finite for gradients to.
    s1, s2 = jnp.where(low, 1.0, p1 - n1), jnp.where(low, 1.0, p2 - n2)
    squared = squared_modulus(jnp.asarray(cross.power))

    def with_bias(assumed: Array | float) -> Array:
        """Coherence, before it is cut at zero, for a bias made with an assumed one."""
        bias = bias_of_squared_modulus(p1, p2, n1, n2, m, coherence=assumed, stingray_compat=stingray_compat)
        return (squared - bias) / (s1 * s2)

    if not adjust_bias:
        value = with_bias(1.0)
    elif stingray_compat:
        value = _stepwise(with_bias, p1)
    else:
        # The solution of value = with_bias(value); one periodogram has none.
        single = m <= 1.0
        value = jnp.where(
            single, jnp.nan, (squared - p1 * p2 / m) / (s1 * s2 * (1.0 - 1.0 / jnp.where(single, 2.0, m)))
        )
    positive = value > 0
    safe = jnp.where(positive, value, 0.5)
    if stingray_compat:
        bias = squared - safe * s1 * s2
        relative = (
            2.0 * bias**2 * m / (squared - 2.0 * bias) ** 2
            + (n1 / s1) ** 2
            + (n2 / s2) ** 2
            + 2.0 * (1.0 - safe) ** 2 / safe**3
        )
    else:
        modulus = jnp.where(positive & (squared > 0), squared, 1.0)
        relative = (
            2.0 * (p1 * p2 / modulus + 1.0)
            + (p1 / s1) ** 2
            + (p2 / s2) ** 2
            - 4.0 * (p1 / s1 + p2 / s2)
            + 2.0 * modulus / (s1 * s2)
        )
    error = safe * square_root(jnp.maximum(relative, 0.0) / m)
    value = jnp.where(low, jnp.nan, jnp.where(positive, value, jnp.where(jnp.isnan(value), jnp.nan, 0.0)))
    return Estimate(value, jnp.where(low | ~positive, jnp.nan, error))


def _stepwise(with_bias, like: Array) -> Array:
    """Coherence by Stingray's iteration: put the last into the bias until it changes by less than 0.01."""

    def step(_, state: tuple[Array, Array]) -> tuple[Array, Array]:
        value, done = state
        new = jnp.maximum(with_bias(value), 0.0)
        arrived = done | (new == 0) | (jnp.abs(new - value) < _TOLERANCE)
        return jnp.where(done, value, new), arrived

    start = (jnp.ones_like(like), jnp.zeros(like.shape, bool))
    return jax.lax.fori_loop(0, _ITERATIONS, step, start)[0]


def phase_lag(cross: CrossSpectrum, *, stingray_compat: bool = False) -> Estimate:
    """Phase lag [rad], positive where channel 1 lags channel 2.

    Args:
        cross: Averaged cross spectrum.
        stingray_compat: Neglect the bias of |C|^2 for m > 500, as Stingray does.

    Returns:
        Lags in (-pi, pi] and errors, each (n_freq,). Where the coherence is zero the error is infinite. Of overlapping
        channels the error is that of a common reference (NaN where it cannot be had).

    References:
        Nowak et al. (1999), ApJ 510, 874; Ingram (2019), MNRAS 489, 3927.
    """
    power = jnp.asarray(cross.power)
    p1, p2 = jnp.asarray(cross.power_1), jnp.asarray(cross.power_2)
    n1, n2, m = (jnp.asarray(x, p1.dtype) for x in (cross.noise_1, cross.noise_2, cross.m))
    if cross.overlapping:
        bias = bias_of_squared_modulus(p1, p2, n1, n2, m, stingray_compat=stingray_compat)
        variance = p2 / (2.0 * m) * (p1 / (squared_modulus(power) - bias) - 1.0 / (p2 - n2))
        error = square_root(variance)
    else:
        coherence = _raw(cross, stingray_compat)
        known = coherence > 0
        safe = jnp.where(known, coherence, 1.0)
        error = jnp.where(known, square_root(jnp.maximum(1.0 - safe, 0.0) / (2.0 * safe * m)), jnp.inf)
    return Estimate(_angle(power), error)


def _angle(power: Array) -> Array:
    """Phase, with zero gradient where the power is zero."""
    zero = squared_modulus(power) == 0
    return jnp.where(zero, 0.0, jnp.arctan2(power.imag, jnp.where(zero, 1.0, power.real)))


def time_lag(cross: CrossSpectrum, *, stingray_compat: bool = False) -> Estimate:
    """Time lag [s], phase lag / 2 pi f; positive where channel 1 lags channel 2.

    Args:
        cross: Averaged cross spectrum.
        stingray_compat: See `phase_lag`.

    Returns:
        Lags and errors, each (n_freq,).
    """
    phase = phase_lag(cross, stingray_compat=stingray_compat)
    to_seconds = 1.0 / (2.0 * np.pi * jnp.asarray(cross.freq, phase.value.dtype))
    return Estimate(phase.value * to_seconds, phase.error * to_seconds)


def modulus(cross: CrossSpectrum, *, stingray_compat: bool = False) -> Estimate:
    """Modulus of the cross spectrum.

    Args:
        cross: Averaged cross spectrum.
        stingray_compat: The error sqrt(P_1 P_2 / m), an upper limit that is reached at coherence 1, instead of
            sqrt[(P_1 P_2 + |C|^2) / 2 m].

    Returns:
        Modulus and error, each (n_freq,). Of overlapping channels the error is that of the real part.
    """
    squared = squared_modulus(jnp.asarray(cross.power))
    if cross.overlapping:
        return Estimate(square_root(squared), jnp.asarray(cross.error).real)
    product = jnp.asarray(cross.power_1) * jnp.asarray(cross.power_2)
    variance = product if stingray_compat else 0.5 * (product + squared)
    return Estimate(square_root(squared), square_root(variance / jnp.asarray(cross.m, product.dtype)))
