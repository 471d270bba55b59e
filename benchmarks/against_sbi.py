"""sbi and eagleray side by side: training, draws from a posterior, and chains over a learnt likelihood.

    python -m benchmarks.against_sbi --json FILE [--references FOLDER] [--tasks two_moons,slcp] [--quick]

Ten thousand simulations of two tasks of sbibm, the same for both. Posteriors: neural spline flows of 5 coupling layers
with 10 bins and conditioners of 50 units (eagleray's with a small embedding of x before them), each package with its
own defaults of training. Likelihoods: affine masked autoregressive flows of 5 layers of 50 units; sbi samples with its
slice sampler (20 chains, its default), eagleray with its default, tempered Monte Carlo, and with NUTS, both for 4 runs.
Both use all cores of this process. Times of eagleray hold compilation; those of draws and chains are given for a first
call and for a later one, for another observation.
"""

import argparse
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from arviz_stats.base import array_stats

from benchmarks.sbibm.methods import simulations
from benchmarks.sbibm.tasks import BenchmarkTask, make_task
from benchmarks.timing import machine_facts
from eagleray.config import Config
from eagleray.diagnostics.c2st import c2st
from eagleray.files import write_atomic
from eagleray.networks.settings import network_settings
from eagleray.pipeline.learning import learn
from eagleray.records import Bank

N_SIMULATIONS, N_DRAWS = 10_000, 10_000
N_CHAIN_DRAWS = 4_000
SIZE = {"embedding": {"hidden": [50, 50], "n_embedded": 16}}
FLOW = network_settings(SIZE | {"density": {"kind": "coupling", "n_layers": 5, "hidden": [50] * 4, "n_bins": 10}})
MAF = network_settings(SIZE | {"density": {"kind": "autoregressive", "n_layers": 5, "hidden": [50, 50], "n_bins": 0}})


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="two_moons,slcp")
    parser.add_argument("--references", type=Path, help="folder of observations; default the installed package sbibm")
    parser.add_argument("--json", type=Path, default=Path("against_sbi.json"))
    parser.add_argument("--quick", action="store_true", help="a tenth of the simulations: to see that it runs")
    arguments = parser.parse_args()
    n = N_SIMULATIONS // (10 if arguments.quick else 1)
    results = {}
    for name in arguments.tasks.split(","):
        task = make_task(name, arguments.references)
        bank = simulations(task, jax.random.key(1), n)
        results[name] = {"eagleray": eagleray_numbers(task, bank), "sbi": sbi_numbers(task, bank)}
        print(name, json.dumps(results[name], indent=1), flush=True)
    record = {
        "command": "python -m benchmarks.against_sbi",
        "machine": machine_facts() | {"cores": os.cpu_count()},
        "n_simulations": n,
        "tasks": results,
        **ratios(results),
    }
    write_atomic(arguments.json, (json.dumps(record, indent=1) + "\n").encode())
    print(json.dumps(ratios(results), indent=1))


def ratios(results: dict[str, Any]) -> dict[str, float]:
    """Sbi's seconds over eagleray's, geometric means of the tasks; effective draws per second the other way round."""

    def mean(ratio: Callable[[dict[str, Any], dict[str, Any]], float]) -> float:
        return math.exp(statistics.mean(math.log(ratio(r["sbi"], r["eagleray"])) for r in results.values()))

    return {
        "train_ratio": mean(lambda sbi, ours: sbi["train_wall"] / ours["train_wall"]),
        "train_cpu_ratio": mean(lambda sbi, ours: sbi["train_cpu"] / ours["train_cpu"]),
        "c2st_difference": statistics.mean(r["eagleray"]["c2st"] - r["sbi"]["c2st"] for r in results.values()),
        "sample_ratio": mean(lambda sbi, ours: sbi["sample_later"] / ours["sample_later"]),
        "sample_ratio_first": mean(lambda sbi, ours: sbi["sample_first"] / ours["sample_first"]),
        "nle_train_ratio": mean(lambda sbi, ours: sbi["nle_train_wall"] / ours["nle_train_wall"]),
        "nle_smc_ess_ratio": mean(
            lambda sbi, ours: ours["nle_tempered_smc_ess_per_second"] / sbi["nle_ess_per_second"]
        ),
        "nle_ess_ratio": mean(lambda sbi, ours: ours["nle_nuts_ess_per_second"] / sbi["nle_ess_per_second"]),
    }


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """What a function returns, its wall and its CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    value = run()
    return value, time.perf_counter() - wall, time.process_time() - cpu


def scores(task: BenchmarkTask, draws: list[np.ndarray]) -> float:
    """Mean C2ST of the draws for each observation."""
    pairs = zip(task.observations, draws, strict=False)
    return statistics.mean(c2st(jax.random.key(7), o.reference, d).accuracy for o, d in pairs)


def eagleray_numbers(task: BenchmarkTask, bank: Bank) -> dict[str, float]:
    """All numbers of eagleray for one task."""
    key = jax.random.key(0)
    xs = [o.x_obs.astype(np.float32) for o in task.observations[:5]]
    posterior, wall, cpu = timed(lambda: learn(key, task.prior, bank, config=Config(network=FLOW)))
    found = [timed(lambda x=x: posterior.sample(key, x, N_DRAWS)) for x in xs]
    surrogate, nle_wall, _ = timed(lambda: learn(key, task.prior, bank, config=Config(method="nle", network=MAF)))
    effective = {}
    for method in ("tempered_smc", "nuts"):
        runs = [
            timed(lambda x=x, m=method: surrogate.sample_chains(key, x, m, n_chains=4, n_draws=N_CHAIN_DRAWS // 4))
            for x in xs[:2]
        ]
        first, later = (min(samples.ess_bulk.values()) / seconds for samples, seconds, _ in runs)
        effective |= {f"nle_{method}_ess_per_second_first": first, f"nle_{method}_ess_per_second": later}
    return {
        "train_wall": wall,
        "train_cpu": cpu,
        "epochs": len(posterior.history.validation_loss),
        "c2st": scores(task, [task.parameters(draws) for draws, _, _ in found]),
        "sample_first": found[0][1],
        "sample_later": statistics.median(seconds for _, seconds, _ in found[1:]),
        "nle_train_wall": nle_wall,
        **effective,
    }


def sbi_numbers(task: BenchmarkTask, bank: Bank) -> dict[str, float]:
    """All numbers of sbi for one task; its parameters are those of the task's prior, in physical units."""
    import torch
    from sbi.inference import NLE, NPE
    from sbi.neural_nets import likelihood_nn, posterior_nn

    torch.manual_seed(0)
    theta = jax.vmap(task.prior.constrain)(jnp.asarray(bank.theta))
    theta = torch.tensor(np.stack([np.asarray(theta[name]) for name in task.prior.names], axis=1))
    x, prior = torch.tensor(np.array(bank.x[:, 0])), torch_prior(task)
    xs = [torch.tensor(o.x_obs.astype(np.float32))[None] for o in task.observations[:5]]

    def train(method: Any) -> Any:
        method.append_simulations(theta, x).train()
        return method

    flow = posterior_nn("nsf", hidden_features=50, num_transforms=5, num_bins=10)
    npe, wall, cpu = timed(lambda: train(NPE(prior, density_estimator=flow, show_progress_bars=False)))
    posterior = npe.build_posterior()

    def draw(x: Any) -> dict[str, np.ndarray]:
        drawn = posterior.sample((N_DRAWS,), x=x, show_progress_bars=False).numpy()
        return dict(zip(task.prior.names, drawn.T, strict=True))

    found = [timed(lambda x=x: draw(x)) for x in xs]
    maf = likelihood_nn("maf", hidden_features=50, num_transforms=5)
    nle, nle_wall, _ = timed(lambda: train(NLE(prior, density_estimator=maf, show_progress_bars=False)))
    chains = nle.build_posterior(mcmc_method="slice_np_vectorized", mcmc_parameters={"num_chains": 20, "thin": 1})
    drawn, seconds, _ = timed(
        lambda: (
            chains.sample((N_CHAIN_DRAWS,), x=xs[1], show_progress_bars=False).numpy().reshape(20, -1, theta.shape[1])
        )
    )
    effective = min(float(array_stats.ess(drawn[..., i], chain_axis=0, draw_axis=1)) for i in range(drawn.shape[-1]))
    return {
        "train_wall": wall,
        "train_cpu": cpu,
        "epochs": int(npe.summary["epochs_trained"][-1]),
        "c2st": scores(task, [task.parameters(draws) for draws, _, _ in found]),
        "sample_first": found[0][1],
        "sample_later": statistics.median(seconds for _, seconds, _ in found[1:]),
        "nle_train_wall": nle_wall,
        "nle_ess_per_second": effective / seconds,
    }


def torch_prior(task: BenchmarkTask) -> Any:
    """The task's uniform prior as sbi takes it."""
    import torch
    from sbi.utils import BoxUniform

    ends = [(task.prior.lower_end(name), task.prior.upper_end(name)) for name in task.prior.names]
    low, high = (torch.tensor(end) for end in zip(*ends, strict=True))
    return BoxUniform(low, high)


if __name__ == "__main__":
    main()
