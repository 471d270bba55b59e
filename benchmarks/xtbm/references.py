"""Reference posteriors of the fixed observations, in float64 on the exact likelihood, checked, and kept.

    python -m benchmarks.xtbm.references --tasks all [--observations 10] [--sbc 200] [--folder FOLDER]

Where the likelihood is known, adaptive importance sampling; NUTS where its weights are not to be trusted, and where the
rate is latent; tempered Monte Carlo where chains do not agree, as between modes. Each task's file holds the true
parameters and draws, what is known of the convergence of each, and the ranks of true parameters among draws for fresh
data (simulation-based calibration of the reference itself). A task that has a file with enough of both is left alone;
one that was cut short goes on.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.timing import machine_facts
from benchmarks.xtbm.importance import sample_each
from benchmarks.xtbm.packing import Draws, load, save
from benchmarks.xtbm.tasks import TASKS, chosen, make_task, observe
from eagleray.diagnostics.calibration import calibration
from eagleray.inference.latent import cox_target
from eagleray.inference.samplers import sample
from eagleray.problems.problem import Problem
from eagleray.records import Samples

FOLDER = Path(__file__).parent / "references"
N_DRAWS = 2000
# Tried one after the other until chains, or runs, agree.
_EFFORTS = (
    {"method": "nuts", "n_chains": 4, "n_draws": 2000, "n_warmup": 1000, "target_acceptance": 0.95},
    {"method": "nuts", "n_chains": 4, "n_draws": 10_000, "n_warmup": 3000, "target_acceptance": 0.99},
    {"method": "tempered_smc", "n_chains": 4, "n_draws": 1000},
)
_MOST_RHAT, _LEAST_ESS = 1.01, 800
# Tried one after the other while weights are even but too few are effective.
_N_PROPOSED, _N_PROPOSED_SBC = (10_000, 60_000), 2000
_MOST_PARETO_K, _LEAST_EFFECTIVE = 0.5, N_DRAWS
_SBC = {"n_chains": 2, "n_draws": 250, "n_warmup": 300, "target_acceptance": 0.95}
_SEED = 7


def posterior(problem: Problem, data: Any, key: Any, options: dict[str, Any]) -> Samples:
    """Draws by a sampler on the exact posterior of data, in the precision that is on; NUTS by default."""
    if problem.cox is not None:
        return sample(key, cox_target(problem.prior, problem.cox(data)), **options)
    return sample(key, problem, data=data, **options)


def checked_posterior(problem: Problem, data: Any, key: Any, n_done: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
    """Draws (n_draws, n_theta) of the first effort whose chains agree, or of the last, and what is known of them."""
    names, facts, flat = problem.prior.names, {}, np.zeros((0, 0))
    for effort, options in list(enumerate(_EFFORTS))[n_done:]:
        start = time.perf_counter()
        found = posterior(problem, data, jax.random.fold_in(key, effort), options)
        facts = {
            "sampler": options["method"],
            "effort": effort,
            "rhat": max(float(v) for v in found.rhat.values()),
            "ess": min(float(min(found.ess_bulk[n], found.ess_tail[n])) for n in names),
            "divergent": 0 if found.divergent is None else int(np.sum(found.divergent)),
            "seconds": time.perf_counter() - start,
        }
        flat = np.stack([found.draws[n].reshape(-1) for n in names], axis=1)
        if is_good(facts):
            break
    return flat[np.linspace(0, len(flat) - 1, N_DRAWS).astype(int)], facts


def is_good(facts: dict[str, Any]) -> bool:
    """Whether weights are even; or chains agree, are long enough and never diverged, or nothing more can be tried."""
    if facts["sampler"] == "importance":
        return facts["pareto_k"] <= _MOST_PARETO_K and facts["effective"] >= _LEAST_EFFECTIVE
    converged = facts["rhat"] <= _MOST_RHAT and facts["ess"] >= _LEAST_ESS and not facts["divergent"]
    return converged or facts["effort"] == len(_EFFORTS) - 1


def is_uneven(facts: dict[str, Any]) -> bool:
    """Whether weights were tried, are not to be trusted, and nothing else was tried yet."""
    return facts["sampler"] == "importance" and not is_good(facts)


def in_double(data: Any) -> Any:
    """Floating arrays of data in float64, others as they are."""
    return jax.tree.map(lambda a: a.astype(np.float64) if np.issubdtype(a.dtype, np.floating) else a, data)


def stacked(data: list[Any]) -> Any:
    """Data sets as one pytree, in float64."""
    return in_double(jax.tree.map(lambda *some: np.stack(some), *data))


def ranks(problem: Problem, likelihood: Any, fresh: list[Any], key: Any, n: int) -> list[list[int]]:
    """Ranks of true parameters among n draws of the sampler for fresh data, a row for each."""
    names = problem.prior.names
    if likelihood:
        data = stacked([data for _, data in fresh])
        draws, _ = sample_each(key, problem.prior, likelihood, data, n, n_proposed=_N_PROPOSED_SBC)
    else:
        chains = [
            posterior(problem, in_double(data), jax.random.fold_in(key, i), _SBC) for i, (_, data) in enumerate(fresh)
        ]
        draws = np.array([np.stack([one.draws[name].reshape(-1) for name in names], axis=1) for one in chains])
    truth = np.array([[float(theta[name]) for name in names] for theta, _ in fresh])
    return (draws < truth[:, None]).sum(axis=1).tolist()


def make(name: str, n_observations: int, n_sbc: int, folder: Path) -> None:
    """Make, or complete, the references of one task."""
    problem, path = make_task(name), folder / f"{name}.npz"
    names = problem.prior.names
    seen = observe(problem, n_observations)
    draw = jax.jit(problem.draw)
    fresh = [jax.device_get(draw(jax.random.fold_in(jax.random.key(_SEED), i))) for i in range(n_sbc)]
    done = load(path) if path.exists() else None
    facts = {"names": names, "observations": [], "ranks": [], "n_rank_draws": _SBC["n_chains"] * _SBC["n_draws"]}
    facts |= done.facts if done else {}
    draws = done.draws if done else []
    key = jax.random.fold_in(jax.random.key(_SEED), list(TASKS).index(name))

    def keep() -> None:
        facts["machine"] = machine_facts()
        n = len(draws)
        save(path, Draws(truth=seen.truth[:n], x_obs=seen.x_obs[:n], draws=draws, facts=facts))

    def record(i: int, found: np.ndarray, known: dict[str, Any]) -> None:
        draws[i : i + 1], facts["observations"][i : i + 1] = [found], [known]
        print(name, i + 1, known, flush=True)

    with jax.enable_x64(True):
        likelihood = problem.log_likelihood if problem.cox is None else None
        for n_proposed in _N_PROPOSED if likelihood else ():
            todo = [i for i in range(n_observations) if i >= len(draws) or is_uneven(facts["observations"][i])]
            if todo:
                chosen_data = stacked([seen.data[i] for i in todo])
                found, each = sample_each(key, problem.prior, likelihood, chosen_data, N_DRAWS, n_proposed=n_proposed)
                for i, one, known in zip(todo, found, each, strict=True):
                    record(i, one, {"sampler": "importance"} | known)
                keep()
        for i in range(n_observations):
            if i >= len(draws) or not is_good(facts["observations"][i]):
                n_done = facts["observations"][i].get("effort", -1) + 1 if i < len(draws) else 0
                record(i, *checked_posterior(problem, in_double(seen.data[i]), jax.random.fold_in(key, i), n_done))
                keep()
        at_once = max(n_sbc, 1) if likelihood else 1  # chains take long, and are kept one by one
        for i in range(len(facts["ranks"]), n_sbc, at_once):
            key_some = jax.random.fold_in(key, 10_000 + i)
            facts["ranks"] += ranks(problem, likelihood, fresh[i : i + at_once], key_some, facts["n_rank_draws"])
            keep()
    print(name, summary(facts), flush=True)


def summary(facts: dict[str, Any]) -> dict[str, Any]:
    """Worst convergence, and how even the ranks of true parameters are.

    Chains are correlated, so ranks are compared by their p-value after thinning to as many values as draws are worth.
    """
    each = facts["observations"]
    chains = [one for one in each if one["sampler"] != "importance"]
    weighed = [one for one in each if one["sampler"] == "importance"]
    found: dict[str, Any] = {s: sum(one["sampler"] == s for one in each) for s in ("nuts", "tempered_smc")}
    if chains:
        found |= {"rhat": max(one["rhat"] for one in chains), "ess": min(one["ess"] for one in chains)}
        found |= {"divergent": sum(one["divergent"] for one in chains)}
    if weighed:
        found |= {"pareto_k": max(one["pareto_k"] for one in weighed)}
        found |= {"effective": min(one["effective"] for one in weighed)}
    if facts["ranks"]:
        n = facts["n_rank_draws"]
        place = (np.array(facts["ranks"]) + 0.5) / (n + 1)
        grid = (np.arange(19) + 1.0) / 20.0
        truth = {name: place[:, i] for i, name in enumerate(facts["names"])}
        record = calibration(truth, {name: np.tile(grid, (len(place), 1)) for name in truth})
        found |= {"sbc_n": len(place), "sbc_p": float(min(1.0, record.p_values.min() * len(truth)))}
    return found


def main() -> None:
    """Read the command line and make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="all", help="names with commas between, or all")
    parser.add_argument("--observations", type=int, default=10)
    parser.add_argument("--sbc", type=int, default=200, help="fresh data sets for calibration of the reference")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    try:
        names = chosen(arguments.tasks)
    except ValueError as error:
        parser.error(str(error))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        make(name, arguments.observations, arguments.sbc, arguments.folder)


if __name__ == "__main__":
    main()
