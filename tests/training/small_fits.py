"""Fits that take no time, for the tests and for the processes that they start."""

import jax
import jax.numpy as jnp
import numpy as np

from eagleray.training.loop import TrainingSettings, fit

WEIGHTS = np.array([1.0, -2.0, 0.5], np.float32)


def regression(n, seed=0):
    """(x, y) with y = WEIGHTS . x and noise of sd 0.3: the best mean squared error is 0.09."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    return x, (x @ WEIGHTS + 0.3 * rng.normal(size=n)).astype(np.float32)


def squared_error(params, batch, key):
    """Mean squared error, with a little noise on the predictions so that keys matter."""
    x, y = batch
    return ((x @ params["w"] + 0.01 * jax.random.normal(key, y.shape) - y) ** 2).mean()


def fit_regression(training=None, validation=None, *, loss=squared_error, key=0, report=None, files=None, **settings):
    """Fit it. files: checkpoint, metrics, fault_folder."""
    given = TrainingSettings(**{"learning_rate": 0.05, "batch_size": 16, "max_epochs": 3, "patience": 1000, **settings})
    return fit(
        loss,
        {"w": jnp.zeros(3)},
        regression(160) if training is None else training,
        regression(50, seed=1) if validation is None else validation,
        jax.random.key(key),
        settings=given,
        report=report,
        **(files or {}),
    )


class CompileCount:
    """Counts what XLA compiles from now on."""

    def __init__(self):
        self.n = 0
        jax.monitoring.register_event_duration_secs_listener(self._told)

    def _told(self, event, duration, **about):
        self.n += event == "/jax/core/compile/backend_compile_duration"
