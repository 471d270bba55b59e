"""Variability in a band of frequencies, and the noise that is taken off it."""

from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eagleray.records import AnyArray, Estimate, Norm, PowerSpectrum
from eagleray.summaries.spectra import square_root

_GROUP = 4
"""Neighbouring powers averaged for the error of a single periodogram, as in Stingray."""


class BandVariability(NamedTuple):
    """Variability in a band of frequencies.

    Attributes:
        rms: Root mean square, its error by linear propagation; NaN where the variance is negative.
        variance: Power integrated over the band, noise taken off; of either sign.
    """

    rms: Estimate
    variance: Estimate


def poisson_noise_level(
    norm: Norm,
    *,
    rate: Float[AnyArray, "*shape"] | float | None = None,
    n_photons: Float[AnyArray, "*shape"] | float | None = None,
    background_rate: Float[AnyArray, "*shape"] | float = 0.0,
) -> Float[Array, "*shape"]:
    """Power expected of Poisson counting alone, without dead time: Stingray's `poisson_level`.

    Args:
        norm: "leahy" (2), "frac" (2 rate / (rate - background_rate)^2), "abs" (2 rate) or "none" (n_photons).
        rate: Mean count rate [counts/s], background included; for "frac" and "abs".
        n_photons: Mean counts in a segment; for "none".
        background_rate: Mean rate of the background [counts/s].

    Raises:
        ValueError: If `norm` is none of the four, or what it needs is missing.
    """
    if norm not in get_args(Norm):
        raise ValueError(f"norm must be one of {get_args(Norm)}, got {norm!r}")
    if norm == "leahy":
        return jnp.asarray(2.0)
    if norm == "none":
        if n_photons is None:
            raise ValueError("n_photons must be given for norm 'none', got None")
        return jnp.asarray(n_photons)
    if rate is None:
        raise ValueError(f"rate must be given for norm {norm!r}, got None")
    if norm == "abs":
        return 2.0 * jnp.asarray(rate)
    return 2.0 * jnp.asarray(rate) / (jnp.asarray(rate) - background_rate) ** 2


def band_rms(
    spectrum: PowerSpectrum,
    low: Float[Array, ""] | float,
    high: Float[Array, ""] | float,
    *,
    noise: Float[Array, " n_freq"] | Float[Array, ""] | float | None = None,
    stingray_compat: bool = False,
) -> BandVariability:
    """Rms of the powers whose frequencies lie in a band, Stingray's `compute_rms`.

    Args:
        spectrum: Powers in norm "frac" (rms as a fraction of the mean) or "abs" (rms in counts/s), with their widths.
        low: Lower end of the band [Hz].
        high: Upper end of the band [Hz]. Powers count wholly where low <= freq <= high.
        noise: Noise level, scalar or (n_freq,), in the norm of the spectrum; by default that of the spectrum.
        stingray_compat: Give zero rms and zero error where the variance is negative.

    Returns:
        Rms and variance. The error of a single periodogram (m = 1) is taken from averages of four neighbouring
        powers. Errors are those of the powers, noise included; for few powers they are rough.

    Raises:
        ValueError: If the norm has no rms, or the spectrum has neither widths nor noise where they are needed.
    """
    width, noise = _requirements(spectrum, noise)
    freq, power = jnp.asarray(spectrum.freq), jnp.asarray(spectrum.power)
    m = jnp.asarray(spectrum.m, power.dtype)
    inside = (freq >= low) & (freq <= high)
    weight = inside.astype(power.dtype) * width
    variance = (weight * (power - noise)).sum()
    error = square_root((weight**2 * power**2 / m).sum())
    error = jnp.where((m == 1).all() & (inside.sum() > _GROUP), _single_error(power, width, inside), error)
    return _variability(variance, error, stingray_compat)


def _single_error(power: Array, width: Array, inside: Array) -> Array:
    """Error of an integral over single periodogram powers, from averages of `_GROUP` neighbours."""
    n_inside = inside.sum()
    place = jnp.cumsum(inside) - 1
    whole = inside & (place < n_inside // _GROUP * _GROUP)
    n_groups = power.size // _GROUP + 1
    group = jnp.where(whole, place // _GROUP, n_groups)
    integral = jax.ops.segment_sum(jnp.where(whole, power * width, 0.0), group, num_segments=n_groups)
    n_whole = jnp.maximum(whole.sum(), 1)
    return square_root((integral**2).sum() / _GROUP) * (n_inside / n_whole).astype(power.dtype)


def _variability(variance: Array, error: Array, stingray_compat: bool) -> BandVariability:
    """Rms with its error from a variance with its error."""
    positive = variance > 0
    invalid = 0.0 if stingray_compat else jnp.nan
    safe = jnp.sqrt(jnp.where(positive, variance, 1.0))
    rms = Estimate(jnp.where(positive, safe, invalid), jnp.where(positive, 0.5 / safe * error, invalid))
    return BandVariability(rms=rms, variance=Estimate(variance, error))


def integrated_power(
    spectrum: PowerSpectrum,
    low: Float[Array, ""] | float,
    high: Float[Array, ""] | float,
    *,
    noise: Float[Array, " n_freq"] | Float[Array, ""] | float | None = None,
) -> Estimate:
    """Power integrated over a band, a bin on its edge counted by the fraction inside.

    Stingray's `integrate_power_in_frequency_range` for bands within the spectrum. (Where the band reaches beyond it,
    Stingray multiplies the outermost power by more than one; where it lies within one bin, it takes too much.)

    Args:
        spectrum: Powers in any norm, with their widths.
        low: Lower end of the band [Hz].
        high: Upper end of the band [Hz].
        noise: Noise level, scalar or (n_freq,), in the norm of the spectrum; by default that of the spectrum.

    Returns:
        The integral, noise taken off, and its error.

    Raises:
        ValueError: If the spectrum has neither widths nor noise where they are needed.
    """
    width, noise = _requirements(spectrum, noise, rms=False)
    freq, power = jnp.asarray(spectrum.freq), jnp.asarray(spectrum.power)
    weight = jnp.clip(jnp.minimum(high, freq + 0.5 * width) - jnp.maximum(low, freq - 0.5 * width), 0.0)
    error = jnp.asarray(spectrum.power_error)
    return Estimate((weight * (power - noise)).sum(), square_root(((weight * error) ** 2).sum()))


def _requirements(
    spectrum: PowerSpectrum, noise: Float[Array, "*shape"] | float | None, *, rms: bool = True
) -> tuple[Array, Array]:
    """Widths and noise level of a spectrum."""
    if rms and spectrum.norm not in ("frac", "abs"):
        raise ValueError(f"spectrum.norm must be 'frac' or 'abs' for an rms, got {spectrum.norm!r}")
    if spectrum.width is None:
        raise ValueError("spectrum.width must be given for an integral, got None")
    if noise is None and spectrum.noise is None:
        raise ValueError("noise must be given for a spectrum that does not state it, got None")
    level = spectrum.noise if noise is None else noise
    return jnp.asarray(spectrum.width), jnp.asarray(level)
