"""Settings of a training, learning rates and the moving average of weights."""

import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.training.optimiser import TrainingSettings, learning_rates, move_average


def test_the_cosine_rises_and_falls_to_zero():
    rates = learning_rates(TrainingSettings(learning_rate=0.1, warmup_fraction=0.2), 100)
    found = np.array([float(rates(i)) for i in (0, 20, 60, 100)])
    np.testing.assert_allclose(found, [0.01, 0.1, 0.05, 0.0], atol=1e-6)


def test_a_constant_rate_stays_after_the_warm_up():
    rates = learning_rates(TrainingSettings(learning_rate=0.1, warmup_fraction=0.2, schedule="constant"), 100)
    np.testing.assert_allclose([float(rates(i)) for i in (0, 10, 20, 60, 100)], [0.01, 0.055, 0.1, 0.1, 0.1], atol=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
@pytest.mark.parametrize("n_steps", [1, 2, 3])
def test_the_shortest_training_has_a_rate(schedule, n_steps):
    rates = learning_rates(TrainingSettings(warmup_fraction=0.0, schedule=schedule), n_steps)
    assert all(float(rates(i)) > 0 for i in range(n_steps))


def test_the_average_follows_the_weights():
    """Of constant weights it is the weights; of others it remembers 1 / (1 - decay) steps."""
    average = {"w": jnp.zeros(2)}
    for step in range(200):
        average = move_average(average, {"w": jnp.array([1.0, step])}, 0.9, jnp.asarray(step))
    np.testing.assert_allclose(average["w"], [1.0, 199 - 0.9 / 0.1], rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"max_epochs": 0}, "max_epochs must be at least 1, got 0"),
        ({"patience": -1}, "patience must be at least 1, got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive and finite, got nan"),
        ({"learning_rate": float("inf")}, "learning_rate must be positive and finite, got inf"),
        ({"clip_norm": -1.0}, "clip_norm must be positive and finite, got -1.0"),
        ({"validation_fraction": 1.0}, "validation_fraction must be between 0 and 1, got 1.0"),
        ({"schedule": "step"}, "schedule must be one of cosine, constant, got 'step'"),
        ({"warmup_fraction": 1.0}, "warmup_fraction must be at least 0 and below 1, got 1.0"),
        ({"ema": -0.1}, "ema must be at least 0 and below 1, got -0.1"),
        ({"min_improvement": float("nan")}, "min_improvement must be at least 0 and finite, got nan"),
        ({"max_seconds": 0.0}, "max_seconds must be positive, got 0.0"),
        ({"checkpoint_seconds": -1.0}, "checkpoint_seconds must be at least 0 and finite, got -1.0"),
        ({"weight_decay": -1e-3}, "weight_decay must be at least 0 and finite, got -0.001"),
    ],
)
def test_settings_errors(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**settings)
