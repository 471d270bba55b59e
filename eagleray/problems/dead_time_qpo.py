"""A QPO watched through dead time, with the events themselves as reference: Huppenkothen & Bachetti made log-normal."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.errors import InputError
from eagleray.likelihoods.cox import CoxProcess, LogNormalRate
from eagleray.likelihoods.live_time import LiveBins, live_bins
from eagleray.priors import Prior
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import Problem, ProblemEntry
from eagleray.problems.windows import steady_events
from eagleray.records import EventList, Key, Theta, TimeGrid
from eagleray.simulators.observe.dead_time import incident_rate, live_time, non_paralyzable_rate
from eagleray.simulators.observe.events import Events, bin_events, event_capacity
from eagleray.simulators.observe.time_change import cumulative_rate, recorded_events_from_rate
from eagleray.simulators.timmer_koenig import fourier_frequencies, gaussian_process, process_variance
from eagleray.summaries.features import CustomSummary, spectrum_panel
from eagleray.summaries.rebin import LogBins, log_bins
from eagleray.summaries.segments import common_gti
from eagleray.summaries.spectra import squared_modulus

UNITS = {"rms": "", "centre": "Hz", "q": "", "rate": "counts/s"}
NUSTAR_DEAD_TIME = 2.5e-3
"""Dead time after each event of a NuSTAR detector [s]."""

LOW_FREQ, HIGH_FREQ = (5.0, 40.0), (100.0, 300.0)
"""Ranges of the centre of the QPO [Hz]."""

# The rate varies up to this multiple of the highest centre: beyond it lies little of a Lorentzian, and only noise.
_BAND = 1.5
_MIN_EVENTS = 100
# More expected events than this, and float32 no longer tells them apart.
_MAX_EVENTS = 5e5
# Points of a grid of spectra: centres at most, and each of strengths and q.
_MOST_CENTRES = 250
_N_GRID = 8

TwoDetectors = tuple[EventList, ...] | EventList


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectorBins:
    """Recorded events in bins: all that a rate constant in each bin asks of the data.

    Attributes:
        counts: (n_detectors, n_bins) events recorded by each detector.
        live: (n_bins,) live time of all detectors together [s].
    """

    counts: Float[Array, "*batch n_detectors n_bins"]
    live: Float[Array, "*batch n_bins"]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class WatchedQpo:
    """A log-normal QPO and the detectors that watch it: what simulator and likelihood share.

    Parameters: rms, the expected fractional rms of the rate; centre [Hz] and q of the Lorentzian in ln rate; rate, the
    expected incident rate of each detector [counts/s].

    Attributes:
        grid: Bins in which the rate is constant.
        n_freq: Fourier frequencies that vary, from 1/T on; power above them is left out, so that rms is that below.
        n_detectors: Detectors, alike and independent given the rate.
        dead_time: Dead time after each recorded event, non-paralyzable [s].
        highest_rate: Highest mean incident rate that is asked for [counts/s]; sizes the event lists.
    """

    grid: TimeGrid
    n_freq: int
    n_detectors: int
    dead_time: float
    highest_rate: float

    def spectrum(self, freq: Float[Array, " n_freq"], theta: Theta) -> Float[Array, " n_freq"]:
        """Lorentzian of ln rate [1/Hz], with the variance ln(1 + rms^2), which gives a log-normal rate its rms."""
        score = 2.0 * theta["q"] * (freq / theta["centre"] - 1.0)
        shape = jnp.where(jnp.arange(len(freq)) < self.n_freq, 1.0 / (1.0 + score * score), 0.0)
        return jnp.log1p(theta["rms"] ** 2) * self.grid.duration * shape / shape.sum()

    @property
    def rate(self) -> LogNormalRate:
        """The random rate of one detector."""
        return LogNormalRate(spectrum=self.spectrum, grid=self.grid, mean="rate", n_freq=self.n_freq)

    @property
    def capacity(self) -> int:
        """Entries of each detector's event list."""
        recorded = non_paralyzable_rate(self.highest_rate, self.dead_time)
        return event_capacity(1.1 * self.grid.duration * float(recorded))

    def events(self, key: Key, theta: Theta) -> Events:
        """Draw the recorded events of each detector, padded; a leading axis of detectors."""
        key_rate, key_events = jax.random.split(key)
        n, dt = self.grid.n_bins, self.grid.dt
        power = self.spectrum(jnp.asarray(fourier_frequencies(n, dt), jnp.float32), theta)
        log_rate = gaussian_process(key_rate, power, n, dt) - 0.5 * process_variance(power, n, dt)
        cumulative = cumulative_rate(theta["rate"] * jnp.exp(log_rate), self.grid)
        dead_time, capacity = jnp.float32(self.dead_time), self.capacity
        draw = lambda key: recorded_events_from_rate(key, cumulative, dead_time, capacity)  # noqa: E731
        return jax.vmap(draw)(jax.random.split(key_events, self.n_detectors))

    def bins(self, events: Events) -> DetectorBins:
        """Counts and live time of drawn events; NaN where a list was too short, so that the draw is not used."""

        def one(times: Float[Array, " n"]) -> tuple[Float[Array, " n_bins"], Float[Array, " n_bins"]]:
            live = live_time(times, self.dead_time, jnp.ones(times.shape, bool), self.grid)
            return bin_events(times, self.grid), live

        counts, live = jax.vmap(one)(events.times)
        live = jnp.clip(live, 0.0, self.grid.dt).sum(axis=0)
        return DetectorBins(counts=jnp.where(events.overflow[:, None], jnp.nan, counts), live=live)

    def cox(self, bins: DetectorBins | LiveBins) -> CoxProcess:
        """The exact joint density of data and rate."""
        if isinstance(bins, DetectorBins):
            bins = LiveBins(counts=bins.counts.sum(axis=0), live=bins.live)
        return CoxProcess(rate=self.rate, bins=bins)


def default_prior(
    observation: TwoDetectors, *, dead_time: float = NUSTAR_DEAD_TIME, centre: tuple[float, float] = LOW_FREQ
) -> dict[str, str]:
    """The priors of Huppenkothen & Bachetti, about the incident rate that the recorded one suggests."""
    lists, duration = detectors_of("dead_time_qpo", observation)
    recorded = sum(len(one.times) for one in lists) / (len(lists) * duration)
    rate = float(incident_rate(recorded, dead_time))
    return {
        "rms": "uniform(0.1, 0.5)",
        "centre": f"uniform({centre[0]:g}, {centre[1]:g})",
        "q": "uniform(3, 30)",
        "rate": f"uniform({rate / 2:.3g}, {rate * 1.5:.3g})",
    }


def detectors_of(problem: str, observation: TwoDetectors) -> tuple[list[EventList], float]:
    """Events of each detector in their one common window, counted from its start, and its length [s] (host).

    Args:
        problem: Name of the problem, for messages.
        observation: Events of one detector, or of several that watch the same source.

    Raises:
        InputError: If the observation is no event list, the common good time intervals are not one, or there are too
            few events.
    """
    lists = list(observation) if isinstance(observation, tuple | list) else [observation]
    if not lists or not all(isinstance(one, EventList) for one in lists):
        got = type(lists[0]).__name__ if lists else "none"
        raise InputError(f"{problem} needs event lists, got {got}; give events, not binned data")
    gti = np.asarray(lists[0].gti, np.float64) + lists[0].start
    for one in lists[1:]:
        gti = common_gti(gti, np.asarray(one.gti, np.float64) + one.start)
    if len(gti) != 1:
        raise InputError(
            f"{problem} needs one good time interval common to all detectors, got {len(gti)}; choose one of them"
        )
    start, stop = (float(edge) for edge in gti[0])
    window = np.array([[0.0, stop - start]])
    shifted = [np.asarray(one.times, np.float64) + (one.start - start) for one in lists]
    inside = [EventList(times=times[(times >= 0) & (times < stop - start)], gti=window) for times in shifted]
    fewest = min(len(one.times) for one in inside)
    if fewest < _MIN_EVENTS:
        raise InputError(f"{problem} needs at least {_MIN_EVENTS} events in each detector, got {fewest}")
    return inside, stop - start


def check_dead_time(lists: Sequence[EventList], dead_time: float) -> None:
    """Refuse events that detectors of such a dead time cannot record.

    Raises:
        InputError: If the dead time is negative, or longer than an interval between events.
    """
    if not 0 <= dead_time < math.inf:
        raise InputError(f"dead_time must not be negative (seconds), got {dead_time!r}")
    shortest = min(float(np.diff(one.times).min()) for one in lists)
    if shortest < 0.99 * dead_time:
        raise InputError(
            f"dead_time must not exceed the shortest interval between events of a detector, {shortest:.4g} s, got "
            f"{dead_time:g}; give the detector's own"
        )


def check_size(problem: str, duration: float, highest_rate: float) -> None:
    """Refuse more events than single precision can tell apart.

    Raises:
        InputError: If too many are expected.
    """
    if duration * highest_rate > _MAX_EVENTS:
        raise InputError(
            f"{problem} needs fewer than {_MAX_EVENTS:.0f} incident events, got a prior of the rate that reaches "
            f"{duration * highest_rate:.3g} in {duration:g} s; cut the good time interval"
        )


def make(
    observation: TwoDetectors,
    prior: Mapping[str, str] | None = None,
    *,
    dead_time: float = NUSTAR_DEAD_TIME,
    dt: float = 2.5e-3,
    rebin: float = 0.02,
) -> Problem:
    """A low-frequency QPO seen by detectors that miss most events, from the events themselves.

    The set-up of Huppenkothen & Bachetti (2022), without the defects of their simulator: the rate is log-normal, so
    that none is clipped, and its rms is that of the process, about which realisations scatter. ln rate is Gaussian,
    periodic over the window, with a Lorentzian spectrum up to 1.5 times the highest centre. Events come in continuous
    time; each detector is dead for `dead_time` after each that it records. Parameters:

    - rms: fractional rms of the rate as a process.
    - centre: frequency of the QPO [Hz].
    - q: centre over full width at half maximum.
    - rate: mean incident rate of each detector [counts/s].

    The posterior given the events is that of a Cox process (`cox`). A network sees the periodogram of what was recorded
    beyond the mean rate times live time, the gradient of the likelihood with respect to the rate at a constant one: it
    has white noise of Leahy power 2 whatever the dead time. And it sees the recorded and the live-time-corrected rate.
    Networks trained on 15 000 simulations learn 0.17 nats more from that than from the periodogram of the recorded
    light curve with the cospectrum of two detectors, and nothing from a cospectrum besides. Where the peak stands is
    told by means and standard deviations of Whittle's posterior for that periodogram.

    Args:
        observation: Events of two detectors, or of one or more, in one common good time interval.
        prior: Priors that replace the defaults, by parameter name.
        dead_time: Dead time after each recorded event [s].
        dt: Bins in which the rate is constant [s]; ten or more in a cycle of the highest centre.
        rebin: Growth of the frequency bins of the summary.

    Raises:
        InputError: If the observation is no event list, has gaps or too few events, or events closer than the dead
            time; if a prior names no parameter or leaves the range that a parameter can have; or if a setting is out
            of its range.

    References:
        Huppenkothen & Bachetti (2022), MNRAS 511, 5689, section 3.
    """
    return _make("dead_time_qpo", LOW_FREQ, observation, prior, dead_time=dead_time, dt=dt, rebin=rebin)


def make_hf(
    observation: TwoDetectors,
    prior: Mapping[str, str] | None = None,
    *,
    dead_time: float = NUSTAR_DEAD_TIME,
    dt: float = 4e-4,
    rebin: float = 0.02,
) -> Problem:
    """`make` for a high-frequency QPO: a cycle is about as long as the dead time.

    The rate has bins of 0.4 ms and, for 10 s, 4500 frequencies up to 450 Hz: a position of the reference has 9004
    coordinates, and a gradient there costs 1.6 CPU ms, 4.5 times that of the low-frequency problem.

    Args:
        observation: As for `make`.
        prior: Priors that replace the defaults, by parameter name.
        dead_time: Dead time after each recorded event [s].
        dt: Bins in which the rate is constant [s].
        rebin: Growth of the frequency bins of the summary.

    Raises:
        InputError: As `make`.

    References:
        Huppenkothen & Bachetti (2022), MNRAS 511, 5689, section 3.
    """
    return _make("dead_time_qpo_hf", HIGH_FREQ, observation, prior, dead_time=dead_time, dt=dt, rebin=rebin)


def _make(
    name: str,
    centre: tuple[float, float],
    observation: TwoDetectors,
    prior: Mapping[str, str] | None,
    *,
    dead_time: float,
    dt: float,
    rebin: float,
) -> Problem:
    """Either problem."""
    lists, duration = detectors_of(name, observation)
    check_dead_time(lists, dead_time)
    defaults = default_prior(observation, dead_time=dead_time, centre=centre)
    priors = problem_prior(name, defaults, prior, positive=tuple(UNITS))
    for parameter in UNITS:
        if not math.isfinite(priors.upper_end(parameter)):
            raise InputError(
                f"the prior of {parameter} must have an upper end, got {priors.texts[parameter]}; use truncnormal"
            )
    highest = priors.upper_end("rate")
    check_size(name, duration, highest)
    if not rebin >= 0:
        raise InputError(f"rebin must be at least 0, got {rebin!r}")
    highest_centre = priors.upper_end("centre")
    if not 0 < dt <= 0.2 / highest_centre:
        raise InputError(
            f"dt must be a fifth of the shortest cycle or less, {0.2 / highest_centre:.3g} s with the prior of centre, "
            f"got {dt!r}"
        )
    source = WatchedQpo(
        grid=TimeGrid(n_bins=math.floor(duration / dt + 1e-6), dt=dt),
        n_freq=round(_BAND * highest_centre * duration),
        n_detectors=len(lists),
        dead_time=dead_time,
        highest_rate=highest,
    )
    return Problem(
        name=name,
        prior=priors,
        units=UNITS,
        simulate=lambda key, theta: source.bins(source.events(key, theta)),
        summary=_summary(source, priors, rebin),
        observed=_observed(lists, source),
        settings={"dead_time": float(dead_time), "dt": float(dt), "rebin": float(rebin)},
        conditions={"n_detectors": float(len(lists))},
        cox=source.cox,
    )


def _observed(lists: Sequence[EventList], source: WatchedQpo) -> DetectorBins:
    """Counts and live time of what was observed (host)."""
    each = [live_bins(one, source.dead_time, source.grid) for one in lists]
    counts = jnp.stack([jnp.asarray(bins.counts, jnp.float32) for bins in each])
    return DetectorBins(counts=counts, live=jnp.asarray(sum(np.asarray(bins.live) for bins in each), jnp.float32))


def _summary(source: WatchedQpo, prior: Prior, rebin: float) -> CustomSummary:
    """Log-binned log powers from half the lowest centre on, two rates, and moments of Whittle's posterior."""
    grid = source.grid
    bins = log_bins(np.arange(1, source.n_freq + 1) / grid.duration, rebin)
    first = int((bins.freq < 0.5 * prior.lower_end("centre")).sum())
    window = grid.duration * source.n_detectors
    whittle = _WhittleGrid(source, prior, bins, first)

    def function(data: DetectorBins) -> Float[Array, " n_features"]:
        counts, total, live = data.counts.sum(axis=0), jnp.maximum(data.counts.sum(), 1.0), data.live.sum()
        beyond = counts - total / live * data.live
        power = 2.0 / total * squared_modulus(jnp.fft.rfft(beyond)[1 : source.n_freq + 1])
        binned = bins.average(power)[first:]
        rates = jnp.log(total / jnp.stack([window, live]))
        return jnp.concatenate([jnp.log(binned), rates, whittle(binned, total)])

    freq = bins.freq[first:]
    return CustomSummary(
        function=function,
        names=(*(f"log_power[{f:.6g} Hz]" for f in freq), "log_recorded_rate", "log_live_rate", *whittle.names),
        panel=spectrum_panel(freq, "Leahy, of the rate in live time"),
        about={
            "summary": "dead_time_qpo",
            "n_bins": grid.n_bins,
            "dt": grid.dt,
            "n_detectors": source.n_detectors,
            "dead_time": float(source.dead_time),
            "rebin": float(rebin),
        },
        undo=np.exp,
    )


class _WhittleGrid:
    """Posterior of a Lorentzian on white noise, by Whittle's likelihood of binned powers on a grid of its parameters.

    Exact for weak variability, and a short way to say where a peak stands and how well that is known. Of a network it
    takes the search for the peak.

    Args:
        source: Gives the spectrum of ln rate.
        prior: Ends of the grid.
        bins: Frequency bins.
        first: The first of them that is used.
    """

    names = ("log_variance", "logit_centre", "log_q", "log_sd_log_variance", "log_sd_centre", "log_sd_log_q")

    def __init__(self, source: WatchedQpo, prior: Prior, bins: LogBins, first: int) -> None:
        """Tabulate the spectra."""
        duration = source.grid.duration
        self.ends = prior.lower_end("centre"), prior.upper_end("centre")
        self.least = 1.0 / duration
        n_centre = min(_MOST_CENTRES, 1 + math.ceil((self.ends[1] - self.ends[0]) * duration / 2.0))
        centre = np.linspace(*self.ends, n_centre)
        q = np.geomspace(max(prior.lower_end("q"), 0.5), prior.upper_end("q"), _N_GRID)
        strength = np.geomspace(*self._strengths(source, prior), _N_GRID)
        freq = np.arange(1, source.n_freq + 1) / duration
        shape = np.stack([self._shapes(freq, one, q, bins)[:, first:] for one in centre])
        mean = 2.0 * (1.0 + strength[:, None, None, None] * shape)
        n_powers = bins.n_powers[first:]
        self.inverse = (n_powers / mean).reshape(-1, mean.shape[-1]).astype(np.float32)
        # The priors of rms, centre and q are flat, or near it.
        log_prior = np.log(q) + 0.5 * np.log(strength)[:, None, None]
        self.offset = (log_prior - (n_powers * np.log(mean)).sum(axis=-1)).ravel().astype(np.float32)
        place = np.meshgrid(np.log(strength), centre, np.log(q), indexing="ij")
        self.place = np.stack([one.ravel() for one in place]).astype(np.float32)

    @staticmethod
    def _strengths(source: WatchedQpo, prior: Prior) -> tuple[float, float]:
        """Least and greatest sum of the QPO's powers over those of the noise: half the events times the variance."""
        found = []
        for end in (prior.lower_end, prior.upper_end):
            recorded = float(non_paralyzable_rate(end("rate"), source.dead_time))
            events = recorded * source.grid.duration * source.n_detectors
            found.append(0.5 * events * math.log1p(end("rms") ** 2))
        return max(found[0], 1.0), max(found[1], 2.0)

    @staticmethod
    def _shapes(freq: np.ndarray, centre: float, q: np.ndarray, bins: LogBins) -> np.ndarray:
        """Binned Lorentzians, of unit sum before they are binned, (n_q, n_groups)."""
        shape = 1.0 / (1.0 + np.square(2.0 * q[:, None] * (freq / centre - 1.0)))
        starts = np.searchsorted(bins.group, np.arange(bins.freq.size))
        return np.add.reduceat(shape / shape.sum(axis=1, keepdims=True), starts, axis=1) / bins.n_powers

    def __call__(self, power: Float[Array, " n_groups"], total: Float[Array, ""]) -> Float[Array, " n_numbers"]:
        """Posterior means and logarithms of posterior standard deviations."""
        weight = jax.nn.softmax(self.offset - self.inverse @ power)
        mean = self.place @ weight
        variance = jnp.maximum(jnp.square(self.place - mean[:, None]) @ weight, 0.0)
        low, high = self.ends
        part = jnp.clip((mean[1] - low) / max(high - low, self.least), 1e-3, 1.0 - 1e-3)
        found = jnp.stack([mean[0] - jnp.log(0.5 * total), jnp.log(part) - jnp.log1p(-part), mean[2]])
        least = jnp.asarray([1e-2, 0.3 * self.least, 1e-2], power.dtype)
        return jnp.concatenate([found, 0.5 * jnp.log(variance + jnp.square(least))])


def standard() -> tuple[EventList, ...]:
    """Ten seconds of NuSTAR's two detectors: 286 events/s recorded in each, of 1000 incident."""
    recorded = float(non_paralyzable_rate(1000.0, NUSTAR_DEAD_TIME))
    return steady_events(10.0, recorded), steady_events(10.0, recorded)


def _entry(make: Callable[..., Problem], about: str, reference: str, seconds: float) -> ProblemEntry:
    """An entry of the registry."""
    return ProblemEntry(
        make=make,
        about=about,
        units=UNITS,
        takes="events of two detectors",
        standard=standard,
        reference=reference,
        seconds=seconds,
    )


ENTRIES = {
    "dead_time_qpo": _entry(
        make,
        "a log-normal QPO at 5 to 40 Hz behind the dead time of two detectors",
        "Cox process of the events: NUTS over parameters and 1200 Fourier amplitudes, exact",
        0.0014,
    ),
    "dead_time_qpo_hf": _entry(
        make_hf,
        "a log-normal QPO at 100 to 300 Hz behind the dead time of two detectors",
        "Cox process of the events: NUTS over parameters and 9000 Fourier amplitudes, exact",
        0.0057,
    ),
}
