"""Searches for pulsations over trial frequencies and their derivatives.

Times enter in float64, as offsets from any epoch; phases are exact at any number of cycles (see `phases`). All trials
run in one compiled program.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from eagleray.summaries.phases import TrialPhases, trial_phases
from eagleray.summaries.pulsations.folding import fold
from eagleray.summaries.pulsations.statistics import (
    epoch_folding,
    h_test,
    phase_dispersion,
    z_squared,
    z_squared_of_profile,
)

MIN_SEGMENT_FILL = 0.2
"""Segments whose events span less than this fraction of the segment are left out, as in Stingray."""


def z_squared_search(
    times: Float64[np.ndarray, " n"],
    freqs: Float64[np.ndarray, "*trials"],
    *derivatives: float | np.ndarray,
    n_harmonics: int = 2,
    n_bins: int | None = None,
    weights: np.ndarray | None = None,
    segment_size: float | None = None,
) -> Float[Array, "*trials"]:
    """Z^2_n at each trial.

    Args:
        times: (n,) event times, or times of bins with counts as weights [s], float64.
        freqs: Trial frequencies [Hz], float64, of any shape.
        *derivatives: Trial frequency derivatives [Hz/s, ...], broadcast against `freqs`: for a grid pass
            `freqs[None, :], derivatives[:, None]`.
        n_harmonics: Harmonics, the fundamental included.
        n_bins: Fold into as many bins first, as Stingray does (128 there); default the events themselves.
        weights: (n,) counts each time stands for; default ones.
        segment_size: Average over segments of this length [s], by default the whole.

    Returns:
        Statistic at each trial, of the common shape of frequencies and derivatives.

    Raises:
        ValueError: If no segment holds enough events, or an option is out of range.
    """
    if n_bins is None:
        return _averaged(_z_squared, (n_harmonics,), times, weights, freqs, derivatives, segment_size)
    _check_bins(n_bins)
    return _averaged(_binned_z_squared, (n_harmonics, n_bins), times, weights, freqs, derivatives, segment_size)


def h_test_search(
    times: Float64[np.ndarray, " n"],
    freqs: Float64[np.ndarray, "*trials"],
    *derivatives: float | np.ndarray,
    n_harmonics: int = 20,
    weights: np.ndarray | None = None,
) -> Float[Array, "*trials"]:
    """H statistic at each trial; arguments as for `z_squared_search`, `n_harmonics` the most that are tried."""
    return _averaged(_h_test, (n_harmonics,), times, weights, freqs, derivatives, None)


def epoch_folding_search(
    times: Float64[np.ndarray, " n"],
    freqs: Float64[np.ndarray, "*trials"],
    *derivatives: float | np.ndarray,
    n_bins: int = 128,
    weights: np.ndarray | None = None,
    segment_size: float | None = None,
) -> Float[Array, "*trials"]:
    """Epoch-folding statistic at each trial; arguments as for `z_squared_search`.

    Raises:
        ValueError: If no segment holds enough events, or n_bins is below two.
    """
    _check_bins(n_bins)
    return _averaged(_epoch_folding, (n_bins,), times, weights, freqs, derivatives, segment_size)


def phase_dispersion_search(
    times: Float64[np.ndarray, " n"],
    values: np.ndarray,
    freqs: Float64[np.ndarray, "*trials"],
    *derivatives: float | np.ndarray,
    n_bins: int = 128,
    mask: np.ndarray | None = None,
) -> Float[Array, "*trials"]:
    """Phase dispersion of a light curve at each trial: small where it repeats.

    Args:
        times: (n,) times of the values [s], float64.
        values: (n,) values.
        freqs: Trial frequencies [Hz].
        *derivatives: Trial frequency derivatives, broadcast against `freqs`.
        n_bins: Phase bins.
        mask: (n,) 1 where a value counts, 0 where not.

    Returns:
        Theta at each trial.

    Raises:
        ValueError: If n_bins is below two, or the shapes of times and values differ.
    """
    _check_bins(n_bins)
    if np.shape(times) != np.shape(values):
        raise ValueError(f"values must have the shape of times {np.shape(times)}, got {np.shape(values)}")
    mask = np.ones(np.shape(times)) if mask is None else mask
    data = tuple(jnp.asarray(array, jnp.result_type(float)) for array in (values, mask))
    return _search(trial_phases(times, freqs, *derivatives), data, _phase_dispersion, (n_bins,))


def _averaged(
    statistic: Callable,
    options: tuple[int, ...],
    times: np.ndarray,
    weights: np.ndarray | None,
    freqs: np.ndarray,
    derivatives: tuple,
    segment_size: float | None,
) -> Array:
    """Mean of a statistic over segments."""
    times = np.asarray(times, np.float64)
    weights = np.ones(times.shape) if weights is None else np.asarray(weights, np.float64)
    if times.shape != weights.shape:
        raise ValueError(f"weights must have the shape of times {times.shape}, got {weights.shape}")
    segments = [slice(None)] if segment_size is None else _segments(times, segment_size)
    longest = max(times[part].size for part in segments)
    statistics = []
    for part in segments:
        # Segments are filled up to one length, so that all run in one compiled program.
        padding = (0, longest - times[part].size)
        data = (jnp.asarray(np.pad(weights[part], padding), jnp.result_type(float)),)
        trials = trial_phases(np.pad(times[part], padding), freqs, *derivatives)
        statistics.append(_search(trials, data, statistic, options))
    return sum(statistics[1:], statistics[0]) / len(segments)


def _segments(times: np.ndarray, segment_size: float) -> list[np.ndarray]:
    """Indices of the times in each segment that is filled well enough."""
    if not segment_size > 0:
        raise ValueError(f"segment_size must be positive (seconds), got {segment_size!r}")
    number = np.floor((times - times.min()) / segment_size).astype(np.int64)
    parts = [np.flatnonzero(number == k) for k in np.unique(number)]
    good = [part for part in parts if np.ptp(times[part]) >= MIN_SEGMENT_FILL * segment_size]
    if not good:
        raise ValueError(f"segment_size must leave a segment filled to {MIN_SEGMENT_FILL}, got {segment_size!r}")
    return good


@functools.partial(jax.jit, static_argnames=("statistic", "options"))
def _search(trials: TrialPhases, data: tuple[Array, ...], statistic: Callable, options: tuple[int, ...]) -> Array:
    return trials.map(lambda phase: statistic(phase, *data, *options))


def _z_squared(phase: Array, weights: Array, n_harmonics: int) -> Array:
    return z_squared(phase, n_harmonics, weights)[-1]


def _binned_z_squared(phase: Array, weights: Array, n_harmonics: int, n_bins: int) -> Array:
    return z_squared_of_profile(fold(phase, n_bins, weights), n_harmonics)[-1]


def _h_test(phase: Array, weights: Array, n_harmonics: int) -> Array:
    return h_test(z_squared(phase, n_harmonics, weights)).h


def _epoch_folding(phase: Array, weights: Array, n_bins: int) -> Array:
    return epoch_folding(fold(phase, n_bins, weights))


def _phase_dispersion(phase: Array, values: Array, mask: Array, n_bins: int) -> Array:
    return phase_dispersion(phase, values, n_bins, mask)


def _check_bins(n_bins: int) -> None:
    if n_bins < 2:
        raise ValueError(f"n_bins must be at least 2, got {n_bins}")
