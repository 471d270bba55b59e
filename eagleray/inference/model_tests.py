"""Calibrated tests of spectral models: what a statistic of the observed spectrum is among simulated and refitted ones.

The asymptotic law of a likelihood ratio fails where a component vanishes at the edge of its range, and that of the
highest power where a model was fitted first. So spectra are simulated from the simpler model, each is fitted anew by
the same procedure as the observed one, and the p-value counts those whose statistic is as large. An optimiser that
misses a maximum now and then costs such a test power, never its calibration.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike, NDArray

from eagleray.inference.refits import checked_spectrum, simulate_and_refit, stacked_draws
from eagleray.inference.spectral_models import (
    MAXIMUM_LIKELIHOOD,
    MAXIMUM_POSTERIOR,
    FitSettings,
    SpectralModel,
    residuals,
    simulate_spectra,
)
from eagleray.records import Key, PredictiveCheck, Theta


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibratedTest:
    """A statistic of an observed spectrum among those of simulated ones.

    Attributes:
        name: The statistic.
        statistic: Its observed value.
        simulated: (n_simulations,) its values under the simpler model; NaN where a fit failed.
        p_value: Probability of a value at least as large, (k + 1) / (n + 1); failed fits count as larger.
        p_value_error: Its standard error from the finite number of simulations.
        n_failed: Simulated spectra of which a fit found no finite likelihood.
        n_unconverged: Simulated spectra of which the best fit had not settled; their statistics are used as they are.
    """

    name: str
    statistic: float
    simulated: NDArray[np.floating]
    p_value: float
    p_value_error: float
    n_failed: int
    n_unconverged: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutlierTest:
    """The highest outlier over windows of several widths.

    Attributes:
        combined: The smallest of the widths' p-values, calibrated for having looked at all of them.
        widths: Widths of the windows, in frequencies.
        each: The test of each width by itself; the statistic is the excess in normal standard deviations.
        ratio: Power over model in the highest window of each width. Stingray's statistic is twice that of width 1.
        index: First frequency of that window, counted from 0.
    """

    combined: CalibratedTest
    widths: tuple[int, ...]
    each: tuple[CalibratedTest, ...]
    ratio: tuple[float, ...]
    index: tuple[int, ...]


def likelihood_ratio_test(
    key: Key,
    null: SpectralModel,
    alternative: SpectralModel,
    power: ArrayLike,
    m: ArrayLike,
    *,
    draws: Theta | None = None,
    n_simulations: int = 1000,
    settings: FitSettings = MAXIMUM_LIKELIHOOD,
) -> CalibratedTest:
    """Test a model against one that has more components, by 2 ln of their likelihood ratio, calibrated by simulation.

    Stingray's `calibrate_lrt` asks the same; it starts each fit from one point and, for averaged powers, gives twice
    the statistic. Its p-value is k / n.

    Args:
        key: Typed PRNG key; consumed.
        null: The simpler model.
        alternative: The richer model. Where it has the names of the simpler one, its fits start from that one's fit.
        power: (n_freq,) observed powers.
        m: Periodogram powers averaged in each, one number or (n_freq,).
        draws: Parameters of the simpler model to simulate from, each (n_draws,) as from its posterior, or one number.
            By default its best fit.
        n_simulations: Simulated spectra.
        settings: How spectra are fitted.

    Raises:
        ValueError: If the alternative has no more free parameters than the null, or powers or m are not positive and
            finite, or the shapes do not match.

    References:
        Protassov et al. (2002), ApJ 571, 545; Vaughan (2010), MNRAS 402, 307, for T_LRT.
    """
    if len(alternative.prior.names) <= len(null.prior.names):
        counts = f"{len(alternative.prior.names)} and {len(null.prior.names)}"
        raise ValueError(f"alternative must have more free parameters than null, got {counts}")
    values = simulate_and_refit(key, null, alternative, power, m, draws, (1,), n_simulations, settings)
    return _test("likelihood ratio", values["likelihood ratio"], values["unconverged"])


def outlier_test(
    key: Key,
    null: SpectralModel,
    power: ArrayLike,
    m: ArrayLike,
    *,
    widths: tuple[int, ...] = (1,),
    draws: Theta | None = None,
    n_simulations: int = 1000,
    settings: FitSettings = MAXIMUM_LIKELIHOOD,
) -> OutlierTest:
    """Test whether the highest powers over a fitted model are too high for noise: a search for QPOs.

    Windows of several widths find peaks that spread over several frequencies. Widths are combined by the smallest of
    their p-values, whose own law is counted out among the simulated spectra.

    Args:
        key: Typed PRNG key; consumed.
        null: Model of the spectrum without the peak.
        power: (n_freq,) observed powers.
        m: Periodogram powers averaged in each, one number or (n_freq,).
        widths: Widths of the windows, in frequencies.
        draws: Parameters to simulate from, each (n_draws,) as from the posterior, or one number. By default the best
            fit.
        n_simulations: Simulated spectra.
        settings: How spectra are fitted.

    Raises:
        ValueError: If a width is not between 1 and the number of powers, powers or m are not positive and finite, or
            the shapes do not match.

    References:
        Vaughan (2010), MNRAS 402, 307, for T_R; Huppenkothen et al. (2013), ApJ 768, 87, for wider windows.
    """
    size = np.size(power)
    if not widths or not all(1 <= width <= size for width in widths):
        raise ValueError(f"widths must be between 1 and the number of powers, {size}, got {widths}")
    values = simulate_and_refit(key, null, None, power, m, draws, tuple(widths), n_simulations, settings)
    highest, unconverged = values["highest"], values["unconverged"]
    each = tuple(
        _test(f"highest excess over {width} frequencies", highest[:, i], unconverged) for i, width in enumerate(widths)
    )
    return OutlierTest(
        combined=_test("smallest p-value of all widths", -np.log(_tails(highest).min(axis=1)), unconverged),
        widths=tuple(widths),
        each=each,
        ratio=tuple(values["ratio"][0].tolist()),
        index=tuple(int(index) for index in values["index"][0]),
    )


def predictive_tests(
    key: Key,
    null: SpectralModel,
    power: ArrayLike,
    m: ArrayLike,
    draws: Theta,
    *,
    alternative: SpectralModel | None = None,
    n_simulations: int = 1000,
    settings: FitSettings = MAXIMUM_POSTERIOR,
) -> dict[str, CalibratedTest]:
    """Posterior-predictive p-values of a QPO search, all from the same simulated spectra.

    Args:
        key: Typed PRNG key; consumed.
        null: Model of the spectrum without the QPO.
        power: (n_freq,) observed powers.
        m: Periodogram powers averaged in each, one number or (n_freq,).
        draws: Posterior draws of its parameters, each (n_draws,).
        alternative: Model with the QPO; without one there is no T_LRT.
        n_simulations: Simulated spectra.
        settings: How spectra are fitted; by default at the maximum of the posterior.

    Returns:
        `T_R`, twice the highest ratio of power to model; `T_SSE`, the sum of m (power / model - 1)^2; and `T_LRT`, the
        likelihood ratio.

    Raises:
        ValueError: If powers or m are not positive and finite, or the shapes do not match.

    References:
        Vaughan (2010), MNRAS 402, 307.
    """
    values = simulate_and_refit(key, null, alternative, power, m, draws, (1,), n_simulations, settings)
    statistics = {"T_R": 2.0 * values["highest ratio"], "T_SSE": values["sum of squares"]}
    if alternative is not None:
        statistics["T_LRT"] = values["likelihood ratio"]
    return {name: _test(name, statistic, values["unconverged"]) for name, statistic in statistics.items()}


def predictive_checks(
    key: Key,
    power_model: Callable[[Theta], Float[Array, " n_freq"]],
    draws: Theta,
    power: ArrayLike,
    m: ArrayLike,
) -> tuple[PredictiveCheck, ...]:
    """Quick checks of a fitted model: residuals of the observed spectrum and of simulated ones, about the same draws.

    Nothing is refitted: a small p-value is meant, a middling one says less than that of `predictive_tests`, because
    the draws have seen the observed spectrum.

    Args:
        key: Typed PRNG key; consumed.
        power_model: Parameters -> expected powers (n_freq,).
        draws: Posterior draws, each (n_draws,); one spectrum is simulated from each.
        power: (n_freq,) observed powers.
        m: Periodogram powers averaged in each, one number or (n_freq,).

    Raises:
        ValueError: If powers or m are not positive and finite, or the shapes do not match.

    References:
        Gelman, Meng & Stern (1996), Statistica Sinica 6, 733.
    """
    observed, averaged = checked_spectrum(power, m)
    stacked = stacked_draws(draws)
    n = len(next(iter(stacked.values())))
    widths = tuple(width for width in (1, 4, 16) if 4 * width <= observed.size)
    arguments = (key, power_model, stacked, jnp.asarray(observed), jnp.asarray(averaged))
    seen, made = _discrepancies(*arguments, widths, bool((averaged == 1).all()))
    names = (
        "sum of squared residuals",
        *("highest single power" if width == 1 else f"highest excess over {width} powers" for width in widths),
    )
    return tuple(
        PredictiveCheck(
            name=name,
            observed=float(seen[:, i].mean()),
            p_value=(int((~(made[:, i] < seen[:, i])).sum()) + 1) / (n + 1),
            n=n,
        )
        for i, name in enumerate(names)
    )


@functools.partial(jax.jit, static_argnums=(1, 5, 6))
def _discrepancies(
    key: Key,
    power_model: Callable[[Theta], Any],
    draws: Theta,
    observed: Float[Array, " n_freq"],
    m: Float[Array, " n_freq"],
    widths: tuple[int, ...],
    single: bool,
) -> tuple[Float[Array, "n_draws n_checks"], Float[Array, "n_draws n_checks"]]:
    """Residual statistics about each draw, of the observed powers and of powers simulated from that draw."""
    keys = jax.random.split(key, len(next(iter(draws.values()))))
    simulated = simulate_spectra(keys, power_model, draws, m, single=single)

    def statistics(theta: Theta, power: Float[Array, " n_freq"]) -> Float[Array, " n_checks"]:
        found = residuals(power, power_model(theta), m, widths)
        return jnp.concatenate([found.sum_squares[None], found.highest])

    return jax.vmap(statistics, in_axes=(0, None))(draws, observed), jax.vmap(statistics)(draws, simulated)


def _test(name: str, values: NDArray[np.float64], unconverged: NDArray[np.float64]) -> CalibratedTest:
    """The test of a statistic whose observed value stands first."""
    statistic, simulated = float(values[0]), values[1:]
    # Written so that a failed fit, NaN, counts as larger; an observed NaN gives p = 1.
    p_value = (int((~(simulated < statistic)).sum()) + 1) / (simulated.size + 1)
    return CalibratedTest(
        name=name,
        statistic=statistic,
        simulated=simulated,
        p_value=p_value,
        p_value_error=float(np.sqrt(p_value * (1.0 - p_value) / (simulated.size + 1))),
        n_failed=int((~np.isfinite(simulated)).sum()),
        n_unconverged=int(unconverged[1:].sum()),
    )


def _tails(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fraction of the rows, itself included, in which each column is at least as large; ties and NaN count.

    The observed row stands first: its own NaN is larger than none.
    """
    filled = np.where(np.isnan(values), np.inf, values)
    filled[0] = np.where(np.isnan(values[0]), -np.inf, values[0])
    below = [np.searchsorted(np.sort(column), column, side="left") for column in filled.T]
    return 1.0 - np.stack(below, axis=1) / len(values)
