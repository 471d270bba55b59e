"""A pulsar behind dead time, which flattens and skews its pulse: exactly known from counts and live time in phase."""

import hashlib
import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.likelihoods.live_time import LiveBins, binned_log_likelihood, live_intervals
from eagleray.priors import Prior
from eagleray.problems.dead_time_rate import NUSTAR_DEAD_TIME, good_times, observed_live
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import Problem, ProblemEntry, several
from eagleray.problems.windows import steady_events
from eagleray.records import AnyArray, EventList, Key, Panel, Theta
from eagleray.simulators.observe.dead_time import non_paralyzable_rate
from eagleray.simulators.observe.events import event_capacity, unit_exponentials
from eagleray.summaries.features import CustomSummary

UNITS = {"rate": "counts/s", "cosine": "", "sine": "", "cosine_2": "", "sine_2": ""}

# Observations for each set of parameters: simulating is cheaper than training.
_N_VIEWS = 4
_HARMONICS = (("cosine", "sine"), ("cosine_2", "sine_2"))
_MIN_PHASES, _MAX_PHASES = 8, 256


class Moments(NamedTuple):
    """Moments of a periodic clock, whole cycles apart from the fraction so that none is lost in single precision.

    Attributes:
        cycle: (n,) whole cycles.
        phase: (n,) fraction of a cycle, 0 to 1.
    """

    cycle: Int[AnyArray, "*n"]
    phase: Float[AnyArray, "*n"]


def default_prior(observation: EventList, *, dead_time: float = NUSTAR_DEAD_TIME) -> dict[str, str]:
    """Incident rates within a factor of two of what the observation suggests, and pulses that leave the rate positive.

    There is no preferred phase: sine and cosine of a harmonic have the same prior.
    """
    n_events, live = observed_live("dead_time_pulsar", observation, dead_time)
    rate = n_events / live
    return {
        "rate": f"loguniform({rate / 2:.4g}, {rate * 2:.4g})",
        "cosine": "truncnormal(0, 0.25, -0.5, 0.5)",
        "sine": "truncnormal(0, 0.25, -0.5, 0.5)",
        "cosine_2": "truncnormal(0, 0.1, -0.2, 0.2)",
        "sine_2": "truncnormal(0, 0.1, -0.2, 0.2)",
    }


def make(
    observation: EventList,
    prior: Mapping[str, str] | None = None,
    *,
    freq: float = 10.0,
    dead_time: float = NUSTAR_DEAD_TIME,
    n_phase: float = 16.0,
) -> Problem:
    """A pulse of two harmonics at a known frequency, watched by one detector with a known non-paralyzable dead time.

    The rate is `rate` times 1 + cosine cos(2 pi p) + sine sin(2 pi p) + cosine_2 cos(4 pi p) + sine_2 sin(4 pi p), with
    the phase p = freq t [cycles], averaged over each of `n_phase` phase bins and constant within it. Recorded events
    and live time of each phase bin are therefore sufficient, and their likelihood is exact. The detector is taken to
    be live when each good time interval opens. Parameters:

    - rate: mean incident rate [counts/s].
    - cosine, sine: of the pulse at freq. Its fractional amplitude is hypot(cosine, sine); it peaks at the phase
      atan2(sine, cosine) / 2 pi. Unlike amplitude and phase, these have no ends that are the same, and none that is
      unknown where there is no pulse.
    - cosine_2, sine_2: of its second harmonic; `fixed(0)` leaves it out.

    Data are `LiveBins` over phase: events and live time [s] of all cycles.

    Args:
        observation: Events of one detector, barycentred; gives the good time intervals and the prior range of the rate.
            Phase 0 is the zero of its offsets. Gaps are allowed.
        prior: Priors that replace the defaults, by parameter name.
        freq: Pulse frequency [Hz].
        dead_time: Dead time after each recorded event [s].
        n_phase: Number of phase bins.

    Raises:
        InputError: If the observation is no list of at least 10 events of one detector, events follow each other within
            the dead time, a prior names no parameter or lets the rate be negative, or a setting is out of range.

    References:
        Daley & Vere-Jones (2003), An Introduction to the Theory of Point Processes I, sections 7.2 (likelihood) and 7.4
        (time change).
    """
    n_events, live = observed_live("dead_time_pulsar", observation, dead_time)
    _check_settings(freq, n_phase)
    priors = problem_prior(
        "dead_time_pulsar", default_prior(observation, dead_time=dead_time), prior, positive=("rate",)
    )
    peak = _check_pulse(priors)
    bins, gti, reference = int(n_phase), np.asarray(observation.gti, np.float64), n_events / live
    start, stop = moments(gti, freq)
    clock = _Clock(start=start, stop=stop, n_steps=_capacity(gti, peak, dead_time) + len(gti))
    basis = _basis(bins)

    def log_rate(theta: Theta) -> Float[Array, " n_phase"]:
        amplitudes = jnp.stack([theta[name] for pair in _HARMONICS for name in pair])
        return jnp.log(theta["rate"]) + jnp.log1p(amplitudes @ basis)

    def simulate(key: Key, theta: Theta) -> LiveBins:
        return _recorded(key, jnp.exp(log_rate(theta)) / (freq * bins), clock, dead_time * freq, 1.0 / freq)

    def log_likelihood(theta: Theta, data: LiveBins) -> Float[Array, ""]:
        # In units of the reference rate, which keeps the terms small.
        scaled = LiveBins(counts=data.counts, live=data.live * reference)
        return binned_log_likelihood(scaled, log_rate(theta) - math.log(reference))

    return Problem(
        name="dead_time_pulsar",
        prior=priors,
        units=UNITS,
        simulate=simulate,
        simulate_views=several(simulate, _N_VIEWS),
        summary=_summary(gti, bins, dead_time),
        observed=folded(observation, freq, dead_time, bins),
        settings={"freq": float(freq), "dead_time": float(dead_time), "n_phase": float(n_phase)},
        conditions={},
        log_likelihood=log_likelihood,
    )


def folded(observation: EventList, freq: float, dead_time: float, n_phase: int) -> LiveBins:
    """Events and live time of one detector in phase bins (host).

    Args:
        observation: Its events and good time intervals.
        freq: Frequency of the phase [Hz].
        dead_time: Dead time after each recorded event [s].
        n_phase: Number of phase bins.

    Returns:
        Events and live time [s] of each phase bin.
    """
    phases = np.remainder(good_times(observation) * freq, 1.0)
    counts = np.bincount((phases * n_phase).astype(int) % n_phase, minlength=n_phase)
    start, stop = moments(live_intervals(observation, dead_time), freq)
    live = stop.cycle.sum() / n_phase + fractions_in_bins(start, stop, n_phase).sum(axis=0)
    return LiveBins(counts=jnp.asarray(counts, jnp.float32), live=live / freq)


def moments(intervals: NDArray[np.float64], freq: float) -> tuple[Moments, Moments]:
    """Starts and stops of intervals (n, 2) [s] on the clock of a frequency, cycles counted from each start (host)."""
    cycles = np.asarray(intervals, np.float64) * freq
    whole = np.floor(cycles)
    phases = (cycles - whole).astype(np.float32)
    n_cycles = (whole[:, 1] - whole[:, 0]).astype(np.int32)
    return Moments(np.zeros_like(n_cycles), phases[:, 0]), Moments(n_cycles, phases[:, 1])


def fractions_in_bins(start: Moments, stop: Moments, n_phase: int) -> Float[Array, "*n n_phase"]:
    """What the fractions of a cycle at both ends of intervals add to the cycles covered of each phase bin.

    Args:
        start: (*n,) starts.
        stop: (*n,) ends.
        n_phase: Number of phase bins.

    Returns:
        (*n, n_phase) cycles, to be added to the whole cycles between, of which each bin has 1 / n_phase.
    """
    left = np.arange(n_phase, dtype=np.float32) / n_phase

    def before(phase: Float[AnyArray, "*n"]) -> Float[Array, "*n n_phase"]:
        return jnp.clip(jnp.asarray(phase)[..., None] - left, 0.0, 1.0 / n_phase)

    return before(stop.phase) - before(start.phase)


class _Clock(NamedTuple):
    """Good time intervals on the clock of the pulse, and the steps after which the last of them is over for certain."""

    start: Moments
    stop: Moments
    n_steps: int


class _Record(NamedTuple):
    """What has been recorded so far.

    Attributes:
        interval: Number of the good time interval, as many as there are when all are over.
        live: From when the detector is live again.
        counts: (n_phase,) recorded events.
        whole: Whole cycles of the live intervals: apart from their ends, so that long observations lose nothing.
        parts: (n_phase,) what the ends add to the live cycles.
    """

    interval: Int[Array, ""]
    live: Moments
    counts: Float[Array, " n_phase"]
    whole: Int[Array, ""]
    parts: Float[Array, " n_phase"]


def _recorded(
    key: Key, expected: Float[Array, " n_phase"], clock: _Clock, dead_phase: float, period: float
) -> LiveBins:
    """Events and live time [s] that a detector records of a pulse, given the events expected in each bin of a cycle.

    From each moment at which the detector is live again, the next event is found by time change on one cycle: whole
    cycles without an event are geometric, and what is left of the exponential wait lies within a cycle.
    """
    n_phase, n_gti = expected.size, clock.start.cycle.size
    edges = jnp.concatenate([jnp.zeros((1,), expected.dtype), jnp.cumsum(expected)])
    total = edges[-1]
    starts, stops = jax.tree.map(jnp.asarray, (clock.start, clock.stop))
    key_cycles, key_rest = jax.random.split(key)
    n_empty = jnp.floor(unit_exponentials(key_cycles, clock.n_steps, total.dtype) / total).astype(jnp.int32)
    rest = -jnp.log1p(jax.random.uniform(key_rest, (clock.n_steps,), total.dtype) * jnp.expm1(-total))

    def next_event(live: Moments, n_empty: Int[Array, ""], rest: Float[Array, ""]) -> Moments:
        scaled = jnp.clip(live.phase * n_phase, 0.0, n_phase)
        bin = jnp.minimum(scaled.astype(jnp.int32), n_phase - 1)
        passed = edges[bin] + (scaled - bin) * expected[bin] + rest
        over = passed >= total
        passed = jnp.where(over, passed - total, passed)
        bin = (edges[1:-1] <= passed).sum()
        # Just below 1, so that phases stay inside their bins.
        phase = (bin + jnp.clip((passed - edges[bin]) / expected[bin], 0.0, 1.0 - 1e-6)) / n_phase
        return Moments(live.cycle + n_empty + over, phase)

    def step(state: _Record, draw: tuple[Array, Array]) -> tuple[_Record, None]:
        i, live = state.interval, state.live
        event = next_event(live, *draw)
        stop = jax.tree.map(lambda each: each[jnp.minimum(i, n_gti - 1)], stops)
        recorded = (i < n_gti) & _is_before(event, stop)
        end = _either(recorded, event, stop)
        covers = recorded | ((i < n_gti) & _is_before(live, stop))
        ready = event.phase + dead_phase
        again = Moments(event.cycle + jnp.floor(ready).astype(jnp.int32), ready - jnp.floor(ready))
        following = jax.tree.map(lambda each: each[jnp.minimum(i + 1, n_gti - 1)], starts)
        at = jnp.floor(end.phase * n_phase)
        return _Record(
            interval=jnp.where(recorded, i, i + 1),
            live=_either(recorded, again, following),
            counts=state.counts + (recorded & (at == jnp.arange(n_phase))),
            whole=state.whole + jnp.where(covers, end.cycle - live.cycle, 0),
            parts=state.parts + jnp.where(covers, fractions_in_bins(live, end, n_phase), 0.0),
        ), None

    first = jax.tree.map(lambda each: each[0], starts)
    zero = jnp.zeros((), jnp.int32)
    empty = _Record(interval=zero, live=first, counts=0.0 * expected, whole=zero, parts=0.0 * expected)
    record, _ = jax.lax.scan(step, empty, (n_empty, rest))
    return LiveBins(counts=record.counts, live=(record.whole / n_phase + record.parts) * period)


def _either(condition: Bool[Array, ""], first: Moments, second: Moments) -> Moments:
    """One moment where a condition holds, else another."""
    return Moments(*(jnp.where(condition, a, b) for a, b in zip(first, second, strict=True)))


def _is_before(first: Moments, second: Moments) -> Bool[Array, ""]:
    """Whether one moment comes before another."""
    sooner = (first.cycle == second.cycle) & (first.phase < second.phase)
    return jnp.asarray((first.cycle < second.cycle) | sooner)


def _basis(n_phase: int) -> Float[Array, "4 n_phase"]:
    """Cosine and sine of each harmonic, averaged over each phase bin."""
    phases = 2.0 * np.pi * (np.arange(n_phase) + 0.5) / n_phase
    rows = [np.sinc(h / n_phase) * wave(h * phases) for h in (1, 2) for wave in (np.cos, np.sin)]
    return jnp.asarray(np.stack(rows), jnp.float32)


def _check_settings(freq: float, n_phase: float) -> None:
    """Refuse settings with which nothing can be folded."""
    if not 0 < freq < math.inf:
        raise InputError(f"freq must be positive (Hz), got {freq!r}")
    if n_phase != round(n_phase) or not _MIN_PHASES <= n_phase <= _MAX_PHASES:
        raise InputError(f"n_phase must be a whole number from {_MIN_PHASES} to {_MAX_PHASES}, got {n_phase!r}")


def _check_pulse(prior: Prior) -> float:
    """Highest rate that a prior allows [counts/s]; refuse one that allows the rate to be negative."""
    largest = [[max(abs(prior.lower_end(name)), abs(prior.upper_end(name))) for name in pair] for pair in _HARMONICS]
    amplitude = sum(math.hypot(*pair) for pair in largest)
    if not amplitude < 1.0:
        raise InputError(
            f"the priors of cosine, sine, cosine_2 and sine_2 must keep the rate positive, got amplitudes that add up "
            f"to {amplitude:.3g}; use uniform or truncnormal with ends closer to 0, or fixed(0)"
        )
    return prior.upper_end("rate") * (1.0 + amplitude)


def _capacity(gti: NDArray[np.float64], peak: float, dead_time: float) -> int:
    """Most events that can be recorded, from the dead time or from the highest rate, whichever allows fewer."""
    lengths = gti[:, 1] - gti[:, 0]
    by_dead_time = int((np.floor(lengths / dead_time) + 1).sum())
    if math.isinf(peak):
        return by_dead_time
    return min(by_dead_time, event_capacity(float(non_paralyzable_rate(peak, dead_time)) * lengths.sum()) + len(gti))


def _summary(gti: NDArray[np.float64], n_phase: int, dead_time: float) -> CustomSummary:
    """Logarithms of rate and live time in each phase bin: no information is lost."""

    def function(data: LiveBins) -> Float[Array, " n_features"]:
        live = data.live + dead_time
        return jnp.log(jnp.concatenate([(data.counts + 0.5) / live, live]))

    phases = (np.arange(n_phase) + 0.5) / n_phase
    return CustomSummary(
        function=function,
        names=(*(f"log_rate[phase {p:.4g}]" for p in phases), *(f"log_live[phase {p:.4g}]" for p in phases)),
        panel=Panel(
            name="profile",
            axis_name="phase",
            axis=phases,
            axis_label="Phase [cycles]",
            value_label="Events / live time [counts/s]",
            log_axis=False,
            log_value=False,
        ),
        about={
            "summary": "folded_events_and_live_time",
            "good_time": hashlib.sha256(gti.astype("<f8").tobytes()).hexdigest()[:16],
        },
        undo=np.exp,
    )


def standard() -> EventList:
    """A hundred cycles of a pulsar of 10 Hz and 400 counts/s in one NuSTAR detector, which records half of them."""
    return steady_events(10.0, 200.0)


ENTRIES = {
    "dead_time_pulsar": ProblemEntry(
        make=make,
        about="a pulse of two harmonics behind known dead time",
        units=UNITS,
        takes="events",
        standard=standard,
        reference="likelihood of events and live time in phase bins, exact",
        seconds=0.0005,
    )
}
