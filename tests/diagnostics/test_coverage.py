"""Regions of a right posterior hold the truth as often as they say, by density and by distance; others' do not."""

import jax
import numpy as np
import pytest
from twins import PRIOR, TWINS, WRONG, assert_even, case, simulate

from eagleray.diagnostics.coverage import density_coverage, tarp
from eagleray.diagnostics.verdicts import judge_coverage


def by_density(kind, seed=0, **settings):
    theta, x, draws = case(kind, **settings)
    return density_coverage(jax.random.key(seed), TWINS[kind].log_prob(theta, x), TWINS[kind].log_prob(draws, x))


def by_points(kind, seed=0, **settings):
    theta, _, draws = case(kind, **settings)
    return tarp(jax.random.key(seed), theta, draws)


BOTH = pytest.mark.parametrize("measure", [by_density, by_points])


@BOTH
def test_right_posterior_passes(measure):
    """False alarm 5 % for the verdict; 6e-7 for each of the others."""
    found = measure("right")
    assert judge_coverage(found).state == "passed"
    assert abs(found.excess) < 5 * found.excess_error
    assert (np.abs(found.coverage - found.levels) < 5 * found.error).all()


@BOTH
@pytest.mark.parametrize("kind", WRONG)
def test_wrong_posteriors_fail(measure, kind):
    found = measure(kind)
    assert judge_coverage(found).state == "failed"
    assert found.p_value < 1e-6
    # A posterior off centre leaves the truth outside, like one that is too narrow.
    assert (found.excess > 0) == (kind == "wide")
    assert abs(found.excess) > 5 * found.excess_error


def test_a_missing_correlation_is_seen():
    """By density well; by distance to random points with many simulations only, since balls average it out."""
    assert judge_coverage(by_density("independent")).state == "failed"
    assert by_points("independent", n=8000, n_draws=50).p_value < 0.01


def test_the_prior_passes_but_for_points_that_know_the_data():
    """Both are calibrated on average over the prior; only references that depend on the data can tell."""
    rng = np.random.default_rng(0)
    theta, x = simulate(rng, 1000)
    draws = rng.multivariate_normal(np.zeros(2), PRIOR, (1000, 100))
    prior = np.linalg.inv(PRIOR)
    density = [-0.5 * np.einsum("...i,ij,...j", values, prior, values) for values in (theta, draws)]
    assert judge_coverage(density_coverage(jax.random.key(0), *density)).state == "passed"
    assert judge_coverage(tarp(jax.random.key(1), theta, draws)).state == "passed"
    assert tarp(jax.random.key(1), theta, draws, references=x).p_value < 1e-6


def test_errors_are_binomial():
    found = by_density("right")
    np.testing.assert_allclose(found.error, np.sqrt(found.coverage * (1 - found.coverage) / found.n), rtol=0.3)
    assert found.excess_error == pytest.approx(np.sqrt(1 / 12 / found.n), rel=0.1)


def test_tarp_against_a_loop():
    theta, x, draws = case("narrow", n=50, n_draws=20)
    found = tarp(jax.random.key(0), theta, draws, references=x)
    together = np.concatenate([theta, draws.reshape(-1, 2)])
    scale = np.quantile(together, 0.99, axis=0) - np.quantile(together, 0.01, axis=0)
    for i, credibility in enumerate(found.credibility):
        to_truth = np.hypot(*((theta[i] - x[i]) / scale))
        nearer = sum(np.hypot(*((draw - x[i]) / scale)) < to_truth for draw in draws[i])
        assert nearer <= 21 * credibility <= nearer + 1


def test_density_credibility_against_a_loop():
    theta, x, draws = case("right", n=50, n_draws=20)
    found = by_density("right", n=50, n_draws=20)
    of_truth, of_draws = TWINS["right"].log_prob(theta, x), TWINS["right"].log_prob(draws, x)
    higher = np.array([np.sum(row > value) for row, value in zip(of_draws, of_truth, strict=True)])
    np.testing.assert_array_equal(np.floor(21 * found.credibility), higher)


def test_units_do_not_matter():
    theta, _, draws = case("right", n=200)
    scale, zero = np.array([1e-9, 1e6]), np.array([5.0, -3e7])
    plain = tarp(jax.random.key(3), theta, draws)
    scaled = tarp(jax.random.key(3), zero + scale * theta, zero + scale * draws)
    np.testing.assert_allclose(np.floor(101 * scaled.credibility), np.floor(101 * plain.credibility), atol=1)


@pytest.mark.parametrize("shift", [0, 1])
def test_heavy_ties_are_broken_by_chance(shift):
    """Parameters with five values each; flat densities."""
    rng = np.random.default_rng(4)
    theta = rng.integers(0, 5, (1500, 2)).astype(float)
    draws = rng.integers(0, 5, (1500, 40, 2)) + float(shift)
    by_distance = tarp(jax.random.key(0), theta, draws)
    if shift:
        assert by_distance.p_value < 1e-6
    else:
        flat = density_coverage(jax.random.key(1), np.zeros(1500), np.zeros((1500, 40)))
        assert min(by_distance.p_value, flat.p_value) > 1e-3  # false alarm 2e-3


@BOTH
def test_p_values_of_right_posteriors_are_even(measure):
    """100 small studies with few draws each."""
    found = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        theta, x = simulate(rng, 40)
        draws, twin = TWINS["right"].draw(rng, x, 7), TWINS["right"]
        key = jax.random.key(seed)
        if measure is by_points:
            found.append(tarp(key, theta, draws).p_value)
        else:
            found.append(density_coverage(key, twin.log_prob(theta, x), twin.log_prob(draws, x)).p_value)
    assert_even(found)


def test_same_key_same_answer():
    assert by_points("right", n=50).p_value == by_points("right", n=50).p_value
    assert by_points("right", n=50).p_value != by_points("right", seed=1, n=50).p_value


def test_excluded_truths_count_and_small_studies_are_no_check():
    found = density_coverage(jax.random.key(0), np.full(60, -np.inf), np.zeros((60, 100)))
    assert found.coverage[-1] == 0
    assert judge_coverage(found).state == "failed"
    assert judge_coverage(by_density("right", n=60)).state == "not checked"


@pytest.mark.parametrize(
    ("truth", "draws", "message"),
    [
        (np.zeros(3), np.zeros((4, 5)), "log_prob_draws must have a row for each truth, 3, got 4"),
        (np.full(3, np.nan), np.zeros((3, 5)), "log_prob_truth must be finite, got 3 of 3 numbers"),
        (np.zeros(3), np.full((3, 5), np.inf), "log_prob_draws must be finite, got 15 of 15 numbers"),
        (np.zeros(0), np.zeros((0, 5)), "log_prob_truth must have at least 1 rows, got 0"),
        (np.zeros(3), np.zeros(3), r"log_prob_draws must be of shape \(n, n_draws\)"),
    ],
)
def test_density_refuses(truth, draws, message):
    with pytest.raises(ValueError, match=message):
        density_coverage(jax.random.key(0), truth, draws)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": np.zeros(9)}, r"truth must be of shape \(n, d\)"),
        ({"draws": np.zeros((8, 5, 2))}, "draws must have a set for each truth, 9, got 8"),
        ({"draws": np.zeros((9, 5, 3))}, "draws must have the truth's number of parameters, 2, got 3"),
        ({"draws": np.full((9, 5, 2), np.nan)}, "draws must be finite, got 90 of 90"),
        ({"references": np.zeros((9, 3))}, r"references must be of the truth's shape \(9, 2\), got \(9, 3\)"),
        ({"truth": np.zeros((9, 2)), "draws": np.zeros((9, 5, 2))}, r"every parameter must vary, .* of \[0, 1\]"),
    ],
)
def test_tarp_refuses(change, message):
    rng = np.random.default_rng(0)
    arguments = {"truth": rng.normal(size=(9, 2)), "draws": rng.normal(size=(9, 5, 2)), **change}
    with pytest.raises(ValueError, match=message):
        tarp(jax.random.key(0), **arguments)
