"""Likelihood of a regular series with any stationary covariance, and covariances from power spectra.

Nothing is assumed about frequencies below one over the duration or above Nyquist: what leaks from the one and is
folded from the other is in the covariance. Without gaps the factor of the covariance is made column by column (Schur's
algorithm, n^2 operations); with gaps or unequal noise by Cholesky's.

In float32 the error of the result is about 1e-7 times the ratio of the covariance's largest to its smallest
eigenvalue, roughly that of the highest power to the noise level: fit steeper spectra than 1e5 in float64.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float
from scipy.fft import next_fast_len


def autocovariance_of_power(power: Float[Array, " n_freq"], n: int, dt: float) -> Float[Array, " n"]:
    """Autocovariance of a periodic series of n bins with a given spectrum, at lags 0 to (n - 1) dt.

    Args:
        power: (n // 2,) one-sided spectrum at the positive Fourier frequencies of n bins, units squared per hertz.
        n: Number of bins (static).
        dt: Bin width [s].

    Returns:
        (n,) autocovariance.

    Raises:
        ValueError: If `power` has not n // 2 entries.
    """
    if power.shape != (n // 2,):
        raise ValueError(f"power must have shape ({n // 2},) for a series of {n} bins, got {power.shape}")
    return jnp.fft.irfft(jnp.pad(power, (1, 0)), n) / (2.0 * dt)


def autocovariance(
    spectrum: Callable[[Float[Array, " n_freq"]], Float[Array, " n_freq"]],
    n_bins: int,
    dt: float,
    *,
    red_noise: float = 16.0,
    n_aliases: int = 4,
    binned: bool = False,
) -> Float[Array, " n_bins"]:
    """Autocovariance of a regular series from its process's spectrum, leakage and aliases included.

    Args:
        spectrum: One-sided spectrum, a function of positive frequencies [Hz], in units squared per hertz.
        n_bins: Bins of the series (static).
        dt: Bin width [s].
        red_noise: How many times longer than the series the longest period is; the spectrum is cut off below.
        n_aliases: The spectrum is cut off above this multiple of the Nyquist frequency (static).
        binned: Whether values are averages over bins instead of values at one time each.

    Returns:
        (n_bins,) autocovariance at lags 0 to (n_bins - 1) dt.

    Raises:
        ValueError: If `red_noise` is below 2, where the ends of the series would touch, or `n_aliases` below 1.
    """
    if not red_noise >= 2:
        raise ValueError(f"red_noise must be at least 2, got {red_noise!r}")
    if not n_aliases >= 1:
        raise ValueError(f"n_aliases must be at least 1, got {n_aliases!r}")
    fast: Any = next_fast_len(int(np.ceil(n_bins * red_noise)), real=True)  # SciPy's hint says None
    n_long = n_aliases * fast
    step = dt / n_aliases
    host_freq = np.fft.rfftfreq(n_long, step)[1:]
    power = spectrum(jnp.asarray(host_freq, jnp.result_type(float)))
    if binned:
        power = power * jnp.asarray(np.sinc(host_freq * dt) ** 2, power.dtype)
    return autocovariance_of_power(power, n_long, step)[: n_bins * n_aliases : n_aliases]


def stationary_log_likelihood(
    covariance: Float[Array, " n"],
    values: Float[Array, " n"],
    variance: ArrayLike,
    *,
    mean: ArrayLike = 0.0,
    mask: Bool[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Ln likelihood of a regular series: a stationary Gaussian process plus independent Gaussian noise.

    Args:
        covariance: (n,) autocovariance of the process at lags 0 to (n - 1) bins.
        values: (n,) measured values.
        variance: Variance of the measurement noise. A scalar (with no mask) costs n^2 operations, (n,) values n^3.
        mean: Mean, a scalar or (n,).
        mask: (n,) True where there is a measurement; everywhere by default.

    Returns:
        Ln likelihood; NaN if covariance and noise together are not positive definite.

    Raises:
        ValueError: If shapes do not fit.

    References:
        Kailath & Sayed (1995), SIAM Review 37, 297 (Schur's algorithm and displacement structure).
    """
    covariance, values, variance, mean = (jnp.asarray(x) for x in (covariance, values, variance, mean))
    if covariance.ndim != 1 or values.shape != covariance.shape:
        raise ValueError(f"covariance and values must have shape (n,), got {covariance.shape} and {values.shape}")
    for name, x in (("variance", variance), ("mean", mean)):
        if x.shape not in ((), values.shape):
            raise ValueError(f"{name} must be a scalar or of shape {values.shape}, got {x.shape}")
    if mask is not None and mask.shape != values.shape:
        raise ValueError(f"mask must have shape {values.shape}, got {mask.shape}")
    dtype = jnp.result_type(covariance, values, variance, mean, 1.0)
    covariance, variance, residual = (x.astype(dtype) for x in (covariance, variance, values - mean))
    if mask is None and variance.ndim == 0:
        diagonal, whitened = _schur(covariance.at[0].add(variance), residual)
        mask = jnp.ones(values.shape, bool)
    else:
        mask = jnp.ones(values.shape, bool) if mask is None else mask
        lags = np.abs(np.subtract.outer(*(np.arange(values.shape[0]),) * 2))
        # A missing value becomes an independent one of unit variance, at its mean.
        matrix = jnp.where(mask[:, None] & mask, covariance[lags], 0.0)
        matrix += jnp.diag(jnp.where(mask, variance, 1.0))
        factor = jnp.linalg.cholesky(matrix)
        diagonal = jnp.diagonal(factor)
        whitened = jax.scipy.linalg.solve_triangular(factor, jnp.where(mask, residual, 0.0), lower=True)
    terms = whitened * whitened + 2.0 * jnp.log(diagonal) + math.log(2.0 * math.pi)
    return -0.5 * jnp.where(mask, terms, 0.0).sum()


def _schur(covariance: Array, residual: Array) -> tuple[Array, Array]:
    """Diagonal of the Cholesky factor L of a symmetric Toeplitz matrix, and L^-1 residual.

    Each step makes one column of L, which begins with its diagonal, from the one before and a second generator.
    """
    n = residual.shape[0]
    column, place = covariance / jnp.sqrt(covariance[0]), jnp.arange(n)

    @jax.checkpoint
    def step(state: tuple[Array, Array, Array], k: Array) -> tuple[tuple[Array, Array, Array], tuple[Array, Array]]:
        column, other, rest = state
        value = rest[0] / column[0]
        rest, other = (jnp.concatenate([x[1:], jnp.zeros_like(x[:1])]) for x in (rest - column * value, other))
        reflection = other[0] / column[0]
        scale = jax.lax.rsqrt((1.0 - reflection) * (1.0 + reflection))
        # Rows beyond the matrix must stay zero: the last reflection is then zero, and not a NaN in the gradient.
        inside = jnp.where(place < n - 1 - k, column, 0.0)
        after = (scale * (inside - reflection * other), scale * (other - reflection * inside), rest)
        return after, (column[0], value)

    return jax.lax.scan(step, (column, column.at[0].set(0.0), residual), place)[1]
