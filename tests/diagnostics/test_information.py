"""A summary that keeps all loses nothing; wider posteriors lose what theory says."""

import numpy as np
import pytest
from twins import COVARIANCE, FACTORS, TWINS, case

from eagleray.diagnostics.information import information_lost
from eagleray.diagnostics.verdicts import judge_information

N, N_DRAWS = 40, 250


def lost(kind, *, n_draws=N_DRAWS):
    _, x, _ = case(kind)
    rng = np.random.default_rng(1)
    return information_lost(TWINS[kind].draw(rng, x[:N], n_draws), TWINS["right"].draw(rng, x[:N], N_DRAWS))


# A shift leaves both entropies alone: by its definition this diagnostic is blind to it.
@pytest.mark.parametrize("kind", ["right", "shifted"])
@pytest.mark.parametrize("n_draws", [N_DRAWS, 40])
def test_equal_widths_lose_nothing(kind, n_draws):
    """Whatever the number of draws; false alarm 6e-7, but for the neighbours' bias with few draws."""
    found = lost(kind, n_draws=n_draws)
    assert abs(found.gaussian) < 5 * found.gaussian_error
    assert abs(found.entropy) < 5 * found.entropy_error + (0.0 if n_draws == N_DRAWS else 0.1)
    assert judge_information(found).state == "passed"


@pytest.mark.parametrize("kind", ["wide", "narrow"])
def test_other_widths_are_told_in_nats(kind):
    found = lost(kind)
    expected = 2 * np.log(FACTORS[kind])
    assert abs(found.gaussian - expected) < 5 * found.gaussian_error
    assert abs(found.entropy - expected) < 5 * found.entropy_error + 0.03
    verdict = judge_information(found)
    assert verdict.state == "failed"
    # A posterior cannot be narrower, on average, than that of all the data.
    assert ("one of the two kinds of posterior is wrong" in verdict.sentence) == (kind == "narrow")


def test_a_missing_correlation_is_lost_information():
    found = lost("independent")
    correlation = COVARIANCE[0, 1] / COVARIANCE[0, 0]
    assert abs(found.gaussian + 0.5 * np.log(1 - correlation**2)) < 5 * found.gaussian_error
    assert judge_information(found).state == "caution"


def test_entropies_need_no_gaussian():
    """A ring and the Gaussian of its covariance: entropies differ, covariances do not."""
    rng = np.random.default_rng(3)
    angle = rng.uniform(0, 2 * np.pi, (20, 600))
    ring = (1 + 0.05 * rng.normal(size=(20, 600)))[..., None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    found = information_lost(np.sqrt(0.5) * rng.normal(size=(20, 600, 2)), ring)
    entropy = 0.5 * np.log(2 * np.pi * np.e * 0.05**2) + np.log(2 * np.pi)  # of a thin ring of radius 1
    assert abs(found.gaussian) < 5 * found.gaussian_error + 0.01
    assert abs(found.entropy - (np.log(2 * np.pi * np.e * 0.5) - entropy)) < 0.1
    assert judge_information(found).state == "caution"


def test_one_parameter_and_record():
    rng = np.random.default_rng(4)
    found = information_lost(2.0 * rng.normal(size=(50, 300, 1)), rng.normal(size=(50, 200, 1)))
    assert abs(found.gaussian - np.log(2.0)) < 5 * found.gaussian_error
    assert (found.n, found.n_theta, found.each.shape) == (50, 1, (50, 2))
    np.testing.assert_allclose(found.each.mean(axis=0), [found.gaussian, found.entropy])
    assert found.entropy_error == pytest.approx(found.each[:, 1].std(ddof=1) / np.sqrt(50))


def test_units_and_origin_cancel():
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(2, 10, 60, 2))
    mixing = np.array([[1e-4, 0.0], [30.0, 7.0]])
    scaled = information_lost(first @ mixing + 9, second @ mixing + 9)
    np.testing.assert_allclose(scaled.each, information_lost(first, second).each, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"summary": np.zeros((9, 2))}, r"summary must be of shape \(n, m, d\)"),
        ({"summary": np.ones((1, 50, 2))}, "summary must have at least 2 rows, got 1"),
        ({"reference": np.full((9, 50, 2), np.nan)}, "reference must be finite, got 900 of 900"),
        ({"reference": np.ones((8, 50, 2))}, "reference must have a posterior for each of the summary's, 9, got 8"),
        ({"reference": np.ones((9, 50, 3))}, "reference must have the summary's number of parameters, 2, got 3"),
        ({"reference": np.ones((9, 4, 2))}, "reference must have at least 5 draws of each posterior, got 4"),
        ({"reference": np.ones((9, 50, 2))}, "reference must vary in every direction"),
        ({"summary": np.ones((9, 50, 2))}, "summary must vary in every direction"),
        ({"n_neighbours": 0}, "n_neighbours must be at least 1"),
    ],
)
def test_refuses(change, message):
    rng = np.random.default_rng(0)
    arguments = {"summary": rng.normal(size=(9, 50, 2)), "reference": rng.normal(size=(9, 50, 2)), **change}
    with pytest.raises(ValueError, match=message):
        information_lost(**arguments)


def test_refuses_repeated_draws():
    rng = np.random.default_rng(0)
    chain = np.repeat(rng.normal(size=(9, 10, 2)), 5, axis=1)
    with pytest.raises(ValueError, match="summary must not repeat draws, got 50 that do; thin the chains"):
        information_lost(chain, rng.normal(size=(9, 50, 2)))
