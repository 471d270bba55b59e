"""Problems whose answer is known: Gaussian light curves made of periodic segments, for which Whittle is exact."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.errors import InputError
from eagleray.likelihoods.whittle import averaged_powers
from eagleray.priors import Prior
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import Problem, ProblemEntry, several
from eagleray.problems.windows import steady_light_curve
from eagleray.records import Key, LightCurve, Theta, TimeGrid
from eagleray.simulators.shapes import lorentzian, power_law
from eagleray.simulators.timmer_koenig import gaussian_process
from eagleray.summaries.features import MIN_BINS, CustomSummary, Summary, spectrum_panel
from eagleray.summaries.rebin import log_bins
from eagleray.summaries.spectra import positive_frequencies, segment_power_spectrum

# Light curves for each set of parameters: simulating is cheaper than training.
_N_VIEWS = 8
# Powers of an averaged spectrum that a network is shown as they are.
_MAX_UNBINNED = 64
# Neighbouring bins in the averages that go with them.
_N_NEIGHBOURS = (4, 8)

UNITS = {"slope": "", "rms": "", "noise": "1/Hz"}
QPO_UNITS = {"rms": "", "centre": "Hz", "quality": "", "noise": "1/Hz"}

Shape = Callable[[Theta, Float[Array, " n_freq"]], Float[Array, " n_freq"]]
"""Parameters and frequencies [Hz] -> power of the signal, up to a factor."""


def default_prior(observation: LightCurve) -> dict[str, str]:
    """Wide priors matched to an observation: white noise of a tenth to ten times the Poisson level of its rate."""
    noise = 2.0 / observation.mean_rate
    return {
        "slope": "uniform(0, 3)",
        "rms": "loguniform(0.05, 1)",
        "noise": f"loguniform({noise / 10:.4g}, {noise * 10:.4g})",
    }


def default_qpo_prior(observation: LightCurve) -> dict[str, str]:
    """Two octaves below half the Nyquist frequency; white noise of a third to three times the Poisson level."""
    noise, nyquist = 2.0 / observation.mean_rate, observation.grid.nyquist
    return {
        "rms": "loguniform(0.15, 0.5)",
        "centre": f"loguniform({nyquist / 8:.4g}, {nyquist / 2:.4g})",
        "quality": "loguniform(2, 20)",
        "noise": f"loguniform({noise / 3:.4g}, {noise * 3:.4g})",
    }


def make(
    observation: LightCurve, prior: Mapping[str, str] | None = None, *, rebin: float = 0.05, segments: float = 1.0
) -> Problem:
    """A power law plus white noise, periodic over each segment and Gaussian, about the observation's mean rate.

    Nothing in nature is periodic over the window; the problem is a reference, on which every step from simulator to
    posterior can be held against the exact answer. Parameters: slope; rms, the fractional rms of the power law between
    one over a segment's length and Nyquist; noise, the white level [(rms/mean)^2/Hz].

    Args:
        observation: Gives bins and mean rate; rates or counts without gaps. Its errors are not used.
        prior: Priors that replace the defaults, by parameter name.
        rebin: Growth of the frequency bins of the summary; spectra of few powers (64) are not rebinned.
        segments: Equally long segments, one after the other, of which each is periodic by itself and whose spectra are
            averaged; bins at the end that make no whole segment are left out.

    Raises:
        InputError: If a prior names no parameter, the observation has gaps or background, or it cannot be cut into so
            many segments.
    """
    priors = problem_prior("periodic_gaussian", default_prior(observation), prior, positive=("rms", "noise"))
    lowest = 1.0 / _segment("periodic_gaussian", observation, segments).duration

    def shape(theta: Theta, freq: Float[Array, " n_freq"]) -> Float[Array, " n_freq"]:
        return power_law(freq / lowest, slope=theta["slope"])

    return _periodic("periodic_gaussian", observation, priors, UNITS, shape, segments=segments, rebin=rebin)


def make_qpo(
    observation: LightCurve, prior: Mapping[str, str] | None = None, *, rebin: float = 0.03, segments: float = 1.0
) -> Problem:
    """A quasi-periodic oscillation plus white noise, periodic over each segment and Gaussian.

    The Lorentzian stands at the Fourier frequencies as it is: narrower than their spacing, it is not smeared as that
    of a chunk of a longer series would be. Parameters: rms, its fractional rms between one over a segment's length and
    Nyquist; centre [Hz]; quality, centre over full width at half maximum; noise, the white level [(rms/mean)^2/Hz].

    Args:
        observation: As for `make`.
        prior: Priors that replace the defaults, by parameter name.
        rebin: Growth of the frequency bins of the summary; spectra of few powers (64) are not rebinned.
        segments: As for `make`.

    Raises:
        InputError: As for `make`.

    References:
        Huppenkothen & Bachetti (2022), MNRAS 511, 5689, section 3: the same signal behind dead time.
    """
    priors = problem_prior(
        "periodic_qpo", default_qpo_prior(observation), prior, positive=("rms", "centre", "quality", "noise")
    )

    def shape(theta: Theta, freq: Float[Array, " n_freq"]) -> Float[Array, " n_freq"]:
        return lorentzian(
            freq, centre=theta["centre"], fwhm=theta["centre"] / theta["quality"], peak=jnp.ones_like(freq[0])
        )

    return _periodic("periodic_qpo", observation, priors, QPO_UNITS, shape, segments=segments, rebin=rebin)


def _periodic(
    name: str,
    observation: LightCurve,
    prior: Prior,
    units: Mapping[str, str],
    shape: Shape,
    *,
    segments: float,
    rebin: float,
) -> Problem:
    """A signal of some shape, scaled to `rms`, plus white noise `noise`, in segments."""
    segment, n_segments = _segment(name, observation, segments), int(segments)
    n_used, n_total = n_segments * segment.n_bins, observation.grid.n_bins
    observed = np.asarray(observation.values, np.float64)[:n_used]
    mean = float(observed.mean())
    all_freq = jnp.asarray(np.fft.rfftfreq(segment.n_bins, segment.dt)[1:], jnp.float32)
    freq = jnp.asarray(positive_frequencies(segment.n_bins, segment.dt), jnp.float32)

    def spectrum(theta: Theta, at: Float[Array, " n_freq"]) -> Float[Array, " n_freq"]:
        norm = shape(theta, freq).sum() / segment.duration
        return theta["rms"] ** 2 / norm * shape(theta, at) + theta["noise"]

    def simulate(key: Key, theta: Theta) -> Float[Array, " n_used"]:
        keys = key[None] if n_segments == 1 else jax.random.split(key, n_segments)
        power = spectrum(theta, all_freq)
        each = jax.vmap(lambda key: gaussian_process(key, power, segment.n_bins, segment.dt))(keys)
        return mean * (1.0 + each.reshape(n_used))

    def power_of(values: Float[Array, " n_used"]) -> Float[Array, " n_freq"]:
        cut = values.reshape(n_segments, segment.n_bins)
        return jnp.asarray(segment_power_spectrum(cut, segment.dt, norm="frac", skip_empty=False).power)

    def log_likelihood(theta: Theta, values: Float[Array, " n_used"]) -> Float[Array, ""]:
        return averaged_powers(power_of(values), spectrum(theta, freq), n_segments)

    def light_curve(values: Float[Array, " n_used"]) -> Float[Array, " n_bins"]:
        # Bins that make no whole segment are shown at the mean.
        return jnp.pad(values, (0, n_total - n_used), constant_values=mean)

    return Problem(
        name=name,
        prior=prior,
        units=units,
        simulate=simulate,
        simulate_views=several(simulate, _N_VIEWS),
        summary=_averaged_summary(power_of, segment, n_segments, rebin),
        observed=jnp.asarray(observed, jnp.float32),
        light_curve=light_curve,
        settings={"rebin": float(rebin), "segments": float(segments)},
        conditions={"mean": mean},
        log_likelihood=log_likelihood,
    )


def _segment(name: str, observation: LightCurve, segments: float) -> TimeGrid:
    """The bins of one segment."""
    if np.any(np.asarray(observation.exposure) != 1) or np.any(np.asarray(observation.background) != 0):
        raise InputError(f"{name} needs a light curve without gaps and background; use bending_power_law")
    most = observation.grid.n_bins // MIN_BINS
    if not (segments == round(segments) and 1 <= segments <= most):
        raise InputError(f"segments must be a whole number from 1 to {most} ({MIN_BINS} bins each), got {segments!r}")
    return TimeGrid(n_bins=observation.grid.n_bins // int(segments), dt=observation.grid.dt)


def _averaged_summary(
    power_of: Callable[[Float[Array, " n_used"]], Float[Array, " n_freq"]],
    segment: TimeGrid,
    n_segments: int,
    rebin: float,
) -> Summary:
    """Ln of the averaged spectrum, of many powers in logarithmic bins; the mean is the observation's, and known.

    With it go averages over 4 and 8 neighbouring bins. Where a bin is one power, ln of it scatters by 1.28, and what
    many of them tell of a smooth spectrum is in ln of their mean, which a network learns slowly from the single ones.
    """
    if not rebin >= 0:
        raise InputError(f"rebin must be at least 0, got {rebin!r}")
    freq = positive_frequencies(segment.n_bins, segment.dt)
    bins = log_bins(freq, rebin if freq.size > _MAX_UNBINNED else 0.0)
    wider = [bins.neighbours(n) for n in _N_NEIGHBOURS]

    def features(values: Float[Array, " n_used"]) -> Float[Array, " n_features"]:
        total = bins.total(power_of(values))
        averages = [total[rows].sum(axis=1) / bins.n_powers[rows].sum(axis=1) for rows in wider]
        return jnp.log(jnp.concatenate([total / bins.n_powers, *averages]))

    return CustomSummary(
        function=features,
        names=(
            *(f"log_power[{f:.6g} Hz]" for f in bins.freq),
            *(f"log_power[{low:.6g} to {high:.6g} Hz]" for rows in wider for low, high in bins.freq[rows[:, [0, -1]]]),
        ),
        panel=spectrum_panel(bins.freq),
        undo=np.exp,
        about={
            "summary": "log_averaged_spectrum_and_neighbours",
            "n_bins": segment.n_bins,
            "dt": segment.dt,
            "segments": n_segments,
            "rebin": rebin,
        },
    )


def standard() -> LightCurve:
    """A kilosecond of 100 counts/s."""
    return steady_light_curve(1024, dt=1.0, rate=100.0)


def standard_qpo() -> LightCurve:
    """Fifty seconds of a bright black-hole binary, 1000 counts/s, in bins of 1/64 s."""
    return steady_light_curve(3200, dt=1.0 / 64.0, rate=1000.0)


ENTRIES = {
    "periodic_gaussian": ProblemEntry(
        make=make,
        about="power law plus white noise, Gaussian and periodic: a reference with a known answer",
        units=UNITS,
        takes="light curve",
        standard=standard,
        reference="Whittle likelihood, exact; Gamma distributed powers for averages",
        seconds=0.0002,
    ),
    "periodic_qpo": ProblemEntry(
        make=make_qpo,
        about="quasi-periodic oscillation plus white noise, Gaussian and periodic: a reference with a known answer",
        units=QPO_UNITS,
        takes="light curve",
        standard=standard_qpo,
        reference="Whittle likelihood, exact; Gamma distributed powers for averages",
        seconds=0.00008,
    ),
}
