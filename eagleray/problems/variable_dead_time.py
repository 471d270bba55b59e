"""A steady source behind dead times that scatter from event to event: a renewal process with a known likelihood."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray
from scipy import stats

from eagleray.errors import InputError
from eagleray.likelihoods.renewal import ex_gaussian_log_density, recorded_intervals
from eagleray.priors import Prior
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import Problem, ProblemEntry, several
from eagleray.records import EventList, Key, Panel, Theta
from eagleray.simulators.observe.dead_time import incident_rate
from eagleray.simulators.observe.dead_time_draws import scattered_dead_times
from eagleray.simulators.observe.events import unit_exponentials
from eagleray.summaries.features import CustomSummary

NUSTAR_MEAN_DEAD_TIME = 2.54e-3
"""Mean dead time of NuSTAR events [s]; they scatter with a standard deviation of 0.21 ms."""

UNITS = {"rate": "counts/s", "dead_time": "s", "dead_time_sd": "s"}

# Sets of intervals for each set of parameters: simulating is cheaper than training.
_N_VIEWS = 4
_MIN_INTERVALS = 100
# The last interval of each good time interval is not known whole. Leaving it out shifts the rate by n_gti / sqrt(n) of
# its standard error.
_LARGEST_SHIFT = 0.1
# Standard deviations between the mean dead time and zero: below it, one interval in 3e5 would need a negative one.
_N_SD = 4.5
_N_ORDERS = 32


def default_prior(observation: EventList, *, dead_time: float = NUSTAR_MEAN_DEAD_TIME) -> dict[str, str]:
    """Priors about the dead time expected of the instrument, and the incident rate that it and the events suggest."""
    rate = float(incident_rate(1.0 / _intervals(observation, dead_time).mean(), dead_time))
    return {
        "rate": f"loguniform({rate / 4:.4g}, {rate * 4:.4g})",
        "dead_time": f"uniform({0.7 * dead_time:.4g}, {1.3 * dead_time:.4g})",
        "dead_time_sd": f"loguniform({0.02 * dead_time:.4g}, {0.15 * dead_time:.4g})",
    }


def make(
    observation: EventList, prior: Mapping[str, str] | None = None, *, dead_time: float = NUSTAR_MEAN_DEAD_TIME
) -> Problem:
    """Intervals between the recorded events of a steady source, each a dead time and a wait for the next photon.

    Dead times are normal, waits exponential, their sums ex-Gaussian; n intervals are independent. Parameters:

    - rate: incident rate [counts/s].
    - dead_time: mean dead time [s].
    - dead_time_sd: standard deviation of the dead times [s].

    Data are the n intervals [s], in any order: as many as the observation has between events of the same good time
    interval. What is left of a good time interval after its last event is not used, which shifts the rate by less than
    a tenth of its standard error, or the observation is refused.

    Args:
        observation: Events of one detector; gives the number of intervals and the prior range of the rate.
        prior: Priors that replace the defaults, by parameter name.
        dead_time: Mean dead time that the instrument is expected to have [s]; the default priors lie about it.

    Raises:
        InputError: If the observation is no list of events of one detector, has fewer than 100 intervals or too many
            good time intervals, or is too bright for the dead time; a prior names no parameter, or lets dead times
            reach below zero.

    References:
        Grushka (1972), Analytical Chemistry 44, 1733 (ex-Gaussian); Huppenkothen & Bachetti (2022), MNRAS 511, 5689
        (NuSTAR's dead times: mean 2.54 ms, standard deviation 0.21 ms).
    """
    intervals = _intervals(observation, dead_time)
    priors = problem_prior(
        "variable_dead_time",
        default_prior(observation, dead_time=dead_time),
        prior,
        positive=("rate", "dead_time", "dead_time_sd"),
    )
    _check_positive(priors)
    n = intervals.size

    def simulate(key: Key, theta: Theta) -> Float[Array, " n"]:
        key_dead, key_wait = jax.random.split(key)
        dead = scattered_dead_times(key_dead, theta["dead_time"], theta["dead_time_sd"], n)
        return dead + unit_exponentials(key_wait, n, dead.dtype) / theta["rate"]

    def log_likelihood(theta: Theta, data: Float[Array, " n"]) -> Float[Array, ""]:
        # Densities of intervals in units of the expected dead time: their logarithms are small.
        return ex_gaussian_log_density(
            data / dead_time,
            rate=theta["rate"] * dead_time,
            mean=theta["dead_time"] / dead_time,
            sd=theta["dead_time_sd"] / dead_time,
        ).sum()

    return Problem(
        name="variable_dead_time",
        prior=priors,
        units=UNITS,
        simulate=simulate,
        simulate_views=several(simulate, _N_VIEWS),
        summary=_summary(n, dead_time),
        observed=jnp.asarray(intervals, jnp.float32),
        settings={"dead_time": float(dead_time)},
        conditions={},
        log_likelihood=log_likelihood,
    )


def _intervals(observation: EventList, dead_time: float) -> NDArray[np.float64]:
    """Intervals between events [s], if they are of a kind that the problem explains."""
    name = "variable_dead_time"
    if not isinstance(observation, EventList):
        raise InputError(f"{name} takes the events of one detector, got {type(observation).__name__}")
    if not 0 < dead_time < math.inf:
        raise InputError(f"dead_time must be positive (seconds), got {dead_time!r}")
    try:
        intervals = np.asarray(recorded_intervals(observation).complete, np.float64)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error
    n, n_gti = intervals.size, len(observation.gti)
    if n < _MIN_INTERVALS:
        raise InputError(f"{name} needs at least {_MIN_INTERVALS} intervals between events, got {n}")
    if n_gti > 1 and n_gti > _LARGEST_SHIFT * math.sqrt(n):
        raise InputError(
            f"{name} needs good time intervals long enough that their ends do not matter, got {n_gti} with {n} "
            f"intervals between events; keep the {max(1, int(_LARGEST_SHIFT * math.sqrt(n)))} longest"
        )
    if not intervals.mean() > dead_time:
        raise InputError(
            f"dead_time must be shorter than the mean interval between events, {intervals.mean():.4g} s, got "
            f"{dead_time:g}; give the dead time of the instrument, or the events of one detector alone"
        )
    if not intervals.min() > 0:
        raise InputError(f"{name} needs events at different times, got two at the same; take one detector alone")
    return intervals


def _check_positive(prior: Prior) -> None:
    """Refuse priors under which dead times would be negative."""
    low, high = prior.lower_end("dead_time"), prior.upper_end("dead_time_sd")
    if not low >= _N_SD * high:
        raise InputError(
            f"the priors must keep the mean dead time {_N_SD} standard deviations above zero, got dead_time from "
            f"{low:g} s and dead_time_sd to {high:g} s; use uniform, loguniform or truncnormal with closer ends"
        )


def _summary(n: int, dead_time: float) -> CustomSummary:
    """Ordered intervals, dense among the shortest, where the dead time shows, and how much longer those above them are.

    Beyond the dead times the wait has no memory: the mean excess over an interval there is 1 / rate.
    """
    orders = np.unique(np.rint(np.geomspace(1, n // 2, _N_ORDERS)).astype(int)) - 1
    above = orders[orders.size // 3 :: 2]
    upper = np.rint(np.asarray([0.7, 0.9, 0.97]) * (n - 1)).astype(int)
    shown = np.concatenate([orders, upper])

    def function(data: Float[Array, " n"]) -> Float[Array, " n_features"]:
        scaled = jnp.sort(data) / dead_time
        mean, ordered = scaled.mean(), scaled[shown]
        longer = (scaled[:, None] - scaled[above]).clip(0.0).sum(axis=0) / (n - 1 - above)
        deviation = scaled - mean
        sd = jnp.sqrt((deviation**2).mean())
        moments = jnp.stack([jnp.log(mean), jnp.log(sd), ((deviation / sd) ** 3).mean()])
        return jnp.concatenate([jnp.log(ordered), jnp.log(longer), moments])

    return CustomSummary(
        function=function,
        names=(
            *(f"log_interval[{i + 1} of {n}]" for i in shown),
            *(f"log_excess[{i + 1} of {n}]" for i in above),
            "log_mean",
            "log_sd",
            "skewness",
        ),
        panel=Panel(
            name="interval",
            axis_name="probability",
            axis=(shown + 0.5) / n,
            axis_label="Fraction of intervals that are shorter",
            value_label="Interval between events [ms]",
        ),
        about={"summary": "ordered_intervals", "n": n, "dead_time": dead_time},
        undo=lambda logs: 1e3 * dead_time * np.exp(logs),
    )


def standard() -> EventList:
    """1500 intervals of a source of 400 counts/s in one NuSTAR detector, which records half of them."""
    n = np.arange(1, 1501)
    # Ranks that are even and in no order: multiples of irrational numbers.
    waits = -np.log1p(-(n * math.sqrt(2.0) % 1.0)) / 400.0
    dead = NUSTAR_MEAN_DEAD_TIME + 0.21e-3 * stats.norm.ppf(n * math.sqrt(3.0) % 1.0)
    times = np.concatenate([[0.0], np.cumsum(dead + waits)])
    return EventList(times=times, gti=np.array([[0.0, times[-1] + NUSTAR_MEAN_DEAD_TIME]]))


ENTRIES = {
    "variable_dead_time": ProblemEntry(
        make=make,
        about="a constant rate behind dead times that scatter: intervals between events",
        units=UNITS,
        takes="events",
        standard=standard,
        reference="ex-Gaussian likelihood of the intervals, exact",
        seconds=0.0005,
    )
}
