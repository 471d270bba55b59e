"""Random rates: the simulators' own draws, dense algebra, quadrature over the latent vector, and calibration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sbc
from scipy import special, stats

from eagleray.inference.latent import LatentTarget, cox_target
from eagleray.inference.samplers import nuts
from eagleray.likelihoods.cox import CoxProcess, LogNormalRate
from eagleray.likelihoods.live_time import LiveBins, live_bins, live_events, live_log_likelihood
from eagleray.priors import Prior
from eagleray.records import EventList, TimeGrid
from eagleray.simulators.lognormal import log_normal_rate, log_spectrum
from eagleray.simulators.normals import complex_normals
from eagleray.simulators.observe.dead_time import live_time as simulated_live_time
from eagleray.simulators.observe.events import bin_events, event_capacity
from eagleray.simulators.observe.time_change import cumulative_rate, recorded_events_from_rate

THETA = {"rate": 40.0, "rms": 0.4, "freq": 1.5}


def bump(freq, theta):
    """A spectrum whose integral over a fine grid is about rms^2."""
    score = (freq - theta["freq"]) / 0.4
    return theta["rms"] ** 2 / (0.4 * np.pi) / (1.0 + score * score)


def scalars(dtype=jnp.float32):
    return {name: jnp.asarray(value, dtype) for name, value in THETA.items()}


@pytest.mark.parametrize("n_bins", [64, 63])
def test_rates_are_those_of_the_simulators(n_bins):
    grid = TimeGrid(n_bins=n_bins, dt=0.1)
    of_rate = lambda freq, theta: log_spectrum(bump(freq, theta), n_bins, grid.dt)  # noqa: E731
    process = LogNormalRate(spectrum=of_rate, grid=grid)
    assert process.n_latent == n_bins - 1
    theta, key = scalars(), jax.random.key(1)
    power = bump(jnp.asarray(process.freq, jnp.float32), theta)
    expected = jax.jit(log_normal_rate, static_argnums=(3, 4))(key, power, theta["rate"], n_bins, grid.dt)
    # The simulator draws a number for zero frequency too, and an imaginary part at Nyquist.
    real, imaginary = complex_normals(key, n_bins // 2 + 1, jnp.float32)
    z = jnp.concatenate([real[1:], imaginary[1 : n_bins // 2 + 1 - (n_bins % 2 == 0)]])
    np.testing.assert_allclose(jnp.exp(jax.jit(process.log_rate)(theta, z)), expected, rtol=2e-5)


@pytest.mark.parametrize(("n_bins", "n_freq"), [(32, None), (31, None), (32, 9)])
def test_ln_rate_has_the_covariance_of_its_spectrum(n_bins, n_freq):
    grid = TimeGrid(n_bins=n_bins, dt=0.1)
    process = LogNormalRate(spectrum=bump, grid=grid, n_freq=n_freq)
    with jax.enable_x64(True):
        theta = scalars(float)
        matrix = np.asarray(jax.jit(jax.jacfwd(process.log_rate, argnums=1))(theta, jnp.zeros(process.n_latent)))
        power = np.array(bump(process.freq, theta))
        power[process.n_varying :] = 0.0
        lags = np.fft.irfft(np.concatenate([[0.0], power / (2.0 * grid.dt)]), n_bins)
        index = np.subtract.outer(np.arange(n_bins), np.arange(n_bins)) % n_bins
        np.testing.assert_allclose(matrix @ matrix.T, lags[index], atol=1e-12)
        # The mean is the expectation: exp(variance / 2) is taken off.
        middle = jax.jit(process.log_rate)(theta, jnp.zeros(process.n_latent))
        np.testing.assert_allclose(middle, np.log(THETA["rate"]) - 0.5 * lags[0], rtol=1e-12)


def test_joint_density_of_counts_is_poisson_times_normal():
    grid = TimeGrid(n_bins=20, dt=0.25)
    rng = np.random.default_rng(0)
    exposure = rng.uniform(0.3, 1.0, grid.n_bins)
    exposure[5:8] = 0.0
    counts = rng.poisson(10.0 * exposure)
    with jax.enable_x64(True):
        bins = LiveBins(counts=jnp.asarray(counts, float), live=jnp.asarray(exposure * grid.dt))
        process = CoxProcess(rate=LogNormalRate(spectrum=bump, grid=grid), bins=bins, background=2.5)
        z, theta = jnp.asarray(rng.normal(size=process.n_latent)), scalars(float)
        expected = np.exp(jax.jit(process.log_rate)(theta, z)) + 2.5
        seen = exposure > 0
        reference = stats.poisson.logpmf(counts[seen], (expected * exposure * grid.dt)[seen]).sum()
        # What depends on the data alone is left out.
        constant = stats.poisson.logpmf(counts[seen], exposure[seen] * grid.dt).sum() + (exposure * grid.dt).sum()
        latent = stats.norm.logpdf(np.asarray(z)).sum()
        np.testing.assert_allclose(jax.jit(process.log_joint)(theta, z), reference - constant + latent, rtol=1e-10)


def test_joint_density_of_events_is_the_live_time_likelihood():
    grid = TimeGrid(n_bins=16, dt=0.25)
    events = EventList(times=np.asarray([0.1, 0.9, 1.3, 2.2, 3.3, 3.9]), gti=np.asarray([[0.0, 1.5], [2.0, 4.0]]))
    with jax.enable_x64(True):
        process = CoxProcess(rate=LogNormalRate(spectrum=bump, grid=grid), bins=live_bins(events, 0.3, grid))
        z, theta = jnp.asarray(np.random.default_rng(1).normal(size=process.n_latent)), scalars(float)
        log_rate = jax.jit(process.log_rate)(theta, z)
        total = jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.exp(log_rate) * grid.dt)])
        edges = jnp.arange(grid.n_bins + 1) * grid.dt
        expected = live_log_likelihood(
            live_events(events, 0.3),
            lambda t: log_rate[(t / grid.dt).astype(int)],
            lambda start, stop: jnp.interp(stop, edges, total) - jnp.interp(start, edges, total),
        )
        np.testing.assert_allclose(jax.jit(process.log_likelihood)(theta, z), expected, rtol=1e-10)


def test_marginal_likelihood_is_that_of_a_multivariate_normal():
    """Three bins have one frequency and two latent numbers: quadrature over them against draws of the dense normal."""
    grid = TimeGrid(n_bins=3, dt=0.5)
    counts = np.asarray([9.0, 26.0, 22.0])
    with jax.enable_x64(True):
        bins = LiveBins(counts=jnp.asarray(counts), live=jnp.full(3, grid.dt))
        process = CoxProcess(rate=LogNormalRate(spectrum=bump, grid=grid), bins=bins)
        theta = scalars(float) | {"freq": jnp.asarray(0.7)}
        nodes = np.linspace(-9.0, 9.0, 121)
        z = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
        joint = np.asarray(jax.jit(jax.vmap(process.log_joint, in_axes=(None, 0)))(theta, z))
        power = float(bump(process.rate.freq, theta)[0])
    found = special.logsumexp(joint) + 2.0 * np.log(nodes[1] - nodes[0])
    variance = power / (3 * grid.dt)
    covariance = variance * np.cos(2.0 * np.pi * np.subtract.outer(np.arange(3), np.arange(3)) / 3)
    rng = np.random.default_rng(2)
    series = rng.multivariate_normal(np.zeros(3), covariance, 400_000, method="eigh", check_valid="ignore")
    expected = THETA["rate"] * np.exp(series - 0.5 * variance) * grid.dt
    density = np.exp(stats.poisson.logpmf(counts, expected).sum(axis=1))
    constant = stats.poisson.logpmf(counts, grid.dt).sum() + 3 * grid.dt
    assert abs(found + constant - np.log(density.mean())) < 5.0 * density.std() / np.sqrt(len(density)) / density.mean()


def test_gradients_where_there_is_no_power():
    grid = TimeGrid(n_bins=32, dt=0.1)
    cut = lambda freq, theta: jnp.where(freq < 2.0, bump(freq, theta), 0.0)  # noqa: E731
    bins = LiveBins(counts=jnp.full(32, 4.0), live=jnp.full(32, 0.1))
    process = CoxProcess(rate=LogNormalRate(spectrum=cut, grid=grid), bins=bins)
    few = CoxProcess(rate=LogNormalRate(spectrum=bump, grid=grid, n_freq=6), bins=bins)  # 0.3125 Hz apart
    z = jax.random.normal(jax.random.key(3), (process.n_latent,))
    value, gradients = jax.jit(jax.value_and_grad(process.log_joint, argnums=(0, 1)))(scalars(), z)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    kept = jnp.concatenate([z[:6], z[16:22]])
    ours, theirs = jax.jit(few.log_likelihood)(scalars(), kept), jax.jit(process.log_likelihood)(scalars(), z)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    many = jax.jit(jax.vmap(process.log_joint, in_axes=(None, 0)))(scalars(), jnp.stack([z, -z]))
    np.testing.assert_allclose(many[0], value, rtol=1e-6)


def test_shapes_that_do_not_fit_are_refused():
    grid = TimeGrid(n_bins=8, dt=1.0)
    rate = LogNormalRate(spectrum=bump, grid=grid)
    with pytest.raises(ValueError, match="n_freq must be between 1 and 4"):
        LogNormalRate(spectrum=bump, grid=grid, n_freq=5)
    with pytest.raises(ValueError, match=r"z must have shape \(7,\)"):
        rate.log_rate(scalars(), jnp.zeros(8))
    with pytest.raises(ValueError, match=r"spectrum must return shape \(4,\)"):
        LogNormalRate(spectrum=lambda freq, theta: freq[:2], grid=grid).log_rate(scalars(), jnp.zeros(7))
    with pytest.raises(ValueError, match=r"bins must have shape \(8,\)"):
        CoxProcess(rate=rate, bins=LiveBins(counts=jnp.zeros(7), live=jnp.zeros(7)))


PRIOR = Prior({"rate": "uniform(10, 100)", "rms": "uniform(0.05, 0.6)", "freq": "fixed(0.5)"})


def steady_target():
    """Equal counts, 240 in 6 s."""
    grid = TimeGrid(n_bins=12, dt=0.5)
    bins = LiveBins(counts=jnp.full(12, 20.0), live=jnp.full(12, 0.5))
    return cox_target(PRIOR, CoxProcess(rate=LogNormalRate(spectrum=bump, grid=grid), bins=bins))


def test_a_sampler_gets_one_flat_vector():
    target = steady_target()
    start = target.initial(jax.random.key(4), 2)
    assert target.names == ("rate", "rms")
    assert start.shape == (2, 2 + target.n_latent)
    theta, z = target.split(start[0])
    np.testing.assert_allclose(target.join(theta, z), start[0], rtol=1e-4, atol=1e-5)
    expected = target.log_joint(theta, z) + PRIOR.log_prob(theta) + PRIOR.log_det(start[0][:2])
    np.testing.assert_allclose(jax.jit(target.log_density)(start[0]), expected, rtol=1e-6)
    draws = target.parameters(jnp.stack([start, start, start]))
    assert {name: values.shape for name, values in draws.items()} == dict.fromkeys(PRIOR.all_names, (3, 2))
    np.testing.assert_allclose(draws["rate"][1, 0], theta["rate"], rtol=1e-6)
    with pytest.raises(ValueError, match="position must have shape"):
        target.split(start[0][:-1])
    assert isinstance(target, LatentTarget)


@pytest.mark.slow
def test_nuts_samples_it():
    target = steady_target()
    start = target.initial(jax.random.key(4), 2)
    chains = nuts(jax.random.key(5), target.log_density, start, n_warmup=200, n_draws=300)
    draws = target.parameters(jnp.asarray(chains.positions))
    assert abs(draws["rate"].mean() - 40.0) < 4.0
    assert draws["rms"].mean() < 0.2


# A small relative of Huppenkothen & Bachetti's set-up: 1 s, two detectors, half of the events lost. The latent numbers
# are parameters of their own here, so that calibration sees all.
GRID = TimeGrid(n_bins=64, dt=1.0 / 64)
DEAD_TIME, N_DETECTORS, N_FREQ = 2.5e-3, 2, 12
QPO = {"rate": "uniform(200, 600)", "rms": "uniform(0.1, 0.6)", "freq": "uniform(3, 8)"}
LATENT = tuple(f"z{i}" for i in range(2 * N_FREQ))
QPO_PRIOR = Prior(QPO | dict.fromkeys(LATENT, "normal(0, 1)"))
CAPACITY = event_capacity(2.0 / (DEAD_TIME + 1.0 / 600.0))
QPO_RATE = LogNormalRate(spectrum=lambda freq, theta: 2.0 * bump(freq, theta), grid=GRID, n_freq=N_FREQ)


def latent_of(theta):
    return jnp.stack([theta[name] for name in LATENT])


def observe(key, theta):
    rate = jnp.exp(QPO_RATE.log_rate(theta, latent_of(theta)))

    def detector(key):
        events = recorded_events_from_rate(key, cumulative_rate(rate, GRID), jnp.float32(DEAD_TIME), CAPACITY)
        live = simulated_live_time(events.times, DEAD_TIME, jnp.ones(CAPACITY, bool), GRID)
        return bin_events(events.times, GRID), live

    counts, live = jax.vmap(detector)(jax.random.split(key, N_DETECTORS))
    return LiveBins(counts=counts.sum(axis=0), live=live.sum(axis=0))


def cox_log_likelihood(theta, bins):
    return CoxProcess(rate=QPO_RATE, bins=bins).log_likelihood(theta, latent_of(theta))


def forgetful_log_likelihood(theta, bins):
    """As if the detectors had never been dead."""
    return cox_log_likelihood(theta, LiveBins(counts=bins.counts, live=jnp.full_like(bins.live, N_DETECTORS * GRID.dt)))


@pytest.mark.slow
def test_posterior_of_a_qpo_behind_dead_time_is_calibrated():
    ranks = sbc.ranks(jax.random.key(6), QPO_PRIOR, observe, cox_log_likelihood, n_simulations=300)
    sbc.assert_uniform(ranks[:, : len(QPO)])
    sbc.assert_uniform(ranks)


@pytest.mark.slow
def test_calibration_betrays_a_forgotten_dead_time():
    ranks = sbc.ranks(jax.random.key(6), QPO_PRIOR, observe, forgetful_log_likelihood, n_simulations=100)
    sbc.assert_not_uniform(ranks[:, : len(QPO)])
