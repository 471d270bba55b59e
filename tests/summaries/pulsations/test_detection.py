"""False-alarm probabilities are SciPy's and Stingray's where those are finite, and right far beyond."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from stingray import stats

from eagleray.summaries.pulsations import detection
from eagleray.summaries.pulsations.statistics import h_test, z_squared


@pytest.mark.slow
def test_gradients_are_finite_differences():
    with jax.enable_x64(True):
        for function, at in (
            (lambda x: detection.power_log_probability(x, n_trials=1e3, n_averaged=7), 12.0),
            (lambda p: detection.power_level(p, n_trials=1e3, n_averaged=7), -9.0),
            (detection.equivalent_sigma, -50.0),
        ):
            value_and_slope = jax.jit(jax.value_and_grad(function))
            numeric = (value_and_slope(at + 1e-5)[0] - value_and_slope(at - 1e-5)[0]) / 2e-5
            np.testing.assert_allclose(value_and_slope(at)[1], numeric, rtol=1e-6)


def test_trials():
    p, n = np.array([1e-12, 1e-5, 0.01, 0.3]), 1000
    together = np.array([1e-12, 1e-5, 0.01, 0.99])
    with jax.enable_x64(True):
        many = jax.jit(detection.multi_trial_log_probability)(jnp.log(p), n)
        one = jax.jit(detection.single_trial_log_probability)(jnp.log(together), n)
        deep = detection.multi_trial_log_probability(jnp.asarray(-5000.0), 1e6)
    # Exactly; and Stingray, who takes n p for it where that is below 1e-3.
    np.testing.assert_allclose(np.exp(many), -np.expm1(n * np.log1p(-p)), rtol=1e-12)
    np.testing.assert_allclose(np.exp(many), stats.p_multitrial_from_single_trial(p, n).astype(float), rtol=5e-4)
    np.testing.assert_allclose(np.exp(one), -np.expm1(np.log1p(-together) / n), rtol=1e-12)
    np.testing.assert_allclose(np.exp(one), stats.p_single_trial_from_p_multitrial(together, n), rtol=5e-4)
    np.testing.assert_allclose(deep, -5000.0 + np.log(1e6), rtol=1e-14)


def test_probabilities_are_stingrays():
    """Single trials, or p large enough that Stingray takes the exact formula for several."""
    with jax.enable_x64(True):
        ours = jax.jit(
            lambda p: (
                detection.power_log_probability(30.0 * p),
                detection.power_log_probability(2.6 * p, n_trials=50, n_averaged=30, n_rebinned=4),
                detection.z_squared_log_probability(8.0 * p, 4, n_trials=2, n_averaged=3),
                detection.fold_log_probability(40.0 * p, 16),
                detection.phase_dispersion_log_probability(0.9 * p, 200, 16, stingray_compat=True),
            )
        )(1.0)
    theirs = [
        stats.pds_logprobability(30.0),
        np.log(stats.pds_probability(2.6, 50, 30, 4)),
        np.log(stats.z2_n_probability(8.0, 4, 2, 3)),
        stats.fold_profile_logprobability(40.0, 16),
        stats.phase_dispersion_logprobability(0.9, 200, 16),
    ]
    np.testing.assert_allclose(ours, np.asarray(theirs, float), rtol=1e-10)


@pytest.mark.slow
def test_levels_are_stingrays():
    with jax.enable_x64(True):
        ours = jax.jit(
            lambda log_p: (
                detection.power_level(log_p, n_trials=50, n_averaged=30, n_rebinned=4),
                detection.z_squared_level(log_p, 4, n_trials=10, n_averaged=3),
                detection.fold_level(log_p, 16, n_trials=10),
                detection.phase_dispersion_level(log_p, 200, 16, n_trials=5, stingray_compat=True),
                detection.phase_dispersion_log_probability(detection.phase_dispersion_level(log_p, 200, 16), 200, 16),
            )
        )(np.log(0.01))
    theirs = [
        stats.pds_detection_level(0.01, 50, 30, 4),
        stats.z2_n_detection_level(4, 0.01, 10, 3),
        stats.fold_detection_level(16, 0.01, 10),
        stats.phase_dispersion_detection_level(200, 16, 0.01, 5),
        np.log(0.01),
    ]
    np.testing.assert_allclose(ours, np.asarray(theirs, float), rtol=1e-10)


def test_equivalent_sigma():
    log_p = np.array([np.log(0.9), np.log(0.1), -30.0, -650.0, -1e4])
    with jax.enable_x64(True):
        sigma = jax.jit(detection.equivalent_sigma)(jnp.asarray(log_p))
    np.testing.assert_allclose(scipy.stats.norm.logsf(sigma), log_p, rtol=1e-11)
    # Stingray's goes over to an approximation below ln p = -300.
    theirs = stats.equivalent_gaussian_Nsigma_from_logp(log_p)
    np.testing.assert_allclose(sigma[:3], theirs[:3], rtol=1e-10)
    np.testing.assert_allclose(sigma[3:], theirs[3:], rtol=1e-3)


@pytest.mark.slow
def test_h_has_its_false_alarm_probability():
    """3000 draws of H from 200 events: the count beyond H = 10 (p = 0.018) within 5 sd: false alarm 6e-7.

    Twin: chi-squared with two degrees of freedom, as if one harmonic had been looked at (p = 0.0067).
    """
    n_sim = 3000

    @jax.jit
    @jax.vmap
    def draw(key):
        return h_test(z_squared(jax.random.uniform(key, (200,)), 20)).h

    count = int((draw(jax.random.split(jax.random.key(5), n_sim)) > 10.0).sum())
    p = float(jnp.exp(detection.h_log_probability(jnp.asarray(10.0))))
    assert abs(count - n_sim * p) < 5 * np.sqrt(n_sim * p)
    wrong = np.exp(-5.0)
    assert abs(count - n_sim * wrong) > 5 * np.sqrt(n_sim * wrong)


def test_strict_mode(strict):
    for function in (
        lambda x: detection.z_squared_log_probability(x, 2, n_trials=100),
        lambda x: detection.power_level(-x, n_averaged=7),
        lambda x: detection.fold_level(-x, 16),
        lambda x: detection.phase_dispersion_level(-x, 100, 16),
        lambda x: detection.equivalent_sigma(-x),
    ):
        assert jax.eval_shape(function, jnp.asarray(9.0)).dtype == jnp.float32
