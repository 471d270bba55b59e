"""Comparison of models by their evidences."""

import dataclasses
from collections.abc import Mapping

import numpy as np

# Least 2 ln(Bayes factor) -> what Kass & Raftery call it.
_STRENGTHS = ((10.0, "very strong"), (6.0, "strong"), (2.0, "positive"), (0.0, "not worth more than a bare mention"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class BayesFactor:
    """How much more probable the data are under one model than under another, averaged over each one's prior.

    Attributes:
        log: Ln of the ratio of evidences; positive where it favours the first model.
        error: Its standard error.
        strength: In words, for the model that it favours.
    """

    log: float
    error: float
    strength: str


def bayes_factor(log_evidence: tuple[float, float], log_evidence_other: tuple[float, float]) -> BayesFactor:
    """Compare two models by their evidences, as from nested sampling or tempered sequential Monte Carlo.

    A Bayes factor depends on the width of the priors also where a posterior does not: a prior ten times as wide on
    what only one model has costs it 2.3 in ln.

    Args:
        log_evidence: Ln evidence of the first model and its standard error.
        log_evidence_other: The same of the other.

    Raises:
        ValueError: If a number is not finite, or an error is negative.

    References:
        Kass & Raftery (1995), J. Am. Stat. Assoc. 90, 773.
    """
    numbers = np.array([log_evidence, log_evidence_other], np.float64)
    if not (np.isfinite(numbers).all() and (numbers[:, 1] >= 0).all()):
        raise ValueError(f"log evidences must be finite, with errors of 0 or more, got {numbers.tolist()}")
    log = float(numbers[0, 0] - numbers[1, 0])
    strength = next(words for least, words in _STRENGTHS if 2.0 * abs(log) >= least)
    return BayesFactor(log=log, error=float(np.hypot(*numbers[:, 1])), strength=strength)


def model_probabilities(
    log_evidences: Mapping[str, float], prior_odds: Mapping[str, float] | None = None
) -> dict[str, float]:
    """Posterior probabilities of models of which one is taken to be true.

    Args:
        log_evidences: Ln evidence by name of the model.
        prior_odds: Prior weight by name, up to a common factor; equal by default.

    Raises:
        ValueError: If there is no model, or weights are not those of the models, or not positive.
    """
    if not log_evidences:
        raise ValueError("log_evidences must name at least one model, got none")
    odds = dict.fromkeys(log_evidences, 1.0) if prior_odds is None else dict(prior_odds)
    if set(odds) != set(log_evidences) or not all(weight > 0 for weight in odds.values()):
        raise ValueError(f"prior_odds must be positive, one for each of {sorted(log_evidences)}, got {odds}")
    logs = np.array([value + np.log(odds[name]) for name, value in log_evidences.items()])
    with np.errstate(under="ignore"):  # a model that is out of the question has probability 0
        weights = np.exp(logs - logs.max())
    return dict(zip(log_evidences, (weights / weights.sum()).tolist(), strict=True))
