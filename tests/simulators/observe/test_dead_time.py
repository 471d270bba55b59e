"""Dead time: rates, gaps, power spectrum, live time, PRIOR, and the ways of giving dead times."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from eagleray.records import TimeGrid
from eagleray.simulators.observe.dead_time import (
    incident_rate,
    live_time,
    non_paralyzable_mask,
    non_paralyzable_rate,
    paralyzable_mask,
    paralyzable_rate,
    prior_live_time,
)
from eagleray.simulators.observe.dead_time_draws import energy_dead_times, scattered_dead_times
from eagleray.simulators.observe.energies import draw_from_histogram
from eagleray.simulators.observe.events import bin_events, unit_exponentials
from eagleray.simulators.observe.running import running_sum

pytestmark = pytest.mark.usefixtures("strict")
RATE = 500.0
TAU = 2.5e-3
N_BATCH = 400
N = 1000
TIMES = np.asarray(
    jax.jit(jax.vmap(lambda key: running_sum(unit_exponentials(key, N, jnp.float32)) / RATE))(
        jax.random.split(jax.random.key(0), N_BATCH)
    )
)


def masks(kind, dead_times):
    """Masks of the batch; dead_times is a number or has the shape of TIMES."""
    mask = {
        "non-paralyzable": non_paralyzable_mask,
        "longest": paralyzable_mask,
        "latest": lambda t, d: paralyzable_mask(t, d, overlap="latest"),
    }[kind]
    dead_times = np.broadcast_to(np.asarray(dead_times, np.float32), TIMES.shape)
    return np.asarray(jax.jit(jax.vmap(mask))(TIMES, dead_times))


def scattered(seed, sd):
    """A dead time for each event of the batch."""
    draw = jax.jit(jax.vmap(lambda key: scattered_dead_times(key, jnp.float32(TAU), jnp.float32(sd), N)))
    return np.asarray(draw(jax.random.split(jax.random.key(seed), N_BATCH)))


def rate_z(kind, dead_times, expected):
    """Standardised difference of the recorded rate from `expected`, skipping the start of each window."""
    late = (TIMES > 0.1) & (TIMES < 1.5)
    numbers = (masks(kind, dead_times) & late).sum(axis=1) / 1.4
    return (numbers.mean() - expected) / (numbers.std(ddof=1) / np.sqrt(N_BATCH))


@pytest.mark.parametrize(
    ("kind", "formula"), [("non-paralyzable", non_paralyzable_rate), ("longest", paralyzable_rate)]
)
def test_recorded_rate(kind, formula):
    assert abs(rate_z(kind, TAU, formula(RATE, TAU))) < 5  # false alarm 6e-7
    assert abs(rate_z(kind, TAU, formula(RATE, 1.1 * TAU))) > 5


def test_recorded_rate_with_scattered_dead_times():
    dead = scattered(1, 0.5 * TAU)
    assert dead.min() == 0.0
    mean = float(dead.mean())
    latest = RATE * float(np.exp(-RATE * dead.astype(np.float64)).mean())
    assert abs(rate_z("non-paralyzable", dead, non_paralyzable_rate(RATE, mean))) < 5  # false alarm 6e-7 each
    assert abs(rate_z("longest", dead, paralyzable_rate(RATE, mean))) < 5
    assert abs(rate_z("latest", dead, latest)) < 5
    # Replacing a long dead time by a short one is another detector: the two rules must not be confused.
    assert abs(rate_z("latest", dead, paralyzable_rate(RATE, mean))) > 5


def test_incident_rate_inverts():
    np.testing.assert_allclose(incident_rate(non_paralyzable_rate(RATE, TAU), TAU), RATE)


def gaps(recorded, number=100):
    """First gaps between recorded events of each window."""
    return np.concatenate(
        [np.diff(times[mask].astype(np.float64))[:number] for times, mask in zip(TIMES, recorded, strict=True)]
    )


def test_gaps_are_a_shifted_exponential():
    found = gaps(masks("non-paralyzable", TAU))
    assert stats.kstest(found, stats.expon(TAU, 1 / RATE).cdf).pvalue > 1e-6  # false alarm 1e-6
    assert stats.kstest(found, stats.expon(TAU, 1.05 / RATE).cdf).pvalue < 1e-6


def test_gaps_with_scattered_dead_times_are_ex_gaussian():
    sd = 0.1 * TAU
    found = gaps(masks("non-paralyzable", scattered(2, sd)))
    law = stats.exponnorm(1 / (RATE * sd), TAU, sd)
    assert stats.kstest(found, law.cdf).pvalue > 1e-6  # false alarm 1e-6
    assert stats.kstest(found, stats.expon(TAU, 1 / RATE).cdf).pvalue < 1e-6


def renewal_power(freq, rate, tau):
    """Power of a stationary renewal process behind non-paralyzable dead time (Leahy et al. 1983, ApJ 266, 160)."""
    omega = 2 * np.pi * freq
    phi = np.exp(-1j * omega * tau) / (1 + 1j * omega / rate)
    return 2 * ((1 + phi) / (1 - phi)).real


def binned_renewal_power(freq, dt, rate, tau, n_alias=200):
    """The same for counts in bins: aliases, plus white noise in what the sum leaves out."""
    aliases = freq[:, None] + np.arange(-n_alias, n_alias + 1) / dt
    window = np.sinc(aliases * dt) ** 2
    return (window * renewal_power(aliases, rate, tau)).sum(1) + 2 * (1 - window.sum(1))


def test_power_spectrum_is_that_of_a_renewal_process():
    grid = TimeGrid(n_bins=1024, dt=1e-3)

    def counts(times):
        # Skip 0.1 s: the first event finds the detector live, later ones do not.
        return bin_events(times - 0.1, grid, non_paralyzable_mask(times, TAU))

    binned = np.asarray(jax.jit(jax.vmap(counts))(TIMES), np.float64)
    freq = np.fft.rfftfreq(grid.n_bins, grid.dt)[1:-1]
    power = 2 * np.abs(np.fft.rfft(binned)[:, 1:-1]) ** 2 / binned.sum(1).mean()

    def z(model):
        deviations = (power.mean(0) / model - 1) * np.sqrt(N_BATCH)
        return ((deviations**2).sum() - freq.size) / np.sqrt(2 * freq.size * (1 + 3 / N_BATCH))

    assert abs(z(binned_renewal_power(freq, grid.dt, RATE, TAU))) < 6  # false alarm about 1e-6 (chi-squared tail)
    assert z(binned_renewal_power(freq, grid.dt, RATE, 1.1 * TAU)) > 6
    assert z(np.full(freq.size, 2.0)) > 6


def test_longest_and_latest_dead_time():
    times = jnp.asarray([0.0, 1.0, 3.0, 6.0])
    dead = jnp.asarray([4.0, 0.5, 0.5, 0.5])
    np.testing.assert_array_equal(paralyzable_mask(times, dead), [True, False, False, True])
    np.testing.assert_array_equal(paralyzable_mask(times, dead, overlap="latest"), [True, False, True, True])
    on = jnp.asarray([True, False, True, True])
    np.testing.assert_array_equal(paralyzable_mask(times, dead, on, "latest"), [True, False, False, True])
    with pytest.raises(ValueError, match="overlap must be 'longest' or 'latest', got 'first'"):
        paralyzable_mask(times, dead, overlap="first")


def test_events_that_do_not_reach_the_detector_do_not_paralyse():
    times = jnp.asarray([0.0, 1.0, 1.5, 4.0, jnp.inf])
    on = jnp.asarray([False, True, True, True, True])
    np.testing.assert_array_equal(non_paralyzable_mask(times, 2.0, on), [False, True, False, True, False])
    np.testing.assert_array_equal(paralyzable_mask(times, 2.0, on), [False, True, False, True, False])


def test_prior_of_a_small_list():
    times = jnp.asarray([1.0, 2.0, 4.5, 10.0, jnp.inf])
    recorded = non_paralyzable_mask(times, 3.0)
    np.testing.assert_array_equal(recorded, [True, False, True, True, False])
    np.testing.assert_array_equal(prior_live_time(times, 3.0, recorded), [1.0, 0.0, 0.5, 2.5, 0.0])
    everything = jnp.isfinite(times)
    recorded = paralyzable_mask(times, 3.0)
    np.testing.assert_array_equal(recorded, [True, False, False, True, False])
    np.testing.assert_array_equal(prior_live_time(times, 3.0, recorded, everything), [1.0, 0.0, 0.0, 2.5, 0.0])
    ticks = jnp.asarray([1, 2, 5, 10, np.iinfo(np.int32).max], jnp.int32)
    recorded = non_paralyzable_mask(ticks, 3)
    np.testing.assert_array_equal(prior_live_time(ticks, 3, recorded), [1, 0, 1, 2, 0])


def test_prior_is_exponential():
    recorded = masks("non-paralyzable", TAU)
    prior = np.asarray(jax.jit(jax.vmap(lambda times, mask: prior_live_time(times, TAU, mask)))(TIMES, recorded))
    found = np.concatenate([p[m][:100] for p, m in zip(prior, recorded, strict=True)])
    assert stats.kstest(found, stats.expon(0, 1 / RATE).cdf).pvalue > 1e-6  # false alarm 1e-6
    assert stats.kstest(found, stats.expon(0, 1.05 / RATE).cdf).pvalue < 1e-6


@pytest.mark.parametrize("paralyzable", [False, True])
@pytest.mark.parametrize("dt", [0.5e-3, 5e-3])
def test_live_time_per_bin(paralyzable, dt):
    grid = TimeGrid(n_bins=int(1.0 / dt), dt=dt)
    times = TIMES[0].astype(np.float64)
    with jax.enable_x64(True):
        mask = (paralyzable_mask if paralyzable else non_paralyzable_mask)(jnp.asarray(times), TAU)
        paralysing = jnp.ones(N, bool) if paralyzable else mask
        ours = np.asarray(jax.jit(live_time, static_argnums=3)(jnp.asarray(times), TAU, paralysing, grid))
    starts = times[np.asarray(paralysing)]
    fine = (np.arange(200 * grid.n_bins) + 0.5) * dt / 200
    latest = np.searchsorted(starts, fine, side="right") - 1
    live = (latest < 0) | (fine >= starts[np.maximum(latest, 0)] + TAU)
    np.testing.assert_allclose(ours, live.reshape(grid.n_bins, 200).mean(1) * dt, atol=0.02 * dt)
    np.testing.assert_allclose(ours.sum(), live.mean(), rtol=1e-3)


def test_live_time_gives_back_the_incident_rate():
    grid = TimeGrid(n_bins=100, dt=0.01)
    recorded = masks("non-paralyzable", TAU)
    live = jax.jit(jax.vmap(lambda times, mask: live_time(times, TAU, mask, grid)))(TIMES, recorded)
    assert live.dtype == jnp.float32
    numbers = (recorded & (TIMES < 1.0)).sum()

    def z(rate):
        return (numbers - rate * float(live.sum())) / np.sqrt(numbers)

    assert abs(z(RATE)) < 5  # false alarm 6e-7
    assert abs(z(1.03 * RATE)) > 5


def test_dead_times_from_a_table_and_from_energies():
    edges, weights = jnp.asarray([2.0, 2.5, 3.0, 4.0]), jnp.asarray([1.0, 3.0, 0.0])
    draws = np.asarray(draw_from_histogram(jax.random.key(4), edges, weights, 20_000))
    cdf = lambda x, w=0.25: np.interp(x, [2.0, 2.5, 3.0], [0.0, w, 1.0])  # noqa: E731
    assert stats.kstest(draws, cdf).pvalue > 1e-6  # false alarm 1e-6
    assert stats.kstest(draws, lambda x: cdf(x, 0.3)).pvalue < 1e-6
    dead = energy_dead_times(jnp.asarray([1.0, 2.0, 9.0]), jnp.asarray([1.0, 3.0]), jnp.asarray([10.0, 20.0]))
    np.testing.assert_allclose(dead, [10.0, 15.0, 20.0])
    with pytest.raises(ValueError, match=r"edges must have shape \(4,\), one more than weights, got \(3,\)"):
        draw_from_histogram(jax.random.key(4), edges[:3], weights, 5)


def test_wrong_dead_times_are_refused():
    ticks = jnp.asarray([1, 2, 3], jnp.int32)
    with pytest.raises(TypeError, match="dead_time must be in whole ticks where times are"):
        non_paralyzable_mask(ticks, 0.5)
    with pytest.raises(ValueError, match=r"dead_time must have shape \(\) or \(3,\), got \(2,\)"):
        non_paralyzable_mask(ticks, jnp.asarray([1, 2], jnp.int32))


def test_gradients_of_rates_and_dead_times():
    assert jax.grad(non_paralyzable_rate)(RATE, TAU) == pytest.approx((1 + RATE * TAU) ** -2, rel=1e-5)
    gradient = jax.grad(lambda mean: scattered_dead_times(jax.random.key(0), mean, jnp.float32(1e-4), 50).sum())
    assert gradient(jnp.float32(TAU)) == pytest.approx(50.0)
    times = jnp.asarray(TIMES[0])
    mask = non_paralyzable_mask(times, TAU)
    spent = jax.grad(lambda tau: prior_live_time(times, tau, mask).sum())(jnp.float32(TAU))
    assert spent == pytest.approx(-(float(mask.sum()) - 1))


def test_jit_agrees_with_eager():
    times, dead = jnp.asarray(TIMES[0]), jnp.full((N,), TAU)
    for mask in (non_paralyzable_mask, paralyzable_mask):
        np.testing.assert_array_equal(jax.jit(mask)(times, dead), mask(times, dead))
