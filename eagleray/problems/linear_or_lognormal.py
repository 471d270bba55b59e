"""One spectrum, two ways to have it: a rate that is Gaussian, or one whose logarithm is."""

import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64
from scipy.linalg import toeplitz

from eagleray.errors import InputError
from eagleray.likelihoods.gaussian_process.toeplitz import autocovariance_of_power, stationary_log_likelihood
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import LogLikelihood, Problem, ProblemEntry, several
from eagleray.problems.reference_models import ReferenceModels
from eagleray.problems.windows import steady_light_curve
from eagleray.records import Key, LightCurve, Theta
from eagleray.simulators.shapes import bending_power_law
from eagleray.simulators.timmer_koenig import fourier_frequencies, gaussian_process, long_length, process_variance
from eagleray.summaries.features import MIN_BINS, CustomSummary, spectrum_panel
from eagleray.summaries.rebin import log_bins

# The process repeats after this many windows.
_RED_NOISE = 8.0
# The time of the likelihood and the memory of the summary's models grow as the square.
_MAX_BINS = 512
# Light curves for each set of parameters: simulating is cheaper than training.
_N_VIEWS = 4
# Less scatter from bin to bin, and single precision cannot hold the covariance.
_LEAST_SCATTER = 0.01
# The summary's logarithm turns into a straight line below this part of the mean rate, so that it goes on through zero.
_SOFT = 0.01
# The summary's models: slopes, and the variance of the scatter over that of the process.
_SLOPES = (0.5, 1.2, 1.9, 2.6)
_NOISE = (0.003, 0.03)

UNITS = {"slope": "", "rms": "", "rate": "counts/s"}


class Setting(NamedTuple):
    """What both problems take from an observation.

    Attributes:
        n_bins: Bins of the window.
        dt: Bin width [s].
        unit: Values that one count per second stands for: dt for counts, 1 for rates.
        rate: Mean rate [counts/s].
        scatter: Standard deviation of the measurement of each bin, over the mean.
    """

    n_bins: int
    dt: float
    unit: float
    rate: float
    scatter: float

    @property
    def n_long(self) -> int:
        """Bins after which the process repeats."""
        return long_length(self.n_bins, _RED_NOISE)

    @property
    def duration(self) -> float:
        """Length of the window [s]."""
        return self.n_bins * self.dt


def default_prior(observation: LightCurve) -> dict[str, str]:
    """Wide priors matched to an observation's mean rate; the same for both problems."""
    rate = observation.mean_rate
    return {
        "slope": "uniform(0.5, 2.5)",
        "rms": "loguniform(0.1, 0.6)",
        "rate": f"loguniform({rate / 2:.4g}, {rate * 2:.4g})",
    }


def make_linear(observation: LightCurve, prior: Mapping[str, str] | None = None, *, rebin: float = 0.2) -> Problem:
    """Red noise that is Gaussian in the rate, which may be negative where it is strong.

    Covariance and mean are those of `lognormal_noise`; all else differs. Parameters:

    - slope: slope of the spectrum of the logarithm in `lognormal_noise`, a power law that is flat below 1/T, T the
      length of the window. The spectrum of the rate has that slope too but for strong variability.
    - rms: fractional rms of the process, over all frequencies.
    - rate: its mean [counts/s].

    To each bin comes the scatter of its measurement, known from errors or counts and the same fraction in all bins.

    Args:
        observation: Gives bins, mean rate and scatter; counts, or rates with errors, without gaps and background.
        prior: Priors that replace the defaults, by parameter name.
        rebin: Growth of the frequency bins of the summary.

    Raises:
        InputError: If a prior names no parameter, the observation has gaps, background or no errors, too few or too
            many bins, or a scatter that is lost in rounding.

    References:
        Uttley, McHardy & Vaughan (2005), MNRAS 359, 345, appendix D.
    """
    setting = _setting("linear_noise", observation)

    def simulate(key: Key, theta: Theta) -> Float[Array, " n_bins"]:
        key_series, key_level = jax.random.split(key)
        power = jnp.fft.rfft(_rate_covariance(theta, setting)).real * (2.0 * setting.dt)
        power = jnp.maximum(power, 0.0)  # but for rounding none is negative
        level = jnp.sqrt(power[0] / (2.0 * setting.dt * setting.n_long)) * jax.random.normal(key_level)
        series = gaussian_process(key_series, power[1:], setting.n_long, setting.dt)[: setting.n_bins]
        return setting.unit * theta["rate"] * (1.0 + level + series)

    def log_likelihood(theta: Theta, values: Float[Array, " n_bins"]) -> Float[Array, ""]:
        mean = setting.unit * theta["rate"]
        covariance = _rate_covariance(theta, setting)[: setting.n_bins]
        return stationary_log_likelihood(covariance, values / mean - 1.0, 0.0) - setting.n_bins * jnp.log(mean)

    return _problem("linear_noise", observation, setting, prior, simulate, log_likelihood, rebin)


def make_lognormal(observation: LightCurve, prior: Mapping[str, str] | None = None, *, rebin: float = 0.2) -> Problem:
    """Red noise that is Gaussian in the logarithm of the rate; a value at or below zero excludes it.

    Parameters, priors, data and summary are those of `linear_noise`, and so are mean and covariance of the rate: if c
    is the autocovariance of the logarithm, that of the rate is rate^2 (exp(c) - 1).

    Args:
        observation: As for `make_linear`, and all values above zero.
        prior: Priors that replace the defaults, by parameter name.
        rebin: Growth of the frequency bins of the summary.

    Raises:
        InputError: As for `make_linear`; or if a value is not above zero.

    References:
        Uttley, McHardy & Vaughan (2005), MNRAS 359, 345, section 3 and appendix D.
    """
    setting = _setting("lognormal_noise", observation)
    lowest = float(np.min(observation.values))
    if not lowest > 0:
        raise InputError(f"lognormal_noise has values above 0 alone, got {lowest:g}; use linear_noise, or a larger dt")

    def simulate(key: Key, theta: Theta) -> Float[Array, " n_bins"]:
        power = _log_power(theta, setting)
        series = gaussian_process(key, power, setting.n_long, setting.dt)[: setting.n_bins]
        variance = process_variance(power, setting.n_long, setting.dt)
        return setting.unit * theta["rate"] * jnp.exp(series - 0.5 * variance)

    def log_likelihood(theta: Theta, values: Float[Array, " n_bins"]) -> Float[Array, ""]:
        covariance = autocovariance_of_power(_log_power(theta, setting), setting.n_long, setting.dt)
        positive = values > 0
        log_values = jnp.log(jnp.where(positive, values, setting.unit * setting.rate))
        residual = log_values - jnp.log(setting.unit * theta["rate"]) + 0.5 * covariance[0]
        density = stationary_log_likelihood(covariance[: setting.n_bins], residual, 0.0) - log_values.sum()
        return jnp.where(positive.all(), density, -jnp.inf)

    return _problem("lognormal_noise", observation, setting, prior, simulate, log_likelihood, rebin)


def _log_power(theta: Theta, setting: Setting) -> Float[Array, " n_freq"]:
    """Spectrum of the logarithm of the rate, measurement included [1/Hz]."""
    n_long, dt = setting.n_long, setting.dt
    freq = jnp.asarray(fourier_frequencies(n_long, dt) * setting.duration, jnp.float32)
    one = jnp.ones_like(freq[0])
    shape = bending_power_law(freq, slope_low=0.0 * one, slope_high=theta["slope"], bend_freq=one)
    norm = jnp.log1p(theta["rms"] ** 2) / process_variance(shape, n_long, dt)
    return norm * shape + 2.0 * dt * float(np.log1p(setting.scatter**2))


def _rate_covariance(theta: Theta, setting: Setting) -> Float[Array, " n_long"]:
    """Autocovariance of the rate over its mean, measurement included, over a whole period."""
    # A power series of a covariance with positive coefficients is a covariance.
    return jnp.expm1(autocovariance_of_power(_log_power(theta, setting), setting.n_long, setting.dt))


def _problem(
    name: str,
    observation: LightCurve,
    setting: Setting,
    prior: Mapping[str, str] | None,
    simulate: Callable[[Key, Theta], Float[Array, " n_bins"]],
    log_likelihood: LogLikelihood,
    rebin: float,
) -> Problem:
    """What both have in common."""
    return Problem(
        name=name,
        prior=problem_prior(name, default_prior(observation), prior, positive=("slope", "rms", "rate")),
        units=UNITS,
        simulate=simulate,
        simulate_views=several(simulate, _N_VIEWS),
        summary=_summary(setting, rebin),
        observed=jnp.asarray(observation.values, jnp.float32),
        light_curve=lambda values: values,
        settings={"rebin": float(rebin)},
        conditions={"scatter": setting.scatter},
        log_likelihood=log_likelihood,
    )


def _setting(name: str, observation: LightCurve) -> Setting:
    """Bins, rate and scatter of an observation that suits."""
    grid, rate = observation.grid, observation.mean_rate
    if np.any(np.asarray(observation.exposure) != 1) or np.any(np.asarray(observation.background) != 0):
        raise InputError(f"{name} needs a light curve without gaps and background; use bending_power_law")
    if not MIN_BINS <= grid.n_bins <= _MAX_BINS:
        raise InputError(
            f"{name} takes {MIN_BINS} to {_MAX_BINS} bins, got {grid.n_bins}; use another dt or part of the data"
        )
    if not rate > 0:
        raise InputError(f"the mean rate must be positive, got {rate:g} counts/s")
    if observation.kind == "counts":
        variance = rate / grid.dt
    elif observation.error is None:
        raise InputError("rates must come with errors, got none; give errors, or counts instead of rates")
    else:
        variance = float((np.asarray(observation.error, np.float64) ** 2).mean())
    scatter = float(np.sqrt(variance) / rate)
    if not scatter >= _LEAST_SCATTER:
        raise InputError(
            f"{name} needs bins whose error is at least {_LEAST_SCATTER:g} of the rate, got {scatter:.3g}; use a "
            "smaller dt, or errors that hold other fast variations too"
        )
    unit = grid.dt if observation.kind == "counts" else 1.0
    return Setting(n_bins=grid.n_bins, dt=grid.dt, unit=unit, rate=rate, scatter=scatter)


def _summary(setting: Setting, rebin: float) -> CustomSummary:
    """Ln spectrum of the rate, what reference models make of rate and logarithm, and the shapes of their distributions.

    The spectrum is that of a cosine transform. The logarithm is asinh(r / 2s), r the rate over the observation's mean
    and s = 0.01: ln(r / s) where r is larger, and a number where r is negative.
    """
    if not rebin >= 0:
        raise InputError(f"rebin must be at least 0, got {rebin!r}")
    bins = log_bins(np.arange(1, setting.n_bins) / (2.0 * setting.duration), rebin)
    models = ReferenceModels.of(_reference_covariances(setting))

    def moments(series: Float[Array, " n_bins"]) -> Float[Array, " 2"]:
        centred = series - series.mean()
        score = centred / jnp.sqrt((centred**2).mean())
        return jnp.stack([(score**3).mean(), jnp.log((score**4).mean())])

    def features(values: Float[Array, " n_bins"]) -> Float[Array, " n_features"]:
        rate = values / (setting.unit * setting.rate)
        log_rate = jnp.arcsinh(rate / (2.0 * _SOFT))
        power = 2.0 * setting.dt * jax.scipy.fft.dct(rate - rate.mean(), norm="ortho")[1:] ** 2
        parts = [(models.misfits(x), models.means(x), moments(x)) for x in (rate, log_rate)]
        return jnp.concatenate([jnp.log(bins.average(power)), *itertools.chain.from_iterable(parts)])

    numbers = range(len(models.weights))
    kinds = (*(f"log_misfit[{k}]" for k in numbers), *(f"mean[{k}]" for k in numbers), "skewness", "log_kurtosis")
    return CustomSummary(
        function=features,
        names=(
            *(f"log_power[{f:.6g} Hz]" for f in bins.freq),
            *(f"{of}_{kind}" for of in ("rate", "log_rate") for kind in kinds),
        ),
        panel=spectrum_panel(bins.freq),
        undo=np.exp,
        about={
            "summary": "linear_and_logarithmic_models",
            "n_bins": setting.n_bins,
            "dt": setting.dt,
            "unit": setting.unit,
            "rate": setting.rate,
            "rebin": rebin,
        },
    )


def _reference_covariances(setting: Setting) -> Float64[np.ndarray, "n_models n_bins n_bins"]:
    """Covariance matrices, over the window, of red noise of unit variance: a grid of slopes and of scatter."""
    freq = fourier_frequencies(setting.n_long, setting.dt) * setting.duration
    matrices = []
    for slope, noise in itertools.product(_SLOPES, _NOISE):
        covariance = np.fft.irfft(np.r_[0.0, 1.0 / (1.0 + freq**slope)], setting.n_long)[: setting.n_bins]
        matrices.append(toeplitz(covariance / covariance[0]) + noise * np.eye(setting.n_bins))
    return np.array(matrices)


def standard() -> LightCurve:
    """A black-hole binary: 16 s in bins of 1/16 s at 40 000 counts/s, each bin known to 2 %."""
    return steady_light_curve(256, dt=1.0 / 16.0, rate=40_000.0)


ENTRIES = {
    "linear_noise": ProblemEntry(
        make=make_linear,
        about="red noise that is Gaussian in the rate, of the same spectrum as lognormal_noise",
        units=UNITS,
        takes="light curve",
        standard=standard,
        reference="Gaussian likelihood with the Toeplitz covariance of the rate, exact",
        seconds=0.00009,
    ),
    "lognormal_noise": ProblemEntry(
        make=make_lognormal,
        about="red noise that is Gaussian in the logarithm of the rate, of the same spectrum as linear_noise",
        units=UNITS,
        takes="light curve",
        standard=standard,
        reference="Gaussian likelihood with the Toeplitz covariance of the logarithm, exact",
        seconds=0.00007,
    ),
}
