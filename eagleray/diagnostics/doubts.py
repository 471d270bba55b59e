"""Doubts about a result, in plain words."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from eagleray.diagnostics.verdicts import (
    judge_calibration,
    judge_checks,
    judge_optimum,
    judge_predictive,
    judge_typicality,
)
from eagleray.priors import Prior
from eagleray.records import Calibration, Optimum, PredictiveCheck, Samples, Typicality

_EDGE = 0.02  # outermost part of a prior, by probability
_EDGE_FRACTION = 0.15  # of posterior draws in there
LEAKY_SLOPE = 1.5
"""Slope at the lowest frequencies above which leakage of red noise is worth a word; a periodogram's saturates at 2."""


def doubts(
    prior: Prior,
    draws: Mapping[str, NDArray[np.floating]],
    calibration: Calibration,
    among_prior: Typicality,
    among_posterior: Typicality | None,
    invalid_fraction: float,
    feature_names: tuple[str, ...],
) -> tuple[str, ...]:
    """List every reason found not to trust a result.

    Args:
        prior: Named priors.
        draws: Posterior draws by name, each (n_draws,).
        calibration: Record of the network on fresh simulations.
        among_prior: The observed summary among those simulated from the prior.
        among_posterior: The observed summary among those simulated from the posterior; None where none were.
        invalid_fraction: Part of the training simulations that had no summary.
        feature_names: Name of each entry of the summary.

    Returns:
        One sentence for each doubt; empty when there is none.
    """
    found = _not_finite(draws)
    if among_prior.outside:
        names = ", ".join(feature_names[i] for i in among_prior.outside[:3])
        found.append(
            f"The observation's {names} lies outside all simulations the network was trained on: the priors do not "
            "cover it, and the network extrapolates."
        )
    elif judge_typicality(among_prior).state == "failed":
        found.append(
            f"The observation is unlike the simulations the network was trained on (p = {among_prior.p_value:.2g}): "
            "the model or its priors do not cover it, and the network extrapolates."
        )
    if among_posterior is not None and judge_predictive(among_posterior).state == "failed":
        found.append(
            f"Light curves simulated from the posterior do not look like the observation (p = "
            f"{among_posterior.p_value:.2g}): the model misses something in the data."
        )
    verdict = judge_calibration(calibration)
    if verdict.state != "passed":
        found.append(f"The network's calibration is in doubt; more simulations may mend it. {verdict.sentence}")
    found += _pressing(prior, draws)
    if invalid_fraction > 0.01:
        found.append(
            f"{invalid_fraction:.1%} of the simulations had no positive mean rate and gave nothing to learn from."
        )
    return tuple(found)


def fit_doubts(
    prior: Prior,
    samples: Samples,
    draws: Mapping[str, NDArray[np.floating]],
    checks: tuple[PredictiveCheck, ...],
    optimum: Optimum | None,
    gap_fraction: float,
    steepness: float,
) -> tuple[str, ...]:
    """List every reason found not to trust a fit by exact likelihood.

    Args:
        prior: Named priors.
        samples: The chains.
        draws: Their draws by name, each (n_draws,).
        checks: Statistics of the observed powers among simulated ones.
        optimum: The best fit; None if none was looked for.
        gap_fraction: Part of the fitted window in which the source was not watched.
        steepness: Logarithmic slope of the best fit at its lowest frequencies.

    Returns:
        One sentence for each doubt; empty when there is none.
    """
    found = _not_finite(draws) + list(samples.warnings)
    for verdict in (judge_checks(checks), judge_optimum(optimum)):
        if verdict.state == "failed":
            found.append(f"{verdict.title} {verdict.sentence}")
    if gap_fraction > 0:
        found.append(
            f"{gap_fraction:.1%} of the fitted window was not watched: powers of a series with gaps are not "
            "independent and their likelihood is not exact; fit segments without gaps (--segment), or eagleray infer."
        )
    if steepness > LEAKY_SLOPE:
        found.append(
            f"The best fit falls as f^-{steepness:.2g} at the lowest frequencies: red noise leaks into a window this "
            "short, and flattens the powers that this likelihood takes for exact; compare with eagleray infer."
        )
    return tuple(found + _pressing(prior, draws))


def _not_finite(draws: Mapping[str, NDArray[np.floating]]) -> list[str]:
    """A sentence for each parameter with draws that are not finite."""
    return [
        f"{(~np.isfinite(values)).sum()} of {values.size} draws of {name} are not finite."
        for name, values in draws.items()
        if not np.isfinite(values).all()
    ]


def _pressing(prior: Prior, draws: Mapping[str, NDArray[np.floating]]) -> list[str]:
    """A sentence for each parameter that presses against an end of its prior."""
    return [
        f"{name} presses against the {side} end of its prior, {prior.texts[name]} ({fraction:.0%} of the draws lie "
        f"in the outermost {_EDGE:.0%}): its interval there is the prior's, not the data's."
        for name, fraction, side in prior_edges(prior, draws)
    ]


def prior_edges(prior: Prior, draws: Mapping[str, NDArray[np.floating]]) -> list[tuple[str, float, str]]:
    """Parameters whose posterior piles up at an end of a bounded prior: (name, fraction of draws there, which end)."""
    found = []
    for name, values in draws.items():
        family, low, high = prior.family(name), prior.lower_end(name), prior.upper_end(name)
        if family not in ("uniform", "loguniform"):
            continue
        scaled = np.log(values) if family == "loguniform" else values
        low, high = (np.log(low), np.log(high)) if family == "loguniform" else (low, high)
        position = (scaled - low) / (high - low)
        for side, fraction in (("lower", np.mean(position < _EDGE)), ("upper", np.mean(position > 1 - _EDGE))):
            if fraction > _EDGE_FRACTION:
                found.append((name, float(fraction), side))
    return found
