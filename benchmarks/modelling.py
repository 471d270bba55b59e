"""Fits of a power spectrum, eagleray beside Stingray: effective draws, likelihood-ratio tests and gradients.

    python -m benchmarks.modelling --json FILE [--quick]

A power law, a Lorentzian and a constant on 1024 powers. CPU seconds of this process, on one core; what is compiled
is compiled before, and its time given apart.
"""

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import machine_facts, measure_in_turn, stay_on_one_core
from eagleray.inference.log_density import Target
from eagleray.inference.model_tests import likelihood_ratio_test
from eagleray.inference.optimise import optimise
from eagleray.inference.samplers import sample
from eagleray.inference.spectral_models import FitSettings, SpectralModel
from eagleray.problems.spectral_fit import SpectralProblem, make_spectral_problem
from eagleray.records import PowerSpectrum, Samples

N_POWERS, SPACING = 1024, 0.05
NULL, MODEL = "powerlaw + constant", "powerlaw + lorentzian + constant"
# Powers in Leahy's norm: noise level 2, a QPO of Q = 8 that stands well above the noise.
TRUTH = {
    "powerlaw.norm": 1.0,
    "powerlaw.slope": 1.5,
    "lorentzian.centre": 8.0,
    "lorentzian.fwhm": 1.0,
    "lorentzian.peak": 10.0,
    "constant.level": 2.0,
}
PRIOR = {
    "powerlaw.norm": "loguniform(0.01, 100)",
    "powerlaw.slope": "uniform(0, 4)",
    "lorentzian.centre": "uniform(1, 40)",
    "lorentzian.fwhm": "loguniform(0.1, 20)",
    "lorentzian.peak": "loguniform(0.01, 1000)",
    "constant.level": "loguniform(0.1, 10)",
}
# Parameters of astropy's PowerLaw1D + Lorentz1D + Const1D, which is what Stingray fits, in their order.
STINGRAY = {
    "powerlaw.norm": "amplitude",
    "powerlaw.slope": "alpha",
    "lorentzian.peak": "amplitude",
    "lorentzian.centre": "x_0",
    "lorentzian.fwhm": "fwhm",
    "constant.level": "amplitude",
}


def simulated_spectrum(m: int, model: str = MODEL, seed: int = 0) -> PowerSpectrum:
    """1024 powers, each the mean of m periodogram powers, about the true model."""
    freq = SPACING * np.arange(1, N_POWERS + 1)
    flat = PowerSpectrum(
        freq=freq, power=np.ones(N_POWERS), m=np.full(N_POWERS, m), n_photons=1e5, norm="leahy", dt=0.5 / freq[-1]
    )
    problem = problem_for(flat, model)
    truth = {name: jnp.float32(TRUTH[name]) for name in problem.prior.names}
    power = np.asarray(problem.power(truth), np.float64)
    noise = np.random.default_rng(seed).gamma(m, 1.0 / m, N_POWERS)
    return PowerSpectrum(**{**vars(flat), "power": power * noise})


def problem_for(spectrum: PowerSpectrum, model: str = MODEL) -> SpectralProblem:
    """Our problem with the benchmark's priors."""
    return make_spectral_problem(spectrum, model, {n: t for n, t in PRIOR.items() if n.partition(".")[0] in model})


def stingray_posterior(spectrum: PowerSpectrum, model: str = MODEL) -> tuple[Any, list[float]]:
    """Stingray's posterior with the same priors, and the truth in its order."""
    from astropy.modeling.models import Const1D, Lorentz1D, PowerLaw1D
    from stingray.modeling import PSDPosterior, set_logprior
    from stingray.powerspectrum import Powerspectrum

    pivot = dict(problem_for(spectrum, model).model.components[0].fixed)["pivot"]
    terms = {"powerlaw": PowerLaw1D(x_0=pivot), "lorentzian": Lorentz1D(), "constant": Const1D()}
    named = [name.strip() for name in model.split("+")]
    spec = terms[named[0]]
    for name in named[1:]:
        spec = spec + terms[name]
    spec.x_0_0.fixed = True
    index = {name: i for i, name in enumerate(named)}
    names = {ours: f"{STINGRAY[ours]}_{index[ours.partition('.')[0]]}" for ours in _stingray_order(model)}
    observed = Powerspectrum()
    observed.freq, observed.power, observed.m = (
        np.asarray(spectrum.freq),
        np.asarray(spectrum.power),
        int(spectrum.m[0]),
    )
    observed.df, observed.n, observed.norm = SPACING, 2 * N_POWERS, "leahy"
    posterior = PSDPosterior(observed.freq, observed.power, spec, m=observed.m)
    laws = {theirs: prior_density(PRIOR[ours]) for ours, theirs in names.items()}
    posterior.logprior = set_logprior(posterior, laws)
    return (observed, posterior), [TRUTH[name] for name in _stingray_order(model)]


def prior_density(text: str) -> Callable[[float], float]:
    """A prior density in plain Python, as Stingray's users write it: SciPy's would cost more than the likelihood."""
    family, _, numbers = text.rstrip(")").partition("(")
    first, second = (float(number) for number in numbers.split(","))
    if family == "uniform":
        return lambda value: float(first <= value <= second) / (second - first)
    if family == "loguniform":
        width = math.log(second / first)
        return lambda value: 1.0 / (value * width) if first <= value <= second else 0.0
    if family == "lognormal":
        scale = second * math.sqrt(2.0 * math.pi)
        return lambda value: (
            math.exp(-0.5 * ((math.log(value) - first) / second) ** 2) / (value * scale) if value > 0 else 0.0
        )
    raise ValueError(f"the family must be uniform, loguniform or lognormal, got {text!r}")


def effective_draws(m: int, *, quick: bool) -> dict[str, Any]:
    """Effective draws per CPU second of NUTS, and of Stingray's emcee, on the same spectrum under the same priors.

    The smallest bulk effective sample size over parameters, by ArviZ's estimator for both, the walkers as chains. CPU
    seconds include each one's warm-up; Stingray's walkers start about the posterior, with its covariance given to them.
    """
    spectrum = simulated_spectrum(m)
    problem = problem_for(spectrum)
    target = Target(problem.prior, problem.log_likelihood)
    sizes = {"n_chains": 8, "n_draws": 500 if quick else 2000, "n_warmup": 500}
    sample(jax.random.key(0), target, **sizes)  # compiles
    ours = []
    for seed in range(1, 4):
        start = time.process_time()
        samples = sample(jax.random.key(seed), target, **sizes)
        ours.append((time.process_time() - start, samples))
    cpu, samples = sorted(ours, key=lambda pair: pair[0])[1]
    optimum = optimise(target, jax.random.key(9), n_data=N_POWERS)

    theirs = _stingray_sampling(spectrum, samples, *((200, 100) if quick else (500, 100)))
    own = {
        "ess": min(samples.ess_bulk.values()),
        "cpu": cpu,
        "rhat": max(samples.rhat.values()),
        "n_draws": sizes["n_chains"] * sizes["n_draws"],
        "compile": float(ours[0][1].seconds.get("compile", math.nan)),
        "n_divergent": int(np.sum(samples.divergent)),
        "mean": {name: float(np.mean(draws)) for name, draws in samples.draws.items()},
        "sd": {name: float(np.std(draws)) for name, draws in samples.draws.items()},
        "map": {name: float(value) for name, value in optimum.theta.items()},
    }
    ratio = (own["ess"] / own["cpu"]) / (theirs["ess"] / theirs["cpu"])
    return {"m": m, "eagleray": own, "stingray": theirs, "ratio": ratio}


def _stingray_sampling(spectrum: PowerSpectrum, samples: Samples, n_walkers: int, n_draws: int) -> dict[str, Any]:
    """`PSDParEst.sample` with its defaults (500 walkers, 100 steps of burn-in, 100 draws each) unless quick."""
    import emcee
    from arviz_stats.base import array_stats
    from stingray.modeling import PSDParEst

    (observed, posterior), _ = stingray_posterior(spectrum)
    names = list(STINGRAY)
    order = [name for name in _stingray_order(MODEL)]
    flat = np.stack([np.asarray(samples.draws[name], np.float64).ravel() for name in order])
    # Half the spread: walkers outside the prior's support would never move.
    covariance = 0.25 * np.cov(flat)
    np.random.seed(1)  # noqa: NPY002 - Stingray draws from NumPy's global generator
    kept: list[Any] = []
    original = emcee.EnsembleSampler.__init__

    def remember(self: Any, *args: Any, **kwargs: Any) -> None:
        kept.append(self)
        original(self, *args, **kwargs)

    emcee.EnsembleSampler.__init__ = remember
    start = time.process_time()
    try:
        PSDParEst(observed, max_post=True).sample(
            posterior, list(np.median(flat, axis=1)), cov=covariance, nwalkers=n_walkers, niter=n_draws, burnin=100,
            print_results=False,
        )  # fmt: skip
    finally:
        emcee.EnsembleSampler.__init__ = original
    cpu = time.process_time() - start
    chains = np.swapaxes(kept[0].get_chain(), 0, 1)  # (walkers, draws, parameters)
    sizes = [
        float(array_stats.ess(chains[:, :, i], chain_axis=0, draw_axis=1, method="bulk")) for i in range(len(names))
    ]
    return {
        "ess": min(sizes),
        "cpu": cpu,
        "n_draws": n_walkers * n_draws,
        "acceptance": float(np.mean(kept[0].acceptance_fraction)),
        "mean": dict(zip(order, chains.mean((0, 1)).tolist(), strict=True)),
        "sd": dict(zip(order, chains.std((0, 1)).tolist(), strict=True)),
    }


def likelihood_ratios(*, quick: bool) -> dict[str, Any]:
    """CPU seconds of a likelihood-ratio test calibrated by 1000 simulated pairs of fits, and of Stingray's.

    Stingray's `calibrate_lrt` is run on fewer simulations and scaled, which its serial loop allows.
    """
    from stingray.modeling import PSDParEst

    spectrum = simulated_spectrum(1, NULL)
    null, alternative = problem_for(spectrum, NULL), problem_for(spectrum, MODEL)
    models = [SpectralModel(problem.prior, problem.power) for problem in (null, alternative)]
    n_ours, n_theirs = 1000, 10 if quick else 50

    def ours(settings: FitSettings) -> dict[str, Any]:
        seconds = []
        for seed in range(2):  # the first compiles
            began = time.process_time()
            test = likelihood_ratio_test(
                jax.random.key(seed), *models, spectrum.power, spectrum.m, n_simulations=n_ours, settings=settings
            )
            seconds.append(time.process_time() - began)
        return {
            "cpu": seconds[1],
            "cpu_first": seconds[0],
            "median": float(np.median(test.simulated)),
            "p_value": test.p_value,
            "n_failed": test.n_failed,
            "n_unconverged": test.n_unconverged,
        }

    four_starts, one_start = ours(FitSettings()), ours(FitSettings(n_starts=1))

    (observed, simpler), start_1 = stingray_posterior(spectrum, NULL)
    (_, richer), start_2 = stingray_posterior(spectrum, MODEL)
    estimator = PSDParEst(observed, fitmethod="L-BFGS-B", max_post=False)
    draws = np.tile(np.asarray(start_1), (n_theirs, 1))

    def stingray(n: int) -> float:
        np.random.seed(1)  # noqa: NPY002 - Stingray perturbs its starting points by NumPy's global generator
        began = time.process_time()
        estimator.calibrate_lrt(simpler, start_1, richer, start_2, sample=draws, nsim=n, seed=1)
        return time.process_time() - began

    theirs = (stingray(n_theirs) - stingray(1)) / (n_theirs - 1) * 1000
    return {
        "eagleray": four_starts,
        "eagleray_one_start": one_start,
        "stingray": {"cpu": theirs, "n_simulations": n_theirs},
        "ratio": theirs / four_starts["cpu"],
    }


def gradients() -> dict[str, Any]:
    """Ln likelihood and gradient: ours alone and vmapped over 256, and finite differences through Stingray.

    Forward differences, as SciPy's optimisers take them: one evaluation more than there are parameters.
    """
    spectrum = simulated_spectrum(1)
    problem = problem_for(spectrum)
    target = Target(problem.prior, problem.log_likelihood)
    value_and_grad = jax.jit(jax.value_and_grad(target.log_likelihood_at))
    many = jax.jit(jax.vmap(jax.value_and_grad(target.log_likelihood_at)))
    positions = target.initial(jax.random.key(0), 256)
    (_, posterior), truth = stingray_posterior(spectrum)

    def finite_differences() -> list[float]:
        centre = posterior.loglikelihood(truth)
        gradient = []
        for i in range(len(truth)):
            moved = list(truth)
            moved[i] += 1e-6 * moved[i]
            gradient.append((posterior.loglikelihood(moved) - centre) / (1e-6 * truth[i]))
        return gradient

    seconds = measure_in_turn(
        {
            "one": lambda: jax.block_until_ready(value_and_grad(positions[0])),
            "many": lambda: jax.block_until_ready(many(positions)),
            "stingray": finite_differences,
        },
        repeats=7,
    )
    one, each, theirs = seconds["one"]["cpu"], seconds["many"]["cpu"] / 256, seconds["stingray"]["cpu"]
    return {
        "eagleray": {"cpu": one, "cpu_vmapped": each},
        "stingray": {"cpu": theirs},
        "ratio": theirs / one,
        "ratio_vmapped": theirs / each,
    }


def _stingray_order(model: str) -> list[str]:
    """Our names of Stingray's parameters, in its order."""
    return [name for name in STINGRAY if name.partition(".")[0] in model]


def table(found: dict[str, Any]) -> str:
    """The results as a Markdown table."""
    rows = []
    for entry in found["effective_draws"]:
        ours, theirs = entry["eagleray"], entry["stingray"]
        rows.append(
            f"| effective draws per CPU second, m = {entry['m']} | {theirs['ess'] / theirs['cpu']:.3g} | "
            f"{ours['ess'] / ours['cpu']:.3g} | {entry['ratio']:.0f} | 50 |"
        )
    ratios, gradient = found["likelihood_ratios"], found["gradients"]
    ours, theirs = ratios["eagleray"]["cpu"], ratios["stingray"]["cpu"]
    rows.append(
        f"| 1000 likelihood-ratio simulations [CPU s] | {theirs:.0f} | {ours:.2f} | {ratios['ratio']:.0f} | 100 |"
    )
    micro = {name: 1e6 * value for name, value in gradient["eagleray"].items()}
    theirs = 1e6 * gradient["stingray"]["cpu"]
    rows.append(f"| ln L and gradient [CPU µs] | {theirs:.0f} | {micro['cpu']:.0f} | {gradient['ratio']:.0f} | – |")
    rows.append(
        f"| the same, 256 at once [CPU µs each] | {theirs:.0f} | {micro['cpu_vmapped']:.1f} | "
        f"{gradient['ratio_vmapped']:.0f} | – |"
    )
    return "\n".join(["| | Stingray | eagleray | ratio | target |", "|---|---|---|---|---|", *rows])


def main() -> None:
    """Read the command line, run, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.modelling", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument("--quick", action="store_true", help="fewer draws and simulations")
    arguments = parser.parse_args()
    stay_on_one_core()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Stingray's fits overflow on their way
        draws = [effective_draws(m, quick=arguments.quick) for m in (1, 20)]
        found: dict[str, Any] = {
            "effective_draws": draws,
            "likelihood_ratios": likelihood_ratios(quick=arguments.quick),
            "gradients": gradients(),
        }
    found |= {
        "ess_ratio": min(entry["ratio"] for entry in draws),
        "lrt_ratio": found["likelihood_ratios"]["ratio"],
        "gradient_ratio": found["gradients"]["ratio"],
        "machine": machine_facts(),
    }
    arguments.json.write_text(json.dumps(found, indent=2))
    print(table(found))


if __name__ == "__main__":
    main()
