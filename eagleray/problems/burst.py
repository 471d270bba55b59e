"""A burst, with or without a damped oscillation: two models whose exact likelihoods and evidences can be compared."""

import hashlib
import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.errors import InputError
from eagleray.likelihoods.poisson import poisson
from eagleray.priors import Prior
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import Problem, ProblemEntry, several
from eagleray.problems.windows import steady_light_curve
from eagleray.records import AnyArray, Key, LightCurve, Panel, Theta, TimeGrid
from eagleray.simulators.bursts import fred_envelope
from eagleray.simulators.observe.noise import poisson_counts
from eagleray.summaries.features import CustomSummary

UNITS = {"amplitude": "counts/s", "peak": "s", "rise": "s", "decay": "s", "background": "counts/s"}
QPO_UNITS = {**UNITS, "cosine": "", "sine": "", "freq": "Hz", "damping": "s"}

_N_VIEWS = 4
_MIN_BINS = 64
_N_COARSE = 32
# Fractions of the burst by whose times it is laid out, and edges of bins about the middle one, in units of the time
# from the first quarter to the last: fine where bursts begin.
_FRACTIONS = np.array([0.05, 0.15, 0.25, 0.5, 0.75, 0.85, 0.95])
_LATE = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.5, 7.5)
_EDGES = np.concatenate([[-2.6, -2.0, -1.7], np.arange(-1.5, 1.0, 0.125), _LATE])
# The phase of the oscillation is counted from here, in windows: where bursts are bright, so that it hardly depends on
# the frequency.
_PHASE_ZERO = 0.25
# Frequencies about the strongest peak at which its amplitude is seen, in 1 / window.
_OFFSETS = np.array([-12.0, -8.0, -5.0, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0])
_PADDING = 4
_GROUP = 12

Times = Float[Array, " n"]


def default_prior(observation: LightCurve) -> dict[str, str]:
    """Priors matched to an observation: a burst with its peak in the first two thirds, that outshines the mean rate."""
    duration, rate = observation.grid.duration, observation.mean_rate
    return {
        "amplitude": f"loguniform({rate:.4g}, {30 * rate:.4g})",
        "peak": f"uniform({0.05 * duration:.4g}, {0.65 * duration:.4g})",
        "rise": f"loguniform({0.01 * duration:.4g}, {0.15 * duration:.4g})",
        "decay": f"loguniform({0.02 * duration:.4g}, {0.25 * duration:.4g})",
        "background": f"loguniform({rate / 100:.4g}, {rate:.4g})",
    }


def default_prior_qpo(observation: LightCurve) -> dict[str, str]:
    """A burst long and bright enough to ring, and an oscillation of 30 to 90 cycles in the window, lasting as long."""
    grid, rate, duration = observation.grid, observation.mean_rate, observation.grid.duration
    highest = min(90.0 / grid.duration, 0.8 * grid.nyquist)
    return {
        "amplitude": f"loguniform({rate:.4g}, {10 * rate:.4g})",
        "peak": f"uniform({0.15 * duration:.4g}, {0.4 * duration:.4g})",
        "rise": f"loguniform({0.03 * duration:.4g}, {0.1 * duration:.4g})",
        "decay": f"loguniform({0.03 * duration:.4g}, {0.15 * duration:.4g})",
        "background": f"loguniform({rate / 30:.4g}, {rate / 3:.4g})",
        "cosine": "uniform(-0.7, 0.7)",
        "sine": "uniform(-0.7, 0.7)",
        "freq": f"uniform({highest / 3:.4g}, {highest:.4g})",
        "damping": f"loguniform({0.1 * grid.duration:.4g}, {0.5 * grid.duration:.4g})",
    }


def burst_rate(times: Times, theta: Theta) -> Times:
    """Rate of background and burst, without an oscillation [counts/s].

    Args:
        times: (n,) times [s].
        theta: Parameters, as `make` explains them.
    """
    return theta["background"] + _burst(times, theta)


def oscillating_rate(times: Times, theta: Theta, zero: float) -> Times:
    """Rate of background and burst, the burst oscillating [counts/s].

    Args:
        times: (n,) times [s].
        theta: Parameters, as `make_qpo` explains them.
        zero: Time from which the phase is counted [s].
    """
    cycles = theta["freq"] * (times - zero)
    phase = 2.0 * math.pi * (cycles - jax.lax.stop_gradient(jnp.round(cycles)))
    since = times - (theta["peak"] - theta["rise"])
    damped = jnp.exp(-jnp.maximum(since, 0.0) / theta["damping"])
    oscillation = damped * (theta["cosine"] * jnp.cos(phase) + theta["sine"] * jnp.sin(phase))
    return theta["background"] + _burst(times, theta) * (1.0 + oscillation)


def _burst(times: Times, theta: Theta) -> Times:
    """Rate of the burst alone [counts/s]."""
    start, sharpness = theta["peak"] - theta["rise"], theta["rise"] / theta["decay"]
    return theta["amplitude"] * fred_envelope(times, start=start, peak_delay=theta["rise"], sharpness=sharpness)


def make(observation: LightCurve, prior: Mapping[str, str] | None = None) -> Problem:
    """A burst of fast rise and exponential decay over a constant background.

    Counts are Poisson; the rate at the middle of a bin is taken for all of it. Parameters:

    - amplitude: rate of the burst at its peak [counts/s].
    - peak: time of the peak, from the start of the window [s]. The burst starts at peak - rise, which is hard to tell.
    - rise: time from its start to the peak [s].
    - decay: e-folding time, long after the peak [s].
    - background: constant rate [counts/s]; the background that the observation states comes on top.

    Args:
        observation: Counts to be explained; gives bins, exposure, background and prior ranges.
        prior: Priors that replace the defaults, by parameter name.

    Raises:
        InputError: If the observation is one of rates, has too few bins or no source counts, or a prior names no
            parameter or leaves the range that a parameter can have.

    References:
        Norris et al. (2005), ApJ 627, 324, equation 1, with rise = sqrt(tau_1 tau_2) and decay = tau_2.
    """
    _check("burst", observation)
    priors = problem_prior("burst", default_prior(observation), prior, positive=_positive(UNITS))
    return _problem("burst", observation, priors, UNITS, burst_rate, _summary(observation, None))


def make_qpo(observation: LightCurve, prior: Mapping[str, str] | None = None) -> Problem:
    """The burst of `make`, times a damped oscillation that begins with it.

    The oscillation is a function of its parameters, with a phase, not a random process, so that the likelihood is
    Poisson and exact, and evidence compares it with `burst`. Amplitude and phase are told as two amplitudes, on which
    a posterior is smooth where a phase would have a seam. The burst is multiplied by

        1 + exp(-(t - peak + rise) / damping) (cosine cos(2 pi freq (t - zero)) + sine sin(2 pi freq (t - zero)))

    with zero at a quarter of the window. Parameters, besides those of `make`:

    - cosine, sine: amplitudes at the start of the burst, fractions of the burst; together sqrt(cosine^2 + sine^2).
    - freq: frequency [Hz].
    - damping: e-folding time of the oscillation [s].

    Args:
        observation: Counts to be explained; gives bins, exposure, background and prior ranges.
        prior: Priors that replace the defaults, by parameter name.

    Raises:
        InputError: As `make`; or if priors of the amplitudes allow negative rates, or that of freq frequencies beyond
            Nyquist.

    References:
        Huebner et al. (2022), ApJS 259, 32 (QPOs in non-stationary light curves); Norris et al. (2005), ApJ 627, 324.
    """
    _check("burst_qpo", observation)
    priors = problem_prior("burst_qpo", default_prior_qpo(observation), prior, positive=_positive(QPO_UNITS))
    ends = [max(-priors.lower_end(name), priors.upper_end(name)) for name in ("cosine", "sine")]
    if not math.hypot(*ends) < 1:
        raise InputError(
            f"the priors of cosine and sine must keep sqrt(cosine^2 + sine^2) below 1, got {priors.texts['cosine']} "
            f"and {priors.texts['sine']}; 0.7 for both does"
        )
    if not priors.upper_end("freq") < observation.grid.nyquist:
        raise InputError(
            f"the prior of freq must stay below the Nyquist frequency of {observation.grid.nyquist:g} Hz, got "
            f"{priors.texts['freq']}; use a smaller dt"
        )
    zero = _PHASE_ZERO * observation.grid.duration
    rate = lambda times, theta: oscillating_rate(times, theta, zero)  # noqa: E731
    return _problem("burst_qpo", observation, priors, QPO_UNITS, rate, _summary(observation, priors))


def _positive(units: Mapping[str, str]) -> list[str]:
    """Parameters that are positive: a burst may have had its peak before the window."""
    return [name for name in units if name not in ("peak", "cosine", "sine")]


def _check(problem: str, observation: LightCurve) -> None:
    """Refuse what is no light curve of counts."""
    if observation.kind != "counts":
        raise InputError(f"{problem} needs counts per bin, got kind={observation.kind!r}; give counts instead of rates")
    if observation.n_exposed < _MIN_BINS:
        raise InputError(
            f"{problem} needs at least {_MIN_BINS} exposed bins, got {observation.n_exposed}; use a smaller dt"
        )
    if not observation.mean_rate > 0:
        raise InputError(
            f"{problem} needs more counts than background, got a mean rate of {observation.mean_rate:.4g} counts/s"
        )


def _problem(
    name: str,
    observation: LightCurve,
    prior: Prior,
    units: Mapping[str, str],
    rate: Callable[[Times, Theta], Times],
    summary: CustomSummary,
) -> Problem:
    """Poisson counts of a rate that the parameters fix."""
    grid = observation.grid
    times = jnp.asarray(grid.times, jnp.float32)
    exposure = jnp.asarray(observation.exposure, jnp.float32)
    background = jnp.where(exposure > 0, jnp.asarray(observation.background, jnp.float32), 0.0)

    def simulate(key: Key, theta: Theta) -> Float[Array, " n_bins"]:
        return poisson_counts(key, rate(times, theta), exposure, background, grid.dt)

    def log_likelihood(theta: Theta, values: Float[Array, " n_bins"]) -> Float[Array, ""]:
        return poisson(values, rate(times, theta) * exposure * grid.dt + background)

    return Problem(
        name=name,
        prior=prior,
        units=units,
        simulate=simulate,
        simulate_views=several(simulate, _N_VIEWS),
        summary=summary,
        observed=jnp.asarray(observation.values, jnp.float32),
        light_curve=lambda values: values,
        settings={},
        conditions={},
        log_likelihood=log_likelihood,
    )


def _summary(observation: LightCurve, prior: Prior | None) -> CustomSummary:
    """Roots of binned counts, whose noise is the same at every rate; with a prior of freq, a spectrum too."""
    grid = observation.grid
    n_coarse = min(_N_COARSE, grid.n_bins)
    group = np.arange(grid.n_bins) * n_coarse // grid.n_bins
    middle = np.bincount(group, weights=grid.times) / np.bincount(group)
    spectrum = None if prior is None else _Oscillation(grid, prior.lower_end("freq"), prior.upper_end("freq"))

    def function(values: Float[Array, " n_bins"]) -> Float[Array, " n_features"]:
        coarse = jax.ops.segment_sum(values, group, num_segments=n_coarse, indices_are_sorted=True)
        parts = [_roots(coarse), _profile(values, coarse, grid)]
        return jnp.concatenate(parts if spectrum is None else [*parts, spectrum(values)])

    return CustomSummary(
        function=function,
        names=(
            *(f"root_counts[{t:.4g} s]" for t in middle),
            *_profile_names(),
            *(() if spectrum is None else spectrum.names),
        ),
        panel=Panel(
            name="counts",
            axis_name="coarse_time",
            axis=middle,
            axis_label="Time [s]",
            value_label=f"Counts in {grid.duration / n_coarse:.3g} s",
            log_axis=False,
            log_value=False,
        ),
        about={
            "summary": "burst" if prior is None else "burst_qpo",
            "n_bins": grid.n_bins,
            "dt": grid.dt,
            "exposure": _digest(observation.exposure),
            "background": _digest(observation.background),
        },
        undo=lambda roots: np.square(roots) / 4.0 - 0.375,
    )


def _roots(counts: Float[Array, " n"]) -> Float[Array, " n"]:
    """Counts made numbers with noise of about one (Anscombe 1948, Biometrika 35, 246)."""
    return 2.0 * jnp.sqrt(jnp.maximum(counts, 0.0) + 0.375)


def _profile_names() -> tuple[str, ...]:
    """Name of each entry of `_profile`."""
    times = ("middle_time" if fraction == 0.5 else f"log_time_from_middle[{fraction:g}]" for fraction in _FRACTIONS)
    laid_out = (f"root_counts[{edge:+g} to {end:+g}]" for edge, end in zip(_EDGES[:-1], _EDGES[1:], strict=True))
    return (*times, "log_counts", "log_background", *laid_out)


def _profile(
    values: Float[Array, " n_bins"], coarse: Float[Array, " n_coarse"], grid: TimeGrid
) -> Float[Array, " n_numbers"]:
    """The burst laid out by its own times: when fractions of it were there, and counts in bins that follow them.

    As T90 does, from counts beyond a background, which is seen in the darkest quarter of the window.
    """
    n_dark = max(1, coarse.size // 4)
    background = jnp.sort(coarse)[:n_dark].mean() * (coarse.size / grid.n_bins)
    edges = jnp.asarray(np.arange(grid.n_bins + 1) * grid.dt, values.dtype)
    counted = jnp.concatenate([jnp.zeros(1, values.dtype), jnp.cumsum(values)])
    beyond = counted - background * (edges / grid.dt)
    rising = jax.lax.cummax(beyond)
    burst = jnp.maximum(rising[-1], 1.0)
    # What never happened for want of counts is given the last time.
    reached = jnp.searchsorted(rising, jnp.asarray(_FRACTIONS, values.dtype) * burst)
    times = edges[jnp.minimum(reached, grid.n_bins)]
    middle, width = times[3], jnp.maximum(times[4] - times[2], 2.0 * grid.dt)
    spans = jnp.log(jnp.abs(jnp.delete(times, 3) - middle) + grid.dt)
    at = middle + width * jnp.asarray(_EDGES, values.dtype)
    laid_out = jnp.diff(jnp.interp(at, edges, counted))
    levels = jnp.log(jnp.stack([burst, background * grid.n_bins + 1.0]))
    return jnp.concatenate([spans[:3], middle[None] / grid.duration, spans[3:], levels, _roots(laid_out)])


class _Oscillation:
    """What is left of a light curve when it is smoothed, seen by frequency.

    Args:
        grid: Time bins.
        lowest: Lowest frequency that is looked for [Hz].
        highest: Highest one [Hz].
    """

    def __init__(self, grid: TimeGrid, lowest: float, highest: float) -> None:
        """Fix all shapes."""
        n_padded = _PADDING * grid.n_bins
        freq = np.fft.rfftfreq(n_padded, grid.dt)
        self.first, self.last = int(np.searchsorted(freq, lowest)), int(np.searchsorted(freq, highest, side="right"))
        self.freq, self.n_padded = freq[self.first : self.last], n_padded
        self.range = lowest, highest
        self.times = jnp.asarray(grid.times - _PHASE_ZERO * grid.duration, jnp.float32)
        phase = 2.0 * np.pi * np.outer(_OFFSETS, grid.times / grid.duration - _PHASE_ZERO)
        self.cosine, self.sine = np.cos(phase).astype(np.float32), np.sin(phase).astype(np.float32)
        # A Gaussian that is half gone at half the lowest frequency.
        self.smoothing = np.exp2(-np.square(np.fft.rfftfreq(grid.n_bins, grid.dt) / (0.5 * lowest))).astype(np.float32)
        self.n_groups = max(1, len(self.freq) // _GROUP)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each feature."""
        near = [f"{part}[{offset:+g} / T]" for part in ("real", "imaginary") for offset in _OFFSETS]
        middle = self.freq[: self.n_groups * _GROUP].reshape(self.n_groups, -1).mean(axis=1)
        return (*(f"log_power[{f:.4g} Hz]" for f in middle), "log_peak_power", "logit_peak_freq", *near)

    def __call__(self, values: Float[Array, " n_bins"]) -> Float[Array, " n_features"]:
        """Log powers, the strongest frequency, and the amplitudes about it, as fractions of the burst."""
        smooth = jnp.maximum(jnp.fft.irfft(jnp.fft.rfft(values) * self.smoothing, values.size), 0.05)
        # Of the rate only the burst oscillates: bins count as much as the burst does in them.
        weight = jnp.clip(1.0 - jnp.quantile(smooth, 0.25) / smooth, 0.0, 1.0)
        residual, counts = weight * (values - smooth), jnp.maximum((weight * weight * smooth).sum(), 1.0)
        transform = jnp.fft.rfft(residual, self.n_padded)[self.first : self.last]
        power = (transform.real**2 + transform.imag**2) / counts
        groups = power[: self.n_groups * _GROUP].reshape(self.n_groups, -1).mean(axis=1)
        peak, height = self._peak(power)
        phase = 2.0 * math.pi * peak * self.times
        real, imaginary = (function(phase) * residual * (2.0 / counts) for function in (jnp.cos, jnp.sin))
        near = [self.cosine @ real - self.sine @ imaginary, self.sine @ real + self.cosine @ imaginary]
        low, high = self.range
        place = jnp.clip((peak - low) / (high - low), 1e-4, 1.0 - 1e-4)
        peak_features = jnp.stack([jnp.log(height + 0.05), jnp.log(place) - jnp.log1p(-place)])
        return jnp.concatenate([jnp.log(groups + 0.05), peak_features, *near])

    def _peak(self, power: Float[Array, " n_freq"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Frequency of the strongest power, from a parabola through it and its neighbours, and that power."""
        top = jnp.clip(jnp.argmax(power), 1, power.size - 2)
        left, centre, right = power[top - 1], power[top], power[top + 1]
        bend = jnp.minimum(left - 2.0 * centre + right, -1e-6)
        shift = jnp.clip(0.5 * (left - right) / bend, -1.0, 1.0)
        return jnp.asarray(self.freq, power.dtype)[top] + shift * (self.freq[1] - self.freq[0]), centre


def _digest(values: Float[AnyArray, " n"]) -> str:
    """A short name for an array."""
    return hashlib.sha256(np.ascontiguousarray(values, "<f4").tobytes()).hexdigest()[:16]


def standard() -> LightCurve:
    """A second of a magnetar's burst: 2000 counts in bins of 2 ms."""
    return steady_light_curve(512, dt=2e-3, rate=2000.0)


ENTRIES = {
    "burst": ProblemEntry(
        make=make,
        about="a burst of fast rise and exponential decay, Poisson counts",
        units=UNITS,
        takes="light curve",
        standard=standard,
        reference="Poisson likelihood, exact",
        seconds=0.00005,
    ),
    "burst_qpo": ProblemEntry(
        make=make_qpo,
        about="a burst that rings: a damped oscillation on it, Poisson counts",
        units=QPO_UNITS,
        takes="light curve",
        standard=standard,
        reference="Poisson likelihood, exact; evidence against burst by nested sampling",
        seconds=0.00016,
    ),
}
