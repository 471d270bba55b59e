"""Verdicts on what a result carries: calibration, typicality, training, chains, predictive checks, optimum."""

import dataclasses
import math

import numpy as np

from eagleray.diagnostics.verdicts.verdict import (
    CAUTION_P_VALUE,
    COVERAGE_FAILURE,
    COVERAGE_TOLERANCE,
    ESS_FAILURE,
    ESS_PASSED,
    FAILURE_P_VALUE,
    State,
    Verdict,
    number,
)
from eagleray.records import (
    Calibration,
    FitResult,
    NetworkResult,
    Optimum,
    PredictiveCheck,
    Result,
    Samples,
    TrainingHistory,
    Typicality,
)

RANK_P_VALUE = 0.01
"""Below this, after allowing for the number of parameters, ranks are taken not to be uniform."""
SETTLED_LOSS = 0.1
"""Fall of the validation loss [nats] over the last tenth of the epochs, below which training had settled."""
RHAT_PASSED, RHAT_FAILURE = 1.01, 1.05
"""Split R-hat of chains: Vehtari et al. (2021), Bayesian Analysis 16, 667."""
MEMORY_LOSS = 0.3
"""Validation loss less training loss [nats], above which the network learnt its simulations by heart."""


def judge_calibration(calibration: Calibration) -> Verdict:
    """Judge whether the posterior's intervals hold the truth as often as they say.

    Args:
        calibration: Ranks (n_simulations, n_theta) and coverage on fresh simulations.

    Returns:
        "passed" when the coverage error is within 0.02 (or 1.5 times what counting noise gives) and no parameter's
        ranks are significantly uneven; "failed" when it exceeds 0.05 and three times the noise; else "caution".
    """
    title = "Do the intervals hold the truth as often as they say?"
    n, n_theta = calibration.ranks.shape[0], len(calibration.names)
    if n == 0 or n_theta == 0 or not math.isfinite(calibration.error):
        return Verdict(title=title, state="not checked", sentence="The network carries no calibration record.")
    worst = int(np.argmin(calibration.p_values))  # a NaN counts as the smallest
    p_value = float(calibration.p_values[worst])
    corrected = float(np.minimum(1.0, p_value * n_theta))  # keeps NaN, which must not pass
    error, floor = calibration.error, calibration.error_floor
    if error > max(COVERAGE_FAILURE, 3 * floor):
        state: State = "failed"
    elif error <= max(COVERAGE_TOLERANCE, 1.5 * floor) and corrected >= RANK_P_VALUE:
        state = "passed"
    else:
        state = "caution"
    sentence = (
        f"On {n} fresh simulations the fraction of intervals that held the true value differed from the fraction "
        f"promised by {error:.3f} on average over probabilities and parameters; with this many simulations, counting "
        f"noise alone would give a perfect posterior {floor:.3f}. The least even ranks are those of "
        f"{calibration.names[worst]} (chi-squared p = {number(p_value)}; {number(corrected)} after allowing for "
        f"{n_theta} parameter{'s' if n_theta > 1 else ''}). This describes the network over the whole prior, not this "
        "observation alone."
    )
    return Verdict(title=title, state=state, sentence=sentence)


def judge_typicality(typicality: Typicality) -> Verdict:
    """Judge whether the observation is like what the network was trained on.

    Args:
        typicality: The observed summary among those simulated from the prior.

    Returns:
        "passed" from p = 0.05, "failed" below 0.01 or with a feature well outside all simulated ones, else "caution".
    """
    verdict = _typicality_verdict(
        "Is the observation like the simulations that trained the network?",
        typicality,
        "drawn from the prior",
        "A small value would mean that the network is asked about data unlike any it has learned from, where its "
        "answer cannot be relied on.",
    )
    if not typicality.outside:
        return verdict
    n = len(typicality.outside)
    sentence = f"{verdict.sentence} {n} of its features {'lies' if n == 1 else 'lie'} outside all simulated ones."
    return dataclasses.replace(verdict, state="failed", sentence=sentence)


def judge_predictive(typicality: Typicality) -> Verdict:
    """Judge whether the model, with the parameters found, makes data like the observation.

    Args:
        typicality: The observed summary among those simulated from the posterior.

    Returns:
        "passed" from p = 0.05, "failed" below 0.01, "caution" between.
    """
    return _typicality_verdict(
        "Does the model, with these parameters, make data like the observation?",
        typicality,
        "drawn from the posterior",
        "A small value would mean that no parameters of this model describe the data well. The same data chose the "
        "parameters, so this check errs on the lenient side.",
    )


def judge_training(history: TrainingHistory) -> Verdict:
    """Judge whether training had settled when it ended, and learnt the problem rather than the simulations by heart.

    Args:
        history: Losses of each epoch [nats per simulation].

    Returns:
        "passed" if the validation loss fell by less than 0.1 over the last tenth of the epochs and lies less than 0.3
        above the training loss; "failed" if it is not finite; else "caution".
    """
    title = "Had the network finished learning?"
    n = len(history.validation_loss)
    if n == 0:
        return Verdict(title=title, state="not checked", sentence="The network carries no training record.")
    kept = min(max(history.best_epoch, 0), n - 1)
    best, gap = history.validation_loss[kept], history.validation_loss[kept] - history.train_loss[kept]
    n_last = max(1, n // 10)
    settled = min(history.validation_loss[:-n_last], default=math.inf) - best < SETTLED_LOSS
    sentence = (
        f"Training ran for {n} epoch{'s' if n > 1 else ''} in {history.seconds:.0f} s; the weights kept are those of "
        f"epoch {history.best_epoch + 1}, with the lowest loss on simulations held back from training, {best:.3f} nats "
        f"per simulation, {gap:.3f} above the loss on those trained on.".replace("-", "−")
    )
    if not settled:
        sentence += " The loss was still falling at the end: longer training might do better."
    if not gap < MEMORY_LOSS:
        sentence += " So large a gap means that the network learnt simulations by heart: more of them would do better."
    state: State = "failed" if not math.isfinite(best) else "passed" if settled and gap < MEMORY_LOSS else "caution"
    return Verdict(title=title, state=state, sentence=sentence)


def judge_chains(samples: Samples) -> Verdict:
    """Judge whether the chains found the same posterior and walked it often enough.

    Args:
        samples: Chains with their diagnostics.

    Returns:
        "failed" if a parameter's split R-hat exceeds 1.05 or is not a number, or its effective sample size is below
        100; "passed" if all are within 1.01 and above 400 and no step diverged; else "caution".
    """
    title = "Do the chains agree, and are there enough independent draws?"
    names = list(samples.rhat)
    if not names:
        return Verdict(title=title, state="not checked", sentence="The chains carry no diagnostics.")
    worst = max(names, key=lambda name: math.inf if math.isnan(samples.rhat[name]) else samples.rhat[name])
    rhat = float(samples.rhat[worst])
    size = {name: float(np.minimum(samples.ess_bulk[name], samples.ess_tail[name])) for name in names}
    fewest = min(names, key=lambda name: -math.inf if math.isnan(size[name]) else size[name])
    n_divergent = 0 if samples.divergent is None else int(np.sum(samples.divergent))
    n_chains, n_draws = np.shape(samples.log_density)
    if not rhat <= RHAT_FAILURE or not size[fewest] >= ESS_FAILURE:
        state: State = "failed"
    elif rhat <= RHAT_PASSED and size[fewest] >= ESS_PASSED and n_divergent == 0:
        state = "passed"
    else:
        state = "caution"
    sentence = (
        f"{n_chains} chains of {n_draws} draws ({samples.method}): the largest R-hat is {rhat:.3f} ({worst}; 1 is "
        f"agreement, 1.01 is asked for), the smallest effective number of draws {size[fewest]:.0f} ({fewest}; 400 are "
        f"asked for), and {n_divergent or 'no'} steps diverged."
    )
    return Verdict(title=title, state=state, sentence=sentence)


def judge_checks(checks: tuple[PredictiveCheck, ...]) -> Verdict:
    """Judge whether data simulated from the posterior look like the observed ones.

    Args:
        checks: Statistics of the observed powers among simulated ones.

    Returns:
        "failed" if the smallest p-value, after allowing for the number of checks, is below 0.01, "caution" below 0.05.
    """
    title = "Does the model describe the data?"
    if not checks:
        return Verdict(title=title, state="not checked", sentence="No spectra were simulated.")
    worst = min(checks, key=lambda check: check.p_value)
    corrected = min(1.0, worst.p_value * len(checks))
    state: State = "failed" if corrected < FAILURE_P_VALUE else "caution" if corrected < CAUTION_P_VALUE else "passed"
    each = "; ".join(f"{check.name} {check.observed:.4g}, p = {number(check.p_value)}" for check in checks)
    sentence = (
        f"Among {worst.n} data sets simulated from the posterior, the share at least as extreme as the observed one: "
        f"{each}. A small value means that the model misses something: narrow excess power, or a wrong shape or noise "
        "level."
    )
    return Verdict(title=title, state=state, sentence=sentence)


def _undetermined(optimum: Optimum) -> str:
    """Why the curvature at the best fit gives no errors."""
    if optimum.at_bound:
        return f"{', '.join(optimum.at_bound)} at an end of the prior"
    return "a parameter is undetermined or sits at an end of its prior"


def judge_optimum(optimum: Optimum | None) -> Verdict:
    """Judge whether the optimiser found one maximum with a curvature.

    Args:
        optimum: The best of several starts; None if none was looked for.

    Returns:
        "failed" if no start converged, "caution" if only one start found the best value or the curvature there gives
        no errors, else "passed".
    """
    title = "Is there one best fit?"
    if optimum is None:
        sentence = "Parameters and a latent rate were sampled together; of both there is no best fit worth the name."
        return Verdict(title=title, state="not checked", sentence=sentence)
    n_starts, n_best = optimum.n_starts, optimum.n_agreeing
    if not optimum.converged:
        state: State = "failed"
    else:
        state = "passed" if n_best > 1 and optimum.positive_definite else "caution"
    sentence = (
        f"Of {n_starts} starts drawn from the prior, {n_best} reached the best value to within 0.1 in ln density"
        f"{'' if optimum.converged else ', where the optimiser had not settled'}. "
        + (
            "The curvature there gives errors for all parameters."
            if optimum.positive_definite
            else f"The curvature there gives no errors: {_undetermined(optimum)}."
        )
    )
    return Verdict(title=title, state=state, sentence=sentence)


def judge(result: Result) -> tuple[Verdict, ...]:
    """Judge a result.

    Of a network: calibration, typicality, predictive typicality and training, in this order. Of a fit: chains,
    predictive checks and optimum.
    """
    if isinstance(result, NetworkResult):
        return (
            judge_calibration(result.calibration),
            judge_typicality(result.typicality),
            judge_predictive(result.predictive_typicality),
            judge_training(result.history),
        )
    if isinstance(result, FitResult):
        return judge_chains(result.samples), judge_checks(result.checks), judge_optimum(result.optimum)
    return ()


def p_value_state(typicality: Typicality) -> State:
    """The word for a typicality's p-value."""
    if 1.0 / (typicality.n_reference + 1) >= FAILURE_P_VALUE or not math.isfinite(typicality.p_value):
        return "not checked"  # so few simulations could never show a failure
    if typicality.p_value < FAILURE_P_VALUE:
        return "failed"
    return "caution" if typicality.p_value < CAUTION_P_VALUE else "passed"


def _typicality_verdict(title: str, typicality: Typicality, origin: str, meaning: str) -> Verdict:
    """The verdict on a p-value of typicality, with its Monte Carlo error."""
    state, n, p = p_value_state(typicality), typicality.n_reference, typicality.p_value
    if state == "not checked":
        return Verdict(title=title, state=state, sentence=f"There were too few simulations to compare with ({n}).")
    farther = round(p * (n + 1)) - 1
    error = math.sqrt(p * (1 - p) / n)
    sentence = (
        f"Of {n} simulations with parameters {origin}, {max(farther, 0) or 'none'} had a summary at least as far from "
        f"their mean as the observed one (Mahalanobis distance {typicality.distance:.3g}): p = {number(p)}"
    )
    sentence += (
        f" ± {error:.1g}, from their finite number. " if farther > 0 else ", the smallest that so many can show. "
    )
    return Verdict(title=title, state=state, sentence=sentence + meaning)
