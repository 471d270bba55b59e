"""An active galaxy watched in seasons: damped random walk, and oscillator, at the times that were observed."""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.likelihoods.gaussian_process.kernels import Kernel, damped_oscillator, damped_random_walk
from eagleray.likelihoods.gaussian_process.state_space import gaussian_process_log_likelihood
from eagleray.priors import Prior
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import Problem, ProblemEntry, several
from eagleray.problems.reference_models import ReferenceModels
from eagleray.records import Key, LightCurve, Panel, Theta, TimeGrid
from eagleray.simulators import state_space
from eagleray.summaries.features import MIN_BINS, CustomSummary

_DAY = 86400.0
# Counts in a bin above which their logarithm is nearly normal.
_MIN_COUNTS = 20
# Above, the summary's matrices take too much memory.
_MAX_TIMES = 500
# The summary's models. Walks: damping times, from 1/150 of the series to all of it, and standard deviations in errors.
_N_TAU = 5
_SIGMAS = (3.0, 13.0)
# Oscillators above a walk: how many frequencies, quality factor, damping time of the walk in series, variance of the
# oscillator over that of the walk.
_OSCILLATORS = ((12, 3.0, 0.1, 1.0), (24, 10.0, 0.1, 1.0), (24, 10.0, 0.02, 1.0), (24, 10.0, 0.1, 5.0))
_OSCILLATOR_SIGMA = 8.0  # standard deviation of the walk, in errors
_CYCLES = (4.0, 60.0)
_LEAST_CYCLES = 5.0
_N_LAGS = 10
# Series for each set of parameters: simulating is cheaper than training.
_N_VIEWS = 4

UNITS = {"tau": "s", "sigma": "", "mean": "ln(counts/s)"}
QPO_UNITS = UNITS | {"qpo_sigma": "", "qpo_freq": "Hz", "quality": ""}

KernelOf = Callable[[Theta], Kernel]
Walk = Callable[[Key, Float[Array, " n_times"], Theta], Float[Array, " n_times"]]
"""Key, times [bins] and parameters -> the process at these times."""


@dataclasses.dataclass(frozen=True, eq=False)
class Series:
    """What was observed, as the process takes it.

    Attributes:
        times: (n_times,) times [s], as offsets.
        values: (n_times,) ln rates [ln(counts/s)].
        error: (n_times,) their standard deviations.
    """

    times: NDArray[np.float64]
    values: NDArray[np.float64]
    error: NDArray[np.float64]

    @property
    def span(self) -> float:
        """Time from the first to the last value [s]."""
        return float(self.times[-1] - self.times[0])


def default_prior(observation: LightCurve) -> dict[str, str]:
    """Wide priors matched to an observation: damping times up to the whole of it, and its mean within a factor e."""
    series = _series("gappy_agn", observation)
    span, middle = series.span, float(series.values.mean())
    return {
        "tau": f"loguniform({max(observation.grid.dt, span / 200):.4g}, {span:.4g})",
        "sigma": "loguniform(0.05, 1)",
        "mean": f"uniform({middle - 1:.4g}, {middle + 1:.4g})",
    }


def default_qpo_prior(observation: LightCurve) -> dict[str, str]:
    """The same, and an oscillation of which the observation holds five to fifty cycles."""
    span, highest = _series("gappy_agn_qpo", observation).span, 0.5 * observation.grid.nyquist
    if not span * highest > _LEAST_CYCLES:
        raise InputError(f"gappy_agn_qpo needs a series longer than 20 bins, got {span / observation.grid.dt:g}")
    return default_prior(observation) | {
        "qpo_sigma": "loguniform(0.1, 0.5)",
        "qpo_freq": f"loguniform({_LEAST_CYCLES / span:.4g}, {min(50 / span, highest):.4g})",
        "quality": "loguniform(2, 20)",
    }


def make(observation: LightCurve, prior: Mapping[str, str] | None = None) -> Problem:
    """A damped random walk of the logarithm of the rate, seen where the source was watched, with known errors.

    The bins with exposure are the times of the series, each at its middle; values are natural logarithms of rates, with
    errors from the observation's (or from its counts) and taken as they are. Parameters:

    - tau: damping time [s].
    - sigma: standard deviation of the walk [ln rate].
    - mean: its mean [ln(counts/s)].

    Args:
        observation: Rates with errors, or counts, with or without gaps.
        prior: Priors that replace the defaults, by parameter name.

    Raises:
        InputError: If a prior names no parameter, or the logarithms of the rates have no normal errors: rates without
            errors, rates or errors not above zero, too few counts in a bin, too few or too many bins.

    References:
        Kelly, Bechtold & Siemiginowska (2009), ApJ 698, 895; Kozlowski (2017), A&A 597, A128, on short light curves.
    """
    priors = problem_prior("gappy_agn", default_prior(observation), prior, positive=("tau", "sigma"))
    dt = observation.grid.dt

    def walk(key: Key, steps: Float[Array, " n_times"], theta: Theta) -> Float[Array, " n_times"]:
        return state_space.damped_random_walk(key, steps, sigma=theta["sigma"], tau=theta["tau"] / dt)

    def kernel(theta: Theta) -> Kernel:
        return damped_random_walk(theta["sigma"], theta["tau"])

    return _gappy("gappy_agn", observation, priors, UNITS, walk, kernel)


def make_qpo(observation: LightCurve, prior: Mapping[str, str] | None = None) -> Problem:
    """A damped random walk and a damped oscillator of the logarithm of the rate, at the times that were observed.

    Parameters besides those of `make`: qpo_sigma, standard deviation of the oscillator [ln rate]; qpo_freq, its
    undamped frequency [Hz]; quality, its quality factor.

    Args:
        observation: As for `make`.
        prior: Priors that replace the defaults, by parameter name.

    Raises:
        InputError: As for `make`; or if a prior of quality reaches to 1/2 or below, where nothing oscillates.

    References:
        Foreman-Mackey et al. (2017), AJ 154, 220, equations 19-24; Vaughan et al. (2016), MNRAS 461, 3145, on
        oscillations that are red noise.
    """
    priors = problem_prior(
        "gappy_agn_qpo", default_qpo_prior(observation), prior, positive=("tau", "sigma", "qpo_sigma", "qpo_freq")
    )
    if not priors.lower_end("quality") >= 0.5:
        raise InputError(f"the prior of quality must not reach below 0.5, got {priors.texts['quality']}")
    dt = observation.grid.dt

    def walk(key: Key, steps: Float[Array, " n_times"], theta: Theta) -> Float[Array, " n_times"]:
        key_walk, key_oscillator = jax.random.split(key)
        oscillator = state_space.damped_oscillator(
            key_oscillator, steps, sigma=theta["qpo_sigma"], freq=theta["qpo_freq"] * dt, quality=theta["quality"]
        )
        return oscillator + state_space.damped_random_walk(key_walk, steps, sigma=theta["sigma"], tau=theta["tau"] / dt)

    def kernel(theta: Theta) -> Kernel:
        oscillator = damped_oscillator(theta["qpo_sigma"], theta["qpo_freq"], theta["quality"])
        return damped_random_walk(theta["sigma"], theta["tau"]) + oscillator

    return _gappy("gappy_agn_qpo", observation, priors, QPO_UNITS, walk, kernel)


def _gappy(
    name: str, observation: LightCurve, prior: Prior, units: Mapping[str, str], walk: Walk, kernel: KernelOf
) -> Problem:
    """A process at the observed times, with the noise of each measurement."""
    series = _series(name, observation)
    grid, watched = observation.grid, np.flatnonzero(np.asarray(observation.exposure) > 0)
    # In bins, where float32 holds them exactly.
    times: Any = series.times  # on the host, for exact differences
    steps, sd = jnp.asarray(series.times / grid.dt, jnp.float32), jnp.asarray(series.error, jnp.float32)
    exposed = jnp.asarray(np.asarray(observation.exposure)[watched] * grid.dt, jnp.float32)
    background = jnp.asarray(np.asarray(observation.background)[watched], jnp.float32)

    def simulate(key: Key, theta: Theta) -> Float[Array, " n_times"]:
        key_walk, key_noise = jax.random.split(key)
        noise = sd * jax.random.normal(key_noise, sd.shape, sd.dtype)
        return theta["mean"] + walk(key_walk, steps, theta) + noise

    def log_likelihood(theta: Theta, values: Float[Array, " n_times"]) -> Float[Array, ""]:
        return gaussian_process_log_likelihood(kernel(theta), times, values, sd**2, mean=theta["mean"])

    def light_curve(values: Float[Array, " n_times"]) -> Float[Array, " n_bins"]:
        rate = jnp.exp(values)
        shown = rate if observation.kind == "rate" else rate * exposed + background
        return jnp.zeros(grid.n_bins, rate.dtype).at[watched].set(shown)

    return Problem(
        name=name,
        prior=prior,
        units=units,
        simulate=simulate,
        simulate_views=several(simulate, _N_VIEWS),
        summary=_summary(series, oscillators=_OSCILLATORS if "quality" in units else ()),
        observed=jnp.asarray(series.values, jnp.float32),
        light_curve=light_curve,
        settings={},
        conditions={},
        log_likelihood=log_likelihood,
    )


def _series(name: str, observation: LightCurve) -> Series:
    """Times, ln rates and their errors, of the bins that were watched."""
    watched = np.asarray(observation.exposure) > 0
    n_times = int(watched.sum())
    if not MIN_BINS <= n_times <= _MAX_TIMES:
        raise InputError(
            f"{name} takes {MIN_BINS} to {_MAX_TIMES} exposed bins, got {n_times}; use another dt or part of the data"
        )
    values, exposure, background = (
        np.asarray(x, np.float64)[watched] for x in (observation.values, observation.exposure, observation.background)
    )
    if observation.kind == "counts":
        if not values.min() >= _MIN_COUNTS:
            raise InputError(
                f"{name} needs at least {_MIN_COUNTS} counts in each exposed bin, got {values.min():g}; use a larger dt"
            )
        rate, error = (values - background) / (exposure * observation.grid.dt), np.sqrt(values)
        error = error / (exposure * observation.grid.dt)
    elif observation.error is None:
        raise InputError("rates must come with errors, got none; give errors, or counts instead of rates")
    else:
        rate, error = values, np.asarray(observation.error, np.float64)[watched]
    lowest = min(rate.min(), error.min())
    if not lowest > 0:
        raise InputError(
            f"{name} needs rates and errors above 0 in exposed bins, got {lowest:g}; use a larger dt, or set the "
            "exposure of such bins to 0"
        )
    return Series(times=observation.grid.times[watched], values=np.log(rate), error=error / rate)


def _summary(series: Series, *, oscillators: tuple[tuple[int, float, float, float], ...]) -> CustomSummary:
    """Ln structure function, what walks and oscillators make of the values, and their best means under the walks."""
    lag = np.abs(series.times[:, None] - series.times)
    walks, others = ReferenceModels.of(_walks(series, lag)), None
    if oscillators:
        others = ReferenceModels.of(np.concatenate([_oscillators(series, lag, *one) for one in oscillators]))
    first, second, group, lags = _pairs(lag)
    n_pairs = np.bincount(group)

    def features(values: Float[Array, " n_times"]) -> Float[Array, " n_features"]:
        squares = (values[first] - values[second]) ** 2
        structure = jax.ops.segment_sum(squares, group, lags.size, indices_are_sorted=True) / n_pairs
        parts = [jnp.log(structure), walks.misfits(values), walks.means(values)]
        return jnp.concatenate(parts if others is None else [*parts, others.misfits(values)])

    n_walks, n_others = len(walks.weights), 0 if others is None else len(others.weights)
    return CustomSummary(
        function=features,
        names=(
            *(f"log_structure[{value:.6g} s]" for value in lags),
            *(f"log_misfit[walk {k}]" for k in range(n_walks)),
            *(f"mean[walk {k}]" for k in range(n_walks)),
            *(f"log_misfit[oscillator {k}]" for k in range(n_others)),
        ),
        panel=Panel(
            name="structure",
            axis_name="lag",
            axis=lags,
            axis_label="Lag [s]",
            value_label="Mean squared change of ln rate",
        ),
        undo=np.exp,
        about={
            "summary": "structure_function_and_models",
            "oscillators": bool(oscillators),
            "times": _digest(series.times - series.times[0]),
            "errors": _digest(series.error),
        },
    )


def _walks(series: Series, lag: NDArray[np.float64]) -> NDArray[np.float64]:
    """Covariance matrices of damped random walks with the noise of the series: a grid of damping times and sigmas."""
    grid = itertools.product(np.geomspace(series.span / 150, series.span, _N_TAU), _SIGMAS)
    return np.array([np.exp(-lag / tau) + _noise(series, sigma) for tau, sigma in grid])


def _oscillators(
    series: Series, lag: NDArray[np.float64], n_freq: int, quality: float, tau: float, ratio: float
) -> NDArray[np.float64]:
    """Covariance matrices of an oscillator of each of n_freq frequencies, above a walk."""
    walk = np.exp(-lag / (tau * series.span)) + _noise(series, _OSCILLATOR_SIGMA)
    root = np.sqrt(1.0 - 1.0 / (4.0 * quality**2))
    matrices = []
    for freq in np.geomspace(*_CYCLES, n_freq) / series.span:
        phase = 2.0 * np.pi * freq * lag
        wave = np.cos(root * phase) + np.sin(root * phase) / (2.0 * quality * root)
        matrices.append(walk + ratio * np.exp(-phase / (2.0 * quality)) * wave)
    return np.array(matrices)


def _noise(series: Series, sigma: float) -> NDArray[np.float64]:
    """Covariance of the measurements, in units of the variance of a process of `sigma` root-mean-square errors."""
    return np.diag(series.error**2 / (sigma**2 * (series.error**2).mean()))


def _pairs(lag: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray]:
    """Pairs of values in logarithmic bins of lag: first, second, bin (ascending); and the mean lag of each bin [s]."""
    first, second = np.triu_indices(lag.shape[0], 1)
    gaps = lag[first, second]
    edges = np.geomspace(gaps.min(), gaps.max(), _N_LAGS + 1)[1:-1]
    _, group = np.unique(np.digitize(gaps, edges), return_inverse=True)
    order = np.argsort(group, kind="stable")
    lags = np.bincount(group, weights=gaps) / np.bincount(group)
    return first[order], second[order], group[order], lags


def _digest(values: NDArray[np.float64]) -> str:
    """What tells two arrays apart."""
    return hashlib.sha256(np.ascontiguousarray(values, "<f4").tobytes()).hexdigest()[:16]


def standard() -> LightCurve:
    """Eight years of a quasar, every ten days in half of each year, a fifth of the nights lost; errors of 3 %."""
    n_bins, season = 288, 36
    nights = np.arange(n_bins)
    lost = np.random.default_rng(0).random(n_bins) < 0.2
    exposure = ((nights % season < season // 2) & ~lost).astype(np.float32)
    return LightCurve(
        values=10.0 * exposure,
        exposure=exposure,
        background=np.zeros(n_bins, np.float32),
        error=0.3 * exposure,
        grid=TimeGrid(n_bins=n_bins, dt=10.0 * _DAY),
        kind="rate",
    )


ENTRIES = {
    "gappy_agn": ProblemEntry(
        make=make,
        about="damped random walk of ln rate, in seasons with gaps, with known errors",
        units=UNITS,
        takes="light curve",
        standard=standard,
        reference="Gaussian likelihood by a state-space (Kalman) filter, exact",
        seconds=0.00007,
    ),
    "gappy_agn_qpo": ProblemEntry(
        make=make_qpo,
        about="damped random walk and damped oscillator of ln rate, in seasons with gaps, with known errors",
        units=QPO_UNITS,
        takes="light curve",
        standard=standard,
        reference="Gaussian likelihood by a state-space (Kalman) filter, exact",
        seconds=0.00017,
    ),
}
