"""References of the benchmark of X-ray timing: importance sampling of bent posteriors."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.xtbm.importance import sample_each
from eagleray.priors import Prior

PRIOR = Prior({"a": "uniform(-4, 4)", "b": "uniform(-10, 10)"})
CURVATURES = np.array([0.0, 0.4])
N = 2000


def ridge(theta, curvature):
    """A Gaussian bent along a parabola."""
    return -0.5 * theta["a"] ** 2 - 0.5 * (theta["b"] - curvature * theta["a"] ** 2) ** 2


def moments_on_a_grid(curvature):
    """Means and standard deviations of the ridge in the prior's box."""
    a, b = np.meshgrid(np.linspace(-4, 4, 401), np.linspace(-10, 10, 1001), indexing="ij")
    weights = np.exp(ridge({"a": a, "b": b}, curvature))
    weights /= weights.sum()
    means = np.array([(weights * a).sum(), (weights * b).sum()])
    return means, np.sqrt([(weights * (a - means[0]) ** 2).sum(), (weights * (b - means[1]) ** 2).sum()])


def test_bent_posteriors_are_drawn_as_they_are():
    """Means within five standard errors (false alarms below 1e-5); the Gaussian's moments fail for the bent one."""
    draws, each = sample_each(jax.random.key(0), PRIOR, ridge, jnp.asarray(CURVATURES), N)
    for curvature, some, facts in zip(CURVATURES, draws, each, strict=True):
        mean, sd = moments_on_a_grid(curvature)
        error = sd / np.sqrt(facts["effective"] / 2)
        assert facts["pareto_k"] < 0.5
        assert np.all(np.abs(some.mean(axis=0) - mean) < 5 * error)
        assert np.all(np.abs(some.std(axis=0) / sd - 1) < 0.15)
    straight, _ = moments_on_a_grid(0.0)
    assert np.any(np.abs(draws[1].mean(axis=0) - straight) > 5 * error)
