"""Weights of a good proposal pass; of one that is too narrow or off they fail."""

import dataclasses

import numpy as np
import pytest
from twins import TWINS

from eagleray.diagnostics.verdicts import judge_reweighted
from eagleray.inference.reweighting import _weighted

X_OBS = np.array([[0.4, 0.2]])


def weighted(kind, *, shift=0.0, n=5000, seed=0):
    """Draws of a twin, moved by `shift`, weighted with the right posterior."""
    twin = dataclasses.replace(TWINS[kind], shift=TWINS[kind].shift + shift)
    draws = twin.draw(np.random.default_rng(seed), X_OBS, n)
    log_weights = TWINS["right"].log_prob(draws, X_OBS) - twin.log_prob(draws, X_OBS)
    return _weighted({"a": draws[0, :, 0], "b": draws[0, :, 1]}, log_weights[0], 1)


def test_right_and_wide_proposals_pass():
    """A wide one costs draws, no more: weights are bounded, and the answer is right."""
    right, wide = weighted("right"), weighted("wide")
    assert right.efficiency == pytest.approx(1)
    assert judge_reweighted(right).state == judge_reweighted(wide).state == "passed"
    ratio = 1.6**2
    expected = (2 * ratio - 1) / ratio**2  # of a Gaussian in two dimensions
    assert abs(wide.efficiency - expected) < 0.03
    assert f"{wide.efficiency:.3f}"[:3] in judge_reweighted(wide).sentence


def test_narrow_and_far_proposals_fail():
    """Pareto k of a Gaussian's weights is 1 - (its width)^2; of a shifted one it grows with the shift."""
    narrow = weighted("narrow", n=50_000)
    assert 0.5 < narrow.pareto_k < 1.0
    twin = dataclasses.replace(TWINS["narrow"], covariance=0.25 * TWINS["narrow"].covariance)
    draws = twin.draw(np.random.default_rng(1), X_OBS, 5000)
    log_weights = TWINS["right"].log_prob(draws, X_OBS) - twin.log_prob(draws, X_OBS)
    found = judge_reweighted(_weighted({"a": draws[0, :, 0]}, log_weights[0], 1))
    assert found.state == "failed"
    assert "Pareto k" in found.sentence
    # A shift by 0.8 standard deviations is what weights can mend, and one by ten is not.
    assert judge_reweighted(weighted("shifted")).state == "passed"
    assert judge_reweighted(weighted("right", shift=8.0)).state == "failed"


def test_few_or_rare_draws_are_a_caution():
    right = weighted("right", n=500)
    assert judge_reweighted(dataclasses.replace(right, effective=399.0)).state == "caution"
    assert judge_reweighted(dataclasses.replace(right, effective=500.0, efficiency=0.009)).state == "caution"
    assert judge_reweighted(dataclasses.replace(right, effective=99.0)).state == "failed"


def test_with_few_draws_less_of_a_tail_can_be_trusted():
    heavy = dataclasses.replace(weighted("right", n=500), pareto_k=0.65)
    assert judge_reweighted(heavy).state == "failed"  # 1 - 1 / log10(500) is 0.63
    assert judge_reweighted(dataclasses.replace(weighted("right"), pareto_k=0.65)).state == "passed"
    assert judge_reweighted(dataclasses.replace(heavy, pareto_k=np.nan)).state == "failed"
