"""Dead-time masks, event for event, against Stingray."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stingray import filters
from stingray.deadtime.model import r_det, r_in

from eagleray.simulators.observe.dead_time import (
    detector_mask,
    incident_rate,
    non_paralyzable_mask,
    non_paralyzable_rate,
    paralyzable_mask,
)
from eagleray.simulators.observe.events import merge_events, padding_time

pytestmark = pytest.mark.usefixtures("strict")
N = 20_000
TAU = 2.5e-3


def poisson_times(seed, n=N, rate=400.0):
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, n))


def padded(times, n_padding=100):
    times = np.asarray(times)
    return jnp.asarray(np.append(times, np.full(n_padding, padding_time(times.dtype), times.dtype)))


def stingray_mask(times, dead_time, paralyzable=False, background=None):
    return filters.get_deadtime_mask(times, dead_time, paralyzable=paralyzable, bkg_ev_list=background)


def stingray_mask_each(times, dead_times, paralyzable):
    """Stingray's own core for one dead time per event (its public function can only draw them itself)."""
    core = filters._paralyzable_dead_time if paralyzable else filters._non_paralyzable_dead_time
    return core(times, dead_times)[1]


def our_mask(times, dead_time, paralyzable):
    # "latest" is Stingray's rule for overlapping dead times; see test_dead_time for the difference.
    rule = functools.partial(paralyzable_mask, overlap="latest") if paralyzable else non_paralyzable_mask
    mask = jax.jit(rule)(times, dead_time)
    assert not mask[N:].any()
    return np.asarray(mask[:N])


@pytest.mark.parametrize("paralyzable", [False, True])
def test_constant_dead_time(paralyzable):
    times = poisson_times(0)
    with jax.enable_x64(True):
        ours = our_mask(padded(times), TAU, paralyzable)
    theirs = stingray_mask(times, TAU, paralyzable)
    np.testing.assert_array_equal(ours, theirs)
    assert 0.3 < ours.mean() < 0.7
    assert (ours != stingray_mask(times, 1.001 * TAU, paralyzable)).any()  # the check can fail


@pytest.mark.parametrize("paralyzable", [False, True])
def test_one_dead_time_for_each_event(paralyzable):
    times = poisson_times(1)
    dead_times = np.maximum(np.random.default_rng(2).normal(TAU, 0.4 * TAU, N), 0)
    with jax.enable_x64(True):
        ours = our_mask(padded(times), padded(dead_times), paralyzable)
    np.testing.assert_array_equal(ours, stingray_mask_each(times, dead_times, paralyzable))
    assert (ours != stingray_mask_each(times, np.full(N, TAU), paralyzable)).any()


def test_gaussian_scatter_of_stingray_itself():
    times = poisson_times(3)
    np.random.seed(7)  # noqa: NPY002 (Stingray draws from the global generator)
    theirs = filters.get_deadtime_mask(times, TAU, dt_sigma=0.5 * TAU)
    np.random.seed(7)  # noqa: NPY002
    dead_times = np.maximum(np.random.normal(TAU, 0.5 * TAU, N), 0)  # noqa: NPY002
    with jax.enable_x64(True):
        np.testing.assert_array_equal(our_mask(padded(times), padded(dead_times), False), theirs)


@pytest.mark.parametrize("paralyzable", [False, True])
def test_background_paralyses_too(paralyzable):
    times, background = poisson_times(4), poisson_times(5, N // 2, 200.0)
    with jax.enable_x64(True):
        merged = merge_events(padded(times), padded(background))
        mask = (paralyzable_mask if paralyzable else non_paralyzable_mask)(merged.times, TAU)
        ours = np.asarray(mask[merged.first])[:N]
    np.testing.assert_array_equal(ours, stingray_mask(times, TAU, paralyzable, background))
    assert (ours != stingray_mask(times, TAU, paralyzable)).any()


@pytest.mark.parametrize("paralyzable", [False, True])
@pytest.mark.parametrize("each", [False, True])
def test_ticks_settle_ties(paralyzable, each):
    rng = np.random.default_rng(6)
    ticks = np.sort(rng.integers(0, 50 * N // 2, N)).astype(np.int32)  # many spacings of exactly one dead time
    dead = rng.integers(0, 60, N).astype(np.int32) if each else np.full(N, 25, np.int32)
    # Whole numbers are exact in float64, so there Stingray settles ties as integers do.
    theirs = stingray_mask_each(ticks.astype(np.float64), dead.astype(np.float64), paralyzable)
    np.testing.assert_array_equal(our_mask(padded(ticks), padded(dead) if each else 25, paralyzable), theirs)
    assert (ticks[1:] - ticks[:-1] == 25).any()


def test_seconds_on_a_grid_do_not_settle_ties():
    ticks = np.sort(np.random.default_rng(6).integers(0, 50 * N // 2, N)).astype(np.int32)
    exact = our_mask(padded(ticks), 25, False)
    assert (stingray_mask(ticks * 1e-4, 25 * 1e-4) != exact).any()  # why ticks exist


def test_float32_differs_only_within_rounding():
    times = poisson_times(8, 4000)  # 10 s: a float32 step of 1 us
    ours = np.asarray(non_paralyzable_mask(jnp.asarray(times, jnp.float32), TAU))
    theirs = stingray_mask(times, TAU)
    assert (ours != theirs).mean() < 0.01


def test_several_detectors_are_independent():
    times = poisson_times(9)
    detector = np.random.default_rng(10).integers(0, 3, N).astype(np.int32)
    with jax.enable_x64(True):
        for paralyzable, mask in ((False, non_paralyzable_mask), (True, paralyzable_mask)):
            array = jnp.asarray(times)
            ours = detector_mask(lambda on, m=mask, t=array: m(t, TAU, on), jnp.asarray(detector), 3)
            theirs = np.zeros(N, bool)
            for number in range(3):
                theirs[detector == number] = stingray_mask(times[detector == number], TAU, paralyzable)
            np.testing.assert_array_equal(ours, theirs)


def test_vmap_over_either_axis_matches_stingray():
    batch = np.stack([poisson_times(seed, 5000) for seed in range(4)])
    theirs = np.stack([stingray_mask(times, TAU) for times in batch])
    with jax.enable_x64(True):
        rows = jax.jit(jax.vmap(lambda times: non_paralyzable_mask(times, TAU)))(batch)
        columns = jax.jit(jax.vmap(lambda times: non_paralyzable_mask(times, TAU), 1, 1))(batch.T)
    np.testing.assert_array_equal(rows, theirs)
    np.testing.assert_array_equal(columns, theirs.T)


def test_mean_rates_match_stingray():
    rates = np.array([1.0, 50.0, 300.0, 2000.0], np.float32)
    np.testing.assert_allclose(non_paralyzable_rate(jnp.asarray(rates), TAU), r_det(TAU, rates), rtol=1e-6)
    recorded = np.array([1.0, 50.0, 300.0], np.float32)
    np.testing.assert_allclose(incident_rate(jnp.asarray(recorded), TAU), r_in(TAU, recorded), rtol=1e-5)
