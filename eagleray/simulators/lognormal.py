"""Log-normal rates: the exponential of a Gaussian process, with the spectrum of the *rate* prescribed.

Accretion rates vary log-normally (Uttley, McHardy & Vaughan 2005, MNRAS 359, 345). Exponentiating changes the
spectrum, so the spectrum of the logarithm has to be worked out from that of the rate, not taken to be the same.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from eagleray.records import Key
from eagleray.simulators.timmer_koenig import gaussian_process, process_variance

# A positive process of unit mean has no covariance below -1.
_LOWEST_COVARIANCE = -0.9
_N_SCALE_STEPS = 2


def log_spectrum(power: Float[Array, " n_freq"], n: int, dt: float) -> Float[Array, " n_freq"]:
    """Spectrum of the logarithm of a log-normal rate whose fractional spectrum is given.

    For a log-normal process of unit mean with autocovariance c(t), its logarithm has autocovariance ln(1 + c(t)).
    Not every spectrum belongs to a log-normal process: covariances below -1 are raised and powers that would have to be
    negative become zero. Both matter for strong variability over the whole series,
    the more the steeper the spectrum is at low frequencies: the realised rms then exceeds the one asked for.

    Args:
        power: (n // 2,) fractional spectrum of the rate at `fourier_frequencies(n, dt)` [(rms/mean)^2/Hz].
        n: Number of bins of the periodic series (static).
        dt: Bin width [s].

    Returns:
        (n // 2,) spectrum of the logarithm of the rate [1/Hz].

    References:
        Uttley, McHardy & Vaughan (2005), MNRAS 359, 345, appendix D.
    """
    covariance = jnp.fft.irfft(jnp.pad(power / (2.0 * dt), (1, 0)), n)
    # A periodic logarithm of zero mean lifts the whole covariance by exp(-level); find the scale that undoes it.
    scale = jnp.ones_like(power[0])
    for _ in range(_N_SCALE_STEPS):
        scale = jnp.exp(_log_covariance(scale * covariance).mean())
    log_power = jnp.fft.rfft(_log_covariance(scale * covariance))[1:].real * (2.0 * dt)
    return jnp.maximum(log_power, 0.0)


def _log_covariance(covariance: Float[Array, " n"]) -> Float[Array, " n"]:
    """Autocovariance of the logarithm of a log-normal process of unit mean."""
    return jnp.log1p(jnp.maximum(covariance, _LOWEST_COVARIANCE))


def log_normal_rate(
    key: Key, power: Float[Array, " n_freq"], mean: Float[Array, ""], n: int, dt: float
) -> Float[Array, " n"]:
    """Draw a log-normal rate with a given mean and fractional spectrum.

    Args:
        key: Typed PRNG key; consumed.
        power: (n // 2,) fractional spectrum of the rate at `fourier_frequencies(n, dt)` [(rms/mean)^2/Hz].
        mean: Mean rate of the process [counts/s].
        n: Number of bins of the periodic series (static).
        dt: Bin width [s].

    Returns:
        (n,) positive rate [counts/s].

    References:
        Uttley, McHardy & Vaughan (2005), MNRAS 359, 345, section 3 and appendix D.
    """
    log_power = log_spectrum(power, n, dt)
    log_rate = gaussian_process(key, log_power, n, dt)
    variance = process_variance(log_power, n, dt)
    return mean * jnp.exp(log_rate - 0.5 * variance)
