"""State-space processes on irregular times: covariances against theory, draws against covariances."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from eagleray.simulators import state_space
from eagleray.simulators.semidefinite import semidefinite_cholesky

TIMES = np.cumsum(np.random.default_rng(3).choice([0.002, 0.1, 0.7, 9.0], 12))
CARMA = {"decay_rates": [0.6], "widths": [0.1], "freqs": [0.4], "moving_average": [0.5, 0.1]}


def scalars(**values):
    """Parameters in the default type."""
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in values.items()}


PROCESSES = {
    "random_walk": (
        lambda key, times: state_space.damped_random_walk(key, times, **scalars(sigma=2.0, tau=1.5)),
        lambda lag: 4.0 * np.exp(-lag / 1.5),
    ),
    "oscillator": (
        lambda key, times: state_space.damped_oscillator(key, times, **scalars(sigma=2.0, freq=0.3, quality=4.0)),
        lambda lag: state_space.oscillator_covariance(lag, **scalars(sigma=2.0, freq=0.3, quality=4.0)),
    ),
    "overdamped": (
        lambda key, times: state_space.damped_oscillator(key, times, **scalars(sigma=2.0, freq=0.3, quality=0.2)),
        lambda lag: state_space.oscillator_covariance(lag, **scalars(sigma=2.0, freq=0.3, quality=0.2)),
    ),
    "carma": (
        lambda key, times: state_space.carma(key, times, **scalars(sigma=2.0, **CARMA)),
        lambda lag: state_space.carma_covariance(lag, **scalars(sigma=2.0, **CARMA)),
    ),
}


@functools.cache
def many_draws(name, n_sim):
    """Draws of a process; more than 10922, above which one way to write the walk goes wrong in XLA."""
    times = jnp.asarray(TIMES, jnp.float32)
    simulate = jax.jit(jax.vmap(PROCESSES[name][0], (0, None)))
    return np.asarray(simulate(jax.random.split(jax.random.key(1), n_sim), times))


def covariance_score(name, tau_factor=1.0, n_sim=20_000):
    """Largest deviation of the sample covariance from theory, in standard errors, over all pairs of times."""
    covariance = PROCESSES[name][1]
    draws = many_draws(name, n_sim)
    lag = np.abs(TIMES[:, None] - TIMES[None]) * tau_factor
    expected = np.asarray(covariance(jnp.asarray(lag.ravel(), jnp.float32))).reshape(lag.shape)
    sample = draws.T.astype(np.float64) @ draws / n_sim
    error = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected**2) / n_sim)
    return np.abs((sample - expected) / error).max()


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_draws_have_the_covariance(name):
    """78 pairs of irregular times within 5.5 standard errors: false alarm 3e-6. Twin: times stretched by 1.3."""
    assert covariance_score(name) < 5.5
    assert covariance_score(name, 1.3) > 5.5


@pytest.mark.parametrize("quality", [0.2, 0.4999, 0.5, 0.5001, 0.7, 20.0])
def test_oscillator_covariance_is_that_of_celerite(quality):
    """Equation 23 of Foreman-Mackey et al., from its eigenvalues, through critical damping."""
    lag = np.linspace(0.0, 10.0, 101)
    with jax.enable_x64(True):
        ours = state_space.oscillator_covariance(jnp.asarray(lag), **scalars(sigma=1.5, freq=0.3, quality=quality))
    matrix = 2 * np.pi * 0.3 * np.array([[0.0, 1.0], [-1.0, -1.0 / quality]])
    np.testing.assert_allclose(ours, [2.25 * expm(matrix * t)[0, 0] for t in lag], atol=1e-7)


def kelly_covariance(lag, roots, moving_average):
    """Equation 4 of Kelly et al. (2014), normalised to one at lag zero."""
    beta = np.concatenate([[1.0], moving_average])
    total = 0.0
    for k, r in enumerate(roots):
        others = np.delete(roots, k)
        below = -2.0 * r.real * np.prod((others - r) * (others.conj() + r))
        above = np.polyval(beta[::-1], r) * np.polyval(beta[::-1], -r)
        total = total + above * np.exp(r * lag) / below
    return (total / total[0]).real


def test_carma_covariance_and_spectrum():
    """Kelly et al.'s covariance, and the cosine transform of the spectrum, are the same function."""
    lag = np.linspace(0.0, 20.0, 201)
    pair = np.complex128(-np.pi * 0.1 + 2j * np.pi * 0.4)
    with jax.enable_x64(True):
        ours = state_space.carma_covariance(jnp.asarray(lag), **scalars(sigma=1.0, **CARMA))
        freq = np.linspace(1e-5, 200.0, 200_001)
        power = np.asarray(state_space.carma_spectrum(jnp.asarray(freq), **scalars(sigma=1.0, **CARMA)))
    np.testing.assert_allclose(ours, kelly_covariance(lag, np.array([-0.6, pair, pair.conj()]), [0.5, 0.1]), atol=1e-12)
    for i in (0, 7, 60):
        assert np.trapezoid(power * np.cos(2 * np.pi * freq * lag[i]), freq) == pytest.approx(float(ours[i]), abs=1e-3)


def test_short_steps_keep_the_oscillator_alive():
    """float32, steps of 1e-3 of a radian: the variance is kept; 5 standard errors, false alarm 6e-7."""
    times = jnp.arange(400, dtype=jnp.float32) * 1e-3
    parameters = scalars(sigma=1.0, freq=1.0 / (2 * np.pi), quality=20.0)
    simulate = jax.jit(jax.vmap(lambda key: state_space.damped_oscillator(key, times, **parameters)))
    draws = np.asarray(simulate(jax.random.split(jax.random.key(4), 4000)), np.float64)
    assert abs((draws[:, -1] ** 2).mean() - 1.0) < 5 * np.sqrt(2 / 4000)
    change = draws[:, -1] - draws[:, 0]
    expected = 2.0 * (1.0 - float(state_space.oscillator_covariance(times[-1:], **parameters)[0]))
    assert abs((change**2).mean() / expected - 1.0) < 5 * np.sqrt(2 / 4000)


def test_too_long_a_moving_average_is_refused():
    """q < p."""
    with pytest.raises(ValueError, match="moving_average must have fewer than p = 3"):
        state_space.carma_covariance(
            jnp.zeros(1), **scalars(sigma=1.0, **(CARMA | {"moving_average": [1.0, 1.0, 1.0]}))
        )


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_semidefinite_cholesky(rank):
    """Rebuilds complex Hermitian matrices of any rank; equals LAPACK's factor where that exists."""
    generator = np.random.default_rng(rank)
    root = generator.standard_normal((5, 4, rank)) + 1j * generator.standard_normal((5, 4, rank))
    matrix = root @ root.conj().swapaxes(-1, -2)
    with jax.enable_x64(True):
        factor = np.asarray(semidefinite_cholesky(jnp.asarray(matrix)))
    np.testing.assert_allclose(factor @ factor.conj().swapaxes(-1, -2), matrix, atol=1e-10)
    assert np.abs(np.triu(factor, 1)).max() == 0
    if rank == 4:
        np.testing.assert_allclose(factor, np.linalg.cholesky(matrix), atol=1e-9)
