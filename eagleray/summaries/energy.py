"""Spectra over energy of what varies in a band of frequencies: lags, rms, covariance.

Each takes a set of channel light curves, cut into segments, and a reference. (The excess variance of channels is
`jax.vmap` of `eagleray.summaries.variability.excess_variance`.)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float

from eagleray.records import Estimate
from eagleray.summaries.cross import bias_of_squared_modulus
from eagleray.summaries.spectra import fourier_transform, positive_frequencies, square_root, squared_modulus

_TWO_PI = 2.0 * np.pi


class BandAverages(NamedTuple):
    """Means of |F|^2 and conj(F_channel) F_reference over segments and over a band, per segment in counts^2.

    Attributes:
        power: (n_channels,) powers of the channels.
        noise: (n_channels,) their Poisson noise.
        reference_power: (n_channels,) powers of the reference of each channel.
        reference_noise: (n_channels,) their Poisson noise.
        cross: (n_channels,) cross powers; noise in both channel and reference is taken off.
        freq: (n_channels,) mean frequency, weighted by the modulus of the cross spectrum [Hz].
        m: Powers averaged: segments times frequencies.
        n_freq: Frequencies in the band.
    """

    power: Float[Array, " n_channels"]
    noise: Float[Array, " n_channels"]
    reference_power: Float[Array, " n_channels"]
    reference_noise: Float[Array, " n_channels"]
    cross: Complex[Array, " n_channels"]
    freq: Float[Array, " n_channels"]
    m: Float[Array, ""]
    n_freq: Float[Array, ""]


def band_averages(
    channels: Float[Array, "n_channels n_segments n_bins"],
    reference: Float[Array, "n_segments n_bins"],
    dt: float,
    band: tuple[float, float],
    *,
    in_reference: Bool[np.ndarray, " n_channels"] | None = None,
    remove_channel: bool = True,
    stingray_compat: bool = False,
) -> BandAverages:
    """What the energy spectra are made of.

    Args:
        channels: (n_channels, n_segments, n_bins) counts per bin.
        reference: (n_segments, n_bins) counts per bin of the reference.
        dt: Bin width [s].
        band: Lowest frequency, and the one from which frequencies no longer count [Hz].
        in_reference: (n_channels,) whether the photons of each channel are also in the reference; default none.
        remove_channel: Take those photons out of the reference, channel by channel. Else they stay, and their noise is
            taken off the cross spectrum.
        stingray_compat: Leave noise that is in both channel and reference in the cross spectrum.

    Raises:
        ValueError: If shapes do not fit, or no frequency lies in the band.
    """
    if channels.ndim != 3 or channels.shape[1:] != reference.shape:
        raise ValueError(
            "channels must have shape (n_channels, n_segments, n_bins) and reference (n_segments, n_bins), got "
            f"{channels.shape} and {reference.shape}"
        )
    n_channels, n_segments, n_bins = channels.shape
    all_freq = positive_frequencies(n_bins, dt)
    chosen = np.flatnonzero((all_freq >= band[0]) & (all_freq < band[1]))
    if chosen.size == 0:
        raise ValueError(f"band must hold a frequency of {all_freq[0]:g} to {all_freq[-1]:g} Hz, got {band}")
    shared = np.zeros(n_channels, bool) if in_reference is None else np.asarray(in_reference, bool)
    if shared.shape != (n_channels,):
        raise ValueError(f"in_reference must have shape ({n_channels},), got {shared.shape}")
    removed = jnp.asarray(shared & remove_channel, channels.dtype)
    correlated = jnp.asarray(shared & (not remove_channel) & (not stingray_compat), channels.dtype)
    freq = jnp.asarray(all_freq[chosen], channels.dtype)
    reference_transform = fourier_transform(reference)[:, chosen]
    reference_counts = reference.sum(axis=1).mean()

    def one(counts: Array, removed: Array, correlated: Array) -> BandAverages:
        """Averages of one channel."""
        transform = fourier_transform(counts)[:, chosen]
        against = reference_transform - removed.astype(transform.dtype) * transform
        noise = counts.sum(axis=1).mean()
        # The transform is linear and so are the counts.
        product = (transform.conj() * against).mean(axis=0)
        cross = jax.lax.complex(product.real - correlated * noise, product.imag)
        weight = square_root(squared_modulus(cross))
        return BandAverages(
            power=squared_modulus(transform).mean(),
            noise=noise,
            reference_power=squared_modulus(against).mean(),
            reference_noise=reference_counts - removed * noise,
            cross=cross.mean(),
            freq=(weight * freq).sum() / weight.sum(),
            m=jnp.asarray(n_segments * chosen.size, channels.dtype),
            n_freq=jnp.asarray(chosen.size, channels.dtype),
        )

    stacked = jax.vmap(one)(channels, removed, correlated)
    return stacked._replace(m=stacked.m[0], n_freq=stacked.n_freq[0])


def _coherent_power(averages: BandAverages, stingray_compat: bool) -> tuple[Array, Array]:
    """|C|^2 without its bias, and what of a channel's power is coherent with the reference."""
    bias = bias_of_squared_modulus(
        averages.power,
        averages.reference_power,
        averages.noise,
        averages.reference_noise,
        averages.m,
        stingray_compat=stingray_compat,
    )
    squared = squared_modulus(averages.cross) - bias
    return squared, squared / (averages.reference_power - averages.reference_noise)


def lag_energy_spectrum(
    channels: Float[Array, "n_channels n_segments n_bins"],
    reference: Float[Array, "n_segments n_bins"],
    dt: float,
    band: tuple[float, float],
    *,
    in_reference: Bool[np.ndarray, " n_channels"] | None = None,
    remove_channel: bool = True,
    stingray_compat: bool = False,
) -> Estimate:
    """Time lag of each channel behind the reference [s], Stingray's `LagSpectrum`.

    Args:
        channels: (n_channels, n_segments, n_bins) counts per bin.
        reference: (n_segments, n_bins) counts per bin of the reference.
        dt: Bin width [s].
        band: Lowest frequency, and the one from which frequencies no longer count [Hz].
        in_reference: (n_channels,) whether the photons of each channel are also in the reference; default none.
        remove_channel: Take those photons out of the reference, channel by channel; the references then differ a
            little. Else they stay, their noise is taken off the cross spectrum, and errors are those of a common
            reference.
        stingray_compat: Do as Stingray: with `remove_channel=False` noise in both channel and reference stays in, which
            draws lags to zero; the bias of |C|^2 is neglected for m > 500.

    Returns:
        Lags and errors, each (n_channels,): the phase of the mean cross power over 2 pi times its mean frequency. The
        error is infinite where the coherence is zero.

    Raises:
        ValueError: If shapes do not fit, or no frequency lies in the band.

    References:
        Uttley et al. (2014), A&ARv 22, 72; Ingram (2019), MNRAS 489, 3927.
    """
    averages = band_averages(
        channels,
        reference,
        dt,
        band,
        in_reference=in_reference,
        remove_channel=remove_channel,
        stingray_compat=stingray_compat,
    )
    squared, _ = _coherent_power(averages, stingray_compat)
    raw = jnp.maximum(squared, 0.0) / (averages.power * averages.reference_power)
    known = raw > 0
    safe = jnp.where(known, raw, 1.0)
    independent = square_root(jnp.maximum(1.0 - safe, 0.0) / (2.0 * safe * averages.m))
    common = square_root(
        averages.reference_power
        / (2.0 * averages.m)
        * (
            averages.power / jnp.where(known, squared, 1.0)
            - 1.0 / (averages.reference_power - averages.reference_noise)
        )
    )
    error = jnp.where(_common_reference(channels, in_reference, remove_channel), common, independent)
    error = jnp.where(known, error, jnp.inf)
    to_seconds = 1.0 / (_TWO_PI * averages.freq)
    return Estimate(jnp.arctan2(averages.cross.imag, averages.cross.real) * to_seconds, error * to_seconds)


def _common_reference(channels: Array, in_reference: np.ndarray | None, remove_channel: bool) -> Array:
    """Whether each channel is within its reference."""
    if in_reference is None or remove_channel:
        return jnp.zeros(channels.shape[0], bool)
    return jnp.asarray(in_reference, bool)


def covariance_energy_spectrum(
    channels: Float[Array, "n_channels n_segments n_bins"],
    reference: Float[Array, "n_segments n_bins"],
    dt: float,
    band: tuple[float, float],
    *,
    fractional: bool = True,
    in_reference: Bool[np.ndarray, " n_channels"] | None = None,
    remove_channel: bool = True,
    stingray_compat: bool = False,
) -> tuple[Complex[Array, " n_channels"], Estimate]:
    """Covariance of each channel with the reference: the rms of what varies with it.

    Args:
        channels: (n_channels, n_segments, n_bins) counts per bin.
        reference: (n_segments, n_bins) counts per bin of the reference.
        dt: Bin width [s].
        band: Lowest frequency, and the one from which frequencies no longer count [Hz].
        fractional: Divide by the mean rate of each channel; else counts/s.
        in_reference: (n_channels,) whether the photons of each channel are also in the reference; default none.
        remove_channel: See `lag_energy_spectrum`.
        stingray_compat: Give Stingray's errors: sqrt(P_1 P_2 / m) for |C| of independent channels, an upper limit that
            is reached at coherence 1, and no bias for m > 500. The covariance itself is Stingray's either way
            (`ComplexCovarianceSpectrum`, `CovarianceSpectrum`), which here takes the shared noise off.

    Returns:
        The (n_channels,) complex covariance, whose phase is that of the channel behind the reference; and its modulus
        with the error. NaN where the reference's power is below its noise.

    Raises:
        ValueError: If shapes do not fit, or no frequency lies in the band.

    References:
        Wilkinson & Uttley (2009), MNRAS 397, 666; Mastroserio, Ingram & van der Klis (2018), MNRAS 475, 4027.
    """
    averages = band_averages(channels, reference, dt, band, in_reference=in_reference, remove_channel=remove_channel)
    squared, coherent = _coherent_power(averages, stingray_compat)
    product = averages.power * averages.reference_power
    independent = product / averages.m if stingray_compat else 0.5 * (product + jnp.abs(squared)) / averages.m
    common = averages.reference_power / (2.0 * averages.m) * (averages.power - coherent)
    variance = jnp.where(_common_reference(channels, in_reference, remove_channel), common, independent)
    duration = channels.shape[-1] * dt
    # 2/T turns counts^2 into (counts/s)^2/Hz; the band is n_freq/T wide.
    width = averages.n_freq / duration
    excess = averages.reference_power - averages.reference_noise
    known = excess > 0
    scale = square_root(2.0 * width / duration / jnp.where(known, excess, 1.0))
    scale = scale / (averages.noise / duration) if fractional else scale
    modulus = square_root(squared_modulus(averages.cross))
    covariance = averages.cross * scale.astype(averages.cross.dtype)
    return (
        jnp.where(known, covariance, jnp.asarray(jnp.nan, covariance.dtype)),
        Estimate(jnp.where(known, modulus * scale, jnp.nan), jnp.where(known, square_root(variance) * scale, jnp.nan)),
    )


def rms_energy_spectrum(
    channels: Float[Array, "n_channels n_segments n_bins"],
    dt: float,
    band: tuple[float, float],
    *,
    fractional: bool = True,
    stingray_compat: bool = False,
) -> tuple[Estimate, Float[Array, " n_channels"]]:
    """Rms of each channel in a band of frequencies, Poisson noise taken off: Stingray's `RmsSpectrum`.

    Args:
        channels: (n_channels, n_segments, n_bins) counts per bin.
        dt: Bin width [s].
        band: Lowest frequency, and the one from which frequencies no longer count [Hz].
        fractional: Divide by the mean rate of each channel; else counts/s.
        stingray_compat: Do as Stingray: the root of the modulus where the variance is negative (the default is NaN),
            and its error, in which 2 rms noise stands for 2 rms^2 noise^2.

    Returns:
        Rms and errors, each (n_channels,); and the (n_channels,) variances, of either sign, in the square of its unit.

    Raises:
        ValueError: If shapes do not fit, or no frequency lies in the band.

    References:
        Uttley et al. (2014), A&ARv 22, 72; Vaughan et al. (2003), MNRAS 345, 1271.
    """
    if channels.ndim != 3:
        raise ValueError(f"channels must have shape (n_channels, n_segments, n_bins), got {channels.shape}")
    averages = band_averages(channels, channels.sum(axis=0), dt, band)
    duration = channels.shape[-1] * dt
    width = averages.n_freq / duration
    to_variance = 2.0 / duration * width
    variance, noise = (averages.power - averages.noise) * to_variance, averages.noise * to_variance
    known = variance != 0 if stingray_compat else variance > 0
    used = jnp.where(known, jnp.abs(variance), 1.0)
    rms = jnp.sqrt(used)
    cross_term = 2.0 * rms * square_root(noise) if stingray_compat else 2.0 * used * noise
    error = square_root((used**2 + noise**2 + cross_term) / (4.0 * averages.m * used))
    rate = averages.noise / duration if fractional else jnp.ones_like(averages.noise)
    estimate = Estimate(jnp.where(known, rms / rate, jnp.nan), jnp.where(known, error / rate, jnp.nan))
    return estimate, variance / rate**2
