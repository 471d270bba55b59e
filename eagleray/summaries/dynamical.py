"""Dynamical power spectra: one periodogram for each segment, in time order."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from eagleray.errors import InputError
from eagleray.records import AnyArray, LightCurve, Norm, PowerSpectrum
from eagleray.summaries.rebin import linear_bins
from eagleray.summaries.segments import segments_from_exposure
from eagleray.summaries.spectra import (
    counts_and_errors,
    fourier_transform,
    measurement_noise,
    norm_scale,
    positive_frequencies,
    squared_modulus,
)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class DynamicalSpectrum:
    """Power over time and frequency.

    Attributes:
        times: (n_times,) middle of what was averaged in each row [s], as an offset from the start of the light curve.
        freq: (n_freq,) frequencies [Hz].
        power: (n_times, n_freq) powers in the units of `norm`.
        m: Periodogram powers averaged in each.
        n_photons: Mean number of counts in a segment.
        noise: Power expected of the measurement alone.
        width: Width in frequency of each power [Hz] (static).
        norm: Norm of the powers (static).
        dt: Bin width of the light curve behind it [s] (static).
        segment_size: Length of a segment [s] (static).
    """

    times: Float[AnyArray, " n_times"]
    freq: Float[AnyArray, " n_freq"]
    power: Float[AnyArray, "n_times n_freq"]
    m: Float[AnyArray, ""]
    n_photons: Float[AnyArray, ""]
    noise: Float[AnyArray, ""]
    width: float = dataclasses.field(metadata={"static": True})
    norm: Norm = dataclasses.field(metadata={"static": True})
    dt: float = dataclasses.field(metadata={"static": True})
    segment_size: float = dataclasses.field(metadata={"static": True})

    def row(self, index: int) -> PowerSpectrum:
        """The power spectrum of one time."""
        power = jnp.asarray(self.power)[index]
        return PowerSpectrum(
            freq=self.freq,
            power=power,
            m=jnp.broadcast_to(jnp.asarray(self.m), power.shape),
            n_photons=self.n_photons,
            norm=self.norm,
            dt=self.dt,
            width=np.full(power.shape, self.width),
            noise=self.noise,
        )


def dynamical_power_spectrum(
    light_curve: LightCurve,
    segment_size: float,
    *,
    norm: Norm = "frac",
    stingray_compat: bool = False,
) -> DynamicalSpectrum:
    """Periodogram of each segment without gaps, Stingray's `DynamicalPowerspectrum`.

    All have one norm, from the mean of all segments. A segment without counts has zero power and is kept, so that
    rows and times agree (Stingray leaves it out of the powers but not of the times).

    Args:
        light_curve: What was observed; its exposure must be known on the host.
        segment_size: Length of a segment [s].
        norm: "leahy", "frac", "abs" or "none".
        stingray_compat: See `eagleray.summaries.spectra.measurement_noise`.

    Returns:
        The powers, m = 1 in each.

    Raises:
        ValueError: If `norm` is none of the four, or a segment has fewer than two bins.
        InputError: If no stretch without gaps is as long as a segment.
    """
    dt = light_curve.grid.dt
    segments = segments_from_exposure(np.asarray(light_curve.exposure), segment_size, dt)
    values, error = counts_and_errors(light_curve)
    counts = segments.cut(values)
    source = counts - segments.cut(jnp.asarray(light_curve.background))
    noise = measurement_noise(
        counts, None if error is None else segments.cut(error), stingray_compat=stingray_compat
    ).mean()
    scale = norm_scale(norm, dt, n_bins=segments.n_bins, mean=source.mean(), noise=noise)
    return DynamicalSpectrum(
        times=segments.times,
        freq=positive_frequencies(segments.n_bins, dt),
        power=scale * squared_modulus(fourier_transform(source)),
        m=jnp.ones_like(noise),
        n_photons=counts.sum(axis=1).mean(),
        noise=scale * noise,
        width=1.0 / segments.duration,
        norm=norm,
        dt=dt,
        segment_size=segments.duration,
    )


def average_times(spectrum: DynamicalSpectrum, n_averaged: int) -> DynamicalSpectrum:
    """Average each `n_averaged` neighbouring rows, Stingray's `rebin_by_n_intervals`; what is left over is dropped.

    Args:
        spectrum: Powers over time; rows next to each other need not be next to each other in time.
        n_averaged: Rows to average.

    Raises:
        ValueError: If `n_averaged` is not between 1 and the number of rows.
    """
    n_times, n_freq = spectrum.power.shape
    if not 1 <= n_averaged <= n_times:
        raise ValueError(f"n_averaged must be between 1 and the {n_times} rows, got {n_averaged!r}")
    n_groups = n_times // n_averaged
    power = jnp.asarray(spectrum.power)[: n_groups * n_averaged].reshape(n_groups, n_averaged, n_freq)
    times = spectrum.times[: n_groups * n_averaged].reshape(n_groups, n_averaged)
    return dataclasses.replace(
        spectrum, power=power.mean(axis=1), times=times.mean(axis=1), m=jnp.asarray(spectrum.m) * n_averaged
    )


def rebin_times(spectrum: DynamicalSpectrum, new_width: float) -> DynamicalSpectrum:
    """Average rows in equal intervals of time, shared where an edge falls within one: Stingray's `rebin_time`.

    Args:
        spectrum: Powers of segments that follow each other without gaps, times known on the host.
        new_width: Length of an interval [s], a row being one segment long.

    Raises:
        InputError: If there are gaps between the rows (use `average_times`), or they are already rebinned.
        ValueError: If the intervals are shorter than a segment, or longer than all of them together.
    """
    times = np.asarray(spectrum.times, np.float64)
    if times.size > 1 and np.abs(np.diff(times) / spectrum.segment_size - 1.0).max() > 1e-3:
        raise InputError("the segments must follow each other without gaps to be rebinned in time, and do not")
    bins = linear_bins(times, new_width, width=spectrum.segment_size)
    power = jax.vmap(bins.average, in_axes=1, out_axes=1)(jnp.asarray(spectrum.power))
    # Stingray's number of averaged powers is cut to a whole one; a share of a power still averages.
    return dataclasses.replace(
        spectrum, power=power, times=bins.freq, m=jnp.asarray(spectrum.m) * float(bins.n_powers[0])
    )


def rebin_frequencies(spectrum: DynamicalSpectrum, new_width: float) -> DynamicalSpectrum:
    """Average powers in equally wide frequency bins, Stingray's `rebin_frequency`.

    Args:
        spectrum: Powers over time, frequencies known on the host.
        new_width: Width of a new bin [Hz].

    Raises:
        ValueError: If the new bins are narrower than the old, or wider than all of them together.
    """
    bins = linear_bins(np.asarray(spectrum.freq, np.float64), new_width, width=spectrum.width)
    return dataclasses.replace(
        spectrum,
        power=jax.vmap(bins.average)(jnp.asarray(spectrum.power)),
        freq=bins.freq,
        m=jnp.asarray(spectrum.m) * float(bins.n_powers[0]),
        width=new_width,
    )


def trace_maximum(
    spectrum: DynamicalSpectrum,
    low: Float[Array, ""] | float = 0.0,
    high: Float[Array, ""] | float = np.inf,
) -> Int[Array, " n_times"]:
    """Index of the frequency of the highest power in each row, Stingray's `trace_maximum`.

    Args:
        spectrum: Powers over time.
        low: Lowest frequency looked at [Hz].
        high: Highest frequency looked at [Hz].

    Returns:
        (n_times,) indices into `freq`; zero throughout if no frequency lies in the range.
    """
    freq = jnp.asarray(spectrum.freq)
    inside = (freq >= low) & (freq <= high)
    return jnp.argmax(jnp.where(inside, jnp.asarray(spectrum.power), -jnp.inf), axis=1)


def shift_and_add(
    spectrum: DynamicalSpectrum, centres: Float[Array, " n_times"], n_bins: int
) -> tuple[Float[Array, " n_bins"], Float[Array, " n_bins"], Float[Array, " n_bins"]]:
    """Average rows after shifting a frequency of each to one place, Stingray's `shift_and_add`.

    Args:
        spectrum: Powers over time.
        centres: (n_times,) frequency of each row that is moved to the middle [Hz], such as that of a drifting QPO.
        n_bins: Frequencies of the result (static).

    Returns:
        (n_bins,) frequencies [Hz], centred on the mean of `centres`; (n_bins,) mean powers, NaN where no row reaches;
        and the (n_bins,) numbers of powers averaged.

    References:
        Mendez et al. (1998), ApJ 494, L65.
    """
    freq, power = jnp.asarray(spectrum.freq), jnp.asarray(spectrum.power)
    offset = jnp.searchsorted(freq, centres) - n_bins // 2
    place = offset[:, None] + jnp.arange(n_bins)
    inside = (place >= 0) & (place < freq.size)
    taken = jnp.take_along_axis(power, jnp.clip(place, 0, freq.size - 1), axis=1)
    count = inside.sum(axis=0).astype(power.dtype)
    mean = jnp.where(inside, taken, 0.0).sum(axis=0) / jnp.where(count > 0, count, 1.0)
    grid = spectrum.width * (jnp.arange(n_bins, dtype=power.dtype) - 0.5 * (n_bins - 1)) + jnp.mean(centres)
    return grid, jnp.where(count > 0, mean, jnp.nan), count * jnp.asarray(spectrum.m, power.dtype)
