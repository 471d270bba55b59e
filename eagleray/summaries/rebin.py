"""Averages of neighbouring powers."""

import dataclasses
from typing import Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64, Inexact, Int

from eagleray.records import AnyArray, CrossSpectrum, PowerSpectrum

Spectrum = TypeVar("Spectrum", PowerSpectrum, CrossSpectrum)

_ROUNDING = 1e-6
"""How much a last bin may lack to be whole [bins]."""


class FrequencyBins(Protocol):
    """Groups of neighbouring frequencies."""

    @property
    def freq(self) -> np.ndarray:
        """(n_groups,) frequency of each group [Hz]."""
        ...

    def average(self, power: Inexact[Array, " n_freq"]) -> Inexact[Array, " n_groups"]:
        """Mean power of each group."""
        ...

    def average_error(self, error: Float[Array, " n_freq"]) -> Float[Array, " n_groups"]:
        """Standard error of each mean, from those of independent powers."""
        ...

    def total(self, m: Float[Array, " n_freq"]) -> Float[Array, " n_groups"]:
        """Powers averaged in each group, from those averaged in each frequency."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class LogBins:
    """Groups of neighbouring Fourier frequencies, each wider than the one before.

    Attributes:
        freq: (n_groups,) mean frequency of each group [Hz].
        n_powers: (n_groups,) powers averaged in each group.
        group: (n_freq,) the group of each frequency, ascending.
    """

    freq: np.ndarray
    n_powers: np.ndarray
    group: np.ndarray

    def average(self, power: Inexact[Array, " n_freq"]) -> Inexact[Array, " n_groups"]:
        """Mean power of each group, shape (n_groups,)."""
        return self.total(power) / jnp.asarray(self.n_powers, power.dtype)

    def average_error(self, error: Float[Array, " n_freq"]) -> Float[Array, " n_groups"]:
        """Standard error of each mean, from those of independent powers, shape (n_groups,)."""
        return jnp.sqrt(self.total(error**2)) / jnp.asarray(self.n_powers, error.dtype)

    def total(self, m: Inexact[Array, " n_freq"]) -> Inexact[Array, " n_groups"]:
        """Sum over each group, shape (n_groups,)."""
        return jax.ops.segment_sum(m, self.group, num_segments=self.freq.size, indices_are_sorted=True)

    def neighbours(self, n: int) -> Int[np.ndarray, "n_sets n"]:
        """Numbers of n neighbouring groups, each set beginning in the middle of the one before; none if they are fewer.

        Raises:
            ValueError: If `n` is below 1.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n!r}")
        first = np.arange(0, self.freq.size - n + 1, max(1, n // 2))
        return first[:, None] + np.arange(n)


def log_bins(freq: np.ndarray, factor: float, *, width: float | None = None) -> LogBins:
    """Logarithmic frequency bins, each wider than the one before by the fraction `factor`; empty bins are left out.

    The edges are Stingray's (`rebin_log`): the first bin is one frequency step wide, each next one `1 + factor` times
    wider, accumulated in float64.

    Args:
        freq: (n_freq,) evenly spaced positive frequencies [Hz].
        factor: Growth of the bin width, 0 for none.
        width: Their spacing [Hz]; by default they start at it.

    Raises:
        ValueError: If `factor` is negative, or there is no frequency.
    """
    if not factor >= 0:
        raise ValueError(f"factor must be at least 0, got {factor!r}")
    if freq.size == 0:
        raise ValueError("freq must hold at least one frequency, got none")
    step = float(freq[0] if width is None else width)
    edges = [0.5 * freq[0], 0.5 * freq[0] + step]
    while edges[-1] <= freq[-1]:
        # The step is the difference of rounded edges: summed in another order, frequencies change bins.
        edges.append(edges[-1] + step * (1.0 + factor))
        step = edges[-1] - edges[-2]
    raw = np.digitize(freq, np.asarray(edges)) - 1
    _, group, n_powers = np.unique(raw, return_inverse=True, return_counts=True)
    mean_freq = np.bincount(group, weights=freq) / n_powers
    return LogBins(freq=mean_freq, n_powers=n_powers, group=group)


@dataclasses.dataclass(frozen=True, eq=False)
class LinearBins:
    """Equally wide groups of neighbouring frequencies; a power on an edge is shared by the fraction on each side.

    Attributes:
        freq: (n_groups,) middle of each group [Hz].
        n_powers: (n_groups,) powers averaged in each group, fractions included.
        group: (n_shares,) the group of each share, ascending.
        member: (n_shares,) the power it is a share of.
        share: (n_shares,) the fraction.
    """

    freq: Float64[np.ndarray, " n_groups"]
    n_powers: Float64[np.ndarray, " n_groups"]
    group: Int[np.ndarray, " n_shares"]
    member: Int[np.ndarray, " n_shares"]
    share: Float64[np.ndarray, " n_shares"]

    def _sum(self, values: Inexact[Array, " n_freq"], weight: np.ndarray) -> Inexact[Array, " n_groups"]:
        """Weighted sum over each group."""
        shares = jnp.asarray(weight, values.dtype) * values[self.member]
        return jax.ops.segment_sum(shares, self.group, num_segments=self.freq.size, indices_are_sorted=True)

    def average(self, power: Inexact[Array, " n_freq"]) -> Inexact[Array, " n_groups"]:
        """Mean power of each group, shape (n_groups,)."""
        return self._sum(power, self.share) / jnp.asarray(self.n_powers, power.dtype)

    def average_error(self, error: Float[Array, " n_freq"]) -> Float[Array, " n_groups"]:
        """Standard error of each mean, from those of independent powers, shape (n_groups,)."""
        return jnp.sqrt(self._sum(error**2, self.share**2)) / jnp.asarray(self.n_powers, error.dtype)

    def total(self, m: Float[Array, " n_freq"]) -> Float[Array, " n_groups"]:
        """Powers averaged in each group, to the nearest whole number (halves to even), shape (n_groups,)."""
        first = self.member[np.searchsorted(self.group, np.arange(self.freq.size))]
        # All groups are equally wide; shares that differ by rounding must not send halves both ways.
        return jnp.round(jnp.asarray(self.n_powers[0], m.dtype) * m[first])


def linear_bins(freq: np.ndarray, new_width: float, *, width: float | None = None) -> LinearBins:
    """Equally wide frequency bins, with shared powers where an edge falls within one, as Stingray's `rebin`.

    Args:
        freq: (n_freq,) evenly spaced frequencies [Hz].
        new_width: Width of a new bin [Hz].
        width: Spacing of the frequencies [Hz]; by default they start at it.

    Returns:
        The bins; a last one that is not full is left out. (Stingray also leaves out a full one where rounding makes
        it seem short.)

    Raises:
        ValueError: If the new bins are narrower than the old, or wider than all of them together.
    """
    old = float(freq[0] if width is None else width)
    if not new_width >= old:
        raise ValueError(f"new_width must be at least the spacing {old!r} Hz, got {new_width!r}")
    span = freq[-1] - freq[0] + old
    n_groups = int(np.floor(span / new_width + _ROUNDING))
    if n_groups < 1:
        raise ValueError(f"new_width must be at most {span!r} Hz, the whole spectrum, got {new_width!r}")
    # In old bins, from the left edge of the first.
    edges = new_width * np.arange(n_groups + 1) / old
    edges[-1] = min(edges[-1], float(freq.size))
    group, member, share = [], [], []
    for index, (low, high) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
        members = np.arange(int(np.floor(low)), min(int(np.ceil(high)), freq.size))
        group.append(np.full(members.size, index))
        member.append(members)
        share.append(np.minimum(members + 1.0, high) - np.maximum(members, low))
    shares = np.concatenate(share)
    groups = np.concatenate(group)
    return LinearBins(
        freq=freq[0] - 0.5 * old + new_width * (np.arange(n_groups) + 0.5),
        n_powers=np.bincount(groups, weights=shares, minlength=n_groups),
        group=groups,
        member=np.concatenate(member),
        share=shares,
    )


def rebin_log(spectrum: Spectrum, factor: float) -> Spectrum:
    """Average powers in logarithmic frequency bins, Stingray's `rebin_log`.

    Args:
        spectrum: A power or cross spectrum at evenly spaced frequencies, known on the host (inside `jax.jit`, use
            `log_bins` on arrays).
        factor: Growth of the bin width, 0 for none.

    Returns:
        The spectrum with fewer frequencies: mean frequencies and powers, m multiplied by the number of powers in each
        bin, and errors of means. Empty bins are left out (Stingray has NaN there).

    Raises:
        ValueError: If `factor` is negative, there is no frequency, or they are not evenly spaced.
    """
    freq, old = _host_frequencies(spectrum)
    bins = log_bins(freq, factor, width=old)
    return _rebin(spectrum, bins, old * bins.n_powers)


def rebin_linear(spectrum: Spectrum, new_width: float) -> Spectrum:
    """Average powers in equally wide frequency bins, Stingray's `rebin`.

    Args:
        spectrum: A power or cross spectrum at evenly spaced frequencies, known on the host (inside `jax.jit`, use
            `linear_bins` on arrays).
        new_width: Width of a new bin [Hz].

    Returns:
        The spectrum with fewer frequencies; m is a whole number (halves to even), as in Stingray.

    Raises:
        ValueError: If the new bins are narrower than the old or wider than all of them together, or the frequencies
            are not evenly spaced.
    """
    freq, old = _host_frequencies(spectrum)
    bins = linear_bins(freq, new_width, width=old)
    return _rebin(spectrum, bins, np.full(bins.freq.size, new_width))


def _host_frequencies(spectrum: PowerSpectrum | CrossSpectrum) -> tuple[np.ndarray, float]:
    """Frequencies of a spectrum and their spacing, on the host."""
    freq = np.asarray(spectrum.freq, np.float64)
    if freq.size == 0:
        raise ValueError("spectrum must hold at least one frequency, got none")
    width = float(np.asarray(spectrum.width)[0] if spectrum.width is not None else freq[0])
    if abs(freq[-1] - freq[0] - width * (freq.size - 1)) > 0.5 * width:
        raise ValueError("spectrum must have evenly spaced frequencies, got one that is already rebinned")
    return freq, width


def _rebin(spectrum: Spectrum, bins: FrequencyBins, width: AnyArray) -> Spectrum:
    """All that depends on frequency, averaged."""
    power = jnp.asarray(spectrum.power)
    m = jnp.asarray(spectrum.m, power.real.dtype)
    common = {"freq": bins.freq, "power": bins.average(power), "m": bins.total(m), "width": width}
    if isinstance(spectrum, PowerSpectrum):
        return dataclasses.replace(spectrum, **common, error=bins.average_error(jnp.asarray(spectrum.power_error)))
    error = jnp.asarray(spectrum.error)
    return dataclasses.replace(
        spectrum,
        **common,
        power_1=bins.average(jnp.asarray(spectrum.power_1)),
        power_2=bins.average(jnp.asarray(spectrum.power_2)),
        error=jax.lax.complex(bins.average_error(error.real), bins.average_error(error.imag)),
    )
