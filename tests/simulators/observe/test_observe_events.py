"""Event lists: drawn from counts, packed, merged, thinned, binned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from eagleray.records import TimeGrid
from eagleray.simulators.observe import events as ev
from eagleray.simulators.observe.running import _sum_in_parallel, running_max, running_sum

pytestmark = pytest.mark.usefixtures("strict")
GRID = TimeGrid(n_bins=200, dt=0.05)
# Compiled once each: eager dispatch compiles every operation by itself.
bin_events = jax.jit(ev.bin_events, static_argnums=1)
bin_ticks = jax.jit(ev.bin_ticks, static_argnums=(1, 2))
event_ticks_from_counts = jax.jit(ev.event_ticks_from_counts, static_argnums=(2, 3))
events_from_counts = jax.jit(ev.events_from_counts, static_argnums=(2, 3))
merge_events = jax.jit(ev.merge_events)
thin_events = jax.jit(ev.thin_events, static_argnums=3)
unit_exponentials = jax.jit(ev.unit_exponentials, static_argnums=(1, 2))
COUNTS = jnp.asarray(np.random.default_rng(1).poisson(3.0, GRID.n_bins), jnp.float32)
N_EVENTS = int(COUNTS.sum())


def test_events_from_counts_give_the_counts_back():
    events = events_from_counts(jax.random.key(0), COUNTS, GRID, 1000)
    times = np.asarray(events.times)
    assert events.n_events == N_EVENTS
    assert not events.overflow
    assert times.dtype == np.float32
    assert np.all(np.diff(times[:N_EVENTS]) >= 0)
    assert np.all(np.isinf(times[N_EVENTS:]))
    # An offset within rounding of an edge may change bin; at most a few of 600 events do.
    assert np.abs(np.asarray(bin_events(events.times, GRID) - COUNTS)).sum() <= 4
    assert bin_events(events.times, GRID).sum() == N_EVENTS


def test_events_from_counts_are_uniform_inside_bins():
    events = events_from_counts(jax.random.key(0), jnp.full((200,), 50.0), GRID, 10_001)
    offsets = np.asarray(events.times[:10_000], np.float64) / GRID.dt % 1.0
    assert stats.kstest(offsets, "uniform").pvalue > 1e-6  # false alarm 1e-6
    assert stats.kstest(offsets**1.1, "uniform").pvalue < 1e-6


def test_overflow_is_flagged_and_keeps_the_first_events():
    events = events_from_counts(jax.random.key(0), COUNTS, GRID, 100)
    assert events.overflow
    assert events.n_events == 100
    assert np.isfinite(events.times).all()


def test_ticks_give_the_counts_back_exactly():
    events = event_ticks_from_counts(jax.random.key(3), COUNTS.astype(jnp.int32), 500, 1000)
    assert events.times.dtype == jnp.int32
    np.testing.assert_array_equal(bin_ticks(events.times, 500, GRID.n_bins), COUNTS)
    assert int(events.times[N_EVENTS]) == ev.padding_time(jnp.int32)


def test_too_many_ticks_are_refused():
    with pytest.raises(ValueError, match="ticks_per_bin must be at least 1 and the window below"):
        event_ticks_from_counts(jax.random.key(3), COUNTS, 2**28, 1000)


def test_counts_must_match_the_grid():
    with pytest.raises(ValueError, match=r"counts must have shape \(200,\), one entry for each bin, got \(3,\)"):
        events_from_counts(jax.random.key(0), COUNTS[:3], GRID, 100)


def test_capacity_leaves_eight_standard_deviations():
    assert ev.event_capacity(10_000.0) == 10_000 + 800 + 64
    with pytest.raises(ValueError, match="expected_events must be finite"):
        ev.event_capacity(float("nan"))


def test_binning_matches_numpy():
    times = np.sort(np.random.default_rng(2).uniform(-1.0, 11.0, 5000)).astype(np.float32)
    weights = np.random.default_rng(3).integers(0, 2, 5000).astype(bool)
    edges = np.arange(GRID.n_bins + 1) * GRID.dt
    padded = jnp.concatenate([jnp.asarray(times), jnp.full((7,), jnp.inf)])
    ours = bin_events(padded, GRID, jnp.concatenate([jnp.asarray(weights), jnp.ones((7,), bool)]))
    assert np.abs(np.asarray(ours) - np.histogram(times[weights], edges)[0]).sum() <= 2  # edges rounded to float32


def test_the_end_of_the_window_belongs_to_the_last_bin():
    grid = TimeGrid(n_bins=3, dt=0.1)
    times = jnp.asarray([np.nextafter(np.float32(grid.duration), np.float32(0)), 0.0], jnp.float32)
    np.testing.assert_array_equal(bin_events(times, grid), [1.0, 0.0, 1.0])


def test_select_packs_in_order():
    times = jnp.asarray([0.5, 1.0, 2.0, 3.0, jnp.inf], jnp.float32)
    chosen = ev.select_events(times, jnp.asarray([True, False, True, False, True]))
    np.testing.assert_array_equal(chosen.times, [0.5, 2.0, np.inf, np.inf, np.inf])
    assert chosen.n_events == 2


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_merge_is_a_stable_merge(dtype):
    rng = np.random.default_rng(5)
    pad = ev.padding_time(jnp.dtype(dtype))
    first = np.append(np.sort(rng.integers(0, 50, 40)).astype(dtype), np.full(3, pad, dtype))
    second = np.append(np.sort(rng.integers(0, 50, 30)).astype(dtype), np.full(2, pad, dtype))
    merged = merge_events(jnp.asarray(first), jnp.asarray(second))
    both = np.concatenate([first, second])
    order = np.argsort(both, kind="stable")
    np.testing.assert_array_equal(merged.times, both[order])
    np.testing.assert_array_equal(merged.first, np.argsort(order)[:43])
    np.testing.assert_array_equal(merged.second, np.argsort(order)[43:])


def test_thinning_keeps_the_fraction_of_each_bin():
    fraction = jnp.where(jnp.arange(GRID.n_bins) < 100, 0.25, 0.75).astype(jnp.float32)
    times = jnp.asarray(np.random.default_rng(4).uniform(0, GRID.duration, 40_000), jnp.float32)
    keep = np.asarray(thin_events(jax.random.key(8), times, fraction, GRID))

    def z(expected):
        early = np.asarray(times) < 5.0
        return (keep[early].mean() - expected) / np.sqrt(0.25 * 0.75 / early.sum())

    assert abs(z(0.25)) < 5  # false alarm 6e-7
    assert abs(z(0.30)) > 5
    assert not thin_events(jax.random.key(8), jnp.full((5,), jnp.inf), fraction, GRID).any()


def test_unit_exponentials():
    draws = np.asarray(unit_exponentials(jax.random.key(1), 50_000, jnp.float32))
    assert draws.dtype == np.float32
    assert draws.min() >= 0
    assert stats.kstest(draws, "expon").pvalue > 1e-6  # false alarm 1e-6
    assert stats.kstest(draws * 1.05, "expon").pvalue < 1e-6


@pytest.mark.optimised
def test_running_sum_is_compensated_and_never_decreases():
    steps = jnp.full((200_000,), 0.04, jnp.float32)
    ours = np.asarray(jax.jit(running_sum)(steps), np.float64)
    exact = np.cumsum(np.full(200_000, np.float64(np.float32(0.04))))
    np.testing.assert_allclose(ours, exact, rtol=2e-7)
    naive = np.cumsum(np.full(200_000, np.float32(0.04)), dtype=np.float32)
    assert np.abs(naive / exact - 1).max() > 1e-5
    flat = jnp.asarray(np.random.default_rng(0).exponential(size=3000) * (np.arange(3000) % 7 == 0), jnp.float32)
    assert np.all(np.diff(running_sum(flat)) >= 0)


def test_running_sum_and_max_match_numpy():
    values = jnp.asarray(np.random.default_rng(0).integers(0, 9, 500), jnp.int32)
    np.testing.assert_array_equal(running_sum(values), np.cumsum(values))
    np.testing.assert_array_equal(running_max(values), np.maximum.accumulate(values))


@pytest.mark.parametrize("sums", [running_sum, _sum_in_parallel])
def test_running_sum_has_the_gradient_of_a_sum(sums):
    gradient = jax.grad(lambda x: (sums(x) * jnp.arange(4.0)).sum())(jnp.asarray([1.0, 0.0, 2.0, 3.0]))
    np.testing.assert_allclose(gradient, [6.0, 6.0, 5.0, 3.0])


def test_parallel_sum_for_accelerators_agrees():
    steps = jnp.asarray(np.random.default_rng(0).exponential(size=3000) * (np.arange(3000) % 7 == 0), jnp.float32)
    np.testing.assert_allclose(_sum_in_parallel(steps), running_sum(steps), rtol=1e-6)
    assert np.all(np.diff(_sum_in_parallel(steps)) >= 0)


@pytest.mark.slow
def test_jit_and_vmap_agree_with_eager():
    def draw(key):
        events = ev.events_from_counts(key, COUNTS, GRID, 800)
        return events.times, ev.bin_events(events.times, GRID)

    # The check for reused keys counts arrays: split anew for each use.
    batched = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(7), 3))
    for i, key in enumerate(jax.random.split(jax.random.key(7), 3)):
        single = draw(key) if i == 0 else jax.jit(draw)(key)
        np.testing.assert_allclose(batched[0][i], single[0], rtol=2e-7)
        np.testing.assert_allclose(batched[1][i].sum(), single[1].sum())
