"""Is there a pulsation? Z^2_n, the H test, epoch folding and phase dispersion, from phases or from profiles."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from eagleray.summaries.pulsations.folding import phase_bin


class HTest(NamedTuple):
    """The H statistic and the number of harmonics at which it is reached."""

    h: Float[Array, ""]
    n_harmonics: Int[Array, ""]


def z_squared(
    phase: Float[Array, " n"],
    n_harmonics: int,
    weights: Float[Array, " n"] | None = None,
    variances: Float[Array, " n"] | None = None,
) -> Float[Array, " n_harmonics"]:
    """Z^2_1 to Z^2_n of phases, not binned. Differentiable by phases and weights.

    Each harmonic adds 2 |sum_j w_j exp(2 pi i k phase_j)|^2 / sum_j v_j. Without a pulsation Z^2_n follows chi-squared
    with 2 n degrees of freedom.

    Args:
        phase: (n,) phases [cycles], any whole number of cycles added.
        n_harmonics: Harmonics, the fundamental included (static).
        weights: (n,) counts each phase stands for; 0 masks. Default all ones (photons). For fluxes: flux - mean.
        variances: (n,) variance of each weight. Default the weights themselves (counts). For photon probabilities the
            squared weights; for fluxes the squared errors.

    Returns:
        (n_harmonics,) Z^2_1, ..., Z^2_n; the last is Z^2_n. Zero where there is nothing.

    Raises:
        ValueError: If n_harmonics is below one.

    References:
        Buccheri et al. (1983), A&A 128, 245; for weights Kerr (2011), ApJ 732, 38.
    """
    _check_harmonics(n_harmonics)
    weights = jnp.ones_like(phase) if weights is None else weights
    variances = weights if variances is None else variances
    angle = (2.0 * math.pi) * (phase - jax.lax.stop_gradient(jnp.round(phase)))
    cosine, sine = jnp.cos(angle), jnp.sin(angle)

    def next_harmonic(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        real, imag = carry
        power = real.sum() ** 2 + imag.sum() ** 2
        return (real * cosine - imag * sine, real * sine + imag * cosine), power

    # A scan, not a loop: unrolled, the compiler computes each harmonic anew from the first.
    _, powers = jax.lax.scan(next_harmonic, (weights * cosine, weights * sine), None, length=n_harmonics)
    return _over(2.0 * jnp.cumsum(powers), variances.sum())


def z_squared_of_profile(
    profile: Float[Array, " n_bins"], n_harmonics: int, error: Float[Array, ""] | None = None
) -> Float[Array, " n_harmonics"]:
    """Z^2_1 to Z^2_n of a pulse profile. Differentiable.

    Args:
        profile: (n_bins,) counts in each bin of phase, or fluxes.
        n_harmonics: Harmonics, the fundamental included (static). Those above n_bins / 2 repeat those below.
        error: Standard deviation of each bin, for fluxes; None for counts.

    Returns:
        (n_harmonics,) Z^2_1, ..., Z^2_n. Zero for a profile without counts.

    Raises:
        ValueError: If n_harmonics is below one.

    References:
        Bachetti et al. (2021), ApJ 909, 33.
    """
    _check_harmonics(n_harmonics)
    n_bins = profile.shape[0]
    transform = jnp.fft.fft(profile)[np.arange(1, n_harmonics + 1) % n_bins]
    squared = jnp.cumsum(transform.real**2 + transform.imag**2)
    return _over(2.0 * squared, profile.sum() if error is None else n_bins * error**2)


def h_test(z: Float[Array, " n_harmonics"]) -> HTest:
    """H statistic: the largest Z^2_m - 4 m + 4.

    Args:
        z: (n_harmonics,) Z^2_1 to Z^2_n, from `z_squared` or `z_squared_of_profile`; by custom n = 20.

    Returns:
        H and the m where it is reached.

    References:
        de Jager, Swanepoel & Raubenheimer (1989), A&A 221, 180.
    """
    penalised = z - 4.0 * jnp.arange(z.shape[0], dtype=z.dtype)
    best = jnp.argmax(penalised)
    return HTest(h=penalised[best], n_harmonics=best + 1)


def epoch_folding(
    profile: Float[Array, " n_bins"],
    *,
    error: Float[Array, "..."] | None = None,
    exposure: Float[Array, " n_bins"] | None = None,
) -> Float[Array, ""]:
    """Chi-squared of a pulse profile about a constant. Differentiable.

    Args:
        profile: (n_bins,) counts in each bin of phase as they were counted, not divided by the exposure; or fluxes.
        error: () or (n_bins,) standard deviation, for fluxes; None for counts.
        exposure: (n_bins,) relative exposure of each bin; default the same for all. Bins never watched are left out.

    Returns:
        The statistic; without a pulsation it follows chi-squared with one degree of freedom fewer than bins watched.
        Zero for a profile without counts.

    References:
        Leahy et al. (1983), ApJ 266, 160.
    """
    exposure = jnp.ones_like(profile) if exposure is None else exposure
    watched = exposure > 0
    expected = jnp.where(watched, profile, 0.0).sum() * exposure / exposure.sum()
    variance = expected if error is None else jnp.broadcast_to(error, profile.shape) ** 2
    return jnp.where(watched, _over((profile - expected) ** 2, variance), 0.0).sum()


def phase_dispersion(
    phase: Float[Array, " n"], values: Float[Array, " n"], n_bins: int, mask: Float[Array, " n"] | None = None
) -> Float[Array, ""]:
    """Variance within bins of phase over the variance of all: small where the values repeat. Differentiable by values.

    Args:
        phase: (n,) phases [cycles].
        values: (n,) values.
        n_bins: Phase bins (static).
        mask: (n,) 1 where a value counts, 0 where not.

    Returns:
        Theta, near one without a periodicity.

    References:
        Stellingwerf (1978), ApJ 224, 953.
    """
    mask = jnp.ones_like(values) if mask is None else mask
    bins = phase_bin(phase, n_bins)
    number = jax.ops.segment_sum(mask, bins, num_segments=n_bins)
    n_values = number.sum()
    centred = values - (mask * values).sum() / n_values
    mean = jax.ops.segment_sum(mask * centred, bins, num_segments=n_bins) / jnp.maximum(number, 1.0)
    within = (mask * (centred - mean[bins]) ** 2).sum() / (n_values - (number > 0).astype(values.dtype).sum())
    return within / ((mask * centred**2).sum() / (n_values - 1.0))


def _check_harmonics(n_harmonics: int) -> None:
    if n_harmonics < 1:
        raise ValueError(f"n_harmonics must be at least 1, got {n_harmonics}")


def _over(value: Array, by: Array) -> Array:
    """Quotient, zero where nothing was counted."""
    some = jnp.broadcast_to(by > 0, value.shape)
    return jnp.where(some, value / jnp.where(by > 0, by, 1.0), 0.0)
