"""Events by time change and by thinning: inversion, law, dead time, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from eagleray.records import TimeGrid
from eagleray.simulators.observe import time_change
from eagleray.simulators.observe.dead_time import non_paralyzable_mask
from eagleray.simulators.observe.events import event_capacity
from eagleray.simulators.observe.thinning import events_by_thinning

pytestmark = pytest.mark.usefixtures("strict")
# Compiled once each: eager dispatch compiles every operation by itself.
cumulative_rate = jax.jit(time_change.cumulative_rate, static_argnums=1)
evaluate_cumulative = jax.jit(time_change.evaluate_cumulative)
invert_cumulative = jax.jit(time_change.invert_cumulative)
events_from_rate = jax.jit(time_change.events_from_rate, static_argnums=2)
recorded_events_from_rate = jax.jit(time_change.recorded_events_from_rate, static_argnums=3)
GRID = TimeGrid(n_bins=1024, dt=1 / 1024)
# Varies by a factor of 9 within 2.5 ms, much faster than the dead time; some bins are empty.
RATE = np.where(
    np.arange(GRID.n_bins) % 128 < 8, 0.0, 500.0 * (1 + 0.8 * np.sin(2 * np.pi * 200 * np.asarray(GRID.times)))
).astype(np.float32)
TAU = 2.5e-3
EXACT = np.append(0.0, np.cumsum(RATE.astype(np.float64))) * GRID.dt
EDGES = np.arange(GRID.n_bins + 1) * GRID.dt


def exact_cumulative(times):
    return np.interp(np.asarray(times, np.float64), EDGES, EXACT)


def test_inversion_matches_numpy():
    cumulative = cumulative_rate(jnp.asarray(RATE), GRID)
    np.testing.assert_allclose(cumulative.edges, EXACT, rtol=1e-6)
    expected = np.sort(np.random.default_rng(0).uniform(0, EXACT[-1], 2000))
    times = invert_cumulative(cumulative, jnp.asarray(expected, jnp.float32))
    np.testing.assert_allclose(exact_cumulative(times), expected, atol=1e-3)  # 1e-6 s at 1e3 counts/s
    np.testing.assert_allclose(evaluate_cumulative(cumulative, times), expected, atol=1e-3)


@pytest.mark.parametrize("shape", ["one bin", "steps", "nearly all in one bin"])
def test_inversion_of_awkward_rates(shape):
    rate = {
        "one bin": (np.arange(64) == 17) * 100.0,
        "steps": np.repeat([0.0, 1.0, 0.0, 1000.0], 16),
        "nearly all in one bin": np.where(np.arange(64) == 40, 1e6, 1e-3),
    }[shape]
    grid = TimeGrid(n_bins=64, dt=0.5)
    exact = np.append(0.0, np.cumsum(rate)) * grid.dt
    expected = np.linspace(0.001, 0.999, 501) * exact[-1]
    for x64 in (False, True):
        with jax.enable_x64(x64):
            dtype = jnp.float64 if x64 else jnp.float32
            cumulative = cumulative_rate(jnp.asarray(rate, dtype), grid)
            times = np.asarray(invert_cumulative(cumulative, jnp.asarray(expected, dtype)), np.float64)
        # A time is good to its rounding, and so is the number of events before it.
        atol = 4 * np.finfo(dtype).eps * (grid.duration * rate.max() + exact[-1])
        np.testing.assert_allclose(np.interp(times, np.arange(65) * grid.dt, exact), expected, atol=atol, rtol=0)
        assert np.all(rate[np.minimum((times / grid.dt).astype(int), 63)] > 0)


def test_no_rate_gives_no_events():
    cumulative = cumulative_rate(jnp.zeros((8,)), TimeGrid(n_bins=8, dt=1.0))
    for draw in (events_from_rate, lambda key, c, n: recorded_events_from_rate(key, c, jnp.float32(0.1), n)):
        events = draw(jax.random.key(0), cumulative, 5)
        assert events.n_events == 0
        assert not events.overflow


def test_event_numbers_are_poisson():
    cumulative = cumulative_rate(jnp.asarray(RATE), GRID)
    size = event_capacity(float(cumulative.total))
    events = jax.vmap(lambda key: events_from_rate(key, cumulative, size))(jax.random.split(jax.random.key(1), 2000))
    numbers = np.asarray(events.n_events)
    assert not events.overflow.any()

    def z(mean):
        return (numbers.mean() - mean) / np.sqrt(mean / 2000)

    assert abs(z(EXACT[-1])) < 5  # false alarm 6e-7
    assert abs(z(EXACT[-1] * 1.01)) > 5
    dispersion = (numbers.var() / EXACT[-1] - 1) / np.sqrt(2 / 2000)
    assert abs(dispersion) < 5  # false alarm about 1e-6


def test_event_times_follow_the_rate():
    cumulative = cumulative_rate(jnp.asarray(RATE), GRID)
    events = jax.vmap(lambda key: events_from_rate(key, cumulative, 800))(jax.random.split(jax.random.key(2), 100))
    times = np.asarray(events.times)[np.isfinite(events.times)]
    assert np.all(RATE[np.minimum((times / GRID.dt).astype(int), GRID.n_bins - 1)] > 0)
    uniform = exact_cumulative(times) / EXACT[-1]
    assert stats.kstest(uniform, "uniform").pvalue > 1e-6  # false alarm 1e-6
    assert stats.kstest(times, "uniform").pvalue < 1e-6  # as if the rate were constant


def live_expectations(times, tau):
    """Expected events in the live time before each of the first 100 recorded events: unit exponentials."""
    times = np.asarray(times, np.float64)[:, :101]
    assert np.isfinite(times).all()
    return (exact_cumulative(times[:, 1:]) - exact_cumulative(times[:, :-1] + tau)).ravel()


@pytest.mark.parametrize("method", ["masked", "recorded only"])
def test_dead_time_longer_than_the_variation_is_exact(method):
    cumulative = cumulative_rate(jnp.asarray(RATE), GRID)

    def masked(key):
        events = events_from_rate(key, cumulative, 800)
        return jnp.sort(jnp.where(non_paralyzable_mask(events.times, TAU), events.times, jnp.inf))

    def recorded_only(key):
        return recorded_events_from_rate(key, cumulative, jnp.float32(TAU), 400).times

    draw = masked if method == "masked" else recorded_only
    times = jax.vmap(draw)(jax.random.split(jax.random.key(3), 300))
    assert stats.kstest(live_expectations(times, TAU), "expon").pvalue > 1e-6  # false alarm 1e-6
    assert stats.kstest(live_expectations(times, 0.9 * TAU), "expon").pvalue < 1e-6


def test_a_full_list_is_flagged():
    cumulative = cumulative_rate(jnp.asarray(RATE), GRID)
    assert events_from_rate(jax.random.key(0), cumulative, 50).overflow
    assert recorded_events_from_rate(jax.random.key(0), cumulative, jnp.float32(TAU), 50).overflow


def test_gradient_of_event_times_matches_finite_differences():
    def late_time(scale):
        cumulative = time_change.cumulative_rate(scale * RATE.astype(np.float64) + 10.0, GRID)
        return time_change.events_from_rate(jax.random.key(5), cumulative, 800).times[300]

    with jax.enable_x64(True):
        late_time = jax.jit(late_time)
        gradient = jax.grad(late_time)(1.0)
        difference = (late_time(1.0 + 1e-6) - late_time(1.0 - 1e-6)) / 2e-6
    np.testing.assert_allclose(gradient, difference, rtol=1e-5)


def test_gradient_is_finite_with_padding_and_empty_bins():
    def spread(rate):
        times = events_from_rate(jax.random.key(5), cumulative_rate(rate, GRID), 800).times
        return jnp.where(jnp.isfinite(times), times, 0).sum()

    gradient = jax.grad(spread)(jnp.asarray(RATE))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_thinning_follows_a_rate_without_a_grid():
    def rate(times):
        return 400.0 * (1 + 0.9 * jnp.sin(2 * np.pi * 716.0 * times))

    draw = jax.jit(jax.vmap(lambda key: events_by_thinning(key, rate, jnp.float32(760.0), 1.0, 1100)))
    events, exceeded = draw(jax.random.split(jax.random.key(6), 100))
    assert not events.overflow.any()
    assert not exceeded.any()
    times = np.asarray(events.times, np.float64)[np.isfinite(events.times)]

    assert abs(times.size - 40_000) < 5 * np.sqrt(40_000)  # false alarm 6e-7
    phases = times * 716.0 % 1
    cdf = lambda x, a=0.9: x + a * (1 - np.cos(2 * np.pi * x)) / (2 * np.pi)  # noqa: E731
    assert stats.kstest(phases, cdf).pvalue > 1e-6  # false alarm 1e-6
    assert stats.kstest(phases, lambda x: cdf(x, 0.8)).pvalue < 1e-6
    _, exceeded = jax.jit(lambda key: events_by_thinning(key, rate, jnp.float32(500.0), 1.0, 1100))(jax.random.key(6))
    assert exceeded


@pytest.mark.slow
def test_jit_and_vmap_agree_with_eager():
    def draw(key):
        cumulative = time_change.cumulative_rate(jnp.asarray(RATE), GRID)
        return time_change.events_from_rate(key, cumulative, 800).times

    # The check for reused keys counts arrays: split anew for each use.
    batched = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(9), 3))
    for i, key in enumerate(jax.random.split(jax.random.key(9), 3)):
        single = draw(key) if i == 0 else jax.jit(draw)(key)
        np.testing.assert_allclose(batched[i], single, rtol=1e-6)


def test_float64_where_enabled():
    with jax.enable_x64(True):
        cumulative = cumulative_rate(jnp.asarray(RATE, jnp.float64), GRID)
        events = events_from_rate(jax.random.key(0), cumulative, 800)
        assert events.times.dtype == jnp.float64
        times = np.asarray(events.times)[np.isfinite(events.times)]
        again = evaluate_cumulative(cumulative, invert_cumulative(cumulative, jnp.asarray(exact_cumulative(times))))
        np.testing.assert_allclose(again, exact_cumulative(times), rtol=1e-12)
