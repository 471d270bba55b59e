"""Cospectra: density and distribution function against Stingray, exact sums and Monte Carlo; thresholds."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from scipy import stats
from stingray.crossspectrum import _averaged_cospectra_cdf, cospectra_pvalue

from eagleray.likelihoods.cospectra import (
    averaged_cospectra,
    averaged_cospectra_with_signal,
    cospectrum_cdf,
    cospectrum_log_survival,
    cospectrum_threshold,
)
from eagleray.likelihoods.gaussian import laplace

X = np.linspace(-3.0, 3.0, 24)  # without zero, where one power has a kink


def exact_log_density(c, m):
    """The finite sum in 50 digits."""
    with mpmath.workdps(50):
        y = mpmath.mpf(m) * abs(mpmath.mpf(float(c)))
        term = mpmath.mpf(m) / mpmath.mpf(2) ** m / mpmath.factorial(m - 1) * y ** (m - 1) * mpmath.exp(-y)
        total = term
        for j in range(1, m):
            term *= mpmath.mpf((m - 1 + j) * (m - j)) / (2 * j * y)
            total += term
        return float(mpmath.log(total))


@pytest.mark.parametrize("m", [1, 5, 16])
def test_distribution_is_stingrays(m):
    with jax.enable_x64(True):
        np.testing.assert_allclose(cospectrum_cdf(X, 2.0, m), _averaged_cospectra_cdf(X, m), atol=1e-13)
        step = 1e-4
        slope = (_averaged_cospectra_cdf(X + step, m) - _averaged_cospectra_cdf(X - step, m)) / (2 * step)
        log_density = jax.jit(jax.vmap(lambda x: averaged_cospectra(x[None], 2.0, m)))(X)
        np.testing.assert_allclose(np.exp(log_density), slope, rtol=1e-5, atol=1e-10)


def test_density_for_any_number_of_averages():
    """From 1 to 1000 averages, in the middle and far out, and in one call."""
    m, c = (x.ravel() for x in np.meshgrid([1, 2, 7, 15, 16, 17, 100, 300, 1000], [1e-6, 0.01, 0.3, 2.0]))
    reference = np.array([exact_log_density(*pair) for pair in zip(c, m.tolist(), strict=True)])
    each = jax.jit(jax.vmap(lambda c, m: averaged_cospectra(c[None], 2.0, m[None])))
    with jax.enable_x64(True):
        np.testing.assert_allclose(each(jnp.asarray(c), jnp.asarray(m)), reference, atol=1e-11, rtol=1e-12)
        assert float(averaged_cospectra(c, 2.0, m)) == pytest.approx(reference.sum(), rel=1e-12)
    single = each(jnp.asarray(c), jnp.asarray(m))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, reference, atol=3e-5, rtol=3e-6)


def test_slope_at_zero():
    """Flat at the summit for two and more; a kink for one, where any slope between the sides' is as good."""
    m = np.array([1, 2, 15, 16, 400])
    slope = jax.jit(jax.grad(lambda c: averaged_cospectra(c, 2.0, m)))
    at_summit, beside = slope(jnp.zeros(5)), slope(jnp.full(5, 1e-20))
    assert abs(float(at_summit[0])) <= 1.0
    np.testing.assert_allclose(at_summit[1:], 0.0, atol=1e-5)
    np.testing.assert_allclose(beside, [-1.0, 0.0, 0.0, 0.0, 0.0], atol=1e-5)


def test_one_average_is_laplace():
    assert float(averaged_cospectra(X, 3.0, 1)) == pytest.approx(float(laplace(X, 0.0, 1.5)), rel=1e-6)


def test_simulated_cospectra():
    """Kolmogorov-Smirnov on 4000 averages of 6 (false alarm 1e-4); a Laplace distribution of equal variance fails."""
    rng = np.random.default_rng(4)
    first, second = rng.normal(size=(2, 4000, 6, 2)) @ np.array([1.0, 1j])  # E|F|^2 = 2
    power = (np.conj(first) * second).real.mean(axis=1)
    with jax.enable_x64(True):
        assert stats.kstest(power, lambda x: np.asarray(cospectrum_cdf(x, 2.0, 6))).pvalue > 1e-4
    assert stats.kstest(power, stats.laplace(0.0, 6**-0.5).cdf).pvalue < 1e-4


def test_density_with_signal():
    """Integral one and mean the cross spectrum; without signal the density of noise; shape of a simulation."""
    one = np.ones(1)
    grid = np.linspace(-40.0, 60.0, 20_001)
    with jax.enable_x64(True):
        density = jax.jit(jax.vmap(lambda c: averaged_cospectra_with_signal(c[None], 5.0, 4.0, 2.5 + 1.5j, 3)))(grid)
        height = np.exp(np.asarray(density))
        assert np.trapezoid(height, grid) == pytest.approx(1.0, abs=1e-6)
        assert np.trapezoid(height * grid, grid) == pytest.approx(2.5, abs=1e-5)
        spread = np.trapezoid(height * (grid - 2.5) ** 2, grid)
        assert spread == pytest.approx((5 * 4 + 2.5**2 - 1.5**2) / 6, abs=1e-4)
        noise = averaged_cospectra(0.7 * one, np.sqrt(20.0), 3)
        assert float(averaged_cospectra_with_signal(0.7 * one, 5.0, 4.0, 0.0, 3)) == pytest.approx(float(noise))


@pytest.mark.parametrize("m", [1, 80])
def test_thresholds(m):
    """The threshold is where the survival is the p-value, down to 1e-30, in float32 too."""
    p_value = np.array([0.5, 0.1, 1e-3, 1e-10, 1e-30])
    threshold = cospectrum_threshold(p_value, 3.0, m)
    np.testing.assert_allclose(cospectrum_log_survival(threshold, 3.0, m), np.log(p_value), rtol=1e-5)
    assert threshold[0] == 0.0
    assert jnp.isnan(cospectrum_threshold(np.array([0.0, 0.6]), 3.0, m)).all()


def test_survival():
    """Stingray's p-values up to 50; beyond them its normal distribution is wrong; derivative; arrays of averages."""
    with jax.enable_x64(True):
        x = np.array([0.2, 0.8])
        ours = np.exp(cospectrum_log_survival(x, 2.0, 20))
        np.testing.assert_allclose(ours, [cospectra_pvalue(value, 20) for value in x], rtol=1e-8)
        ratio = float(jnp.exp(cospectrum_log_survival(1.0, 2.0, 51))) / cospectra_pvalue(1.0, 51)
        assert ratio > 3.0  # five standard deviations
        both = cospectrum_log_survival(x, 2.0, np.array([4, 90]))
        np.testing.assert_allclose(both, [cospectrum_log_survival(v, 2.0, m) for v, m in zip(x, (4, 90), strict=True)])
        at = np.array([-0.4, 0.0, 0.4])
        value_and_slope = jax.jit(jax.vmap(jax.value_and_grad(lambda c: cospectrum_log_survival(c, 2.0, 5))))
        difference = value_and_slope(at + 1e-6)[0] - value_and_slope(at - 1e-6)[0]
        np.testing.assert_allclose(value_and_slope(at)[1], difference / 2e-6, rtol=1e-6)


def test_refusals():
    with pytest.raises(ValueError, match=r"m must be whole, got 2.5"):
        averaged_cospectra(X, 2.0, 2.5)
    with pytest.raises(ValueError, match=r"m must be at least 1, got 0"):
        averaged_cospectra_with_signal(X, 2.0, 2.0, 0.0, 0)
    with pytest.raises(ValueError, match=r"m must be known while tracing"):
        jax.jit(cospectrum_cdf)(X, 2.0, 3)
    with pytest.raises(ValueError, match=r"m must have shape \(\) or \(24,\), got \(2,\)"):
        cospectrum_cdf(X, 2.0, np.array([1, 2]))
