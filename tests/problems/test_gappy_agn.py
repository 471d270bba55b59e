"""A walk and an oscillator at irregular times: simulator against likelihood, and both against dense matrices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from score_checks import scores_of

from eagleray.errors import InputError
from eagleray.problems.gappy_agn import ENTRIES, make, make_qpo, standard
from eagleray.records import LightCurve, TimeGrid

DAY = 86400.0
WALK = {"tau": 20.0 * DAY, "sigma": 0.3, "mean": 2.0}
BOTH = WALK | {"qpo_sigma": 0.2, "qpo_freq": 0.1 / DAY, "quality": 4.0}


def window(*, n_bins=60, seed=1) -> LightCurve:
    """A third of the bins lost; unequal errors."""
    rng = np.random.default_rng(seed)
    exposure = (rng.random(n_bins) > 0.35).astype(float)
    return LightCurve(
        values=7.0 * exposure,
        exposure=exposure,
        background=np.zeros(n_bins),
        error=exposure * rng.uniform(0.2, 0.7, n_bins),
        grid=TimeGrid(n_bins=n_bins, dt=1.5 * DAY),
        kind="rate",
        start=2.0e8,
    )


def theta_of(values):
    return {name: jnp.float32(value) for name, value in values.items()}


def simulations(problem, theta, n):
    draw = jax.jit(jax.vmap(problem.simulate, in_axes=(0, None)))
    return np.asarray(draw(jax.random.split(jax.random.key(4), n), theta_of(theta)))


def covariance_by_hand(observation, theta):
    """Dense covariance of ln rates, measurement included, in float64."""
    watched = observation.exposure > 0
    lag = np.abs(np.subtract.outer(*[(np.flatnonzero(watched) + 0.5) * observation.grid.dt] * 2))
    total = theta["sigma"] ** 2 * np.exp(-lag / theta["tau"])
    if "quality" in theta:
        decay, root = 1.0 / (2.0 * theta["quality"]), np.sqrt(1.0 - 1.0 / (4.0 * theta["quality"] ** 2))
        phase = 2.0 * np.pi * theta["qpo_freq"] * lag
        wave = np.cos(root * phase) + decay / root * np.sin(root * phase)
        total += theta["qpo_sigma"] ** 2 * np.exp(-decay * phase) * wave
    return total + np.diag((observation.error[watched] / observation.values[watched]) ** 2)


def test_likelihood_of_a_walk_belongs_to_the_simulator():
    """Score of mean zero and covariance minus the mean Hessian; false alarm 1e-4 each. The twin forgets the errors."""
    observation = window()
    at = scores_of(make(observation), n=400)
    for theta in (WALK, {"tau": 6.0 * DAY, "sigma": 0.1, "mean": 1.5}):
        found = at(theta)
        assert found.mean < 4.5
        assert found.information < 4.5
    exact = dataclasses.replace(observation, error=0.5 * observation.error)
    assert scores_of(make(observation), log_likelihood=make(exact).log_likelihood)(WALK).mean > 4.5


def test_likelihood_of_an_oscillator_belongs_to_the_simulator():
    at = scores_of(make_qpo(window()), n=400)
    for theta in (BOTH, BOTH | {"qpo_freq": 0.06 / DAY, "quality": 9.0, "sigma": 0.1}):
        found = at(theta)
        assert found.mean < 4.5
        assert found.information < 4.5


@pytest.mark.parametrize(("maker", "theta"), [(make, WALK), (make_qpo, BOTH)])
def test_simulations_and_likelihood_are_those_of_the_dense_covariance(maker, theta):
    """Whitened simulations are normal (Kolmogorov-Smirnov, false alarm 1e-4); densities are SciPy's."""
    observation = window()
    problem, covariance = maker(observation), covariance_by_hand(observation, theta)
    values = np.asarray(simulations(problem, theta, 400), np.float64)
    total = (np.linalg.solve(np.linalg.cholesky(covariance), values.T - theta["mean"]) ** 2).sum(axis=0)
    assert stats.kstest(total, stats.chi2(len(covariance)).cdf).pvalue > 1e-4
    # The twin: a covariance a tenth too large.
    assert stats.kstest(total / 1.1, stats.chi2(len(covariance)).cdf).pvalue < 1e-4
    expected = stats.multivariate_normal(np.full(len(covariance), theta["mean"]), covariance).logpdf(values[0])
    found = float(jax.jit(problem.log_likelihood)(theta_of(theta), jnp.asarray(values[0], jnp.float32)))
    assert found == pytest.approx(expected, abs=0.01)


def test_counts_are_taken_with_their_poisson_errors():
    """A source of 4 counts/s under a background of 1 count/s; exposures are not all the same."""
    exposure = np.r_[np.ones(20), np.zeros(10), np.full(20, 0.5)]
    counts = LightCurve(
        values=(4.0 + 1.0) * 100.0 * exposure,
        exposure=exposure,
        background=100.0 * exposure,
        error=None,
        grid=TimeGrid(n_bins=50, dt=100.0),
    )
    problem = make(counts)
    np.testing.assert_allclose(problem.observed, np.log(4.0), rtol=1e-6)
    np.testing.assert_allclose(problem.light_curve(problem.observed), counts.values, rtol=1e-5)
    assert problem.prior.texts["mean"] == "uniform(0.3863, 2.386)"
    spread = simulations(problem, {"tau": 1e4, "sigma": 1e-4, "mean": 1.4}, 2000).std(axis=0)
    np.testing.assert_allclose(spread[:20], np.sqrt(500.0) / 400.0, rtol=0.1)
    np.testing.assert_allclose(spread[20:], np.sqrt(250.0) / 200.0, rtol=0.1)


def test_standard_window_and_summary():
    problem = make_qpo(standard(), {"quality": "fixed(5)"})
    assert "quality" not in problem.prior.names
    theta, values = jax.jit(problem.draw)(jax.random.key(3))
    features = np.asarray(jax.jit(problem.summary)(values))
    assert set(theta) == set(ENTRIES["gappy_agn_qpo"].units)
    assert features.shape == (len(problem.summary.names),)
    assert np.isfinite(features).all()
    assert problem.summary.shown(features).shape == problem.summary.panel.axis.shape
    assert (problem.light_curve(values) > 0).sum() == standard().n_exposed
    assert problem.summary.signature() != make(standard()).summary.signature()


def test_bad_input_is_named_with_its_remedy():
    observation = window()
    with pytest.raises(InputError, match="rates must come with errors, got none"):
        make(dataclasses.replace(observation, error=None))
    with pytest.raises(InputError, match="rates and errors above 0 in exposed bins, got -1; use a larger dt"):
        make(dataclasses.replace(observation, values=-np.asarray(observation.exposure)))
    counts = dataclasses.replace(observation, values=15.0 * np.asarray(observation.exposure), error=None, kind="counts")
    with pytest.raises(InputError, match="at least 20 counts in each exposed bin, got 15; use a larger dt"):
        make(counts)
    with pytest.raises(InputError, match="takes 8 to 500 exposed bins, got 7"):
        make(dataclasses.replace(observation, exposure=np.r_[np.ones(7), np.zeros(53)]))
    with pytest.raises(InputError, match=r"quality must not reach below 0.5, got uniform\(0.2, 3\)"):
        make_qpo(observation, {"quality": "uniform(0.2, 3)"})
    short = dataclasses.replace(
        observation, exposure=np.r_[np.ones(12), np.zeros(48)], values=np.ones(60), error=np.ones(60)
    )
    with pytest.raises(InputError, match="longer than 20 bins, got 11"):
        make_qpo(short)
    with pytest.raises(InputError, match="tau must not reach below 0"):
        make(observation, {"tau": "normal(1, 1)"})
