"""The linear part of a value: found where it is, and not where it is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.config import make_config
from eagleray.networks.regression import Regression
from eagleray.pipeline.learning import learn
from eagleray.problems import make_problem

N, N_VALUE, N_CONTEXT = 4000, 3, 5
RNG = np.random.default_rng(1)
SLOPES = RNG.normal(size=(N_VALUE, N_CONTEXT))
MIXING = np.array([[0.3, 0.0, 0.0], [0.2, 0.1, 0.0], [0.0, 0.05, 0.2]])


def linear_data(n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Values linear in their contexts but for correlated noise, standardised."""
    contexts = RNG.normal(size=(n, N_CONTEXT))
    values = contexts @ SLOPES.T + RNG.normal(size=(n, N_VALUE)) @ MIXING.T
    return (values - values.mean(axis=0)) / values.std(axis=0), contexts


def learnt(values: np.ndarray, contexts: np.ndarray, **options: object) -> Regression:
    """A regression of the data."""
    regression = Regression(values.shape[1], contexts.shape[1])
    regression.learn(values, contexts, **options)
    return regression


def residuals(regression: Regression, values: np.ndarray, contexts: np.ndarray) -> np.ndarray:
    """Of all rows."""

    def residual(value: jax.Array, context: jax.Array) -> jax.Array:
        return regression.residual(value, regression.predicted(context))

    return np.asarray(jax.vmap(residual)(jnp.asarray(values), jnp.asarray(contexts)))


def test_residuals_of_linear_gaussian_data_are_standard_normal() -> None:
    """Covariance of 4000 residuals within 5 sd of the identity (sd 1 / sqrt(N), sqrt(2 / N) on the diagonal)."""
    values, contexts = linear_data()
    found = residuals(learnt(values, contexts), values, contexts)
    assert np.abs(np.cov(found.T) - np.eye(N_VALUE)).max() < 5 * np.sqrt(2 / N)
    # The twin: residuals of a regression on other contexts are no smaller than the values.
    other = residuals(learnt(values, contexts[::-1]), values, contexts)
    assert np.corrcoef(other[:, 0], values[:, 0])[0, 1] > 0.9


def test_noise_is_not_learnt() -> None:
    """With 400 rows and 100 contexts that tell nothing, what is predicted has less than 3 % of the variance."""
    values, contexts = RNG.normal(size=(400, 1)), RNG.normal(size=(400, 100))
    regression = learnt(values, contexts)
    fresh = RNG.normal(size=(2000, 100))
    predicted = -residuals(regression, np.zeros((2000, 1)), fresh)
    assert predicted.var() < 0.03
    least_squares = np.linalg.lstsq(contexts, values, rcond=None)[0]
    assert (fresh @ least_squares).var() > 0.2  # the twin


@pytest.mark.parametrize("keep", [(), (False, True, False)])
def test_residuals_come_back_and_densities_follow(keep: tuple[bool, ...]) -> None:
    """`restore` undoes `residual`, and ln |det| is that of the Jacobian; kept entries pass as they are."""
    values, contexts = linear_data()
    regression = learnt(values, contexts, keep=keep)
    value, context = jnp.asarray(values[0]), jnp.asarray(contexts[0])
    predicted = regression.predicted(context)
    residual = regression.residual(value, predicted)
    np.testing.assert_allclose(regression.restore(residual, predicted), value, atol=1e-5)
    jacobian = jax.jacfwd(regression.residual)(value, predicted)
    np.testing.assert_allclose(regression.log_det(), np.linalg.slogdet(jacobian)[1], rtol=1e-5)
    if keep:
        # To the last bit: 0.9999999 is no answer to a question of yes or no.
        assert regression.residual(value.at[1].set(1.0), predicted)[1] == 1.0


def test_a_value_that_is_a_function_of_another_stays_finite() -> None:
    """Residuals of values that are twice the same are finite, and come back."""
    values, contexts = linear_data()
    twice = np.concatenate([values, values[:, :1]], axis=1)
    regression = learnt(twice, contexts)
    found = residuals(regression, twice, contexts)
    assert np.isfinite(found).all()
    back = regression.restore(jnp.asarray(found[0]), regression.predicted(jnp.asarray(contexts[0])))
    np.testing.assert_allclose(back, twice[0], atol=1e-4)


@pytest.mark.parametrize("n_context", [0, 600])
def test_no_context_and_long_contexts_leave_the_value(n_context: int) -> None:
    """Nothing is taken out, and nothing learnt."""
    regression = learnt(RNG.normal(size=(2000, 2)), RNG.normal(size=(2000, n_context)))
    value = jnp.array([0.3, -1.2])
    predicted = regression.predicted(jnp.ones(n_context))
    assert predicted.shape == (0,)
    np.testing.assert_allclose(regression.residual(value, predicted), value)
    assert regression.log_det() == 0.0


@pytest.mark.slow
def test_curved_relations_lose_nothing():
    """Damping times of a series with gaps: by their validation losses, the regression costs less than 0.05 nats.

    A density that was not told what had been taken out lost 0.18 here.
    """
    problem = make_problem("gappy_agn")
    bank = problem.simulate_bank(jax.random.key(0), 20_000)
    losses = {}
    for regression in (True, False):
        config = make_config({"network": {"regression": regression}, "training": {"max_epochs": 10}})
        losses[regression] = min(learn(jax.random.key(1), problem.prior, bank, config=config).history.validation_loss)
    assert losses[True] - losses[False] < 0.05
