"""Data that are no plain vectors: sets of changing size, watched in changing ways, from simulations to a posterior."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eagleray.config import make_config
from eagleray.diagnostics.calibration import calibration
from eagleray.errors import InputError
from eagleray.inference.storage import load_posterior, save_posterior
from eagleray.pipeline.learning import learn
from eagleray.priors import Prior
from eagleray.records import Bank, Features
from eagleray.training.data import Simulated

PRIOR = Prior({"mean": "normal(0, 1)"})
N_POINTS = 12
SETTINGS = {"embedding": {"kind": "set", "item": {"kind": "mlp", "hidden": [32], "n_embedded": 16}}}
TRAINING = {"max_epochs": 15, "learning_rate": 0.004}


def pair(key):
    """A mean, and one to twelve measurements of it, whose error is a setting; NaN where nothing was measured."""
    key_mean, key_n, key_error, key_noise = jax.random.split(key, 4)
    theta = PRIOR.sample(key_mean)
    n = jax.random.randint(key_n, (), 1, N_POINTS + 1)
    error = jnp.exp(jax.random.uniform(key_error, (), minval=jnp.log(0.3), maxval=jnp.log(3.0)))
    there = jnp.arange(N_POINTS) < n
    values = theta["mean"] + error * jax.random.normal(key_noise, (N_POINTS,))
    values = jnp.where(there, values, jnp.nan)
    return PRIOR.unconstrain(theta), Features(values=values[:, None], mask=there, settings=error[None])


def pairs(seed, n):
    theta, x = jax.device_get(jax.jit(jax.vmap(pair))(jax.random.split(jax.random.key(seed), n)))
    return theta, x


def exact(x):
    """Mean and standard deviation of the posterior."""
    n, error = x.mask.sum(axis=1), x.settings[:, 0]
    variance = 1.0 / (1.0 + n / error**2)
    return variance * np.where(x.mask, x.values[..., 0], 0.0).sum(axis=1) / error**2, np.sqrt(variance)


def bank(seed, n):
    """Every fiftieth simulation does not exist."""
    theta, x = pairs(seed, n)
    valid = (np.arange(n) % 50 > 0)[:, None]
    return Bank(theta=theta, x=jax.tree.map(lambda leaf: leaf[:, None], x), valid=valid)


@pytest.fixture(scope="module")
def posterior():
    config = make_config({"network": SETTINGS, "training": TRAINING})
    return learn(jax.random.key(0), PRIOR, bank(1, 4000), config=config)


def test_posterior_knows_how_much_was_measured_and_how_well(posterior):
    """Widths follow the number of measurements and their error; they would not if the mask were not looked at."""
    _, x = pairs(2, 200)
    mean, sd = exact(x)
    draws = posterior.sample_each(jax.random.key(3), x, 1000)["mean"]
    off = (draws.mean(axis=1) - mean) / sd
    assert np.sqrt((off**2).mean()) < 0.3
    ratio = np.log(draws.std(axis=1) / sd)
    assert np.sqrt((ratio**2).mean()) < 0.2
    _, sd_of_all = exact(Features(values=np.nan_to_num(x.values), mask=np.ones_like(x.mask), settings=x.settings))
    assert np.sqrt((np.log(sd_of_all / sd) ** 2).mean()) > 0.3


@pytest.mark.slow
def test_one_observation_is_answered_as_many_are(posterior):
    _, x = pairs(4, 2)
    first = jax.tree.map(lambda leaf: leaf[0], x)
    draws = posterior.sample(jax.random.key(5), first, 2000)["mean"]
    assert abs(draws.mean() - exact(x)[0][0]) < 0.5 * exact(x)[1][0]
    assert np.isfinite(posterior.log_prob({"mean": jnp.float32(0.1)}, first))
    assert np.isfinite(posterior.map(jax.random.key(6), first)["mean"])


def test_saved_and_loaded_without_a_simulator(posterior, tmp_path):
    theta, x = pairs(7, 200)
    drawn = posterior.sample_each(jax.random.key(8), x, 100)
    truth = {"mean": np.asarray(jax.vmap(PRIOR.constrain)(theta)["mean"])}
    posterior.calibration = calibration(truth, drawn)
    save_posterior(posterior, tmp_path / "network")
    again = load_posterior(tmp_path / "network")
    assert again.reference is None
    np.testing.assert_allclose(
        again.sample_each(jax.random.key(8), x, 100)["mean"], drawn["mean"], rtol=1e-4, atol=1e-4
    )


def test_fresh_simulations_may_hold_nothing_behind_their_masks():
    """NaN stands in most rows, and is not counted as a simulation that went wrong."""
    config = make_config({"network": SETTINGS, "training": {"max_epochs": 1}})

    def draw(key):
        theta, x = pair(key)
        return theta, jax.tree.map(lambda leaf: leaf[None], x), jnp.ones(1, bool)

    found = learn(jax.random.key(2), PRIOR, Simulated(draw=draw, steps_per_epoch=5), config=config)
    assert np.isfinite(found.history.train_loss).all()


def test_masks_of_whole_numbers_are_masks():
    embedding = make_config({"network": SETTINGS}).network.embedding
    _, x = pairs(11, 300)
    learnt = []
    for kind in (bool, np.int32, np.float32):
        made = embedding.build(jax.tree.map(lambda leaf: leaf[0], x), rngs=nnx.Rngs(0))
        made.learn_scales(dataclasses.replace(x, mask=x.mask.astype(kind)))
        learnt.append(np.asarray(made.item.warp.mean[...]))
    np.testing.assert_array_equal(learnt[0], learnt[1])
    np.testing.assert_array_equal(learnt[0], learnt[2])


def test_data_without_the_axes_of_a_bank_are_refused():
    theta, x = pairs(12, 200)
    for wrong in (x, x.values[..., 0], None):
        with pytest.raises(InputError, match="x must have the axes"):
            learn(jax.random.key(1), PRIOR, Bank(theta=theta, x=wrong, valid=np.ones((200, 1), bool)))


@pytest.mark.slow
def test_ratios_of_such_data_are_learnt():
    config = make_config({"method": "nre", "network": SETTINGS, "training": TRAINING})
    ratio = learn(jax.random.key(1), PRIOR, bank(9, 3000), config=config)
    x = Features(values=jnp.full((N_POINTS, 1), 1.0), mask=jnp.ones(N_POINTS, bool), settings=jnp.array([0.5]))
    near, far = (float(ratio.log_likelihood({"mean": jnp.float32(m)}, x)) for m in (1.0, -1.0))
    assert near > far + 3.0
    with pytest.raises(InputError, match="x must have the shape"):
        ratio.log_likelihood({"mean": jnp.float32(0.0)}, dataclasses.replace(x, mask=None))
    fewer = Features(values=x.values[:3], mask=x.mask[:3], settings=x.settings)
    assert np.isfinite(ratio.log_likelihood({"mean": jnp.float32(0.0)}, fewer))


def test_likelihoods_of_such_data_are_refused():
    with pytest.raises(InputError, match="nle learns the density of plain vectors"):
        learn(jax.random.key(1), PRIOR, bank(9, 200), config=make_config({"method": "nle"}))


def test_an_embedding_of_another_kind_is_refused():
    with pytest.raises(InputError, match="network: features.values must have 1 axes"):
        learn(jax.random.key(1), PRIOR, bank(9, 200), config=make_config({"network": {"embedding": "mlp"}}))
