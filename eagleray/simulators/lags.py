"""Light curves in several bands: given spectra, coherences and lags, all functions of frequency.

Signs are Stingray's (since its version 1.1). The cross spectrum of bands 1 and 2 is C = <conj(F_1) F_2>, and its phase
is a *positive* lag when band 1 (the band of interest) comes after band 2 (the reference): `AveragedCrossspectrum(lc_1,
lc_2).time_lag()` then is positive.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from eagleray.records import Key
from eagleray.simulators.semidefinite import semidefinite_cholesky


def phase_lag(time_lag: Float[Array, "*m n_freq"], freq: Float[Array, " n_freq"]) -> Float[Array, "*m n_freq"]:
    """Phase lags of given time lags.

    Args:
        time_lag: (..., n_freq) or (...) with a trailing axis to broadcast: time lags [s].
        freq: (n_freq,) frequencies [Hz].

    Returns:
        Phase lags 2 pi f tau [rad].
    """
    return 2.0 * math.pi * time_lag * jnp.broadcast_to(freq, time_lag.shape)


def pair_matrix(
    power_1: Float[Array, " n_freq"],
    power_2: Float[Array, " n_freq"],
    coherence: Float[Array, " n_freq"],
    lag: Float[Array, " n_freq"],
) -> Complex[Array, "n_freq 2 2"]:
    """Cross-spectral matrix of two bands.

    Args:
        power_1: (n_freq,) one-sided spectrum of band 1.
        power_2: (n_freq,) one-sided spectrum of band 2.
        coherence: (n_freq,) squared coherence gamma^2 = |C|^2 / (P_1 P_2), 0 to 1.
        lag: (n_freq,) phase by which band 1 lags band 2 [rad].

    Returns:
        (n_freq, 2, 2) matrices <conj(F_i) F_j> in the units of the powers.

    References:
        Vaughan & Nowak (1997), ApJ 474, L43, equations 1-2; Uttley et al. (2014), A&ARv 22, 72, section 2.
    """
    size = jnp.sqrt(coherence * power_1 * power_2)
    cross = jax.lax.complex(size * jnp.cos(lag), size * jnp.sin(lag))
    first, second = power_1.astype(cross.dtype), power_2.astype(cross.dtype)
    return jnp.stack([jnp.stack([first, cross], -1), jnp.stack([cross.conj(), second], -1)], -2)


def driven_matrix(
    powers: Float[Array, "m n_freq"], coherences: Float[Array, "m n_freq"], lags: Float[Array, "m n_freq"]
) -> Complex[Array, "n_freq m m"]:
    """Cross-spectral matrix of bands that share one driver, each with noise of its own besides.

    Always positive semidefinite. The squared coherence of bands i and j is the product of theirs with the driver, and
    band i lags band j by lags_i - lags_j.

    Args:
        powers: (m, n_freq) one-sided spectra of the bands.
        coherences: (m, n_freq) squared coherence of each band with the driver, 0 to 1.
        lags: (m, n_freq) phase by which each band lags the driver [rad].

    Returns:
        (n_freq, m, m) matrices <conj(F_i) F_j>.

    References:
        Uttley et al. (2014), A&ARv 22, 72, section 2.
    """
    size = jnp.sqrt(coherences * powers)
    shared = jax.lax.complex(size * jnp.cos(lags), size * jnp.sin(lags)).T
    own = jax.vmap(jnp.diag)(((1.0 - coherences) * powers).T)
    return shared[:, :, None] * shared.conj()[:, None, :] + own.astype(shared.dtype)


def correlated_processes(key: Key, matrix: Complex[Array, "n_freq m m"], n: int, dt: float) -> Float[Array, "m n"]:
    """Draw periodic Gaussian series of zero mean with a given cross-spectral matrix.

    At the Nyquist frequency, where amplitudes are real, phases are lost and the real part of the matrix remains.

    Args:
        key: Typed PRNG key; consumed.
        matrix: (n // 2, m, m) Hermitian matrices <conj(F_i) F_j> at `fourier_frequencies(n, dt)`, the one-sided spectra
            on the diagonal, positive semidefinite (fully coherent bands are allowed).
        n: Number of bins (static).
        dt: Bin width [s].

    Returns:
        (m, n) series.

    Raises:
        ValueError: If there are not n // 2 matrices.

    References:
        Timmer & Koenig (1995), A&A 300, 707, section 3, with a Cholesky factor for the amplitude.
    """
    n_freq, m = n // 2, matrix.shape[-1]
    if matrix.shape[0] != n_freq:
        raise ValueError(f"matrix must have n // 2 = {n_freq} frequencies, got {matrix.shape[0]}")
    # E[F F^H] is the transpose of <conj(F_i) F_j>.
    factor = semidefinite_cholesky(matrix.conj())
    normals = jax.random.normal(key, (2, n_freq, m), factor.real.dtype)
    draws = jax.lax.complex(normals[0], normals[1])
    transform = math.sqrt(n / (4.0 * dt)) * jnp.sum(factor * draws[:, None, :], -1)
    if n % 2 == 0:
        nyquist = (jnp.arange(n_freq) == n_freq - 1)[:, None]
        transform = jnp.where(nyquist, (math.sqrt(2.0) * transform.real).astype(transform.dtype), transform)
    return jnp.fft.irfft(jnp.pad(transform, ((1, 0), (0, 0))), n, axis=0).T


def lagged_pair(
    key: Key,
    power_1: Float[Array, " n_freq"],
    power_2: Float[Array, " n_freq"],
    *,
    coherence: Float[Array, " n_freq"],
    lag: Float[Array, " n_freq"],
    n: int,
    dt: float,
) -> Float[Array, "2 n"]:
    """Draw two series with given spectra, coherence and phase lag.

    Args:
        key: Typed PRNG key; consumed.
        power_1: (n // 2,) one-sided spectrum of band 1 at `fourier_frequencies(n, dt)`.
        power_2: (n // 2,) one-sided spectrum of band 2.
        coherence: (n // 2,) squared coherence, 0 to 1.
        lag: (n // 2,) phase by which band 1 lags band 2 [rad]; `phase_lag` makes it from time lags.
        n: Number of bins (static).
        dt: Bin width [s].

    Returns:
        (2, n) series of zero mean. `AveragedCrossspectrum(series_1, series_2)` of Stingray finds `lag` with its sign.

    Raises:
        ValueError: If the spectra have not n // 2 entries.

    References:
        Vaughan & Nowak (1997), ApJ 474, L43.
    """
    return correlated_processes(key, pair_matrix(power_1, power_2, coherence, lag), n, dt)
