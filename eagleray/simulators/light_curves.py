"""Gaussian light curves with a given mean and rms: how "the rms" is meant, and Stingray's own recipe."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from eagleray.records import Key
from eagleray.simulators.timmer_koenig import gaussian_process, process_variance

Normalisation = Literal["process", "realised"]


def timmer_koenig_light_curve(
    key: Key,
    power: Float[Array, " n_freq"],
    *,
    mean: Float[Array, ""],
    rms: Float[Array, ""],
    n_bins: int,
    n_long: int,
    dt: float,
    normalisation: Normalisation = "process",
) -> Float[Array, " n_bins"]:
    """Draw a Gaussian light curve with a spectral shape, a mean and a fractional rms.

    With `normalisation="process"` the rms is that of the process: its expected variance over all frequencies of the
    long series is (mean rms)^2, and mean and variance of one light curve scatter around their expectations as
    they do in nature. With `"realised"` each light curve is shifted and stretched to exactly this mean and, when
    n_long == n_bins, exactly this rms, as Stingray does: its powers are then neither independent nor chi-squared, and a
    network trained on such draws is too sure of the rms.

    Args:
        key: Typed PRNG key; consumed.
        power: (n_long // 2,) spectral shape at `fourier_frequencies(n_long, dt)`, up to a factor.
        mean: Mean of the light curve, in any unit.
        rms: Fractional rms, sigma / mean.
        n_bins: Bins of the light curve (static).
        n_long: Bins of the series it is cut from, see `long_length` (static). The series is periodic and stationary, so
            that the first n_bins are as good as any.
        dt: Bin width [s].
        normalisation: `"process"` or `"realised"` (static).

    Returns:
        (n_bins,) light curve in the unit of the mean; it may be negative where the rms is large.

    Raises:
        ValueError: If the normalisation is neither, or n_long < n_bins.

    References:
        Timmer & Koenig (1995), A&A 300, 707; Uttley, McHardy & Papadakis (2002), MNRAS 332, 231, section 3.2.
    """
    if normalisation not in ("process", "realised"):
        raise ValueError(f'normalisation must be "process" or "realised", got {normalisation!r}')
    if n_long < n_bins:
        raise ValueError(f"n_long must be at least n_bins = {n_bins}, got {n_long}")
    series = gaussian_process(key, power, n_long, dt)
    if normalisation == "process":
        return mean + mean * rms * series[:n_bins] / jnp.sqrt(process_variance(power, n_long, dt))
    window = series[:n_bins]
    return mean + mean * rms * (window - window.mean()) / series.std()


def stingray_recipe(
    normals: Float[Array, "2 n_freq"],
    cut: Int[Array, ""],
    power: Float[Array, " n_freq"],
    *,
    mean: Float[Array, ""],
    rms: Float[Array, ""],
    n_bins: int,
    red_noise: int = 1,
) -> Float[Array, " n_bins"]:
    """Turn standard normal numbers into the light curve that Stingray's `Simulator.simulate` makes of them.

    Stingray's choices are kept, for comparison with it and for nothing else: the last Fourier amplitude is made real
    for odd lengths too and keeps half its power for even ones, the realisation's own rms is divided out, and a mean of
    zero makes `rms` absolute. The result is continuous, before Poisson noise.

    Args:
        normals: Real and imaginary parts in Stingray's drawing order, each at `rfftfreq(n_bins * red_noise, dt)[1:]`.
        cut: Index at which the window begins; 0 for `red_noise=1`.
        power: (n_bins * red_noise // 2,) spectral shape at those frequencies, up to a factor.
        mean: Mean counts per bin.
        rms: Fractional rms.
        n_bins: Bins of the light curve (static).
        red_noise: How many times longer the series is than the light curve (static).

    Returns:
        (n_bins,) light curve, in units of the mean.

    References:
        Stingray 2.3.2, `stingray.simulator.Simulator._timmerkoenig` and `_extract_and_scale`.
    """
    n_long = n_bins * red_noise
    last = jnp.arange(power.shape[0]) == power.shape[0] - 1
    amplitude = jnp.sqrt(0.5 * power)
    transform = jax.lax.complex(normals[0] * amplitude, jnp.where(last, 0.0, normals[1] * amplitude))
    series = jnp.fft.irfft(jnp.pad(transform, (1, 0)), n_long)
    window = jax.lax.dynamic_slice_in_dim(series, cut, n_bins)
    deviation = (window - window.mean()) / series.std() * rms
    return jnp.where(mean == 0, deviation, deviation * mean + mean)


def stingray_light_curve(
    key: Key,
    power: Float[Array, " n_freq"],
    *,
    mean: Float[Array, ""],
    rms: Float[Array, ""],
    n_bins: int,
    red_noise: int = 1,
) -> Float[Array, " n_bins"]:
    """Draw a light curve with the statistics of Stingray's `Simulator(..., poisson=False).simulate(...)`.

    Args:
        key: Typed PRNG key; consumed.
        power: (n_bins * red_noise // 2,) spectral shape at `rfftfreq(n_bins * red_noise, dt)[1:]`, up to a factor.
        mean: Mean counts per bin.
        rms: Fractional rms.
        n_bins: Bins of the light curve (static).
        red_noise: How many times longer the series is than the light curve (static).

    Returns:
        (n_bins,) light curve, in units of the mean.

    Raises:
        ValueError: If `power` has not n_bins * red_noise // 2 entries.

    References:
        Stingray 2.3.2, `stingray.simulator.Simulator`; its window begins between n_bins - 1 and
        n_bins * (red_noise - 1), never elsewhere.
    """
    n_freq = n_bins * red_noise // 2
    if power.shape != (n_freq,):
        raise ValueError(f"power must have shape ({n_freq},), got {power.shape}")
    key_normals, key_cut = jax.random.split(key)
    normals = jax.random.normal(key_normals, (2, n_freq), power.dtype)
    if red_noise == 1:
        cut = jnp.zeros((), jnp.int32)
    else:
        cut = jax.random.randint(key_cut, (), n_bins - 1, n_bins * (red_noise - 1) + 1)
    return stingray_recipe(normals, cut, power, mean=mean, rms=rms, n_bins=n_bins, red_noise=red_noise)
