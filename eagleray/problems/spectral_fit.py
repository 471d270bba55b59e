"""An observed power spectrum and a model of it, with the exact law of averaged powers: what `eagleray fit` fits."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.likelihoods.whittle import averaged_powers
from eagleray.priors import Prior
from eagleray.problems.priors import problem_prior
from eagleray.records import Key, Norm, PowerSpectrum, Theta
from eagleray.simulators.expressions import spectrum_from_text
from eagleray.simulators.spectrum import Spectrum
from eagleray.summaries.rebin import log_bins

# Norm -> unit of a power as an axis shows it, and as a parameter has it.
_POWER_UNITS: dict[Norm, tuple[str, str]] = {
    "frac": ("(rms/mean)²/Hz", "1/Hz"),
    "leahy": ("Leahy", ""),
    "abs": ("(counts/s)²/Hz", "(counts/s)^2/Hz"),
    "none": ("counts²", "counts^2"),
}
_SIGNED = ("slope", "slope_low", "slope_middle", "slope_high")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SpectralProblem:
    """Prior, law and likelihood of one observed power spectrum.

    Attributes:
        name: The model as text.
        prior: Named priors of its parameters.
        units: Unit of each parameter, for labels.
        spectrum: What was observed.
        model: Model of the spectrum.
    """

    name: str
    prior: Prior
    units: Mapping[str, str]
    spectrum: PowerSpectrum
    model: Spectrum

    @property
    def freq(self) -> Float[Array, " n_freq"]:
        """Observed frequencies [Hz], in the default precision."""
        return jnp.asarray(self.spectrum.freq, jnp.result_type(float))

    @property
    def power_unit(self) -> str:
        """Unit of the powers, for labels."""
        return _POWER_UNITS[self.spectrum.norm][0]

    def power(self, theta: Theta) -> Float[Array, " n_freq"]:
        """Expected powers at the observed frequencies, shape (n_freq,)."""
        return self.model(self.freq, theta)

    def simulate(self, key: Key, theta: Theta) -> Float[Array, " n_freq"]:
        """Draw powers as they would be observed: gamma-distributed with shape m about the model, shape (n_freq,)."""
        m = jnp.asarray(self.spectrum.m, jnp.result_type(float))
        return self.power(theta) * jax.random.gamma(key, m) / m

    def log_likelihood(self, theta: Theta, power: Float[Array, " n_freq"] | None = None) -> Float[Array, ""]:
        """Ln likelihood of powers (n_freq,), by default the observed ones."""
        observed = self.spectrum.power if power is None else power
        dtype = jnp.result_type(float)
        return averaged_powers(jnp.asarray(observed, dtype), self.power(theta), jnp.asarray(self.spectrum.m, dtype))


def make_spectral_problem(
    spectrum: PowerSpectrum, model: str, prior: Mapping[str, str] | None = None
) -> SpectralProblem:
    """Bind a model to an observed spectrum.

    The priors are wide and take their scales from the data: frequencies within the observed range, powers within the
    range of the observed ones and some decades beyond. They are written out with every result.

    Args:
        spectrum: Observed powers, each an average of m periodogram powers.
        model: Model as text, such as "powerlaw + lorentzian + constant" (see `eagleray.simulators.expressions`).
        prior: Priors that replace the defaults, by parameter name; also "fixed(2)" and "tied(2 * qpo.centre)".

    Returns:
        The problem.

    Raises:
        InputError: If the model or a prior cannot be read, or a prior names no parameter.
    """
    freq = np.asarray(spectrum.freq, np.float64)
    pivot = float(f"{np.sqrt(freq[0] * freq[-1]):.3g}")
    parsed = spectrum_from_text(model, pivot=pivot)
    defaults = {name: _default(name.rpartition(".")[2], spectrum) for name in parsed.names}
    positive = [name for name in parsed.names if name.rpartition(".")[2] not in _SIGNED]
    return SpectralProblem(
        name=model,
        prior=problem_prior(f"the model {model!r}", defaults, prior, positive=positive),
        units={name: _unit(name.rpartition(".")[2], spectrum.norm) for name in parsed.names},
        spectrum=spectrum,
        model=parsed,
    )


def _default(parameter: str, spectrum: PowerSpectrum) -> str:
    """Prior of one parameter of a shape, from the scales of the data."""
    freq, power = (np.asarray(x, np.float64) for x in (spectrum.freq, spectrum.power))
    step = freq[-1] / freq.size
    smooth = log_bins(step * np.arange(1, freq.size + 1), 0.2).average(jnp.asarray(power, jnp.result_type(float)))
    lowest, highest = float(np.min(smooth)), float(np.max(smooth))
    resolution = step if spectrum.width is None else float(np.min(spectrum.width))
    spread = float(np.sqrt((power * np.gradient(freq)).sum()))
    if parameter == "level" and spectrum.noise is not None:
        # Noise of known origin is known to a factor: dead time or a wrong error bar change it by no more.
        return f"lognormal({math.log(float(spectrum.noise)):.4g}, 0.5)"
    ranges = {
        "norm": (lowest / 1e3, highest * 1e2),
        "peak": (lowest / 1e2, highest * 1e2),
        "level": (lowest / 1e2, highest),
        "rms": (spread / 1e2, spread * 3),
        "centre": (freq[0], freq[-1]),
        "nu_max": (freq[0], freq[-1]),
        "half_width": (freq[0], freq[-1]),
        "fwhm": (resolution, freq[-1]),
        "bend_freq": (freq[0], freq[-1]),
        "bend_freq_low": (freq[0], freq[-1]),
        "bend_freq_high": (freq[0], freq[-1]),
        "q": (0.1, 100.0),
    }
    flat = {
        "slope": "uniform(0, 5)",
        "slope_low": "uniform(-1, 2)",
        "slope_middle": "uniform(0, 3)",
        "slope_high": "uniform(1, 6)",
        "exponent": "uniform(1, 8)",
    }
    if parameter in flat:
        return flat[parameter]
    low, high = ranges[parameter]
    return f"loguniform({low:.3g}, {high:.3g})"


def _unit(parameter: str, norm: Norm) -> str:
    """Unit of one parameter of a shape."""
    if parameter in ("norm", "peak", "level"):
        return _POWER_UNITS[norm][1]
    return "Hz" if parameter in ("centre", "nu_max", "half_width", "fwhm") or parameter.startswith("bend") else ""
