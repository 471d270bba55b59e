"""Short, noisy, red, log-normal: the variability of an accreting source as a bending power law."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eagleray.errors import InputError
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import Problem, ProblemEntry
from eagleray.problems.windows import steady_light_curve
from eagleray.records import Key, LightCurve, Theta
from eagleray.simulators.lognormal import log_normal_rate
from eagleray.simulators.observe.noise import fit_rate_errors, noisy_rates, poisson_counts
from eagleray.simulators.shapes import bending_power_law
from eagleray.simulators.timmer_koenig import fourier_frequencies, long_length
from eagleray.summaries.features import SpectralSummary

# Windows cut from one long series; more would cost more in noise than the series itself.
_MAX_VIEWS = 4
_MAX_RED_NOISE = 1000

UNITS = {"slope_low": "", "slope_high": "", "bend_freq": "Hz", "rms": "", "rate": "counts/s"}


def default_prior(observation: LightCurve) -> dict[str, str]:
    """Wide priors matched to an observation: its frequency range and its mean rate."""
    grid, rate = observation.grid, observation.mean_rate
    return {
        "slope_low": "uniform(0, 1.5)",
        "slope_high": "uniform(1.5, 4)",
        "bend_freq": f"loguniform({1.0 / grid.duration:.4g}, {0.5 * grid.nyquist:.4g})",
        "rms": "loguniform(0.02, 1)",
        "rate": f"loguniform({rate / 4:.4g}, {rate * 4:.4g})",
    }


def make(
    observation: LightCurve, prior: Mapping[str, str] | None = None, *, red_noise: float = 8.0, rebin: float = 0.1
) -> Problem:
    """The bending power law seen through the window of one observation.

    The rate is log-normal; its own spectrum (not that of its logarithm) is a bending power law. It is simulated on a
    series `red_noise` times longer than the window, so that variations slower than the window leak into it; then cut,
    watched with the observation's exposure and background, and given Poisson noise, or the noise that the
    observation's errors state. Parameters:

    - slope_low, slope_high: slopes of the spectrum far below and above the bend.
    - bend_freq: bend frequency [Hz].
    - rms: fractional rms of the process between 1/T and Nyquist, T the length of the window. A realisation's own rms
      scatters about it.
    - rate: mean rate of the process [counts/s]; the mean over the window scatters about it.

    Args:
        observation: The light curve to be explained; gives bins, exposure, background, errors and prior ranges.
        prior: Priors that replace the defaults, by parameter name.
        red_noise: How many times longer than the window the simulated series is.
        rebin: Growth of the frequency bins of the summary.

    Raises:
        InputError: If a prior names no parameter or leaves the range that a parameter can have, or if rates come
            without errors.

    References:
        McHardy et al. (2004), MNRAS 348, 783; Uttley, McHardy & Vaughan (2005), MNRAS 359, 345; Emmanoulopoulos,
        McHardy & Papadakis (2013), MNRAS 433, 907.
    """
    priors = problem_prior(
        "bending_power_law", default_prior(observation), prior, positive=("bend_freq", "rms", "rate")
    )
    grid = observation.grid
    if not 1 <= red_noise <= _MAX_RED_NOISE:
        raise InputError(f"red_noise must be from 1 to {_MAX_RED_NOISE}, got {red_noise!r}")
    n_long = long_length(grid.n_bins, red_noise)
    n_views = min(_MAX_VIEWS, n_long // grid.n_bins)
    freq = jnp.asarray(fourier_frequencies(n_long, grid.dt), jnp.float32)
    in_band = (freq > (1.0 - 1e-6) / grid.duration).astype(jnp.float32)
    exposure = jnp.asarray(observation.exposure, jnp.float32)
    background = jnp.asarray(observation.background, jnp.float32)
    errors = None
    if observation.kind == "rate":
        if observation.error is None:
            raise InputError("rates must come with errors, got none; give errors, or counts instead of rates")
        errors = fit_rate_errors(observation.values, observation.error, observation.exposure)

    def long_rate(key: Key, theta: Theta) -> Float[Array, " n_long"]:
        shape = bending_power_law(
            freq, slope_low=theta["slope_low"], slope_high=theta["slope_high"], bend_freq=theta["bend_freq"]
        )
        power = shape * (theta["rms"] ** 2 * (n_long * grid.dt) / (shape * in_band).sum())
        return log_normal_rate(key, power, theta["rate"], n_long, grid.dt)

    def observe(key: Key, rate: Float[Array, " n_bins"]) -> Float[Array, " n_bins"]:
        if errors is not None:
            return noisy_rates(key, rate, errors, exposure)
        return poisson_counts(key, rate, exposure, background, grid.dt)

    def simulate(key: Key, theta: Theta) -> Float[Array, " n_bins"]:
        key_source, key_noise = jax.random.split(key)
        return observe(key_noise, long_rate(key_source, theta)[: grid.n_bins])

    def simulate_views(key: Key, theta: Theta) -> Float[Array, "n_views n_bins"]:
        key_source, key_noise = jax.random.split(key)
        stretch = n_long // n_views
        windows = long_rate(key_source, theta)[: n_views * stretch].reshape(n_views, stretch)[:, : grid.n_bins]
        return jax.vmap(observe)(jax.random.split(key_noise, n_views), windows)

    return Problem(
        name="bending_power_law",
        prior=priors,
        units=UNITS,
        simulate=simulate,
        simulate_views=simulate_views,
        summary=SpectralSummary.of(observation, rebin=rebin),
        observed=jnp.asarray(observation.values, jnp.float32),
        light_curve=lambda values: values,
        settings={"red_noise": float(red_noise), "rebin": float(rebin)},
        conditions={} if errors is None else {"variance_per_rate": errors.variance_per_rate(observation.mean_rate)},
    )


def standard() -> LightCurve:
    """A day of a bright Seyfert galaxy in bins of 80 s."""
    return steady_light_curve(1024, dt=80.0, rate=30.0)


ENTRIES = {
    "bending_power_law": ProblemEntry(
        make=make,
        about="log-normal red noise with a bending power-law spectrum, leaking into a short window",
        units=UNITS,
        takes="light curve",
        standard=standard,
        reference="none in closed form",
        seconds=0.0005,
    )
}
