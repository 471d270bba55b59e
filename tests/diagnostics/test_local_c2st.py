"""A classifier at one observation tells wrong posteriors from right ones, and says where they are wrong."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from twins import TWINS, WRONG, assert_even, case, simulate

from eagleray.diagnostics.local_c2st import local_c2st, local_classifiers
from eagleray.diagnostics.verdicts import judge_local_c2st

X_OBS = np.array([0.8, 0.1])
N_NULL = 119
SETTINGS = {"n_null": N_NULL, "n_units": 8, "n_steps": 100, "batch_size": 64}


@functools.cache
def classifiers(kind):
    theta, x, draws = case(kind)
    return local_classifiers(jax.random.key(0), theta, x, draws[:, 0], **SETTINGS)


def at(kind, x_obs=X_OBS):
    draws = TWINS[kind].draw(np.random.default_rng(5), x_obs[None], 500)[0]
    return local_c2st(classifiers(kind), x_obs, draws), draws


def test_right_posterior_passes():
    """False alarm 5 %."""
    found, _ = at("right")
    assert judge_local_c2st(found).state == "passed"
    assert found.null.shape == (N_NULL,)
    assert found.probability.shape == (500,)
    assert found.statistic == pytest.approx(np.mean((found.probability - 0.5) ** 2))
    assert found.p_value_error == pytest.approx(np.sqrt(found.p_value * (1 - found.p_value) / N_NULL))


@pytest.mark.parametrize("kind", [*WRONG, "independent"])
def test_wrong_posteriors_fail(kind):
    found, _ = at(kind)
    assert judge_local_c2st(found).state == "failed"
    assert found.p_value == 1 / (N_NULL + 1)


def test_probability_tells_where_density_is_too_high():
    """The best classifier knows both densities; ours is a part of the way there."""
    found, draws = at("shifted")
    log_odds = TWINS["shifted"].log_prob(draws[None], X_OBS[None]) - TWINS["right"].log_prob(draws[None], X_OBS[None])
    assert np.corrcoef(found.probability, 1 / (1 + np.exp(-log_odds[0])))[0, 1] > 0.9


def test_one_training_serves_many_observations():
    assert all(at("right", x)[0].p_value > 0.01 for x in np.array([[0.0, 0.0], [-1.0, -1.0]]))  # false alarm 2 %


def test_wrong_here_and_right_there():
    """A posterior that is shifted for positive data only: the test is local, where data are common."""
    theta, x, right = case("right")
    wrong = np.where((x[:, :1] > 0), case("shifted")[2][:, 0], right[:, 0])
    trained = local_classifiers(jax.random.key(0), theta, x, wrong, **SETTINGS)
    rng = np.random.default_rng(6)
    here, there = np.array([1.2, 1.2]), np.array([-1.2, -1.2])
    found = local_c2st(trained, here, TWINS["shifted"].draw(rng, here[None], 500)[0])
    assert found.p_value == 1 / (N_NULL + 1)
    assert local_c2st(trained, there, TWINS["right"].draw(rng, there[None], 500)[0]).statistic < found.statistic / 3


def test_units_do_not_matter():
    theta, x, draws = case("narrow")
    scale, zero = np.array([1e-6, 1e4]), np.array([2.0, -1e5])
    scaled = local_classifiers(jax.random.key(0), zero + scale * theta, 7 * x, zero + scale * draws[:, 0], **SETTINGS)
    plain, drawn = at("narrow")
    again = local_c2st(scaled, 7 * X_OBS, zero + scale * drawn)
    np.testing.assert_allclose(again.probability, plain.probability, atol=1e-3)


def test_p_values_of_right_posteriors_are_even():
    """40 small studies of few null trials share one compilation; exact, however badly the networks learn."""
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        theta, x = simulate(rng, 100)
        drawn = TWINS["right"].draw(rng, x, 1)[:, 0]
        trained = local_classifiers(
            jax.random.key(seed), theta, x, drawn, n_null=19, n_units=4, n_steps=20, batch_size=50
        )
        found.append(local_c2st(trained, X_OBS, TWINS["right"].draw(rng, X_OBS[None], 50)[0]).p_value)
    assert_even(found)


def test_few_null_trials_are_no_check():
    found, _ = at("wide")
    assert judge_local_c2st(dataclasses.replace(found, null=found.null[:99])).state == "not checked"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"theta": np.zeros((99, 2))}, "theta must have at least 100 rows, got 99"),
        ({"theta": np.full((100, 2), np.nan)}, "theta must be finite, got 200 of 200"),
        ({"x": np.zeros((101, 3))}, "x must have a row for each row of theta, 100, got 101"),
        ({"draws": np.zeros((100, 3))}, r"draws must be of theta's shape \(100, 2\), got \(100, 3\)"),
        ({"n_null": 0}, "n_null must be at least 1, got 0"),
    ],
)
def test_training_refuses(change, message):
    arguments = {"theta": np.zeros((100, 2)), "x": np.zeros((100, 3)), "draws": np.zeros((100, 2)), **change}
    with pytest.raises(ValueError, match=message):
        local_classifiers(jax.random.key(0), **arguments)


@pytest.mark.parametrize(
    ("x_obs", "draws", "message"),
    [
        (np.zeros(3), np.zeros((9, 2)), "x_obs must have the number of features, 2, got 3"),
        (np.zeros(2), np.zeros((9, 3)), "draws must have the number of parameters, 2, got 3"),
        (np.full(2, np.nan), np.zeros((9, 2)), "x_obs must be finite, got 2 of 2"),
        (np.zeros(2), np.zeros((0, 2)), "draws must have at least 1 rows, got 0"),
    ],
)
def test_testing_refuses(x_obs, draws, message):
    with pytest.raises(ValueError, match=message):
        local_c2st(classifiers("right"), x_obs, draws)
