"""The six runs of Huppenkothen & Bachetti (2022), simulated and summarised as published.

Power spectra through dead time: their realisations are rescaled to an exact mean and fractional rms, and negative rates
are set to zero; so are ours. What is not taken over: event times and frequency axes shifted by a bin, and summaries
from which the count rate cannot be told (`with_rate` adds it). For the same physics with an exact reference see
`dead_time_qpo`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.errors import InputError
from eagleray.problems.dead_time_qpo import (
    HIGH_FREQ,
    LOW_FREQ,
    NUSTAR_DEAD_TIME,
    check_dead_time,
    check_size,
    detectors_of,
)
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import Problem, ProblemEntry
from eagleray.problems.windows import steady_events
from eagleray.records import EventList, Key, Theta, TimeGrid
from eagleray.simulators.light_curves import timmer_koenig_light_curve
from eagleray.simulators.observe.dead_time import non_paralyzable_rate
from eagleray.simulators.observe.dead_time_draws import scattered_dead_times
from eagleray.simulators.observe.events import bin_events, event_capacity
from eagleray.simulators.observe.time_change import cumulative_rate, recorded_events_from_rate
from eagleray.simulators.shapes import lorentzian
from eagleray.simulators.timmer_koenig import fourier_frequencies
from eagleray.summaries.features import CustomSummary, spectrum_panel
from eagleray.summaries.rebin import log_bins
from eagleray.summaries.segments import bins_in_segment
from eagleray.summaries.spectra import positive_frequencies, segment_power_spectrum

UNITS = {"rms": "", "centre": "Hz", "q": "", "rate": "counts/s"}
GRS_1915_UNITS = {
    "rms": "",
    "width": "Hz",
    "qpo": "",
    "centre": "Hz",
    "q": "",
    "harmonic": "",
    "rate": "counts/s",
}
_N_DETECTORS = 2
_GROWTH = 0.01

Shape = Callable[[Float[Array, " n_freq"], Theta], Float[Array, " n_freq"]]
Observation = tuple[EventList, ...]


def qpo_shape(freq: Float[Array, " n_freq"], theta: Theta) -> Float[Array, " n_freq"]:
    """One Lorentzian, of height one: centre [Hz] and q."""
    centre = theta["centre"]
    return lorentzian(freq, centre=centre, fwhm=centre / theta["q"], peak=jnp.ones_like(centre))


def grs_1915_shape(freq: Float[Array, " n_freq"], theta: Theta) -> Float[Array, " n_freq"]:
    """Noise about zero frequency of height one, a QPO, and its harmonic of the same width.

    width is the full width of the noise at half maximum [Hz], qpo the height of the QPO, harmonic that of the harmonic
    over that of the QPO.
    """
    fwhm = theta["centre"] / theta["q"]
    zero, one = jnp.zeros_like(fwhm), jnp.ones_like(fwhm)
    noise = lorentzian(freq, centre=zero, fwhm=theta["width"], peak=one)
    qpo = lorentzian(freq, centre=theta["centre"], fwhm=fwhm, peak=theta["qpo"])
    harmonic = lorentzian(freq, centre=2.0 * theta["centre"], fwhm=fwhm, peak=theta["harmonic"] * theta["qpo"])
    return noise + qpo + harmonic


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One of the published runs.

    Attributes:
        about: What it is, in a line.
        prior: Published priors.
        units: Unit of each parameter.
        shape: Spectral shape, up to a factor.
        duration: Length of the observation [s].
        rate: Incident rate of each detector in the observation that stands for it [counts/s].
        dt: Bin width of the light curve [s].
        segment_size: Length of the segments whose periodograms are averaged [s]; None: one periodogram of all.
        log_binned: Whether powers are averaged in logarithmic frequency bins, of growth 0.01.
        dt_fine: Bins in which the rate is constant, unless set otherwise [s].
        dead_time, dead_time_sd: Mean and standard deviation of the dead time, unless set otherwise [s].
        seconds: Time of one simulation on one CPU core [s].
    """

    about: str
    prior: Mapping[str, str]
    dt: float
    segment_size: float | None
    log_binned: bool
    dt_fine: float
    seconds: float
    units: Mapping[str, str] = dataclasses.field(default_factory=lambda: UNITS)
    shape: Shape = qpo_shape
    duration: float = 10.0
    rate: float = 1000.0
    dead_time: float = NUSTAR_DEAD_TIME
    dead_time_sd: float = 0.0

    def standard(self) -> Observation:
        """The window of the published observation, with events at even steps in both detectors."""
        recorded = float(non_paralyzable_rate(self.rate, self.dead_time))
        return tuple(steady_events(self.duration, recorded) for _ in range(_N_DETECTORS))


def _qpo_prior(centre: tuple[float, float], q: tuple[float, float] = (3.0, 30.0)) -> dict[str, str]:
    """Priors of the runs with one QPO."""
    return {
        "rms": "uniform(0.1, 0.5)",
        "centre": f"uniform({centre[0]:g}, {centre[1]:g})",
        "q": f"uniform({q[0]:g}, {q[1]:g})",
        "rate": "uniform(500, 1500)",
    }


RUNS: dict[str, Run] = {
    "hb22_lf_single": Run(
        about="Huppenkothen & Bachetti 2022: QPO at 5 to 40 Hz, one periodogram of 999 powers",
        prior=_qpo_prior(LOW_FREQ),
        dt=5e-3,
        segment_size=None,
        log_binned=False,
        dt_fine=1e-3,
        seconds=0.0014,
    ),
    "hb22_lf_averaged": Run(
        about="Huppenkothen & Bachetti 2022: QPO at 5 to 40 Hz, average of ten periodograms",
        prior=_qpo_prior(LOW_FREQ),
        dt=5e-3,
        segment_size=1.0,
        log_binned=False,
        dt_fine=1e-3,
        seconds=0.0014,
    ),
    "hb22_hf_single": Run(
        about="Huppenkothen & Bachetti 2022: QPO at 100 to 300 Hz, one log-binned periodogram",
        prior=_qpo_prior(HIGH_FREQ),
        dt=0.5 / 750.0,
        segment_size=None,
        log_binned=True,
        dt_fine=2e-4,
        seconds=0.004,
    ),
    "hb22_hf_averaged": Run(
        about="Huppenkothen & Bachetti 2022: QPO at 100 to 500 Hz, log-binned average of ten periodograms",
        prior=_qpo_prior((100.0, 500.0)),
        dt=5e-4,
        segment_size=1.0,
        log_binned=True,
        dt_fine=1e-4,
        seconds=0.008,
    ),
    "hb22_variable_dead_time": Run(
        about="Huppenkothen & Bachetti 2022: QPO at 300 to 500 Hz, dead time that differs from event to event",
        prior=_qpo_prior((300.0, 500.0), (5.0, 30.0)),
        dt=5e-4,
        segment_size=1.0,
        log_binned=True,
        dt_fine=1e-4,
        dead_time=2.54e-3,
        dead_time_sd=0.21e-3,
        seconds=0.008,
    ),
    "hb22_grs1915": Run(
        about="Huppenkothen & Bachetti 2022: GRS 1915+105, noise, QPO and harmonic in 15 segments of 16 s",
        prior={
            "rms": "uniform(0.1, 0.4)",
            "width": "uniform(1, 10)",
            "qpo": "uniform(0.5, 20)",
            "centre": "uniform(1.5, 3.5)",
            "q": "uniform(3, 100)",
            "harmonic": "uniform(0.01, 1)",
            "rate": "uniform(20, 200)",
        },
        units=GRS_1915_UNITS,
        shape=grs_1915_shape,
        duration=240.0,
        rate=90.0,
        dt=0.5 / 300.0,
        segment_size=16.0,
        log_binned=True,
        dt_fine=2e-3,
        seconds=0.029,
    ),
}


def default_prior(observation: Observation, run: str = "hb22_lf_single") -> dict[str, str]:
    """The published priors of a run, whatever the observation."""
    return dict(RUNS[run].prior)


def _maker(name: str) -> Callable[..., Problem]:
    """The `make` of one run, with its own defaults."""
    run = RUNS[name]

    def make(
        observation: Observation,
        prior: Mapping[str, str] | None = None,
        *,
        dead_time: float = run.dead_time,
        dead_time_sd: float = run.dead_time_sd,
        dt_fine: float = run.dt_fine,
        with_rate: float = 1.0,
    ) -> Problem:
        """A published run, seen through the window of one observation.

        A Gaussian light curve (Timmer & Koenig) with the run's spectral shape is rescaled to exactly the mean rate and
        the fractional rms, over all frequencies of the fine grid, and negative rates are set to zero. Each of two
        detectors records Poisson events of it, dead for a time after each. Their light curves are added, and a network
        sees the fractional-rms spectrum. Parameters:

        - rms: fractional rms of the realisation, before negative rates are cut.
        - centre: frequency of the QPO [Hz].
        - q: centre over full width at half maximum.
        - rate: mean incident rate of each detector [counts/s].
        - width, qpo, harmonic: of GRS 1915+105 alone; see `grs_1915_shape`.

        Published simulations have fine bins of 10 us (100 us for GRS 1915+105); those here are coarser, and events lie
        at uniform times within them, so that dead time acts on exact times. The rate being constant in a fine bin takes
        (pi f dt_fine)^2 / 3 of the power at f away: 0.5 % at 40 Hz in bins of 1 ms, 1.2 % at 300 Hz in bins of 0.2 ms,
        0.8 % at 500 Hz in bins of 0.1 ms; and power beyond the fine Nyquist frequency, 1 % of the broadest noise of GRS
        1915+105, lies below it instead.

        Args:
            observation: Events of two detectors in one common good time interval.
            prior: Priors that replace the published ones, by parameter name.
            dead_time: Mean dead time after each recorded event [s].
            dead_time_sd: Standard deviation of the dead times, which are normal [s]; 0 for equal ones.
            dt_fine: Bins in which the rate is constant [s].
            with_rate: 1 to give the network ln of the recorded count rate too, which the published summaries lack; 0
                for the published summaries.

        Raises:
            InputError: If the observation is not of two detectors, has gaps or too few events, or is shorter than a
                segment; if a prior names no parameter or leaves the range that a parameter can have; or if a setting is
                out of its range.

        References:
            Huppenkothen & Bachetti (2022), MNRAS 511, 5689, sections 3 and 4.
        """
        given = {"dead_time": dead_time, "dead_time_sd": dead_time_sd, "dt_fine": dt_fine, "with_rate": with_rate}
        return _make(name, run, observation, prior, {key: float(value) for key, value in given.items()})

    return make


def _make(
    name: str, run: Run, observation: Observation, prior: Mapping[str, str] | None, settings: Mapping[str, float]
) -> Problem:
    """One run with its settings."""
    lists, duration = detectors_of(name, observation)
    if len(lists) != _N_DETECTORS:
        raise InputError(f"{name} needs the events of two detectors, got {len(lists)}; use dead_time_qpo")
    priors = problem_prior(name, run.prior, prior, positive=tuple(run.units))
    _check_settings(lists, duration, settings)
    check_size(name, duration, priors.upper_end("rate"))
    if duration < (run.segment_size or 0.0):
        raise InputError(f"{name} needs a good time interval of {run.segment_size:g} s, a segment, got {duration:g} s")
    fine = TimeGrid(n_bins=math.floor(duration / settings["dt_fine"] + 1e-6), dt=settings["dt_fine"])
    grid = TimeGrid(n_bins=math.floor(duration / run.dt + 1e-6), dt=run.dt)
    return Problem(
        name=name,
        prior=priors,
        units=run.units,
        simulate=_simulator(run.shape, fine, grid, priors.upper_end("rate"), settings),
        summary=_summary(name, run, grid, with_rate=bool(settings["with_rate"])),
        observed=_binned(lists, grid),
        settings=settings,
        conditions={},
    )


def _check_settings(lists: list[EventList], duration: float, settings: Mapping[str, float]) -> None:
    """Refuse settings that make no detector."""
    dead_time, sd, dt_fine = (settings[key] for key in ("dead_time", "dead_time_sd", "dt_fine"))
    if not 0 <= sd < math.inf:
        raise InputError(f"dead_time_sd must not be negative (seconds), got {sd!r}")
    # The shortest of many that differ lies some standard deviations below the mean.
    check_dead_time(lists, max(dead_time - 4.0 * sd, 0.0) if dead_time > 0 else dead_time)
    if not 0 < dt_fine <= duration / 16:
        raise InputError(f"dt_fine must be positive and at most {duration / 16:g} s, got {dt_fine!r}")
    if settings["with_rate"] not in (0.0, 1.0):
        raise InputError(f"with_rate must be 0 or 1, got {settings['with_rate']!r}")


def _simulator(
    shape: Shape, fine: TimeGrid, grid: TimeGrid, highest: float, settings: Mapping[str, float]
) -> Callable[[Key, Theta], Float[Array, " n_bins"]]:
    """Parameters -> recorded counts of both detectors together."""
    freq = jnp.asarray(fourier_frequencies(fine.n_bins, fine.dt), jnp.float32)
    dead_time, dead_time_sd = jnp.float32(settings["dead_time"]), settings["dead_time_sd"]
    capacity = event_capacity(1.1 * fine.duration * float(non_paralyzable_rate(highest, settings["dead_time"])))

    def simulate(key: Key, theta: Theta) -> Float[Array, " n_bins"]:
        key_rate, key_events = jax.random.split(key)
        rate = timmer_koenig_light_curve(
            key_rate,
            shape(freq, theta),
            mean=theta["rate"],
            rms=theta["rms"],
            n_bins=fine.n_bins,
            n_long=fine.n_bins,
            dt=fine.dt,
            normalisation="realised",
        )
        cumulative = cumulative_rate(jnp.maximum(rate, 0.0), fine)

        def detector(key: Key) -> Float[Array, " n_bins"]:
            key_times, key_dead = jax.random.split(key)
            dead = dead_time
            if dead_time_sd > 0:
                dead = scattered_dead_times(key_dead, dead_time, jnp.float32(dead_time_sd), capacity)
            events = recorded_events_from_rate(key_times, cumulative, dead, capacity)
            return jnp.where(events.overflow, jnp.nan, bin_events(events.times, grid))

        return jax.vmap(detector)(jax.random.split(key_events, _N_DETECTORS)).sum(axis=0)

    return simulate


def _binned(lists: list[EventList], grid: TimeGrid) -> Float[Array, " n_bins"]:
    """Counts of all detectors together (host)."""
    bins = np.concatenate([np.floor(one.times / grid.dt).astype(np.int64) for one in lists])
    return jnp.asarray(np.bincount(bins[bins < grid.n_bins], minlength=grid.n_bins), jnp.float32)


def _summary(name: str, run: Run, grid: TimeGrid, *, with_rate: bool) -> CustomSummary:
    """The published summary: powers [(rms/mean)^2/Hz] as they are; and ln count rate."""
    n_bins = grid.n_bins if run.segment_size is None else bins_in_segment(run.segment_size, grid.dt)
    n_segments = grid.n_bins // n_bins
    freq = positive_frequencies(n_bins, grid.dt)
    bins = log_bins(freq, _GROWTH) if run.log_binned else None
    shown = freq if bins is None else bins.freq

    def function(counts: Float[Array, " n_bins"]) -> Float[Array, " n_features"]:
        segments = counts[: n_segments * n_bins].reshape(n_segments, n_bins)
        power = jnp.asarray(segment_power_spectrum(segments, grid.dt, norm="frac", skip_empty=False).power)
        power = power if bins is None else bins.average(power)
        return jnp.concatenate([power, jnp.log(counts.mean() / grid.dt)[None]]) if with_rate else power

    return CustomSummary(
        function=function,
        names=(*(f"power[{f:.6g} Hz]" for f in shown), *(("log_rate",) if with_rate else ())),
        panel=spectrum_panel(shown),
        about={"summary": name, "n_bins": grid.n_bins, "dt": grid.dt, "with_rate": float(with_rate)},
    )


ENTRIES = {
    name: ProblemEntry(
        make=_maker(name),
        about=run.about,
        units=run.units,
        takes="events of two detectors",
        standard=run.standard,
        reference="none; dead_time_qpo has one for nearly the same physics",
        seconds=run.seconds,
    )
    for name, run in RUNS.items()
}
