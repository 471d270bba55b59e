"""What a verdict is, and the thresholds that several share."""

import dataclasses
import math
from typing import Literal

State = Literal["passed", "caution", "failed", "not checked"]

COVERAGE_TOLERANCE = 0.02
"""Mean |coverage - nominal| that the field accepts."""
COVERAGE_FAILURE = 0.05
CAUTION_P_VALUE, FAILURE_P_VALUE = 0.05, 0.01
"""Of a test: below the first, look twice; below the second, the check fails."""
ESS_PASSED, ESS_FAILURE = 400, 100
"""Effective number of draws: Vehtari et al. (2021), Bayesian Analysis 16, 667."""
ENOUGH_SIMULATIONS = 100
"""Fewest simulations for which an even outcome says something: coverage is then known to 0.05."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of one check.

    Attributes:
        title: What was asked.
        state: The outcome in a word.
        sentence: The number behind it, and what it means.
    """

    title: str
    state: State
    sentence: str


def significance(p_value: float, smallest: float = 0.0) -> State:
    """The word for a p-value; no check where the least that could come out, `smallest`, is no failure."""
    if smallest >= FAILURE_P_VALUE or not math.isfinite(p_value):
        return "not checked"
    return "failed" if p_value < FAILURE_P_VALUE else "caution" if p_value < CAUTION_P_VALUE else "passed"


def number(value: float) -> str:
    """A probability with two digits."""
    return f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def signed(value: float, error: float) -> str:
    """A number that may be negative, and its error, to two digits of the error."""
    digits = 2 if not 0 < error < math.inf else max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}".replace("-", "−")
