"""One spectrum, Gaussian or log-normal: simulators against likelihoods, and both against plain NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.linalg import toeplitz
from score_checks import scores_of

from eagleray.errors import InputError
from eagleray.problems.linear_or_lognormal import ENTRIES, make_linear, make_lognormal
from eagleray.problems.windows import steady_light_curve

N, DT, RATE = 48, 0.1, 5000.0
SHORT = steady_light_curve(N, dt=DT, rate=RATE)
SCATTER = 1.0 / np.sqrt(RATE * DT)
THETA = {"slope": 1.5, "rms": 0.3, "rate": 4500.0}
OTHER = {"slope": 0.8, "rms": 0.5, "rate": 6000.0}


def theta_of(values):
    return {name: jnp.float32(value) for name, value in values.items()}


def log_covariance_by_hand(theta):
    """Covariance matrix of ln rate: a flattening power law of given rms over 8 windows, and white scatter; float64."""
    n_long = 8 * N
    freq = np.arange(1, n_long // 2 + 1) / 8.0
    weight = np.where(freq == freq[-1], 0.5, 1.0)
    power = weight / (1.0 + freq ** theta["slope"])
    power *= np.log(1.0 + theta["rms"] ** 2) / power.sum()
    power += np.log(1.0 + SCATTER**2) * weight * 2.0 / n_long
    lag = np.arange(N) / N
    return toeplitz((np.cos(2.0 * np.pi * freq * lag[:, None]) * power).sum(axis=1))


def density_by_hand(name, theta, values):
    values, covariance, mean = np.asarray(values, float), log_covariance_by_hand(theta), theta["rate"] * DT
    if name == "linear_noise":
        return stats.multivariate_normal(np.full(N, mean), mean**2 * np.expm1(covariance)).logpdf(values)
    middle = np.log(mean) - 0.5 * covariance[0, 0]
    return stats.multivariate_normal(np.full(N, middle), covariance).logpdf(np.log(values)) - np.log(values).sum()


@pytest.fixture(scope="module")
def problems():
    return {"linear_noise": make_linear(SHORT), "lognormal_noise": make_lognormal(SHORT)}


@pytest.mark.parametrize("name", ["linear_noise", "lognormal_noise"])
def test_likelihood_belongs_to_the_simulator(problems, name):
    """Score of mean zero and covariance minus the mean Hessian; false alarm 1e-4 each."""
    at = scores_of(problems[name], n=400)
    for theta in (THETA, OTHER):
        found = at(theta)
        assert found.mean < 4.5
        assert found.information < 4.5


def test_the_likelihood_of_the_other_model_is_found_out(problems):
    """Mean and covariance of the rate are the same in both: its score has mean zero, but not its information."""
    other = problems["linear_noise"].log_likelihood
    found = scores_of(problems["lognormal_noise"], n=400, log_likelihood=other)(OTHER)
    assert found.mean < 4.5
    assert found.information > 4.5


@pytest.mark.parametrize("name", ["linear_noise", "lognormal_noise"])
@pytest.mark.parametrize("theta", [THETA, OTHER])
def test_density_is_that_of_dense_matrices(problems, name, theta):
    """Also for data of the other problem: evidences compare."""
    values = jax.jit(problems["lognormal_noise"].simulate)(jax.random.key(2), theta_of(theta))
    found = float(jax.jit(problems[name].log_likelihood)(theta_of(theta), values))
    assert found == pytest.approx(density_by_hand(name, theta, values), abs=0.02)


def test_both_have_one_mean_and_one_covariance_but_not_one_distribution(problems):
    """Mean squares of whitened rates are 1 in both (3 %, ten standard errors); skewness is zero in one alone."""
    mean, covariance = THETA["rate"] * DT, np.expm1(log_covariance_by_hand(THETA))
    factor, skewness = np.linalg.cholesky(covariance), {}
    for name, problem in problems.items():
        draw = jax.jit(jax.vmap(problem.simulate, in_axes=(0, None)))
        values = np.asarray(draw(jax.random.split(jax.random.key(3), 4000), theta_of(THETA)), float) / mean - 1.0
        white = np.linalg.solve(factor, values.T)
        assert abs(white.mean()) < 0.03
        np.testing.assert_allclose((white**2).mean(), 1.0, atol=0.03)
        skewness[name] = stats.skew(values.ravel())
    assert abs(skewness["linear_noise"]) < 0.1
    assert skewness["lognormal_noise"] > 0.5


def test_negative_values_exclude_the_lognormal_model(problems):
    """Its density is zero, the other's is not, and the summary is a number all the same, as are gradients."""
    values = jnp.asarray(np.r_[-1.0, np.full(N - 1, 500.0)], jnp.float32)
    assert problems["lognormal_noise"].log_likelihood(theta_of(THETA), values) == -jnp.inf
    assert np.isfinite(problems["linear_noise"].log_likelihood(theta_of(THETA), values))
    for problem in problems.values():
        assert np.isfinite(problem.summary(values)).all()
    with pytest.raises(InputError, match="has values above 0 alone, got -1; use linear_noise, or a larger dt"):
        make_lognormal(dataclasses.replace(SHORT, values=np.asarray(values)))


def test_both_problems_have_one_prior_and_one_summary(problems):
    linear, lognormal = problems.values()
    assert linear.prior.texts == lognormal.prior.texts
    assert linear.summary.signature() == lognormal.summary.signature()
    assert linear.summary.names == lognormal.summary.names
    values = jax.jit(linear.simulate)(jax.random.key(5), theta_of(THETA))
    features = np.asarray(linear.summary(values))
    assert features.shape == (len(linear.summary.names),)
    np.testing.assert_array_equal(features, lognormal.summary(values))
    assert linear.summary.shown(features).shape == linear.summary.panel.axis.shape
    assert ENTRIES["linear_noise"].settings == {"rebin": 0.2}


def test_an_observation_sets_scatter_and_priors():
    rates = dataclasses.replace(SHORT, values=np.full(N, 50.0), error=np.full(N, 2.0), kind="rate")
    problem = make_lognormal(rates, {"slope": "fixed(1)"})
    assert problem.conditions == {"scatter": pytest.approx(0.04)}
    assert problem.prior.texts["rate"] == "loguniform(25, 100)"
    assert problem.prior.names == ("rms", "rate")


@pytest.mark.parametrize("maker", [make_linear, make_lognormal])
def test_bad_input_is_named_with_its_remedy(maker):
    with pytest.raises(InputError, match="without gaps and background; use bending_power_law"):
        maker(dataclasses.replace(SHORT, exposure=np.r_[0.0, np.ones(N - 1)]))
    with pytest.raises(InputError, match="takes 8 to 512 bins, got 600; use another dt or part of the data"):
        maker(steady_light_curve(600, dt=DT, rate=RATE))
    with pytest.raises(InputError, match=r"at least 0.01 of the rate, got 0.001; use a smaller dt"):
        maker(steady_light_curve(N, dt=DT, rate=1e7))
    with pytest.raises(InputError, match="rates must come with errors, got none"):
        maker(dataclasses.replace(SHORT, kind="rate"))
    with pytest.raises(InputError, match="mean rate must be positive, got 0 counts/s"):
        maker(dataclasses.replace(SHORT, values=np.zeros(N)))
    with pytest.raises(InputError, match="rebin must be at least 0, got -1"):
        maker(SHORT, rebin=-1)
    with pytest.raises(InputError, match="slope must not reach below 0"):
        maker(SHORT, {"slope": "normal(1, 1)"})
