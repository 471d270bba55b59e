"""Whittle's likelihood about the right spectrum: what dead time leaves of it is learnt by a network."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.xtbm.classical import Likelihood, fitted_frequencies, normal, seen_powers
from eagleray.likelihoods.whittle import whittle
from eagleray.networks.emulators import EmulatorSettings
from eagleray.pipeline.emulation import EmulatedExpectation, emulate_expectation
from eagleray.problems.problem import Problem
from eagleray.records import Key, Theta
from eagleray.training.loop import TrainingSettings

# Knots of what is to be learnt: of asinh of the distance from the centre in half widths, and of frequency [Hz].
_OFFSETS = jnp.array([-5.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.5])
_FREQUENCIES = jnp.array([0.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0])
_SETTINGS = EmulatorSettings(width=64, n_blocks=2, n_members=1)
_EVENNESS = 3e4  # of the number of all events, about
_SEEN = 500_000  # simulations, all epochs together


class Emulated(NamedTuple):
    """A likelihood by an emulator, and how long that took to train [s]."""

    likelihood: Likelihood
    seconds: float


def qpo_behind_dead_time(problem: Problem, key: Key, n: int) -> Emulated:
    """Powers of two detectors' summed light curve, and all their events, about their expectations.

    The network corrects a first guess: for slow variations dead time divides amplitudes and noise by 1 + rate tau.

    Args:
        problem: `dead_time_qpo`.
        key: Typed PRNG key; consumed.
        n: Simulations to learn from.
    """
    dt, dead_time = problem.settings["dt"], problem.settings["dead_time"]
    n_detectors, n_bins = problem.observed.counts.shape
    duration = n_bins * dt
    freq = fitted_frequencies(n_bins, dt)
    see = seen_powers(problem)

    def log_mean(theta: Theta, given: jax.Array) -> jax.Array:
        offset = 2.0 * theta["q"] * (freq / theta["centre"] - 1.0)
        shape = 1.0 / (1.0 + jnp.square(offset))
        alive = 1.0 / (1.0 + theta["rate"] * dead_time)
        total = n_detectors * duration * theta["rate"] * alive
        guess = theta["rms"] ** 2 * duration * shape / shape.sum() + 2.0 * duration / total
        of_offset, of_freq = jnp.split(given[1:], [len(_OFFSETS)])
        correction = jnp.interp(jnp.arcsinh(offset), _OFFSETS, of_offset) + jnp.interp(freq, _FREQUENCIES, of_freq)
        return jnp.append(jnp.log(guess * jnp.square(alive)) + correction, jnp.log(total) + given[0])

    def simulate(key: Key, theta: Theta) -> jax.Array:
        return jnp.append(*see(problem.simulate(key, theta)))

    training = TrainingSettings(max_epochs=max(1, _SEEN // n), weight_decay=0.0)
    n_coefficients = 1 + len(_OFFSETS) + len(_FREQUENCIES)
    mean = emulate_expectation(
        key,
        problem.prior,
        simulate,
        log_mean,
        n_coefficients,
        evenness=jnp.append(jnp.ones(len(freq)), _EVENNESS),
        n=n,
        settings=_SETTINGS,
        training=training,
    )
    return Emulated(Likelihood(see, _about(mean, duration)), mean.history.seconds)


def _about(mean: EmulatedExpectation, duration: float) -> Callable[..., jax.Array]:
    """Exponential powers, and a total as uncertain as the power of the lowest frequency says."""

    def log_likelihood(theta: Theta, seen: tuple[jax.Array, jax.Array]) -> jax.Array:
        power, total = seen
        expected = mean(theta)
        model, expected_total = expected[:-1], expected[-1]
        error = expected_total * jnp.sqrt(model[0] / (2.0 * duration))
        return whittle(power, model) + normal(total, expected_total, error)

    return log_likelihood


EMULATED: dict[str, Callable[[Problem, Key, int], Emulated]] = {"dead_time_qpo": qpo_behind_dead_time}
"""Task -> what learns its likelihood."""
