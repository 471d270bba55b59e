"""Regular series: covariances from spectra, and the likelihood against dense algebra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import toeplitz

from eagleray.likelihoods.gaussian_process import (
    autocovariance,
    autocovariance_of_power,
    damped_oscillator,
    damped_random_walk,
    gaussian_process_log_likelihood,
    stationary_log_likelihood,
)
from eagleray.simulators.timmer_koenig import fourier_frequencies, gaussian_process, process_variance

N = 60
RNG = np.random.default_rng(5)
COVARIANCE = 4.0 * np.exp(-np.arange(N) / 7.0) + 2.0 * np.exp(-np.arange(N) / 20.0) * np.cos(0.9 * np.arange(N))
VALUES = RNG.normal(size=N) * 2.0 + 1.0
VARIANCE = RNG.uniform(0.2, 2.0, N)
MASK = RNG.random(N) > 0.3


def dense_log_likelihood(matrix, residual):
    """Ln likelihood by Cholesky."""
    factor = np.linalg.cholesky(matrix)
    white = np.linalg.solve(factor, residual)
    return -0.5 * (white @ white + residual.size * np.log(2 * np.pi)) - np.log(np.diag(factor)).sum()


@pytest.mark.parametrize("case", ["equal_noise", "unequal_noise", "gaps"])
def test_likelihood_is_that_of_dense_algebra(case):
    """1e-10 in float64, 1e-3 in float32. Twin: the noise forgotten. NaN where the covariance is none."""
    variance = np.full(N, 0.5) if case == "equal_noise" else VARIANCE
    mask = MASK if case == "gaps" else np.ones(N, bool)
    matrix = toeplitz(COVARIANCE)[np.ix_(mask, mask)]
    residual = (VALUES - 1.0)[mask]
    expected = dense_log_likelihood(matrix + np.diag(variance[mask]), residual)

    def run(covariance, values):
        noise = 0.5 if case == "equal_noise" else variance.copy()
        return stationary_log_likelihood(covariance, values, noise, mean=1.0, mask=MASK if case == "gaps" else None)

    values = np.where(mask, VALUES, np.nan)
    with jax.enable_x64(True):
        assert float(jax.jit(run)(COVARIANCE, values)) == pytest.approx(expected, rel=1e-10)
    single = jax.jit(lambda covariance, values: run(covariance, values))
    assert float(single(COVARIANCE, values)) == pytest.approx(expected, abs=1e-3)
    assert abs(dense_log_likelihood(matrix + 1e-2 * np.eye(len(matrix)), residual) - expected) > 20
    assert np.isnan(single(np.where(np.arange(N) == 3, 50.0, COVARIANCE), values))


def test_gradient_and_batch():
    """In covariance, values and noise: central differences in float64; a batch is a loop."""

    def value(scale, values, noise):
        return stationary_log_likelihood(scale * jnp.asarray(COVARIANCE.copy()), values, noise)

    with jax.enable_x64(True):
        scale, noise = jnp.asarray([1.0, 1.5]), jnp.asarray([0.5, 0.2])
        values = jnp.asarray(np.stack([VALUES, VALUES[::-1]]))
        run = jax.jit(jax.vmap(value))
        gradient = jax.jit(jax.vmap(jax.grad(value, (0, 1, 2))))(scale, values, noise)
        step = 1e-6
        by_scale = (run(scale + step, values, noise) - run(scale - step, values, noise)) / (2 * step)
        by_noise = (run(scale, values, noise + step) - run(scale, values, noise - step)) / (2 * step)
        move = np.zeros((2, N))
        move[:, 4] = step
        by_value = (run(scale, values + move, noise) - run(scale, values - move, noise)) / (2 * step)
        matrices = [toeplitz(float(s) * COVARIANCE) + float(v) * np.eye(N) for s, v in zip(scale, noise, strict=True)]
        expected = [dense_log_likelihood(m, np.asarray(y)) for m, y in zip(matrices, values, strict=True)]
        np.testing.assert_allclose(run(scale, values, noise), expected, rtol=1e-10)
    np.testing.assert_allclose(gradient[0], by_scale, rtol=1e-6)
    np.testing.assert_allclose(gradient[1][:, 4], by_value, rtol=1e-5)
    np.testing.assert_allclose(gradient[2], by_noise, rtol=1e-6)


@pytest.mark.parametrize("slope", [1.5, 2.0, 3.0])
def test_gradient_for_leaky_red_noise(slope):
    """Reflections near one: in every lag the gradient is (a a^T - K^-1) / 2 summed along diagonals, a = K^-1 y."""
    n, noise = 64, 0.02
    freq = fourier_frequencies(1024, 1.0)
    with jax.enable_x64(True):
        covariance = np.asarray(autocovariance_of_power(jnp.asarray(1e-3 * freq**-slope), 1024, 1.0))[:n]
        matrix = toeplitz(covariance) + noise * np.eye(n)
        values = np.linalg.cholesky(matrix) @ RNG.normal(size=n)
        gradient = jax.jit(jax.grad(stationary_log_likelihood))(covariance, values, noise)
    inverse = np.linalg.inv(matrix)
    solved = inverse @ values
    along = 0.5 * (np.outer(solved, solved) - inverse)
    expected = [np.trace(along, k) + (np.trace(along, -k) if k else 0.0) for k in range(n)]
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    single = jax.jit(jax.grad(stationary_log_likelihood))(
        covariance.astype(np.float32), values.astype(np.float32), noise
    )
    # Rounding covariances to float32 alone moves the gradient by the condition number times 6e-8.
    error = np.abs(single - np.asarray(expected)).max() / np.abs(expected).max()
    assert error < 1e-4 + 1e-6 * np.linalg.cond(matrix)


def test_steep_spectrum_in_single_precision():
    """Eigenvalues over five decades, 512 bins, data from the model: float32 within 0.05 of float64."""
    n, noise = 512, 1e-3
    with jax.enable_x64(True):
        covariance = np.asarray(jax.jit(lambda: autocovariance(lambda f: 30.0 / (1.0 + (f / 3e-3) ** 2.5), n, 1.0))())
    matrix = toeplitz(covariance) + noise * np.eye(n)
    eigenvalues = np.linalg.eigvalsh(matrix)
    values = np.linalg.cholesky(matrix) @ RNG.normal(size=n)
    found = jax.jit(stationary_log_likelihood)(covariance, values, noise)
    assert eigenvalues[-1] / eigenvalues[0] > 1e4
    assert float(found) == pytest.approx(dense_log_likelihood(matrix, values), abs=0.05)


def test_regular_and_irregular_likelihoods_agree():
    """Two algorithms, one number: the kernel's covariance through Schur's, and the state-space filter."""
    times = 0.5 * np.arange(N)

    def both(kernel):
        values = VALUES.copy()
        regular = stationary_log_likelihood(kernel.covariance(jnp.asarray(times.copy())), values, 0.3)
        return regular, gaussian_process_log_likelihood(kernel, times.copy(), values, 0.3)

    with jax.enable_x64(True):
        one, other = jax.jit(both)(damped_oscillator(1.5, 0.2, 3.0) + damped_random_walk(2.0, 8.0))
    assert float(one) == pytest.approx(float(other), rel=1e-11)


@pytest.mark.parametrize("n", [64, 65])
def test_covariance_of_a_periodic_series(n):
    """That of simulated series: 5.5 standard errors over 64 lags, false alarm 3e-6. Twin: Nyquist counted twice."""
    freq = fourier_frequencies(n, 0.5)
    power = np.asarray(1.0 + 1.0 / (freq + 0.1) ** 2, np.float32)
    found = np.asarray(autocovariance_of_power(jnp.asarray(power), n, 0.5), np.float64)
    assert found[0] == pytest.approx(float(process_variance(jnp.asarray(power), n, 0.5)), rel=1e-5)
    angles = 2 * np.pi * np.outer(np.arange(n), np.arange(1, n // 2 + 1)) / n
    weight = np.where((n % 2 == 0) & (np.arange(1, n // 2 + 1) == n // 2), 0.5, 1.0)
    np.testing.assert_allclose(found, (np.cos(angles) * weight * power).sum(-1) / (0.5 * n), rtol=1e-4, atol=1e-4)
    draws = jax.jit(jax.vmap(lambda key: gaussian_process(key, jnp.asarray(power), n, 0.5)))
    draws = np.asarray(draws(jax.random.split(jax.random.key(1), 5000)), np.float64)
    products = draws[:, :1] * draws
    score = (products.mean(0) - found) / (products.std(0) / np.sqrt(len(draws)))
    assert np.abs(score).max() < 5.5
    assert np.abs((products.mean(0) - 1.2 * found) / (products.std(0) / np.sqrt(len(draws))))[0] > 5.5


@pytest.mark.slow
def test_covariance_from_a_spectrum():
    """That of the kernel, leakage and aliases included; without either it is not. Bins smooth it."""
    kernel = damped_random_walk(2.0, 20.0) + damped_oscillator(1.0, 0.3, 3.0)
    expected = np.asarray(kernel.covariance(jnp.arange(128.0)))
    found = autocovariance(kernel.spectrum, 128, 1.0, red_noise=64.0, n_aliases=32)
    # What is cut off at low frequencies is the half of the first bin that holds zero: P(0) / (2 * 64 * 128) = 0.02.
    np.testing.assert_allclose(found, expected, atol=0.03)
    no_aliases = autocovariance(kernel.spectrum, 128, 1.0, red_noise=64.0, n_aliases=1)
    assert np.abs(np.asarray(no_aliases) - expected).max() > 0.04
    # Averages of an Ornstein-Uhlenbeck process over bins of width d: 2 s^2 (x - 1 + exp(-x)) / x^2, x = d / tau.
    walk = damped_random_walk(2.0, 2.0)
    binned = autocovariance(walk.spectrum, 64, 1.0, red_noise=256.0, n_aliases=16, binned=True)
    x = 0.5
    assert float(binned[0]) == pytest.approx(2 * 4.0 * (x - 1 + np.exp(-x)) / x**2, abs=2e-3)
    assert float(binned[1]) == pytest.approx(4.0 * ((1 - np.exp(-x)) / x) ** 2, abs=2e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: autocovariance_of_power(jnp.ones(3), 9, 1.0), "power must have shape"),
        (lambda: autocovariance(lambda f: f, 8, 1.0, red_noise=1.0), "red_noise must be at least 2"),
        (lambda: autocovariance(lambda f: f, 8, 1.0, n_aliases=0), "n_aliases must be at least 1"),
        (lambda: stationary_log_likelihood(jnp.ones(3), jnp.ones(4), 1.0), "covariance and values must have shape"),
        (lambda: stationary_log_likelihood(jnp.ones(4), jnp.ones(4), jnp.ones(3)), "variance must be a scalar"),
        (lambda: stationary_log_likelihood(jnp.ones(4), jnp.ones(4), 1.0, mask=np.ones(3, bool)), "mask must have"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
