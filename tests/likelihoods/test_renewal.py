"""Intervals between events: SciPy's densities, float32 in the far tails, calibration against simulated detectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sbc
from jax.test_util import check_grads
from scipy import integrate, special, stats

from eagleray.likelihoods import renewal
from eagleray.priors import Prior
from eagleray.records import EventList, TimeGrid
from eagleray.simulators.observe.dead_time_draws import scattered_dead_times
from eagleray.simulators.observe.events import event_capacity
from eagleray.simulators.observe.time_change import cumulative_rate, recorded_events_from_rate

density = jax.jit(renewal.ex_gaussian_log_density)
survival = jax.jit(renewal.ex_gaussian_log_survival)
NUSTAR = {"rate": 1000.0, "mean": 2.54e-3, "sd": 0.21e-3}


def exponnorm(rate, mean, sd):
    return stats.exponnorm(K=1.0 / (rate * sd), loc=mean, scale=sd)


@pytest.mark.parametrize("rate", [10.0, 300.0, 5000.0])
def test_ex_gaussian_is_scipys(rate):
    settings = NUSTAR | {"rate": rate}
    law = exponnorm(**settings)
    x = np.concatenate([law.ppf([1e-12, 1e-6, 0.01, 0.3, 0.5, 0.9, 1 - 1e-9]), [0.0, 0.1]])
    with jax.enable_x64(True):
        ours, longer = density(jnp.asarray(x), **settings), survival(jnp.asarray(x), **settings)
    np.testing.assert_allclose(ours, law.logpdf(x), rtol=1e-10, atol=1e-10)
    # SciPy's own logsf is ln(sf), and sf loses its digits far in the tail.
    near = law.sf(x) > 1e-6
    np.testing.assert_allclose(np.asarray(longer)[near], law.logsf(x[near]), rtol=1e-8, atol=1e-10)
    single = density(jnp.asarray(x, jnp.float32), **settings)
    exact = law.logpdf(x.astype(np.float32).astype(float))
    np.testing.assert_allclose(single, exact, rtol=3e-6, atol=2e-5)


def test_ex_gaussian_density_integrates_to_its_survival():
    settings = {"rate": 3.0, "mean": 1.0, "sd": 0.4}
    with jax.enable_x64(True):
        grid = jnp.linspace(-4.0, 20.0, 20_001)
        values = np.exp(density(grid, **settings))
        below = integrate.cumulative_simpson(values, x=np.asarray(grid), initial=0.0)
        longer = np.exp(survival(grid, **settings))
    np.testing.assert_allclose(1.0 - below, longer, atol=1e-9)


def test_nearly_fixed_dead_times_are_a_shifted_exponential():
    x = jnp.asarray([0.5, 1.5, 2.0, 9.0])
    narrow = density(x[1:], rate=2.0, mean=1.0, sd=1e-4)
    sharp = renewal.shifted_exponential_log_density(x, rate=2.0, dead_time=1.0)
    np.testing.assert_allclose(narrow, sharp[1:], rtol=1e-5)
    assert sharp[0] == -jnp.inf
    reference = stats.expon(loc=1.0, scale=0.5)
    np.testing.assert_allclose(sharp[1:], reference.logpdf(x[1:]), rtol=1e-6)
    np.testing.assert_allclose(
        renewal.shifted_exponential_log_survival(x, rate=2.0, dead_time=1.0), reference.logsf(x), rtol=1e-6
    )


def test_log_erfcx_and_its_derivative_keep_their_digits():
    x = np.concatenate([[0.0], np.logspace(-4, 5, 60)])
    scaled = special.erfcx(x)
    np.testing.assert_allclose(renewal.log_erfcx(jnp.asarray(x, jnp.float32)), np.log(scaled), rtol=1e-6, atol=3e-7)
    slope = jax.vmap(jax.grad(renewal.log_erfcx))(jnp.asarray(x, jnp.float32))
    near = x < 10.0  # beyond, the derivative's textbook form cancels even in float64: -1/x + 1/x^3
    exact = np.where(
        near, 2.0 * x - 2.0 / np.sqrt(np.pi) / scaled, -1.0 / np.maximum(x, 1.0) + np.maximum(x, 1.0) ** -3
    )
    np.testing.assert_allclose(slope, exact, rtol=3e-4)
    with jax.enable_x64(True):
        np.testing.assert_allclose(renewal.log_erfcx(jnp.asarray(x)), np.log(scaled), rtol=1e-13, atol=1e-14)


def test_gradients_are_finite_everywhere_and_right():
    def total(rate, mean, sd, x):
        settings = {"rate": rate, "mean": mean, "sd": sd}
        return renewal.ex_gaussian_log_density(x, **settings) + renewal.ex_gaussian_log_survival(x, **settings)

    gradient = jax.jit(jax.vmap(jax.grad(total, argnums=(0, 1, 2, 3)), in_axes=(None, None, None, 0)))
    x = jnp.asarray([0.0, 1e-4, 2e-3, 2.54e-3, 2.6e-3, 3e-3, 0.1, 10.0])
    for rate in (1.0, 1e3, 1e5):
        for part in gradient(rate, 2.54e-3, 0.21e-3, x):
            assert jnp.isfinite(part).all()
    with jax.enable_x64(True):
        points = jnp.asarray([0.2, 0.9, 1.1, 2.0, 8.0])
        summed = jax.jit(lambda *a: jax.vmap(total, (None, None, None, 0))(*a, points).sum())
        check_grads(summed, (2.0, 1.0, 0.3), order=1, modes=["rev"], rtol=1e-6)


def test_intervals_stay_inside_good_time_and_one_detector():
    first = EventList(
        times=np.asarray([0.5, 1.0, 1.75, 4.0, 4.5, 9.0]), gti=np.asarray([[0.75, 3.0], [3.5, 5.0], [6, 7]])
    )
    second = EventList(times=np.asarray([1.0, 2.0]), gti=np.asarray([[0.0, 3.0]]))
    found = renewal.recorded_intervals([first, second])
    np.testing.assert_allclose(found.complete, [0.75, 0.5, 1.0])
    np.testing.assert_allclose(found.censored, [1.25, 0.5, 1.0])
    alone = renewal.recorded_intervals(first)
    np.testing.assert_allclose(alone.complete, [0.75, 0.5])
    with pytest.raises(ValueError, match="times must be sorted"):
        renewal.recorded_intervals(EventList(times=np.asarray([2.0, 1.0]), gti=np.asarray([[0.0, 3.0]])))


def test_likelihood_is_a_sum_over_scipys_densities():
    law = exponnorm(**NUSTAR)
    complete, censored = law.rvs(500, random_state=1), np.asarray([1e-3, 4e-3])
    data = renewal.Intervals(complete=complete, censored=censored)
    expected = law.logpdf(complete).sum() + law.logsf(censored).sum()
    with jax.enable_x64(True):
        found = jax.jit(renewal.scattered_dead_time_log_likelihood)(data, **NUSTAR)
        np.testing.assert_allclose(found, expected, rtol=1e-10)
        fixed = renewal.fixed_dead_time_log_likelihood(data, rate=900.0, dead_time=complete.min())
        shifted = stats.expon(loc=complete.min(), scale=1.0 / 900.0)
        np.testing.assert_allclose(fixed, shifted.logpdf(complete).sum() + shifted.logsf(censored).sum(), rtol=1e-10)
        assert renewal.fixed_dead_time_log_likelihood(data, rate=900.0, dead_time=2.0 * complete.min()) == -np.inf


# Calibration against the detector simulated event by event: one second of NuSTAR.
DURATION = 1.0
PRIOR = Prior({"rate": "uniform(400, 1500)", "mean": "uniform(0.002, 0.003)", "sd": "uniform(1e-4, 4e-4)"})
CAPACITY = event_capacity(1.2 * DURATION / (0.002 + 1.0 / 1500.0))


def detector(key, theta):
    """Padded intervals, and how long the last one has lasted at the end."""
    key_events, key_busy = jax.random.split(key)
    cumulative = cumulative_rate(theta["rate"][None], TimeGrid(n_bins=1, dt=DURATION))
    busy = scattered_dead_times(key_busy, theta["mean"], theta["sd"], CAPACITY)
    events = recorded_events_from_rate(key_events, cumulative, busy, CAPACITY)
    valid = events.times[1:] < jnp.inf
    last = events.times[events.n_events - 1]
    return jnp.where(valid, jnp.diff(jnp.where(events.times < jnp.inf, events.times, 0)), jnp.nan), DURATION - last


def padded_log_likelihood(theta, data, sd=None):
    """As the library's, with padding left out; `sd`: one that is wrongly taken for known."""
    intervals, censored = data
    valid = ~jnp.isnan(intervals)
    settings = {"rate": theta["rate"], "mean": theta["mean"], "sd": theta["sd"] if sd is None else sd}
    density = renewal.ex_gaussian_log_density(jnp.where(valid, intervals, theta["mean"]), **settings)
    return jnp.where(valid, density, 0).sum() + renewal.ex_gaussian_log_survival(censored, **settings)


@pytest.mark.slow
def test_posterior_of_scattered_dead_times_is_calibrated():
    ranks = sbc.ranks(jax.random.key(1), PRIOR, detector, padded_log_likelihood)
    sbc.assert_uniform(ranks)


@pytest.mark.slow
def test_calibration_betrays_a_wrong_scatter_of_dead_times():
    wrong = lambda theta, data: padded_log_likelihood(theta, data, sd=1.5 * theta["sd"])  # noqa: E731
    sbc.assert_not_uniform(sbc.ranks(jax.random.key(1), PRIOR, detector, wrong))


def test_density_is_that_of_simulated_intervals():
    theta = {"rate": jnp.float32(1000.0), "mean": jnp.float32(2.54e-3), "sd": jnp.float32(2.1e-4)}
    intervals, _ = jax.jit(jax.vmap(detector, in_axes=(0, None)))(jax.random.split(jax.random.key(2), 40), theta)
    drawn = np.asarray(intervals, np.float64)
    drawn = drawn[np.isfinite(drawn)]
    assert stats.kstest(drawn, exponnorm(**NUSTAR).cdf).pvalue > 1e-5  # false alarm 1e-5
    assert stats.kstest(drawn, exponnorm(**NUSTAR | {"sd": 3e-4}).cdf).pvalue < 1e-5
