"""Verdicts on a posterior over many simulations whose truth is known."""

import numpy as np

from eagleray.diagnostics.coverage import RegionCoverage
from eagleray.diagnostics.information import InformationLost
from eagleray.diagnostics.rank_bands import RankBands
from eagleray.diagnostics.recovery import Recovery
from eagleray.diagnostics.verdicts.verdict import (
    COVERAGE_TOLERANCE,
    ENOUGH_SIMULATIONS,
    State,
    Verdict,
    number,
    signed,
    significance,
)

INFORMATION_PASSED, INFORMATION_FAILURE = 0.1, 0.5
"""Information that a summary lost [nats]: a tenth is one standard deviation made a tenth longer."""


def judge_rank_bands(bands: RankBands) -> Verdict:
    """Judge whether the truth's ranks among posterior draws are even, each parameter by itself.

    Args:
        bands: Rank distributions and their simultaneous band.

    Returns:
        "failed" below p = 0.01 over all parameters where a curve strays by more than 0.02; "caution" below 0.05, or
        where it strays less; "not checked" if nothing was found among fewer than 100 simulations.
    """
    worst, n_theta = int(np.argmin(bands.p_values)), len(bands.names)
    strayed = float(np.abs(bands.difference[:, worst]).max())
    names = [name for name, outside in zip(bands.names, bands.outside, strict=True) if outside]
    sentence = (
        f"Of {bands.n_simulations} simulations, the ranks of {', '.join(names) or 'no parameter'} leave the band that "
        f"holds even ranks of all parameters with a probability of {bands.level:.0%}. The least even are those of "
        f"{bands.names[worst]}, whose distribution strays by up to {strayed:.3f} (± {bands.error.max():.3f} by chance "
        f"at one rank); p = {number(bands.p_value)} after allowing for {n_theta} parameter{'s' * (n_theta > 1)}. "
        "Correlations between parameters are not tested."
    )
    state = _state(bands.p_value, bands.n_simulations, strayed)
    return Verdict(title="Are the truth's ranks among the draws even?", state=state, sentence=sentence)


def judge_coverage(coverage: RegionCoverage) -> Verdict:
    """Judge whether regions in all parameters together hold the truth as often as they say.

    Args:
        coverage: Of regions of highest density, or about random points.

    Returns:
        "failed" below p = 0.01 where coverage is off by more than 0.02 on average; "caution" below 0.05, or where it
        is off by less; "not checked" if nothing was found among fewer than 100 simulations.
    """
    of_what = "highest density" if coverage.regions == "highest density" else "balls about random points"
    middle = int(np.argmin(np.abs(coverage.levels - 0.5)))
    sentence = (
        f"On {coverage.n} simulations, regions ({of_what}) of probability {coverage.levels[middle]:.2g} held the truth "
        f"in a fraction {signed(coverage.coverage[middle], coverage.error[middle])}; over all probabilities the "
        f"difference is {coverage.deviation:.3f} on average, p = {number(coverage.p_value)}. The excess is "
        f"{signed(coverage.excess, coverage.excess_error)}: positive means too wide, negative too narrow or off centre."
    )
    state = _state(coverage.p_value, coverage.n, coverage.deviation)
    title = f"Do regions of all parameters ({coverage.regions}) hold the truth as often as they say?"
    return Verdict(title=title, state=state, sentence=sentence)


def judge_recovery(recovery: Recovery) -> Verdict:
    """Judge whether posteriors lie about the truth as closely as they say; what data taught is told besides.

    Args:
        recovery: z-scores and contractions.

    Returns:
        "failed" below p = 0.01, "caution" below 0.05; "not checked" if so few trials could never fail, or nothing was
        found among fewer than 100 simulations.
    """
    n = len(recovery.z)
    each = "; ".join(
        f"{name}: mean {signed(recovery.z_mean[i], recovery.z_mean_error[i])}, standard deviation "
        f"{signed(recovery.z_sd[i], recovery.z_sd_error[i])}, contraction "
        f"{signed(recovery.contraction_mean[i], recovery.contraction_error[i])}"
        for i, name in enumerate(recovery.names)
    )
    sentence = (
        f"Posterior mean less truth, in posterior standard deviations, on {n} simulations (0 and 1 are right), and "
        f"the part of the prior's variance that the data removed: {each}. p = {number(recovery.p_value)} ± "
        f"{recovery.p_value_error:.1g}. The contraction tells what was learnt, not whether it is right."
    )
    state = significance(recovery.p_value, 1 / (recovery.n_trials + 1))
    if state == "passed" and n < ENOUGH_SIMULATIONS:
        state = "not checked"
    return Verdict(title="Do posteriors lie about the truth as closely as they say?", state=state, sentence=sentence)


def judge_information(lost: InformationLost) -> Verdict:
    """Judge whether a summary kept what the data say about the parameters.

    Args:
        lost: Loss against posteriors given all the data.

    Returns:
        "passed" up to 0.1 nats, by covariances, if entropies do not contradict; "failed" above 0.5, or significantly
        negative, which right posteriors cannot be; else "caution", and where the error exceeds 0.1.
    """
    value, error = lost.gaussian, lost.gaussian_error
    sentence = (
        f"Over {lost.n} observations, posteriors given the summary were wider than those given all the data by "
        f"{signed(value, error)} nats (half the ln of the ratio of their determinants); by entropies, which need no "
        f"Gaussian, {signed(lost.entropy, lost.entropy_error)} nats."
    )
    disagree = abs(value - lost.entropy) > INFORMATION_PASSED + 3 * float(np.hypot(error, lost.entropy_error))
    if value < -INFORMATION_PASSED - 3 * error:
        state: State = "failed"
        sentence += " No summary can tell more than all the data: one of the two kinds of posterior is wrong."
    elif value > INFORMATION_FAILURE + 3 * error:
        state = "failed"
    elif value > INFORMATION_PASSED or error > INFORMATION_PASSED or disagree:
        state = "caution"
    else:
        state = "passed"
    return Verdict(title="Did the summary keep what the data say?", state=state, sentence=sentence)


def _state(p_value: float, n: int, size: float) -> State:
    """The word for a p-value of n simulations, milder where the effect is small, none where they could tell nothing."""
    state = significance(p_value)
    if state == "failed" and size <= COVERAGE_TOLERANCE:
        return "caution"
    return "not checked" if state == "passed" and n < ENOUGH_SIMULATIONS else state
