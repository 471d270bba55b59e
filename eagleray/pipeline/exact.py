"""From an observation to the posterior of an exact likelihood of its power spectrum."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from eagleray.config import FitConfig
from eagleray.diagnostics.doubts import fit_doubts
from eagleray.errors import InputError
from eagleray.inference.log_density import Target
from eagleray.inference.model_tests import predictive_checks
from eagleray.inference.optimise import optimise
from eagleray.inference.samplers import sample
from eagleray.inference.samplers.registry import find_method
from eagleray.pipeline.results import Watch, now, unwatched, versions
from eagleray.problems.spectral_fit import SpectralProblem, make_spectral_problem
from eagleray.records import FitResult, LightCurve, PowerSpectrum, Theta
from eagleray.summaries.features import spectrum_panel
from eagleray.summaries.rebin import log_bins, rebin_log
from eagleray.summaries.spectra import averaged_power_spectrum

# Growth of the frequency bins in which powers are shown.
_SHOWN_REBIN = 0.1
N_STARTS = 32
"""Starts of the search for the best fit."""
SAMPLER_OPTIONS: dict[str, dict[str, Any]] = {"nuts": {"target_acceptance": 0.95}, "hmc": {"target_acceptance": 0.95}}
"""Short steps: broad-band shapes have posteriors with corners, where a bend leaves the data."""
_MIN_POWERS = 8


def fit(
    observation: LightCurve,
    *,
    model: str | None = None,
    config: FitConfig | None = None,
    command: str = "",
    watch: Watch = unwatched,
) -> FitResult:
    """Fit a model to the power spectrum of an observation by its exact likelihood.

    Args:
        observation: What was observed.
        model: Model as text, such as "powerlaw + lorentzian + constant"; default: the configuration's.
        config: Settings; default `FitConfig()`.
        command: The command that asked, for the record.
        watch: Told of the progress.

    Returns:
        Best fit, posterior and doubts.

    Raises:
        InputError: If the observation has no spectrum to fit, or the model or a prior cannot be read.
    """
    config = config or FitConfig()
    if model is not None:
        config = config.model_copy(update={"model": model})
    start = time.perf_counter()
    options = {**SAMPLER_OPTIONS.get(config.sampler, {}), **config.sampler_options}
    find_method(config.sampler, options)  # refuse what is unknown before the work begins
    spectrum = observed_spectrum(observation, config)
    problem = make_spectral_problem(spectrum, config.model, config.prior)
    target = Target(problem.prior, problem.log_likelihood)
    key_fit, key_sample, key_pick, key_predict, key_check = jax.random.split(jax.random.key(config.seed), 5)

    watch("fitting", 0, 1)
    optimum = optimise(target, key_fit, n_starts=N_STARTS, n_data=np.asarray(spectrum.freq).size)
    watch("fitting", 1, 1)
    watch("sampling", 0, 1)
    samples = sample(
        key_sample,
        target,
        method=config.sampler,
        n_chains=config.n_chains,
        n_draws=config.n_draws,
        n_warmup=config.n_warmup,
        **options,
    )
    watch("sampling", 1, 1)

    draws = {name: values.reshape(-1) for name, values in samples.draws.items()}
    some = some_draws(key_pick, draws, config.n_predictive)
    simulated = np.asarray(
        jax.jit(jax.vmap(problem.simulate))(jax.random.split(key_predict, config.n_predictive), some)
    )
    checks = predictive_checks(key_check, problem.power, some, spectrum.power, spectrum.m)
    shown = _ShownBins.of(spectrum)
    return FitResult(
        draws=draws,
        log_prob=physical_log_prob(target, samples.positions, samples.log_density),
        units=problem.units,
        prior=problem.prior.texts,
        observation=observation,
        panel=spectrum_panel(shown.freq, problem.power_unit),
        shown_obs=shown.average(np.asarray(spectrum.power)),
        shown_predictive=shown.average(simulated),
        spectrum=spectrum,
        components=_components(problem, optimum.theta),
        optimum=optimum,
        samples=samples,
        checks=checks,
        warnings=fit_doubts(
            problem.prior,
            samples,
            draws,
            checks,
            optimum,
            _gap_fraction(observation, config),
            _steepness(problem, optimum.theta),
        ),
        provenance={"model": config.model}
        | provenance(
            config,
            _likelihood_in_words(spectrum, config),
            command,
            {**samples.seconds, "in all": time.perf_counter() - start},
        ),
    )


def provenance(config: FitConfig, likelihood: str, command: str, seconds: Mapping[str, float]) -> dict[str, Any]:
    """What it takes to repeat a fit, and how long it took."""
    return {
        "likelihood": likelihood,
        "command": command,
        "seed": config.seed,
        "created": now(),
        "versions": versions(),
        "config": config.model_dump(mode="json"),
        "seconds": dict(seconds),
    }


def observed_spectrum(observation: LightCurve, config: FitConfig) -> PowerSpectrum:
    """The spectrum that a configuration asks for.

    Raises:
        InputError: If it has fewer than 8 powers, or powers that are not positive and finite.
    """
    spectrum = averaged_power_spectrum(observation, segment_size=config.segment_size, norm=config.norm)
    if config.rebin > 0 and np.size(spectrum.power) > 0:
        spectrum = rebin_log(spectrum, config.rebin)
    power = np.asarray(spectrum.power)
    if power.size < _MIN_POWERS:
        raise InputError(f"the spectrum must have at least {_MIN_POWERS} powers, got {power.size}; use a smaller dt")
    if not (np.isfinite(power).all() and (power > 0).all()):
        raise InputError(
            f"the spectrum must have positive powers, got a mean rate of {observation.mean_rate:.4g} counts/s and "
            f"{(~(power > 0)).sum()} powers that are not"
        )
    return dataclasses.replace(spectrum, power=power, m=np.asarray(spectrum.m))


@dataclasses.dataclass(frozen=True)
class _ShownBins:
    """Frequency bins in which powers are shown: logarithmic, unless the spectrum already is.

    Attributes:
        freq: (n_shown,) their frequencies [Hz].
        group: (n_freq,) bin of each power.
    """

    freq: NDArray[np.floating]
    group: NDArray[np.integer]

    @classmethod
    def of(cls, spectrum: PowerSpectrum) -> "_ShownBins":
        """Bins for a spectrum."""
        freq = np.asarray(spectrum.freq, np.float64)
        if freq.size > 2 and not np.allclose(np.diff(freq), freq[1] - freq[0], rtol=1e-3):
            return cls(freq, np.arange(freq.size))
        bins = log_bins(freq, _SHOWN_REBIN, width=freq[1] - freq[0])
        return cls(bins.freq, bins.group)

    def average(self, power: NDArray[np.floating]) -> NDArray[np.floating]:
        """Mean power of each bin."""
        starts = np.searchsorted(self.group, np.arange(self.freq.size))
        return np.add.reduceat(power, starts, axis=-1) / np.bincount(self.group)


def some_draws(key: jax.Array, draws: Mapping[str, NDArray[np.floating]], n: int) -> dict[str, jax.Array]:
    """N posterior draws, picked at random."""
    size = len(next(iter(draws.values())))
    picked = np.asarray(jax.random.choice(key, size, (n,), replace=n > size))
    return {name: jnp.asarray(values[picked]) for name, values in draws.items()}


def physical_log_prob(
    target: Target, positions: NDArray[np.floating], log_density: NDArray[np.floating]
) -> NDArray[np.floating]:
    """Ln posterior density in physical units, (n_draws,), up to a constant."""
    flat = jnp.asarray(positions.reshape(-1, positions.shape[-1]))
    return log_density.reshape(-1) - np.asarray(jax.jit(jax.vmap(target.prior.log_det))(flat))


def _components(problem: SpectralProblem, theta: Mapping[str, float]) -> dict[str, NDArray[np.floating]]:
    """Power of each term of the model, by the names of its shapes."""
    values: Theta = {name: jnp.asarray(value) for name, value in theta.items()}
    return {
        " × ".join(component.name for component in term.components): np.asarray(term(problem.freq, values))
        for term in problem.model.terms
    }


def _gap_fraction(observation: LightCurve, config: FitConfig) -> float:
    """Part of the fitted window that was not watched; segments have no gaps."""
    if config.segment_size is not None:
        return 0.0
    return 1.0 - observation.n_exposed / observation.grid.n_bins


def _steepness(problem: SpectralProblem, theta: Mapping[str, float]) -> float:
    """-d ln P / d ln f of the best fit at the lowest frequency."""
    values: Theta = {name: jnp.asarray(value) for name, value in theta.items()}
    lowest = problem.freq[:1]

    def log_power(log_shift: jax.Array) -> jax.Array:
        return jnp.log(problem.model(lowest * jnp.exp(log_shift), values))[0]

    return -float(jax.grad(log_power)(jnp.zeros_like(lowest[0])))


def _likelihood_in_words(spectrum: PowerSpectrum, config: FitConfig) -> str:
    """What is fitted, in words."""
    m = np.asarray(spectrum.m)
    many = f"{m.min():g}" if m.min() == m.max() else f"{m.min():g} to {m.max():g}"
    segments = "" if config.segment_size is None else f" in segments of {config.segment_size:g} s"
    law = "exponential (Whittle)" if m.max() == 1 else f"gamma, averages of {many} periodogram powers{segments}"
    return f"{m.size} powers, {law}, norm {spectrum.norm}"
