"""Lomb-Scargle periodograms and cross spectra of irregular or gappy light curves.

A periodogram is a least-squares fit of a sinusoid at each frequency, about the mean or with the mean fitted too. The
sums over times are exact: `trial_phases(times, freqs)` reduces phases from float64 on the host, and on a uniform grid
with gaps they come from two Fourier transforms.
"""

import math
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Float64

from eagleray.records import Norm
from eagleray.summaries.phases import TrialPhases

FitNorm = Literal["standard", "model", "log", "psd"]
"""Norm of a periodogram by what the fit explains: of the variance, of the rest, its logarithm, chi-squared over 2."""


class _Sums(NamedTuple):
    """Weighted means over the values at each frequency, weights adding up to one."""

    y_cosine: Array
    y_sine: Array
    cosine: Array
    sine: Array
    cosine_twice: Array
    sine_twice: Array


class _Weighted(NamedTuple):
    """Values about their mean, with weights that add up to one."""

    residual: Array
    weights: Array
    mean: Array
    n: Array
    inverse_variance: Array | None


def lomb_scargle_frequencies(
    length: float,
    dt: float,
    *,
    min_freq: float | None = None,
    max_freq: float | None = None,
    df: float | None = None,
) -> Float64[np.ndarray, " n_freq"]:
    """Stingray's grid of frequencies for irregular light curves, on the host.

    Args:
        length: Last time less the first [s].
        dt: Time resolution [s].
        min_freq: First frequency [Hz]; default df / 2.
        max_freq: Largest frequency, which the last one may pass by up to a step [Hz]; default 1 / (2 dt).
        df: Step [Hz]; default 1 / length.

    Returns:
        (n_freq,) frequencies [Hz].

    Raises:
        ValueError: If a step, a length or the first frequency is not positive, or none is left.
    """
    df = 1.0 / length if df is None else df
    min_freq = 0.5 * df if min_freq is None else min_freq
    max_freq = 0.5 / dt if max_freq is None else max_freq
    if not 0 < df < math.inf:
        raise ValueError(f"df must be positive (Hz), got {df!r}")
    if not 0 < min_freq < max_freq + df:
        raise ValueError(f"min_freq must be positive and below max_freq = {max_freq!r} Hz, got {min_freq!r}")
    return np.arange(min_freq, max_freq + df, df)


def lomb_scargle(
    values: Float[Array, " n"],
    phases: TrialPhases,
    dt: float = 1.0,
    *,
    norm: Norm | FitNorm = "frac",
    errors: Float[Array, " n"] | None = None,
    mask: Float[Array, " n"] | None = None,
    fit_mean: bool = False,
) -> Float[Array, "*trials"]:
    """Lomb-Scargle periodogram. Differentiable by the values.

    Args:
        values: (n,) counts per bin at the times of `phases` (for rates, rate * dt, where the norm asks for counts).
        phases: `trial_phases(times, freqs)`.
        dt: Length of the bins [s], for "frac" and "abs".
        norm: "leahy", "frac", "abs" or "none", as for `power_spectrum` (with errors "leahy" is noise level 2 by the
            errors, not by counts); or "standard", "model", "log" or "psd", as in astropy (static).
        errors: (n,) standard deviation of each value, which weights it by 1 / error^2; default equal weights.
        mask: (n,) 1 where a value counts, 0 in a gap; default all ones.
        fit_mean: Fit the mean together with the sinusoid (static).

    Returns:
        Power at each trial frequency.

    Raises:
        ValueError: If the norm is none of the eight, or is "psd" without errors.

    References:
        Lomb (1976), Ap&SS 39, 447; Scargle (1982), ApJ 263, 835; Zechmeister & Kuerster (2009), A&A 496, 577;
        VanderPlas (2018), ApJS 236, 16.
    """
    _check_norm(norm, errors)
    data = _weigh(values, errors, mask)

    def sums(phase: Array) -> _Sums:
        angle = (2.0 * math.pi) * phase.astype(values.dtype)
        cosine, sine = jnp.cos(angle), jnp.sin(angle)
        weighted = data.weights * data.residual
        return _Sums(
            (weighted * cosine).sum(),
            (weighted * sine).sum(),
            (data.weights * cosine).sum(),
            (data.weights * sine).sum(),
            (data.weights * (cosine - sine) * (cosine + sine)).sum(),
            (data.weights * 2.0 * cosine * sine).sum(),
        )

    return _normalise(_fit(phases.map(sums), fit_mean), data, values, mask, norm, dt)


def grid_lomb_scargle(
    values: Float[Array, " n_bins"],
    dt: float,
    *,
    norm: Norm | FitNorm = "frac",
    errors: Float[Array, " n_bins"] | None = None,
    mask: Float[Array, " n_bins"] | None = None,
    fit_mean: bool = False,
    oversampling: int = 1,
) -> Float[Array, " n_freq"]:
    """Lomb-Scargle periodogram of a gappy light curve on a uniform grid, by two Fourier transforms: exact, not "fast".

    Args:
        values: (n_bins,) counts per bin; anything in gaps.
        dt: Bin width [s].
        norm: As for `lomb_scargle` (static).
        errors: As for `lomb_scargle`.
        mask: (n_bins,) 1 where a value counts, 0 in a gap; default all ones.
        fit_mean: As for `lomb_scargle` (static).
        oversampling: Frequencies for each independent one (static).

    Returns:
        (n_freq,) powers at `positive_frequencies(oversampling * n_bins, dt)`. Without gaps, and once sampled, they are
        those of `power_spectrum`.

    Raises:
        ValueError: If the norm is none of the eight, or is "psd" without errors, or oversampling is below one.
    """
    _check_norm(norm, errors)
    if oversampling < 1:
        raise ValueError(f"oversampling must be at least 1, got {oversampling}")
    data = _weigh(values, errors, mask)
    n_padded = oversampling * values.shape[0]
    index = np.arange(1, (n_padded + 1) // 2)
    # exp(-i w t): the sine sums are minus the imaginary parts.
    of_values = jnp.fft.fft(data.weights * data.residual, n_padded)[index]
    window = jnp.fft.fft(data.weights, n_padded)
    once, twice = window[index], window[2 * index % n_padded]
    sums = _Sums(of_values.real, -of_values.imag, once.real, -once.imag, twice.real, -twice.imag)
    return _normalise(_fit(sums, fit_mean), data, values, mask, norm, dt)


def lomb_scargle_transform(
    values: Float[Array, " n"], phases: TrialPhases, mask: Float[Array, " n"] | None = None
) -> Complex[Array, "*trials"]:
    """Fourier transform of irregular values whose squared modulus is the Lomb-Scargle power in the norm "none".

    The phase is that of sum x exp(-2 pi i f t), for times counted from where those of `phases` are.

    Args:
        values: (n,) counts per bin.
        phases: `trial_phases(times, freqs)`.
        mask: (n,) 1 where a value counts, 0 in a gap; default all ones.

    Returns:
        Transform at each trial frequency.

    References:
        Scargle (1989), ApJ 343, 874.
    """
    data = _weigh(values, None, mask)
    seen = (data.weights > 0).astype(values.dtype)

    def at(phase: Array) -> tuple[Array, Array]:
        angle = (2.0 * math.pi) * phase.astype(values.dtype)
        tau = 0.5 * jnp.arctan2((seen * jnp.sin(2.0 * angle)).sum(), (seen * jnp.cos(2.0 * angle)).sum())
        cosine, sine = jnp.cos(angle - tau), jnp.sin(angle - tau)
        real = _projection(seen * data.residual, cosine, seen)
        imag = -_projection(seen * data.residual, sine, seen)
        turn_real, turn_imag = jnp.cos(tau), -jnp.sin(tau)
        return real * turn_real - imag * turn_imag, real * turn_imag + imag * turn_real

    real, imag = phases.map(at)
    scale = jnp.sqrt(0.5 * data.n)
    return jax.lax.complex(scale * real, scale * imag)


def lomb_scargle_cross(
    values_1: Float[Array, " n_1"],
    phases_1: TrialPhases,
    values_2: Float[Array, " n_2"],
    phases_2: TrialPhases,
    dt: float = 1.0,
    *,
    norm: Norm = "frac",
    mask_1: Float[Array, " n_1"] | None = None,
    mask_2: Float[Array, " n_2"] | None = None,
) -> Complex[Array, "*trials"]:
    """Cross spectrum conj(F_1) F_2 of two irregular light curves, sampled alike or not. Differentiable by the values.

    Its angle is positive where the first lags the second, as for evenly sampled light curves. Where the two are
    sampled at the same times this is Stingray's (`method="slow"`); where not, Stingray counts the times of each from
    its own start and turns its phase the wrong way, so that lags are lost.

    Args:
        values_1: (n_1,) counts per bin of the first, the band of interest.
        phases_1: `trial_phases(times_1, freqs)`.
        values_2: (n_2,) counts per bin of the second, the reference.
        phases_2: `trial_phases(times_2, freqs)`, of times counted from the same zero, at the same frequencies.
        dt: Length of the bins [s], for "frac" and "abs".
        norm: As for `power_spectrum` (static).
        mask_1: (n_1,) 1 where a value counts, 0 in a gap; default all ones.
        mask_2: (n_2,) likewise.

    Returns:
        Cross spectrum at each trial frequency, in the norm of the geometric mean of the two.

    Raises:
        ValueError: If the norm is none of the four.
    """
    if norm not in get_args(Norm):
        raise ValueError(f"norm must be one of {get_args(Norm)}, got {norm!r}")
    first = lomb_scargle_transform(values_1, phases_1, mask_1)
    second = lomb_scargle_transform(values_2, phases_2, mask_2)
    data_1, data_2 = _weigh(values_1, None, mask_1), _weigh(values_2, None, mask_2)
    mean, n = jnp.sqrt(data_1.mean * data_2.mean), jnp.sqrt(data_1.n * data_2.n)
    scale = _scale(norm, mean * n, mean, n, dt)
    return jnp.conj(first) * second * jax.lax.complex(scale, jnp.zeros_like(scale))


def _check_norm(norm: str, errors: Array | None) -> None:
    known = get_args(Norm) + get_args(FitNorm)
    if norm not in known:
        raise ValueError(f"norm must be one of {known}, got {norm!r}")
    if norm == "psd" and errors is None:
        raise ValueError("errors must be given for the norm 'psd', got None")


def _weigh(values: Array, errors: Array | None, mask: Array | None) -> _Weighted:
    """Values about their weighted mean; what is masked has no weight and no value."""
    mask = jnp.ones_like(values) if mask is None else mask
    seen = mask > 0
    weights, inverse_variance = mask, None
    if errors is not None:
        weights = jnp.where(seen, mask / jnp.where(seen, errors, 1.0) ** 2, 0.0)
        inverse_variance = weights.sum()
    weights = weights / weights.sum()
    safe = jnp.where(seen, values, 0.0)
    mean = (weights * safe).sum()
    return _Weighted(jnp.where(seen, safe - mean, 0.0), weights, mean, mask.sum(), inverse_variance)


def _fit(sums: _Sums, fit_mean: bool) -> Array:
    """Mean square that the best sinusoid explains, times one over n for each of the two amplitudes' sums."""
    cosine_square, sine_square = 0.5 * (1.0 + sums.cosine_twice), 0.5 * (1.0 - sums.cosine_twice)
    product = 0.5 * sums.sine_twice
    if fit_mean:
        cosine_square = cosine_square - sums.cosine**2
        sine_square = sine_square - sums.sine**2
        product = product - sums.cosine * sums.sine
    determinant = cosine_square * sine_square - product**2
    trace = cosine_square + sine_square
    explained = (
        sine_square * sums.y_cosine**2 + cosine_square * sums.y_sine**2 - 2.0 * product * sums.y_cosine * sums.y_sine
    )
    # At Nyquist of a uniform grid sine and cosine are one function, and one amplitude is all there is.
    good = determinant > 4.0 * jnp.finfo(trace.dtype).eps * trace**2
    one_amplitude = (sums.y_cosine**2 + sums.y_sine**2) / trace
    return jnp.where(good, explained / jnp.where(good, determinant, 1.0), one_amplitude)


def _normalise(fitted: Array, data: _Weighted, values: Array, mask: Array | None, norm: str, dt: float) -> Array:
    """Powers in the norm asked for, from the mean square explained."""
    variance = (data.weights * data.residual**2).sum()
    if norm == "standard":
        return fitted / variance
    if norm == "model":
        return fitted / (variance - fitted)
    if norm == "log":
        return -jnp.log1p(-fitted / variance)
    if data.inverse_variance is not None and norm in ("psd", "leahy"):
        return fitted * data.inverse_variance * (0.5 if norm == "psd" else 1.0)
    total = (values if mask is None else jnp.where(mask > 0, values, 0.0)).sum()
    return 0.5 * data.n**2 * fitted * _scale(norm, total, data.mean, data.n, dt)


def _scale(norm: str, total: Array, mean: Array, n: Array, dt: float) -> Array:
    """What turns |F|^2 into powers."""
    if norm == "leahy":
        return 2.0 / total
    if norm == "frac":
        return 2.0 * dt / (mean**2 * n)
    return 2.0 / (n * dt) if norm == "abs" else jnp.ones_like(n)


def _projection(values: Array, wave: Array, seen: Array) -> Array:
    """Sum of values times a wave of unit length; zero if the wave is nowhere seen."""
    square = (seen * wave**2).sum()
    some = square > 0
    return jnp.where(some, (values * wave).sum() / jnp.sqrt(jnp.where(some, square, 1.0)), 0.0)
