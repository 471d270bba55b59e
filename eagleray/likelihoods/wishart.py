"""Likelihoods of two bands together: both power spectra and the complex cross spectrum.

At each frequency the Fourier amplitudes of two Gaussian series are complex normal with a covariance matrix, the
spectral matrix, whose diagonal is the two power spectra and whose corner is the cross spectrum. Averages of m of them
have the complex Wishart distribution: it uses all that powers, coherence and lags tell, with their correlations.

Cross spectra are conj(F1) F2, as in Stingray, so that their phase is positive where the first band lags the second.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Complex, Float

from eagleray.likelihoods.arguments import OneOrEach, Values, at_least, matched
from eagleray.likelihoods.whittle import gamma_log_density
from eagleray.records import AnyArray


class SpectralMatrix(NamedTuple):
    """Power spectra of two bands and their cross spectrum, observed or expected, in one norm.

    Attributes:
        power1: (n,) power of the first band, noise included.
        power2: (n,) power of the second band, noise included.
        cross: (n,) cross spectrum conj(F1) F2, complex.
    """

    power1: Float[AnyArray, " n"]
    power2: Float[AnyArray, " n"]
    cross: Complex[AnyArray, " n"]


def spectral_matrix(
    signal1: Values,
    signal2: OneOrEach,
    coherence: OneOrEach,
    phase_lag: OneOrEach,
    noise1: OneOrEach,
    noise2: OneOrEach,
) -> SpectralMatrix:
    """Expected spectral matrix of two bands from their signals, what they share, and their noise.

    Args:
        signal1: (n,) expected power of the first band without noise.
        signal2: (n,) or scalar, of the second band.
        coherence: (n,) or scalar intrinsic coherence of the signals, gamma^2, 0 to 1. Its slope is infinite at 0.
        phase_lag: (n,) or scalar [rad], positive where the first band lags the second; a time lag t is 2 pi f t.
        noise1: (n,) or scalar noise level of the first band: 2 in Leahy norm without dead time.
        noise2: (n,) or scalar noise level of the second band; the noises are independent.

    Returns:
        Powers with their noise, and the cross spectrum, which independent noise leaves as it is.

    Raises:
        ValueError: If the shapes do not match.

    References:
        Vaughan & Nowak (1997), ApJ 474, L43; Nowak et al. (1999), ApJ 510, 874.
    """
    signal1, signal2, coherence, phase_lag, noise1, noise2 = matched(
        signal1=signal1, signal2=signal2, coherence=coherence, phase_lag=phase_lag, noise1=noise1, noise2=noise2
    )
    size = jnp.sqrt(coherence * signal1 * signal2)
    return SpectralMatrix(
        power1=signal1 + noise1,
        power2=signal2 + noise2,
        cross=lax.complex(size * jnp.cos(phase_lag), size * jnp.sin(phase_lag)),
    )


def wishart(observed: SpectralMatrix, model: SpectralMatrix, m: OneOrEach) -> Float[Array, ""]:
    """Ln likelihood of averaged powers of two bands and their averaged cross spectrum, together.

    Args:
        observed: Powers and cross spectrum, each the mean of m periodograms; Nyquist left out.
        model: Expected powers, noise included, and cross spectrum: |cross|^2 < power1 power2. See `spectral_matrix`.
        m: Periodograms averaged in each, at least 2: one number, or (n,) for rebinned spectra. A single pair of
            periodograms has coherence 1, whatever the model, and no density in all four numbers; for it use
            `fourier_amplitudes`.

    Returns:
        Ln probability density of the powers and of the real and imaginary part of the cross spectrum, fully
        normalised. NaN where an m that is not known while tracing is below 2.

    Raises:
        ValueError: If the shapes do not match, or an m that is known while tracing is below 2.

    References:
        Goodman (1963), Annals of Mathematical Statistics 34, 152.
    """
    at_least("m", m, 2)
    power1, power2, real, imaginary, model1, model2, model_real, model_imaginary, m = matched(
        **_real_parts(observed, ""), **_real_parts(model, "model "), m=m
    )
    # The first band, the regression of the second on it, and what the regression leaves, are independent.
    gain_real, gain_imaginary, residual = _regression(power1, power2, real, imaginary)
    model_gain_real, model_gain_imaginary, model_residual = _regression(model1, model2, model_real, model_imaginary)
    gain_power = (gain_real - model_gain_real) ** 2 + (gain_imaginary - model_gain_imaginary) ** 2
    gain_variance = model_residual / (m * power1)
    log_gain = -gain_power / gain_variance - jnp.log(gain_variance) - math.log(math.pi)
    freedom = jnp.where(m >= 2, m - 1.0, jnp.nan)
    return (
        gamma_log_density(power1, model1, m)
        + gamma_log_density(residual, model_residual * (freedom / m), freedom)
        + log_gain
        - 2.0 * jnp.log(power1)  # from the regression coefficient to the cross spectrum
    ).sum()


def fourier_amplitudes(
    amplitude1: Complex[AnyArray, " n"], amplitude2: Complex[AnyArray, " n"], model: SpectralMatrix
) -> Float[Array, ""]:
    """Ln likelihood of the complex Fourier amplitudes of two bands, from one segment each.

    This is what replaces `wishart` at m = 1; for several segments the sum of it over segments differs from `wishart` by
    a number that does not depend on the model.

    Args:
        amplitude1: (n,) amplitudes of the first band, normalised so that their squared modulus is the power.
        amplitude2: (n,) amplitudes of the second band.
        model: Expected powers, noise included, and cross spectrum: |cross|^2 < power1 power2.

    Returns:
        Ln probability density of the real and imaginary parts of all amplitudes, fully normalised.

    Raises:
        ValueError: If the shapes do not match.

    References:
        Goodman (1963), Annals of Mathematical Statistics 34, 152; Whittle (1953), Ark. Mat. 2, 423.
    """
    real1, imaginary1, real2, imaginary2, model1, model2, model_real, model_imaginary = matched(
        amplitude1=jnp.real(amplitude1),
        imaginary1=jnp.imag(amplitude1),
        amplitude2=jnp.real(amplitude2),
        imaginary2=jnp.imag(amplitude2),
        **_real_parts(model, "model "),
    )
    gain_real, gain_imaginary, residual = _regression(model1, model2, model_real, model_imaginary)
    rest_real = real2 - (gain_real * real1 - gain_imaginary * imaginary1)
    rest_imaginary = imaginary2 - (gain_real * imaginary1 + gain_imaginary * real1)
    first = (real1**2 + imaginary1**2) / model1 + jnp.log(model1)
    second = (rest_real**2 + rest_imaginary**2) / residual + jnp.log(residual)
    return -(first + second + 2.0 * math.log(math.pi)).sum()


def _real_parts(matrix: SpectralMatrix, prefix: str) -> dict[str, Array]:
    """The four real numbers of a spectral matrix, named for messages."""
    return {
        f"{prefix}power1": jnp.asarray(matrix.power1),
        f"{prefix}power2": jnp.asarray(matrix.power2),
        f"{prefix}cross": jnp.real(matrix.cross),
        f"{prefix}cross (imaginary)": jnp.imag(matrix.cross),
    }


def _regression(power1: Array, power2: Array, real: Array, imaginary: Array) -> tuple[Array, Array, Array]:
    """Complex gain of the second band on the first, and the power of the second that it leaves."""
    gain_real, gain_imaginary = real / power1, imaginary / power1
    return gain_real, gain_imaginary, power2 - (gain_real * real + gain_imaginary * imaginary)
