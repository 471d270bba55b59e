"""Dead times that scatter: intervals and their likelihood against SciPy's ex-Gaussian, and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from score_checks import scores_of

from eagleray.errors import InputError
from eagleray.problems import variable_dead_time
from eagleray.records import EventList

THETA = {"rate": 500.0, "dead_time": 2.4e-3, "dead_time_sd": 2.5e-4}
OTHER = {"rate": 150.0, "dead_time": 2.9e-3, "dead_time_sd": 0.8e-4}


def law(theta):
    sd = theta["dead_time_sd"]
    return stats.exponnorm(K=1.0 / (theta["rate"] * sd), loc=theta["dead_time"], scale=sd)


def events_of(n, seed=0, gaps=0) -> EventList:
    times = 3.0 + np.concatenate([[0.0], np.cumsum(law(THETA).rvs(n, random_state=seed))])
    edges = np.linspace(times[0], times[-1] + 1e-3, gaps + 2)
    return EventList(times=times, gti=np.stack([edges[:-1], edges[1:]], 1), start=1e8, source="made up")


@pytest.fixture(scope="module")
def problem():
    return variable_dead_time.make(events_of(300))


@pytest.fixture(scope="module")
def scores(problem):
    return scores_of(problem, n=600)


@pytest.mark.parametrize("theta", [THETA, OTHER])
def test_likelihood_is_that_of_the_simulator(scores, theta):
    found = scores(theta)
    assert found.mean < 4.5  # false alarm 2e-5 for three parameters
    assert found.information < 4.5  # 4e-5


def test_likelihood_that_is_wrong_about_the_dead_time_is_found_out(problem):
    def sharper(theta, data):
        return problem.log_likelihood(theta | {"dead_time_sd": 0.9 * theta["dead_time_sd"]}, data + 1e-5)

    found = scores_of(problem, n=1000, log_likelihood=sharper)(THETA)
    assert found.mean > 8.0
    assert found.information > 5.0


def test_simulator_and_likelihood_are_scipys(problem):
    names = problem.prior.names
    simulate = jax.jit(jax.vmap(problem.simulate, in_axes=(0, None)))
    likelihood = jax.jit(problem.log_likelihood)
    for theta in (THETA, OTHER):
        given = {name: jnp.float32(theta[name]) for name in names}
        data = simulate(jax.random.split(jax.random.key(1), 30), given)
        assert data.shape == (30, 300)
        assert stats.kstest(np.asarray(data).ravel(), law(theta).cdf).pvalue > 1e-5
        expected = law(theta).logpdf(np.asarray(data[0], float)).sum() + 300 * np.log(2.54e-3)
        np.testing.assert_allclose(likelihood(given, data[0]), expected, atol=5e-3)


def test_data_are_the_intervals_of_the_observation():
    events = events_of(1600, gaps=2)
    problem = variable_dead_time.make(events)
    assert problem.observed.shape == (1598,)
    assert np.isin(np.asarray(problem.observed), np.diff(events.times).astype(np.float32)).mean() > 0.99
    order = problem.summary(problem.observed[::-1])
    np.testing.assert_allclose(problem.summary(problem.observed), order, atol=2e-6)
    x = np.asarray(problem.summary(problem.observed))
    shown = problem.summary.shown(x)
    np.testing.assert_allclose(shown[0], 1e3 * problem.observed.min(), rtol=1e-5)
    assert len(problem.summary.names) == x.size
    assert np.isfinite(x).all()
    # Beyond the dead times an interval has no memory.
    excess = x[[name.startswith("log_excess") for name in problem.summary.names]]
    np.testing.assert_allclose(np.exp(excess[-1]) * 2.54e-3, 1 / 500.0, rtol=0.2)


def test_prior_and_settings(problem):
    assert list(problem.prior.names) == ["rate", "dead_time", "dead_time_sd"]
    standard = variable_dead_time.make(variable_dead_time.standard())
    assert standard.observed.shape == (1500,)
    assert standard.prior.lower_end("rate") < 400 / 3 < 400 * 3 < standard.prior.upper_end("rate")
    assert standard.prior.lower_end("dead_time") < 2.54e-3 < standard.prior.upper_end("dead_time")
    other = variable_dead_time.make(events_of(300), {"dead_time_sd": "fixed(0.0002)"}, dead_time=2e-3)
    assert other.prior.names == ("rate", "dead_time")
    assert other.prior.texts["dead_time"] == "uniform(0.0014, 0.0026)"
    assert other.signature() != problem.signature()


def test_what_does_not_suit_is_refused():
    make, events = variable_dead_time.make, events_of(300)
    with pytest.raises(InputError, match="takes the events of one detector, got tuple"):
        make((events, events))  # pyright: ignore
    with pytest.raises(InputError, match="at least 100 intervals between events, got 50"):
        make(events_of(50))
    with pytest.raises(InputError, match="got 4 with 297 intervals between events; keep the 1 longest"):
        make(events_of(300, gaps=3))
    with pytest.raises(InputError, match="shorter than the mean interval between events"):
        make(events, dead_time=0.01)
    with pytest.raises(InputError, match="dead_time must be positive"):
        make(events, dead_time=float("nan"))
    with pytest.raises(InputError, match="two at the same; take one detector alone"):
        make(EventList(times=np.repeat(events.times, 2), gti=events.gti), dead_time=1e-3)
    with pytest.raises(InputError, match=r"must keep the mean dead time 4\.5 standard deviations above zero"):
        make(events, {"dead_time_sd": "uniform(0.0001, 0.001)"})
    with pytest.raises(InputError, match="times must be sorted"):
        make(EventList(times=events.times[::-1], gti=events.gti))
