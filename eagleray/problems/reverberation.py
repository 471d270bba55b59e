"""Two bands, one of them an echo of the other: powers, coherence and lags with an exact likelihood."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.errors import InputError
from eagleray.likelihoods.wishart import SpectralMatrix, wishart
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import Problem, ProblemEntry, several
from eagleray.problems.windows import steady_light_curve
from eagleray.records import CrossSpectrum, Key, LightCurve, Theta
from eagleray.simulators.normals import complex_normals
from eagleray.simulators.responses import gaussian_response, transfer_function
from eagleray.simulators.shapes import power_law
from eagleray.summaries.cross import segment_cross_spectrum
from eagleray.summaries.features import CustomSummary, spectrum_panel
from eagleray.summaries.rebin import log_bins
from eagleray.summaries.segments import Segments, segments_from_exposure
from eagleray.summaries.spectra import counts_and_errors, positive_frequencies

# Standard deviation of the response, in lags.
_WIDTH = 0.3
# Sets of spectra for each set of parameters: simulating is cheaper than training.
_N_VIEWS = 4
# Fewer leave no room for lags between a bin and a segment.
_LEAST_BINS = 64

UNITS = {"rms": "", "slope": "", "ratio": "", "lag": "s", "response": ""}


class AveragedPowers(NamedTuple):
    """Averages over segments, in fractional-rms norm [(rms/mean)^2/Hz].

    Attributes:
        power1: (n_freq,) power of the first band, noise included.
        power2: (n_freq,) power of the second band, noise included.
        real: (n_freq,) real part of the cross spectrum conj(F1) F2.
        imaginary: (n_freq,) its imaginary part, negative where the second band is late.
    """

    power1: Float[Array, " n_freq"]
    power2: Float[Array, " n_freq"]
    real: Float[Array, " n_freq"]
    imaginary: Float[Array, " n_freq"]

    @property
    def matrix(self) -> SpectralMatrix:
        """The same with a complex cross spectrum."""
        return SpectralMatrix(self.power1, self.power2, jax.lax.complex(self.real, self.imaginary))


def default_prior(observation: tuple[LightCurve, ...], *, segment_bins: float = 256.0) -> dict[str, str]:
    """Wide priors; lags from four bins to an eighth of a segment."""
    dt = observation[0].grid.dt
    return {
        "rms": "loguniform(0.1, 0.5)",
        "slope": "uniform(1, 2.5)",
        "ratio": "loguniform(0.5, 2)",
        "lag": f"loguniform({4.0 * dt:.4g}, {segment_bins * dt / 8.0:.4g})",
        "response": "uniform(0.1, 1)",
    }


def make(
    observation: tuple[LightCurve, ...],
    prior: Mapping[str, str] | None = None,
    *,
    segment_bins: float = 256.0,
    rebin: float = 0.1,
) -> Problem:
    """A power-law continuum seen in two bands, the second with an echo, as spectra averaged over segments.

    The Fourier amplitudes of a segment are complex normal and independent from frequency to frequency and from segment
    to segment, as those of a series that is periodic over a segment; data are their averaged powers and cross spectrum,
    whose law is the complex Wishart distribution. The first band holds the continuum x and Poisson noise; the second
    holds ratio (x + response h * x) / (1 + response) and Poisson noise of its own, h a Gaussian response around `lag`,
    of standard deviation 0.3 `lag`, that adds up to one. Parameters:

    - rms: fractional rms of the continuum in the first band, between one over a segment's length and Nyquist.
    - slope: slope of its spectrum.
    - ratio: amplitude of slow variations in the second band over that in the first.
    - lag: mean delay of the echo [s].
    - response: echo over continuum in the second band, for a steady source.

    Args:
        observation: Light curves of the continuum's band and of the echo's, on the same bins; they give segments
            without gaps and noise levels.
        prior: Priors that replace the defaults, by parameter name.
        segment_bins: Bins of a segment.
        rebin: Growth of the frequency bins of the summary.

    Raises:
        InputError: If a prior names no parameter, there are not two light curves on the same bins, they hold fewer than
            two segments, their means are not positive, or rates come without errors.

    References:
        Uttley et al. (2014), A&ARv 22, 72, sections 2 and 4.1; Goodman (1963), Annals of Mathematical Statistics 34,
        152 (the distribution).
    """
    segments = _segments(observation, segment_bins, rebin)
    priors = problem_prior(
        "reverberation",
        default_prior(observation, segment_bins=segment_bins),
        prior,
        positive=("rms", "ratio", "lag", "response"),
    )
    observed = _observed(observation, segments)
    n_bins, dt, n_segments = segments.n_bins, segments.dt, len(segments.starts)
    freq = jnp.asarray(positive_frequencies(n_bins, dt), jnp.float32)
    noise1, noise2 = float(observed.noise_1), float(observed.noise_2)

    def matrix(theta: Theta) -> SpectralMatrix:
        shape = power_law(freq / freq[0], slope=theta["slope"])
        power = shape * (theta["rms"] ** 2 * segments.duration / shape.sum())
        response = gaussian_response(
            delay=theta["lag"], width=_WIDTH * theta["lag"], intensity=theta["response"], n=n_bins, dt=dt
        )
        echo = transfer_function(response, n_bins)[: freq.size]
        scale = theta["ratio"] / (1.0 + theta["response"])
        real, imaginary = scale * (1.0 + echo.real), scale * echo.imag
        return SpectralMatrix(
            power1=power + noise1,
            power2=power * (real**2 + imaginary**2) + noise2,
            cross=jax.lax.complex(power * real, power * imaginary),
        )

    def simulate(key: Key, theta: Theta) -> AveragedPowers:
        power1, power2, cross = (jnp.asarray(x) for x in matrix(theta))
        parts = complex_normals(key, 2 * n_segments * freq.size, freq.dtype)
        amplitudes = math.sqrt(0.5) * jax.lax.complex(*parts).reshape(2, n_segments, freq.size)
        gain = cross / power1.astype(cross.dtype)
        rest = power2 - (gain.real * cross.real + gain.imag * cross.imag)
        first = jnp.sqrt(power1).astype(cross.dtype) * amplitudes[0]
        second = gain * first + jnp.sqrt(rest).astype(cross.dtype) * amplitudes[1]
        product = (first.conj() * second).mean(axis=0)
        return AveragedPowers(
            power1=(first.real**2 + first.imag**2).mean(axis=0),
            power2=(second.real**2 + second.imag**2).mean(axis=0),
            real=product.real,
            imaginary=product.imag,
        )

    def log_likelihood(theta: Theta, data: AveragedPowers) -> Float[Array, ""]:
        return wishart(data.matrix, matrix(theta), n_segments)

    power = np.asarray(observed.power)
    return Problem(
        name="reverberation",
        prior=priors,
        units=UNITS,
        simulate=simulate,
        simulate_views=several(simulate, _N_VIEWS),
        summary=_summary(segments, rebin),
        observed=AveragedPowers(
            *(jnp.asarray(x, jnp.float32) for x in (observed.power_1, observed.power_2, np.real(power), np.imag(power)))
        ),
        settings={"segment_bins": float(segment_bins), "rebin": float(rebin)},
        conditions={"noise1": noise1, "noise2": noise2},
        log_likelihood=log_likelihood,
    )


def _segments(observation: tuple[LightCurve, ...], segment_bins: float, rebin: float) -> Segments:
    """The stretches that both bands watched without gaps."""
    if not (isinstance(observation, tuple) and len(observation) == 2):
        raise InputError("reverberation needs two light curves, of the continuum's band and of the echo's")
    first, second = observation
    if first.grid != second.grid:
        raise InputError(
            f"the two bands must share their bins, got {first.grid.n_bins} of {first.grid.dt:g} s and "
            f"{second.grid.n_bins} of {second.grid.dt:g} s"
        )
    if not (segment_bins >= _LEAST_BINS and segment_bins == round(segment_bins)):
        raise InputError(f"segment_bins must be a whole number of at least {_LEAST_BINS}, got {segment_bins!r}")
    if not rebin >= 0:
        raise InputError(f"rebin must be at least 0, got {rebin!r}")
    for band in observation:
        if band.kind == "rate" and band.error is None:
            raise InputError("rates must come with errors, got none; give errors, or counts instead of rates")
        if not band.mean_rate > 0:
            raise InputError(f"both bands must have a positive mean rate, got {band.mean_rate:g} counts/s")
    exposure = np.minimum(np.asarray(first.exposure), np.asarray(second.exposure))
    segments = segments_from_exposure(exposure, segment_bins * first.grid.dt, first.grid.dt)
    if len(segments.starts) < 2:
        raise InputError("reverberation needs at least two segments without gaps, got one; use fewer segment_bins")
    return segments


def _observed(observation: tuple[LightCurve, ...], segments: Segments) -> CrossSpectrum:
    """Averaged powers, cross spectrum and noise levels of the two bands."""
    (counts1, error1), (counts2, error2) = (counts_and_errors(band) for band in observation)
    if (error1 is None) != (error2 is None):
        # The error of counts, so that both bands have one.
        error1, error2 = (
            jnp.sqrt(counts) if error is None else error for counts, error in ((counts1, error1), (counts2, error2))
        )
    background1, background2 = (segments.cut(jnp.asarray(band.background)) for band in observation)
    return segment_cross_spectrum(
        segments.cut(counts1),
        segments.cut(counts2),
        segments.dt,
        background_1=background1,
        background_2=background2,
        error_1=None if error1 is None else segments.cut(error1),
        error_2=None if error2 is None else segments.cut(error2),
        skip_empty=False,
    )


def _summary(segments: Segments, rebin: float) -> CustomSummary:
    """Ln power of the first band, ln ratio of the second to it, and both parts of the coherence, all in log bins."""
    bins = log_bins(positive_frequencies(segments.n_bins, segments.dt), rebin)

    def features(data: AveragedPowers) -> Float[Array, " n_features"]:
        power1, power2, real, imaginary = (bins.average(x) for x in data)
        size = jnp.sqrt(power1 * power2)
        return jnp.concatenate([jnp.log(power1), jnp.log(power2 / power1), real / size, imaginary / size])

    kinds = ("log_power", "log_power_ratio", "coherence_real", "coherence_imaginary")
    return CustomSummary(
        function=features,
        names=tuple(f"{kind}[{f:.6g} Hz]" for kind in kinds for f in bins.freq),
        panel=spectrum_panel(bins.freq),
        undo=np.exp,
        about={
            "summary": "log_spectrum_ratio_and_coherence",
            "n_bins": segments.n_bins,
            "dt": segments.dt,
            "segments": len(segments.starts),
            "rebin": rebin,
        },
    )


def standard() -> tuple[LightCurve, LightCurve]:
    """A long look at a bright Seyfert galaxy: 50 segments of 2560 s, 8 and 5 counts/s."""
    return steady_light_curve(12800, dt=10.0, rate=8.0), steady_light_curve(12800, dt=10.0, rate=5.0)


ENTRIES = {
    "reverberation": ProblemEntry(
        make=make,
        about="red noise in two bands, the second with a delayed echo: lags, powers and coherence",
        units=UNITS,
        takes="light curves in two bands",
        standard=standard,
        reference="complex Wishart likelihood of averaged spectra, exact",
        seconds=0.0006,
    )
}
