"""From a trained posterior and its simulator to a verdict, on fresh simulations and at one observation."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from eagleray.diagnostics.calibration import calibration
from eagleray.diagnostics.coverage import density_coverage, tarp
from eagleray.diagnostics.diagnosis import Diagnosis
from eagleray.diagnostics.distances import mmd, sliced_wasserstein
from eagleray.diagnostics.local_c2st import local_c2st, local_classifiers
from eagleray.diagnostics.predictive import statistic_checks
from eagleray.diagnostics.rank_bands import rank_bands
from eagleray.diagnostics.recovery import recovery
from eagleray.diagnostics.typicality import typicality
from eagleray.errors import InputError
from eagleray.inference.posteriors import AmortisedPosterior
from eagleray.inference.reweighting import Reweighted, ReweightedPosterior
from eagleray.inference.storage import Trained
from eagleray.pipeline.results import Watch, now, unwatched, versions
from eagleray.problems import Problem
from eagleray.records import Key

_N_RANK_DRAWS = 200
_N_LOCAL_DRAWS, _N_REPLICATES, _N_COMPARED = 2000, 1200, 1000
_SEED_OFFSET = 1_000_003  # so that the simulations are not those the network was trained with
_DENSITIES_AT_ONCE = 4096


def diagnose(
    posterior: Trained,
    problem: Problem,
    *,
    observed: bool = True,
    n: int = 1000,
    n_null: int = 199,
    seed: int = 0,
    command: str = "",
    watch: Watch = unwatched,
) -> Diagnosis:
    """Put a trained posterior to every test.

    Args:
        posterior: A trained amortised posterior.
        problem: The problem it was trained for, made for the observation; its simulator makes the fresh data.
        observed: Whether the problem's observation is one, and not only a window.
        n: Fresh simulations.
        n_null: Null trials of the classifier test at the observation, which are most of the time it takes.
        seed: Seed.
        command: The command that asked, for the record.
        watch: Told of the progress.

    Returns:
        Records and verdicts.

    Raises:
        InputError: If the posterior is a learnt likelihood or ratio, whose chains are their own diagnosis.
    """
    if not isinstance(posterior, AmortisedPosterior):
        raise InputError(f"the network must be an amortised posterior to be diagnosed, got a learnt {posterior.kind}")
    start = time.perf_counter()
    keys = jax.random.split(jax.random.key(seed + _SEED_OFFSET), 8)
    watch("simulating", 0, n)
    fresh = problem.simulate_bank(keys[0], n)
    valid = np.asarray(fresh.valid[:, 0])
    positions, x = np.asarray(fresh.theta)[valid], np.asarray(fresh.x)[valid, 0]
    watch("simulating", n, n)
    watch("testing", 0, 1)
    truth = _named(posterior, positions)
    drawn, log_prob_truth, log_prob_draws = _answers(posterior, keys[1], positions, x)
    draws = _named(posterior, drawn)
    x_obs = np.asarray(problem.summary(problem.observed)) if observed else None
    weighted = None if x_obs is None else _weighed(posterior, problem, keys[2], x_obs)
    local = None
    if x_obs is not None:
        classifiers = local_classifiers(keys[3], positions, x, drawn[:, 0], n_null=n_null)
        here = posterior.draw_positions(posterior.state, keys[4], jnp.asarray(x_obs), _N_LOCAL_DRAWS)
        local = local_c2st(classifiers, x_obs, np.asarray(here))
    found = Diagnosis(
        ranks=rank_bands(calibration(truth, draws)),
        density=density_coverage(keys[5], log_prob_truth, log_prob_draws),
        points=tarp(keys[6], positions, drawn),
        recovery=recovery(keys[7], truth, draws),
        typicality=None if x_obs is None or posterior.reference is None else typicality(x_obs, posterior.reference),
        local=local,
        statistics=() if x_obs is None else _statistics(posterior, problem, keys[2], x_obs),
        weighted=weighted,
        distances=() if weighted is None else _distances(posterior, weighted, keys[3], x_obs),
        provenance={
            "problem": problem.name,
            "command": command,
            "seed": seed,
            "n_simulations": n,
            "created": now(),
            "versions": versions(),
            "seconds": time.perf_counter() - start,
        },
    )
    watch("testing", 1, 1)
    return found


def _named(posterior: AmortisedPosterior, positions: NDArray[np.floating]) -> dict[str, NDArray[np.floating]]:
    """Positions (..., n_theta) as free parameters by name."""
    flat = jnp.asarray(positions.reshape(-1, positions.shape[-1]))
    theta = jax.device_get(jax.vmap(posterior.prior.constrain)(flat))
    return {name: theta[name].reshape(positions.shape[:-1]) for name in posterior.names}


def _answers(
    posterior: AmortisedPosterior, key: Key, positions: NDArray[np.floating], x: NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """Draws for each of many data sets as positions (n, n_draws, n_theta), and ln density of truths and draws."""

    def one(given: tuple[Any, Any, Any]) -> tuple[Any, Any, Any]:
        key, truth, x = given
        drawn = posterior.draw_positions(posterior.state, key, x, _N_RANK_DRAWS)
        density = functools.partial(posterior.position_density, posterior.state)
        return drawn, density(truth, x), jax.vmap(density, in_axes=(0, None))(drawn, x)

    @jax.jit
    def every(keys: Key, positions: Any, x: Any) -> tuple[Any, Any, Any]:
        return jax.lax.map(one, (keys, positions, x), batch_size=max(1, _DENSITIES_AT_ONCE // _N_RANK_DRAWS))

    return jax.device_get(every(jax.random.split(key, len(x)), jnp.asarray(positions), jnp.asarray(x)))


def _weighed(
    posterior: AmortisedPosterior, problem: Problem, key: Key, x_obs: NDArray[np.floating]
) -> Reweighted | None:
    """The answer weighed by the exact likelihood, if there is one."""
    if problem.log_likelihood is None:
        return None
    weigher = ReweightedPosterior(posterior, problem.log_likelihood)
    return weigher.reweight(key, x_obs, data=problem.observed, n_effective=2 * _N_COMPARED)


def _distances(posterior: AmortisedPosterior, weighted: Reweighted, key: Key, x_obs: Any) -> tuple[Any, ...]:
    """How far the network's draws are from the weighed ones."""
    key_draw, key_mmd, key_slices = jax.random.split(key, 3)
    names = posterior.names
    drawn = posterior.sample(key_draw, x_obs, _N_COMPARED)
    exact = weighted.resample(0, _N_COMPARED)
    first, second = (np.stack([some[name] for name in names], axis=1) for some in (exact, drawn))
    return mmd(key_mmd, first, second), sliced_wasserstein(key_slices, first, second)


def _statistics(
    posterior: AmortisedPosterior, problem: Problem, key: Key, x_obs: NDArray[np.floating]
) -> tuple[Any, ...]:
    """Moments and extremes of what the problem shows of its data, observed and simulated from the posterior."""
    key_draw, key_simulate = jax.random.split(key)
    theta = posterior.sample(key_draw, x_obs, _N_REPLICATES)
    simulated = jax.tree.map(jnp.asarray, problem.simulate_at(key_simulate, theta))
    if problem.light_curve is not None:
        seen = np.asarray(problem.light_curve(problem.observed))
        made = np.asarray(jax.vmap(problem.light_curve)(simulated))
    else:
        features = np.asarray(jax.vmap(problem.summary)(simulated))
        seen, made = problem.summary.shown(x_obs), problem.summary.shown(features)
    return statistic_checks(seen, made[np.isfinite(made).all(axis=1)], STATISTICS)


def _skewness(values: NDArray[np.floating]) -> float:
    """Third standardised moment; 0 where nothing varies."""
    residual = values - values.mean()
    spread = np.sqrt((residual**2).mean())
    return float((residual**3).mean() / spread**3) if spread > 0 else 0.0


def _neighbours(values: NDArray[np.floating]) -> float:
    """Correlation of neighbouring values; 0 where nothing varies."""
    residual = values - values.mean()
    variance = (residual**2).mean()
    return float((residual[1:] * residual[:-1]).mean() / variance) if variance > 0 else 0.0


STATISTICS: dict[str, Callable[[Any], Any]] = {
    "mean": np.mean,
    "standard deviation": np.std,
    "skewness": _skewness,
    "largest value": np.max,
    "correlation of neighbours": _neighbours,
}
"""What is compared of the data by default."""
