"""The training loop: it learns what can be learnt, repeats itself, keeps the best weights and stops when it should."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eagleray.networks.estimators import FlowEstimator, FlowSettings
from eagleray.training.loop import TrainingError, TrainingSettings, fit, split_validation
from eagleray.training.losses import posterior_loss

SMALL = FlowSettings(embedding=(16,), n_embedded=4, n_layers=2, hidden=(16,), n_bins=4)
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
    network = FlowEstimator(1, 1, SMALL, rngs=nnx.Rngs(1))
    network.learn_scales(training[0], training[1][:, 0])
    graphdef, params, constants = nnx.split(network, nnx.Param, ...)
    loss = posterior_loss(graphdef, constants)
    settings = TrainingSettings(max_epochs=epochs, learning_rate=3e-3)
    params, history = fit(loss, params, training, validation, jax.random.key(2), settings=settings)
    return nnx.merge(graphdef, params, constants), params, history


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
    history = trained()[2]
    entropy = 0.5 * np.log(2 * np.pi * np.e * 0.2)
    assert abs(min(history.validation_loss) - entropy) < 0.1  # 800 held out: standard error 0.025
    assert min(trained(shuffled=True)[2].validation_loss) > entropy + 0.5


@pytest.mark.slow
def test_same_seed_same_weights():
    first, second = trained(epochs=2, n=500)[1], trained.__wrapped__(epochs=2, n=500)[1]
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(a, b)


def quadratic(params, batch, key):
    """Mean squared distance of one parameter from the data."""
    return ((params["p"] - batch) ** 2).mean()


def fit_number(training, validation, loss=quadratic, report=None, **settings):
    """Fit one number to arrays."""
    given = TrainingSettings(**{"learning_rate": 0.1, "batch_size": 8, "weight_decay": 0.0, **settings})
    start = {"p": jnp.zeros(())}
    return fit(loss, start, training, validation, jax.random.key(0), settings=given, report=report)


def test_best_weights_are_kept_and_training_stops_early():
    """Training pulls the number up past the validation data's 0.5, and away from them."""
    told = []
    params, history = fit_number(
        jnp.full(16, 3.0), jnp.full(4, 0.5), max_epochs=50, patience=4, report=lambda *args: told.append(args)
    )
    n_run = len(history.validation_loss)
    assert n_run == history.best_epoch + 1 + 4 < 50
    assert history.best_epoch == int(np.argmin(history.validation_loss)) > 0
    np.testing.assert_allclose((params["p"] - 0.5) ** 2, min(history.validation_loss), rtol=1e-5)
    assert history.validation_loss[-1] > 10 * min(history.validation_loss)
    assert [t[:2] for t in told] == [(i + 1, 50) for i in range(n_run)]
    np.testing.assert_allclose([t[2:] for t in told], np.transpose([history.train_loss, history.validation_loss]))


def test_all_epochs_run_while_it_gets_better():
    params, history = fit_number(jnp.full(16, 3.0), jnp.full(4, 3.0), max_epochs=12, patience=2)
    assert len(history.train_loss) == 12
    assert history.best_epoch == 11
    assert history.seconds > 0
    assert params["p"] > 0.5


def test_a_batch_larger_than_the_data_is_the_data():
    _, history = fit_number(jnp.full(5, 3.0), jnp.full(2, 3.0), max_epochs=2, batch_size=100)
    assert np.isfinite(history.train_loss).all()


def test_a_loss_that_is_not_finite_names_its_epoch():
    def sinking(params, batch, key):
        return jnp.where(params["p"] < -0.55, jnp.nan, params["p"]) + 0.0 * batch.mean()

    told = []
    with pytest.raises(TrainingError, match=r"stopped being finite in epoch \d+ .*lower the learning rate") as caught:
        fit_number(jnp.ones(16), jnp.ones(4), loss=sinking, max_epochs=40, report=lambda *args: told.append(args))
    assert len(told) > 2
    assert f"in epoch {len(told) + 1} " in str(caught.value)


def test_every_view_is_seen():
    """A loss over several views of the same theta averages to that of the views apart."""
    network = trained()[0]
    graphdef, params, constants = nnx.split(network, nnx.Param, ...)
    loss = jax.jit(posterior_loss(graphdef, constants))
    theta, x, valid = linear_gaussian(2000)
    far = x + 1.0
    apart = [float(loss(params, (theta, views, valid), jax.random.key(0))) for views in (x, far)]
    views, exist = np.concatenate([x, far], axis=1), np.concatenate([valid, valid], axis=1)
    both = float(loss(params, (theta, views, exist), jax.random.key(1)))
    assert apart[0] < both < apart[1]
    np.testing.assert_allclose(both, np.mean(apart), rtol=0.1)
    exist[:, 1] = False  # what does not exist counts for nothing, whatever stands in its place
    views[:, 1] = np.nan
    alone = float(loss(params, (theta, views, exist), jax.random.key(1)))
    np.testing.assert_allclose(alone, apart[0], rtol=0.1)


def test_split_holds_each_row_once():
    data = {"a": np.arange(50), "b": np.arange(50)[:, None] * 2}
    training, validation = split_validation(data, jax.random.key(0), 0.1)
    assert (len(training["a"]), len(validation["a"])) == (45, 5)
    np.testing.assert_array_equal(np.sort(np.concatenate([training["a"], validation["a"]])), np.arange(50))
    np.testing.assert_array_equal(training["b"][:, 0], 2 * training["a"])


def test_a_split_leaves_something_to_train_on():
    training, validation = split_validation(np.arange(10), jax.random.key(0), 0.99)
    assert len(training) >= 1
    assert len(validation) >= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"max_epochs": 0}, "max_epochs must be at least 1, got 0"),
        ({"patience": -1}, "patience must be at least 1, got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive, got nan"),
        ({"clip_norm": -1.0}, "clip_norm must be positive, got -1.0"),
        ({"validation_fraction": 1.0}, "validation_fraction must be between 0 and 1, got 1.0"),
        ({"weight_decay": -1e-3}, "weight_decay must be at least 0, got -0.001"),
    ],
)
def test_settings_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**settings)
