"""z-scores of a right posterior have mean 0 and spread 1; contraction tells widths."""

import jax
import numpy as np
import pytest
from twins import COVARIANCE, FACTORS, NAMES, SHIFT, TWINS, WRONG, assert_even, case, named, simulate

from eagleray.diagnostics.recovery import recovery
from eagleray.diagnostics.verdicts import judge_recovery


def recovered(kind, *, n_trials=199, prior_variance=None, **settings):
    theta, _, draws = case(kind, **settings)
    return recovery(jax.random.key(0), named(theta), named(draws), n_trials=n_trials, prior_variance=prior_variance)


def test_right_posterior_passes():
    """False alarm 5 % for the verdict, 6e-7 for each number."""
    found = recovered("right")
    assert judge_recovery(found).state == "passed"
    assert (np.abs(found.z_mean) < 5 * found.z_mean_error).all()
    assert (np.abs(found.z_sd - 1) < 5 * found.z_sd_error).all()
    assert (np.abs(found.contraction_mean - (1 - np.diag(COVARIANCE))) < 5 * found.contraction_error).all()
    assert found.names == NAMES


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_posteriors_fail(kind):
    found = recovered(kind)
    assert judge_recovery(found).state == "failed"
    assert found.p_value == 1 / 200
    factor, shift = FACTORS.get(kind, 1.0), SHIFT if kind == "shifted" else 0.0
    assert (np.abs(found.z_sd - 1 / factor) < 5 * found.z_sd_error).all()
    assert (np.abs(found.z_mean - shift) < 5 * found.z_mean_error).all()
    # The contraction sees the width and, by its definition, no shift.
    expected = 1 - factor**2 * np.diag(COVARIANCE)
    assert (np.abs(found.contraction_mean - expected) < 5 * found.contraction_error).all()


def test_a_missing_correlation_is_not_seen():
    """By construction: z-scores are of one parameter at a time."""
    assert judge_recovery(recovered("independent")).state == "passed"


def test_known_prior_variance_lowers_the_error():
    given = recovered("right", prior_variance={"a": 1.0, "b": 1.0})
    assert (given.contraction_error < recovered("right").contraction_error).all()
    np.testing.assert_allclose(given.contraction, 1 - case("right")[2].var(axis=1, ddof=1))


def test_few_draws_add_nothing():
    """Student's tails and the error of the mean are divided out; false alarm 6e-7."""
    found = recovered("right", n=4000, n_draws=12, n_trials=1)
    assert (np.abs((found.z**2).mean(axis=0) - 1) < 5 * (found.z**2).std(axis=0) / np.sqrt(4000)).all()


def test_p_values_of_right_posteriors_are_even():
    """Of a skewed posterior too: draws and truth are log-normal."""
    found = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        theta, x = simulate(rng, 30)
        truth, draws = np.exp(theta), np.exp(TWINS["right"].draw(rng, x, 15))
        found.append(recovery(jax.random.key(seed), named(truth), named(draws), n_trials=99).p_value)
    assert_even(found)


def test_few_trials_or_simulations_are_no_check():
    assert judge_recovery(recovered("wide", n_trials=99)).state == "not checked"
    assert judge_recovery(recovered("right", n=60)).state == "not checked"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": {"a": np.zeros(19)}}, r"truth\['a'\] must have at least 20 rows, got 19"),
        ({"truth": {"b": np.zeros(30)}}, r"draws must have the parameters of truth, \['b'\], got \['a'\]"),
        ({"truth": {"a": np.full(30, np.nan)}}, "must be finite, got 30 of 30"),
        ({"draws": {"a": np.zeros((30, 9))}}, r"draws\['a'\] must be of shape \(30, 10\), got \(30, 9\)"),
        ({"draws": {"a": np.zeros((30, 10))}}, "draws must vary, got 30 of 30 posteriors that do not"),
        ({"n_trials": 0}, "n_trials must be at least 1, got 0"),
        ({"prior_variance": {"a": 0.0}}, "prior_variance must be positive"),
    ],
)
def test_refuses(change, message):
    rng = np.random.default_rng(0)
    arguments = {"truth": {"a": rng.normal(size=30)}, "draws": {"a": rng.normal(size=(30, 10))}, **change}
    with pytest.raises(ValueError, match=message):
        recovery(jax.random.key(0), **arguments)


def test_refuses_ragged_parameters():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"truth\['b'\] must have as many simulations .*, 30, got 31"):
        recovery(
            jax.random.key(0),
            {"a": rng.normal(size=30), "b": rng.normal(size=31)},
            {"a": rng.normal(size=(30, 10)), "b": rng.normal(size=(31, 10))},
        )
