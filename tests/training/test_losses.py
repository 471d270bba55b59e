"""Losses and the loop together: a known posterior is learnt, and every view is seen."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from eagleray.networks.densities.coupling import CouplingSettings
from eagleray.networks.embeddings.vectors import MlpSettings
from eagleray.networks.estimators import DensityEstimator
from eagleray.networks.settings import NetworkSettings
from eagleray.training.loop import TrainingSettings, fit, split_validation
from eagleray.training.losses import network_loss, posterior_loss

SMALL = NetworkSettings(
    density=CouplingSettings(n_layers=2, hidden=(16,), n_bins=4), embedding=MlpSettings(hidden=(16,), n_embedded=4)
)
NOISE = 0.5  # x = theta + NOISE * normal, theta standard normal


def linear_gaussian(n, *, shuffled=False):
    """(theta, x, valid) of a problem whose posterior is N(x / 1.25, 0.2)."""
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(n, 1)).astype(np.float32)
    x = (theta + NOISE * rng.normal(size=(n, 1))).astype(np.float32)
    return theta, (rng.permutation(x) if shuffled else x)[:, None, :], np.ones((n, 1), bool)


@functools.cache
def trained(shuffled=False, epochs=15, n=4000):
    """A network trained on the linear Gaussian problem, and its history."""
    data = linear_gaussian(n, shuffled=shuffled)
    training, validation = split_validation(data, jax.random.key(0), 0.2)
    network = DensityEstimator(1, 1, SMALL, rngs=nnx.Rngs(1))
    network.learn_scales(training[0], training[1][:, 0])
    params, loss = network_loss(posterior_loss, network)
    settings = TrainingSettings(max_epochs=epochs, learning_rate=3e-3)
    params, history = fit(loss, params, training, validation, jax.random.key(2), settings=settings)
    nnx.update(network, params)
    return network, history


def worst_error(network):
    """Worst departure of posterior mean and sd from the exact ones, in posterior sds."""
    sd = np.sqrt(0.2)
    draw = jax.jit(lambda key, x: network.sample_many(key, x, 4000))
    wrong = []
    for i, x in enumerate((-1.5, 0.0, 1.5)):
        draws = np.asarray(draw(jax.random.key(i), jnp.array([x], jnp.float32)))
        wrong += [abs(draws.mean() - x / 1.25) / sd, abs(draws.std() / sd - 1.0)]
    return max(wrong)


def test_known_posterior_is_recovered_and_shuffled_data_are_noticed():
    """The tolerance is for 3200 simulations; Monte Carlo alone would give 0.016, so false alarms are below 1e-9."""
    assert worst_error(trained()[0]) < 0.15
    assert worst_error(trained(shuffled=True)[0]) > 0.5


def test_loss_approaches_the_entropy():
    """The best attainable loss is the mean entropy of the posterior, ln sqrt(2 pi e 0.2) = 0.614 nats."""
    history = trained()[1]
    entropy = 0.5 * np.log(2 * np.pi * np.e * 0.2)
    assert abs(min(history.validation_loss) - entropy) < 0.1  # 800 held out: standard error 0.025
    assert min(trained(shuffled=True)[1].validation_loss) > entropy + 0.5


def test_every_view_is_seen():
    """A loss over several views of the same theta averages to that of the views apart."""
    params, loss = network_loss(posterior_loss, trained()[0])
    value = jax.jit(loss.__call__)
    theta, x, valid = linear_gaussian(2000)
    far = x + 1.0
    apart = [float(value(params, (theta, views, valid), jax.random.key(0))) for views in (x, far)]
    views, exist = np.concatenate([x, far], axis=1), np.concatenate([valid, valid], axis=1)
    both = float(value(params, (theta, views, exist), jax.random.key(1)))
    assert apart[0] < both < apart[1]
    np.testing.assert_allclose(both, np.mean(apart), rtol=0.1)
    exist[:, 1] = False  # what does not exist counts for nothing, whatever stands in its place
    views[:, 1] = np.nan
    alone = float(value(params, (theta, views, exist), jax.random.key(1)))
    np.testing.assert_allclose(alone, apart[0], rtol=0.1)
