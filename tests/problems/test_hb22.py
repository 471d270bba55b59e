"""The published runs: against the published recipe, written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.errors import InputError
from eagleray.problems import hb22
from eagleray.problems.windows import steady_events, steady_light_curve
from eagleray.records import EventList

THETA = {"rms": 0.4, "centre": 12.0, "q": 4.0, "rate": 900.0}
GRS = {"rms": 0.3, "width": 4.0, "qpo": 5.0, "centre": 2.2, "q": 10.0, "harmonic": 0.3, "rate": 90.0}
N = 100


def scalars(theta):
    return {name: jnp.float32(value) for name, value in theta.items()}


def pair(duration=2.0, rate=277.0):
    return steady_events(duration, rate), steady_events(duration, rate)


@pytest.fixture(scope="module")
def problem():
    """Two seconds in segments of one."""
    return hb22.ENTRIES["hb22_lf_averaged"].make(pair())


@pytest.fixture(scope="module")
def features(problem):
    """Summaries (n, n_features) at one point."""
    both = jax.jit(jax.vmap(lambda key: problem.summary(problem.simulate(key, scalars(THETA)))))
    return np.asarray(both(jax.random.split(jax.random.key(0), N)), np.float64)


def published(rng, theta, *, dead_time=2.5e-3, duration=2.0, dt_fine=1e-3, dt=5e-3, exact=True):
    """Huppenkothen & Bachetti's simulator for one QPO, but for its shifts by one bin: powers and ln count rate."""
    n = round(duration / dt_fine)
    freq = np.fft.rfftfreq(n, dt_fine)[1:]
    half = 0.5 * theta["centre"] / theta["q"]
    spectrum = half**2 / (half**2 + (freq - theta["centre"]) ** 2)
    amplitudes = np.sqrt(spectrum) * (rng.normal(size=n // 2) + 1j * rng.normal(size=n // 2))
    series = np.fft.irfft(np.concatenate([[0.0], amplitudes]), n)
    spread = series.std() if exact else np.sqrt(2.0 * spectrum.sum()) * np.sqrt(2.0) / n
    mean = theta["rate"] * dt_fine
    expected = np.maximum((series - series.mean()) / spread * mean * theta["rms"] + mean, 0.0)
    counts = np.zeros(round(duration / dt))
    for _ in range(2):
        drawn = rng.poisson(expected)
        times = np.sort((np.repeat(np.arange(n), drawn) + rng.uniform(size=drawn.sum())) * dt_fine)
        recorded, live_from = [], 0.0
        for time in times:
            if time >= live_from:
                recorded.append(time)
                live_from = time + dead_time
        counts += np.histogram(recorded, len(counts), (0.0, duration))[0]
    segments = counts.reshape(round(duration), -1)
    squared = np.abs(np.fft.rfft(segments)[:, 1 : segments.shape[1] // 2]) ** 2
    power = squared.mean(axis=0) * 2.0 * dt / (segments.mean() ** 2 * segments.shape[1])
    return np.concatenate([power, [np.log(counts.sum() / duration)]])


def difference(ours, theirs):
    """Largest z of the differences of the mean rate, of powers in four bands, and of the scatter at the peak."""
    bands = [slice(0, 8), slice(8, 18), slice(18, 40), slice(40, 99), slice(99, 100)]
    ours, theirs = ([one[:, band].mean(axis=1) for band in bands] for one in (ours, theirs))
    pairs = [*zip(ours, theirs, strict=True), ((ours[1] - ours[1].mean()) ** 2, (theirs[1] - theirs[1].mean()) ** 2)]
    return max(abs(a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / len(b)) for a, b in pairs)


def test_simulations_are_those_of_the_published_recipe(features):
    rng = np.random.default_rng(1)
    theirs = np.stack([published(rng, THETA) for _ in range(N)])
    assert theirs.shape == features.shape
    assert difference(features, theirs) < 5.0  # six numbers: false alarm 4e-6


def test_a_wrong_recipe_is_told(features):
    rng = np.random.default_rng(2)
    assert difference(features, np.stack([published(rng, THETA, dead_time=2.3e-3) for _ in range(N)])) > 5.0
    assert difference(features, np.stack([published(rng, THETA | {"rms": 0.3}) for _ in range(N)])) > 5.0


@pytest.mark.parametrize("name", hb22.RUNS)
def test_every_run_has_its_published_shape(name):
    entry = hb22.ENTRIES[name]
    problem = entry.make(entry.standard())
    n_bins, n_features = {
        "hb22_lf_single": (2000, 1000),
        "hb22_lf_averaged": (2000, 100),
        "hb22_hf_single": (15000, 437),
        "hb22_hf_averaged": (20000, 242),
        "hb22_variable_dead_time": (20000, 242),
        "hb22_grs1915": (144000, 393),
    }[name]
    assert problem.observed.shape == (n_bins,)
    assert tuple(problem.prior.names) == tuple(entry.units)
    theta = scalars(GRS if name == "hb22_grs1915" else THETA)
    data = jax.eval_shape(problem.simulate, jax.random.key(0), theta)
    assert data.shape == (n_bins,)
    assert len(problem.summary.names) == n_features
    assert jax.eval_shape(problem.summary, data).shape == (n_features,)
    assert problem.summary.panel.axis.shape == (n_features - 1,)


def test_priors_are_the_published_ones():
    grs = hb22.ENTRIES["hb22_grs1915"]
    prior = grs.make(grs.standard()).prior
    assert prior.texts["qpo"] == "uniform(0.5, 20)"
    assert hb22.default_prior(pair())["centre"] == "uniform(5, 40)"
    assert hb22.default_prior(pair(), "hb22_variable_dead_time")["q"] == "uniform(5, 30)"


def test_shape_of_grs_1915():
    freq = jnp.asarray([0.001, 2.2, 4.4])
    shape = np.asarray(hb22.grs_1915_shape(freq, scalars(GRS)), np.float64)
    half = 0.5 * 2.2 / 10.0

    def peaked(f, centre, half):
        return half**2 / (half**2 + (f - centre) ** 2)

    f = np.asarray(freq, np.float64)
    expected = peaked(f, 0.0, 2.0) + 5.0 * peaked(f, 2.2, half) + 1.5 * peaked(f, 4.4, half)
    np.testing.assert_allclose(shape, expected, rtol=1e-5)


def test_rate_is_an_extra_feature(problem, features):
    assert problem.summary.names[-1] == "log_rate"
    published_summary = hb22.ENTRIES["hb22_lf_averaged"].make(pair(), with_rate=0)
    assert published_summary.summary.names == problem.summary.names[:-1]
    assert published_summary.signature() != problem.signature()
    found = np.asarray(published_summary.summary(problem.observed))
    np.testing.assert_allclose(found, np.asarray(problem.summary(problem.observed))[:-1], rtol=1e-6)
    np.testing.assert_allclose(np.exp(features[:, -1]).mean(), 2 * 900.0 / (1 + 900.0 * 2.5e-3), rtol=0.05)


def test_dead_times_that_differ_record_what_their_mean_does():
    entry = hb22.ENTRIES["hb22_variable_dead_time"]
    problem = entry.make(pair(1.0), {"rms": "uniform(0.001, 0.5)"}, dt_fine=1e-3, dead_time_sd=5e-4)
    draw = jax.jit(jax.vmap(lambda key: problem.simulate(key, scalars(THETA | {"rms": 1e-3})).sum()))
    recorded = np.asarray(draw(jax.random.split(jax.random.key(3), N)), np.float64)
    expected = 2 * 900.0 / (1.0 + 900.0 * 2.54e-3)
    assert abs(recorded.mean() - expected) < 5.0 * recorded.std() / np.sqrt(N) + 1.0
    assert abs(recorded.mean() - 2 * 900.0 / (1.0 + 900.0 * 2.3e-3)) > 5.0 * recorded.std() / np.sqrt(N)


def test_what_does_not_suit_is_refused():
    averaged, first = hb22.ENTRIES["hb22_lf_averaged"].make, pair()[0]
    short = pair(0.9)
    gappy = EventList(times=first.times, gti=np.array([[0.0, 0.8], [1.0, 2.0]]))
    for observation, message in (
        (first, "hb22_lf_averaged needs the events of two detectors, got 1; use dead_time_qpo"),
        (steady_light_curve(100, 0.02, rate=100.0), "needs event lists, got LightCurve"),
        ((gappy, gappy), "one good time interval common"),
        (short, "a good time interval of 1 s, a segment, got 0.9 s"),
    ):
        with pytest.raises(InputError, match=message):
            averaged(observation)
    for settings, message in (
        ({"dead_time": -1.0}, "dead_time must not be negative"),
        ({"dead_time": 5e-3}, "dead_time must not exceed the shortest interval"),
        ({"dead_time_sd": -1.0}, "dead_time_sd must not be negative"),
        ({"dt_fine": 0.0}, "dt_fine must be positive"),
        ({"with_rate": 0.5}, "with_rate must be 0 or 1, got 0.5"),
    ):
        with pytest.raises(InputError, match=message):
            averaged(pair(), **settings)
    with pytest.raises(InputError, match="got a prior for 'nu'"):
        averaged(pair(), {"nu": "uniform(5, 40)"})
