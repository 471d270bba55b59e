"""Verdicts on one posterior: against a reference, at one observation, by its weights, by the data it predicts."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from eagleray.diagnostics.distances import SampleDistance
from eagleray.diagnostics.local_c2st import LocalC2st
from eagleray.diagnostics.predictive import StatisticCheck
from eagleray.diagnostics.verdicts.verdict import (
    ESS_FAILURE,
    ESS_PASSED,
    State,
    Verdict,
    number,
    signed,
    significance,
)

if TYPE_CHECKING:  # its home takes all posteriors along
    from eagleray.inference.reweighting import Reweighted

PARETO_K = 0.7
"""Shape of the tail of importance weights above which their mean is not to be relied on: Vehtari et al. (2024)."""
EFFICIENCY_CAUTION = 0.01
"""Part of the proposed draws that count, below which the proposal is taken to have missed something."""


def judge_local_c2st(test: LocalC2st) -> Verdict:
    """Judge whether a classifier tells posterior draws from truths at one observation.

    Args:
        test: The local classifier two-sample test.

    Returns:
        "failed" below p = 0.01, "caution" below 0.05; "not checked" if so few null trials could never fail.
    """
    sentence = (
        f"At this observation a classifier's probability that a draw is no truth differs from one half by "
        f"{math.sqrt(test.statistic):.3f} (root mean square; {math.sqrt(test.null.mean()):.3f} when it was taught "
        f"nothing, {len(test.null)} times): {_p_value(test.p_value, test.p_value_error)}. It cannot see what a small "
        "network does not learn from the simulations given."
    )
    state = significance(test.p_value, 1 / (len(test.null) + 1))
    return Verdict(title="Is the posterior right at this observation?", state=state, sentence=sentence)


def judge_distance(distance: SampleDistance) -> Verdict:
    """Judge whether draws and reference draws are of one law.

    Args:
        distance: Maximum mean discrepancy or sliced Wasserstein distance.

    Returns:
        "failed" below p = 0.01, "caution" below 0.05; "not checked" if so few permutations could never fail.
    """
    sentence = (
        f"The distance between draws and reference ({distance.kind}) is {signed(distance.value, distance.error)}; with "
        f"rows of both shuffled, {len(distance.null)} times, it has mean and standard deviation "
        f"{signed(distance.null.mean(), distance.null.std())}: {_p_value(distance.p_value, distance.p_value_error)}."
    )
    state = significance(distance.p_value, 1 / (len(distance.null) + 1))
    title = f"Are the draws those of the reference ({distance.kind})?"
    return Verdict(title=title, state=state, sentence=sentence)


def judge_statistics(checks: Sequence[StatisticCheck]) -> Verdict:
    """Judge whether replicated data are like the observed in chosen statistics.

    Args:
        checks: One for each statistic.

    Returns:
        "failed" if the smallest p-value, times the number of statistics, is below 0.01, "caution" below 0.05; "not
        checked" without checks, or if so few replicates could never fail.
    """
    title = "Does the model make data like the observed?"
    if not checks:
        return Verdict(title=title, state="not checked", sentence="No statistics were compared.")
    worst = min(checks, key=lambda check: check.p_value)
    corrected = min(1.0, worst.p_value * len(checks))
    each = "; ".join(
        f"{check.name} {check.observed:.4g} ({check.mean:.4g}, standard deviation {check.sd:.2g}), "
        f"{_p_value(check.p_value, check.p_value_error)}"
        for check in checks
    )
    sentence = (
        f"Statistics of the observed data, of {worst.n} replicated ones in brackets, and two-sided p-values: {each}. "
        f"The smallest is {number(corrected)} after allowing for {len(checks)}. If the parameters were drawn given the "
        "same data, a large one says little."
    )
    state = significance(corrected, 2 * len(checks) / (worst.n + 1))
    return Verdict(title=title, state=state, sentence=sentence)


def judge_reweighted(weighted: "Reweighted") -> Verdict:
    """Judge whether importance weights put a posterior right, and how far off it was.

    A proposal that is too wide costs draws and does no harm; one that is too narrow, or off, has heavy weights.

    Args:
        weighted: Weighted draws.

    Returns:
        "failed" if Pareto's k exceeds 0.7 (or 1 - 1 / log10 n for n below some 2000 draws) or fewer than 100 draws
        count; "passed" if 400 do, and 1 % of those proposed; else "caution".

    References:
        Vehtari et al. (2024), JMLR 25, 72, section 3.2.4 (k and n); Dax et al. (2023), PRL 130, 171403 (efficiency).
    """
    n = len(weighted.weights)
    largest = min(PARETO_K, 1 - 1 / math.log10(n)) if n > 10 else -math.inf
    if not weighted.pareto_k <= largest or not weighted.effective >= ESS_FAILURE:
        state: State = "failed"
    elif weighted.effective >= ESS_PASSED and weighted.efficiency >= EFFICIENCY_CAUTION:
        state = "passed"
    else:
        state = "caution"
    efficiency, k = signed(weighted.efficiency, _efficiency_error(weighted)), f"{weighted.pareto_k:.2f}"
    sentence = (
        f"Of {n} proposed draws {weighted.effective:.0f} count, {efficiency} of them (1 is a perfect proposal; at "
        f"least {ESS_PASSED} draws are asked for). The tail of the weights has Pareto k {k.replace('-', '−')}; with so "
        f"many draws it can be trusted up to {largest:.2f}."
    )
    return Verdict(title="Did importance weights put the posterior right?", state=state, sentence=sentence)


def _efficiency_error(weighted: "Reweighted") -> float:
    """Standard error of the efficiency, mean square over square mean of the weights, to first order."""
    relative = np.asarray(weighted.weights, np.float64) * len(weighted.weights)
    terms = 2 * relative - relative**2 / (relative**2).mean()
    return float(weighted.efficiency * terms.std() / math.sqrt(len(relative)))


def _p_value(p_value: float, error: float) -> str:
    """A p-value with its Monte Carlo error."""
    return f"p = {number(p_value)} ± {error:.1g}"
