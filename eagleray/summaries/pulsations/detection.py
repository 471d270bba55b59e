"""False-alarm probabilities of powers, Z^2_n, H, folded profiles and phase dispersions, and the levels they set.

All work with ln p, because a detection's p underflows: at a hundred harmonics' worth of power no float holds it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eagleray.summaries.pulsations.chi_squared import (
    Scalar,
    chi_squared_level,
    chi_squared_log_probability,
    floats,
    solve,
)

_SMALL_LOG = -17.0
"""Below this ln p, p^2 is lost beside p in float64, and p itself need not be formed."""


def multi_trial_log_probability(log_probability: Scalar, n_trials: Scalar) -> Float[Array, ""]:
    """Ln of the probability that at least one of n independent trials is as extreme, 1 - (1 - p)^n.

    Args:
        log_probability: ln p of one trial.
        n_trials: Number of trials.
    """
    log_probability, n_trials = floats(log_probability, n_trials)
    return _log_any(jnp.log(n_trials) + _log_minus_log1m(log_probability))


def single_trial_log_probability(log_probability: Scalar, n_trials: Scalar) -> Float[Array, ""]:
    """Ln p of one trial such that at least one of n is as extreme with a given probability, 1 - (1 - P)^(1/n).

    Args:
        log_probability: ln P of all trials together.
        n_trials: Number of trials.
    """
    log_probability, n_trials = floats(log_probability, n_trials)
    return _log_any(_log_minus_log1m(log_probability) - jnp.log(n_trials))


def equivalent_sigma(log_probability: Scalar) -> Float[Array, ""]:
    """Standard deviations above the mean of a Gaussian beyond which lies the same probability (one tail).

    Args:
        log_probability: ln p, negative.

    Returns:
        Number of standard deviations, negative for p > 1/2. Differentiable.
    """
    (log_probability,) = floats(log_probability)
    lowest, highest = jnp.full_like(log_probability, -40.0), jnp.sqrt(-2.0 * log_probability)
    return solve(jax.scipy.stats.norm.logsf, log_probability, lowest, highest, rising=False)


def power_log_probability(
    power: Scalar,
    *,
    n_trials: Scalar = 1.0,
    n_averaged: Scalar = 1.0,
    n_rebinned: Scalar = 1.0,
) -> Float[Array, ""]:
    """Ln of the false-alarm probability of a power.

    Args:
        power: Power in the Leahy norm, the average of `n_averaged` spectra and `n_rebinned` frequencies.
        n_trials: Independent powers looked at.
        n_averaged: Spectra averaged.
        n_rebinned: Neighbouring frequencies averaged.

    References:
        Leahy et al. (1983), ApJ 266, 160; van der Klis (1989), in Timing Neutron Stars, NATO ASI C262, 27.
    """
    m = n_averaged * n_rebinned
    return multi_trial_log_probability(chi_squared_log_probability(power * m, 2.0 * m), n_trials)


def power_level(
    log_probability: Scalar,
    *,
    n_trials: Scalar = 1.0,
    n_averaged: Scalar = 1.0,
    n_rebinned: Scalar = 1.0,
) -> Float[Array, ""]:
    """Power that noise exceeds with a given probability; arguments as for `power_log_probability`."""
    m = n_averaged * n_rebinned
    return chi_squared_level(single_trial_log_probability(log_probability, n_trials), 2.0 * m) / m


def z_squared_log_probability(
    z: Scalar,
    n_harmonics: Scalar,
    *,
    n_trials: Scalar = 1.0,
    n_averaged: Scalar = 1.0,
) -> Float[Array, ""]:
    """Ln of the false-alarm probability of Z^2_n.

    Args:
        z: Z^2_n, the average over `n_averaged` segments.
        n_harmonics: n.
        n_trials: Independent frequencies looked at.
        n_averaged: Segments averaged.

    References:
        Buccheri et al. (1983), A&A 128, 245.
    """
    return power_log_probability(z / n_harmonics, n_trials=n_trials, n_averaged=n_averaged, n_rebinned=n_harmonics)


def z_squared_level(
    log_probability: Scalar,
    n_harmonics: Scalar,
    *,
    n_trials: Scalar = 1.0,
    n_averaged: Scalar = 1.0,
) -> Float[Array, ""]:
    """Z^2_n that noise exceeds with a given probability; arguments as for `z_squared_log_probability`."""
    level = power_level(log_probability, n_trials=n_trials, n_averaged=n_averaged, n_rebinned=n_harmonics)
    return level * n_harmonics


def fold_log_probability(statistic: Scalar, n_bins: int, *, n_trials: Scalar = 1.0) -> Float[Array, ""]:
    """Ln of the false-alarm probability of an epoch-folding statistic.

    Args:
        statistic: From `epoch_folding`.
        n_bins: Bins of the profile.
        n_trials: Independent frequencies looked at.

    References:
        Leahy et al. (1983), ApJ 266, 160.
    """
    return multi_trial_log_probability(chi_squared_log_probability(statistic, n_bins - 1.0), n_trials)


def fold_level(log_probability: Scalar, n_bins: int, *, n_trials: Scalar = 1.0) -> Float[Array, ""]:
    """Epoch-folding statistic that noise exceeds with a given probability."""
    return chi_squared_level(single_trial_log_probability(log_probability, n_trials), n_bins - 1.0)


def h_log_probability(h: Scalar, *, n_trials: Scalar = 1.0) -> Float[Array, ""]:
    """Ln of the false-alarm probability of the H statistic of up to 20 harmonics, ln p = -0.4 H.

    Args:
        h: H, from `h_test`.
        n_trials: Independent frequencies looked at.

    References:
        de Jager & Buesching (2010), A&A 517, L9.
    """
    return multi_trial_log_probability(-0.4 * h, n_trials)


def phase_dispersion_log_probability(
    theta: Scalar,
    n_values: int,
    n_bins: int,
    *,
    n_trials: Scalar = 1.0,
    stingray_compat: bool = False,
) -> Float[Array, ""]:
    """Ln of the probability that noise gives a phase dispersion as small.

    Without a periodicity, theta (n_values - n_bins) / (n_values - 1), the sum of squares within bins over the sum of
    all squares, follows a beta distribution.

    Args:
        theta: From `phase_dispersion`.
        n_values: Values folded.
        n_bins: Phase bins, none of them empty.
        n_trials: Independent frequencies looked at.
        stingray_compat: Give theta itself to the beta distribution, as Stingray does: p is then too large.

    References:
        Schwarzenberg-Czerny (1997), ApJ 489, 941.
    """
    theta, within, between = floats(theta, 0.5 * (n_values - n_bins), 0.5 * (n_bins - 1))
    ratio = theta * _dispersion_scale(n_values, n_bins, stingray_compat)
    single = jnp.log(jax.scipy.special.betainc(within, between, jnp.clip(ratio, 0.0, 1.0)))
    return multi_trial_log_probability(single, n_trials)


def phase_dispersion_level(
    log_probability: Scalar,
    n_values: int,
    n_bins: int,
    *,
    n_trials: Scalar = 1.0,
    stingray_compat: bool = False,
) -> Float[Array, ""]:
    """Phase dispersion that noise undercuts with a given probability.

    Arguments as for `phase_dispersion_log_probability`.
    """
    single, within, between = floats(
        single_trial_log_probability(log_probability, n_trials), 0.5 * (n_values - n_bins), 0.5 * (n_bins - 1)
    )
    ratio = solve(
        lambda x: jnp.log(jax.scipy.special.betainc(within, between, x)),
        single,
        jnp.zeros_like(single),
        jnp.ones_like(single),
        rising=True,
    )
    return ratio / _dispersion_scale(n_values, n_bins, stingray_compat)


def _dispersion_scale(n_values: int, n_bins: int, stingray_compat: bool) -> float:
    """What turns theta into a ratio of sums of squares."""
    return 1.0 if stingray_compat else (n_values - n_bins) / (n_values - 1)


def _log_any(log_rate: Array) -> Array:
    """ln(1 - exp(-exp(log_rate)))."""
    small = log_rate < _SMALL_LOG
    direct = jnp.log(-jnp.expm1(-jnp.exp(jnp.where(small, 0.0, log_rate))))
    return jnp.where(small, log_rate - 0.5 * jnp.exp(jnp.minimum(log_rate, 0.0)), direct)


def _log_minus_log1m(log_p: Array) -> Array:
    """ln(-ln(1 - p))."""
    small = log_p < _SMALL_LOG
    direct = jnp.log(-jnp.log1p(-jnp.exp(jnp.where(small, -1.0, log_p))))
    return jnp.where(small, log_p + 0.5 * jnp.exp(log_p), direct)
