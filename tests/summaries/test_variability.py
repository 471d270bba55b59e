"""Excess variance is Stingray's or unbiased; moments are SciPy's; gaps change neither."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from stingray import Lightcurve
from stingray.utils import excess_variance as stingray_excess

from eagleray.summaries.variability import excess_variance, expected_scatter, flux_moments

RNG = np.random.default_rng(6)
N = 300
ERRORS = RNG.uniform(0.5, 1.5, N)
VALUES = 10.0 * np.exp(0.2 * RNG.normal(size=N)) + ERRORS * RNG.normal(size=N)
X64 = pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-10), (False, 1e-5)])


@X64
def test_excess_variance_is_stingrays(x64, rtol):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        curve = Lightcurve(np.arange(N) + 0.5, VALUES, err=ERRORS, dt=1.0, err_dist="gauss", gti=[[0, N]])
    with jax.enable_x64(x64):
        function = jax.jit(lambda v, e: excess_variance(v, e, stingray_compat=True))
        ours = function(jnp.asarray(VALUES, float), jnp.asarray(ERRORS, float))
    theirs = [stingray_excess(curve, norm) for norm in ("none", "norm_xs", "fvar")]
    np.testing.assert_allclose(ours, np.ravel(theirs), rtol=rtol)


def test_masked_values_do_not_matter():
    mask = (np.arange(N) < 200).astype(float)
    with jax.enable_x64(True):
        broken = jnp.where(mask > 0, VALUES, 1e3)
        ours = jax.jit(excess_variance)(broken, jnp.asarray(ERRORS), jnp.asarray(mask))
        cut = jax.jit(excess_variance)(jnp.asarray(VALUES[:200]), jnp.asarray(ERRORS[:200]))
        np.testing.assert_allclose(ours, cut, rtol=1e-12)
        moments = jax.jit(flux_moments)
        np.testing.assert_allclose(moments(broken, jnp.asarray(mask)), moments(jnp.asarray(VALUES[:200])))


def test_negative_excess_has_no_rms():
    ours = jax.jit(excess_variance)(jnp.asarray([1.0, 1.1, 0.9]), jnp.ones(3))
    assert ours.normalised < 0
    assert jnp.isfinite(ours.normalised_error)
    assert jnp.isnan(ours.fractional_rms)
    assert jnp.isnan(ours.fractional_rms_error)
    gradient = jax.jit(jax.grad(lambda v: excess_variance(v, jnp.ones(3)).normalised_error))(
        jnp.asarray([1.0, 1.1, 0.9])
    )
    assert jnp.isfinite(gradient).all()


@pytest.mark.slow
def test_excess_variance_is_unbiased_with_the_scatter_it_claims():
    """10 values in each of 20 000 light curves, within 5 standard errors: false alarm 6e-7. Twin: dividing by n."""
    n, n_sim, normalised = 10, 20_000, 0.04

    @jax.jit
    @jax.vmap
    def draw(key):
        key_source, key_noise = jax.random.split(key)
        values = 5.0 * (1.0 + 0.2 * jax.random.normal(key_source, (n,))) + 0.5 * jax.random.normal(key_noise, (n,))
        errors = jnp.full(n, 0.5)
        return excess_variance(values, errors).variance, excess_variance(values, errors, stingray_compat=True).variance

    right, biased = (np.asarray(x, np.float64) for x in draw(jax.random.split(jax.random.key(0), n_sim)))
    truth, standard_error = normalised * 25.0, right.std() / np.sqrt(n_sim)
    assert abs(right.mean() - truth) < 5 * standard_error
    assert abs(biased.mean() - truth) > 5 * standard_error
    # Without measurement errors the scatter is that of white variability.
    sample = RNG.normal(size=(n_sim, n)).var(axis=1, ddof=1)
    np.testing.assert_allclose(sample.std(), expected_scatter(n, 1.0), rtol=0.05)


@X64
def test_moments_are_scipys(x64, rtol):
    values = VALUES.copy()
    values[:7] = [-1.0, 0.0, -2.0, -0.5, 0.0, -3.0, -1.0]
    good = np.log(values[values > 0])
    with jax.enable_x64(x64):
        ours = jax.jit(flux_moments)(jnp.asarray(values, float))
    theirs = [f(x) for x in (values, good) for f in (np.mean, np.var, scipy.stats.skew, scipy.stats.kurtosis)]
    np.testing.assert_allclose(ours, [*theirs, N, N - 7], rtol=rtol)
    gradient = jax.jit(jax.grad(lambda v: flux_moments(v).log_skewness))(jnp.asarray(values, jnp.float32))
    assert jnp.isfinite(gradient).all()


def test_strict_mode(strict):
    values = jnp.asarray(VALUES, jnp.float32)
    assert jax.eval_shape(excess_variance, values, jnp.ones(N), jnp.ones(N)).variance.dtype == jnp.float32
    assert jax.eval_shape(flux_moments, values, jnp.ones(N)).mean.dtype == jnp.float32
