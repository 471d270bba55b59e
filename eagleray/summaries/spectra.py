"""Power spectra of binned light curves and of events, in Stingray's conventions."""

import functools
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Float64

from eagleray.errors import InputError
from eagleray.records import EventList, LightCurve, Norm, PowerSpectrum
from eagleray.summaries.segments import count_in_segments, segments_from_exposure


def positive_frequencies(n_bins: int, dt: float) -> Float64[np.ndarray, " n_freq"]:
    """Frequencies of a periodogram of n bins [Hz]: positive, and without Nyquist, as in Stingray."""
    return np.fft.rfftfreq(n_bins, dt)[1 : (n_bins + 1) // 2]


def fourier_transform(values: Float[Array, "*batch n_bins"]) -> Complex[Array, "*batch n_freq"]:
    """Discrete Fourier transform at `positive_frequencies`, shape (..., n_freq).

    The mean is taken off first: no power depends on it, but rounding does.
    """
    n_bins = values.shape[-1]
    centred = values - values.mean(axis=-1, keepdims=True)
    return jnp.fft.rfft(centred)[..., 1 : (n_bins + 1) // 2]


def squared_modulus(transform: Complex[Array, "*shape"]) -> Float[Array, "*shape"]:
    """|F|^2, without the square root of which the gradient at zero is not finite."""
    return transform.real**2 + transform.imag**2


def square_root(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Square root whose gradient is zero, neither infinite nor NaN, at zero and below, where it is NaN itself."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), jnp.where(x == 0, 0.0, jnp.nan))


def norm_scale(
    norm: Norm,
    dt: float,
    *,
    n_bins: Float[Array, "*shape"] | int,
    mean: Float[Array, "*shape"],
    noise: Float[Array, "*shape"],
) -> Float[Array, "*shape"]:
    """What |F|^2 is multiplied by to be a power in a norm.

    Args:
        norm: "leahy", "frac", "abs" or "none".
        dt: Bin width [s].
        n_bins: Number of bins (with partial exposure, the sum of its squares).
        mean: Mean source counts per bin; of two channels, the geometric mean.
        noise: |F|^2 expected of the measurement alone: the counts, or the sum of squared errors; of two channels, the
            geometric mean.

    Raises:
        ValueError: If `norm` is none of the four.

    References:
        Leahy et al. (1983), ApJ 266, 160; Belloni & Hasinger (1990), A&A 230, 103; Vaughan et al. (2003), MNRAS 345,
        1271, appendix A.
    """
    if norm not in get_args(Norm):
        raise ValueError(f"norm must be one of {get_args(Norm)}, got {norm!r}")
    if norm == "leahy":
        return 2.0 / noise
    if norm == "frac":
        return 2.0 * dt / (mean**2 * n_bins)
    if norm == "abs":
        return jnp.full_like(mean, 2.0 / dt) / n_bins
    return jnp.ones_like(mean)


def measurement_noise(
    values: Float[Array, "*batch n_bins"],
    error: Float[Array, "*batch n_bins"] | None = None,
    *,
    stingray_compat: bool = False,
) -> Float[Array, "*batch"]:
    """|F|^2 expected of the measurement alone.

    Args:
        values: (..., n_bins) counts per bin.
        error: (..., n_bins) their Gaussian standard deviations; None for Poisson counts.
        stingray_compat: Square the mean error instead of averaging its square, as Stingray does: the noise level is
            then too low where errors differ.

    Returns:
        (...,) the counts, or the sum of squared errors.
    """
    if error is None:
        return values.sum(axis=-1)
    if stingray_compat:
        return error.mean(axis=-1) ** 2 * error.shape[-1]
    return (error**2).sum(axis=-1)


def power_spectrum(
    values: Float[Array, " n_bins"],
    dt: float,
    *,
    norm: Norm = "frac",
    exposure: Float[Array, " n_bins"] | None = None,
    background: Float[Array, " n_bins"] | None = None,
    error: Float[Array, " n_bins"] | None = None,
    stingray_compat: bool = False,
) -> Float[Array, " n_freq"]:
    """Periodogram of one light curve, gaps allowed.

    What is transformed is the residual counts - background - mean * exposure, so that a gap adds nothing and a bin
    watched for half its length counts half. Without gaps and background this is Stingray's `Powerspectrum`.

    Args:
        values: (n_bins,) counts per bin (for rates, rate * dt).
        dt: Bin width [s].
        norm: "leahy" (noise level 2), "frac" (fractional rms: (rms/mean)^2/Hz), "abs" ((counts/s)^2/Hz), or "none"
            (|F|^2).
        exposure: (n_bins,) fraction of each bin watched; default all ones.
        background: (n_bins,) expected background counts; default zero.
        error: (n_bins,) Gaussian standard deviation of each value, zero in gaps; None for Poisson counts. It changes
            the "leahy" norm alone: 2 |F|^2 / sum of error^2 instead of 2 |F|^2 / counts.
        stingray_compat: See `measurement_noise`.

    Returns:
        (n_freq,) powers at `positive_frequencies(n_bins, dt)`. Not finite where the mean source counts are zero
        ("frac"), or the counts or errors are ("leahy").

    Raises:
        ValueError: If `norm` is none of the four.

    References:
        Leahy et al. (1983), ApJ 266, 160; Belloni & Hasinger (1990), A&A 230, 103; Vaughan et al. (2003), MNRAS 345,
        1271, appendix A.
    """
    exposure = jnp.ones_like(values) if exposure is None else exposure
    source = values if background is None else values - background
    scale = _scale(values, source, exposure, dt, norm, error, stingray_compat)
    n_bins = values.shape[-1]
    transform = jnp.fft.rfft(source - source.sum() / exposure.sum() * exposure)[1 : (n_bins + 1) // 2]
    return scale * squared_modulus(transform)


def _scale(values, source, exposure, dt, norm, error, stingray_compat) -> Float[Array, ""]:
    """`norm_scale` of one light curve with partial exposure."""
    # A fluctuation of the rate reaches the residual multiplied by the exposure.
    return norm_scale(
        norm,
        dt,
        n_bins=(exposure**2).sum(),
        mean=source.sum() / exposure.sum(),
        noise=measurement_noise(values, error, stingray_compat=stingray_compat),
    )


def segment_power_spectrum(
    values: Float[Array, "n_segments n_bins"],
    dt: float,
    *,
    norm: Norm = "frac",
    use_common_mean: bool = True,
    background: Float[Array, "n_segments n_bins"] | None = None,
    error: Float[Array, "n_segments n_bins"] | None = None,
    skip_empty: bool = True,
    stingray_compat: bool = False,
) -> PowerSpectrum:
    """Mean periodogram of segments, Stingray's `AveragedPowerspectrum`.

    Args:
        values: (n_segments, n_bins) counts per bin (for rates, rate * dt), as of `Segments.cut`.
        dt: Bin width [s].
        norm: "leahy", "frac", "abs" or "none"; see `power_spectrum`.
        use_common_mean: Average |F|^2 and apply one norm, from the mean of all segments; else apply each segment's own
            norm before averaging.
        background: (n_segments, n_bins) expected background counts; default zero.
        error: (n_segments, n_bins) Gaussian standard deviations; None for Poisson counts.
        skip_empty: Leave out segments whose values are all zero, as Stingray does. Where those are observed segments
            without a photon, not gaps, that raises the rate; give False. Without a common mean an empty segment has
            no norm and is always left out.
        stingray_compat: See `measurement_noise`.

    Returns:
        The spectrum, with m the number of segments averaged. Not finite if all are empty.

    Raises:
        ValueError: If `norm` is none of the four, or `values` is not of two dimensions.

    References:
        Stingray 2.3, `fourier.avg_pds_from_iterable`; Alston, Vaughan & Uttley (2013), MNRAS 435, 1511, on the mean.
    """
    if values.ndim != 2:
        raise ValueError(f"values must have shape (n_segments, n_bins), got {values.shape}")
    power, n_segments, n_photons, noise = _segment_powers(
        values,
        dt,
        background,
        error,
        norm=norm,
        use_common_mean=use_common_mean,
        skip_empty=skip_empty,
        stingray_compat=stingray_compat,
    )
    n_bins = values.shape[1]
    freq = positive_frequencies(n_bins, dt)
    return PowerSpectrum(
        freq=freq,
        power=power,
        m=jnp.broadcast_to(n_segments, freq.shape),
        n_photons=n_photons,
        norm=norm,
        dt=dt,
        width=np.full(freq.shape, 1.0 / (n_bins * dt)),
        noise=noise,
    )


# Compiled as one, for callers that do not: frequencies stay outside, on the host in float64.
@functools.partial(jax.jit, static_argnames=("norm", "use_common_mean", "skip_empty", "stingray_compat"))
def _segment_powers(
    values: Float[Array, "n_segments n_bins"],
    dt: float,
    background: Float[Array, "n_segments n_bins"] | None,
    error: Float[Array, "n_segments n_bins"] | None,
    *,
    norm: Norm,
    use_common_mean: bool,
    skip_empty: bool,
    stingray_compat: bool,
) -> tuple[Float[Array, " n_freq"], Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Mean power, number of segments, their mean counts, and the noise level."""
    n_bins = values.shape[1]
    source = values if background is None else values - background
    squared = squared_modulus(fourier_transform(source))
    weight = segment_weights(values, skip_empty=skip_empty or not use_common_mean)
    n_segments = weight.sum()
    noise = measurement_noise(values, error, stingray_compat=stingray_compat)
    mean = source.sum(axis=1) / n_bins
    n_photons = (weight * values.sum(axis=1)).sum() / n_segments
    if use_common_mean:
        common_noise = (weight * noise).sum() / n_segments
        scale = norm_scale(norm, dt, n_bins=n_bins, mean=(weight * mean).sum() / n_segments, noise=common_noise)
        power = scale * (weight[:, None] * squared).sum(axis=0) / n_segments
        return power, n_segments, n_photons, scale * common_noise
    # The norm of a segment left out must be finite for its gradient to be.
    empty = weight == 0
    scale = norm_scale(norm, dt, n_bins=n_bins, mean=jnp.where(empty, 1.0, mean), noise=jnp.where(empty, 1.0, noise))
    power = ((weight * scale)[:, None] * squared).sum(axis=0) / n_segments
    return power, n_segments, n_photons, (weight * scale * noise).sum() / n_segments


def segment_weights(values: Float[Array, "n_segments n_bins"], *, skip_empty: bool) -> Float[Array, " n_segments"]:
    """One for each segment to be averaged and zero for each to be left out, shape (n_segments,)."""
    if skip_empty:
        return (values != 0).any(axis=-1).astype(values.dtype)
    return jnp.ones(values.shape[:-1], values.dtype)


def counts_and_errors(light_curve: LightCurve) -> tuple[Float[Array, " n_bins"], Float[Array, " n_bins"] | None]:
    """Counts per bin of a light curve, rates turned into counts, and their errors where they are not Poisson's."""
    to_counts = light_curve.grid.dt if light_curve.kind == "rate" else 1.0
    values = jnp.asarray(light_curve.values) * to_counts
    return values, None if light_curve.error is None else jnp.asarray(light_curve.error) * to_counts


def averaged_power_spectrum(
    light_curve: LightCurve,
    *,
    segment_size: float | None = None,
    norm: Norm = "frac",
    use_common_mean: bool = True,
    stingray_compat: bool = False,
) -> PowerSpectrum:
    """Power spectrum of an observed light curve: of the whole, or averaged over segments without gaps.

    Background is taken off; rates with errors get their noise level from the errors.

    Args:
        light_curve: What was observed; its exposure must be known on the host.
        segment_size: Length of a segment [s]; None for one periodogram of the whole light curve, gaps included.
        norm: "leahy", "frac", "abs" or "none"; see `power_spectrum`.
        use_common_mean: See `segment_power_spectrum`.
        stingray_compat: See `measurement_noise`.

    Returns:
        The spectrum. Rebin it with `eagleray.summaries.rebin.rebin_log`.

    Raises:
        ValueError: If `norm` is none of the four, or a segment has fewer than two bins.
        InputError: If no stretch without gaps is as long as a segment.
    """
    dt = light_curve.grid.dt
    values, error = counts_and_errors(light_curve)
    background = jnp.asarray(light_curve.background)
    if segment_size is None:
        return _whole_spectrum(values, jnp.asarray(light_curve.exposure), background, error, dt, norm, stingray_compat)
    segments = segments_from_exposure(np.asarray(light_curve.exposure), segment_size, dt)
    return segment_power_spectrum(
        segments.cut(values),
        dt,
        norm=norm,
        use_common_mean=use_common_mean,
        background=segments.cut(background),
        error=None if error is None else segments.cut(error),
        stingray_compat=stingray_compat,
    )


def _whole_spectrum(values, exposure, background, error, dt, norm, stingray_compat) -> PowerSpectrum:
    """Periodogram of a whole light curve as a record."""
    power, noise = _whole_powers(values, exposure, background, error, dt, norm=norm, stingray_compat=stingray_compat)
    freq = positive_frequencies(values.size, dt)
    return PowerSpectrum(
        freq=freq,
        power=power,
        m=jnp.ones_like(power),
        n_photons=values.sum(),
        norm=norm,
        dt=dt,
        width=np.full(freq.shape, 1.0 / (values.size * dt)),
        noise=noise,
    )


@functools.partial(jax.jit, static_argnames=("norm", "stingray_compat"))
def _whole_powers(
    values, exposure, background, error, dt, *, norm, stingray_compat
) -> tuple[Float[Array, " n_freq"], Float[Array, ""]]:
    """Powers of a whole light curve, and their noise level."""
    power = power_spectrum(
        values,
        dt,
        norm=norm,
        exposure=exposure,
        background=background,
        error=error,
        stingray_compat=stingray_compat,
    )
    scale = _scale(values, values - background, exposure, dt, norm, error, stingray_compat)
    return power, scale * measurement_noise(values, error, stingray_compat=stingray_compat)


def event_power_spectrum(
    events: EventList,
    dt: float,
    *,
    segment_size: float | None = None,
    norm: Norm = "frac",
    use_common_mean: bool = True,
    stingray_compat: bool = False,
) -> PowerSpectrum:
    """Power spectrum of an event list, averaged over segments of its good time intervals.

    Args:
        events: Arrival times and good time intervals.
        dt: Bin width [s].
        segment_size: Length of a segment [s]; None for one periodogram of the one good time interval.
        norm: "leahy", "frac", "abs" or "none"; see `power_spectrum`.
        use_common_mean: See `segment_power_spectrum`.
        stingray_compat: Do as Stingray in two places. Segments of fewer than two events are left out, which at low
            rates raises the mean rate and the powers (at 0.8 events a segment, four fifths of the segments go). And
            one interval that is no whole number of bins long is filled with wider bins, whose frequencies are wrong.

    Returns:
        The spectrum.

    Raises:
        ValueError: If `norm` is none of the four, a segment has fewer than two bins, or `segment_size` is None and
            there are several intervals.
        InputError: If no interval is as long as a segment, or no segment holds two events (`stingray_compat`).
    """
    counts, _ = count_in_segments(events, segment_size, dt, stretch=stingray_compat)
    if stingray_compat:
        counts = counts[counts.sum(axis=1) >= 2]
        if counts.shape[0] == 0:
            raise InputError("no segment holds two events; use a longer segment_size")
    return segment_power_spectrum(
        jnp.asarray(counts), dt, norm=norm, use_common_mean=use_common_mean, skip_empty=stingray_compat
    )
