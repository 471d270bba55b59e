"""A QPO behind dead time: simulator and Cox process are one law, on the host and on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.errors import InputError
from eagleray.likelihoods.live_time import LiveBins, live_bins
from eagleray.problems import dead_time_qpo
from eagleray.problems.windows import steady_events, steady_light_curve
from eagleray.records import EventList, TimeGrid
from eagleray.simulators.observe.time_change import cumulative_rate, recorded_events_from_rate

DURATION, DEAD_TIME = 2.0, 2.5e-3
THETA = {"rms": 0.4, "centre": 12.0, "q": 4.0, "rate": 900.0}
LAGS = (1, 5, 20)


def scalars(theta):
    return {name: jnp.float32(value) for name, value in theta.items()}


def pair(duration=DURATION, rate=280.0):
    return steady_events(duration, rate), steady_events(duration, rate)


def source(dead_time=DEAD_TIME):
    grid = TimeGrid(n_bins=800, dt=2.5e-3)
    return dead_time_qpo.WatchedQpo(grid=grid, n_freq=120, n_detectors=2, dead_time=dead_time, highest_rate=1500.0)


@pytest.fixture(scope="module")
def problem():
    return dead_time_qpo.make(pair())


@pytest.fixture(scope="module")
def draws(problem):
    """Data of one set of parameters, and of one with next to no variability."""
    simulate = jax.jit(jax.vmap(problem.simulate, in_axes=(0, None)))
    keys = jax.random.split(jax.random.key(0), 200)
    return simulate(keys, scalars(THETA)), simulate(keys, scalars(THETA | {"rms": 1e-3}))


def largest_z(samples):
    return float(np.abs(samples.mean(0) / (samples.std(0) / np.sqrt(len(samples)))).max())


@pytest.fixture(scope="module")
def conditional_scores():
    """Scores and score score^T + Hessian given the latent vector, for data whose true dead time may be another."""
    watched = source()
    process = watched.rate
    z = jax.random.normal(jax.random.key(5), (process.n_latent,))
    names = tuple(THETA)

    def log_likelihood(position, bins):
        theta = dict(zip(names, jnp.exp(position), strict=True))
        return watched.cox(bins).log_likelihood(theta, z)

    @jax.jit
    def at(position, keys, dead_time):
        rate = jnp.exp(process.log_rate(dict(zip(names, jnp.exp(position), strict=True)), z))

        def data(key):
            cumulative = cumulative_rate(rate, watched.grid)
            draw = lambda key: recorded_events_from_rate(key, cumulative, dead_time, watched.capacity)  # noqa: E731
            return watched.bins(jax.vmap(draw)(jax.random.split(key, 2)))

        both = (jax.grad(log_likelihood), jax.jacfwd(jax.grad(log_likelihood)))
        bins = jax.vmap(data)(keys)
        return tuple(jax.vmap(function, in_axes=(None, 0))(position, bins) for function in both)

    def scores(theta, dead_time):
        position = jnp.log(jnp.asarray([theta[name] for name in names], jnp.float32))
        score, hessian = at(position, jax.random.split(jax.random.key(6), 200), jnp.float32(dead_time))
        score, hessian = np.asarray(score, np.float64), np.asarray(hessian, np.float64)
        rows, columns = np.triu_indices(len(names))
        return largest_z(score), largest_z((score[:, :, None] * score[:, None, :] + hessian)[:, rows, columns])

    return scores


@pytest.mark.parametrize("theta", [THETA, {"rms": 0.2, "centre": 30.0, "q": 15.0, "rate": 1400.0}])
def test_likelihood_given_the_rate_belongs_to_the_detectors(conditional_scores, theta):
    mean, information = conditional_scores(theta, DEAD_TIME)
    assert mean < 5.0  # 14 z-scores a point: false alarm 1e-5
    assert information < 5.0


def test_scores_betray_a_wrong_dead_time(conditional_scores):
    assert max(conditional_scores(THETA, 2.3e-3)) > 5.0


@pytest.fixture(scope="module")
def without_dead_time():
    """Counts (400, 2, n_bins) of detectors that record all."""
    watched = source(dead_time=0.0)
    draw = jax.jit(jax.vmap(lambda key, theta: watched.bins(watched.events(key, theta)), in_axes=(0, None)))
    return np.asarray(draw(jax.random.split(jax.random.key(7), 400), scalars(THETA)).counts, np.float64)


def moments_off(counts, theta):
    """z of mean counts, and of the covariances of one detector with the other: of the rate alone."""
    process = source().rate
    log_rate = jax.jit(lambda z: process.log_rate(scalars(theta), z))
    origin = jnp.zeros(process.n_latent)
    matrix = np.asarray(jax.jit(jax.jacfwd(log_rate))(origin), np.float64)
    covariance = matrix @ matrix[0]
    mean = process.grid.dt * np.exp(float(log_rate(origin)[0]) + 0.5 * covariance[0])
    off = counts - mean
    found = [off.mean(axis=(1, 2))]
    for lag in (0, *LAGS):
        both = (off[:, 0] * np.roll(off[:, 1], lag, axis=-1)).mean(axis=-1)
        found.append(both - mean**2 * np.expm1(covariance[lag]))
    return max(largest_z(one[:, None]) for one in found)


def test_the_rate_has_the_law_of_the_cox_process(without_dead_time):
    assert moments_off(without_dead_time, THETA) < 5.0  # five numbers: false alarm 3e-6


def test_moments_betray_another_qpo(without_dead_time):
    assert moments_off(without_dead_time, THETA | {"q": 8.0}) > 5.0


def test_live_time_is_that_of_the_host():
    watched = source()
    events = jax.jit(watched.events)(jax.random.key(1), scalars(THETA))
    bins = jax.device_get(jax.jit(watched.bins)(events))
    gti = np.array([[0.0, DURATION]])
    times = [np.asarray(row[:n], np.float64) for row, n in zip(events.times, events.n_events, strict=True)]
    assert all(np.diff(row).min() > 0.999 * DEAD_TIME for row in times)
    host = live_bins([EventList(times=row, gti=gti) for row in times], DEAD_TIME * (1.0 - 1e-3), watched.grid)
    np.testing.assert_allclose(bins.counts.sum(axis=0), host.counts, atol=1.0)  # an event on an edge
    np.testing.assert_allclose(bins.counts.sum(), host.counts.sum())
    np.testing.assert_allclose(bins.live, host.live, atol=2e-5)


def test_recorded_rate_is_that_of_the_textbook(draws):
    """Non-paralyzable dead time records r / (1 + r tau)."""
    _, steady = draws
    recorded = np.asarray(steady.counts.sum(axis=-1), np.float64) / DURATION
    r = THETA["rate"]
    # A detector that starts live records a little more: Cox (1962), Renewal Theory, section 4.5.
    start = (1.0 - 1.0 / (1.0 + r * DEAD_TIME)) ** 2 / 2.0 / DURATION
    assert largest_z((recorded - r / (1.0 + r * DEAD_TIME) - start).reshape(-1, 1)) < 5.0


def log_powers(problem, data):
    features = np.asarray(jax.jit(jax.vmap(problem.summary))(data))
    return np.exp(features[:, : problem.summary.panel.axis.size])


def test_noise_in_live_time_is_white(problem, draws):
    _, steady = draws
    power = log_powers(problem, steady)
    assert largest_z(power - 2.0) < 6.0  # 60 frequencies
    # The recorded light curve, which knows nothing of live time, has much less noise than Poisson's.
    blind = dead_time_qpo.DetectorBins(counts=steady.counts, live=jnp.ones_like(steady.live))
    assert log_powers(problem, blind).mean() < 0.5


def test_summary_sees_the_qpo(problem, draws):
    features = np.asarray(jax.jit(jax.vmap(problem.summary))(draws[0]))
    x = dict(zip(problem.summary.names, features.T, strict=True))
    centre = 5.0 + 35.0 / (1.0 + np.exp(-x["logit_centre"]))
    z = (centre - THETA["centre"]) / np.exp(x["log_sd_centre"])
    assert abs(np.median(z)) < 0.5
    assert 0.6 < np.percentile(np.abs(z), 68.3) < 1.5
    # Dead time, and rms of order one, make the variance that a linear and live-time-weighted model sees a little less.
    assert abs(np.median(x["log_variance"]) - np.log(np.log1p(THETA["rms"] ** 2))) < 0.4


def test_one_detector_will_do(problem):
    alone = dead_time_qpo.make(pair()[0])
    assert alone.observed.counts.shape == (1, 800)
    assert alone.cox(alone.observed).n_latent == 240
    assert alone.summary.names == problem.summary.names
    assert alone.signature() != problem.signature()


def test_observed_events_are_cut_to_their_common_window():
    first, second = pair(3.0)
    late = EventList(times=second.times, gti=second.gti, start=1.0)
    problem = dead_time_qpo.make((first, late))
    assert problem.observed.counts.shape == (2, 800)
    np.testing.assert_allclose(problem.observed.counts.sum(axis=1), 560.0, atol=2.0)
    np.testing.assert_allclose(problem.observed.live.sum(), 4.0 - 1120.0 * DEAD_TIME, atol=0.02)


def test_priors_and_settings(problem):
    standard = dead_time_qpo.make(dead_time_qpo.standard())
    assert standard.prior.texts == {
        "rms": "uniform(0.1, 0.5)",
        "centre": "uniform(5, 40)",
        "q": "uniform(3, 30)",
        "rate": "uniform(500, 1500)",
    }
    assert standard.cox(standard.observed).n_latent == 1200
    other = dead_time_qpo.make(pair(), {"centre": "uniform(5, 20)"}, dead_time=1e-3, dt=5e-3, rebin=0.1)
    assert other.settings == {"dead_time": 1e-3, "dt": 5e-3, "rebin": 0.1}
    assert other.cox(other.observed).n_latent == 120
    assert len(other.summary.names) < len(problem.summary.names)


def test_high_frequencies_have_a_finer_grid():
    problem = dead_time_qpo.make_hf(pair())
    assert problem.prior.texts["centre"] == "uniform(100, 300)"
    assert problem.cox(problem.observed).n_latent == 1800
    theta = scalars(THETA | {"centre": 200.0})
    data = jax.eval_shape(problem.simulate, jax.random.key(0), theta)
    assert data.counts.shape == (2, 5000)
    assert jax.eval_shape(problem.summary, data).shape == (len(problem.summary.names),)


def test_too_short_lists_are_no_data():
    watched = source()
    events = jax.eval_shape(watched.events, jax.random.key(0), scalars(THETA))
    full = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), events)
    assert jnp.isnan(jax.jit(watched.bins)(full).counts).all()


def test_what_does_not_suit_is_refused():
    first, second = pair()
    gappy = EventList(times=first.times, gti=np.array([[0.0, 0.8], [1.0, 2.0]]))
    few = steady_events(DURATION, 20.0)
    for observation, message in (
        (steady_light_curve(100, 0.02, rate=100.0), "needs event lists, got LightCurve; give events"),
        ((gappy, second), "one good time interval common to all detectors, got 2; choose one of them"),
        ((first, few), "at least 100 events in each detector, got 40"),
    ):
        with pytest.raises(InputError, match=message):
            dead_time_qpo.make(observation)
    for settings, message in (
        ({"dead_time": 5e-3}, "dead_time must not exceed the shortest interval .* 0.003571 s, got 0.005"),
        ({"dead_time": -1.0}, "dead_time must not be negative"),
        ({"dt": 0.01}, "dt must be a fifth of the shortest cycle or less, 0.005 s"),
        ({"rebin": -0.1}, "rebin must be at least 0"),
    ):
        with pytest.raises(InputError, match=message):
            dead_time_qpo.make(pair(), **settings)
    with pytest.raises(InputError, match="fewer than 500000 incident events"):
        dead_time_qpo.make(pair(), {"rate": "uniform(500, 1e6)"})
    with pytest.raises(InputError, match="the prior of q must have an upper end, got lognormal"):
        dead_time_qpo.make(pair(), {"q": "lognormal(2, 0.5)"})
    with pytest.raises(InputError, match="got a prior for 'nu'"):
        dead_time_qpo.make(pair(), {"nu": "uniform(5, 40)"})


def test_counts_of_all_detectors_and_their_live_time_are_enough(problem, draws):
    """The Cox process takes the sum over detectors, as the host makes it."""
    data = jax.tree.map(lambda leaf: leaf[0], draws[0])
    joined = LiveBins(counts=data.counts.sum(axis=0), live=data.live)
    z = jnp.zeros(problem.cox(data).n_latent)
    found = [source().cox(bins).log_joint(scalars(THETA), z) for bins in (data, joined)]
    assert found[0] == found[1]
