"""Coupling of three frequencies: the bispectrum by third cumulants and by Fourier transforms, and the bicoherence."""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Float64

from eagleray.records import AnyArray
from eagleray.summaries.spectra import fourier_transform, positive_frequencies, square_root, squared_modulus

LagWindow = Literal["uniform", "parzen", "hamming", "hanning", "triangular", "welch", "blackmann", "flat-top"]
Scale = Literal["biased", "unbiased"]


class CumulantBispectrum(NamedTuple):
    """Third cumulant and its Fourier transform.

    Attributes:
        lags: (2 max_lag + 1,) lags [s].
        cumulant: (n_lags, n_lags) third cumulant at two lags.
        freq: (n_lags,) frequencies [Hz], negative ones first.
        bispectrum: (n_lags, n_lags) Fourier transform of the windowed cumulant.
    """

    lags: Float[AnyArray, " n_lags"]
    cumulant: Float[AnyArray, "n_lags n_lags"]
    freq: Float[AnyArray, " n_lags"]
    bispectrum: Complex[AnyArray, "n_lags n_lags"]


def third_cumulant(values: Float[Array, " n_bins"], max_lag: int, *, scale: Scale = "biased") -> Array:
    """Sum of x(t) x(t + i) x(t + j), mean taken off, over its number of terms.

    Args:
        values: (n_bins,) light curve.
        max_lag: Largest lag [bins] (static).
        scale: Divide by the number of bins ("biased"), or by the number of terms of each pair of lags ("unbiased").

    Returns:
        (2 max_lag + 1, 2 max_lag + 1) cumulants at lags i and j from -max_lag to max_lag.

    Raises:
        ValueError: If `scale` is neither, or `max_lag` is not between 1 and half the number of bins.
    """
    n_bins = values.shape[-1]
    if scale not in get_args(Scale):
        raise ValueError(f"scale must be one of {get_args(Scale)}, got {scale!r}")
    if not 1 <= max_lag <= n_bins // 2:
        raise ValueError(f"max_lag must be between 1 and half the {n_bins} bins, got {max_lag!r}")
    lags = np.arange(-max_lag, max_lag + 1)
    centred = values - values.mean()
    shifted = jnp.pad(centred, max_lag)[lags[:, None] + max_lag + np.arange(n_bins)]
    total = jnp.einsum("it,t,jt->ij", shifted, centred, shifted, precision=jax.lax.Precision.HIGHEST)
    if scale == "biased":
        return total / n_bins
    first = np.minimum(np.minimum(lags[:, None], lags), 0)
    last = np.maximum(np.maximum(lags[:, None], lags), 0)
    return total / jnp.asarray(np.maximum(n_bins - last + first, 1), values.dtype)


def cumulant_bispectrum(
    values: Float[Array, " n_bins"],
    dt: float,
    *,
    max_lag: int | None = None,
    window: LagWindow | None = None,
    scale: Scale = "biased",
    stingray_compat: bool = False,
) -> CumulantBispectrum:
    """Bispectrum by the indirect method, Stingray's `Bispectrum`: the Fourier transform of the third cumulant.

    Args:
        values: (n_bins,) light curve.
        dt: Bin width [s].
        max_lag: Largest lag [bins] (static); half the number of bins by default.
        window: Lag window d; the cumulant is multiplied by d(i) d(j) d(j - i). None for none.
        scale: See `third_cumulant`.
        stingray_compat: Do as Stingray where it differs: its frequencies are those of one bin fewer, up to exactly
            half the sampling frequency, and its window is d(i) d(j) d(i + j), which has not the symmetry of a third
            cumulant; see also `lag_window`.

    Returns:
        Cumulant and bispectrum.

    Raises:
        ValueError: If `scale` or `window` is unknown, or `max_lag` is not between 1 and half the number of bins.

    References:
        Nikias & Raghuveer (1987), Proc. IEEE 75, 869; Maccarone (2013), MNRAS 435, 3547.
    """
    max_lag = values.shape[-1] // 2 if max_lag is None else max_lag
    cumulant = third_cumulant(values, max_lag, scale=scale)
    lags = np.arange(-max_lag, max_lag + 1)
    weighted = cumulant
    if window is not None:
        weighted = cumulant * jnp.asarray(_window_of_pairs(window, max_lag, stingray_compat), cumulant.dtype)
    transform = jnp.fft.fftshift(jnp.fft.fft2(jnp.fft.ifftshift(weighted)))
    spacing = 1.0 / (dt * (2 * max_lag if stingray_compat else 2 * max_lag + 1))
    return CumulantBispectrum(lags=lags * dt, cumulant=cumulant, freq=lags * spacing, bispectrum=transform)


def lag_window(window: LagWindow, n_lags: int, *, stingray_compat: bool = False) -> Float64[np.ndarray, " n_lags"]:
    """A lag window, highest in the middle, Stingray's `create_window`.

    Args:
        window: Its name.
        n_lags: Number of lags, odd.
        stingray_compat: Where half the Parzen window falls between two lags, let the inner polynomial reach one lag
            too far, as Stingray does.

    Raises:
        ValueError: If `window` is unknown.

    References:
        Harris (1978), Proc. IEEE 66, 51.
    """
    if window not in get_args(LagWindow):
        raise ValueError(f"window must be one of {get_args(LagWindow)}, got {window!r}")
    half = (n_lags - 1) // 2
    x = (np.arange(n_lags) - half) / half
    size = np.abs(x)
    inner = (half + 1) // 2 if stingray_compat else 0.5 * half
    cosine = [np.cos(k * np.pi * (x + 1.0)) for k in range(5)]
    return {
        "uniform": np.ones(n_lags),
        "parzen": np.where(size * half <= inner, 1.0 - 6.0 * size**2 * (1.0 - size), 2.0 * (1.0 - size) ** 3),
        "hamming": 0.54 - 0.46 * cosine[1],
        "hanning": 0.5 - 0.5 * cosine[1],
        "triangular": 1.0 - size * half / n_lags,
        "welch": 1.0 - x**2,
        "blackmann": 0.42659 - 0.49656 * cosine[1] + 0.076849 * cosine[2],
        "flat-top": 1.0 - 1.93 * cosine[1] + 1.29 * cosine[2] - 0.388 * cosine[3] + 0.028 * cosine[4],
    }[window]


def _window_of_pairs(window: LagWindow, max_lag: int, stingray_compat: bool) -> Float64[np.ndarray, "n_lags n_lags"]:
    """Two-dimensional window of the third cumulant."""
    one = lag_window(window, 2 * max_lag + 1, stingray_compat=stingray_compat)
    lags = np.arange(-max_lag, max_lag + 1)
    third = np.abs(lags[:, None] + lags if stingray_compat else lags[:, None] - lags)
    # Stingray's third factor ends one lag early.
    reach = max_lag if stingray_compat else max_lag + 1
    return np.outer(one, one) * np.where(third < reach, one[np.minimum(third, max_lag) + max_lag], 0.0)


class Bicoherence(NamedTuple):
    """Coupling of pairs of frequencies with their sum.

    Attributes:
        freq: (n_freq,) frequencies [Hz]; entry (i, j) of the rest couples freq[i], freq[j] and their sum, and is NaN
            where the sum is beyond the highest frequency.
        bispectrum: (n_freq, n_freq) mean of F(f1) F(f2) conj(F(f1 + f2)) over segments.
        squared: (n_freq, n_freq) squared bicoherence, 0 to 1; about 1 / n_segments for independent phases.
        biphase: (n_freq, n_freq) phase of the bispectrum [rad].
    """

    freq: Float[AnyArray, " n_freq"]
    bispectrum: Complex[AnyArray, "n_freq n_freq"]
    squared: Float[AnyArray, "n_freq n_freq"]
    biphase: Float[AnyArray, "n_freq n_freq"]


def bicoherence(values: Float[Array, "n_segments n_bins"], dt: float, *, n_freq: int | None = None) -> Bicoherence:
    """Bispectrum averaged over segments, and bicoherence in the norm of Kim & Powers.

    b^2 = |<F1 F2 F3*>|^2 / (<|F1 F2|^2> <|F3|^2>), which by Schwarz's inequality is at most one.

    Args:
        values: (n_segments, n_bins) light curve in segments, as of `Segments.cut`.
        dt: Bin width [s].
        n_freq: Frequencies, from the lowest (static); all by default. Memory grows with its square, not with the
            number of segments.

    Returns:
        Bispectrum, squared bicoherence and biphase.

    Raises:
        ValueError: If `values` is not of two dimensions, or `n_freq` is more than there are.

    References:
        Kim & Powers (1979), IEEE Trans. Plasma Sci. 7, 120; Maccarone (2013), MNRAS 435, 3547.
    """
    if values.ndim != 2:
        raise ValueError(f"values must have shape (n_segments, n_bins), got {values.shape}")
    freq = positive_frequencies(values.shape[1], dt)
    n = freq.size if n_freq is None else n_freq
    if not 1 <= n <= freq.size:
        raise ValueError(f"n_freq must be between 1 and {freq.size}, got {n_freq!r}")
    # Frequency k of the transform is (k + 1) / T, so that the sum of i and j is at i + j + 1.
    third = np.add.outer(np.arange(n), np.arange(n)) + 1
    known = third < freq.size
    transform = fourier_transform(values)

    def one(f: Complex[Array, " n_all"]) -> tuple[Array, Array, Array]:
        """Products of one segment."""
        pair = f[:n, None] * f[None, :n]
        last = f[np.minimum(third, freq.size - 1)]
        return pair * last.conj(), squared_modulus(pair), squared_modulus(last)

    def add(total: tuple[Array, Array, Array], f: Array) -> tuple[tuple[Array, Array, Array], None]:
        """Running sums, so that memory does not grow with the number of segments."""
        return jax.tree.map(jnp.add, total, one(f)), None

    start = jax.tree.map(jnp.zeros_like, jax.eval_shape(one, transform[0]))
    (triple, pairs, lasts), _ = jax.lax.scan(add, start, transform)
    n_segments = values.shape[0]
    denominator = pairs * lasts
    empty = denominator == 0
    squared = jnp.where(empty, jnp.nan, squared_modulus(triple) / jnp.where(empty, 1.0, denominator))
    return Bicoherence(
        freq=freq[:n],
        bispectrum=jnp.where(known, triple / n_segments, jnp.nan),
        squared=jnp.where(known, squared, jnp.nan),
        biphase=jnp.where(known, _phase(triple), jnp.nan),
    )


def _phase(z: Array) -> Array:
    """Phase, with zero gradient where the number is zero."""
    zero = square_root(squared_modulus(z)) == 0
    return jnp.where(zero, 0.0, jnp.arctan2(z.imag, jnp.where(zero, 1.0, z.real)))
