"""From an observation to the posterior of a registered problem by its exact likelihood."""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eagleray.config import FitConfig
from eagleray.diagnostics.doubts import fit_doubts
from eagleray.diagnostics.typicality import MIN_SUMMARIES, reference_summaries, typicality
from eagleray.errors import InputError
from eagleray.inference.latent import LatentTarget, cox_target
from eagleray.inference.log_density import Target
from eagleray.inference.optimise import optimise
from eagleray.inference.samplers import sample
from eagleray.inference.samplers.registry import find_method
from eagleray.interop.reading import light_curve_of
from eagleray.pipeline.exact import N_STARTS, SAMPLER_OPTIONS, physical_log_prob, provenance, some_draws
from eagleray.pipeline.results import Watch, unwatched
from eagleray.problems import Problem, make_problem
from eagleray.problems.problem import Observation
from eagleray.records import FitResult, PredictiveCheck, Samples


def fit_problem(
    observation: Observation,
    *,
    problem: str | Problem | None = None,
    config: FitConfig | None = None,
    command: str = "",
    watch: Watch = unwatched,
) -> FitResult:
    """Sample the exact posterior of a problem, given what was observed.

    Where the likelihood is an integral over a latent rate, parameters and rate are sampled together, and there is no
    best fit: the maximum of their joint density says nothing of the parameters.

    Args:
        observation: What was observed, of the kind that the problem takes.
        problem: Name of a registered problem, or a problem made for this observation; default: the configuration's.
        config: Settings; those of a power spectrum (model, norm, segment_size, rebin) are not read.
        command: The command that asked, for the record.
        watch: Told of the progress.

    Returns:
        Posterior, best fit where there is one, and doubts.

    Raises:
        InputError: If the problem has no exact likelihood, or the observation does not suit it.
    """
    config = config or FitConfig()
    start = time.perf_counter()
    options = {**SAMPLER_OPTIONS.get(config.sampler, {}), **config.sampler_options}
    find_method(config.sampler, options)  # refuse what is unknown before the work begins
    name = problem or config.problem
    if name is None:
        raise InputError("a problem must be named to be fitted, got none; see eagleray problems")
    asked = name if isinstance(name, Problem) else make_problem(name, observation, config.prior, **config.settings)
    target = exact_target(asked)
    key_fit, key_sample, key_pick, key_predict = jax.random.split(jax.random.key(config.seed), 4)

    optimum = None
    if isinstance(target, Target):
        watch("fitting", 0, 1)
        n_data = sum(np.size(leaf) for leaf in jax.tree.leaves(asked.observed))
        optimum = optimise(target, key_fit, n_starts=N_STARTS, n_data=n_data)
        watch("fitting", 1, 1)
    watch("sampling", 0, 1)
    counts = {"n_chains": config.n_chains, "n_draws": config.n_draws, "n_warmup": config.n_warmup}
    samples = sample(key_sample, target, method=config.sampler, **counts, **options)
    watch("sampling", 1, 1)

    draws = {name: values.reshape(-1) for name, values in samples.draws.items()}
    simulated = asked.simulate_at(key_predict, some_draws(key_pick, draws, config.n_predictive))
    features = np.asarray(jax.vmap(asked.summary)(jax.tree.map(jnp.asarray, simulated)))
    x_obs = np.asarray(asked.summary(asked.observed))
    checks = _checks(x_obs, features)
    return FitResult(
        draws=draws,
        log_prob=_log_prob(target, samples),
        units=asked.units,
        prior=asked.prior.texts,
        observation=light_curve_of(observation),
        panel=asked.summary.panel,
        shown_obs=asked.summary.shown(x_obs),
        shown_predictive=asked.summary.shown(features),
        spectrum=None,
        components={},
        optimum=optimum,
        samples=samples,
        checks=checks,
        warnings=fit_doubts(asked.prior, samples, draws, checks, optimum, gap_fraction=0.0, steepness=0.0),
        provenance={"problem": asked.name}
        | provenance(config, _in_words(target), command, {**samples.seconds, "in all": time.perf_counter() - start}),
    )


def exact_target(problem: Problem) -> Target | LatentTarget:
    """The exact posterior of what a problem was made for.

    Raises:
        InputError: If no exact likelihood of it is known.
    """
    if problem.log_likelihood is not None:
        likelihood, observed = problem.log_likelihood, problem.observed
        return Target(problem.prior, lambda theta: likelihood(theta, observed))
    if problem.cox is not None:
        return cox_target(problem.prior, problem.cox(problem.observed))
    raise InputError(f"the problem {problem.name} has no exact likelihood: use eagleray infer")


def _checks(x_obs: np.ndarray, features: np.ndarray) -> tuple[PredictiveCheck, ...]:
    """How typical the observed summary is among those simulated from the posterior."""
    usable = features[np.isfinite(features).all(axis=1)]
    if len(usable) < MIN_SUMMARIES:
        return ()
    found = typicality(x_obs, reference_summaries(usable))
    name = "distance of the summary from the simulated ones"
    return (PredictiveCheck(name=name, observed=found.distance, p_value=found.p_value, n=found.n_reference),)


def _log_prob(target: Target | LatentTarget, samples: Samples) -> Any:
    """Ln posterior density of each draw (n_draws,), up to a constant; of parameters and latent rate together."""
    if isinstance(target, Target):
        return physical_log_prob(target, samples.positions, samples.log_density)
    return samples.log_density.reshape(-1)


def _in_words(target: Target | LatentTarget) -> str:
    """What is sampled, in words."""
    if isinstance(target, Target):
        return "exact"
    return f"exact, with a latent rate of {target.n_latent} coefficients"
