"""Huppenkothen & Bachetti (2022, MNRAS 511, 5689) against the truth: `python -m benchmarks.hb22 --json FILE`.

They infer QPOs behind the dead time of two detectors from simulations, with nothing to hold their posteriors against.

- `lf`, `hf`: data of a log-normal QPO with their parameters. The posterior given every event is sampled by NUTS; beside
  it, for the same data, a network that sees a spectrum, and (lf) the classical likelihoods of a periodogram.
- `lf_replica`, `hf_replica`: their own simulator, whose realisations all have exactly the same rms, and their summary.
- `variable`: dead times that scatter, answered by networks trained with scattering and with equal dead times.
- `red_noise`: a steep slope seen through a short window; Whittle's likelihood beside the exact one.

Each section is written when it is done, and one that is in the file is not done again.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import machine_facts, stay_on_one_core
from benchmarks.xtbm.classical import CLASSICAL, leaky_red_noise
from benchmarks.xtbm.importance import sample_each
from eagleray.config import make_config
from eagleray.files import write_atomic
from eagleray.inference.latent import cox_target
from eagleray.inference.posteriors import AmortisedPosterior
from eagleray.inference.samplers import sample
from eagleray.pipeline.amortised import train
from eagleray.problems import make_problem
from eagleray.problems.problem import Problem

LF = {"rms": 0.40, "centre": 20.0, "q": 10.0, "rate": 1000.0}
HF = {"rms": 0.45, "centre": 200.0, "q": 15.0, "rate": 1000.0}
VARIABLE = {"rms": 0.40, "centre": 400.0, "q": 15.0, "rate": 1000.0}
RED_NOISE = {"slope_low": 1.0, "slope_high": 3.5, "bend_freq": 6e-5, "rms": 0.3, "rate": 0.5, "noise": 2.0}
_N_SIMULATIONS = 15_000
_N_DRAWS = 2000
_N_SEEN, _N_EXACT = 20, {"lf": 4, "hf": 1}
_SEED = 22
_CHAINS = {"n_chains": 2, "n_warmup": 400, "n_draws": 500}

Summary = dict[str, Any]


def main() -> None:
    """Do what is missing, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="results, read again and completed")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="names with commas between")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.sections.split(",")) - set(SECTIONS)):
        parser.error(f"--sections must be of {', '.join(SECTIONS)}, got {unknown[0]!r}")
    stay_on_one_core()
    found: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.exists() else {}
    for name in arguments.sections.split(","):
        if name not in found:
            start = time.perf_counter()
            found[name] = {"rows": SECTIONS[name](), "machine": machine_facts()}
            found[name]["seconds"] = time.perf_counter() - start
            write_atomic(arguments.json, (json.dumps(found, indent=1) + "\n").encode())
        print(f"\n{name} ({found[name]['seconds']:.0f} s)\n\n{table(found[name]['rows'])}", flush=True)


def trained(problem: Problem) -> AmortisedPosterior:
    """A network, with one configuration for all sections."""
    config = make_config({"n_simulations": _N_SIMULATIONS, "network": {"n_members": 2}, "seed": _SEED})
    return train(problem, config=config)


def observed_at(problem: Problem, theta: dict[str, float], n: int) -> list[Any]:
    """Data simulated at one set of parameters."""
    simulate = jax.jit(problem.simulate)
    values = {name: jnp.float32(value) for name, value in theta.items()}
    return [jax.device_get(simulate(jax.random.fold_in(jax.random.key(_SEED), i), values)) for i in range(n)]


def seen_by(posterior: AmortisedPosterior, problem: Problem, data: list[Any]) -> Any:
    """Draws (n_data, n_draws, n_theta) of a network."""
    x = np.stack([np.asarray(problem.summary(jax.tree.map(jnp.asarray, one))) for one in data])
    drawn = posterior.sample_each(jax.random.key(1), x, _N_DRAWS)
    return np.stack([np.asarray(drawn[name]) for name in problem.prior.names], axis=2)


def summarised(names: tuple[str, ...], draws: Any) -> Summary:
    """Mean over data sets of posterior mean and standard deviation, and the scatter of the means."""
    mean, sd = np.mean(draws, axis=1), np.std(draws, axis=1)
    scatter = mean.std(axis=0, ddof=1) if len(mean) > 1 else np.full(mean.shape[1], np.nan)
    return {
        "n": len(mean),
        "parameters": {
            name: {"mean": float(m), "sd": float(s), "scatter": float(c)}
            for name, m, s, c in zip(names, mean.mean(axis=0), sd.mean(axis=0), scatter, strict=True)
        },
    }


def against_events(task: str, theta: dict[str, float], n_exact: int) -> dict[str, Summary]:
    """The posterior given all events, a network's, and classical ones, of the same data."""
    problem = make_problem(task)
    names = problem.prior.names
    data = observed_at(problem, theta, _N_SEEN)
    rows: dict[str, Summary] = {"truth": _truth(theta)}
    events = []
    for i, one in enumerate(data[:n_exact]):
        chains = sample(jax.random.key(i), cox_target(problem.prior, problem.cox(one)), **_CHAINS)
        events.append(np.stack([chains.draws[name].reshape(-1) for name in names], axis=1))
        rows["events, NUTS"] = summarised(names, np.array(events))
        rows["events, NUTS"]["rhat"] = max(float(value) for value in chains.rhat.values())
    network = seen_by(trained(problem), problem, data)
    rows["network, same data as NUTS"] = summarised(names, network[:n_exact])
    rows["network"] = summarised(names, network)
    stacked = jax.tree.map(lambda *some: np.stack(some), *data)
    for method, tasks in CLASSICAL.items():
        if task in tasks:
            likelihood = tasks[task](problem)
            seen = jax.jit(jax.vmap(likelihood.see))(stacked)
            draws, _ = sample_each(jax.random.key(2), problem.prior, likelihood.log_likelihood, seen, _N_DRAWS)
            rows[method] = summarised(names, draws)
    return rows


def replica(run: str, theta: dict[str, float]) -> dict[str, Summary]:
    """Their simulator and summary; with the count rate besides, which their summary lacks, and without."""
    rows: dict[str, Summary] = {"truth": _truth(theta)}
    for label, with_rate in (("network, their summary", 0.0), ("network, and the count rate", 1.0)):
        problem = make_problem(run, with_rate=with_rate)
        posterior = trained(problem)
        draws = seen_by(posterior, problem, observed_at(problem, theta, _N_SEEN))
        rows[label] = summarised(problem.prior.names, draws)
        rows[label]["coverage_error"] = posterior.calibration.error
    return rows


def variable() -> dict[str, Summary]:
    """Scattering dead times, seen by a network that knows of it and by one that does not."""
    problem = make_problem("hb22_variable_dead_time")
    data = observed_at(problem, VARIABLE, _N_SEEN)
    rows: dict[str, Summary] = {"truth": _truth(VARIABLE)}
    for label, sd in (("trained with scatter", None), ("trained with equal dead times", 0.0)):
        known = problem if sd is None else make_problem("hb22_variable_dead_time", dead_time_sd=sd)
        rows[label] = summarised(known.prior.names, seen_by(trained(known), known, data))
    return rows


def red_noise() -> dict[str, Summary]:
    """Steep red noise with its bend beyond the window: leakage makes every slope above two look like two."""
    prior = {"slope_low": "fixed(1)", "bend_freq": "loguniform(4e-5, 1e-3)"}
    problem = make_problem("leaky_red_noise", prior=prior)
    names = problem.prior.names
    data = np.stack(observed_at(problem, RED_NOISE, _N_SEEN))
    approximate = leaky_red_noise(problem)
    rows: dict[str, Summary] = {"truth": _truth({name: RED_NOISE[name] for name in names})}
    for label, see, log_likelihood in (
        ("whittle", approximate.see, approximate.log_likelihood),
        ("exact", lambda values: values, problem.log_likelihood),
    ):
        seen = jax.jit(jax.vmap(see))(data)
        draws, each = sample_each(jax.random.key(3), problem.prior, log_likelihood, seen, _N_DRAWS)
        rows[label] = summarised(names, draws)
        rows[label]["efficiency"] = float(np.median([one["efficiency"] for one in each]))
    return rows


def _truth(theta: dict[str, float]) -> Summary:
    """The truth as a row."""
    return {"n": 1, "parameters": {name: {"mean": value, "sd": 0.0} for name, value in theta.items()}}


def table(rows: dict[str, Summary]) -> str:
    """Rows as Markdown: mean and standard deviation of the posterior, and in brackets the scatter of its means."""
    names = list(rows["truth"]["parameters"])
    lines = [["posterior of", "data sets", *names], ["---"] * (len(names) + 2)]
    for label, row in rows.items():
        cells = []
        for name in names:
            one = row["parameters"][name]
            scatter = f" ({one['scatter']:.2g})" if np.isfinite(one.get("scatter", np.nan)) else ""
            cells.append(f"{one['mean']:.3g}" + (f" ± {one['sd']:.2g}{scatter}" if one["sd"] else ""))
        lines.append([label, "" if label == "truth" else str(row["n"]), *cells])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


SECTIONS: dict[str, Callable[[], dict[str, Summary]]] = {
    "lf": lambda: against_events("dead_time_qpo", LF, _N_EXACT["lf"]),
    "lf_replica": lambda: replica("hb22_lf_single", LF),
    "red_noise": red_noise,
    "variable": variable,
    "hf_replica": lambda: replica("hb22_hf_single", HF),
    "hf": lambda: against_events("dead_time_qpo_hf", HF, _N_EXACT["hf"]),
}


if __name__ == "__main__":
    main()
