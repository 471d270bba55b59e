"""What astronomers do today, given every advantage: classical likelihoods under the tasks' priors, sampled exactly.

- `whittle`: Whittle's likelihood of the periodogram, whatever the window or the detector do to it.
- `zhang`: the same over the noise that dead time makes of a steady source (Zhang et al. 1995, ApJ 449, 930).
- `fad`: the same on powers corrected by Fourier amplitude differences (Bachetti & Huppenkothen 2018, ApJ 853, L21).
- `live_time`: recorded events over live time, with the error that Poisson events would have.

These are the likelihoods of Stingray's fits; that our maxima and errors are Stingray's is measured by
`benchmarks.real_data` and `benchmarks.modelling`. Where a likelihood has nothing to say of the mean rate, which is a
parameter of some tasks, the usual error of a mean of independent bins, or of Poisson events, is multiplied on.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from eagleray.likelihoods.dead_time_spectrum import dead_time_spectrum
from eagleray.likelihoods.whittle import whittle
from eagleray.problems.problem import Problem
from eagleray.records import Theta
from eagleray.simulators.shapes import bending_power_law
from eagleray.summaries.dead_time import fad
from eagleray.summaries.spectra import positive_frequencies, power_spectrum

_HIGHEST = 60.0  # of the QPOs' powers that are fitted [Hz]


class Likelihood(NamedTuple):
    """An approximate likelihood.

    Attributes:
        see: Data to what is fitted: a pytree of arrays.
        log_likelihood: Parameters and what is fitted to a log density.
    """

    see: Callable[[Any], Any]
    log_likelihood: Callable[[Theta, Any], jax.Array]


def leaky_red_noise(problem: Problem) -> Likelihood:
    """A bending power law, as if nothing leaked in from beyond the window."""
    n, dt = problem.observed.size, problem.summary.about["dt"]
    freq = jnp.asarray(positive_frequencies(n, dt), jnp.float32)

    def see(values: Any) -> Any:
        rate = values / dt
        return power_spectrum(rate, dt, norm="frac"), rate.mean(), rate.std() / jnp.sqrt(1.0 * n)

    def log_likelihood(theta: Theta, seen: Any) -> jax.Array:
        power, mean, error = seen
        shape = bending_power_law(
            freq, slope_low=theta["slope_low"], slope_high=theta["slope_high"], bend_freq=theta["bend_freq"]
        )
        model = theta["rms"] ** 2 * n * dt * shape / shape.sum() + theta["noise"]
        return whittle(power, model) + normal(mean, theta["rate"], error)

    return Likelihood(see, log_likelihood)


def qpo_behind_dead_time(problem: Problem, kind: str) -> Likelihood:
    """A Lorentzian on noise, in the summed light curve of two detectors; the recorded rate, corrected for dead time.

    `zhang` takes for the noise what dead time makes of a steady source of the same rate, `whittle` and `fad` the level
    of Poisson events.
    """
    dt, dead_time = problem.settings["dt"], problem.settings["dead_time"]
    n_detectors, n = problem.observed.counts.shape
    duration = n * dt
    freq = fitted_frequencies(n, dt)

    def log_likelihood(theta: Theta, seen: Any) -> jax.Array:
        power, total = seen
        recorded = total / (n_detectors * duration)
        width = theta["centre"] / theta["q"]
        shape = 1.0 / (1.0 + jnp.square(2.0 * (freq - theta["centre"]) / width))
        noise = 2.0 * duration / total
        if kind == "zhang":
            noise = 0.5 * noise * dead_time_spectrum(freq, recorded / (1.0 - recorded * dead_time), dead_time, dt=dt)
        model = theta["rms"] ** 2 * duration * shape / shape.sum() + noise
        expected = theta["rate"] / (1.0 + theta["rate"] * dead_time)
        return whittle(power, model) + normal(recorded, expected, jnp.sqrt(total) / (n_detectors * duration))

    return Likelihood(seen_powers(problem, corrected=kind == "fad"), log_likelihood)


def fitted_frequencies(n_bins: int, dt: float) -> jax.Array:
    """Frequencies of the QPOs' powers that are fitted [Hz]."""
    freq = positive_frequencies(n_bins, dt)
    return jnp.asarray(freq[freq < _HIGHEST], jnp.float32)


def seen_powers(problem: Problem, *, corrected: bool = False) -> Callable[[Any], tuple[jax.Array, jax.Array]]:
    """Powers of the sum of two detectors, corrected by Fourier amplitude differences if asked for, and all events."""
    dt = problem.settings["dt"]
    n_freq = len(fitted_frequencies(problem.observed.counts.shape[1], dt))

    def see(data: Any) -> tuple[jax.Array, jax.Array]:
        if corrected:
            power = fad(data.counts[:1], data.counts[1:], dt, norm="frac").power_sum
        else:
            power = power_spectrum(data.counts.sum(axis=0), dt, norm="frac")
        return power[:n_freq], data.counts.sum()

    return see


def live_time(problem: Problem) -> Likelihood:
    """Recorded events against the rate that dead time leaves, with Poisson's error."""
    dead_time = problem.settings["dead_time"]
    duration = float(np.sum(problem.observed.live) + np.sum(problem.observed.counts) * dead_time)

    def log_likelihood(theta: Theta, total: Any) -> jax.Array:
        return normal(total / duration, theta["rate"] / (1.0 + theta["rate"] * dead_time), jnp.sqrt(total) / duration)

    return Likelihood(lambda data: jnp.sum(data.counts), log_likelihood)


def normal(value: jax.Array, mean: jax.Array, sd: jax.Array) -> jax.Array:
    """Ln normal density."""
    return jax.scipy.stats.norm.logpdf(value, mean, sd)


CLASSICAL: dict[str, dict[str, Callable[[Problem], Likelihood]]] = {
    "whittle": {
        "leaky_red_noise": leaky_red_noise,
        "dead_time_qpo": lambda problem: qpo_behind_dead_time(problem, "whittle"),
    },
    "zhang": {"dead_time_qpo": lambda problem: qpo_behind_dead_time(problem, "zhang")},
    "fad": {"dead_time_qpo": lambda problem: qpo_behind_dead_time(problem, "fad")},
    "live_time": {"dead_time_rate": live_time},
}
"""Method -> task -> its likelihood."""
