"""Poisson counts have the Poisson law at every mean; light curves get their gaps, background and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from eagleray.simulators.observe import poisson as module
from eagleray.simulators.observe.noise import fit_rate_errors, noisy_rates, poisson_counts
from eagleray.simulators.observe.poisson import poisson

N_DRAWS = 300_000
DRAW = jax.jit(lambda key, mean: poisson(key, jnp.full(N_DRAWS, mean)))


def goodness_of_fit(counts, mean):
    """Chi-squared p-value of counts against the Poisson law, in at most 60 cells of 30 or more expected counts."""
    law = stats.poisson(mean)
    edges = np.unique(law.ppf(np.linspace(0.0, 1.0, 61)[1:-1]))
    cumulative = np.concatenate([[0.0], law.cdf(edges), [1.0]])
    expected = np.diff(cumulative) * counts.size
    observed = np.bincount(np.searchsorted(edges, counts), minlength=edges.size + 1)
    keep = expected >= 30
    observed = np.append(observed[keep], observed[~keep].sum())
    expected = np.append(expected[keep], expected[~keep].sum())
    full = expected > 0
    assert observed[~full].sum() == 0
    return stats.chisquare(observed[full], expected[full] / expected.sum() * counts.size).pvalue


@pytest.mark.parametrize("mean", [0.01, 0.3, 3.0, 7.99, 8.0, 30.0, 1e3, 1e5])
def test_law(mean):
    counts = np.asarray(DRAW(jax.random.key(int(100 * mean)), mean))
    assert (counts == np.floor(counts)).all()
    assert counts.min() >= 0
    assert goodness_of_fit(counts, np.float64(np.float32(mean))) > 1e-5  # false alarm 1e-5 for each mean
    score = (counts.astype(np.float64).mean() - mean) / np.sqrt(mean / N_DRAWS)
    assert abs(score) < 5.0  # false alarm 6e-7


@pytest.mark.parametrize("mean", [3.0, 30.0, 1e3])
def test_a_mean_off_by_one_per_cent_fails(mean):
    assert goodness_of_fit(np.asarray(DRAW(jax.random.key(9), 1.01 * mean)), mean) < 1e-5


def test_rare_counts_have_the_right_frequency():
    """The upper tail at a mean of 3, where terms are summed: P(N >= 12) = 7.1e-5."""
    counts = np.concatenate([np.asarray(DRAW(key, 3.0)) for key in jax.random.split(jax.random.key(3), 10)])
    expected = stats.poisson(3.0).sf(11) * counts.size
    assert abs((counts >= 12).sum() - expected) < 5.0 * np.sqrt(expected)  # false alarm 1e-6


def test_coefficients_are_the_chebyshev_fits_they_say():
    def f(r):
        return np.sign(r - 1.0) * np.sqrt(2.0 * (1.0 - r + r * np.log(r)))

    def inverse(s):
        return np.array([optimize.brentq(lambda r, v=v: f(r) - v, 1e-8, 20.0, xtol=1e-15, rtol=1e-14) for v in s])

    def ratio(s):
        return (inverse(s) - 1.0 - s) / s**2

    def shift(s):
        r = inverse(s)
        return np.log(s * np.sqrt(r) / (r - 1.0)) / np.log(r)

    domain = np.array([-1.3, 1.75])
    nodes = domain.mean() + 0.5 * np.ptp(domain) * np.cos(np.pi * (np.arange(400) + 0.5) / 400)
    for function, stored in ((ratio, module._RATIO), (shift, module._SHIFT)):
        values = function(nodes)
        fit = np.polynomial.Chebyshev.fit(nodes, values, 11, domain=domain)
        np.testing.assert_allclose(stored, fit.convert(kind=np.polynomial.Polynomial).coef, rtol=2e-9, atol=1e-9)
        np.testing.assert_allclose(np.polynomial.Polynomial(stored)(nodes), values, atol=1e-4)


def test_zero_and_invalid_means():
    counts = jax.jit(poisson)(jax.random.key(0), jnp.array([0.0, -1.0, jnp.nan, -1e-30]))
    assert counts[0] == 0
    assert np.isnan(counts[1:]).all()


def test_strict_mode_keeps_shape_and_dtype(strict):
    counts = jax.jit(poisson)(jax.random.key(0), jnp.full((3, 4), 20.0, jnp.float32))
    assert (counts.shape, counts.dtype) == ((3, 4), jnp.float32)
    with jax.enable_x64(True):
        assert jax.jit(poisson)(jax.random.key(0), jnp.full(5, 20.0, jnp.float64)).dtype == jnp.float64


def test_gaps_record_nothing_and_background_is_added(strict):
    n, dt = 4000, 0.5
    exposure = jnp.tile(jnp.array([1.0, 0.5, 0.0, 1.0]), n // 4)
    background = jnp.tile(jnp.array([0.0, 0.0, 3.0, 2.0]), n // 4)
    rate = jnp.full(n, 8.0)
    counts = jax.jit(lambda key: poisson_counts(key, rate, exposure, background, dt))(jax.random.key(1))
    groups = np.asarray(counts, np.float64).reshape(-1, 4)
    assert (groups[:, 2] == 0).all()
    expected = np.array([4.0, 2.0, 6.0])
    score = (groups[:, [0, 1, 3]].mean(axis=0) - expected) / np.sqrt(expected / len(groups))
    assert np.abs(score).max() < 5.0  # false alarm 2e-6
    assert abs(groups[:, 3].mean() - 4.0) / np.sqrt(4.0 / len(groups)) > 5.0  # twin: the background forgotten


def test_error_fit_recovers_floor_and_slope():
    rng = np.random.default_rng(0)
    rate = rng.uniform(0.5, 20.0, 300)
    exposure = np.ones(300)
    exposure[50:80] = 0
    error = np.where(exposure > 0, np.sqrt(0.04 + 0.01 * rate), 0.0)
    errors = fit_rate_errors(rate, error, exposure)
    np.testing.assert_allclose([errors.floor, errors.slope], [0.04, 0.01], rtol=1e-5)
    np.testing.assert_allclose(errors.scale, exposure, rtol=1e-5)
    assert errors.variance_per_rate(4.0) == pytest.approx(0.02, rel=1e-5)


def test_simulated_scatter_equals_the_stated_errors(make_rates):
    observation = make_rates(gap=slice(20, 40))
    # Errors that no floor and slope can follow exactly: the rest goes into the scale of each bin.
    error = observation.error * np.random.default_rng(1).uniform(0.8, 1.25, 200)
    errors = fit_rate_errors(observation.values, error, observation.exposure)
    exposure = jnp.asarray(observation.exposure, jnp.float32)
    n_sim = 2000

    def scores(rate):
        rate = jnp.asarray(rate, jnp.float32)
        draw = jax.jit(jax.vmap(lambda key: noisy_rates(key, rate, errors, exposure)))
        values = np.asarray(draw(jax.random.split(jax.random.key(2), n_sim)), np.float64)
        assert (values[:, 20:40] == 0).all()
        seen = observation.exposure > 0
        variance = ((values - np.asarray(rate)) ** 2).mean(axis=0)[seen] / error[seen] ** 2
        return (variance - 1.0) / np.sqrt(2.0 / n_sim)

    assert np.abs(scores(observation.values)).max() < 6.0  # 180 bins, chi-squared tails: false alarm below 1e-5
    assert np.abs(scores(2.0 * observation.values)).max() > 6.0  # twin: a brighter source scatters more
