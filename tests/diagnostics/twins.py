"""One linear Gaussian problem whose posterior is known, and twins of that posterior that are wrong in one way each."""

import dataclasses
import functools

import numpy as np

PRIOR = np.array([[1.0, 0.9], [0.9, 1.0]])
NOISE = np.eye(2)
NAMES = ("a", "b")
GAIN = PRIOR @ np.linalg.inv(PRIOR + NOISE)
COVARIANCE = PRIOR - GAIN @ PRIOR
_SD = np.sqrt(np.diag(COVARIANCE))
WRONG = ("narrow", "wide", "shifted")
FACTORS = {"narrow": 0.6, "wide": 1.6}
SHIFT = 0.8


@dataclasses.dataclass(frozen=True)
class Twin:
    """A posterior of `theta` given `x = theta + noise`: Gaussian about `GAIN @ x + shift`."""

    covariance: np.ndarray
    shift: np.ndarray

    def draw(self, rng, x, n_draws):
        """(n, n_draws, 2) draws for (n, 2) data."""
        white = rng.normal(size=(len(x), n_draws, 2))
        return (x @ GAIN.T + self.shift)[:, None] + white @ np.linalg.cholesky(self.covariance).T

    def log_prob(self, theta, x):
        """Log density of (n, ..., 2) parameters for (n, 2) data."""
        mean = (x @ GAIN.T + self.shift).reshape(len(x), *[1] * (theta.ndim - 2), 2)
        white = np.linalg.solve(np.linalg.cholesky(self.covariance), np.moveaxis(theta - mean, -1, 0).reshape(2, -1))
        log_det = np.log(np.linalg.det(2 * np.pi * self.covariance))
        return -0.5 * ((white**2).sum(axis=0) + log_det).reshape(theta.shape[:-1])


TWINS = {
    "right": Twin(COVARIANCE, np.zeros(2)),
    "narrow": Twin(FACTORS["narrow"] ** 2 * COVARIANCE, np.zeros(2)),
    "wide": Twin(FACTORS["wide"] ** 2 * COVARIANCE, np.zeros(2)),
    # Both parameters too high, by a part of their standard deviation.
    "shifted": Twin(COVARIANCE, SHIFT * _SD),
    # Each parameter by itself is right.
    "independent": Twin(np.diag(np.diag(COVARIANCE)), np.zeros(2)),
}


def simulate(rng, n):
    """True parameters and data, (n, 2) each."""
    theta = rng.multivariate_normal(np.zeros(2), PRIOR, n)
    return theta, theta + rng.multivariate_normal(np.zeros(2), NOISE, n)


@functools.lru_cache(maxsize=32)
def case(kind, *, n=1000, n_draws=100, seed=0):
    """Truths (n, 2), data (n, 2), and a twin's draws (n, n_draws, 2)."""
    rng = np.random.default_rng(seed)
    theta, x = simulate(rng, n)
    return theta, x, TWINS[kind].draw(rng, x, n_draws)


def named(values):
    """Columns by name, as the diagnostics of single parameters take them."""
    return {name: values[..., i] for i, name in enumerate(NAMES)}


def assert_even(p_values):
    """Fail if p-values of right posteriors come out small too often (false alarm 3e-7), or are not about even."""
    p, n = np.asarray(p_values), len(p_values)
    for level in (0.05, 0.2):
        assert np.mean(p <= level) < level + 5 * np.sqrt(level * (1 - level) / n)
    assert abs(p.mean() - 0.5) < 5 / np.sqrt(12 * n) + 0.03  # exact tests with few outcomes lean to large values
