"""What amplitude a power allows: confidence limits on powers, upper limits on signals, pulsed fractions.

A power of a signal in noise follows the noncentral chi-squared distribution, whose noncentrality is the power that the
signal would have without noise.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.summaries.pulsations.chi_squared import Scalar, floats, noncentral_chi_squared_cdf, solve

_MEAN_BIN_RESPONSE = 0.773
"""Mean power response of a Fourier frequency to a sinusoid anywhere in it (van der Klis 1989)."""


def power_confidence_limits(
    signal: Scalar,
    *,
    confidence: float = 0.95,
    n_powers: int = 1,
    averaged: bool = False,
) -> Float[Array, " 2"]:
    """Interval in which a power falls with a given probability, if the signal's own power is known.

    Args:
        signal: Power the signal would have without noise, in the Leahy norm (or of Z^2_n).
        confidence: Probability of the central interval (static).
        n_powers: Powers added or averaged; the n of Z^2_n (static).
        averaged: Whether the powers are averaged, not added (static).

    Returns:
        (2,) lower and upper limit.

    Raises:
        ValueError: If the confidence is not between 0 and 1.

    References:
        Groth (1975), ApJS 29, 285; Vaughan et al. (1994), ApJ 435, 362.
    """
    _check_confidence(confidence)
    scale = n_powers if averaged else 1
    (total,) = floats(signal * scale)
    # Both limits at once: what is compiled is compiled once.
    total = jnp.stack([total, total])
    probability = jnp.asarray([0.5 * (1.0 - confidence), 0.5 * (1.0 + confidence)], total.dtype)
    probability = probability.reshape((2,) + (1,) * (total.ndim - 1))
    highest = (total + 2.0 * n_powers) * 3.0 + 100.0
    return (
        solve(
            lambda x: noncentral_chi_squared_cdf(x, jnp.full_like(x, 2.0 * n_powers), total),
            jnp.broadcast_to(probability, total.shape),
            jnp.zeros_like(total),
            highest,
            rising=True,
        )
        / scale
    )


def power_upper_limit(
    power: Scalar,
    *,
    confidence: float = 0.95,
    n_powers: int = 1,
    averaged: bool = False,
) -> Float[Array, ""]:
    """Largest power of a signal that a measured power allows.

    Args:
        power: Measured power, in the Leahy norm (or Z^2_n).
        confidence: Probability that a stronger signal would have given more power (static).
        n_powers: Powers added or averaged (static).
        averaged: Whether the powers are averaged, not added (static).

    Returns:
        The limit; zero where noise alone would give as little power with a probability below 1 - confidence.

    Raises:
        ValueError: If the confidence is not between 0 and 1.

    References:
        Vaughan et al. (1994), ApJ 435, 362.
    """
    _check_confidence(confidence)
    scale = n_powers if averaged else 1
    (total,) = floats(power * scale)
    limit = solve(
        lambda signal: noncentral_chi_squared_cdf(total, jnp.full_like(total, 2.0 * n_powers), signal),
        1.0 - confidence,
        jnp.zeros_like(total),
        total * 3.0 + 100.0,
        rising=False,
    )
    return limit / scale


def amplitude_upper_limit(
    power: Scalar,
    n_counts: Scalar,
    *,
    confidence: float = 0.95,
    n_powers: int = 1,
    averaged: bool = False,
    any_phase_in_bin: bool = False,
    nyquist_ratio: float = 0.0,
) -> Float[Array, ""]:
    """Largest fractional amplitude of a sinusoid that a measured power allows.

    Args:
        power: Measured power, in the Leahy norm (or Z^2_n).
        n_counts: Counts behind it.
        confidence: As for `power_upper_limit`.
        n_powers: As for `power_upper_limit`.
        averaged: As for `power_upper_limit`.
        any_phase_in_bin: Allow for the mean response of a Fourier frequency to a signal anywhere in it (static).
        nyquist_ratio: Frequency over the Nyquist frequency, to allow for the binning; 0 for events (static).

    Returns:
        Amplitude a of the rate mean (1 + a sin(phase)).

    References:
        Vaughan et al. (1994), ApJ 435, 362.
    """
    limit = power_upper_limit(power, confidence=confidence, n_powers=n_powers, averaged=averaged)
    response = math.sqrt(_MEAN_BIN_RESPONSE) if any_phase_in_bin else 1.0
    return amplitude_from_signal_power(limit, n_counts) / (response * float(np.sinc(0.5 * nyquist_ratio)))


def signal_power(amplitude: Scalar, n_counts: Scalar) -> Scalar:
    """Power, or Z^2, of a sinusoid of fractional amplitude a without noise: n_counts a^2 / 2.

    References:
        Leahy et al. (1983), ApJ 266, 160.
    """
    return 0.5 * n_counts * amplitude**2


def amplitude_from_signal_power(signal: Scalar, n_counts: Scalar) -> Float[Array, ""]:
    """Fractional amplitude of the sinusoid with a given noise-free power: the inverse of `signal_power`."""
    return jnp.sqrt(2.0 * signal / n_counts)


def pulsed_fraction(amplitude: Scalar) -> Scalar:
    """Pulsed fraction (maximum - minimum) / maximum of a sinusoid of fractional amplitude a: 2 a / (1 + a)."""
    return 2.0 * amplitude / (1.0 + amplitude)


def amplitude_from_pulsed_fraction(fraction: Scalar) -> Scalar:
    """Fractional amplitude of a sinusoid from its pulsed fraction: the inverse of `pulsed_fraction`."""
    return fraction / (2.0 - fraction)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence!r}")
