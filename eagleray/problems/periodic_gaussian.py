"""A problem whose answer is known: a periodic Gaussian light curve, for which Whittle's likelihood is exact."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.errors import InputError
from eagleray.likelihoods.whittle import whittle
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import Problem
from eagleray.records import Key, LightCurve, Theta
from eagleray.simulators.shapes import power_law
from eagleray.simulators.timmer_koenig import gaussian_process
from eagleray.summaries.features import SpectralSummary
from eagleray.summaries.spectra import positive_frequencies, power_spectrum

# Light curves for each set of parameters: simulating is cheaper than training.
_N_VIEWS = 8

UNITS = {"slope": "", "rms": "", "noise": "1/Hz"}


def default_prior(observation: LightCurve) -> dict[str, str]:
    """Wide priors matched to an observation: white noise of a tenth to ten times the Poisson level of its rate."""
    noise = 2.0 / observation.mean_rate
    return {
        "slope": "uniform(0, 3)",
        "rms": "loguniform(0.05, 1)",
        "noise": f"loguniform({noise / 10:.4g}, {noise * 10:.4g})",
    }


def make(observation: LightCurve, prior: Mapping[str, str] | None = None, *, rebin: float = 0.05) -> Problem:
    """A power law plus white noise, periodic over the window and Gaussian, about the observation's mean rate.

    Nothing in nature is periodic over the window; the problem is a reference, on which every step from simulator to
    posterior can be held against the exact answer. Parameters: slope; rms, the fractional rms of the power law between
    1/T and Nyquist; noise, the white level [(rms/mean)^2/Hz].

    Args:
        observation: Gives bins and mean rate; rates or counts without gaps. Its errors are not used.
        prior: Priors that replace the defaults, by parameter name.
        rebin: Growth of the frequency bins of the summary.

    Raises:
        InputError: If a prior names no parameter, or the observation has gaps or background.
    """
    priors = problem_prior("periodic_gaussian", default_prior(observation), prior, positive=("rms", "noise"))
    if np.any(np.asarray(observation.exposure) != 1) or np.any(np.asarray(observation.background) != 0):
        raise InputError("periodic_gaussian needs a light curve without gaps and background; use bending_power_law")
    grid = observation.grid
    unit = grid.dt if observation.kind == "counts" else 1.0
    mean = observation.mean_rate * unit
    all_freq = jnp.asarray(np.fft.rfftfreq(grid.n_bins, grid.dt)[1:], jnp.float32)
    freq = jnp.asarray(positive_frequencies(grid.n_bins, grid.dt), jnp.float32)

    def spectrum(theta: Theta, at: Float[Array, " n_freq"]) -> Float[Array, " n_freq"]:
        red = power_law(at / freq[0], slope=theta["slope"])
        norm = power_law(freq / freq[0], slope=theta["slope"]).sum() / grid.duration
        return theta["rms"] ** 2 / norm * red + theta["noise"]

    def simulate(key: Key, theta: Theta) -> Float[Array, " n_bins"]:
        return mean * (1.0 + gaussian_process(key, spectrum(theta, all_freq), grid.n_bins, grid.dt))

    def simulate_views(key: Key, theta: Theta) -> Float[Array, "n_views n_bins"]:
        return jax.vmap(simulate, in_axes=(0, None))(jax.random.split(key, _N_VIEWS), theta)

    def log_likelihood(theta: Theta, values: Float[Array, " n_bins"]) -> Float[Array, ""]:
        return whittle(power_spectrum(values, grid.dt, norm="frac"), spectrum(theta, freq))

    return Problem(
        name="periodic_gaussian",
        prior=priors,
        units=UNITS,
        simulate=simulate,
        simulate_views=simulate_views,
        summary=SpectralSummary.of(observation, rebin=rebin),
        settings={"rebin": float(rebin)},
        conditions={"mean": float(mean)},
        log_likelihood=log_likelihood,
    )
