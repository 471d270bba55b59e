"""Constant rate behind dead time: the simulator against events drawn one by one, its likelihood against both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from score_checks import scores_of

from eagleray.errors import InputError
from eagleray.likelihoods.live_time import LiveBins, gamma_posterior, live_events
from eagleray.problems import dead_time_rate
from eagleray.records import EventList, LightCurve, TimeGrid

GTI = np.asarray([[0.0, 0.4], [0.7, 1.5], [2.0, 2.011]])
DEAD_TIME = 0.01


def gappy_events(rate=60.0, seed=0) -> EventList:
    """Events of a detector that never rests, of which good time leaves some out."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1.0 / rate, 300) + DEAD_TIME) - DEAD_TIME
    return EventList(times=times[times < 2.2], gti=GTI, start=1e8, source="made up")


@pytest.fixture(scope="module")
def problem():
    return dead_time_rate.make(gappy_events(), dead_time=DEAD_TIME)


def one_by_one(rng, rate):
    """Recorded events and live time of all good time intervals, drawn event by event."""
    n, live = 0, 0.0
    for length in np.diff(GTI, axis=1)[:, 0]:
        now = 0.0
        while now < length:
            wait = rng.exponential(1.0 / rate)
            live += min(wait, length - now)
            n += now + wait < length
            now += wait + DEAD_TIME
    return n, live


@pytest.fixture(scope="module")
def simulate(problem):
    """4000 simulations at one rate."""
    many = jax.jit(jax.vmap(lambda key, rate: problem.simulate(key, {"rate": rate}), in_axes=(0, None)))
    return lambda rate: many(jax.random.split(jax.random.key(1), 4000), jnp.float32(rate))


@pytest.mark.parametrize("rate", [20.0, 150.0])
def test_simulator_has_the_law_of_events_drawn_one_by_one(simulate, rate):
    data = simulate(rate)
    ours = np.stack([data.counts[:, 0], data.live[:, 0]], 1)
    rng = np.random.default_rng(2)
    theirs = np.asarray([one_by_one(rng, rate) for _ in range(4000)])
    for moments in (lambda x: x, lambda x: (x - theirs.mean(0)) ** 2, lambda x: (x - theirs.mean(0)).prod(1)):
        a, b = moments(ours), moments(theirs)
        z = (a.mean(0) - b.mean(0)) / np.sqrt(a.var(0) / len(a) + b.var(0) / len(b))
        assert np.abs(z).max() < 5.0  # false alarm 1e-5 for all of them


def test_number_of_events_in_a_short_interval_has_its_closed_form():
    length, rate = 0.035, 80.0
    events = EventList(times=np.arange(0.001, 0.3, 0.02), gti=np.asarray([[0.0, 0.3]]))
    short = dead_time_rate.make(EventList(times=events.times, gti=np.asarray([[0.0, 0.3]])), dead_time=DEAD_TIME)
    assert short.observed.counts[0] == 15
    recorded = jax.jit(
        jax.vmap(lambda key: dead_time_rate._recorded(key, jnp.float32(rate), jnp.float32(length), DEAD_TIME, 3))
    )
    n, live = recorded(jax.random.split(jax.random.key(3), 20_000))
    # n reaches k if k waits fit beside k - 1 dead times.
    k = np.arange(1, 5)
    reaches = np.concatenate([[1.0], stats.gamma(k).cdf(rate * (length - (k - 1) * DEAD_TIME)), [0.0]])
    found = np.bincount(np.asarray(n, int), minlength=5)
    assert stats.chisquare(found, 20_000 * -np.diff(reaches)).pvalue > 1e-5
    assert (np.asarray(live) <= length + 1e-6).all()
    assert (np.asarray(live)[np.asarray(n) == 0] == np.float32(length)).all()


def test_likelihood_is_that_of_the_simulator(problem):
    scores = scores_of(problem, n=2000)
    for rate in (20.0, 150.0):
        found = scores({"rate": rate})
        assert found.mean < 4.5  # false alarm 7e-6 each
        assert found.information < 4.5


def test_likelihood_that_takes_the_detector_for_live_is_found_out(problem):
    def always_live(theta, data):
        return problem.log_likelihood(theta, LiveBins(counts=data.counts, live=jnp.full(1, np.diff(GTI).sum())))

    assert scores_of(problem, n=500, log_likelihood=always_live)({"rate": 60.0}).mean > 10.0


def test_posterior_is_the_conjugate_one(problem):
    events = live_events(gappy_events(), DEAD_TIME)
    np.testing.assert_allclose(problem.observed.counts[0], events.n_events)
    np.testing.assert_allclose(problem.observed.live[0], events.live_time, rtol=1e-6)
    family, numbers = problem.prior.texts["rate"].rstrip(")").split("(")
    shape, inverse_scale = map(float, numbers.split(","))
    assert family == "gamma"
    exact = stats.gamma(*map(float, gamma_posterior(events, shape, inverse_scale)[:1]))
    scale = float(gamma_posterior(events, shape, inverse_scale)[1])
    rates = jnp.asarray([20.0, 60.0, 200.0])
    density = jax.jit(
        jax.vmap(lambda r: problem.log_likelihood({"rate": r}, problem.observed) + problem.prior.log_prob({"rate": r}))
    )
    difference = np.asarray(density(rates)) - exact.logpdf(np.asarray(rates) * scale)
    np.testing.assert_allclose(difference, difference[0], atol=2e-4)


def test_many_events_lose_nothing_to_single_precision():
    long = EventList(times=np.arange(2_000_000) * 0.005, gti=np.asarray([[0.0, 1e4]]))
    problem = dead_time_rate.make(long)
    data = LiveBins(counts=jnp.full(1, 2e6), live=jnp.full(1, 5e3))
    rates = 400.0 * (1 + np.asarray([-2e-3, 0.0, 1e-3]))
    ours = jax.jit(jax.vmap(lambda rate: problem.log_likelihood({"rate": rate}, data)))(jnp.asarray(rates, jnp.float32))
    exact = 2e6 * np.log(rates / 400.0) - (rates - 400.0) * 5e3
    np.testing.assert_allclose(ours, exact, atol=0.01)
    counts = jax.jit(jax.vmap(lambda key: problem.simulate(key, {"rate": jnp.float32(400.0)}).counts))(
        jax.random.split(jax.random.key(4), 200)
    )
    sd = np.sqrt(2e6) / 2  # Cox's renewal theorem: n / (1 + r tau)^2
    assert abs(counts.mean() - 2e6) < 5 * sd / np.sqrt(200)
    assert stats.chi2(199).cdf(float(counts.var(ddof=1)) / sd**2 * 199) == pytest.approx(0.5, abs=0.4999)


def test_prior_settings_and_summary_follow_the_observation(problem):
    standard = dead_time_rate.make(dead_time_rate.standard())
    assert standard.prior.texts["rate"] == "gamma(2, 0.005)"
    assert standard.settings == {"dead_time": 2.5e-3}
    assert standard.signature() != problem.signature()
    other = dead_time_rate.make(dead_time_rate.standard(), {"rate": "loguniform(10, 1000)"}, dead_time=1e-3)
    assert other.prior.texts["rate"] == "loguniform(10, 1000)"
    np.testing.assert_allclose(other.observed.live[0], 8.0, rtol=1e-5)
    x = problem.summary(problem.observed)
    np.testing.assert_allclose(x[0], np.log((problem.observed.counts[0] + 0.5) / (problem.observed.live[0] + 0.01)))
    np.testing.assert_allclose(problem.summary.shown(x), np.exp(x[:1]))


def test_what_does_not_suit_is_refused():
    events = gappy_events()
    curve = LightCurve(
        values=np.ones(20), exposure=np.ones(20), background=np.zeros(20), error=None, grid=TimeGrid(n_bins=20, dt=1.0)
    )
    with pytest.raises(InputError, match="takes the events of one detector, got LightCurve"):
        dead_time_rate.make(curve)  # pyright: ignore
    with pytest.raises(InputError, match="at least 10 events in good time, got 3"):
        dead_time_rate.make(EventList(times=np.asarray([0.1, 0.2, 0.3, 5.0]), gti=np.asarray([[0.0, 1.0]])))
    with pytest.raises(InputError, match="before an interval of .*; give another dead_time, or the events of one"):
        dead_time_rate.make(events, dead_time=0.05)
    with pytest.raises(InputError, match="dead_time must be positive"):
        dead_time_rate.make(events, dead_time=0.0)
    with pytest.raises(InputError, match="prior of rate must not reach below 0"):
        dead_time_rate.make(events, {"rate": "normal(10, 1)"})
    with pytest.raises(InputError, match="has the parameters rate"):
        dead_time_rate.make(events, {"mass": "uniform(0, 1)"})
