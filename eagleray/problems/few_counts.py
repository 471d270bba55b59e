"""Few counts in each bin: a damped random walk of the logarithm of the rate, seen through Poisson noise alone."""

import hashlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.errors import InputError
from eagleray.likelihoods.cox import CoxProcess, LogNormalRate
from eagleray.likelihoods.live_time import LiveBins
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import Problem, ProblemEntry, several
from eagleray.problems.windows import steady_light_curve
from eagleray.records import AnyArray, Key, LightCurve, Theta
from eagleray.simulators.observe.noise import poisson_counts
from eagleray.simulators.shapes import zero_centred_lorentzian
from eagleray.simulators.timmer_koenig import fourier_frequencies, gaussian_process, process_variance
from eagleray.summaries.features import MIN_BINS, CustomSummary, spectrum_panel
from eagleray.summaries.rebin import log_bins
from eagleray.summaries.spectra import positive_frequencies, power_spectrum

UNITS = {"rms": "", "timescale": "s", "rate": "counts/s"}

# Light curves for each set of parameters: simulating is cheaper than training.
_N_VIEWS = 4
# Bins added up before the distribution of their counts is looked at, as long as `MIN_BINS` of them are left.
_STRIDES = (1, 4, 16, 64)
_POWERS = (0.5, 2.0, 3.0)
_RATES = (0.5, 1.0, 2.0, 4.0)
# What keeps the logarithm of a Leahy power finite where there is no count; the noise level is 2.
_LEAST_POWER = 0.05


def default_prior(observation: LightCurve) -> dict[str, str]:
    """Priors matched to an observation: memories of a bin to a twentieth of the window, rates near the observed one."""
    grid, rate = observation.grid, observation.mean_rate
    return {
        "rms": "uniform(0.1, 1)",
        "timescale": f"loguniform({grid.dt:.4g}, {max(grid.duration / 20, 4 * grid.dt):.4g})",
        "rate": f"loguniform({rate / 2.5:.4g}, {rate * 2.5:.4g})",
    }


def log_spectrum(freq: Float[Array, " n_freq"], theta: Theta, n_bins: int, dt: float) -> Float[Array, " n_freq"]:
    """Spectrum of ln rate: a damped random walk with the variance ln(1 + rms^2), which gives the rate its rms.

    Args:
        freq: (n_bins // 2,) Fourier frequencies of the window, Nyquist included [Hz].
        theta: rms, and the timescale at which the memory has fallen to 1/e [s].
        n_bins: Bins of the window (static).
        dt: Bin width [s].

    Returns:
        (n_bins // 2,) one-sided spectrum [1/Hz].

    References:
        Kelly, Bechtold & Siemiginowska (2009), ApJ 698, 895, equation 3.
    """
    half_width = 1.0 / (2.0 * np.pi * theta["timescale"])
    shape = zero_centred_lorentzian(freq, rms=jnp.ones_like(half_width), half_width=half_width)
    return jnp.log1p(theta["rms"] ** 2) / process_variance(shape, n_bins, dt) * shape


def make(observation: LightCurve, prior: Mapping[str, str] | None = None, *, rebin: float = 0.1) -> Problem:
    """Counts of a log-normal rate with a memory, where most bins hold none or a few.

    The logarithm of the rate is a damped random walk, Gaussian and periodic over the window; counts are Poisson. The
    likelihood of the parameters is an integral over the rate: `cox` gives the joint density of both, which is exact, so
    that the posterior can be sampled through the rate. Parameters:

    - rms: fractional rms of the rate as a process; the variance of ln rate is ln(1 + rms^2).
    - timescale: time in which the autocovariance of ln rate falls to 1/e [s].
    - rate: mean rate of the process [counts/s]; the mean over the window scatters about it.

    Args:
        observation: Counts to be explained; gives bins, exposure, background and prior ranges. Gaps are allowed.
        prior: Priors that replace the defaults, by parameter name.
        rebin: Growth of the frequency bins of the summary.

    Raises:
        InputError: If the observation is one of rates, has no source counts or too few exposed bins, a prior names no
            parameter or leaves the range that a parameter can have, or `rebin` is negative.

    References:
        Kelly, Bechtold & Siemiginowska (2009), ApJ 698, 895 (damped random walk); Uttley, McHardy & Vaughan (2005),
        MNRAS 359, 345 (log-normal rates).
    """
    _check(observation, rebin)
    priors = problem_prior("few_counts", default_prior(observation), prior, positive=("rms", "timescale", "rate"))
    grid = observation.grid
    n_bins, dt = grid.n_bins, grid.dt
    exposure = jnp.asarray(observation.exposure, jnp.float32)
    background = jnp.where(exposure > 0, jnp.asarray(observation.background, jnp.float32), 0.0)
    has_background = bool(np.any(np.asarray(background) > 0))
    freq = jnp.asarray(fourier_frequencies(n_bins, dt), jnp.float32)
    spectrum = lambda freq, theta: log_spectrum(freq, theta, n_bins, dt)  # noqa: E731
    process = LogNormalRate(spectrum=spectrum, grid=grid, mean="rate")

    def simulate(key: Key, theta: Theta) -> Float[Array, " n_bins"]:
        key_source, key_noise = jax.random.split(key)
        power = spectrum(freq, theta)
        log_rate = gaussian_process(key_source, power, n_bins, dt) - 0.5 * process_variance(power, n_bins, dt)
        return poisson_counts(key_noise, theta["rate"] * jnp.exp(log_rate), exposure, background, dt)

    def cox(values: Float[Array, " n_bins"]) -> CoxProcess:
        live = exposure * dt
        per_second = background / jnp.where(live > 0, live, 1.0)
        bins = LiveBins(counts=values, live=live)
        return CoxProcess(rate=process, bins=bins, background=per_second if has_background else None)

    return Problem(
        name="few_counts",
        prior=priors,
        units=UNITS,
        simulate=simulate,
        simulate_views=several(simulate, _N_VIEWS),
        summary=_summary(observation, rebin),
        observed=jnp.asarray(observation.values, jnp.float32),
        light_curve=lambda values: values,
        settings={"rebin": float(rebin)},
        conditions={},
        cox=cox,
    )


def _check(observation: LightCurve, rebin: float) -> None:
    """Refuse what is no light curve of counts."""
    if observation.kind != "counts":
        raise InputError(
            f"few_counts needs counts per bin, got kind={observation.kind!r}; use bending_power_law for rates"
        )
    if observation.n_exposed < MIN_BINS:
        raise InputError(
            f"few_counts needs at least {MIN_BINS} exposed bins, got {observation.n_exposed}; use a smaller dt"
        )
    if not observation.mean_rate > 0:
        raise InputError(
            f"few_counts needs more counts than background, got a mean rate of {observation.mean_rate:.4g} counts/s"
        )
    if not rebin >= 0:
        raise InputError(f"rebin must be at least 0, got {rebin!r}")


def _summary(observation: LightCurve, rebin: float) -> CustomSummary:
    """Log-binned log powers, total counts, and how counts are distributed in bins of several lengths."""
    grid = observation.grid
    bins = log_bins(positive_frequencies(grid.n_bins, grid.dt), rebin)
    exposure = jnp.asarray(observation.exposure, jnp.float32)
    background = jnp.asarray(observation.background, jnp.float32)
    strides = [stride for stride in _STRIDES if grid.n_bins // stride >= MIN_BINS]

    def function(values: Float[Array, " n_bins"]) -> Float[Array, " n_features"]:
        total = values.sum()
        squared = power_spectrum(values, grid.dt, norm="none", exposure=exposure, background=background)
        power = bins.average(squared) * 2.0 / jnp.maximum(total, 1.0)
        spread = [_spread(values, stride) for stride in strides]
        return jnp.concatenate([jnp.log(power + _LEAST_POWER), jnp.log1p(total)[None], *spread])

    what = (*(f"log_moment_{p:g}" for p in _POWERS), *(f"log_transform_{s:g}" for s in _RATES))
    spread_names = [f"{name}[{stride} bins]" for stride in strides for name in what]
    return CustomSummary(
        function=function,
        names=(*(f"log_power[{f:.6g} Hz]" for f in bins.freq), "log_counts", *spread_names),
        panel=spectrum_panel(bins.freq, "Leahy"),
        about={
            "summary": "few_counts",
            "n_bins": grid.n_bins,
            "dt": grid.dt,
            "rebin": float(rebin),
            "exposure": _digest(observation.exposure),
            "background": _digest(observation.background),
        },
        undo=lambda log_power: np.exp(log_power) - _LEAST_POWER,
    )


def _spread(values: Float[Array, " n_bins"], stride: int) -> Float[Array, " n_numbers"]:
    """How counts in bins of `stride` bins are distributed about their mean: ln of moments and of a Laplace transform.

    Powers are the same for a skewed process and one that is not; these numbers are not.
    """
    n_coarse = values.size // stride
    counts = values[: n_coarse * stride].reshape(n_coarse, stride).sum(axis=1)
    scaled = counts / jnp.maximum(counts.mean(), 1.0 / n_coarse)
    moments = [(scaled**power).mean() + 1e-3 for power in _POWERS]
    transforms = [jnp.exp(-rate * scaled).mean() for rate in _RATES]
    return jnp.log(jnp.stack(moments + transforms))


def _digest(values: Float[AnyArray, " n"]) -> str:
    """A short name for an array."""
    return hashlib.sha256(np.ascontiguousarray(values, "<f4").tobytes()).hexdigest()[:16]


def standard() -> LightCurve:
    """Half a day of an X-ray source of 1.2 counts in each bin of 100 s."""
    return steady_light_curve(512, dt=100.0, rate=0.012)


ENTRIES = {
    "few_counts": ProblemEntry(
        make=make,
        about="a log-normal damped random walk seen through few Poisson counts in each bin",
        units=UNITS,
        takes="light curve",
        standard=standard,
        reference="Cox process: NUTS over parameters and the Fourier amplitudes of ln rate, exact",
        seconds=0.00005,
    )
}
