"""Few counts: the simulator's moments are those of the Cox process, and its posterior is calibrated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sbc
from scipy import stats

from eagleray.errors import InputError
from eagleray.priors import Prior
from eagleray.problems import few_counts
from eagleray.problems.windows import steady_light_curve
from eagleray.records import LightCurve, TimeGrid

N_BINS, DT = 96, 2.0
LAGS = (1, 4, 16)
POINTS = (
    {"rms": 0.4, "timescale": 6.0, "rate": 0.6},
    {"rms": 0.9, "timescale": 3.0, "rate": 0.3},
)


@pytest.fixture(scope="module")
def problem():
    return few_counts.make(steady_light_curve(N_BINS, DT, rate=0.6))


def scalars(theta):
    return {name: jnp.float32(value) for name, value in theta.items()}


@pytest.fixture(scope="module")
def simulations(problem):
    """Counts (3000, n_bins) at each point."""
    simulate = jax.jit(jax.vmap(problem.simulate, in_axes=(0, None)))
    keys = jax.random.split(jax.random.key(1), 3000)
    return [np.asarray(simulate(keys, scalars(theta)), np.float64) for theta in POINTS]


def covariance_of_log_rate(problem, theta):
    """Covariance of ln rate between the first bin and each, and its mean, from the Cox process's own latent vector."""
    process = problem.cox(problem.observed).rate
    log_rate = jax.jit(lambda z: process.log_rate(scalars(theta), z))
    origin = jnp.zeros(process.n_latent)
    matrix = np.asarray(jax.jit(jax.jacfwd(log_rate))(origin), np.float64)
    return matrix @ matrix[0], float(log_rate(origin)[0])


def log_normal_moments(covariance, log_mean):
    """Expected counts, and the covariance of expected counts at each lag, of an exponential of a Gaussian process."""
    mean = DT * np.exp(log_mean + 0.5 * covariance[0])
    return mean, mean**2 * np.expm1(covariance)


def scores(counts, mean, covariance):
    """How many standard errors sample mean, variance and covariances are off, each simulation one draw of all."""
    off = counts - mean
    found = [off.mean(axis=1), (off**2).mean(axis=1) - mean - covariance[0]]
    found += [(off * np.roll(off, lag, axis=1)).mean(axis=1) - covariance[lag] for lag in LAGS]
    return np.array([one.mean() / one.std() * np.sqrt(len(one)) for one in found])


def test_counts_have_the_moments_of_the_cox_process(problem, simulations):
    for theta, counts in zip(POINTS, simulations, strict=True):
        z = scores(counts, *log_normal_moments(*covariance_of_log_rate(problem, theta)))
        assert np.abs(z).max() < 5.0, z  # ten numbers: false alarm 6e-6


def test_moments_betray_a_wrong_process(problem, simulations):
    theta, counts = POINTS[1], simulations[1]
    covariance, log_mean = covariance_of_log_rate(problem, theta)
    mean, _ = log_normal_moments(covariance, log_mean)
    # As if the rate itself, not its logarithm, were Gaussian; and with a memory that is too long.
    assert np.abs(scores(counts, mean, mean**2 * covariance)).max() > 5.0
    longer = covariance_of_log_rate(problem, theta | {"timescale": 4.5})
    assert np.abs(scores(counts, *log_normal_moments(*longer))).max() > 5.0


def test_ln_rate_is_a_damped_random_walk():
    """On a long and fine grid the covariance is that of the textbook: sigma^2 exp(-lag / timescale)."""
    grid, theta = TimeGrid(n_bins=8192, dt=0.5), {"rms": 0.7, "timescale": 20.0}
    freq = np.fft.rfftfreq(grid.n_bins, grid.dt)[1:]
    power = np.asarray(few_counts.log_spectrum(jnp.asarray(freq, jnp.float32), scalars(theta), grid.n_bins, grid.dt))
    covariance = np.fft.irfft(np.concatenate([[0.0], power]) / (2.0 * grid.dt), grid.n_bins)
    lags = np.array([0, 20, 40, 80])
    expected = np.log1p(0.7**2) * np.exp(-lags * grid.dt / 20.0)
    np.testing.assert_allclose(covariance[lags], expected, atol=0.02 * expected[0])
    np.testing.assert_allclose(covariance[0], expected[0], rtol=1e-4)


def gappy(background=0.3):
    """Counts with a gap, half-watched bins and background."""
    rng = np.random.default_rng(0)
    exposure = np.ones(64)
    exposure[20:30], exposure[40:44] = 0.0, 0.5
    expected = background * exposure
    values = rng.poisson(1.5 * exposure + expected)
    return LightCurve(
        values=values, exposure=exposure, background=expected, error=None, grid=TimeGrid(n_bins=64, dt=50.0)
    )


def test_joint_density_is_poisson_times_normal_with_gaps_and_background():
    observation = gappy()
    with jax.enable_x64(True):
        problem = few_counts.make(observation)
        process = problem.cox(problem.observed)
        theta = {"rms": jnp.asarray(0.5), "timescale": jnp.asarray(120.0), "rate": jnp.asarray(0.03)}
        draws = np.random.default_rng(1).normal(size=(2, process.n_latent))
        both = jax.jit(lambda z: (process.log_joint(theta, z), process.log_rate(theta, z)))
        joint, log_rates = zip(*(jax.device_get(both(jnp.asarray(z))) for z in draws), strict=True)
        rates = [np.exp(log_rate) for log_rate in log_rates]
    seen = observation.exposure > 0
    expected = [(rate * observation.exposure * 50.0 + observation.background)[seen] for rate in rates]
    reference = [
        stats.poisson.logpmf(observation.values[seen], mean).sum() + stats.norm.logpdf(z).sum()
        for mean, z in zip(expected, draws, strict=True)
    ]
    np.testing.assert_allclose(joint[1] - joint[0], reference[1] - reference[0], rtol=1e-5)


def test_nothing_is_seen_in_gaps():
    problem = few_counts.make(gappy())
    counts = jax.jit(problem.simulate)(jax.random.key(2), scalars({"rms": 0.5, "timescale": 120.0, "rate": 0.03}))
    assert counts[20:30].sum() == 0
    assert counts.sum() > 0


def test_summary_is_finite_whatever_was_counted(problem):
    summary = jax.jit(problem.summary)
    one = jnp.zeros(N_BINS).at[3].set(1.0)
    for counts in (jnp.zeros(N_BINS), one, 100.0 * one, jnp.ones(N_BINS)):
        assert jnp.isfinite(summary(counts)).all()
    features = np.asarray(summary(problem.observed))
    assert features.shape == (len(problem.summary.names),)
    shown = problem.summary.shown(features)
    assert shown.shape == problem.summary.panel.axis.shape


def test_priors_and_settings(problem):
    assert problem.prior.texts["rate"] == "loguniform(0.24, 1.5)"
    other = few_counts.make(gappy(), {"rms": "fixed(0.5)"}, rebin=0.3)
    assert other.prior.names == ("timescale", "rate")
    assert other.settings == {"rebin": 0.3}
    assert len(other.summary.names) < len(few_counts.make(gappy()).summary.names)
    assert few_counts.make(gappy(), rebin=0.3).signature()["summary"] != problem.signature()["summary"]
    assert few_counts.standard().values.mean() == pytest.approx(1.2)


def test_what_does_not_suit_is_refused(make_rates, problem):
    few = steady_light_curve(6, DT, rate=0.6)
    dark = LightCurve(**{**vars(gappy()), "background": np.full(64, 9.0)})
    for observation, message in (
        (make_rates(), "needs counts per bin, got kind='rate'; use bending_power_law"),
        (few, "at least 8 exposed bins, got 6; use a smaller dt"),
        (dark, "more counts than background"),
    ):
        with pytest.raises(InputError, match=message):
            few_counts.make(observation)
    with pytest.raises(InputError, match="rebin must be at least 0, got -1"):
        few_counts.make(gappy(), rebin=-1)
    with pytest.raises(InputError, match="has the parameters rms, timescale, rate, got a prior for 'slope'"):
        few_counts.make(gappy(), {"slope": "uniform(0, 1)"})
    with pytest.raises(InputError, match="must not reach below 0"):
        few_counts.make(gappy(), {"timescale": "normal(100, 10)"})


SHORT = steady_light_curve(40, DT, rate=1.0)


def sampled_ranks(likelihood_of, n_simulations):
    """Ranks of the parameters, the latent vector sampled along."""
    problem = few_counts.make(SHORT)
    latent = [f"z{i}" for i in range(problem.cox(problem.observed).n_latent)]
    prior = Prior({**problem.prior.texts, **dict.fromkeys(latent, "normal(0, 1)")})
    vector = lambda theta: jnp.stack([theta[name] for name in latent])  # noqa: E731
    log_likelihood = lambda theta, data: likelihood_of(problem, data).log_likelihood(theta, vector(theta))  # noqa: E731
    ranks = sbc.ranks(jax.random.key(3), prior, problem.simulate, log_likelihood, n_simulations=n_simulations)
    return ranks[:, : len(problem.prior.names)]


@pytest.mark.slow
def test_posterior_by_the_latent_rate_is_calibrated():
    sbc.assert_uniform(sampled_ranks(lambda problem, data: problem.cox(data), 200))


@pytest.mark.slow
def test_calibration_betrays_a_wrong_bin_width():
    twice = few_counts.make(steady_light_curve(40, 2 * DT, rate=1.0))
    sbc.assert_not_uniform(sampled_ranks(lambda _, data: twice.cox(data), 100))
