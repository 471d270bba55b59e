"""Emulators: known functions, errors that can be believed, and gradients worth their time."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eagleray.errors import InputError
from eagleray.networks.emulators import Emulator, EmulatorSettings
from eagleray.pipeline.emulation import emulate, emulate_expectation
from eagleray.priors import Prior
from eagleray.training.loop import TrainingSettings
from eagleray.training.losses import expectation_loss

PRIOR = Prior({"norm": "loguniform(0.1, 10)", "bend": "loguniform(0.1, 5)", "slope": "uniform(1, 3)"})
FREQ = np.geomspace(0.05, 10.0, 40)
SMALL = EmulatorSettings(n_components=8, width=32, n_blocks=2, n_members=2)
SHORT = TrainingSettings(max_epochs=60, patience=60, learning_rate=5e-3, weight_decay=0.0, batch_size=64)


def log_spectrum(theta):
    return jnp.log(theta["norm"]) - jnp.log1p((FREQ / theta["bend"]) ** theta["slope"])


@pytest.fixture(scope="module")
def emulated():
    return emulate(jax.random.key(0), PRIOR, log_spectrum, n=1500, settings=SMALL, training=SHORT)


def draws(n, seed=5):
    keys = jax.random.split(jax.random.key(seed), n)
    return jax.jit(jax.vmap(PRIOR.sample))(keys)


@pytest.mark.slow
def test_emulator_is_close_where_the_prior_is_and_knows_how_close(emulated):
    """ln spectra vary by 2.5 over the prior; the twin compares with the spectra of other parameters."""
    theta = draws(500)
    truth = np.asarray(jax.jit(jax.vmap(log_spectrum))(theta))
    said = np.asarray(jax.jit(jax.vmap(emulated))(theta))
    error = np.sqrt(((said - truth) ** 2).mean(axis=0))
    assert truth.std() > 1.5
    assert error.max() < 0.15
    assert np.sqrt(((said - np.roll(truth, 1, axis=0)) ** 2).mean(axis=0)).min() > 0.5
    np.testing.assert_allclose(emulated.error, error, rtol=0.5, atol=0.005)


@pytest.mark.slow
def test_members_disagree_more_outside_the_prior(emulated):
    inside, outside = (
        float(emulated.with_error({"norm": jnp.float32(1), "bend": jnp.float32(b), "slope": jnp.float32(2)})[1].mean())
        for b in (0.7, 4.9999)
    )
    assert outside > 2 * inside


@pytest.mark.slow
def test_gradients_help_where_evaluations_are_few():
    """With 60 spectra, learning their slopes too leaves about half of the error: 0.36 to 0.59 for four keys."""
    errors = []
    theta = draws(500)
    truth = np.asarray(jax.jit(jax.vmap(log_spectrum))(theta))
    training = dataclasses.replace(SHORT, max_epochs=800, patience=800, learning_rate=3e-3, batch_size=32)
    for gradients in (False, True):
        found = emulate(
            jax.random.key(1), PRIOR, log_spectrum, n=60, gradients=gradients, settings=SMALL, training=training
        )
        said = np.asarray(jax.jit(jax.vmap(found))(theta))
        errors.append(np.sqrt(((said - truth) ** 2).mean()))
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.slow
def test_principal_components_of_few_rows():
    network = Emulator(2, 5, EmulatorSettings(n_components=4, width=8, n_blocks=1, n_members=2), rngs=nnx.Rngs(0))
    outputs = np.arange(10.0).reshape(2, 5)
    network.learn_scales(np.zeros((2, 2)), outputs)
    np.testing.assert_allclose(network.spread[...], outputs.std(axis=0), rtol=1e-5)
    assert np.linalg.matrix_rank(np.asarray(network.components[...]), tol=1e-4) == 1


def test_functions_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="must be finite over the prior, got .* of 64 draws"):
        emulate(jax.random.key(0), PRIOR, lambda theta: jnp.log(theta["norm"] - 1.0)[None], n=64, settings=SMALL)


def exponential(key, theta):
    """Powers about a spectrum."""
    return jnp.exp(log_spectrum(theta)) * jax.random.exponential(key, FREQ.shape)


def corrected_power_law(theta, coefficients):
    """A first guess without the bend, and what it needs as a broken line in ln f."""
    guess = jnp.log(theta["norm"]) - theta["slope"] * jnp.log1p(FREQ)
    return guess + jnp.interp(jnp.log(FREQ), KNOTS, coefficients)


KNOTS = jnp.linspace(np.log(FREQ[0]), np.log(FREQ[-1]), 10)


def test_expectation_is_learnt_from_single_periodograms():
    """Powers scatter by their mean: 4000 of them tell a spectrum to 2 % if shared; the first guess is off by far."""
    training = TrainingSettings(max_epochs=15, learning_rate=5e-3, weight_decay=0.0)
    found = emulate_expectation(
        jax.random.key(2), PRIOR, exponential, corrected_power_law, 10, n=4000, settings=SMALL, training=training
    )
    theta = draws(200)
    truth = np.asarray(jax.jit(jax.vmap(log_spectrum))(theta))
    said = np.log(np.asarray(jax.jit(jax.vmap(found))(theta)))
    guess = np.asarray(jax.vmap(lambda t: corrected_power_law(t, jnp.zeros(10)))(theta))
    assert np.sqrt(((said - truth) ** 2).mean()) < 0.15
    assert abs((said - truth).mean()) < 0.03
    assert np.sqrt(((guess - truth) ** 2).mean()) > 1.0


def test_expectation_of_negative_numbers_is_refused():
    with pytest.raises(InputError, match="simulations must be positive, got .* of 128"):
        emulate_expectation(
            jax.random.key(0), PRIOR, lambda key, theta: -exponential(key, theta), corrected_power_law, 10, n=128
        )


@pytest.mark.parametrize(
    ("simulate", "log_mean", "options", "message"),
    [
        (lambda key, theta: jnp.float32(1), corrected_power_law, {}, "simulate must return a vector"),
        (exponential, lambda theta, c: corrected_power_law(theta, c)[:, None], {}, "log_mean must return what"),
        (exponential, corrected_power_law, {"evenness": -1.0}, "evenness must be one positive number"),
        (exponential, corrected_power_law, {"evenness": np.ones(3)}, "evenness must be one positive number"),
        (exponential, corrected_power_law, {"n": 5}, "n must be at least 100"),
        (lambda key, theta: jnp.nan * exponential(key, theta), corrected_power_law, {}, "got 128 of 128 that are not"),
    ],
)
def test_expectations_that_cannot_be_learnt_are_refused(simulate, log_mean, options, message):
    with pytest.raises(InputError, match=message):
        emulate_expectation(jax.random.key(0), PRIOR, simulate, log_mean, 10, **{"n": 128} | options)


def test_zeros_are_numbers_too():
    """The loss and its gradient stay finite at an output of 0, and the gradient still asks for less."""
    network = Emulator(1, 2, EmulatorSettings(n_components=2, width=8, n_blocks=1, n_members=1), rngs=nnx.Rngs(0))
    batch = jnp.zeros((1, 1)), jnp.array([[0.0, 1.0]])

    def loss(level):
        log_mean = lambda position, given: level + 0.0 * given  # noqa: E731
        return expectation_loss(network, batch, jax.random.key(0), log_mean=log_mean, evenness=jnp.ones(2))

    value, slope = jax.value_and_grad(loss)(0.0)
    assert np.isfinite(value)
    assert float(slope) == pytest.approx(0.5)
