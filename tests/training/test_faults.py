"""What is not finite stops a fit, is said in one line, and is kept so that it can be seen again."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_fits import fit_regression, regression, squared_error

from eagleray.training.faults import TrainingError, finite_rows


def sinking(params, batch, key):
    """A loss that falls until the weights have gone so far that it is no number."""
    away = params["w"].sum()
    return jnp.where(away < -3.0, jnp.nan, away) + 0.0 * squared_error(params, batch, key)


@pytest.fixture
def fault(tmp_path):
    """The file and the message of a fit that fails in its second epoch."""
    with pytest.raises(TrainingError) as caught:
        fit_regression(loss=sinking, max_epochs=20, files={"fault_folder": tmp_path / "faults"})
    file = tmp_path / "faults" / "fault.npz"
    assert str(file) in str(caught.value)
    return file, str(caught.value)


def test_a_loss_that_is_not_finite_is_kept_with_all_that_made_it(fault):
    file, message = fault
    assert message.startswith("the loss stopped being finite in epoch 3, step ")
    assert "(loss nan, gradient norm 0); its data are finite: lower the learning rate (now 0.05);" in message
    assert "\n" not in message
    with np.load(file, allow_pickle=False) as kept:
        assert str(kept["where"]) == message.split(";")[0]
        params, batch = {"w": kept["params['w']"]}, (kept["batch[0]"], kept["batch[1]"])
        key = jax.random.wrap_key_data(kept["key"])
    assert -3.2 < params["w"].sum() < -3.0  # the first step past the edge
    assert batch[0].shape == (16, 3)
    assert np.isnan(sinking(params, batch, key))
    x, y = regression(160)
    rows = [int(np.flatnonzero(y == value)[0]) for value in batch[1]]
    np.testing.assert_array_equal(x[rows], batch[0])


def test_the_epochs_before_a_fault_are_reported():
    told = []
    with pytest.raises(TrainingError, match="in epoch 3,") as caught:
        fit_regression(loss=sinking, max_epochs=20, report=told.append)
    assert [progress.epoch for progress in told] == [1, 2]
    assert "parameters" not in str(caught.value)


def test_data_that_are_not_finite_are_named_unless_the_loss_masks_them():
    x, y = regression(160)
    y[7] = np.nan
    with pytest.raises(TrainingError, match=r"in epoch 1, .*; 1 of its rows hold numbers that are not finite: mask"):
        fit_regression((x, y))

    def masked(params, batch, key):
        there = jnp.isfinite(batch[1])
        errors = jnp.where(there, batch[0] @ params["w"] - jnp.where(there, batch[1], 0.0), 0.0)
        return (errors**2).sum() / there.sum()

    _, history = fit_regression((x, y), loss=masked)
    assert np.isfinite(history.train_loss).all()


def test_a_gradient_that_is_not_finite_is_a_fault_of_its_own_step():
    """The loss is finite, and the weights after it are not."""

    def edge(params, batch, key):
        return jnp.sqrt(jnp.abs(params["w"])).sum() + 0.0 * batch[1].mean()

    with pytest.raises(
        TrainingError, match=r"the gradient stopped .* in epoch 1, step 1 \(loss 0, gradient norm inf\)"
    ):
        fit_regression(loss=edge)


def test_a_validation_loss_that_is_not_finite_is_a_fault(tmp_path):
    x, y = regression(50)
    x[3, 1] = np.inf
    with pytest.raises(TrainingError, match=r"the validation loss stopped .* in epoch 1 \(.*\); 1 of its rows"):
        fit_regression(validation=(x, y), files={"fault_folder": tmp_path})
    with np.load(tmp_path / "fault.npz", allow_pickle=False) as kept:
        np.testing.assert_array_equal(kept["batch[0]"], x)


def test_rows_are_finite_when_all_of_their_numbers_are():
    batch = {"a": jnp.array([1.0, jnp.nan, 3.0]), "b": jnp.ones((3, 2)).at[2, 1].set(jnp.inf), "n": jnp.arange(3)}
    np.testing.assert_array_equal(finite_rows(batch), [True, False, False])
    np.testing.assert_array_equal(finite_rows({"n": jnp.arange(3)}), [True, True, True])
