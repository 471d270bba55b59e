"""Gaussian processes at any times: against dense algebra, and gradients, batches, lengths, predictions, draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.likelihoods import gaussian_process
from eagleray.likelihoods.gaussian_process import (
    Kernel,
    approximate_spectrum,
    approximation_error,
    carma,
    damped_oscillator,
    damped_random_walk,
    gaussian_process_log_likelihood,
    quasi_periodic,
    red_noise,
    state_space,
)
from eagleray.simulators import state_space as simulators
from eagleray.simulators.bursts import fred_envelope
from eagleray.simulators.shapes import bending_power_law, double_bending_power_law

N = 40
RNG = np.random.default_rng(3)
TIMES = np.cumsum(RNG.choice([0.0, 0.002, 0.1, 0.7, 9.0], N))
VALUES = RNG.normal(size=N) * 2.0 + 1.0
VARIANCE = RNG.uniform(0.2, 2.0, N)
MEAN = 0.1 * np.arange(N)


def data():
    """Times, values, noise: new arrays for each trace, as JAX remembers the type in which it first traced an array."""
    return TIMES.copy(), VALUES.copy(), VARIANCE.copy()


CARMA = {"decay_rates": [0.6], "widths": [0.1], "freqs": [0.4], "moving_average": [0.5, 0.1]}


def in_default_type(values):
    """Lists as arrays of the default type."""
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in values.items()}


def bend(freq, slope=2.5):
    """A bending power law."""
    return bending_power_law(freq, **in_default_type({"slope_low": 1.0, "slope_high": slope, "bend_freq": 0.05}))


def imitation(basis, slope=2.5):
    """Kernel that imitates the bending power law over the band of the times."""
    return approximate_spectrum(
        functools.partial(bend, slope=slope), freq_min=0.01, freq_max=1.0, n_components=12, basis=basis
    )


# Name -> kernel made in the default type, its covariance written down independently in NumPy (or None).
KERNELS = {
    "random_walk": (lambda: damped_random_walk(2.0, 1.5), lambda t: 4.0 * np.exp(-t / 1.5)),
    "oscillator": (lambda: damped_oscillator(2.0, 0.3, 4.0), None),
    "critical": (
        lambda: damped_oscillator(2.0, 0.3, 0.5),
        lambda t: 4 * (1 + 0.6 * np.pi * t) * np.exp(-0.6 * np.pi * t),
    ),
    "overdamped": (lambda: damped_oscillator(2.0, 0.3, 0.2), None),
    "qpo_plus_red_noise": (
        lambda: quasi_periodic(3.0, 0.2, 0.4) + red_noise(2.0, 0.1),
        lambda t: 3.0 * np.exp(-0.2 * t) * np.cos(0.8 * np.pi * t) + 2.0 * np.exp(-0.1 * t),
    ),
    "all_kinds": (
        lambda: (
            damped_oscillator(1.0, 0.3, 4.0)
            + carma(2.0, **in_default_type(CARMA))
            + damped_random_walk(1.0, 5.0)
            + damped_oscillator(1.0, 0.03, 0.3)
        ),
        None,
    ),
    "bending_steep": (lambda: imitation("DRWCelerite", slope=4.5), None),
}


covariance = jax.jit(Kernel.covariance)


def dense_covariance(name):
    """Covariance matrix of the process at the times, float64."""
    make, by_hand = KERNELS[name]
    lags = np.abs(TIMES[:, None] - TIMES).ravel()
    with jax.enable_x64(True):
        kernel = np.asarray(covariance(make(), lags))
    if by_hand is not None:
        np.testing.assert_allclose(kernel, by_hand(lags), atol=1e-12)
    return kernel.reshape(N, N)


def dense_log_likelihood(covariance, residual, variance):
    """Ln likelihood by Cholesky."""
    factor = np.linalg.cholesky(covariance + np.diag(variance))
    white = np.linalg.solve(factor, residual)
    return -0.5 * (white @ white + residual.size * np.log(2 * np.pi)) - np.log(np.diag(factor)).sum()


log_likelihood = jax.jit(lambda kernel: gaussian_process_log_likelihood(kernel, *data(), mean=MEAN.copy()))


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_likelihood_is_that_of_dense_algebra(name):
    """1e-10 in float64, 1e-3 in float32; the twin without measurement noise on the diagonal is far off."""
    matrix = dense_covariance(name)
    expected = dense_log_likelihood(matrix, VALUES - MEAN, VARIANCE)
    with jax.enable_x64(True):
        assert float(log_likelihood(KERNELS[name][0]())) == pytest.approx(expected, rel=1e-10)
    assert float(log_likelihood(KERNELS[name][0]())) == pytest.approx(expected, abs=1e-3)
    assert abs(dense_log_likelihood(matrix, VALUES - MEAN, np.full(N, 1e-3)) - expected) > 100


def test_kernels_are_those_of_the_simulators():
    """Covariance of the oscillator through critical damping; covariance and spectrum of CARMA."""
    lag, freq = np.linspace(0.0, 20.0, 50), np.geomspace(1e-3, 10.0, 50)

    def oscillators(quality):
        oscillator = in_default_type({"sigma": 1.5, "freq": 0.3}) | {"quality": quality}
        ours = damped_oscillator(**oscillator).covariance(jnp.asarray(lag))
        return ours, simulators.oscillator_covariance(jnp.asarray(lag), **oscillator)

    def carmas():
        parameters = in_default_type(CARMA | {"sigma": 1.5})
        kernel = carma(**parameters)
        theirs = simulators.carma_covariance(jnp.asarray(lag), **parameters)
        spectrum = simulators.carma_spectrum(jnp.asarray(freq), **parameters)
        return (kernel.covariance(jnp.asarray(-lag)), kernel.spectrum(jnp.asarray(freq))), (theirs, spectrum)

    with jax.enable_x64(True):
        ours, theirs = jax.jit(jax.vmap(oscillators))(np.array([0.2, 0.4999, 0.5, 0.5001, 0.7, 20.0]))
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
        for one, other in zip(*jax.jit(carmas)(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_spectra_are_transforms_of_covariances():
    """Integral of the one-sided spectrum times cos(2 pi f t), of every kind of term."""
    freq = np.concatenate([[0.0], np.geomspace(1e-6, 1e3, 200_001)])
    with jax.enable_x64(True):
        kernel = KERNELS["all_kinds"][0]() + quasi_periodic(1.0, 0.5, 0.2)
        power = np.asarray(jax.jit(Kernel.spectrum)(kernel, freq))
        lags = np.array([0.0, 0.3, 2.0])
        expected = np.asarray(covariance(kernel, lags))
        assert float(kernel.variance) == pytest.approx(expected[0])
    for lag, value in zip(lags, expected, strict=True):
        found = np.trapezoid(power * np.cos(2 * np.pi * freq * lag), freq)
        assert found == pytest.approx(value, abs=1e-3)


POINT = np.array([1.5, 0.3, 0.52, 2.0, 5.0, 1.0, 0.2, 2.0, -1.0, 3.0])
SHIFTS = 1e-5 * np.eye(POINT.size)


def flare_and_noise(x):
    """Ln likelihood as a function of ten parameters: all kinds of terms, the noise level, a burst as mean."""
    times, values, variance = data()
    kernel = damped_oscillator(x[0], x[1], x[2]) + damped_random_walk(x[3], x[4]) + quasi_periodic(x[5], x[6], 0.4)

    def mean(times):
        return x[7] * fred_envelope(times, start=x[8], peak_delay=x[9], sharpness=x[9])

    return gaussian_process_log_likelihood(kernel, times, values, x[0] * variance, mean=mean)


def test_gradient():
    """Against central differences in float64, batched over the quality on both sides of critical damping."""
    points = np.tile(POINT, (4, 1))
    points[:, 2] = [0.3, 0.5, 0.52, 5.0]
    with jax.enable_x64(True):
        gradient = jax.jit(jax.vmap(jax.grad(flare_and_noise)))(points)
        value = jax.jit(jax.vmap(jax.vmap(flare_and_noise)))
        differences = (value(points[:, None] + SHIFTS) - value(points[:, None] - SHIFTS)) / 2e-5
    np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_hessian():
    """Forward over reverse, against central differences of the gradient in float64."""
    with jax.enable_x64(True):
        hessian = jax.jit(jax.jacfwd(jax.grad(flare_and_noise)))(jnp.asarray(POINT))
        gradient = jax.jit(jax.vmap(jax.grad(flare_and_noise)))
        differences = (gradient(POINT + SHIFTS) - gradient(POINT - SHIFTS)) / 2e-5
        np.testing.assert_allclose(hessian, differences, rtol=1e-4, atol=1e-5)


def test_mask_is_leaving_out():
    """Also where masked entries hold NaN, with gradient; decreasing times give NaN."""
    mask = RNG.random(N) > 0.3
    values, variance = np.where(mask, VALUES, np.nan), np.where(mask, VARIANCE, 0.0)
    kernel = damped_random_walk(2.0, 1.5)

    def masked(kernel):
        return gaussian_process_log_likelihood(kernel, TIMES.copy(), values, variance, mask=mask)

    found, gradient = jax.jit(jax.value_and_grad(masked))(kernel)
    some, noise = VALUES[mask], VARIANCE[mask]
    left_out = jax.jit(lambda k: gaussian_process_log_likelihood(k, TIMES[mask], some, noise))(kernel)
    assert float(found) == pytest.approx(float(left_out), rel=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    backwards = TIMES[::-1].copy()
    assert np.isnan(jax.jit(lambda k: gaussian_process_log_likelihood(k, backwards, *data()[1:]))(kernel))


@pytest.mark.slow
def test_large_batches_of_small_series():
    """More than 10922 at once, where a sum over a small axis inside a scan goes wrong on some XLA versions."""
    n, m = 12_000, 6
    values = np.random.default_rng(0).normal(size=(n, m)).astype(np.float32)
    times = np.array([0.0, 0.1, 0.3, 1.0, 4.0, 4.5])
    kernel = damped_oscillator(1.0, 0.3, 2.0) + damped_random_walk(1.0, 2.0)
    one = lambda y: gaussian_process_log_likelihood(kernel, times, y, 0.5)  # noqa: E731
    found, gradient = jax.jit(jax.vmap(jax.value_and_grad(one)))(values)
    lags = np.abs(times[:, None] - times)
    matrix = np.asarray(kernel.covariance(lags.ravel()), np.float64).reshape(m, m) + 0.5 * np.eye(m)
    solved = np.linalg.solve(matrix, values.T).T
    expected = -0.5 * (values * solved).sum(-1) - 0.5 * np.linalg.slogdet(2 * np.pi * matrix)[1]
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(gradient, -solved, atol=1e-4)


@pytest.mark.slow
def test_long_series_in_blocks(monkeypatch):
    """The blocks that bound the gradient's memory change nothing."""
    kernel = damped_random_walk(2.0, 1.5) + quasi_periodic(3.0, 0.2, 0.4)

    def run(kernel):
        return gaussian_process_log_likelihood(kernel, *data())

    plain = jax.jit(jax.value_and_grad(run))(kernel)
    monkeypatch.setattr(state_space, "_KEPT", 100)
    blocks = jax.jit(jax.value_and_grad(lambda kernel: run(kernel)))(kernel)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(blocks), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_memory_grows_linearly():
    """That of the gradient, with the length; the twin by dense algebra needs the square."""

    def memory(n, log_likelihood):
        arguments = (damped_random_walk(1.0, 3.0), np.arange(n, dtype=np.float32), np.zeros(n, np.float32))
        return jax.jit(jax.grad(log_likelihood)).lower(*arguments).compile().memory_analysis().temp_size_in_bytes

    def ours(kernel, times, values):
        return gaussian_process_log_likelihood(kernel, times, values, 1.0)

    def dense(kernel, times, values):
        matrix = kernel.covariance(jnp.abs(times[:, None] - times).ravel()).reshape(times.size, times.size)
        return values @ matrix @ values

    assert memory(32_000, ours) < 4.4 * memory(8_000, ours)
    assert memory(800, dense) > 8.0 * memory(200, dense)


def test_host_times_keep_short_steps():
    """Millisecond steps after 1e5 s: exact from NumPy's float64, lost in float32."""
    times = 1e5 + np.arange(50) * 1e-3
    kernel, values = damped_random_walk(1.0, 0.01), np.sin(np.arange(50))
    run = jax.jit(lambda times, kernel: gaussian_process_log_likelihood(kernel, times, values, 0.1))
    on_host = jax.jit(lambda kernel: gaussian_process_log_likelihood(kernel, times, values, 0.1))
    expected = float(run(times - 1e5, kernel))
    assert float(on_host(kernel)) == pytest.approx(expected, rel=1e-5)
    assert abs(float(run(times, kernel)) - expected) > 1.0


@pytest.mark.parametrize("elsewhere", [pytest.param(False, marks=pytest.mark.slow), True])
def test_prediction_is_that_of_dense_algebra(elsewhere):
    """Conditional mean and variance of the process, at the data's times with some masked, and at others."""
    mask = np.arange(N) % 4 != 1
    new = np.array([5.0, -3.0, 60.0, TIMES[7], 1e3, 2.2])

    def mean(times):
        return 0.1 * times

    @jax.jit
    def predict(kernel):
        return gaussian_process.predict(kernel, *data(), mean=mean, mask=mask, new_times=new if elsewhere else None)

    make, _ = KERNELS["all_kinds"]
    seen, at = TIMES[mask], new if elsewhere else TIMES
    with jax.enable_x64(True):
        kernel = make()
        found = predict(kernel)

        def between(a, b):
            return np.asarray(covariance(kernel, np.abs(a[:, None] - b).ravel())).reshape(a.size, b.size)

        gain = np.linalg.solve(between(seen, seen) + np.diag(VARIANCE[mask]), between(seen, at)).T
        expected = mean(at) + gain @ (VALUES[mask] - mean(seen))
        spread = float(kernel.variance) - (gain * between(at, seen)).sum(-1)
    np.testing.assert_allclose(found.mean, expected, atol=1e-9)
    np.testing.assert_allclose(found.variance, spread, atol=1e-9)
    single = predict(make())
    np.testing.assert_allclose(single.mean, expected, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(single.variance, spread, atol=1e-3)


def test_draws_have_the_covariance():
    """820 pairs of times, 4000 draws within 5.5 standard errors: false alarm 3e-5. Twin: half the noise."""
    kernel, name = KERNELS["all_kinds"][0](), "all_kinds"
    run = jax.jit(
        jax.vmap(lambda key: gaussian_process.draw(key, kernel, TIMES.copy(), VARIANCE.copy(), mean=MEAN.copy()))
    )
    draws = np.asarray(run(jax.random.split(jax.random.key(0), 4000)), np.float64) - MEAN
    sample = draws.T @ draws / len(draws)

    def score(noise):
        expected = dense_covariance(name) + np.diag(noise)
        error = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / len(draws))
        return np.abs((sample - expected) / error).max()

    assert score(VARIANCE) < 5.5
    assert score(0.3 * VARIANCE) > 5.5


@pytest.mark.parametrize(("basis", "slope", "error"), [("SHO", 3.0, 0.04), ("DRWCelerite", 4.5, 0.2)])
def test_approximated_spectra(basis, slope, error):
    """Errors over the band, in both types; more components, less error; too steep a slope is found out."""
    band = {"freq_min": 1e-3, "freq_max": 1.0}

    def largest(n_components, slope):
        shape = functools.partial(bend, slope=slope)
        kernel = approximate_spectrum(shape, n_components=n_components, basis=basis, **band)
        return approximation_error(kernel, shape, **band)

    run = jax.jit(largest, static_argnums=0)
    coarse, fine = float(run(20, slope)), float(run(30, slope))
    assert fine < error
    assert fine < 0.5 * coarse
    with jax.enable_x64(True):
        assert float(run(30, slope)) == pytest.approx(fine, abs=1e-3)
    assert float(run(20, 8.0)) > 0.5


@pytest.mark.slow
def test_approximation_of_two_bends_is_differentiable():
    """Gradient of the likelihood in the slopes and frequencies of a double bend, against differences in float64."""

    def value(x):
        names = ("slope_low", "slope_middle", "slope_high", "bend_freq_low", "bend_freq_high")
        shape = functools.partial(double_bending_power_law, **dict(zip(names, x, strict=True)))
        kernel = approximate_spectrum(shape, freq_min=0.01, freq_max=1.0, n_components=6)
        return gaussian_process_log_likelihood(kernel, *data())

    point = np.array([0.3, 1.2, 2.5, 0.02, 0.3])
    with jax.enable_x64(True):
        run = jax.jit(jax.vmap(value))
        differences = (run(point + 1e-5 * np.eye(5)) - run(point - 1e-5 * np.eye(5))) / 2e-5
        np.testing.assert_allclose(jax.jit(jax.grad(value))(jnp.asarray(point)), differences, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda k: gaussian_process_log_likelihood(k, TIMES, VALUES[:3], 1.0), "values must have the shape of times"),
        (lambda k: gaussian_process_log_likelihood(k, TIMES, VALUES, VARIANCE[:3]), "variance must have"),
        (lambda k: gaussian_process_log_likelihood(k, TIMES[None], VALUES, 1.0), "times must have"),
        (lambda k: gaussian_process_log_likelihood(k, TIMES, VALUES, 1.0, mask=np.ones(2, bool)), "mask must have"),
        (lambda k: gaussian_process.predict(k, TIMES, VALUES, 1.0, mean=MEAN, new_times=TIMES), "mean must be a scal"),
        (lambda k: approximate_spectrum(bend, freq_min=1.0, freq_max=0.1), "freq_min and freq_max must be"),
        (lambda k: approximate_spectrum(bend, freq_min=0.1, freq_max=1.0, n_components=1), "n_components must be"),
        (lambda k: approximate_spectrum(bend, freq_min=0.1, freq_max=1.0, basis="x"), "basis must be one of"),
        (lambda k: carma(1.0, **(in_default_type(CARMA) | {"moving_average": jnp.ones(3)})), "fewer than p = 3"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(damped_random_walk(1.0, 1.0))


def test_addition_is_of_kernels():
    with pytest.raises(TypeError, match="unsupported operand"):
        damped_random_walk(1.0, 1.0) + 1.0
