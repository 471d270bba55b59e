"""Bursts: likelihood and simulator are one law, the rate is the textbook's, evidence tells whether it rings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from score_checks import scores_of

from eagleray.errors import InputError
from eagleray.inference.log_density import Target
from eagleray.inference.samplers import sample
from eagleray.likelihoods.poisson import poisson
from eagleray.problems import burst
from eagleray.problems.windows import steady_light_curve
from eagleray.records import LightCurve, TimeGrid

BURST = {"amplitude": 6e3, "peak": 0.21, "rise": 0.06, "decay": 0.08, "background": 150.0}
QPO = {**BURST, "cosine": 0.4, "sine": -0.3, "freq": 50.0, "damping": 0.15}
OTHER = {"amplitude": 1.2e4, "peak": 0.29, "rise": 0.04, "decay": 0.12, "background": 400.0}
OTHER_QPO = {**OTHER, "cosine": -0.1, "sine": 0.5, "freq": 80.0, "damping": 0.12}
CASES = {"burst": (BURST, OTHER), "burst_qpo": (QPO, OTHER_QPO)}


@pytest.fixture(scope="module")
def problems():
    return {name: entry.make(burst.standard()) for name, entry in burst.ENTRIES.items()}


def scalars(theta):
    return {name: jnp.float32(value) for name, value in theta.items()}


@pytest.mark.parametrize("name", ["burst", "burst_qpo"])
def test_likelihood_belongs_to_the_simulator(problems, name):
    scores = scores_of(problems[name])
    for theta in CASES[name]:
        found = scores(theta)
        # 54 entries of the QPO at each point: false alarm 1e-3 in all for normal sums.
        assert found.mean < 5.0
        assert found.information < 5.0


def test_scores_betray_an_oscillation_that_lasts_too_long(problems):
    problem = problems["burst_qpo"]

    def wrong(position, counts):
        theta = problem.prior.constrain(position)
        return problem.log_likelihood(theta | {"damping": 1.5 * theta["damping"]}, counts)

    @jax.jit
    def scores(position, keys):
        data = jax.vmap(problem.simulate, in_axes=(0, None))(keys, problem.prior.constrain(position))
        return jax.vmap(jax.grad(wrong), in_axes=(None, 0))(position, data)

    found = np.asarray(scores(problem.prior.unconstrain(scalars(QPO)), jax.random.split(jax.random.key(0), 100)))
    assert np.abs(found.mean(0) / found.std(0)).max() * 10.0 > 5.0


def test_scores_betray_a_forgotten_background(problems):
    problem = problems["burst"]
    times = jnp.asarray(burst.standard().grid.times, jnp.float32)

    def forgetful(theta, counts):
        return poisson(counts, (burst.burst_rate(times, theta) - 0.5 * theta["background"]) * 2e-3)

    assert scores_of(problem, log_likelihood=forgetful, n=100)(BURST).mean > 5.0


def textbook_rate(times, theta, zero):
    """Norris et al. (2005), equation 1, and a damped cosine with a phase."""
    tau_1, tau_2 = theta["rise"] ** 2 / theta["decay"], theta["decay"]
    since = np.maximum(times - theta["peak"] + theta["rise"], 1e-12)
    pulse = np.exp(2.0 * np.sqrt(tau_1 / tau_2) - tau_1 / since - since / tau_2)
    amplitude, phase = np.hypot(theta["cosine"], theta["sine"]), np.arctan2(-theta["sine"], theta["cosine"])
    wave = amplitude * np.cos(2.0 * np.pi * theta["freq"] * (times - zero) + phase) * np.exp(-since / theta["damping"])
    return theta["background"] + theta["amplitude"] * pulse * (1.0 + wave)


@pytest.mark.parametrize("theta", [QPO, OTHER_QPO])
def test_likelihood_is_scipy_s_poisson_of_the_textbook_s_rate(problems, theta):
    grid = burst.standard().grid
    expected = textbook_rate(grid.times, theta, 0.25 * grid.duration) * grid.dt
    counts = np.random.default_rng(0).poisson(expected)
    found = problems["burst_qpo"].log_likelihood(scalars(theta), jnp.asarray(counts, jnp.float32))
    np.testing.assert_allclose(found, stats.poisson.logpmf(counts, expected).sum(), atol=0.01)


def test_a_silent_oscillation_is_none(problems):
    theta = scalars(QPO | {"cosine": 0.0, "sine": 0.0})
    counts = problems["burst"].observed
    ringing, plain = (problems[name].log_likelihood(theta, counts) for name in ("burst_qpo", "burst"))
    np.testing.assert_allclose(ringing, plain, rtol=1e-6)


def test_exposure_and_known_background_are_seen():
    grid = TimeGrid(n_bins=128, dt=4e-3)
    exposure = np.ones(128)
    exposure[50:60], exposure[60:70] = 0.0, 0.5
    background = 2.0 * exposure
    counts = np.random.default_rng(1).poisson(8.0 * exposure + background)
    observation = LightCurve(values=counts, exposure=exposure, background=background, error=None, grid=grid)
    problem = burst.make(observation)
    theta = {"amplitude": 4e3, "peak": 0.13, "rise": 0.03, "decay": 0.04, "background": 200.0}
    rate = np.asarray(burst.burst_rate(jnp.asarray(grid.times, jnp.float32), scalars(theta)), np.float64)
    expected = rate * exposure * grid.dt + background
    reference = stats.poisson.logpmf(counts, expected).sum()
    np.testing.assert_allclose(problem.log_likelihood(scalars(theta), problem.observed), reference, atol=0.01)


def test_likelihood_and_summary_are_finite_over_the_whole_prior(problems):
    for problem in problems.values():

        @jax.jit
        def check(keys, problem=problem):
            theta, data = jax.vmap(problem.draw)(keys)
            others = jnp.roll(data, 1, axis=0).at[0].set(0.0)  # data of other parameters, and none at all
            return jax.vmap(jax.value_and_grad(problem.log_likelihood))(theta, others), jax.vmap(problem.summary)(
                others
            )

        assert all(
            jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(check(jax.random.split(jax.random.key(2), 500)))
        )


def test_summary_finds_the_oscillation(problems):
    problem, grid = problems["burst_qpo"], burst.standard().grid
    theta = OTHER_QPO | {"cosine": 0.5, "sine": 0.3, "damping": 0.2}
    counts = textbook_rate(grid.times, theta, 0.25 * grid.duration) * grid.dt
    x = np.asarray(problem.summary(jnp.asarray(counts, jnp.float32)))
    features = dict(zip(problem.summary.names, x, strict=True))
    low, high = problem.prior.lower_end("freq"), problem.prior.upper_end("freq")
    peak = low + (high - low) / (1.0 + np.exp(-features["logit_peak_freq"]))
    assert abs(peak - theta["freq"]) < 0.2
    # Damped from 0.5 and 0.3 when it starts, of one sign and ratio still.
    assert 0.1 < features["real[+0 / T]"] < 0.5
    assert 0.05 < features["imaginary[+0 / T]"] < 0.3
    shown = problem.summary.shown(x)
    np.testing.assert_allclose(shown.sum(), counts.sum(), rtol=1e-4)


def test_priors_follow_the_observation(problems):
    texts = problems["burst_qpo"].prior.texts
    assert texts["amplitude"] == "loguniform(2000, 20000)"
    assert texts["freq"] == "uniform(29.3, 87.89)"
    wide, narrow = problems["burst"].prior, problems["burst_qpo"].prior
    for name in burst.UNITS:  # a burst that rings is one of those that may not
        assert wide.lower_end(name) <= narrow.lower_end(name) < narrow.upper_end(name) <= wide.upper_end(name)
    longer = burst.make_qpo(steady_light_curve(256, 0.1, rate=50.0), {"sine": "fixed(0)", "peak": "uniform(-2, 5)"})
    assert longer.prior.texts["freq"] == "uniform(1.172, 3.516)"
    assert "sine" not in longer.prior.names


def test_what_does_not_suit_is_refused(make_rates):
    good = burst.standard()
    for name, entry in burst.ENTRIES.items():
        with pytest.raises(InputError, match=f"{name} needs counts per bin, got kind='rate'; give counts"):
            entry.make(make_rates())
        with pytest.raises(InputError, match="at least 64 exposed bins, got 30; use a smaller dt"):
            entry.make(steady_light_curve(30, 0.01, rate=100.0))
        with pytest.raises(InputError, match="more counts than background"):
            entry.make(steady_light_curve(100, 0.01, rate=0.0))
        with pytest.raises(InputError, match="must not reach below 0"):
            entry.make(good, {"decay": "normal(0.1, 0.01)"})
    with pytest.raises(InputError, match="below 1, .* 0.7 for both does"):
        burst.make_qpo(good, {"cosine": "uniform(-0.9, 0.9)"})
    with pytest.raises(InputError, match="below the Nyquist frequency of 250 Hz, .* use a smaller dt"):
        burst.make_qpo(good, {"freq": "uniform(100, 300)"})
    with pytest.raises(InputError, match="got a prior for 'freq'"):
        burst.make(good, {"freq": "uniform(30, 90)"})


@pytest.mark.slow
@pytest.mark.parametrize(("theta", "rings"), [(QPO, True), (QPO | {"cosine": 0.0, "sine": 0.0}, False)])
def test_evidence_tells_whether_it_rings(problems, theta, rings):
    data = jax.jit(problems["burst_qpo"].simulate)(jax.random.key(3), scalars(theta))
    evidence = {}
    for name, problem in problems.items():
        target = Target(problem.prior, lambda theta, problem=problem: problem.log_likelihood(theta, data))
        samples = sample(jax.random.key(4), target, "nested", n_chains=1)
        evidence[name] = samples.log_evidence
    assert (evidence["burst_qpo"] > evidence["burst"] + 5.0) == rings
