"""Emmanoulopoulos light curves: the distribution exactly, the spectrum in shape, the quantile functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from eagleray.simulators.emmanoulopoulos import (
    _in_order,
    _in_rough_order,
    emmanoulopoulos,
    gamma_mixture_quantile,
    log_normal_mixture_quantile,
)
from eagleray.simulators.shapes import bending_power_law
from eagleray.simulators.timmer_koenig import fourier_frequencies

N, DT, N_SIM = 256, 1.0, 256
FREQ = fourier_frequencies(N, DT)


def vector(*values):
    """A vector in the default type."""
    return jnp.asarray(values, jnp.result_type(float))


def spectrum(slope_high=2.0):
    """Bending power law."""
    values = {"slope_low": 1.0, "slope_high": slope_high, "bend_freq": 0.05}
    return bending_power_law(jnp.asarray(FREQ, jnp.float32), **{k: jnp.asarray(v) for k, v in values.items()})


def curves(n_iterations=40, exact="distribution"):
    """Log-normal light curves."""
    quantile = log_normal_mixture_quantile(vector(1.0), vector(0.0), vector(0.3))

    def draw(key):
        return emmanoulopoulos(key, spectrum(), quantile, N, DT, n_iterations=n_iterations, exact=exact)

    return np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(9), N_SIM)), np.float64)


SAMPLE = pytest.fixture(lambda: curves(), scope="module", name="sample")


def slope_error(sample, model):
    """Largest deviation of the mean power from a model's shape, over bins of frequency, in natural logarithms."""
    power = (np.abs(np.fft.rfft(sample)[:, 1:]) ** 2).mean(0)
    ratio = np.log(power / np.asarray(model, np.float64))
    binned = np.array([part.mean() for part in np.array_split(ratio, 8)])
    return np.abs(binned - np.median(binned)).max()


def test_values_have_the_distribution(sample):
    """All values together are log-normal: they are independent draws, put in order. False alarm 1e-5; twin: gamma."""
    values = sample.ravel()
    assert stats.kstest(values, stats.lognorm(0.3).cdf).pvalue > 1e-5
    twin = stats.gamma(values.mean() ** 2 / values.var(), scale=values.var() / values.mean())
    assert stats.kstest(values, twin.cdf).pvalue < 1e-5


def test_powers_have_the_shape(sample):
    """Within 20 % over three decades of power; twins: another slope, and values in an order of their own."""
    assert slope_error(sample, spectrum()) < 0.2
    assert slope_error(sample, spectrum(1.7)) > 0.2
    assert slope_error(np.random.default_rng(0).permuted(sample, axis=1), spectrum()) > 0.2


def test_exact_spectrum_has_the_moments_of_the_values():
    """The other ending: the amplitudes of the Gaussian draw, to rounding; mean and rms of the values it began with."""
    sample = curves(exact="spectrum")
    assert slope_error(sample, spectrum()) < 0.05
    expected = stats.lognorm(0.3)
    assert abs(sample.mean() / expected.mean() - 1.0) < 0.02
    assert abs(sample.std(1).mean() / expected.std() - 1.0) < 0.1


def test_quantiles_invert_the_distribution():
    """Against SciPy, over the range a light curve can show."""
    probability = np.concatenate([np.geomspace(1e-5, 0.5, 20), 1 - np.geomspace(1e-5, 0.5, 20)])
    uniform = jnp.asarray(probability, jnp.float32)
    ours = gamma_mixture_quantile(vector(1.0), vector(2.5), vector(3.0))(uniform)
    np.testing.assert_allclose(ours, stats.gamma(2.5, scale=3.0).ppf(np.asarray(uniform, float)), rtol=3e-3)
    ours = log_normal_mixture_quantile(vector(2.0), vector(0.5), vector(0.4))(uniform)
    np.testing.assert_allclose(ours, stats.lognorm(0.4, scale=np.exp(0.5)).ppf(np.asarray(uniform, float)), rtol=1e-3)


@pytest.mark.slow
def test_mixture_quantile_has_the_gradient_of_finite_differences():
    """Two gammas; derivative by weights, shapes and scales in float64."""
    with jax.enable_x64(True):
        uniform = jnp.linspace(0.05, 0.95, 7)

        @jax.jit
        def total(point):
            return jnp.sum(jnp.sin(gamma_mixture_quantile(point[:2], point[2:4], point[4:])(uniform)))

        point = vector(0.3, 0.7, 2.0, 6.0, 1.0, 1.5)
        slope = jax.jit(jax.grad(total))(point)
        for i in range(6):
            step = jnp.zeros(6).at[i].set(1e-5)
            assert float(slope[i]) == pytest.approx(float(total(point + step) - total(point - step)) / 2e-5, rel=1e-4)


@pytest.mark.slow
def test_rough_order_is_nearly_the_order():
    """Monotonic, and within 2 % of the values' spread of the exact order; a constant does no harm."""
    series = jax.random.normal(jax.random.key(0), (1000,))
    ranked = jnp.sort(jnp.exp(jax.random.normal(jax.random.key(1), (1000,))))
    rough, exact = (np.asarray(f(series, ranked)) for f in (_in_rough_order, _in_order))
    assert np.diff(rough[np.argsort(np.asarray(series))]).min() >= -1e-5
    assert (rough - exact).std() < 0.02 * exact.std()
    assert np.isfinite(_in_rough_order(jnp.ones(10), ranked[:10])).all()


def test_unknown_ending_is_refused():
    """Exact must be one of two."""
    with pytest.raises(ValueError, match="exact must be"):
        emmanoulopoulos(jax.random.key(0), spectrum(), jnp.log, N, DT, exact="both")
