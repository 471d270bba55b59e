"""Events behind dead time: live time against brute force, integrals against SciPy, and posteriors that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sbc
from scipy import integrate, stats

from eagleray.likelihoods import live_time
from eagleray.priors import Prior
from eagleray.records import EventList, TimeGrid
from eagleray.simulators.observe.dead_time import live_time as simulated_live_time
from eagleray.simulators.observe.events import event_capacity
from eagleray.simulators.observe.time_change import cumulative_rate, recorded_events_from_rate

sinusoidal = jax.jit(live_time.sinusoidal_log_likelihood)
PULSE = {"rate": 30.0, "amplitude": 0.7, "freq": 2.3, "phase": 0.2}


def recorded(seed, *, duration=20.0, rate=30.0, scatter=True):
    """Events of a steady source with a dead time of their own, and those dead times."""
    rng = np.random.default_rng(seed)
    waits = rng.exponential(1.0 / rate, 2000)
    busy = rng.uniform(0.01, 0.05, 2000) if scatter else np.full(2000, 0.02)
    times = np.cumsum(waits) + np.concatenate([[0.0], np.cumsum(busy)[:-1]])
    n = np.searchsorted(times, duration)
    return times[:n], busy[:n]


def two_detectors():
    gti = np.asarray([[0.5, 6.0], [7.25, 7.5], [12.0, 20.0]])
    first, busy_first = recorded(0)
    second, busy_second = recorded(1)
    lists = [EventList(times=first, gti=gti), EventList(times=second, gti=np.asarray([[0.0, 20.0]]))]
    return lists, [busy_first, busy_second]


def is_live(t, events, busy):
    """By brute force: within good time, and within no dead time."""
    good = any(low <= t < high for low, high in events.gti)
    return good and not np.any((events.times <= t) & (t < events.times + busy))


def test_live_intervals_are_those_of_brute_force():
    (events, _), (busy, _) = two_detectors()
    intervals = live_time.live_intervals(events, busy)
    assert np.all(np.diff(intervals.ravel()) >= 0)
    for t in np.random.default_rng(2).uniform(-1.0, 21.0, 3000):
        inside = np.any((intervals[:, 0] <= t) & (t < intervals[:, 1]))
        assert inside == is_live(t, events, busy)


def test_bins_hold_the_events_and_the_live_time():
    lists, busy = two_detectors()
    grid = TimeGrid(n_bins=170, dt=0.11)
    bins = live_time.live_bins(lists, busy, grid)
    live, counts = np.zeros(grid.n_bins), np.zeros(grid.n_bins)
    for events, own in zip(lists, busy, strict=True):
        for low, high in live_time.live_intervals(events, own):
            for i in range(grid.n_bins):
                live[i] += max(0.0, min(high, (i + 1) * grid.dt) - max(low, i * grid.dt))
        good = [t for t in events.times if any(low <= t < high for low, high in events.gti)]
        counts += np.histogram(good, np.arange(grid.n_bins + 1) * grid.dt)[0]
    np.testing.assert_array_equal(bins.counts, counts)
    np.testing.assert_allclose(bins.live, live, atol=1e-6)
    assert live.sum() < 0.7 * counts.sum() / 30.0 * 2.0


def test_live_time_is_that_of_the_simulators():
    times, _ = recorded(3, scatter=False)
    grid = TimeGrid(n_bins=64, dt=20.0 / 64)
    events = EventList(times=times, gti=np.asarray([[0.0, 20.0]]))
    theirs = simulated_live_time(jnp.asarray(times, jnp.float32), 0.02, jnp.ones(len(times), bool), grid)
    np.testing.assert_allclose(live_time.live_bins(events, 0.02, grid).live, theirs, atol=2e-5)


def pulse(t):
    cosine = (jnp if isinstance(t, jax.Array) else np).cos(2.0 * np.pi * (PULSE["freq"] * t - PULSE["phase"]))
    return PULSE["rate"] * (1.0 + PULSE["amplitude"] * cosine)


def reference(rate, lists, busy):
    """The likelihood as it is written down, the integral by adaptive quadrature."""
    total = 0.0
    for events, own in zip(lists, busy, strict=True):
        good = [t for t in events.times if any(low <= t < high for low, high in events.gti)]
        pieces = [
            integrate.quad(rate, low, high, epsabs=1e-12)[0] for low, high in live_time.live_intervals(events, own)
        ]
        total += np.log([rate(t) for t in good]).sum() - np.sum(pieces)
    return total


def test_likelihood_of_a_pulse_is_the_sum_and_the_integral():
    lists, busy = two_detectors()
    expected = reference(pulse, lists, busy)
    with jax.enable_x64(True):
        events = live_time.live_events(lists, busy)
        split = live_time.live_events(lists, busy, longest=0.05)
        integral = live_time.quadrature(pulse)
        numeric = jax.jit(lambda e: live_time.live_log_likelihood(e, lambda t: jnp.log(pulse(t)), integral))(split)
        np.testing.assert_allclose(sinusoidal(events, **PULSE), expected, rtol=1e-10)
        np.testing.assert_allclose(numeric, expected, rtol=1e-9)
        assert split.live_start.size > events.live_start.size
        np.testing.assert_allclose(split.live_time, events.live_time, rtol=1e-12)
    single = live_time.live_events(lists, busy)
    np.testing.assert_allclose(sinusoidal(single, **PULSE), expected, rtol=1e-5)


def test_two_detectors_add_and_one_is_a_list_of_one():
    lists, busy = two_detectors()
    both = live_time.live_events(lists, busy)
    each = [live_time.live_events(*one) for one in zip(lists, busy, strict=True)]
    for name in ("times", "live_start", "live_stop"):
        joined = np.concatenate([getattr(one, name) for one in each])
        np.testing.assert_array_equal(getattr(both, name), joined)
    np.testing.assert_allclose(both.live_time, each[0].live_time + each[1].live_time, rtol=1e-5)
    alone = live_time.live_events(lists[:1], busy[:1])
    np.testing.assert_array_equal(alone.live_stop, each[0].live_stop)


def test_a_rate_constant_in_bins_needs_only_counts_and_live_time():
    lists, busy = two_detectors()
    grid = TimeGrid(n_bins=40, dt=0.5)
    rate = np.random.default_rng(4).uniform(10.0, 60.0, grid.n_bins)
    # Quadrature knows nothing of edges: a reference of its own.
    total = 0.0
    for events, own in zip(lists, busy, strict=True):
        good = [t for t in events.times if any(low <= t < high for low, high in events.gti)]
        total += sum(np.log(rate[int(t / grid.dt)]) for t in good)
        for low, high in live_time.live_intervals(events, own):
            for i in range(int(low / grid.dt), int(np.ceil(high / grid.dt))):
                total -= rate[i] * max(0.0, min(high, (i + 1) * grid.dt) - max(low, i * grid.dt))
    with jax.enable_x64(True):
        bins = live_time.live_bins(lists, busy, grid)
        found = live_time.binned_log_likelihood(bins, jnp.log(jnp.asarray(rate)))
        np.testing.assert_allclose(found, total, rtol=1e-10)
    with pytest.raises(ValueError, match=r"log_rate must have shape \(40,\)"):
        live_time.binned_log_likelihood(bins, jnp.zeros(39))


def test_padding_changes_nothing_and_gradients_are_finite():
    times, _ = recorded(5, scatter=False)
    events = live_time.live_events(EventList(times=times, gti=np.asarray([[0.0, 20.0]])), 0.02)
    padded = jnp.concatenate([jnp.asarray(times, jnp.float32), jnp.full(50, jnp.inf)])
    value = jax.jit(
        lambda theta, padded: live_time.sinusoidal_log_likelihood(
            live_time.window_live_events(padded, 20.0, 0.02), **theta
        )
    )
    theta = {name: jnp.float32(v) for name, v in PULSE.items()}
    np.testing.assert_allclose(value(theta, padded), sinusoidal(events, **PULSE), rtol=1e-5)
    stacked = jnp.stack([padded, padded.at[len(times) - 1].set(jnp.inf)])
    many = jax.jit(jax.vmap(jax.value_and_grad(lambda p, t: value(t, p), argnums=1), in_axes=(0, None)))
    values, gradients = many(stacked, theta)
    np.testing.assert_allclose(values, [value(theta, one) for one in stacked], rtol=1e-6)
    assert all(jnp.isfinite(g).all() for g in gradients.values())
    with jax.enable_x64(True):
        events = live_time.live_events(EventList(times=times, gti=np.asarray([[0.0, 20.0]])), 0.02)
        both = jax.jit(jax.value_and_grad(lambda theta: live_time.sinusoidal_log_likelihood(events, **theta)))
        theta = {name: jnp.asarray(v, float) for name, v in PULSE.items()}
        gradient = both(theta)[1]
        for name in theta:
            up, down = ({**theta, name: theta[name] + sign * 1e-5} for sign in (1, -1))
            np.testing.assert_allclose(gradient[name], (both(up)[0] - both(down)[0]) / 2e-5, rtol=1e-5)


GAMMA = (30.0, 0.05)
DEAD_TIME, SHORT, MOST = 2.5e-3, 0.4, 220


def steady_source(key):
    """A rate from the Gamma prior, and its posterior, exact and with the dead time forgotten."""
    key_rate, key_events = jax.random.split(key)
    rate = jax.random.gamma(key_rate, GAMMA[0]) / GAMMA[1]
    waits = jax.random.exponential(key_events, (MOST,)) / rate
    times = jnp.cumsum(waits) + DEAD_TIME * jnp.arange(MOST)
    times = jnp.where(times < SHORT, times, jnp.inf)
    exact, forgotten = (
        live_time.gamma_posterior(live_time.window_live_events(times, SHORT, busy), *GAMMA) for busy in (DEAD_TIME, 0.0)
    )
    return rate, exact, forgotten, times[-1] < SHORT


def test_constant_rate_has_the_conjugate_posterior():
    rate, exact, forgotten, overflow = jax.jit(jax.vmap(steady_source))(jax.random.split(jax.random.key(0), 3000))
    assert not overflow.any()
    p_value = [
        stats.kstest(stats.gamma.cdf(rate, shape, scale=1.0 / np.asarray(inverse)), "uniform").pvalue
        for shape, inverse in (exact, forgotten)
    ]
    assert p_value[0] > 1e-5  # false alarm 1e-5
    assert p_value[1] < 1e-5


def test_conjugate_posterior_is_the_likelihood_times_the_prior():
    lists, busy = two_detectors()
    with jax.enable_x64(True):
        events = live_time.live_events(lists, busy)
        shape, inverse = live_time.gamma_posterior(events, *GAMMA)
        rates = jnp.linspace(10.0, 60.0, 7)
        likelihood = jnp.stack(
            [
                live_time.live_log_likelihood(
                    events, lambda t, r=r: jnp.full_like(t, jnp.log(r)), lambda a, b, r=r: r * (b - a)
                )
                for r in rates
            ]
        )
        posterior = likelihood + stats.gamma.logpdf(rates, GAMMA[0], scale=1.0 / GAMMA[1])
        difference = posterior - stats.gamma.logpdf(rates, shape, scale=1.0 / inverse)
        np.testing.assert_allclose(difference, difference[0], rtol=1e-9)


# A pulsar of which the frequency is known, 2 s, in which half of the events are lost.
PULSAR = Prior({"rate": "uniform(200, 600)", "amplitude": "uniform(0, 0.95)", "phase": "uniform(-0.5, 0.5)"})
DURATION, FREQ, N_FINE = 2.0, 5.0, 4000
CAPACITY = event_capacity(1.2 * DURATION / (DEAD_TIME + 1.0 / 1200.0))


def pulsar(key, theta):
    grid = TimeGrid(n_bins=N_FINE, dt=DURATION / N_FINE)
    phase = FREQ * jnp.asarray(grid.times, jnp.float32) - theta["phase"]
    rate = theta["rate"] * (1.0 + theta["amplitude"] * jnp.cos(2.0 * jnp.pi * phase))
    events = recorded_events_from_rate(key, cumulative_rate(rate, grid), jnp.float32(DEAD_TIME), CAPACITY)
    return events.times


def pulsar_log_likelihood(theta, times, dead_time=DEAD_TIME):
    events = live_time.window_live_events(times, DURATION, dead_time)
    return live_time.sinusoidal_log_likelihood(events, freq=jnp.float32(FREQ), **theta)


@pytest.mark.slow
def test_posterior_of_a_pulsar_is_calibrated():
    sbc.assert_uniform(sbc.ranks(jax.random.key(2), PULSAR, pulsar, pulsar_log_likelihood))


@pytest.mark.slow
def test_calibration_betrays_a_forgotten_dead_time():
    wrong = lambda theta, times: pulsar_log_likelihood(theta, times, 0.0)  # noqa: E731
    sbc.assert_not_uniform(sbc.ranks(jax.random.key(2), PULSAR, pulsar, wrong))


def test_what_cannot_be_recorded_is_refused():
    gti = np.asarray([[0.0, 3.0]])
    close = EventList(times=np.asarray([1.0, 1.01]), gti=gti)
    with pytest.raises(ValueError, match="dead_time must not exceed the interval"):
        live_time.live_intervals(close, 0.02)
    with pytest.raises(ValueError, match="dead_time must have shape"):
        live_time.live_intervals(close, np.asarray([0.001]))
    with pytest.raises(ValueError, match="dead_time must not be negative"):
        live_time.live_intervals(close, -1.0)
    with pytest.raises(ValueError, match="times must be sorted"):
        live_time.live_intervals(EventList(times=close.times[::-1], gti=gti), 0.001)
    with pytest.raises(ValueError, match="dead_time must have one entry for each of 2"):
        live_time.live_events([close, close], [0.001])
    with pytest.raises(ValueError, match="dead_time must be a number"):
        live_time.live_events([close, close], np.asarray([0.001, 0.001]))
    with pytest.raises(ValueError, match="longest must be positive"):
        live_time.live_events(close, 0.001, longest=0.0)
    with pytest.raises(ValueError, match="n_nodes must be at least 1"):
        live_time.quadrature(jnp.ones_like, 0)


def test_no_events_and_no_good_time():
    nothing = EventList(times=np.zeros(0), gti=np.zeros((0, 2)))
    assert live_time.live_intervals(nothing, 0.1).shape == (0, 2)
    quiet = EventList(times=np.zeros(0), gti=np.asarray([[1.0, 3.0]]))
    np.testing.assert_array_equal(live_time.live_intervals(quiet, 0.1), [[1.0, 3.0]])
    assert live_time.live_events(quiet, 0.1).live_time == 2.0
    bins = live_time.live_bins([nothing, quiet], 0.1, TimeGrid(n_bins=4, dt=1.0))
    np.testing.assert_array_equal(bins.live, [0.0, 1.0, 1.0, 0.0])
