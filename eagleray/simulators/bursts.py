"""Bursts and flares: an envelope, times red noise, times an oscillation, over a background.

Envelopes are one at their peak (unless said otherwise) and functions of time with scalar parameters.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from eagleray.records import Key
from eagleray.simulators.lognormal import log_normal_rate

Times = Float[Array, " n"]
Scalar = Float[Array, ""]


def gaussian_envelope(times: Times, *, peak_time: Scalar, width: Scalar) -> Times:
    """Gaussian flare; Stingray's `gaussian` mean function.

    Args:
        times: (n,) times [s].
        peak_time: Time of the peak [s].
        width: Standard deviation [s].

    Returns:
        (n,) envelope, 1 at the peak.
    """
    score = (times - peak_time) / width
    return jnp.exp(-0.5 * score * score)


def skew_gaussian_envelope(times: Times, *, peak_time: Scalar, rise: Scalar, fall: Scalar) -> Times:
    """Gaussian flare with different widths before and after its peak; Stingray's `skew_gaussian`.

    Args:
        times: (n,) times [s].
        peak_time: Time of the peak [s].
        rise: Standard deviation before the peak [s].
        fall: Standard deviation after the peak [s].

    Returns:
        (n,) envelope, 1 at the peak.
    """
    return gaussian_envelope(times, peak_time=peak_time, width=jnp.where(times > peak_time, fall, rise))


def exponential_envelope(times: Times, *, peak_time: Scalar, rise: Scalar, fall: Scalar) -> Times:
    """Exponential rise and decay; Stingray's `skew_exponential` with rise = 2 sig1^2 and fall = 2 sig2^2.

    Args:
        times: (n,) times [s].
        peak_time: Time of the peak [s].
        rise: e-folding time before the peak [s].
        fall: e-folding time after the peak [s].

    Returns:
        (n,) envelope, 1 at the peak.
    """
    return jnp.exp(-jnp.abs(times - peak_time) / jnp.where(times > peak_time, fall, rise))


def fred_envelope(times: Times, *, start: Scalar, peak_delay: Scalar, sharpness: Scalar) -> Times:
    """Fast rise, exponential decay; Stingray's `fred` with t0 = peak_delay, delta = -start, phi = sharpness.

    exp(-s (x + 1/x - 2)) with x = (t - start) / peak_delay; zero before the start, where Stingray's formula diverges.

    Args:
        times: (n,) times [s].
        start: Beginning of the burst [s].
        peak_delay: Time from the beginning to the peak [s].
        sharpness: Larger for narrower bursts; the decay time is peak_delay / sharpness.

    Returns:
        (n,) envelope, 1 at the peak.

    References:
        Norris et al. (2005), ApJ 627, 324, equation 1, with peak_delay = sqrt(tau_1 tau_2), sharpness =
        sqrt(tau_1 / tau_2).
    """
    one = jnp.ones_like(sharpness)
    return extended_fred_envelope(
        times, start=start, peak_delay=peak_delay, sharpness=sharpness, decay_power=one, rise_power=one
    )


def extended_fred_envelope(
    times: Times, *, start: Scalar, peak_delay: Scalar, sharpness: Scalar, decay_power: Scalar, rise_power: Scalar
) -> Times:
    """FRED with free sharpness of its rise and its decay.

    exp(2 s - (s x)^g - (s / x)^n) with x = (t - start) / peak_delay; the FRED for g = n = 1. With other powers the peak
    moves and is not exactly one. (QPOEstimation has s^n / x^n, the same.)

    Args:
        times: (n,) times [s].
        start: Beginning of the burst [s].
        peak_delay: Time scale of the burst [s].
        sharpness: Larger for narrower bursts.
        decay_power: Exponent g of the decay.
        rise_power: Exponent n of the rise.

    Returns:
        (n,) envelope.

    References:
        Huebner et al. (2022), ApJS 259, 32, section 3 (FRED-x).
    """
    delay = (times - start) / peak_delay
    begun = delay > 0
    log_delay = jnp.log(jnp.where(begun, delay, 1.0))
    log_sharpness = jnp.log(sharpness)
    # exp(88) is the largest float32; the envelope has vanished long before, but its gradient must not become inf * 0.
    decay = jnp.exp(jnp.minimum(decay_power * (log_sharpness + log_delay), 80.0))
    rise = jnp.exp(jnp.minimum(rise_power * (log_sharpness - log_delay), 80.0))
    return jnp.where(begun, jnp.exp(2.0 * sharpness - decay - rise), 0.0)


def wave_packet(
    times: Times, *, freq: Scalar, amplitude: Scalar, phase: Scalar, centre: Scalar, duration: Scalar
) -> Times:
    """Oscillation that comes and goes, as a factor on the rate.

    1 + a exp(-(t - c)^2 / (2 d^2)) cos(2 pi f (t - c) + phase).

    Phases are counted from the centre of the packet, so that float32 holds them to 1e-3 cycles within 1e4 cycles of it.

    Args:
        times: (n,) times [s].
        freq: Frequency [Hz].
        amplitude: Fractional amplitude, 0 to 1.
        phase: Phase at the centre [rad].
        centre: Centre of the packet [s].
        duration: Standard deviation of its envelope [s].

    Returns:
        (n,) factor, between 1 - amplitude and 1 + amplitude.
    """
    envelope = gaussian_envelope(times, peak_time=centre, width=duration)
    return 1.0 + amplitude * envelope * jnp.cos(2.0 * math.pi * freq * (times - centre) + phase)


def burst_rate(
    key: Key,
    envelope: Times,
    noise_power: Float[Array, " n_freq"],
    *,
    peak_rate: Scalar,
    background: Scalar,
    dt: float,
    oscillation: Times | None = None,
) -> Times:
    """Draw the count rate of a burst: background + peak_rate * envelope * noise * oscillation.

    The noise is log-normal with mean one and multiplies the envelope: it is strong where the burst is bright, so that
    the light curve is not stationary and its periodogram not what a stationary process would give.

    Args:
        key: Typed PRNG key; consumed.
        envelope: (n,) envelope of the burst.
        noise_power: (n // 2,) fractional spectrum of the noise at `fourier_frequencies(n, dt)` [(rms/mean)^2/Hz]; a
            stochastic QPO is a Lorentzian in it.
        peak_rate: Mean rate where the envelope is one [counts/s].
        background: Constant rate [counts/s].
        dt: Bin width [s].
        oscillation: (n,) factor such as `wave_packet`; none if not given.

    Returns:
        (n,) rate [counts/s].

    References:
        Huebner et al. (2022), ApJS 259, 32: QPOs in non-stationary light curves.
    """
    noise = log_normal_rate(key, noise_power, jnp.ones_like(peak_rate), envelope.shape[0], dt)
    burst = peak_rate * envelope * noise
    return background + (burst if oscillation is None else burst * oscillation)
