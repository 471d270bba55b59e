"""Chi-squared and noncentral chi-squared are SciPy's where SciPy's are finite, and right far beyond."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from eagleray.summaries.pulsations import chi_squared

DOF = np.array([1.0, 2.0, 4.0, 15.0, 16.0, 31.0, 200.0, 2000.0])[:, None]
X = DOF + np.sqrt(2 * DOF) * np.array([-0.7, 0.0, 1.0, 3.0, 6.0, 15.0])[None]
log_probability = jax.jit(chi_squared.chi_squared_log_probability)


@pytest.mark.parametrize(("x64", "rtol", "n"), [(True, 1e-10, 8), (False, 5e-5, 7)])
def test_chi_squared_is_scipys(x64, rtol, n):
    """In float32 up to 200 degrees of freedom."""
    with jax.enable_x64(x64):
        ours = log_probability(jnp.asarray(X[:n], float), jnp.asarray(DOF[:n], float))
    np.testing.assert_allclose(ours, scipy.stats.chi2.logsf(X, DOF)[:n], rtol=rtol)


@pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-12), (False, 1e-6)])
def test_deep_tail_of_even_degrees_is_a_finite_sum(x64, rtol):
    """ln Q(m, x) = -x + ln sum_{k < m} x^k / k!, where p itself underflows."""
    m, x = 40, 5000.0
    k = np.arange(m)
    theirs = -x + scipy.special.logsumexp(k * np.log(x) - scipy.special.gammaln(k + 1))
    with jax.enable_x64(x64):
        np.testing.assert_allclose(log_probability(jnp.asarray(2 * x), jnp.asarray(2.0 * m)), theirs, rtol=rtol)


@pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-9), (False, 2e-4)])
def test_levels_invert_probabilities(x64, rtol):
    log_p = np.log([0.9, 0.5, 0.01, 1e-10, 1e-30])[None]
    dof = DOF[:-1]
    with jax.enable_x64(x64):
        level = jax.jit(chi_squared.chi_squared_level)(jnp.asarray(log_p, float), jnp.asarray(dof, float))
        np.testing.assert_allclose(level, scipy.stats.chi2.isf(np.exp(log_p), dof), rtol=rtol)


@pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-10), (False, 5e-5)])
def test_noncentral_chi_squared_is_scipys(x64, rtol):
    dof = np.array([1.0, 2.0, 16.0, 2.0, 2.0, 20.0])
    noncentrality = np.array([0.5, 1e-3, 150.0, 30.0, 2000.0, 1000.0])
    x = dof + noncentrality + np.array([-0.4, 1.0, 25.0, -20.0, 50.0, -100.0])
    with jax.enable_x64(x64):
        arrays = [jnp.asarray(a, float) for a in (x, dof, noncentrality)]
        ours = jax.jit(chi_squared.noncentral_chi_squared_cdf)(*arrays)
        central = jax.jit(chi_squared.noncentral_chi_squared_cdf)(*arrays[:2], jnp.zeros_like(arrays[1]))
    np.testing.assert_allclose(ours, scipy.stats.ncx2.cdf(x, dof, noncentrality), rtol=rtol)
    np.testing.assert_allclose(central, scipy.stats.chi2.cdf(x, dof), rtol=rtol)


@pytest.mark.slow
def test_noncentral_gradients_are_finite_differences():
    with jax.enable_x64(True):
        x, noncentrality = 40.0, 30.0
        function = jax.jit(lambda x, n: chi_squared.noncentral_chi_squared_cdf(x, 6.0, n))
        slopes = jax.jit(jax.grad(lambda a: chi_squared.noncentral_chi_squared_cdf(a[0], 6.0, a[1])))(
            jnp.array([x, noncentrality])
        )
        step = 1e-4
        by_x = (function(x + step, noncentrality) - function(x - step, noncentrality)) / (2 * step)
        by_noncentrality = (function(x, noncentrality + step) - function(x, noncentrality - step)) / (2 * step)
    np.testing.assert_allclose(slopes, [by_x, by_noncentrality], rtol=1e-7)
