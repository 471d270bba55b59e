"""Two detectors on one source: cospectra without the noise of dead time, and powers corrected by their difference.

Dead time bends the noise of each detector, but not of one against the other: the cospectrum has no noise level, and the
difference of the two Fourier amplitudes has nothing but noise, from which its shape is measured (FAD).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from eagleray.records import Norm
from eagleray.summaries.spectra import fourier_transform, norm_scale, positive_frequencies, squared_modulus

_TRUNCATE = 4.0
"""Standard deviations at which the Gaussian of the smoothing is cut, as in SciPy."""


class Cospectrum(NamedTuple):
    """An averaged cross spectrum of two detectors.

    Attributes:
        cross: (n_freq,) mean of conj(F_1) F_2, in the norm asked for; its real part is the cospectrum.
        m: Segments averaged.
    """

    cross: Complex[Array, " n_freq"]
    m: Float[Array, ""]


class FAD(NamedTuple):
    """Spectra corrected by the difference of two detectors' Fourier amplitudes, averaged over segments.

    Attributes:
        power_1: (n_freq,) spectrum of the first detector.
        power_2: (n_freq,) spectrum of the second.
        power_sum: (n_freq,) spectrum of the two light curves added.
        cross: (n_freq,) cross spectrum conj(F_1) F_2; its real part is the cospectrum.
        difference: (n_freq,) mean corrected difference of the amplitudes.
        deviation: Standard deviation of `difference` over what it should be, less one: near zero (within 0.05, say)
            if the correction did its work.
        m: Segments averaged.
    """

    power_1: Float[Array, " n_freq"]
    power_2: Float[Array, " n_freq"]
    power_sum: Float[Array, " n_freq"]
    cross: Complex[Array, " n_freq"]
    difference: Complex[Array, " n_freq"]
    deviation: Float[Array, ""]
    m: Float[Array, ""]


def cospectrum(
    values_1: Float[Array, "n_segments n_bins"],
    values_2: Float[Array, "n_segments n_bins"],
    dt: float,
    *,
    norm: Norm = "frac",
    used: Float[Array, " n_segments"] | None = None,
) -> Cospectrum:
    """Cross spectrum of two detectors, averaged over segments. Differentiable.

    Args:
        values_1: (n_segments, n_bins) counts of the first detector in each segment.
        values_2: (n_segments, n_bins) counts of the second, at the same times.
        dt: Bin width [s].
        norm: As for `power_spectrum` (static). Means are taken over all segments together.
        used: (n_segments,) 1 for segments that count, 0 for those with gaps; default all ones.

    Returns:
        Cross spectrum at `positive_frequencies(n_bins, dt)`.

    Raises:
        ValueError: If the shapes differ or the norm is none of the four.

    References:
        Bachetti et al. (2015), ApJ 800, 109.
    """
    used = _check(values_1, values_2, used)
    n_bins = values_1.shape[1]
    m = used.sum()
    first, second = fourier_transform(values_1), fourier_transform(values_2)
    cross = _mean(jnp.conj(first) * second, used)
    means = [(used[:, None] * values).sum() / m / n_bins for values in (values_1, values_2)]
    mean = jnp.sqrt(means[0] * means[1])
    scale = norm_scale(norm, dt, n_bins=n_bins, mean=mean, noise=mean * n_bins)
    return Cospectrum(cross=cross * _complex(scale), m=m)


def fad(
    values_1: Float[Array, "n_segments n_bins"],
    values_2: Float[Array, "n_segments n_bins"],
    dt: float,
    *,
    norm: Norm = "frac",
    smoothing_length: float | None = None,
    used: Float[Array, " n_segments"] | None = None,
) -> FAD:
    """Power and cross spectra freed from dead time by the Fourier amplitude difference. Differentiable.

    Args:
        values_1: (n_segments, n_bins) counts of the first detector in each segment.
        values_2: (n_segments, n_bins) counts of the second: another detector, alike, at the same times.
        dt: Bin width [s].
        norm: As for `power_spectrum`, applied to each segment (static).
        smoothing_length: Standard deviation of the Gaussian that smooths the squared difference [frequency bins]
            (static). Default three times the length of a segment in seconds, as in Stingray.
        used: (n_segments,) 1 for segments that count, 0 for those with gaps; default all ones.

    Returns:
        Corrected spectra at `positive_frequencies(n_bins, dt)`.

    Raises:
        ValueError: If the shapes differ, the norm is none of the four, or the smoothing length is not positive.

    References:
        Bachetti & Huppenkothen (2018), ApJ 853, L21.
    """
    used = _check(values_1, values_2, used)
    n_bins = values_1.shape[1]
    smoothing_length = 3.0 * n_bins * dt if smoothing_length is None else smoothing_length
    if not smoothing_length > 0:
        raise ValueError(f"smoothing_length must be positive (frequency bins), got {smoothing_length!r}")
    response = jnp.asarray(_smoothing_response(positive_frequencies(n_bins, dt).size, smoothing_length), values_1.dtype)

    def corrected(one: Array, two: Array) -> tuple[Array, ...]:
        """Spectra of one segment, and the corrected difference."""
        totals = [one.sum(), two.sum(), (one + two).sum()]
        f_1, f_2 = fourier_transform(one), fourier_transform(two)
        f_sum = f_1 + f_2
        difference = f_1 * _complex(jnp.sqrt(2.0 / totals[0])) - f_2 * _complex(jnp.sqrt(2.0 / totals[1]))
        level = 0.5 * _smooth(difference.real**2, response)
        scales = [
            norm_scale(norm, dt, n_bins=n_bins, mean=total / n_bins, noise=total) / level
            for total in (*totals, jnp.sqrt(totals[0] * totals[1]))
        ]
        return (
            squared_modulus(f_1) * scales[0],
            squared_modulus(f_2) * scales[1],
            squared_modulus(f_sum) * scales[2],
            jnp.conj(f_1) * f_2 * _complex(scales[3]),
            difference / _complex(jnp.sqrt(level)),
        )

    # A segment that does not count may be empty; ones in its place keep its gradient finite.
    counts = (used > 0)[:, None]
    safe = [
        jnp.where(counts, values, jnp.ones(n_bins, values.dtype).at[0].set(k)[None])
        for values, k in ((values_1, 2.0), (values_2, 3.0))
    ]
    means = [_mean(part, used) for part in jax.vmap(corrected)(*safe)]
    difference = means[4]
    m = used.sum()
    spread = jnp.sqrt(squared_modulus(difference - difference.mean()).mean())
    return FAD(means[0], means[1], means[2], means[3], difference, 0.5 * spread * jnp.sqrt(m) - 1.0, m)


def _check(values_1: Array, values_2: Array, used: Array | None) -> Array:
    """Refuse what does not fit; the segments that count."""
    if values_1.ndim != 2 or values_1.shape != values_2.shape:
        raise ValueError(
            f"values must be two arrays of one shape (n_segments, n_bins), got {values_1.shape} and {values_2.shape}"
        )
    return jnp.ones(values_1.shape[0], values_1.dtype) if used is None else used


def _mean(values: Array, used: Array) -> Array:
    """Mean over the segments that count."""
    return (values * used.astype(values.dtype)[:, None]).sum(0) / used.sum().astype(values.dtype)


def _complex(values: Array) -> Array:
    return jax.lax.complex(values, jnp.zeros_like(values))


def _smooth(values: Array, response: Array) -> Array:
    """Convolution with a symmetric kernel of values that are reflected at both ends: a product of cosine transforms."""
    return jax.scipy.fft.idct(jax.scipy.fft.dct(values, norm="ortho") * response, norm="ortho")


def _smoothing_response(n: int, length: float) -> np.ndarray:
    """Cosine transform of SciPy's Gaussian filter on n values; on the host, in float64."""
    radius = int(_TRUNCATE * length + 0.5)
    offsets = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (offsets / length) ** 2)
    wrapped = np.bincount(offsets % (2 * n), weights=kernel / kernel.sum(), minlength=2 * n)
    return np.fft.rfft(wrapped).real[:n]
