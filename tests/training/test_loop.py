"""The training loop: it learns, repeats itself, keeps the best weights, compiles once and stops when it should."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_fits import CompileCount, fit_regression, regression, squared_error

from eagleray.records import TrainingHistory
from eagleray.training.compiled import in_pieces
from eagleray.training.data import Simulated, draw_rows
from eagleray.training.faults import TrainingError
from eagleray.training.loop import TrainingSettings, is_over


def distance(params, batch, key):
    """Mean squared distance of the weights' mean from the data."""
    return ((params["w"].mean() - batch) ** 2).mean()


def fit_number(training=3.0, validation=3.0, **settings):
    """Pull a number towards 16 numbers, validated on 4 others."""
    given = {"loss": distance, "learning_rate": 0.1, "batch_size": 8, "weight_decay": 0.0, **settings}
    return fit_regression(jnp.full(16, training), jnp.full(4, validation), **given)


def test_weights_are_learnt():
    params, history = fit_regression(max_epochs=20)
    np.testing.assert_allclose(params["w"], [1.0, -2.0, 0.5], atol=0.2)  # 160 rows: sd 0.024, and AdamW's noise
    assert min(history.validation_loss) < 0.12
    assert history.batch_size == 16
    assert history.seconds > 0


def test_same_key_same_weights_and_another_others():
    first, again, other = (fit_regression(max_epochs=20, key=key)[0]["w"] for key in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_best_weights_are_kept_and_training_stops_early():
    """Training pulls the number up past the validation data's 0.5, and away from them."""
    told = []
    params, history = fit_number(3.0, 0.5, max_epochs=50, patience=4, report=told.append)
    n_run = len(history.validation_loss)
    assert n_run == history.best_epoch + 1 + 4 < 50
    assert history.best_epoch == int(np.argmin(history.validation_loss)) > 0
    np.testing.assert_allclose((params["w"].mean() - 0.5) ** 2, min(history.validation_loss), rtol=1e-5)
    assert history.validation_loss[-1] > 10 * min(history.validation_loss)
    assert [(p.epoch, p.n_epochs) for p in told] == [(i + 1, 50) for i in range(n_run)]
    assert tuple(p.train_loss for p in told) == history.train_loss
    assert tuple(p.validation_loss for p in told) == history.validation_loss
    assert all(p.rows_per_second > 0 and p.seconds_left >= 0 for p in told)


def test_the_averaged_weights_are_validated_and_kept():
    """The average lags behind weights that move steadily."""
    plain, _ = fit_number(max_epochs=10, schedule="constant")
    averaged, history = fit_number(max_epochs=10, schedule="constant", ema=0.9)
    assert 0 < averaged["w"].mean() < 0.95 * plain["w"].mean()
    np.testing.assert_allclose((averaged["w"].mean() - 3.0) ** 2, min(history.validation_loss), rtol=1e-5)


def history_of(*losses, seconds=1.0):
    return TrainingHistory(train_loss=losses, validation_loss=losses, best_epoch=0, seconds=seconds)


def test_small_improvements_do_not_count_where_told():
    losses = (1.0, 0.99, 0.98, 0.97)
    assert not is_over(history_of(*losses), TrainingSettings(patience=3))
    assert is_over(history_of(*losses), TrainingSettings(patience=3, min_improvement=0.05))
    assert not is_over(history_of(*losses), TrainingSettings(patience=3, min_improvement=0.025))


def test_training_ends_when_epochs_or_time_are_over():
    assert is_over(history_of(3.0, 2.0), TrainingSettings(max_epochs=2))
    assert is_over(history_of(3.0, 2.0, seconds=5.0), TrainingSettings(max_seconds=4.0))
    assert not is_over(history_of(3.0, 2.0, seconds=5.0), TrainingSettings(max_seconds=6.0))
    assert len(fit_number(max_epochs=10, max_seconds=1e-6)[1].train_loss) == 1


def test_validation_counts_every_row_once():
    """Whatever their number: the loss is that of all rows together."""
    (x, y), key = regression(301), jax.random.key(0)
    for most in (128, 301, 1000, 100):
        parts = list(in_pieces((x, y), key, most))
        sizes = [size for (rows, _), keys, size in parts for _ in keys]
        assert max(sizes) <= most
        assert max(sizes) - min(sizes) <= 1
        np.testing.assert_array_equal(np.concatenate([rows.reshape(-1, 3) for (rows, _), _, _ in parts]), x)
    params, history = fit_regression(validation=(x, y), loss=no_noise, max_epochs=1)
    np.testing.assert_allclose(history.validation_loss[0], no_noise(params, (x, y), key), rtol=1e-5)


def no_noise(params, batch, key):
    """Mean squared error, whose value does not depend on the key."""
    return ((batch[0] @ params["w"] - batch[1]) ** 2).mean()


def test_compiled_once_whatever_the_number_of_epochs():
    count, seen = CompileCount(), []
    fit_regression(regression(133), max_epochs=6, report=lambda progress: seen.append(count.n))
    assert seen[0] > 0
    assert len(set(seen)) == 1
    again = count.n
    fit_regression(regression(133, seed=3), max_epochs=6, key=1, patience=5)
    assert count.n == again


def simulation(key):
    """One row of the regression, fresh."""
    key_x, key_noise = jax.random.split(key)
    x = jax.random.normal(key_x, (3,))
    return x, x @ jnp.array([1.0, -2.0, 0.5]) + 0.3 * jax.random.normal(key_noise)


def test_fresh_simulations_are_learnt_from():
    validation = draw_rows(jax.random.key(1), simulation, 50)
    assert len(np.unique(np.asarray(validation[0]))) == 150
    source = Simulated(draw=simulation, steps_per_epoch=10)
    params, history = fit_regression(source, validation, max_epochs=20)
    np.testing.assert_allclose(params["w"], [1.0, -2.0, 0.5], atol=0.2)
    assert history.batch_size == 16


def test_a_batch_larger_than_the_data_is_the_data():
    _, history = fit_regression(regression(5), regression(2), max_epochs=2, batch_size=100)
    assert history.batch_size == 5


def test_data_of_different_lengths_are_refused():
    x, y = regression(20)
    with pytest.raises(ValueError, match=r"data must be arrays of the same length, at least 1, got lengths \[19, 20\]"):
        fit_regression((x, y[1:]))


TWO_DEVICES = """
import json
import jax
from small_fits import CompileCount, fit_regression, squared_error
seen, told, count = [], [], CompileCount()

def loss(params, batch, key):
    jax.debug.inspect_array_sharding(batch[0], callback=lambda sharding: seen.append(sharding.is_fully_replicated))
    return squared_error(params, batch, key)

params, history = fit_regression(loss=loss, max_epochs=20, report=lambda progress: told.append(count.n))
print(json.dumps({
    "devices": jax.local_device_count(), "replicated": seen, "compiled": told, "batch": history.batch_size,
    "weights": params["w"].tolist(), "losses": history.validation_loss,
}))
"""


def test_two_devices_give_the_result_of_one():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    two = json.loads(done.stdout)
    one, history = fit_regression(loss=squared_error, max_epochs=20)
    assert two["devices"] == 2
    assert False in two["replicated"]
    assert len(set(two["compiled"])) == 1
    assert two["batch"] == history.batch_size == 16
    np.testing.assert_allclose(two["weights"], one["w"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(two["losses"], history.validation_loss, rtol=1e-4)


@pytest.mark.parametrize("limit", [0.2, 0.5])
def test_simulations_that_are_not_finite_are_counted(limit):
    """A third of the simulations fail; the loss masks them."""

    def failing(key):
        return jnp.where(jax.random.uniform(key) < 1 / 3, jnp.nan, 1.0)

    def masked(params, batch, key):
        there = jnp.isfinite(batch)
        return jnp.where(there, (jnp.where(there, batch, 0.0) - params["w"][0]) ** 2, 0.0).mean()

    source = Simulated(draw=failing, steps_per_epoch=10, max_non_finite=limit)
    if limit > 1 / 3:
        fit_regression(source, jnp.ones(4), loss=masked)
        return
    with pytest.raises(TrainingError, match=r"[23]\d% of the rows of epoch 1 .* not finite, more than 20%; draw"):
        fit_regression(source, jnp.ones(4), loss=masked)
