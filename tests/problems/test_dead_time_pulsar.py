"""A pulse behind dead time: the simulator against events drawn one by one, folding against bins in time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from score_checks import scores_of

from eagleray.errors import InputError
from eagleray.likelihoods.live_time import LiveBins, binned_log_likelihood, live_bins
from eagleray.problems import dead_time_pulsar
from eagleray.records import EventList, TimeGrid

GTI = np.asarray([[0.0, 0.4], [0.7, 1.9], [2.0, 2.011]])
FREQ, DEAD_TIME, N_PHASE = 7.3, 0.012, 8
THETA = {"rate": 70.0, "cosine": 0.35, "sine": -0.2, "cosine_2": 0.1, "sine_2": 0.1}
OTHER = {"rate": 45.0, "cosine": -0.05, "sine": 0.02, "cosine_2": -0.05, "sine_2": 0.0}


def profile(theta, n_phase=N_PHASE):
    """Rate in each phase bin, averaged on a fine grid."""
    p = 2 * np.pi * (np.arange(n_phase * 1000) + 0.5) / (n_phase * 1000)
    first = theta["cosine"] * np.cos(p) + theta["sine"] * np.sin(p)
    second = theta["cosine_2"] * np.cos(2 * p) + theta["sine_2"] * np.sin(2 * p)
    return theta["rate"] * (1 + first + second).reshape(n_phase, -1).mean(1)


def one_by_one(rng, theta, freq=FREQ):
    """Recorded event times, by thinning."""
    rate = profile(theta)
    times = []
    for low, high in GTI:
        now = live_from = low
        while True:
            now += rng.exponential(1.0 / rate.max())
            if now >= high:
                break
            if now >= live_from and rng.random() < rate[int(now * freq % 1.0 * N_PHASE)] / rate.max():
                times.append(now)
                live_from = now + DEAD_TIME
    return np.asarray(times)


def observed() -> EventList:
    return EventList(times=one_by_one(np.random.default_rng(0), THETA), gti=GTI, start=1e8, source="made up")


@pytest.fixture(scope="module")
def problem():
    return dead_time_pulsar.make(observed(), freq=FREQ, dead_time=DEAD_TIME, n_phase=N_PHASE)


@pytest.mark.slow
def test_simulator_has_the_law_of_events_drawn_one_by_one(problem):
    theta = {name: jnp.float32(value) for name, value in THETA.items()}
    simulate = jax.jit(jax.vmap(lambda key: problem.simulate(key, theta)))
    data = simulate(jax.random.split(jax.random.key(1), 3000))
    ours = np.concatenate([data.counts, data.live], axis=1)
    rng = np.random.default_rng(2)
    theirs = []
    for _ in range(400):
        bins = dead_time_pulsar.folded(EventList(times=one_by_one(rng, THETA), gti=GTI), FREQ, DEAD_TIME, N_PHASE)
        theirs.append(np.concatenate([bins.counts, bins.live]))
    theirs = np.asarray(theirs)
    for moments in (lambda x: x, lambda x: (x - theirs.mean(0)) ** 2):
        a, b = moments(ours), moments(theirs)
        z = (a.mean(0) - b.mean(0)) / np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
        assert np.abs(z).max() < 5.0  # false alarm 2e-5 for the 32 of them


def test_cycles_without_events_are_passed_over():
    events = EventList(times=np.arange(0.01, 1.9, 0.15), gti=np.asarray([[0.0, 2.0]]))
    problem = dead_time_pulsar.make(events, freq=301.0, dead_time=DEAD_TIME, n_phase=N_PHASE)
    theta = THETA | {"rate": 5.0}
    simulate = jax.jit(jax.vmap(lambda key: problem.simulate(key, {n: jnp.float32(v) for n, v in theta.items()})))
    data = simulate(jax.random.split(jax.random.key(5), 3000))
    expected = np.asarray(data.live, float).sum(0) * profile(theta)
    found = np.asarray(data.counts).sum(0)
    # Counts less rate times live time is a martingale whose variance is its mean.
    assert stats.chi2(N_PHASE).sf((((found - expected) ** 2) / expected).sum()) > 1e-5
    np.testing.assert_allclose(data.live.sum(1) + data.counts.sum(1) * DEAD_TIME, 2.0, atol=DEAD_TIME)


def test_likelihood_is_that_of_the_simulator(problem):
    scores = scores_of(problem, n=1500)
    for theta in (THETA, OTHER):
        found = scores(theta)
        assert found.mean < 4.5  # false alarm 3e-5 for five parameters
        assert found.information < 4.5  # 1e-4


def test_likelihood_that_takes_the_detector_for_live_is_found_out(problem):
    exposure = dead_time_pulsar.folded(observed(), FREQ, 1e-9, N_PHASE).live

    def always_live(theta, data):
        return problem.log_likelihood(theta, LiveBins(counts=data.counts, live=exposure))

    assert scores_of(problem, n=300, log_likelihood=always_live)(THETA).mean > 10.0


def test_likelihood_and_folding_are_those_of_bins_in_time(problem):
    grid = TimeGrid(n_bins=16 * N_PHASE, dt=1.0 / (FREQ * N_PHASE))
    in_time = live_bins(observed(), DEAD_TIME, grid)
    for name in ("counts", "live"):
        folded = np.asarray(getattr(in_time, name)).reshape(-1, N_PHASE).sum(0)
        np.testing.assert_allclose(getattr(problem.observed, name), folded, atol=2e-6)
    likelihood = jax.jit(problem.log_likelihood)
    values = []
    for theta in (THETA, OTHER):
        exact = binned_log_likelihood(in_time, jnp.tile(jnp.log(jnp.asarray(profile(theta), jnp.float32)), 16))
        values.append(likelihood(theta, problem.observed) - exact)
    np.testing.assert_allclose(values[0], values[1], atol=1e-3)


def test_prior_settings_and_summary(problem):
    standard = dead_time_pulsar.make(dead_time_pulsar.standard())
    assert standard.prior.texts["rate"] == "loguniform(200, 800)"
    assert standard.settings == {"freq": 10.0, "dead_time": 2.5e-3, "n_phase": 16.0}
    np.testing.assert_allclose(standard.observed.live.sum(), 5.0, rtol=1e-5)
    one = dead_time_pulsar.make(
        observed(), {"cosine_2": "fixed(0)", "sine_2": "fixed(0)"}, freq=FREQ, dead_time=DEAD_TIME
    )
    assert one.prior.names == ("rate", "cosine", "sine")
    unbounded = dead_time_pulsar.make(observed(), {"rate": "gamma(2, 0.03)"}, freq=FREQ, dead_time=DEAD_TIME)
    assert unbounded.prior.texts["rate"] == "gamma(2, 0.03)"
    x = problem.summary(problem.observed)
    expected = (problem.observed.counts + 0.5) / (problem.observed.live + DEAD_TIME)
    np.testing.assert_allclose(problem.summary.shown(x), expected, rtol=1e-5)
    assert np.isfinite(x).all()
    assert len(problem.summary.names) == x.size


def test_what_does_not_suit_is_refused():
    make, events = dead_time_pulsar.make, observed()
    with pytest.raises(InputError, match="freq must be positive"):
        make(events, dead_time=DEAD_TIME, freq=-1.0)
    with pytest.raises(InputError, match="n_phase must be a whole number from 8 to 256, got 10.5"):
        make(events, dead_time=DEAD_TIME, n_phase=10.5)
    with pytest.raises(InputError, match=r"must keep the rate positive, got amplitudes that add up to 1\.1[0-9]*; use"):
        make(events, {"cosine": "uniform(-0.7, 0.7)"}, dead_time=DEAD_TIME)
    with pytest.raises(InputError, match="takes the events of one detector, got list"):
        make([events])  # pyright: ignore
    with pytest.raises(InputError, match="dead_time must not exceed the interval"):
        make(events, dead_time=0.1)
    with pytest.raises(InputError, match="prior of rate must not reach below 0"):
        make(events, {"rate": "uniform(-1, 1)"}, dead_time=DEAD_TIME)
