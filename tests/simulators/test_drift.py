"""Drifting light curves: stationary limits, local spectra, ensembles."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.simulators import drift
from eagleray.simulators.shapes import nu_max_lorentzian
from eagleray.simulators.timmer_koenig import fourier_frequencies, gaussian_process

N, DT, N_SIM = 512, 0.02, 1500


def keys(n=N_SIM):
    """Independent keys."""
    return jax.random.split(jax.random.key(7), n)


@functools.cache
def steady_qpos():
    """QPOs at constant 5 Hz."""
    steady, rms = jnp.full(N, 5.0), jnp.full(N, 0.3)

    def draw(key):
        return drift.drifting_qpo(key, steady, rms, fwhm=jnp.asarray(0.8), dt=DT)

    return np.asarray(jax.jit(jax.vmap(draw))(keys()), np.float64)


def qpo_covariance_score(freq):
    """Covariance of the QPO against s^2 exp(-pi w t) cos(2 pi freq t), in standard errors."""
    sample = steady_qpos()
    lag = np.arange(40)
    measured = np.array([(sample[:, 100] * sample[:, 100 + k]).mean() for k in lag])
    expected = 0.09 * np.exp(-np.pi * 0.8 * lag * DT) * np.cos(2 * np.pi * freq * lag * DT)
    return np.abs((measured - expected) / np.sqrt((0.09**2 + expected**2) / N_SIM)).max()


def test_steady_qpo_is_a_lorentzian():
    """40 lags within 5.5 standard errors: false alarm 2e-6. Twin: 5.5 Hz."""
    assert qpo_covariance_score(5.0) < 5.5
    assert qpo_covariance_score(5.5) > 5.5


def test_qpo_follows_its_frequency_and_strength():
    """Power moves from 3 to 9 Hz and grows fourfold."""
    freq = drift.linear_path(jnp.asarray(3.0), jnp.asarray(9.0), N)
    rms = drift.log_linear_path(jnp.asarray(0.1), jnp.asarray(0.2), N)

    def draw(key):
        return drift.drifting_qpo(key, freq, rms, fwhm=jnp.asarray(0.3), dt=DT)

    sample = np.asarray(jax.jit(jax.vmap(draw))(keys(300)), np.float64)
    axis = np.fft.rfftfreq(128, DT)
    first, last = (
        (np.abs(np.fft.rfft(part * np.hanning(128))) ** 2).mean(0) for part in (sample[:, :128], sample[:, -128:])
    )
    assert axis[first.argmax()] == pytest.approx(3.75, abs=0.8)
    assert axis[last.argmax()] == pytest.approx(8.25, abs=0.8)
    assert (sample[:, -1] ** 2).mean() / (sample[:, 0] ** 2).mean() == pytest.approx(4.0, rel=0.5)


def lorentzian(nu_max, rms):
    """A broad component."""
    freq = jnp.asarray(fourier_frequencies(N, DT), jnp.float32)
    return nu_max_lorentzian(freq, nu_max=nu_max, q=jnp.asarray(1.0), rms=rms)


@pytest.mark.slow
def test_evolving_process_with_equal_spectra_is_stationary():
    """Weights that add up to one leave the one process."""
    power = lorentzian(jnp.asarray(4.0), jnp.asarray(0.2))
    ours = drift.evolving_process(
        jax.random.key(1), jnp.stack([power, power, power]), drift.interpolation_weights(3, N), DT
    )
    np.testing.assert_allclose(ours, gaussian_process(jax.random.key(1), power, N, DT), atol=1e-5)


@functools.cache
def growing():
    """Series whose rms grows from 0.1 to 0.3."""
    powers = jnp.stack([lorentzian(jnp.asarray(4.0), jnp.asarray(rms)) for rms in (0.1, 0.3)])
    weights = drift.interpolation_weights(2, N)
    simulate = jax.jit(jax.vmap(lambda key: drift.evolving_process(key, powers, weights, DT)))
    return np.asarray(simulate(keys()), np.float64)


def local_variance_score(rms_end):
    """Variance at the end of the window against rms_end^2, in standard errors."""
    sample = growing()
    power = np.asarray(lorentzian(jnp.asarray(4.0), jnp.asarray(rms_end)), np.float64)
    expected = (power.sum() - 0.5 * power[-1]) / (N * DT)
    return abs((sample[:, -1] ** 2).mean() / expected - 1.0) / np.sqrt(2 / N_SIM)


def test_evolving_process_has_the_local_variance():
    """Within 5 standard errors, false alarm 6e-7. Twin: the mean of both ends."""
    assert local_variance_score(0.3) < 5
    assert local_variance_score(0.2) > 5


def test_paths():
    """Ends, monotony, and the spread of a walk (5 standard errors: false alarm 6e-7)."""
    np.testing.assert_allclose(drift.linear_path(jnp.asarray(1.0), jnp.asarray(3.0), 3), [1, 2, 3])
    np.testing.assert_allclose(drift.log_linear_path(jnp.asarray(1.0), jnp.asarray(4.0), 3), [1, 2, 4], rtol=1e-6)
    np.testing.assert_allclose(drift.interpolation_weights(4, 50).sum(0), 1.0, rtol=1e-6)
    walks = jax.vmap(lambda key: drift.wandering_path(key, jnp.asarray(2.0), jnp.asarray(0.1), 26))(keys())
    spread = np.log(np.asarray(walks)[:, -1] / 2.0).std()
    assert abs(spread / 0.5 - 1.0) < 5 / np.sqrt(2 * N_SIM)


def test_ensemble_gives_each_curve_its_parameters():
    """Curve i is what the simulator makes of path i and fold_in(key, i)."""

    def simulate(key, theta):
        return theta["rms"] * jax.random.normal(key, (4,))

    curves = drift.drifting_ensemble(jax.random.key(5), simulate, {"rms": jnp.asarray([1.0, 2.0, 3.0])})
    expected = 3.0 * jax.random.normal(jax.random.fold_in(jax.random.key(5), 2), (4,))
    np.testing.assert_allclose(curves[2], expected, rtol=1e-6)


def test_too_few_states_are_refused():
    """Two ends at least."""
    with pytest.raises(ValueError, match="k must be at least 2"):
        drift.interpolation_weights(1, 10)
