"""Leakage with a known answer: a Gaussian chunk of a longer red-noise light curve."""

import dataclasses
import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64
from scipy.linalg import toeplitz

from eagleray.errors import InputError
from eagleray.likelihoods.gaussian_process.toeplitz import autocovariance_of_power, stationary_log_likelihood
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import Problem, ProblemEntry
from eagleray.problems.reference_models import ReferenceModels
from eagleray.problems.windows import steady_light_curve
from eagleray.records import Key, LightCurve, Theta, TimeGrid
from eagleray.simulators.shapes import bending_power_law
from eagleray.simulators.timmer_koenig import fourier_frequencies, gaussian_process, long_length
from eagleray.summaries.features import MIN_BINS, CustomSummary, spectrum_panel
from eagleray.summaries.rebin import log_bins

# Windows cut from one long series, at least as far apart as they are long.
_MAX_VIEWS = 4
_RED_NOISE = (2, 100)
# The summary's models: slopes above the bend, bends from 1.5 / T to a fifth of Nyquist, and noise levels [rms^2 T].
_SLOPES = (1.6, 2.5, 3.5)
_N_BENDS = 3
_NOISE = (4e-4, 4e-3)
# The time of the likelihood and the memory of the summary's models grow as the square.
_MAX_BINS = 512

UNITS = {"slope_low": "", "slope_high": "", "bend_freq": "Hz", "rms": "", "rate": "counts/s", "noise": "1/Hz"}


def default_prior(observation: LightCurve) -> dict[str, str]:
    """Wide priors matched to an observation, of the slope above the bend; below it flicker noise, slope 1."""
    grid, rate = observation.grid, observation.mean_rate
    noise = 2.0 / rate
    return {
        "slope_low": "fixed(1)",
        "slope_high": "uniform(1.5, 4)",
        "bend_freq": f"loguniform({1.0 / grid.duration:.4g}, {0.25 * grid.nyquist:.4g})",
        "rms": "loguniform(0.05, 0.5)",
        "rate": f"loguniform({rate / 2:.4g}, {rate * 2:.4g})",
        "noise": f"loguniform({noise / 4:.4g}, {noise * 4:.4g})",
    }


def make(
    observation: LightCurve, prior: Mapping[str, str] | None = None, *, red_noise: float = 16.0, rebin: float = 0.2
) -> Problem:
    """A bending power law plus white noise, Gaussian, of which a window is seen.

    The process repeats after `red_noise` windows, not after one: its covariance over the window is a Fourier sum, and
    the likelihood that follows from it is exact. Variations slower than the window leak into all its frequencies, so
    that a periodogram of slope above 2 looks like one of 2. Parameters:

    - slope_low, slope_high: slopes of the spectrum far below and above the bend.
    - bend_freq: bend frequency [Hz].
    - rms: fractional rms of the bending power law between 1/T and Nyquist, T the length of the window.
    - rate: mean rate of the process [counts/s]; the mean over the window scatters about it.
    - noise: white level [(rms/mean)^2/Hz].

    Args:
        observation: Gives bins and mean rate; rates or counts without gaps. Its errors are not used.
        prior: Priors that replace the defaults, by parameter name.
        red_noise: How many windows the process takes to repeat.
        rebin: Growth of the frequency bins of the summary.

    Raises:
        InputError: If a prior names no parameter, the observation has gaps, background, too few or too many bins, or a
            setting is out of its range.

    References:
        Uttley, McHardy & Papadakis (2002), MNRAS 332, 231, section 3.2; Timmer & Koenig (1995), A&A 300, 707.
    """
    _check(observation, red_noise, rebin)
    priors = problem_prior(
        "leaky_red_noise", default_prior(observation), prior, positive=("bend_freq", "rms", "rate", "noise")
    )
    grid = observation.grid
    unit = grid.dt if observation.kind == "counts" else 1.0
    n_long = long_length(grid.n_bins, red_noise)
    n_views = min(_MAX_VIEWS, n_long // (2 * grid.n_bins))
    freq = jnp.asarray(fourier_frequencies(n_long, grid.dt), jnp.float32)
    in_band = (freq > (1.0 - 1e-6) / grid.duration).astype(jnp.float32)

    def spectrum(theta: Theta) -> Float[Array, " n_freq"]:
        shape = bending_power_law(
            freq, slope_low=theta["slope_low"], slope_high=theta["slope_high"], bend_freq=theta["bend_freq"]
        )
        return shape * (theta["rms"] ** 2 * (n_long * grid.dt) / (shape * in_band).sum())

    def long_series(key: Key, theta: Theta) -> Float[Array, " n_long"]:
        fluctuation = gaussian_process(key, spectrum(theta) + theta["noise"], n_long, grid.dt)
        return unit * theta["rate"] * (1.0 + fluctuation)

    def simulate(key: Key, theta: Theta) -> Float[Array, " n_bins"]:
        return long_series(key, theta)[: grid.n_bins]

    def simulate_views(key: Key, theta: Theta) -> Float[Array, "n_views n_bins"]:
        stretch = n_long // n_views
        return long_series(key, theta)[: n_views * stretch].reshape(n_views, stretch)[:, : grid.n_bins]

    def log_likelihood(theta: Theta, values: Float[Array, " n_bins"]) -> Float[Array, ""]:
        fluctuation = values / (unit * theta["rate"]) - 1.0
        covariance = autocovariance_of_power(spectrum(theta) + theta["noise"], n_long, grid.dt)[: grid.n_bins]
        return stationary_log_likelihood(covariance, fluctuation, 0.0) - grid.n_bins * jnp.log(unit * theta["rate"])

    return Problem(
        name="leaky_red_noise",
        prior=priors,
        units=UNITS,
        simulate=simulate,
        simulate_views=simulate_views,
        summary=_summary(observation, red_noise, rebin),
        observed=jnp.asarray(observation.values, jnp.float32),
        light_curve=lambda values: values,
        settings={"red_noise": float(red_noise), "rebin": float(rebin)},
        conditions={},
        log_likelihood=log_likelihood,
    )


def _check(observation: LightCurve, red_noise: float, rebin: float) -> None:
    """Refuse what the process or its likelihood cannot take."""
    n_bins = observation.grid.n_bins
    if np.any(np.asarray(observation.exposure) != 1) or np.any(np.asarray(observation.background) != 0):
        raise InputError("leaky_red_noise needs a light curve without gaps and background; use bending_power_law")
    if not MIN_BINS <= n_bins <= _MAX_BINS:
        raise InputError(
            f"leaky_red_noise takes {MIN_BINS} to {_MAX_BINS} bins, got {n_bins}; use another dt, or a part of the data"
        )
    if not _RED_NOISE[0] <= red_noise <= _RED_NOISE[1]:
        raise InputError(f"red_noise must be from {_RED_NOISE[0]} to {_RED_NOISE[1]}, got {red_noise!r}")
    if not rebin >= 0:
        raise InputError(f"rebin must be at least 0, got {rebin!r}")


def _summary(observation: LightCurve, red_noise: float, rebin: float) -> CustomSummary:
    """Ln of a log-binned spectrum that does not leak, and what models of leaking red noise make of the values.

    The spectrum is that of a cosine transform, in which the series goes on as its mirror image, without a step at its
    ends: slopes up to 4 stay what they are. All is in counts/s, and so does not depend on the mean.
    """
    grid = observation.grid
    unit = grid.dt if observation.kind == "counts" else 1.0
    bins = log_bins(np.arange(1, grid.n_bins) / (2.0 * grid.duration), rebin)
    models = ReferenceModels.of(_reference_covariances(grid, red_noise))
    n_models = len(models.weights)

    def features(values: Float[Array, " n_bins"]) -> Float[Array, " n_features"]:
        rate = values / unit
        power = 2.0 * grid.dt * jax.scipy.fft.dct(rate - rate.mean(), norm="ortho")[1:] ** 2
        return jnp.concatenate([jnp.log(bins.average(power)), models.misfits(rate), models.means(rate)])

    return CustomSummary(
        function=features,
        names=(
            *(f"log_power[{f:.6g} Hz]" for f in bins.freq),
            *(f"log_misfit[{k}]" for k in range(n_models)),
            *(f"mean[{k}]" for k in range(n_models)),
        ),
        panel=dataclasses.replace(
            spectrum_panel(bins.freq, "(counts/s)²/Hz"), value_label="Power by cosine transform [(counts/s)²/Hz]"
        ),
        undo=np.exp,
        about={
            "summary": "cosine_spectrum_and_red_noise_models",
            "n_bins": grid.n_bins,
            "dt": grid.dt,
            "kind": observation.kind,
            "red_noise": red_noise,
            "rebin": rebin,
        },
    )


def _reference_covariances(grid: TimeGrid, red_noise: float) -> Float64[np.ndarray, "n_models n_bins n_bins"]:
    """Covariance matrices, over the window, of red noise of unit rms: a grid of slopes, bends and noise levels."""
    n_long = long_length(grid.n_bins, red_noise)
    freq = fourier_frequencies(n_long, grid.dt)
    bends = np.geomspace(1.5 / grid.duration, 0.2 * grid.nyquist, _N_BENDS)
    matrices = []
    for slope, bend, noise in itertools.product(_SLOPES, bends, _NOISE):
        shape = (bend / freq) / (1.0 + (freq / bend) ** (slope - 1.0))
        in_band = freq > (1.0 - 1e-6) / grid.duration
        power = shape * (n_long * grid.dt / shape[in_band].sum()) + noise * grid.duration
        covariance = np.fft.irfft(np.r_[0.0, power], n_long) / (2.0 * grid.dt)
        matrices.append(toeplitz(covariance[: grid.n_bins]))
    return np.array(matrices)


def standard() -> LightCurve:
    """Seven hours of a faint Seyfert galaxy in bins of 100 s."""
    return steady_light_curve(256, dt=100.0, rate=0.5)


ENTRIES = {
    "leaky_red_noise": ProblemEntry(
        make=make,
        about="Gaussian red noise with a bending power-law spectrum, a chunk of a longer light curve",
        units=UNITS,
        takes="light curve",
        standard=standard,
        reference="Gaussian likelihood with the Toeplitz covariance of the window, exact",
        seconds=0.00012,
    )
}
