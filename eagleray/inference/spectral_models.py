"""Models of averaged power spectra: their law, fits of many spectra at once, and statistics of what is left over."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from eagleray.inference.fits import draw_starts, optimise_each
from eagleray.priors import Prior
from eagleray.records import Key, Theta

_SMALLEST_NOISE = 2.0**-25


@dataclasses.dataclass(frozen=True)
class SpectralModel:
    """A model of a power spectrum. Equal for the same prior and function, so that compiled fits are found again.

    Attributes:
        prior: Named priors; fits stay within their support.
        power: Parameters -> expected powers (n_freq,), positive, at the frequencies of the data.
    """

    prior: Prior
    power: Callable[[Theta], Float[Array, " n_freq"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How spectra are fitted, the observed and the simulated ones alike.

    Attributes:
        n_starts: Starts of each fit.
        n_draws: Draws from the prior behind each start, which is the best of them.
        use_prior: Maximise the posterior density on the prior's natural coordinates (True), or the likelihood (False).
        tolerance: Gain in log density that is not worth another step.
        max_evaluations: Evaluations after which a start ends unconverged.
    """

    n_starts: int = 4
    n_draws: int = 128
    use_prior: bool = False
    tolerance: float = 1e-4
    max_evaluations: int = 300

    def __post_init__(self) -> None:
        """Refuse fits that cannot begin or end."""
        if self.n_starts < 1 or self.n_draws < 1 or self.max_evaluations < 1:
            raise ValueError(f"n_starts, n_draws and max_evaluations must be at least 1, got {self}")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance must be positive, got {self.tolerance!r}")


MAXIMUM_LIKELIHOOD = FitSettings()
MAXIMUM_POSTERIOR = FitSettings(use_prior=True)


class SpectralFits(NamedTuple):
    """Best fits of many spectra.

    Attributes:
        theta: All parameters by name, each (n_data,).
        log_likelihood: (n_data,) ln likelihood, less that of the model that fits every power: minus half the deviance.
        converged: (n_data,) whether the best start ran until nothing was left to gain.
    """

    theta: Mapping[str, Float[Array, " n_data"]]
    log_likelihood: Float[Array, " n_data"]
    converged: Bool[Array, " n_data"]


class Residuals(NamedTuple):
    """What a spectrum has that its model has not.

    Attributes:
        sum_squares: Sum of m (power / model - 1)^2; n_freq is expected. Stingray's `merit` is that over m.
        highest: (n_widths,) highest excess over windows of each width, in standard deviations of a normal variable of
            about the same probability.
        ratio: (n_widths,) power over model in that window; Stingray's outlier is twice this, for width 1.
        index: (n_widths,) first frequency of that window, counted from 0.
    """

    sum_squares: Float[Array, ""]
    highest: Float[Array, " n_widths"]
    ratio: Float[Array, " n_widths"]
    index: Int[Array, " n_widths"]


@dataclasses.dataclass(frozen=True)
class SpectralLogLikelihood:
    """Ln likelihood of averaged powers under a model, less that of the model that fits every power.

    -sum m (r - ln r - 1), r = power / model: minus half the deviance, in terms of order one each. In float32 it is
    accurate to 1e-3 for 10 000 powers, where the plain sum of ln model + power / model is not.

    Attributes:
        power: The model's function.
    """

    power: Callable[[Theta], Float[Array, " n_freq"]]

    def __call__(self, theta: Theta, observed: Float[Array, " n_freq"], m: Float[Array, " n_freq"]) -> Float[Array, ""]:
        """Ln likelihood of positive powers (n_freq,), each the mean of m."""
        ratio = observed / self.power(theta)
        # In this order: near 1 both terms are then known to within the rounding of their small difference from it.
        return -(m * ((ratio - 1.0) - jnp.log(ratio))).sum()


@functools.partial(jax.jit, static_argnames=("model", "settings"))
def fit_spectra(
    key: Key,
    model: SpectralModel,
    power: Float[Array, "n_data n_freq"],
    m: Float[Array, " n_freq"],
    *,
    known: Mapping[str, Float[Array, " n_data"]] | None = None,
    settings: FitSettings = MAXIMUM_LIKELIHOOD,
) -> SpectralFits:
    """Fit one model to many spectra.

    Args:
        key: Typed PRNG key for the starts; consumed.
        model: What is fitted.
        power: (n_data, n_freq) spectra.
        m: (n_freq,) periodogram powers averaged in each power.
        known: Parameters of a simpler model, each (n_data,), from which the starts take their values.
        settings: How they are fitted.
    """
    log_likelihood = SpectralLogLikelihood(model.power)
    starts = draw_starts(
        key,
        log_likelihood,
        model.prior,
        power,
        shared=(m,),
        known=known,
        n_starts=settings.n_starts,
        n_draws=settings.n_draws,
        use_prior=settings.use_prior,
    )
    fits = optimise_each(
        log_likelihood,
        model.prior,
        power,
        starts,
        shared=(m,),
        use_prior=settings.use_prior,
        tolerance=settings.tolerance,
        max_evaluations=settings.max_evaluations,
    )
    theta = jax.vmap(model.prior.constrain)(fits.position)
    values = jax.vmap(lambda theta, power: log_likelihood(theta, power, m))(theta, power)
    return SpectralFits(theta, values, fits.converged)


def simulate_spectra(
    keys: Key,
    power_model: Callable[[Theta], Float[Array, " n_freq"]],
    theta: Mapping[str, Float[Array, " n_data"]],
    m: Float[Array, " n_freq"],
    *,
    single: bool,
) -> Float[Array, "n_data n_freq"]:
    """Draw spectra about a model: each power is gamma distributed with shape m.

    Args:
        keys: (n_data,) typed PRNG keys; consumed.
        power_model: Parameters -> expected powers (n_freq,).
        theta: Parameters by name, each (n_data,).
        m: (n_freq,) periodogram powers averaged in each power.
        single: Whether m is 1 throughout, so that the powers are exponential, which is cheaper to draw (static).
    """

    def one(key: Key, theta: Theta) -> Float[Array, " n_freq"]:
        power = power_model(theta)
        if single:
            noise = jax.random.exponential(key, power.shape, power.dtype)
        else:
            noise = jax.random.gamma(key, m.astype(power.dtype)) / m
        # Single precision draws a zero in 2^-23 of all cases, which has no logarithm.
        return power * jnp.maximum(noise, _SMALLEST_NOISE)

    return jax.vmap(one)(keys, theta)


def residuals(
    power: Float[Array, " n_freq"],
    model: Float[Array, " n_freq"],
    m: Float[Array, " n_freq"],
    widths: tuple[int, ...] = (1,),
) -> Residuals:
    """Statistics of the ratio of powers to a model.

    The excess of a window is its mean ratio, weighted by m, put on the scale of a normal variable by Wilson &
    Hilferty's cube root. For equal m that is a monotonic function of the ratio, so that a calibrated test of the excess
    is one of Vaughan's T_R; for rebinned spectra it lets powers with few and many averages compete.

    Args:
        power: (n_freq,) powers.
        model: (n_freq,) expected powers.
        m: (n_freq,) periodogram powers averaged in each power.
        widths: Widths of the windows, in frequencies (static).

    References:
        Vaughan (2010), MNRAS 402, 307, for T_R and T_SSE; Wilson & Hilferty (1931), PNAS 17, 684.
    """
    weighted = m * (power / model - 1.0)
    found = [_highest(weighted, m, width) for width in widths]
    highest, ratio, index = (jnp.stack(column) for column in zip(*found, strict=True))
    return Residuals((weighted * weighted / m).sum(), highest, ratio, index)


def _highest(
    weighted: Float[Array, " n_freq"], m: Float[Array, " n_freq"], width: int
) -> tuple[Float[Array, ""], Float[Array, ""], Int[Array, ""]]:
    """Highest excess over windows of one width, the ratio there, and where."""
    n_averaged = _window_sums(m, width)
    ratio = 1.0 + _window_sums(weighted, width) / n_averaged
    excess = 3.0 * jnp.sqrt(n_averaged) * (jnp.cbrt(ratio) - 1.0 + 1.0 / (9.0 * n_averaged))
    index = jnp.argmax(excess)
    return excess[index], ratio[index], index


def _window_sums(values: Float[Array, " n"], width: int) -> Float[Array, " n_windows"]:
    """Sums over all windows of a width that fit in."""
    if width == 1:
        return values
    total = jnp.concatenate([jnp.zeros_like(values[:1]), jnp.cumsum(values)])
    return total[width:] - total[:-width]
