"""Cross spectra of two channels, in Stingray's conventions: the phase is positive where the first lags the second."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from eagleray.errors import InputError
from eagleray.records import CrossSpectrum, EventList, LightCurve, Norm
from eagleray.summaries.segments import common_gti, count_in_segments, segments_from_exposure
from eagleray.summaries.spectra import (
    counts_and_errors,
    fourier_transform,
    measurement_noise,
    norm_scale,
    positive_frequencies,
    segment_weights,
    square_root,
    squared_modulus,
)

NO_BIAS_ABOVE = 500
"""Number of averaged powers above which Stingray leaves the bias of |C|^2 out."""


def segment_cross_spectrum(
    values_1: Float[Array, "n_segments n_bins"],
    values_2: Float[Array, "n_segments n_bins"],
    dt: float,
    *,
    norm: Norm = "frac",
    use_common_mean: bool = True,
    background_1: Float[Array, "n_segments n_bins"] | None = None,
    background_2: Float[Array, "n_segments n_bins"] | None = None,
    error_1: Float[Array, "n_segments n_bins"] | None = None,
    error_2: Float[Array, "n_segments n_bins"] | None = None,
    overlapping: bool = False,
    skip_empty: bool = True,
    stingray_compat: bool = False,
) -> CrossSpectrum:
    """Mean of conj(F_1) F_2 over segments, Stingray's `AveragedCrossspectrum`.

    Args:
        values_1: (n_segments, n_bins) counts per bin of channel 1 (the channel of interest).
        values_2: (n_segments, n_bins) counts per bin of channel 2 (the reference).
        dt: Bin width [s].
        norm: "leahy", "frac", "abs" or "none"; the geometric mean of the two channels' norms.
        use_common_mean: Average products and apply one norm; else apply each segment's own norm before averaging.
        background_1: Expected background counts of channel 1; default zero.
        background_2: Expected background counts of channel 2; default zero.
        error_1: Gaussian standard deviations of channel 1; None for Poisson counts. Give both or none.
        error_2: Gaussian standard deviations of channel 2.
        overlapping: Whether the photons of channel 1 are also in channel 2. Their noise, which is in both, is taken
            off the real part, and errors are those of a common reference.
        skip_empty: Leave out segments in which a channel is zero throughout, as Stingray does. Without a common mean
            such a segment has no norm and is always left out.
        stingray_compat: Do as Stingray where it differs: the noise in both channels of an overlap stays in the real
            part, the bias of |C|^2 is neglected for m > 500, the mean error is squared (see `measurement_noise`).

    Returns:
        The cross spectrum, the channels' power spectra in the same norm, and m, the number of segments averaged.

    Raises:
        ValueError: If shapes differ, one channel alone has errors, or `norm` is none of the four.

    References:
        Uttley et al. (2014), A&ARv 22, 72; Ingram (2019), MNRAS 489, 3927; Bendat & Piersol (2010), Random Data.
    """
    if values_1.ndim != 2 or values_1.shape != values_2.shape:
        raise ValueError(
            "values_1 and values_2 must both have shape (n_segments, n_bins), got "
            f"{values_1.shape} and {values_2.shape}"
        )
    if (error_1 is None) != (error_2 is None):
        raise ValueError("error_1 and error_2 must be given together, got one alone")
    n_bins = values_1.shape[1]
    freq = positive_frequencies(n_bins, dt)
    measured = _segment_products(
        values_1,
        values_2,
        dt,
        (background_1, background_2),
        (error_1, error_2),
        norm=norm,
        use_common_mean=use_common_mean,
        overlapping=overlapping,
        skip_empty=skip_empty,
        stingray_compat=stingray_compat,
    )
    return CrossSpectrum(
        freq=freq,
        width=np.full(freq.shape, 1.0 / (n_bins * dt)),
        norm=norm,
        dt=dt,
        overlapping=overlapping,
        **measured,
    )


# Compiled as one, for callers that do not: frequencies stay outside, on the host in float64.
@functools.partial(jax.jit, static_argnames=("norm", "use_common_mean", "overlapping", "skip_empty", "stingray_compat"))
def _segment_products(
    values_1: Float[Array, "n_segments n_bins"],
    values_2: Float[Array, "n_segments n_bins"],
    dt: float,
    backgrounds: tuple[Float[Array, "n_segments n_bins"] | None, Float[Array, "n_segments n_bins"] | None],
    errors: tuple[Float[Array, "n_segments n_bins"] | None, Float[Array, "n_segments n_bins"] | None],
    *,
    norm: Norm,
    use_common_mean: bool,
    overlapping: bool,
    skip_empty: bool,
    stingray_compat: bool,
) -> dict[str, Array]:
    """What of a `CrossSpectrum` is measured, by name."""
    background_1, background_2 = backgrounds
    error_1, error_2 = errors
    n_bins = values_1.shape[1]
    source_1 = values_1 if background_1 is None else values_1 - background_1
    source_2 = values_2 if background_2 is None else values_2 - background_2
    transform_1, transform_2 = fourier_transform(source_1), fourier_transform(source_2)
    skip = skip_empty or not use_common_mean
    weight = segment_weights(values_1, skip_empty=skip) * segment_weights(values_2, skip_empty=skip)
    n_segments = weight.sum()

    def average(x: Array) -> Array:
        """Mean over the segments that count."""
        share = (weight / n_segments).astype(x.dtype)
        return (share.reshape(-1, *[1] * (x.ndim - 1)) * x).sum(axis=0)

    mean_1, mean_2 = source_1.mean(axis=1), source_2.mean(axis=1)
    noise_1 = measurement_noise(values_1, error_1, stingray_compat=stingray_compat)
    noise_2 = measurement_noise(values_2, error_2, stingray_compat=stingray_compat)
    if use_common_mean:
        mean_1, mean_2 = (jnp.broadcast_to(average(x), x.shape) for x in (mean_1, mean_2))
        noise_1, noise_2 = (jnp.broadcast_to(average(x), x.shape) for x in (noise_1, noise_2))
    # The norm of a segment left out must be finite for its gradient to be.
    mean_1, mean_2 = (jnp.where(weight > 0, x, 1.0) for x in (mean_1, mean_2))
    safe_1, safe_2 = (jnp.where(weight > 0, x, 1.0) for x in (noise_1, noise_2))
    scale_1 = norm_scale(norm, dt, n_bins=n_bins, mean=mean_1, noise=safe_1)
    scale_2 = norm_scale(norm, dt, n_bins=n_bins, mean=mean_2, noise=safe_2)
    scale = jnp.sqrt(scale_1 * scale_2)
    power = average(scale[:, None].astype(transform_1.dtype) * transform_1.conj() * transform_2)
    if overlapping and not stingray_compat:
        power = jax.lax.complex(power.real - average(scale * noise_1), power.imag)
    power_1 = average(scale_1[:, None] * squared_modulus(transform_1))
    power_2 = average(scale_2[:, None] * squared_modulus(transform_2))
    level_1, level_2 = average(scale_1 * noise_1), average(scale_2 * noise_2)
    m = jnp.broadcast_to(n_segments, power.shape)
    error = cross_power_error(
        power, power_1, power_2, level_1, level_2, m, overlapping=overlapping, stingray_compat=stingray_compat
    )
    return {
        "power": power,
        "power_1": power_1,
        "power_2": power_2,
        "noise_1": level_1,
        "noise_2": level_2,
        "error": error,
        "m": m,
        "n_photons_1": average(values_1.sum(axis=1)),
        "n_photons_2": average(values_2.sum(axis=1)),
    }


def bias_of_squared_modulus(
    power_1: Float[Array, "*shape"],
    power_2: Float[Array, "*shape"],
    noise_1: Float[Array, "*shape"],
    noise_2: Float[Array, "*shape"],
    m: Float[Array, "*shape"],
    *,
    coherence: Float[Array, "*shape"] | float = 1.0,
    stingray_compat: bool = False,
) -> Float[Array, "*shape"]:
    """What noise adds to |C|^2 on average, b^2 = [P_1 P_2 - coherence (P_1 - N_1)(P_2 - N_2)] / m.

    Args:
        power_1: Power of channel 1, noise included.
        power_2: Power of channel 2, noise included.
        noise_1: Noise level of channel 1.
        noise_2: Noise level of channel 2.
        m: Powers averaged.
        coherence: Intrinsic coherence.
        stingray_compat: Zero for m > 500, as in Stingray.

    References:
        Vaughan & Nowak (1997), ApJ 474, L43; Ingram (2019), MNRAS 489, 3927.
    """
    bias = (power_1 * power_2 - coherence * (power_1 - noise_1) * (power_2 - noise_2)) / m
    return jnp.where(m > NO_BIAS_ABOVE, 0.0, bias) if stingray_compat else bias


def cross_power_error(
    power: Complex[Array, "*shape"],
    power_1: Float[Array, "*shape"],
    power_2: Float[Array, "*shape"],
    noise_1: Float[Array, "*shape"],
    noise_2: Float[Array, "*shape"],
    m: Float[Array, "*shape"],
    *,
    overlapping: bool = False,
    stingray_compat: bool = False,
) -> Complex[Array, "*shape"]:
    """Standard errors of the real and the imaginary part of an averaged cross power, as a complex number.

    Args:
        power: Cross power.
        power_1: Power of channel 1, noise included.
        power_2: Power of channel 2 (the reference), noise included.
        noise_1: Noise level of channel 1.
        noise_2: Noise level of channel 2.
        m: Powers averaged.
        overlapping: Errors relative to a reference that many channels of an energy spectrum share, the reference's
            own scatter left out; both parts have the same. Else the channels are independent.
        stingray_compat: Neglect the bias for m > 500, and where the overlapping form is negative give Stingray's
            stand-in, sqrt(N_1 N_2 / 2 m); the default there is NaN.

    References:
        Ingram (2019), MNRAS 489, 3927 (overlapping); Bendat & Piersol (2010), Random Data (independent).
    """
    if not overlapping:
        product, difference = power_1 * power_2, power.real**2 - power.imag**2
        # Neither is negative but by rounding.
        return jax.lax.complex(
            square_root(jnp.maximum(product + difference, 0.0) / (2.0 * m)),
            square_root(jnp.maximum(product - difference, 0.0) / (2.0 * m)),
        )
    bias = bias_of_squared_modulus(power_1, power_2, noise_1, noise_2, m, stingray_compat=stingray_compat)
    coherent = (squared_modulus(power) - bias) / (power_2 - noise_2)
    variance = power_2 / (2.0 * m) * (power_1 - coherent)
    if stingray_compat:
        variance = jnp.where(variance < 0, noise_1 * noise_2 / (2.0 * m), variance)
    error = square_root(variance)
    return jax.lax.complex(error, error)


def averaged_cross_spectrum(
    light_curve_1: LightCurve,
    light_curve_2: LightCurve,
    *,
    segment_size: float | None = None,
    norm: Norm = "frac",
    use_common_mean: bool = True,
    overlapping: bool = False,
    stingray_compat: bool = False,
) -> CrossSpectrum:
    """Cross spectrum of two observed light curves, averaged over segments in which both were watched.

    Args:
        light_curve_1: Channel of interest; its exposure must be known on the host.
        light_curve_2: Reference, on the same bins.
        segment_size: Length of a segment [s]; None for the whole light curve, which must then be without gaps.
        norm: "leahy", "frac", "abs" or "none".
        use_common_mean: See `segment_cross_spectrum`.
        overlapping: See `segment_cross_spectrum`.
        stingray_compat: See `segment_cross_spectrum`.

    Returns:
        The cross spectrum.

    Raises:
        ValueError: If `norm` is none of the four, or a segment has fewer than two bins.
        InputError: If the light curves are not on the same bins, or no stretch without gaps is as long as a segment.
    """
    grid = light_curve_1.grid
    if grid != light_curve_2.grid or light_curve_1.start != light_curve_2.start:
        raise InputError("the two light curves must have the same bins and start, and have not")
    exposure = np.minimum(np.asarray(light_curve_1.exposure), np.asarray(light_curve_2.exposure))
    segments = segments_from_exposure(exposure, grid.duration if segment_size is None else segment_size, grid.dt)
    values_1, error_1 = counts_and_errors(light_curve_1)
    values_2, error_2 = counts_and_errors(light_curve_2)
    return segment_cross_spectrum(
        segments.cut(values_1),
        segments.cut(values_2),
        grid.dt,
        norm=norm,
        use_common_mean=use_common_mean,
        background_1=segments.cut(jnp.asarray(light_curve_1.background)),
        background_2=segments.cut(jnp.asarray(light_curve_2.background)),
        error_1=None if error_1 is None else segments.cut(error_1),
        error_2=None if error_2 is None else segments.cut(error_2),
        overlapping=overlapping,
        stingray_compat=stingray_compat,
    )


def event_cross_spectrum(
    events_1: EventList,
    events_2: EventList,
    dt: float,
    *,
    segment_size: float | None = None,
    norm: Norm = "frac",
    use_common_mean: bool = True,
    overlapping: bool = False,
    stingray_compat: bool = False,
) -> CrossSpectrum:
    """Cross spectrum of two event lists, averaged over segments of their common good time intervals.

    Args:
        events_1: Channel of interest.
        events_2: Reference; its times count from the same zero.
        dt: Bin width [s].
        segment_size: Length of a segment [s]; None for the one common interval.
        norm: "leahy", "frac", "abs" or "none".
        use_common_mean: See `segment_cross_spectrum`.
        overlapping: See `segment_cross_spectrum`.
        stingray_compat: As `segment_cross_spectrum`, and leave out segments of fewer than two events, and stretch bins
            to fill one interval; see `event_power_spectrum`. By default every segment counts.

    Returns:
        The cross spectrum.

    Raises:
        ValueError: If `norm` is none of the four, a segment has fewer than two bins, or `segment_size` is None and
            there are several intervals.
        InputError: If the lists have different zeros, no common interval is as long as a segment, or no segment holds
            two events of each (`stingray_compat`).
    """
    if events_1.start != events_2.start:
        raise InputError(f"the two event lists must count time from the same start, got {events_1.start!r} and "
                         f"{events_2.start!r}")  # fmt: skip
    gti = common_gti(events_1.gti, events_2.gti)
    counts_1, _ = count_in_segments(events_1, segment_size, dt, gti=gti, stretch=stingray_compat)
    counts_2, _ = count_in_segments(events_2, segment_size, dt, gti=gti, stretch=stingray_compat)
    if stingray_compat:
        kept = (counts_1.sum(axis=1) >= 2) & (counts_2.sum(axis=1) >= 2)
        if not kept.any():
            raise InputError("no segment holds two events of each list; use a longer segment_size")
        counts_1, counts_2 = counts_1[kept], counts_2[kept]
    return segment_cross_spectrum(
        jnp.asarray(counts_1),
        jnp.asarray(counts_2),
        dt,
        norm=norm,
        use_common_mean=use_common_mean,
        overlapping=overlapping,
        skip_empty=stingray_compat,
        stingray_compat=stingray_compat,
    )
