"""A chunk of long red noise: simulator against likelihood, and both against plain NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.linalg import toeplitz
from score_checks import scores_of

from eagleray.errors import InputError
from eagleray.problems.leaky_red_noise import ENTRIES, make
from eagleray.problems.windows import steady_light_curve

THETA = {"slope_high": 2.6, "bend_freq": 4e-4, "rms": 0.3, "rate": 0.5, "noise": 3.0}
FREE = THETA | {"slope_low": 0.4, "slope_high": 3.5, "bend_freq": 1.0e-3}
N, DT = 48, 100.0
SHORT = steady_light_curve(N, dt=DT, rate=0.5)


def theta_of(values):
    return {"slope_low": jnp.float32(1.0)} | {name: jnp.float32(value) for name, value in values.items()}


def covariance_by_hand(theta, red_noise=16):
    """Covariance of the counts, a sum of cosines over the frequencies of `red_noise` windows, in float64."""
    n_long = red_noise * N
    freq = np.arange(1, n_long // 2 + 1) / (n_long * DT)
    ratio = freq / theta["bend_freq"]
    slope_low = theta.get("slope_low", 1.0)
    shape = ratio**-slope_low / (1.0 + ratio ** (theta["slope_high"] - slope_low))
    power = shape * theta["rms"] ** 2 * n_long * DT / shape[freq > 0.999 / (N * DT)].sum() + theta["noise"]
    weight = np.where(np.arange(freq.size) == freq.size - 1, 0.5, 1.0) / (n_long * DT)
    lag = np.arange(N) * DT
    covariance = (np.cos(2.0 * np.pi * lag[:, None] * freq) * (weight * power)).sum(axis=1)
    return toeplitz(covariance) * (theta["rate"] * DT) ** 2


def test_likelihood_belongs_to_the_simulator():
    """Score of mean zero and covariance minus the mean Hessian; false alarm 1e-4 each."""
    at = scores_of(make(SHORT, {"slope_low": "uniform(0, 1.4)"}), n=400)
    for theta in (THETA | {"slope_low": 1.0}, FREE):
        found = at(theta)
        assert found.mean < 4.5
        assert found.information < 4.5


def test_a_likelihood_without_leakage_is_found_out():
    """The twin takes the process to repeat after two windows, not sixteen."""
    without = make(SHORT, red_noise=2).log_likelihood
    assert scores_of(make(SHORT), n=400, log_likelihood=without)(THETA).mean > 4.5


@pytest.mark.parametrize("theta", [THETA, FREE])
def test_likelihood_is_the_multivariate_normal_one(theta):
    problem = make(SHORT)
    values = jax.jit(problem.simulate)(jax.random.key(3), theta_of(theta))
    expected = stats.multivariate_normal(np.full(N, theta["rate"] * DT), covariance_by_hand(theta)).logpdf(values)
    assert float(jax.jit(problem.log_likelihood)(theta_of(theta), values)) == pytest.approx(expected, abs=0.01)


def test_simulations_have_the_covariance():
    """Whitened by the covariance that NumPy gives, sums of squares are chi^2; false alarm 1e-4, and 1e-4 for views."""
    problem = make(SHORT)
    factor = np.linalg.cholesky(covariance_by_hand(THETA))
    keys, theta = jax.random.split(jax.random.key(4), 500), theta_of(THETA)
    values, views = (
        jax.jit(jax.vmap(draw, in_axes=(0, None)))(keys, theta) for draw in (problem.simulate, problem.simulate_views)
    )
    assert views.shape == (500, 4, N)
    for drawn in (values, views[:, 3]):
        white = np.linalg.solve(factor, np.asarray(drawn, np.float64).T - THETA["rate"] * DT)
        total = (white**2).sum(axis=0)
        assert stats.kstest(total, stats.chi2(N).cdf).pvalue > 1e-4
        # The twin: a covariance a tenth too large.
        assert stats.kstest(total / 1.1, stats.chi2(N).cdf).pvalue < 1e-4


def test_an_observation_sets_units_and_priors():
    """Counts and rates of one source have one summary and one posterior."""
    problem = make(SHORT)
    rates = dataclasses.replace(SHORT, values=SHORT.values / DT, error=np.ones(N), kind="rate")
    other = make(rates)
    assert other.prior.texts == problem.prior.texts
    values = jax.jit(problem.simulate)(jax.random.key(6), theta_of(THETA))
    np.testing.assert_allclose(other.summary(values / DT), problem.summary(values), rtol=1e-4, atol=1e-4)
    ours, theirs = (p.log_likelihood(theta_of(THETA), v) for p, v in ((problem, values), (other, values / DT)))
    assert float(theirs - ours) == pytest.approx(N * np.log(DT), abs=0.01)
    assert problem.prior.names == ("slope_high", "bend_freq", "rms", "rate", "noise")
    assert make(SHORT, {"noise": "fixed(4)", "slope_low": "uniform(0, 1.4)"}).prior.names[0] == "slope_low"


def test_summary_is_named_and_finite_where_all_bins_are_alike():
    problem = make(SHORT)
    values = jax.jit(problem.simulate)(jax.random.key(7), theta_of(THETA))
    features = problem.summary(values)
    assert features.shape == (len(problem.summary.names),)
    assert np.isfinite(features).all()
    assert problem.summary.shown(np.asarray(features)).shape == problem.summary.panel.axis.shape
    assert ENTRIES["leaky_red_noise"].settings == {"red_noise": 16.0, "rebin": 0.2}


def test_bad_input_is_named_with_its_remedy():
    with pytest.raises(InputError, match="without gaps and background; use bending_power_law"):
        make(dataclasses.replace(SHORT, background=np.ones(N)))
    with pytest.raises(InputError, match="takes 8 to 512 bins, got 600; use another dt, or a part of the data"):
        make(steady_light_curve(600, dt=DT, rate=0.5))
    with pytest.raises(InputError, match="red_noise must be from 2 to 100, got 1"):
        make(SHORT, red_noise=1)
    with pytest.raises(InputError, match="rebin must be at least 0, got nan"):
        make(SHORT, rebin=float("nan"))
    with pytest.raises(InputError, match="bend_freq must not reach below 0"):
        make(SHORT, {"bend_freq": "normal(0, 1)"})
