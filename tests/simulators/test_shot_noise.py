"""Shot noise against Campbell's theorem."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from eagleray.records import TimeGrid
from eagleray.simulators import shot_noise

GRID = TimeGrid(n_bins=256, dt=0.05)
THETA = {"shot_rate": 4.0, "width": 0.5, "area": 3.0, "area_scatter": 0.5}
N_SIM = 2000


def scalars(**changes):
    """Parameters in the default type."""
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in (THETA | changes).items()}


@functools.cache
def draws(shape, n_shots=200, before=6.0, after=4.0):
    """Many light curves."""

    def draw(key):
        return shot_noise.shot_noise(
            key, grid=GRID, shape=shape, n_shots=n_shots, before=before, after=after, **scalars()
        )

    return jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(3), N_SIM))


@pytest.mark.parametrize("shape", sorted(shot_noise.SHAPES))
def test_shapes_are_what_they_say(shape):
    """Unit area; squared norm and squared transfer are those of the pulse, by quadrature of its derivative."""
    pulse = shot_noise.SHAPES[shape]
    with jax.enable_x64(True):
        x = np.linspace(-14.0, 30.0, 440_001)
        cumulative = np.asarray(pulse.cumulative(jnp.asarray(x)))
        middle, density = 0.5 * (x[1:] + x[:-1]), np.diff(cumulative) / np.diff(x)
        assert cumulative[-1] - cumulative[0] == pytest.approx(1.0, abs=1e-5)
        assert (density**2).sum() * (x[1] - x[0]) == pytest.approx(pulse.squared_norm, rel=1e-3)
        for freq in (0.0, 0.05, 0.3):
            transform = (density * np.exp(-2j * np.pi * freq * middle)).sum() * (x[1] - x[0])
            assert abs(transform) ** 2 == pytest.approx(float(pulse.squared_transfer(jnp.asarray(freq))), rel=1e-3)
        total = quad(lambda f: float(pulse.squared_transfer(jnp.asarray(f))), 0, 200, limit=500)[0]
        assert 2 * total == pytest.approx(pulse.squared_norm, rel=5e-3)


@pytest.mark.parametrize("shape", ["exponential", "gaussian", "fred", "rectangular"])
def test_moments_are_campbells(shape):
    """Mean and variance at the first, middle and last bin, 5 standard errors each: false alarm 4e-6 a shape."""
    sample = draws(shape)
    assert bool(sample.complete.all())
    rate = np.asarray(sample.rate, np.float64)
    mean = float(shot_noise.shot_noise_mean(*(scalars()[name] for name in ("shot_rate", "area"))))
    variance = float(shot_noise.shot_noise_variance(shape=shape, **scalars()))
    for column in (0, 128, 255):
        value = rate[:, column]
        assert abs(value.mean() - mean) < 5 * value.std() / np.sqrt(N_SIM)
        square = (value - value.mean()) ** 2
        # Averaging over a bin takes up to dt / width of the variance of a pulse with an edge.
        assert abs(square.mean() - variance) < 5 * square.std() / np.sqrt(N_SIM) + 0.05 * variance
        assert abs(value.mean() - 1.2 * mean) > 5 * value.std() / np.sqrt(N_SIM)  # twin: 20 % more shots
        assert abs(square.mean() - 2 * variance) > 5 * square.std() / np.sqrt(N_SIM) + 0.05 * variance  # twin


def test_shots_before_the_window_are_needed():
    """The failing twin of the moments: without them the first bins are too faint."""
    rate = np.asarray(draws("exponential", before=0.0).rate)
    assert rate[:, 0].mean() < 0.2 * rate[:, 128].mean()


def test_spectrum_is_campbells():
    """Mean powers of a Gaussian shot, whose spectrum does not leak, within 15 % of theory up to 0.6 Hz."""
    rate = np.asarray(draws("gaussian").rate, np.float64)
    window = np.hanning(rate.shape[1])
    transform = np.fft.rfft((rate - rate.mean()) * window)
    power = (np.abs(transform) ** 2).mean(0) * 2 * GRID.dt / (window**2).sum()
    freq = np.fft.rfftfreq(rate.shape[1], GRID.dt)
    band = (freq > 0.15) & (freq < 0.45)
    theory = np.asarray(shot_noise.shot_noise_spectrum(jnp.asarray(freq, jnp.float32), shape="gaussian", **scalars()))
    wrong = np.asarray(shot_noise.shot_noise_spectrum(jnp.asarray(freq, jnp.float32), shape="exponential", **scalars()))
    np.testing.assert_allclose(power[band].mean() / theory[band].mean(), 1.0, atol=0.15)
    assert abs(power[band].mean() / wrong[band].mean() - 1.0) > 0.15


def test_too_few_shots_are_reported():
    """The flag, not a silent fading."""
    assert not bool(draws("exponential", n_shots=20).complete.any())


def test_errors_name_what_is_wrong():
    """Each refusal says the rule and what came."""
    with pytest.raises(ValueError, match="shape must be one of"):
        shot_noise.shot_noise(jax.random.key(0), grid=GRID, shape="square", n_shots=2, before=1.0, **scalars())
    with pytest.raises(ValueError, match="must not be negative"):
        shot_noise.shot_noise(jax.random.key(0), grid=GRID, n_shots=2, before=-1.0, **scalars())
