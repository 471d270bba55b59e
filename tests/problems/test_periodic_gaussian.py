"""Periodic segments: simulator against likelihood, and both against plain NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from score_checks import Scores, scores_of

from eagleray.errors import InputError
from eagleray.problems.periodic_gaussian import ENTRIES, make, make_qpo
from eagleray.problems.windows import steady_light_curve

POWER_LAW = {"slope": 1.3, "rms": 0.3, "noise": 0.03}
QPO = {"rms": 0.3, "centre": 8.0, "quality": 4.0, "noise": 0.003}
SHORT = steady_light_curve(257, dt=1.0, rate=100.0)
SHORT_QPO = steady_light_curve(516, dt=1.0 / 64.0, rate=1000.0)


def power_by_hand(values, n_segments, dt):
    """Mean fractional-rms periodogram of segments, below Nyquist, in float64."""
    cut = np.asarray(values, np.float64).reshape(n_segments, -1)
    n = cut.shape[1]
    transform = np.fft.rfft(cut, axis=1)[:, 1 : (n + 1) // 2]
    return (2.0 * dt / (n * cut.mean() ** 2) * np.abs(transform) ** 2).mean(0)


def lorentzian_by_hand(theta, n, dt):
    """Model of `periodic_qpo` at the Fourier frequencies below Nyquist."""
    freq = np.arange(1, (n + 1) // 2) / (n * dt)
    half = 0.5 * theta["centre"] / theta["quality"]
    shape = 1.0 / (1.0 + ((freq - theta["centre"]) / half) ** 2)
    return theta["rms"] ** 2 * shape / (shape.sum() / (n * dt)) + theta["noise"]


def test_likelihood_belongs_to_the_simulator():
    """Score of mean zero and covariance minus the mean Hessian; false alarm 1e-4 each.

    The twin is Whittle's likelihood of averaged powers, which is the right one over the number of segments, but for a
    constant: its score has mean zero all the same.
    """
    at = scores_of(make(SHORT, segments=4))
    for theta in (POWER_LAW, {"slope": 2.4, "rms": 0.6, "noise": 0.01}):
        found = at(theta)
        assert found.mean < 4.5
        assert found.information < 4.5
        assert Scores(found.score / 4.0, found.hessian / 4.0).information > 4.5


def test_likelihood_of_one_segment_belongs_to_the_simulator():
    found = scores_of(make(SHORT))(POWER_LAW)
    assert found.mean < 4.5
    assert found.information < 4.5


def test_likelihood_of_an_oscillation_belongs_to_the_simulator():
    """The twin takes the noise for a fifth lower."""
    problem = make_qpo(SHORT_QPO, segments=4)
    at = scores_of(problem)
    for theta in (QPO, {"rms": 0.2, "centre": 5.0, "quality": 9.0, "noise": 0.001}):
        found = at(theta)
        assert found.mean < 4.5
        assert found.information < 4.5

    def less(theta, values):
        return problem.log_likelihood({**theta, "noise": 0.8 * theta["noise"]}, values)

    assert scores_of(problem, log_likelihood=less)(QPO).mean > 4.5


@pytest.mark.parametrize("n_segments", [1, 4])
def test_qpo_likelihood_is_that_of_gamma_distributed_powers(n_segments):
    problem = make_qpo(SHORT_QPO, segments=n_segments)
    theta = {name: jnp.float32(value) for name, value in QPO.items()}
    values = jax.jit(problem.simulate)(jax.random.key(1), theta)
    power, n = power_by_hand(values, n_segments, 1.0 / 64.0), 516 // n_segments
    model = lorentzian_by_hand(QPO, n, 1.0 / 64.0)
    expected = stats.gamma(n_segments, scale=model / n_segments).logpdf(power).sum()
    np.testing.assert_allclose(jax.jit(problem.log_likelihood)(theta, values), expected, rtol=2e-5)


def test_simulated_powers_are_those_of_the_model():
    """Mean over 400 light curves; chi^2 with 256 degrees of freedom, false alarm 1e-4."""
    problem = make_qpo(SHORT_QPO, segments=4)
    theta = {name: jnp.float32(value) for name, value in QPO.items()}
    values = jax.jit(jax.vmap(problem.simulate, in_axes=(0, None)))(jax.random.split(jax.random.key(2), 400), theta)
    model = lorentzian_by_hand(QPO, 129, 1.0 / 64.0)
    mean = np.mean([power_by_hand(one, 4, 1.0 / 64.0) for one in values], axis=0)
    z = (mean / model - 1.0) * np.sqrt(1600)
    assert 1e-4 < stats.chi2(model.size).sf((z**2).sum())


def test_summary_is_ln_of_powers_and_of_averages_over_neighbours():
    """31 powers are too few to be rebinned; 4 and 8 neighbours begin at every second and fourth."""
    problem = make(SHORT, segments=4)
    values = jax.jit(problem.simulate)(jax.random.key(3), {name: jnp.float32(x) for name, x in POWER_LAW.items()})
    power = power_by_hand(values, 4, 1.0)
    wide = [power[i : i + n].mean() for n in (4, 8) for i in range(0, len(power) - n + 1, n // 2)]
    features = jax.jit(problem.summary)(values)
    np.testing.assert_allclose(np.exp(features), [*power, *wide], rtol=2e-4)
    assert len(problem.summary.names) == len(set(problem.summary.names)) == features.size
    assert problem.summary.names[-1] == "log_power[0.328125 to 0.4375 Hz]"
    np.testing.assert_allclose(problem.summary.shown(np.asarray(features)), power, rtol=2e-4)


def test_views_are_light_curves_of_one_spectrum():
    views = make(SHORT).simulate_views(jax.random.key(0), {name: jnp.float32(x) for name, x in POWER_LAW.items()})
    assert views.shape == (8, 257)
    assert len(np.unique(np.asarray(views)[:, 0])) == 8


def test_bins_that_make_no_segment_are_left_out_and_shown_at_the_mean():
    ramp = dataclasses.replace(SHORT, values=np.arange(257, dtype=np.float32))
    problem = make(ramp, segments=4)
    assert problem.observed.shape == (256,)
    shown = np.asarray(problem.light_curve(problem.observed))
    np.testing.assert_array_equal(shown[:256], np.arange(256))
    assert shown[256] == pytest.approx(127.5)


def test_an_observation_sets_level_and_priors():
    rates = dataclasses.replace(SHORT, values=np.full(257, 50.0), error=np.ones(257), kind="rate")
    problem = make(rates, {"slope": "fixed(1)"})
    assert problem.prior.names == ("rms", "noise")
    assert problem.prior.texts["noise"] == "loguniform(0.004, 0.4)"
    assert problem.conditions == {"mean": 50.0}
    assert ENTRIES["periodic_qpo"].settings == {"rebin": 0.03, "segments": 1.0}


@pytest.mark.parametrize("maker", [make, make_qpo])
def test_bad_input_is_named_with_its_remedy(maker):
    with pytest.raises(InputError, match=r"segments must be a whole number from 1 to 32 \(8 bins each\), got 33"):
        maker(SHORT, segments=33)
    with pytest.raises(InputError, match=r"got 1.5"):
        maker(SHORT, segments=1.5)
    gaps = dataclasses.replace(SHORT, exposure=np.r_[0.0, np.ones(256)])
    with pytest.raises(InputError, match="without gaps and background; use bending_power_law"):
        maker(gaps)
    with pytest.raises(InputError, match="got a prior for 'lag'"):
        maker(SHORT, {"lag": "uniform(0, 1)"})
    with pytest.raises(InputError, match="rms must not reach below 0"):
        maker(SHORT, {"rms": "normal(0.3, 0.1)"})
    with pytest.raises(InputError, match="rebin must be at least 0, got -1"):
        maker(SHORT, segments=2, rebin=-1)
