"""Power spectrum of a steady source behind constant dead time, in closed form.

Recorded events are a renewal process. With phi the characteristic function of their intervals, the Leahy power is
2 Re[(1 + phi) / (1 - phi)]. For a = rate * tau and x = 2 pi f tau,

    non-paralyzable:  P(f) = 2 / [(1 + a sin(x) / x)^2 + (a (1 - cos x) / x)^2],
    paralyzable:      P(f) = 2 [1 - 2 a exp(-a) sin(x) / x],

written so that nothing cancels at low frequency. Binning multiplies the power by sinc^2(f dt) and folds it: the
binned spectrum is 2 + sum over k of sinc^2((f + k / dt) dt) [P(f + k / dt) - 2]. The aliases left out cost less than
1e-4 of the power, and quickly less the more are kept, once n_aliases / dt is above a few 1 / tau.

Powers of a steady source are close to independent and exponential about this mean, also where dead time is strong: use
it as model in `whittle` and `averaged_powers`. In short light curves the deep valley at low frequency is filled by
leakage, by 5 % for 128 bins of 1 ms at rate * tau = 2.5: `dead_time_periodogram` takes it into account.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from eagleray.records import AnyArray

Number = Float[Array, ""] | float


def detected_rate(rate: Number, dead_time: Number, *, paralyzable: bool = False) -> Float[Array, ""]:
    """Mean rate of recorded events of a steady source.

    Args:
        rate: Incident rate of one detector, background included [counts/s].
        dead_time: Dead time of an event [s].
        paralyzable: Whether lost events start a dead time too (static).

    Returns:
        r / (1 + r tau), or r exp(-r tau) if paralyzable [counts/s].

    References:
        Zhang et al. (1995), ApJ 449, 930, section 2.
    """
    rate = jnp.asarray(rate)
    return rate * jnp.exp(-rate * dead_time) if paralyzable else rate / (1.0 + rate * dead_time)


def dead_time_spectrum(
    freq: Float[AnyArray, " n_freq"],
    rate: Number,
    dead_time: Number,
    *,
    dt: float | None = None,
    paralyzable: bool = False,
    n_aliases: int = 32,
) -> Float[Array, " n_freq"]:
    """Mean Leahy power of a steady source behind constant dead time.

    Args:
        freq: (n_freq,) frequencies [Hz].
        rate: Incident rate of one detector, background included [counts/s].
        dead_time: Dead time of an event [s].
        dt: Bin width [s] (static); None for the spectrum of the events themselves, without binning.
        paralyzable: Whether lost events start a dead time too (static).
        n_aliases: Aliases kept on either side (static). Take at least 2 dt / tau.

    Returns:
        (n_freq,) mean powers in Leahy norm, differentiable in rate and dead time; 2 without dead time. The same for the
        sum of several detectors, each of this rate. This is the limit of long light curves.

    Raises:
        ValueError: If dt is not positive or n_aliases is negative.

    References:
        Zhang et al. (1995), ApJ 449, 930, whose binned spectrum for non-paralyzable dead time this is.
        Power of a renewal process: Cox & Lewis (1966), The Statistical Analysis of Series of Events (Methuen),
        chapter 4.
    """
    rate, dead_time = jnp.asarray(rate), jnp.asarray(dead_time)
    dtype = jnp.result_type(float, *(a for a in (rate, dead_time) if jnp.issubdtype(a.dtype, jnp.floating)))
    freq, rate, dead_time = jnp.asarray(freq, dtype), rate.astype(dtype), dead_time.astype(dtype)
    excess = _paralyzable_excess if paralyzable else _non_paralyzable_excess
    if dt is None:
        return 2.0 + excess(freq, rate, dead_time)
    if not dt > 0:
        raise ValueError(f"dt must be positive (seconds), got {dt!r}")
    if n_aliases < 0:
        raise ValueError(f"n_aliases must not be negative, got {n_aliases!r}")
    numbers = np.arange(1, n_aliases + 1)
    # Far aliases first: small terms are added to small sums.
    order = np.concatenate([np.stack([-numbers[::-1], numbers[::-1]], axis=1).ravel(), [0]])

    @jax.checkpoint
    def add(total: Array, k: Array) -> tuple[Array, None]:
        response = jnp.sinc(freq * dt + k)
        return total + response * response * excess(freq + k / dt, rate, dead_time), None

    total, _ = lax.scan(add, jnp.zeros_like(freq), jnp.asarray(order, dtype))
    return 2.0 + total


def dead_time_periodogram(
    rate: Number, dead_time: Number, n_bins: int, dt: float, *, paralyzable: bool = False, n_aliases: int = 32
) -> Float[Array, " n_freq"]:
    """Mean Leahy periodogram of a short light curve of a steady source behind constant dead time.

    Args:
        rate: Incident rate of one detector, background included [counts/s].
        dead_time: Dead time of an event [s].
        n_bins: Bins of the light curve, or of each segment where periodograms are averaged (static). Together they
            should last several dead times.
        dt: Bin width [s] (static).
        paralyzable: Whether lost events start a dead time too (static).
        n_aliases: Aliases kept on either side (static). Take at least 2 dt / tau.

    Returns:
        (n_freq,) mean powers in Leahy norm at `positive_frequencies(n_bins, dt)`, leakage included.

    Raises:
        ValueError: If dt is not positive, n_aliases negative, or n_bins below 3, which leaves no frequency.

    References:
        Zhang et al. (1995), ApJ 449, 930; Stingray's `pds_model_zhang` and `non_paralyzable_dead_time_model`.
    """
    if n_bins < 3:
        raise ValueError(f"n_bins must be at least 3, got {n_bins!r}")
    # The window sees covariances at lag k with weight 1 - k / n: twice as many frequencies resolve all lags.
    fine = np.arange(n_bins + 1) / (2 * n_bins * dt)
    spectrum = dead_time_spectrum(fine, rate, dead_time, dt=dt, paralyzable=paralyzable, n_aliases=n_aliases)
    lags = np.arange(2 * n_bins)
    weight = 1.0 - np.minimum(lags, 2 * n_bins - lags) / n_bins
    excess = jnp.fft.irfft(spectrum - 2.0, 2 * n_bins) * jnp.asarray(weight, spectrum.dtype)
    return 2.0 + jnp.fft.rfft(excess).real[2:n_bins:2]


def white_level(
    freq: Float[AnyArray, " n_freq"],
    rate: Number,
    dead_time: Number,
    dt: float,
    *,
    norm: Literal["leahy", "frac", "abs"] = "leahy",
    paralyzable: bool = False,
    n_detectors: int = 1,
    n_aliases: int = 32,
) -> Float[Array, " n_freq"]:
    """White noise as dead time leaves it: the mean periodogram of a steady source, in any norm.

    This is the model of `whittle` for a steady source, and what stands in the place of a constant noise level in models
    of a variable one. There it is an approximation: dead time also distorts the variability.

    Args:
        freq: (n_freq,) frequencies of the periodogram, up to Nyquist [Hz].
        rate: Incident rate of one detector, background included [counts/s].
        dead_time: Dead time of an event [s].
        dt: Bin width of the light curve [s] (static).
        norm: Norm of the periodogram (static): "leahy", "frac" or "abs".
        paralyzable: Whether lost events start a dead time too (static).
        n_detectors: Detectors of this rate whose counts were added (static).
        n_aliases: Aliases kept on either side (static). Take at least 2 dt / tau.

    Returns:
        (n_freq,) mean powers: 2 in Leahy norm without dead time, 2 / rate in fractional norm, 2 rate in absolute norm.

    Raises:
        ValueError: If norm is none of the three, dt or n_detectors not positive, or n_aliases negative.

    References:
        As `dead_time_spectrum`; for the norms Vaughan et al. (2003), MNRAS 345, 1271, appendix A.
    """
    if norm not in ("leahy", "frac", "abs"):
        raise ValueError(f"norm must be 'leahy', 'frac' or 'abs', got {norm!r}")
    if n_detectors < 1:
        raise ValueError(f"n_detectors must be at least 1, got {n_detectors!r}")
    leahy = dead_time_spectrum(freq, rate, dead_time, dt=dt, paralyzable=paralyzable, n_aliases=n_aliases)
    if norm == "leahy":
        return leahy
    total = (n_detectors * detected_rate(rate, dead_time, paralyzable=paralyzable)).astype(leahy.dtype)
    return leahy / total if norm == "frac" else leahy * total


def _non_paralyzable_excess(freq: Array, rate: Array, dead_time: Array) -> Array:
    """P(f) - 2 of the module's docstring."""
    turns = freq * dead_time
    lost = rate * dead_time
    sine, half = jnp.sinc(2.0 * turns), jnp.sinc(turns)
    drop = lost * (2.0 * sine + lost * half * half)
    return -2.0 * drop / ((1.0 + lost * sine) ** 2 + (lost * jnp.pi * turns * half * half) ** 2)


def _paralyzable_excess(freq: Array, rate: Array, dead_time: Array) -> Array:
    """P(f) - 2 of the module's docstring."""
    lost = rate * dead_time
    return -4.0 * lost * jnp.exp(-lost) * jnp.sinc(2.0 * freq * dead_time)
