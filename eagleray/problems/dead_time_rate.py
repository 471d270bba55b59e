"""A steady source behind known dead time, for which the Gamma distribution is conjugate: the smallest reference."""

import hashlib
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.likelihoods.arguments import log_ratio_excess
from eagleray.likelihoods.live_time import LiveBins, live_intervals
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import Problem, ProblemEntry
from eagleray.problems.windows import steady_events
from eagleray.records import EventList, Key, Panel, Theta
from eagleray.summaries.features import CustomSummary

NUSTAR_DEAD_TIME = 2.5e-3
"""Dead time of each NuSTAR event [s]."""

UNITS = {"rate": "counts/s"}

_MIN_EVENTS = 10
# At least 19 of 20 tries at a Gamma variable are accepted, and nearly all of those of a large shape.
_N_TRIES = 12


def default_prior(observation: EventList, *, dead_time: float = NUSTAR_DEAD_TIME) -> dict[str, str]:
    """A Gamma prior of shape 2 whose mean is the incident rate that the observation suggests."""
    n_events, live = observed_live("dead_time_rate", observation, dead_time)
    return {"rate": f"gamma(2, {2 * live / n_events:.4g})"}


def make(
    observation: EventList, prior: Mapping[str, str] | None = None, *, dead_time: float = NUSTAR_DEAD_TIME
) -> Problem:
    """A constant rate watched by one detector with a known non-paralyzable dead time.

    After each recorded event the detector is blind for the dead time. The number of recorded events and the live time
    are sufficient: n ln r - r L is the log likelihood of the rate r, and under a Gamma(shape, inverse scale) prior the
    posterior is Gamma(shape + n, inverse scale + L) (`likelihoods.live_time.gamma_posterior`). The detector is taken to
    be live when each good time interval opens. Parameter:

    - rate: incident rate [counts/s].

    Data are `LiveBins` of one bin: events and live time [s] of all good time intervals together.

    Args:
        observation: Events of one detector; gives the good time intervals and the prior range. Gaps are allowed.
        prior: Priors that replace the defaults, by parameter name.
        dead_time: Dead time after each recorded event [s].

    Raises:
        InputError: If the observation is no list of at least 10 events of one detector, events follow each other within
            the dead time, a prior names no parameter or reaches below 0, or the dead time is not positive.

    References:
        Daley & Vere-Jones (2003), An Introduction to the Theory of Point Processes I, section 7.2.
    """
    n_events, live = observed_live("dead_time_rate", observation, dead_time)
    priors = problem_prior("dead_time_rate", default_prior(observation, dead_time=dead_time), prior, positive=("rate",))
    lengths = np.diff(observation.gti, axis=1)[:, 0]
    # An interval cannot hold more events than dead times and one; it takes so many halvings to find the last.
    n_levels = math.ceil(math.log2(lengths.max() / dead_time + 2.0))
    reference = n_events / live

    def simulate(key: Key, theta: Theta) -> LiveBins:
        keys = jax.random.split(key, lengths.size)
        each = jax.vmap(lambda key, length: _recorded(key, theta["rate"], length, dead_time, n_levels))
        counts, live = each(keys, jnp.asarray(lengths, jnp.float32))
        return LiveBins(counts=counts.sum(keepdims=True), live=live.sum(keepdims=True))

    def log_likelihood(theta: Theta, data: LiveBins) -> Float[Array, ""]:
        # With respect to a steady source of the reference rate: terms stay small, also where events are many.
        excess = theta["rate"] / reference - 1.0
        return (data.counts * log_ratio_excess(excess) + excess * (data.counts - reference * data.live)).sum()

    return Problem(
        name="dead_time_rate",
        prior=priors,
        units=UNITS,
        simulate=simulate,
        summary=_summary(observation, lengths, dead_time),
        observed=LiveBins(counts=jnp.full(1, n_events, jnp.float32), live=jnp.full(1, live, jnp.float32)),
        settings={"dead_time": float(dead_time)},
        conditions={},
        log_likelihood=log_likelihood,
    )


def observed_live(problem: str, observation: EventList, dead_time: float) -> tuple[int, float]:
    """Number of recorded events in good time, and live time, of an observation with dead time (host).

    Args:
        problem: Name of the problem, for messages.
        observation: Events of one detector.
        dead_time: Dead time after each recorded event [s].

    Returns:
        Events, and live time [s].

    Raises:
        InputError: If the observation is no list of enough events of one detector, or cannot have this dead time.
    """
    if not isinstance(observation, EventList):
        raise InputError(f"{problem} takes the events of one detector, got {type(observation).__name__}")
    if not 0 < dead_time < math.inf:
        raise InputError(f"dead_time must be positive (seconds), got {dead_time!r}")
    try:
        live = np.diff(live_intervals(observation, dead_time), axis=1).sum()
    except ValueError as error:
        raise InputError(f"{problem}: {error}; give another dead_time, or the events of one detector alone") from error
    n_events = good_times(observation).size
    if n_events < _MIN_EVENTS:
        raise InputError(f"{problem} needs at least {_MIN_EVENTS} events in good time, got {n_events}")
    return n_events, float(live)


def good_times(observation: EventList) -> NDArray[np.float64]:
    """Times of the events inside the good time intervals [s], ends excluded (host)."""
    times = np.asarray(observation.times, np.float64)
    inside = [times[np.searchsorted(times, low) : np.searchsorted(times, high)] for low, high in observation.gti]
    return np.concatenate([times[:0], *inside])


def _recorded(
    key: Key, rate: Float[Array, ""], length: Float[Array, ""], dead_time: float, n_levels: int
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Recorded events and live time [s] of a steady source in one interval, in a time that grows as ln n.

    The k-th event comes at s_k + (k - 1) tau, where s_k, the live time before it, is a sum of k exponentials. The last
    event inside is found by bisection: between s_a and s_b, known already, s_m divides in the ratio of two Gamma
    variables of shape m - a = b - m.
    """
    # Drawn in one call: each other one would take a second to compile.
    uniforms = jax.random.uniform(key, (3 * _N_TRIES + 2 * n_levels,), minval=np.finfo(np.float32).tiny)
    last = _large_gamma(uniforms[: 3 * _N_TRIES].reshape(3, -1), 2.0**n_levels) / rate
    steps = 2.0 ** jnp.arange(n_levels - 1, -1, -1, dtype=last.dtype)

    def halve(state: tuple[Array, Array, Array], draw: tuple[Array, Array]) -> tuple[tuple[Array, Array, Array], None]:
        below, live_below, live_above = state
        step, part = draw
        middle = live_below + (live_above - live_below) * part
        inside = middle + (below + step - 1.0) * dead_time < length
        return (
            jnp.where(inside, below + step, below),
            jnp.where(inside, middle, live_below),
            jnp.where(inside, live_above, middle),
        ), None

    start = (jnp.zeros_like(last), jnp.zeros_like(last), last)
    parts = _symmetric_beta(uniforms[3 * _N_TRIES :].reshape(2, -1), steps)
    (n_events, live, _), _ = jax.lax.scan(halve, start, (steps, parts))
    return n_events, jnp.maximum(live, length - n_events * dead_time)


def _large_gamma(uniforms: Float[Array, "3 n_tries"], shape: float) -> Float[Array, ""]:
    """A Gamma variable of shape 2 or more, by rejection, from as many tries as practically always suffice.

    Marsaglia & Tsang (2000), ACM TOMS 26, 363; `jax.random.gamma` serves all shapes and takes seconds to compile.
    """
    d = shape - 1.0 / 3.0
    normal = jnp.sqrt(-2.0 * jnp.log(uniforms[0])) * jnp.cos(2.0 * math.pi * uniforms[1])
    v = (1.0 + normal / math.sqrt(9.0 * d)) ** 3
    excess = jnp.maximum(v, 1e-6) - 1.0
    accepted = jnp.log(uniforms[2]) < 0.5 * normal**2 + d * log_ratio_excess(excess)
    return d * v[jnp.argmax(accepted & (v > 0))]


def _symmetric_beta(uniforms: Float[Array, "2 n"], shape: Float[Array, " n"]) -> Float[Array, " n"]:
    """Beta variables of two equal shapes above 1/2.

    Ulrich (1984), Applied Statistics 33, 158: a coordinate of a point on a sphere in 2 shape + 1 dimensions.
    """
    radius = jnp.sqrt(-jnp.expm1(2.0 * jnp.log(uniforms[0]) / (2.0 * shape - 1.0)))
    return 0.5 + 0.5 * radius * jnp.cos(2.0 * math.pi * uniforms[1])


def _summary(observation: EventList, lengths: NDArray[np.float64], dead_time: float) -> CustomSummary:
    """Logarithms of the estimated rate, of the events and of the live fraction: no information is lost."""

    def function(data: LiveBins) -> Float[Array, " 3"]:
        counts, live = data.counts.sum(), data.live.sum()
        rate = (counts + 0.5) / (live + dead_time)
        return jnp.log(jnp.stack([rate, counts + 1.0, live / lengths.sum()]))

    return CustomSummary(
        function=function,
        names=("log_rate", "log_events", "log_live_fraction"),
        panel=Panel(
            name="rate",
            axis_name="time",
            axis=np.array([0.5 * (observation.gti[0, 0] + observation.gti[-1, 1])]),
            axis_label="Time since the start [s]",
            value_label="Events / live time [counts/s]",
            log_axis=False,
            log_value=False,
        ),
        about={
            "summary": "events_and_live_time",
            "good_time": hashlib.sha256(lengths.astype("<f8").tobytes()).hexdigest()[:16],
        },
        undo=np.exp,
    )


def standard() -> EventList:
    """Ten seconds of a source of 400 counts/s in one NuSTAR detector, which records half of them."""
    return steady_events(10.0, 200.0)


ENTRIES = {
    "dead_time_rate": ProblemEntry(
        make=make,
        about="a constant rate behind known dead time: a reference with a known answer",
        units=UNITS,
        takes="events",
        standard=standard,
        reference="Gamma posterior, conjugate",
        seconds=0.00001,
    )
}
