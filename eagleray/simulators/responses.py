"""Impulse responses, their transfer functions, and light curves seen through them.

A response is an array of weights: entry j is the part of the emission that comes j bins after its cause, so that its
sum is the reprocessed flux for a steady flux of one.
"""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float
from scipy.fft import next_fast_len

Scalar = Float[Array, ""]
ConvolutionMode = Literal["same", "filtered", "full"]


def simple_response(intensity: Scalar, *, dt: float, start: float = 0.0, width: float = 1000.0) -> Float[Array, " n"]:
    """Constant response on whole bins; Stingray's `simple_ir`.

    Args:
        intensity: Weight of each bin.
        dt: Bin width [s].
        start: Lag at which it begins [s], rounded down to whole bins (static).
        width: Its length [s], rounded down to whole bins (static).

    Returns:
        (int(start / dt) + int(width / dt),) weights.

    Raises:
        ValueError: If it has no bins (Stingray returns an empty array, its issue 851).
    """
    n_zeros, n_ones = int(start / dt), int(width / dt)
    if n_ones < 1:
        raise ValueError(f"width must be at least one bin of {dt} s, got {width!r}")
    return intensity * jnp.concatenate(
        [jnp.zeros_like(intensity, shape=n_zeros), jnp.ones_like(intensity, shape=n_ones)]
    )


def relativistic_response(
    *,
    dt: float,
    t1: float = 3.0,
    t2: float = 4.0,
    t3: float = 10.0,
    p1: Scalar,
    p2: Scalar,
    rise: Scalar,
    decay: Scalar,
    stingray: bool = False,
) -> Float[Array, " n"]:
    """Two-peaked response of a relativistic disc; Stingray's `relativistic_ir`, whose defaults are 1, 1.4, 0.6, 0.1.

    Rates `rise` and `decay` are per bin, not per second, as in Stingray.

    Args:
        dt: Bin width [s].
        t1: Lag of the primary peak [s] (static).
        t2: Lag of the secondary peak [s] (static).
        t3: End [s] (static).
        p1: Height of the primary peak.
        p2: Height of the secondary peak.
        rise: Rate of the exponential rise between the peaks [1/bin].
        decay: Rate of the exponential decay after the secondary peak [1/bin].
        stingray: Let the decay start from one at a lag of 4 s whatever `t2` is, as Stingray does. Otherwise it starts
            from one at `t2` (static).

    Returns:
        (n,) weights.

    Raises:
        ValueError: If the times are not 0 <= t1 < t2 < t3.
    """
    if not 0 <= t1 < t2 < t3:
        raise ValueError(f"times must satisfy 0 <= t1 < t2 < t3, got {t1!r}, {t2!r}, {t3!r}")
    dtype = p1.dtype
    rising = jnp.asarray(np.linspace(t1 / dt, t2 / dt, int((t2 - t1) / dt)), dtype)
    falling = jnp.asarray(np.linspace(t2 / dt, t3 / dt, int((t3 - t2) / dt)) - (4.0 if stingray else t2) / dt, dtype)
    exponent = rise * rising
    # Stingray divides by the largest value afterwards, which overflows for fine bins.
    second = (p2 - p1) * jnp.exp(exponent - exponent.max()) + p1
    return jnp.concatenate([jnp.zeros(int(t1 / dt), dtype), p1[None], second, jnp.exp(-decay * falling)])


def top_hat_response(*, delay: Scalar, width: Scalar, intensity: Scalar, n: int, dt: float) -> Float[Array, " n"]:
    """Constant response between delay - width / 2 and delay + width / 2, with exact fractions of bins.

    Args:
        delay: Mean lag [s].
        width: Length [s].
        intensity: Sum of the weights.
        n: Number of bins (static).
        dt: Bin width [s].

    Returns:
        (n,) weights, continuous and differentiable in the parameters.

    References:
        Uttley et al. (2014), A&ARv 22, 72, section 4.1: top-hat responses and their lags.
    """
    return intensity * _binned(lambda lag: jnp.clip((lag - delay) / width + 0.5, 0.0, 1.0), n, dt, delay.dtype)


def gaussian_response(*, delay: Scalar, width: Scalar, intensity: Scalar, n: int, dt: float) -> Float[Array, " n"]:
    """Gaussian response.

    Args:
        delay: Mean lag [s].
        width: Standard deviation [s].
        intensity: Sum of the weights, including what lies outside the n bins.
        n: Number of bins (static).
        dt: Bin width [s].

    Returns:
        (n,) weights.
    """
    return intensity * _binned(
        lambda lag: 0.5 * (1.0 + jax.lax.erf((lag - delay) * (math.sqrt(0.5) / width))), n, dt, delay.dtype
    )


def exponential_response(*, delay: Scalar, width: Scalar, intensity: Scalar, n: int, dt: float) -> Float[Array, " n"]:
    """Response that starts at a lag and decays exponentially.

    Args:
        delay: First lag [s].
        width: Decay time [s].
        intensity: Sum of the weights, including what lies outside the n bins.
        n: Number of bins (static).
        dt: Bin width [s].

    Returns:
        (n,) weights.
    """
    return intensity * _binned(lambda lag: 1.0 - jnp.exp(-jnp.maximum(lag - delay, 0.0) / width), n, dt, delay.dtype)


def thermal_response(
    *,
    inner_delay: Scalar,
    outer_delay: Scalar,
    sin_inclination: Scalar,
    energy_ratio: Scalar,
    intensity: Scalar,
    n: int,
    dt: float,
    n_rings: int = 128,
) -> Float[Array, " n"]:
    """Thermal reverberation: a flat disc, heated by a central source, answers in the light of its black bodies.

    The ring at light travel time a = r / c has temperature T ~ (L / a^3)^(1/4), delay a (1 + sin i cos phi) at azimuth
    phi, and the weight a^2 dln(a) dB/dT dT/dL: what a small flare adds to the flux at photon energy E, with
    x = E / kT = energy_ratio (a / inner_delay)^(3/4). Shares of a ring in each bin are exact (an arcsine law); rings
    are summed in equal steps of the logarithm of the radius.

    Args:
        inner_delay: Light travel time to the inner radius [s].
        outer_delay: Light travel time to the outer radius [s].
        sin_inclination: Sine of the inclination, above 0 to 1; 0 is face-on, where rings answer at once.
        energy_ratio: Photon energy over kT at the inner radius.
        intensity: Sum of the weights, including what lies outside the n bins.
        n: Number of bins (static).
        dt: Bin width [s].
        n_rings: Number of rings (static).

    Returns:
        (n,) weights.

    References:
        Cackett, Horne & Winkler (2007), MNRAS 380, 669, equations 5-7 and 10.
    """
    dtype = inner_delay.dtype
    step = (jnp.arange(n_rings, dtype=dtype) + 0.5) / n_rings
    ring = inner_delay * jnp.exp(step * (jnp.log(outer_delay) - jnp.log(inner_delay)))
    log_ratio = jnp.log(ring) - jnp.log(inner_delay)
    x = energy_ratio * jnp.exp(0.75 * log_ratio)
    # dB/dT ~ x e^x / (e^x - 1)^2 / T at fixed E, and dT/dL ~ T.
    black_body = x * jnp.exp(-x) / jnp.expm1(-x) ** 2
    weight = jnp.exp(2.0 * log_ratio) * black_body
    weight = weight / weight.sum()

    def cumulative(lag: Array) -> Array:
        score = (lag[:, None] / ring[None] - 1.0) / sin_inclination
        inside = jnp.abs(score) < 1.0
        share = 0.5 + jnp.arcsin(jnp.where(inside, score, 0.0)) / math.pi
        return jnp.sum(weight[None] * jnp.where(inside, share, (score > 0).astype(dtype)), -1)

    return intensity * _binned(cumulative, n, dt, dtype)


def with_direct(response: Float[Array, " n"]) -> Float[Array, " n"]:
    """Add direct emission of weight one, without lag.

    Args:
        response: (n,) weights of the reprocessed emission.

    Returns:
        (n,) weights.
    """
    return response + (jnp.arange(response.shape[0]) == 0).astype(response.dtype)


def transfer_function(response: Float[Array, " n"], n_bins: int) -> Complex[Array, " n_freq"]:
    """Transfer function of a response: its Fourier transform.

    Args:
        response: (n,) weights, n <= n_bins.
        n_bins: Bins of the light curve whose frequencies are wanted (static).

    Returns:
        (n_bins // 2,) complex transfer function at `fourier_frequencies(n_bins, dt)`. Multiply a spectrum by its
        squared size to get the spectrum of the reprocessed light curve; its phase is minus the phase lag of that
        light curve.

    Raises:
        ValueError: If the response is longer than the light curve.

    References:
        Uttley et al. (2014), A&ARv 22, 72, section 4.1.
    """
    if response.shape[0] > n_bins:
        raise ValueError(f"response must have at most n_bins = {n_bins} entries, got {response.shape[0]}")
    return jnp.fft.rfft(response, n_bins)[1:]


def response_lag(transfer: Complex[Array, " n_freq"]) -> Float[Array, " n_freq"]:
    """Phase by which the reprocessed light curve lags its cause.

    Args:
        transfer: (n_freq,) transfer function.

    Returns:
        (n_freq,) phase lag [rad], in (-pi, pi]; positive when the reprocessed light curve is late. As the band of
        interest with its cause as the reference, Stingray's `AveragedCrossspectrum` gives the same sign.
    """
    return -jnp.angle(transfer)


def convolve(
    series: Float[Array, " n"], response: Float[Array, " m"], mode: ConvolutionMode = "same"
) -> Float[Array, " n_out"]:
    """See a light curve through a response; Stingray's `Simulator.simulate(s, h, mode)`.

    Args:
        series: (n,) light curve.
        response: (m,) weights on the same bins.
        mode: `"same"`: the n bins of the light curve, the first m - 1 of which lack what came before; `"filtered"`:
            only the n - m + 1 complete ones; `"full"`: all n + m - 1 (static).

    Returns:
        Light curve of n, n - m + 1 or n + m - 1 bins.

    Raises:
        ValueError: If the mode is none of these, or too short a light curve is filtered.
    """
    n, m = series.shape[0], response.shape[0]
    bounds = {"same": (0, n), "filtered": (m - 1, n), "full": (0, n + m - 1)}
    if mode not in bounds:
        raise ValueError(f'mode must be "same", "filtered" or "full", got {mode!r}')
    if mode == "filtered" and m > n:
        raise ValueError(f"response must be at most as long as the light curve ({n} bins), got {m}")
    size = next_fast_len(n + m - 1, real=True)
    first, last = bounds[mode]
    return jnp.fft.irfft(jnp.fft.rfft(series, size) * jnp.fft.rfft(response, size), size)[first:last]


def energy_averaged_response(
    matrix: Float[Array, "n_energies n_lags"],
    *,
    e_min: float,
    e_max: float,
    energy_start: float = 0.0,
    energy_step: float = 1.0,
) -> Float[Array, " n_lags"]:
    """Response of a band, from a matrix of energies and lags; Stingray's `TransferFunction.time_response`.

    Stingray counts the bounds from energy zero in steps, adding `estart` to the row number, checks them against the
    number of lags, and leaves out the last row by default; here row k holds energies from energy_start +
    k energy_step on.

    Args:
        matrix: (n_energies, n_lags) response at each energy, lowest first.
        e_min: Lower edge of the band [keV] (static).
        e_max: Upper edge of the band [keV] (static).
        energy_start: Lower edge of the first row [keV] (static).
        energy_step: Width of a row [keV] (static).

    Returns:
        (n_lags,) mean over the rows that begin in the band.

    Raises:
        ValueError: If the band holds no row of the matrix or reaches beyond it.
    """
    first = round((e_min - energy_start) / energy_step)
    last = round((e_max - energy_start) / energy_step)
    if not 0 <= first < last <= matrix.shape[0]:
        raise ValueError(
            f"e_min and e_max must span rows of the matrix, 0 <= {first} < {last} <= {matrix.shape[0]} does not hold"
        )
    return matrix[first:last].mean(0)


def lag_averaged_response(matrix: Float[Array, "n_energies n_lags"]) -> Float[Array, " n_energies"]:
    """Mean response at each energy; Stingray's `TransferFunction.energy_response`.

    Args:
        matrix: (n_energies, n_lags) response at each energy.

    Returns:
        (n_energies,) mean over lags.
    """
    return matrix.mean(1)


def _binned(cumulative: Callable[[Array], Array], n: int, dt: float, dtype: jnp.dtype) -> Array:
    """Weights of bins centred on the lags 0, dt, 2 dt, ... of a response given by its running integral."""
    edges = jnp.asarray((np.arange(n + 1) - 0.5) * dt, dtype)
    return jnp.diff(cumulative(edges))
