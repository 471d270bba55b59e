"""Where chains start when nobody says where."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.errors import InputError
from eagleray.inference.samplers import sample
from eagleray.inference.samplers.chains import Task
from eagleray.inference.samplers.starts import find_starts
from eagleray.priors import Prior
from eagleray.problems.spectral_fit import make_spectral_problem
from eagleray.records import PowerSpectrum

SD, MEAN = 1e-3, 0.7


@dataclasses.dataclass(frozen=True, eq=False)
class Narrow:
    """A likelihood a thousand times narrower than the prior in each direction, with no number on one side of it."""

    prior: Prior

    def log_likelihood(self, theta, data):
        offset = (jnp.stack([theta["a"], theta["b"], theta["c"]]) - MEAN) / SD
        return jnp.where(theta["a"] < -1, jnp.nan, -0.5 * offset @ offset) + data


PROBLEM = Narrow(Prior({"a": "normal(0, 1)", "b": "uniform(-2, 2)", "c": "normal(0, 1)"}))


def starts(added):
    """Starts of 16 chains where something is added to the log likelihood; compiled once."""
    sizes = {"n_chains": 16, "n_draws": 1, "n_warmup": 1, "n_theta": 3}
    task = Task(key=jax.random.key(9), source=PROBLEM, data=jnp.float32(added), **sizes)
    return find_starts(jax.random.key(0), task, None)


def test_starts_are_led_to_a_narrow_likelihood():
    """Squared distances are chi-squared with 3 degrees of freedom: all 16 below 30 but for 2e-5."""
    positions, n_nan, _ = starts(0.0)
    theta = jax.vmap(PROBLEM.prior.constrain)(positions)
    distance = sum(((np.asarray(theta[name]) - MEAN) / SD) ** 2 for name in "abc")
    assert (distance < 30).all()
    assert 0.5 < distance.mean() < 6
    assert len(np.unique(distance)) == 16
    assert (n_nan > 100).all()  # 16 % of the prior has no number, which is passed over and counted
    # The twin: the best of as many draws from the prior is far away.
    draws = np.random.default_rng(0).normal(size=(16_000, 3)) * [1, 1.2, 1]
    assert (((draws - MEAN) / SD) ** 2).sum(axis=1).min() > 30


def test_a_likelihood_that_vanishes_everywhere_is_refused():
    with pytest.raises(InputError, match="got -inf for chain 0 at all of 1000 draws from the prior"):
        starts(-np.inf)


@pytest.mark.slow
def test_spectral_fits_raise_no_doubt():
    """Wide default priors, a QPO on red noise: of 24 chains none is caught by another mode."""
    freq = 0.05 * np.arange(1, 1025)
    power = freq**-1.5 + 10 / (1 + ((freq - 8) / 0.5) ** 2) + 2
    observed = power * np.random.default_rng(0).gamma(4, 1 / 4, 1024)
    spectrum = PowerSpectrum(freq=freq, power=observed, m=np.full(1024, 4.0), n_photons=1e5, norm="leahy", dt=0.009)
    problem = make_spectral_problem(spectrum, "powerlaw + lorentzian + constant")
    for seed in range(6):
        samples = sample(jax.random.key(seed), problem)
        assert samples.warnings == ()
        assert abs(samples.draws["lorentzian.centre"].mean() - 8) < 0.3
