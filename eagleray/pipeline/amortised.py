"""From an observation to the posterior of a trained network that knows its doubts.

Each stage is a function of another room; this module only joins them and decides the random keys.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from eagleray.config import Config, config_hash
from eagleray.diagnostics.calibration import calibration
from eagleray.diagnostics.doubts import doubts
from eagleray.diagnostics.typicality import MIN_SUMMARIES, reference_summaries, typicality
from eagleray.errors import InputError
from eagleray.inference.storage import Trained, load_posterior, save_posterior
from eagleray.interop.reading import light_curve_of
from eagleray.pipeline.learning import learn
from eagleray.pipeline.results import Watch, now, unwatched, versions
from eagleray.problems import Problem, make_problem
from eagleray.problems.problem import Data, Observation
from eagleray.records import Bank, Calibration, Key, LightCurve, NetworkResult, ReferenceSummaries, Typicality
from eagleray.training.data import Reader, Simulated

# Posterior draws behind each calibration rank.
_N_RANK_DRAWS = 200
# Simulated summaries behind the typicality of an observed one.
_N_REFERENCE = 6000
# How far errors and the like may be from those a network was trained with [relative].
_CONDITION_TOLERANCE = 0.1

FIXED_BY_NETWORK = frozenset(
    {"problem", "prior", "settings", "method", "ratio", "simulations", "n_simulations", "steps_per_epoch"}
    | {"n_calibration", "network", "training", "bank"}
)
"""Settings that a trained network has decided."""


def simulate(problem: Problem, *, n: int, seed: int = 0, watch: Watch = unwatched) -> Bank:
    """Simulate parameters from the prior and their summaries, with the keys that `train` uses for the same seed.

    Args:
        problem: What to simulate.
        n: Number of simulations.
        seed: Seed.
        watch: Told of the progress.
    """
    return problem.simulate_bank(_keys(seed)[0], n, progress=lambda done, total: watch("simulating", done, total))


def train(
    problem: Problem,
    *,
    config: Config | None = None,
    bank: Bank | Reader | None = None,
    folder: Path | None = None,
    watch: Watch = unwatched,
) -> Trained:
    """Train a posterior network on simulations and check it on fresh ones.

    Args:
        problem: Prior, simulator and summary.
        config: Settings; default `Config()`. Its problem, prior and settings are not read: the problem has its own.
        bank: Simulations to train on, in memory or in a store read piece by piece; default: they are made.
        folder: Folder for the state of the training, which goes on from there if it was cut short; default: none.
        watch: Told of the progress.

    Returns:
        The trained posterior with its calibration and its reference summaries.

    Raises:
        InputError: If fewer than half of the simulations have a summary.
        TrainingError: If the loss stops being finite.
    """
    config = config or Config(problem=problem.name)
    seconds = {}
    start = time.perf_counter()
    _, key_learn, key_fresh, key_draws, _ = _keys(config.seed)
    if bank is None and config.simulations == "kept":
        bank = simulate(problem, n=config.n_simulations, seed=config.seed, watch=watch)
    # What is not in memory is judged by a part, simulated alike.
    known = bank if isinstance(bank, Bank) else simulate(problem, n=_N_REFERENCE, seed=config.seed, watch=watch)
    invalid_fraction = _invalid_fraction(known)
    if bank is None:
        source = Simulated(draw=lambda key: _row(problem.draw_pair(key)), steps_per_epoch=config.steps_per_epoch)
        n_simulations = config.training.max_epochs * config.steps_per_epoch * config.training.batch_size
    else:
        source = known if isinstance(bank, Bank) else bank
        n_simulations = len(known.theta) if isinstance(bank, Bank) else bank.n_rows
    seconds["simulating"] = time.perf_counter() - start

    posterior = learn(
        key_learn,
        problem.prior,
        source,
        config=config,
        folder=folder,
        report=lambda p: watch(
            "training",
            p.epoch,
            p.n_epochs,
            f"loss {p.train_loss:.3f}, held out {p.validation_loss:.3f}, {p.rows_per_second:.3g} rows/s",
        ),
        signature=problem.signature(),
        provenance={
            "created": now(),
            "versions": versions(),
            "seed": config.seed,
            "n_simulations": n_simulations,
            "invalid_fraction": invalid_fraction,
        },
    )
    watch("training", config.training.max_epochs, config.training.max_epochs)
    seconds["training"] = posterior.history.seconds
    start = time.perf_counter()
    posterior.reference = reference_summaries(np.asarray(known.x[:, 0])[np.asarray(known.valid[:, 0])][:_N_REFERENCE])
    posterior.calibration = calibrate(posterior, problem, key_fresh, key_draws, n=config.n_calibration, watch=watch)
    seconds["calibrating"] = time.perf_counter() - start
    posterior.provenance["seconds"] = seconds
    return posterior


def _row(bank: Bank) -> tuple[Any, Any, Any]:
    """A bank of one as a row of training."""
    return bank.theta, bank.x, bank.valid


def calibrate(
    posterior: Trained,
    problem: Problem,
    key_fresh: Key,
    key_draws: Key,
    *,
    n: int,
    watch: Watch = unwatched,
) -> Calibration:
    """Rank true parameters among posterior draws on n fresh simulations."""
    watch("calibrating", 0, n)
    fresh = problem.simulate_bank(key_fresh, n)
    valid = np.asarray(fresh.valid[:, 0])
    truth = jax.device_get(jax.vmap(problem.prior.constrain)(jnp.asarray(fresh.theta[valid])))
    draws = posterior.sample_each(key_draws, fresh.x[valid, 0], _N_RANK_DRAWS)
    watch("calibrating", n, n)
    return calibration({name: truth[name] for name in problem.prior.names}, draws)


def infer(
    observation: Observation,
    *,
    problem: Problem | None = None,
    config: Config | None = None,
    posterior: Trained | None = None,
    cache: Path | None = None,
    command: str = "",
    watch: Watch = unwatched,
) -> tuple[NetworkResult, Trained]:
    """Posterior of one observation's variability, by simulation-based inference.

    Args:
        observation: What was observed, of the kind that the problem takes.
        problem: A problem made for this observation, such as one's own; default: the registered one that the
            configuration names. What it learns is not cached, since nobody knows when its code changes.
        config: Settings; default `Config()`.
        posterior: A trained posterior to answer with; default: one from the cache, or a new one.
        cache: Folder of trained posteriors, found by the digest of their configuration; None: no cache.
        command: The command that asked, for the record.
        watch: Told of the progress.

    Returns:
        The result, and the trained posterior that gave it.

    Raises:
        InputError: If the observation cannot be used, or the posterior was trained for another kind or problem.
    """
    config = config or Config()
    start = time.perf_counter()
    origin = "given"
    if problem is not None:
        cache = None
        if posterior is not None:
            check_trained_for(problem, posterior)
    elif posterior is not None:
        problem = matching_problem(posterior, observation)
    else:
        problem = make_problem(config.problem, observation, config.prior, **config.settings)
    x_obs = observed_summary(problem)
    if posterior is None:
        posterior, origin = _cached_or_trained(problem, config, cache, watch)
    reference, record = trust_records(posterior)

    key_draws, key_predictive = jax.random.split(_keys(config.seed)[4])
    shown = light_curve_of(observation)
    draws, log_prob, of_sampler = posterior.answer(key_draws, x_obs, config.n_draws)
    some = {name: values[: config.n_predictive] for name, values in draws.items()}
    predictive = problem.simulate_at(key_predictive, some)
    predictive_x = np.asarray(jax.vmap(problem.summary)(predictive))
    usable = predictive_x[np.isfinite(predictive_x).all(axis=1)]
    among_prior = typicality(x_obs, reference)
    if len(usable) >= MIN_SUMMARIES:
        among_posterior = typicality(x_obs, reference_summaries(usable))
    else:
        among_posterior = Typicality(distance=float("nan"), p_value=float("nan"), n_reference=0)
    result = NetworkResult(
        draws=draws,
        log_prob=log_prob,
        units=problem.units,
        prior=problem.prior.texts,
        observation=shown,
        panel=problem.summary.panel,
        shown_obs=problem.summary.shown(x_obs),
        x_obs=x_obs,
        feature_names=problem.summary.names,
        predictive_values=_light_curves(problem, shown, predictive),
        shown_predictive=problem.summary.shown(predictive_x),
        calibration=record,
        typicality=among_prior,
        predictive_typicality=among_posterior,
        history=posterior.history,
        warnings=doubts(
            problem.prior,
            draws,
            record,
            among_prior,
            among_posterior,
            posterior.provenance.get("invalid_fraction", 0.0),
            problem.summary.names,
        )
        + of_sampler,
        provenance={
            "problem": problem.name,
            "command": command,
            "seed": config.seed,
            "created": now(),
            "versions": versions(),
            "config": _answered_config(config, posterior if origin == "given" else None),
            "n_simulations": posterior.provenance.get("n_simulations"),
            "network": origin,
            "network_seconds": posterior.provenance.get("seconds"),
            "seconds": {"in all": time.perf_counter() - start},
        },
    )
    return result, posterior


def observed_summary(problem: Problem) -> np.ndarray:
    """Summary of the observation that a problem was made for, shape (n_features,).

    Raises:
        InputError: If it is not finite, as for a light curve whose mean is not positive.
    """
    x_obs = np.asarray(problem.summary(problem.observed))
    if not np.isfinite(x_obs).all():
        wrong = [name for name, value in zip(problem.summary.names, x_obs, strict=True) if not np.isfinite(value)]
        raise InputError(
            f"the observation must have a finite summary, got {wrong[0]} that is not ({len(wrong)} of {x_obs.size}): "
            "a light curve needs a positive mean and a variance to have a spectrum"
        )
    return x_obs


def matching_problem(posterior: Trained, observation: Observation) -> Problem:
    """The problem a posterior was trained for, made for this observation.

    Raises:
        InputError: If the observation was watched otherwise than those the network was trained on.
    """
    trained = posterior.signature
    problem = make_problem(problem_name(posterior), observation, trained["prior"], **trained["settings"])
    check_trained_for(problem, posterior)
    return problem


def problem_name(posterior: Trained) -> str:
    """The registered problem a posterior was trained for.

    Raises:
        InputError: If it was trained on simulations of one's own.
    """
    if "problem" not in posterior.signature:
        raise InputError(
            "the network was trained on simulations of one's own and names no problem; ask it from Python "
            "(eagleray.load_posterior)"
        )
    return posterior.signature["problem"]


def check_trained_for(problem: Problem, posterior: Trained) -> None:
    """Refuse a posterior that was trained for another problem than this.

    Raises:
        InputError: If the problem has another name, prior or settings, or the observation was watched otherwise than
            those the network was trained on.
    """
    trained, ours = posterior.signature, problem.signature()
    for part in ("problem", "prior", "settings"):
        if ours[part] != trained[part]:
            raise InputError(
                f"the network was trained for the {part} {trained[part]}, got {ours[part]}; train anew (leave the "
                "network out)"
            )
    for name, value in trained["summary"].items():
        if ours["summary"].get(name) != value:
            raise InputError(
                f"the network was trained for observations with {name} {value}, this one has "
                f"{ours['summary'].get(name)}; train anew (leave --network out)"
            )
    for name, value in trained["conditions"].items():
        if not np.isclose(ours["conditions"].get(name, np.nan), value, rtol=_CONDITION_TOLERANCE, atol=0.0):
            raise InputError(
                f"the network was trained for {name} = {value:.4g}, this observation has "
                f"{ours['conditions'].get(name, float('nan')):.4g}; train anew (leave --network out)"
            )


def _light_curves(problem: Problem, shown: LightCurve, data: Data) -> np.ndarray:
    """Simulated data as light curves in the bins shown, (n, n_bins); none where they cannot be shown so."""
    if problem.light_curve is None:
        return np.zeros((0, shown.grid.n_bins))
    return np.asarray(jax.vmap(problem.light_curve)(data))


def default_cache() -> Path:
    """Folder of trained networks: $EAGLERAY_CACHE, or eagleray in the user's cache folder."""
    given = os.environ.get("EAGLERAY_CACHE")
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eagleray"


def _cached_or_trained(problem: Problem, config: Config, cache: Path | None, watch: Watch) -> tuple[Trained, str]:
    """A trained posterior for this configuration, from the cache or new (and then cached)."""
    if cache is None:
        return train(problem, config=config, watch=watch), "trained for this observation"
    digest = config_hash(problem.signature(), config.training_part(), {"eagleray": versions()["eagleray"]})
    folder = cache / "networks" / digest
    with contextlib.suppress(InputError, OSError):  # none there, or damaged: made anew
        return load_posterior(folder), f"from the cache ({digest})"
    posterior = train(problem, config=config, watch=watch)
    with contextlib.suppress(InputError, OSError):  # a cache that cannot be written costs time, not the answer
        save_posterior(posterior, folder, overwrite=True)
    return posterior, "trained for this observation"


def _answered_config(config: Config, given: Trained | None) -> dict[str, Any]:
    """Settings behind an answer; with a given network, its own take the place of those it fixes."""
    settings = config.model_dump(mode="json")
    if given is None:
        return settings
    kept = {name: value for name, value in settings.items() if name not in FIXED_BY_NETWORK}
    return kept | {name: given.signature[name] for name in ("problem", "prior", "settings")}


def trust_records(posterior: Trained) -> tuple[ReferenceSummaries, Calibration]:
    """What the network knows of its own quality; refuse one that was never checked."""
    if posterior.reference is None or posterior.calibration is None:
        raise InputError(
            "the network must have been checked on fresh simulations and hold their summaries, got one without; train "
            "it anew"
        )
    return posterior.reference, posterior.calibration


def _invalid_fraction(bank: Bank) -> float:
    """The fraction of summaries that are not finite; refuse when it is most of them."""
    valid = np.asarray(bank.valid)
    if valid.mean() < 0.5:
        raise InputError(
            f"{(~valid).sum()} of {valid.size} simulations have no positive mean rate; raise the lower bound of the "
            "prior of the rate, or use wider bins"
        )
    return float(1 - valid.mean())


def _keys(seed: int) -> Key:
    """Keys of a run: bank, learning, fresh simulations, their draws, and the answer."""
    return jax.random.split(jax.random.key(seed), 5)
