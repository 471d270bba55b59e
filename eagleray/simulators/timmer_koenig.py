"""Gaussian time series with a given power spectrum.

Throughout eagleray a model spectrum is one-sided and given at the positive Fourier frequencies of the series,
`fourier_frequencies(n, dt)`, in units in which its integral is the variance, so that a periodogram normalised as
2 dt |F|^2 / n has it as expectation at every frequency.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64
from scipy.fft import next_fast_len

from eagleray.records import Key
from eagleray.simulators.normals import complex_normals


def fourier_frequencies(n: int, dt: float) -> Float64[np.ndarray, " n_freq"]:
    """Positive Fourier frequencies of a series of n bins, Nyquist included [Hz], shape (n // 2,)."""
    return np.fft.rfftfreq(n, dt)[1:]


def long_length(n_bins: int, red_noise: float) -> int:
    """Length of a series from which a window is cut: about `red_noise` times as long, and quick to transform.

    Args:
        n_bins: Bins of the window.
        red_noise: How many times longer than the window the series is to be; variations slower than the window then
            leak into it, as they do in nature (Uttley, McHardy & Papadakis 2002, MNRAS 332, 231, section 3.2).

    Raises:
        ValueError: If `red_noise` is below one.
    """
    if not red_noise >= 1:
        raise ValueError(f"red_noise must be at least 1, got {red_noise!r}")
    fast: Any = next_fast_len(int(np.ceil(n_bins * red_noise)), real=True)  # SciPy's hint says None
    return fast


def process_variance(power: Float[Array, " n_freq"], n: int, dt: float) -> Float[Array, ""]:
    """Expected variance of a series of n bins with this one-sided spectrum.

    The Nyquist frequency, where there is one, stands for half as much of the spectrum as its neighbours.
    """
    total = power.sum() - (0.5 * power[-1] if n % 2 == 0 else 0.0)
    return total / (n * dt)


def gaussian_process(key: Key, power: Float[Array, " n_freq"], n: int, dt: float) -> Float[Array, " n"]:
    """Draw a periodic Gaussian series of zero mean with a given spectrum.

    Each Fourier amplitude is complex normal with the variance that the spectrum asks for, so that powers scatter as
    chi-squared with two degrees of freedom and the variance of a realisation scatters too ("process" normalisation;
    a realisation is not rescaled to its expected variance). At the Nyquist frequency, for even n, the amplitude is
    real.

    Args:
        key: Typed PRNG key; consumed.
        power: (n // 2,) one-sided spectrum at `fourier_frequencies(n, dt)`, in the series' units squared per hertz.
        n: Number of bins of the series (static).
        dt: Bin width [s].

    Returns:
        (n,) series.

    Raises:
        ValueError: If `power` has not n // 2 entries.

    References:
        Timmer & Koenig (1995), A&A 300, 707, section 3.
    """
    n_freq = n // 2
    if power.shape != (n_freq,):
        raise ValueError(f"power must have shape ({n_freq},) for a series of {n} bins, got {power.shape}")
    amplitude = jnp.sqrt(power * (n / (4.0 * dt)))  # |F|^2 = P n / (2 dt), shared by the two parts
    # The barrier keeps the padding out of the loop that draws the numbers, which XLA then vectorises on a CPU: five
    # times faster. Zero frequency gets a number too, and no amplitude.
    amplitude = jax.lax.optimization_barrier(jnp.pad(amplitude, (1, 0)))
    normal_real, normal_imaginary = complex_normals(key, n_freq + 1, power.dtype)
    weight_real, weight_imaginary = np.ones((2, n_freq + 1), power.dtype)
    if n % 2 == 0:
        weight_real[-1], weight_imaginary[-1] = np.sqrt(2.0), 0.0
    real, imaginary = normal_real * amplitude * weight_real, normal_imaginary * amplitude * weight_imaginary
    return jnp.fft.irfft(jax.lax.complex(real, imaginary), n)
