"""Kernels that imitate a smooth spectrum, such as a bending power law, by a sum of broad components.

Components stand at geometrically spaced frequencies; their strengths solve the linear system that makes the sum equal
to the spectrum at those frequencies. Between them the sum ripples: ask `approximation_error` how much.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.likelihoods.gaussian_process.kernels import Kernel, make_kernel

Spectrum = Callable[[Float[Array, " n"]], Float[Array, " n"]]
Basis = Literal["SHO", "DRWCelerite"]


def approximate_spectrum(
    spectrum: Spectrum,
    *,
    freq_min: float,
    freq_max: float,
    n_components: int = 20,
    basis: Basis = "SHO",
    margin: float = 20.0,
) -> Kernel:
    """Kernel whose spectrum is close to a given one, in absolute units.

    With `"SHO"` a component is an oscillator of quality 1 / sqrt(2), power 1 / (1 + (f / f_j)^4): two numbers of state,
    for spectra no steeper than f^-4. With `"DRWCelerite"` it is 1 / (1 + (f / f_j)^6): three, no steeper than f^-6.
    Outside the band, margins included, the sum is flat below and falls as f^-4 (f^-6) above.

    Args:
        spectrum: One-sided spectrum, a positive function of positive frequencies [Hz]; parameters bound beforehand.
        freq_min: Lowest frequency of the band [Hz], one over the duration (static).
        freq_max: Highest frequency of the band [Hz], one over twice the shortest step (static).
        n_components: Components, 2 or more (static).
        basis: `"SHO"` or `"DRWCelerite"` (static).
        margin: The components reach from freq_min / margin to freq_max margin (static), so that leakage and aliases
            are imitated too.

    Raises:
        ValueError: If the band is empty, `n_components` below 2, `margin` below 1, or the basis neither of the two.

    References:
        Lefkir et al. (2025), MNRAS 539, 1775.
    """
    if basis not in get_args(Basis):
        raise ValueError(f"basis must be one of {get_args(Basis)}, got {basis!r}")
    if not 0 < freq_min < freq_max:
        raise ValueError(f"freq_min and freq_max must be positive and increasing, got {freq_min!r} and {freq_max!r}")
    if n_components < 2 or not margin >= 1:
        raise ValueError(f"n_components must be 2 or more, margin 1 or more, got {n_components!r} and {margin!r}")
    host_freq = np.geomspace(freq_min / margin, freq_max * margin, n_components)
    order = 4 if basis == "SHO" else 6
    host_matrix = 1.0 / (1.0 + (host_freq[:, None] / host_freq) ** order)
    freq = jnp.asarray(host_freq, jnp.result_type(float))
    # In units of the spectrum itself, which spans more decades than float32 resolves.
    log_power = jnp.log(spectrum(freq))
    ratio = jnp.exp(log_power - log_power[:, None])
    matrix = jnp.asarray(host_matrix, log_power.dtype) * ratio
    peaks = jnp.exp(log_power) * jnp.linalg.solve(matrix, jnp.ones_like(log_power))
    if basis == "SHO":
        return make_kernel(oscillators=(peaks * freq * (math.pi / math.sqrt(8.0)), freq, math.sqrt(0.5)))
    part, width = peaks * freq * (math.pi / 6.0), math.pi * freq
    return make_kernel(
        exponentials=(part, 2.0 * width),
        rotations=(part, math.sqrt(3.0) * part, width, (0.5 * math.sqrt(3.0)) * freq),
    )


def approximation_error(
    kernel: Kernel, spectrum: Spectrum, *, freq_min: float, freq_max: float, n_freq: int = 500
) -> Float[Array, ""]:
    """Largest relative difference between a kernel's spectrum and another over a band.

    Args:
        kernel: The kernel.
        spectrum: One-sided spectrum, a function of positive frequencies [Hz].
        freq_min: Lowest frequency [Hz] (static).
        freq_max: Highest frequency [Hz] (static).
        n_freq: Frequencies compared, evenly spaced in their logarithm (static).

    Returns:
        Largest |kernel's power / power - 1|.
    """
    freq = jnp.asarray(np.geomspace(freq_min, freq_max, n_freq), jnp.result_type(float))
    return jnp.abs(kernel.spectrum(freq) / spectrum(freq) - 1.0).max()
