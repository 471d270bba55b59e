"""The benchmark of X-ray timing ("xtbm"): posteriors held against exact ones, and intervals against the truth.

    python -m benchmarks.xtbm --json FILE [--tasks all] [--methods all] [--n 10000,100000] [--seeds 3] [--quick]
    python -m benchmarks.xtbm --table FILE [FILE ...]
    python -m benchmarks.xtbm --costs

Every method has one configuration for all tasks (`benchmarks/xtbm/methods.py`). Results are written after each task and
method, and a run that was stopped goes on where it was. The references are those that
`python -m benchmarks.xtbm.references` made.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.timing import machine_facts, measure, stay_on_one_core
from benchmarks.xtbm.methods import METHODS, N_CALIBRATION, run
from benchmarks.xtbm.references import FOLDER, load
from benchmarks.xtbm.tasks import TASKS, chosen, make_task
from eagleray.diagnostics.c2st import c2st
from eagleray.files import write_atomic
from eagleray.problems import fixed_observation

Cell = dict[str, Any]
_QUICK = {"tasks": ("dead_time_rate", "periodic_gaussian", "dead_time_pulsar"), "n": 10_000, "observations": 2}


def main() -> None:
    """Run, or print tables."""
    arguments = parse()
    if arguments.table:
        print(table([cell for path in arguments.table for cell in json.loads(path.read_text())["cells"]]))
        return
    stay_on_one_core()
    if arguments.costs:
        print(costs(arguments.tasks))
        return
    record: dict[str, Any] = {"machine": machine_facts(), "command": "python -m benchmarks.xtbm", "cells": []}
    if arguments.json.exists():
        record = json.loads(arguments.json.read_text())
    for cell in cells(arguments, record["cells"]):
        record["cells"].append(cell)
        write_atomic(arguments.json, (json.dumps(record, indent=1) + "\n").encode())
        print(row(cell), flush=True)
    print(table(record["cells"]))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="all", help="names with commas between, or all")
    parser.add_argument("--methods", default="all", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--n", default="10000,100000", help="numbers of simulations")
    parser.add_argument("--observations", type=int, default=10, help="how many of the fixed observations")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--references", type=Path, default=FOLDER, help="folder of reference posteriors")
    parser.add_argument("--json", type=Path, default=Path("xtbm.json"), help="results, read again and completed")
    parser.add_argument("--quick", action="store_true", help="three tasks, two observations, one seed, 1e4 simulations")
    parser.add_argument("--table", type=Path, nargs="+", help="print the table of finished results")
    parser.add_argument("--costs", action="store_true", help="time of one simulation of each task")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tasks, arguments.n = ",".join(_QUICK["tasks"]), str(_QUICK["n"])
        arguments.observations, arguments.seeds = _QUICK["observations"], 1
    try:
        arguments.tasks = chosen(arguments.tasks)
    except ValueError as error:
        parser.error(str(error))
    arguments.methods = METHODS if arguments.methods == "all" else tuple(arguments.methods.split(","))
    if unknown := sorted(set(arguments.methods) - set(METHODS)):
        parser.error(f"--methods must be of {', '.join(METHODS)}, got {unknown[0]!r}")
    arguments.n = tuple(int(n) for n in arguments.n.split(","))
    return arguments


def cells(arguments: argparse.Namespace, done: list[Cell]) -> Iterator[Cell]:
    """Every cell that is wanted and not done yet: one for each task, number of simulations, seed and method."""
    known = {tuple(cell[name] for name in ("task", "n", "seed", "method")) for cell in done}
    for seed in range(arguments.seeds):
        for n in arguments.n:
            for name in arguments.tasks:
                methods = tuple(method for method in arguments.methods if (name, n, seed, method) not in known)
                if methods:
                    yield from one_task(name, methods, arguments, n, seed)


def one_task(name: str, methods: tuple[str, ...], arguments: argparse.Namespace, n: int, seed: int) -> Iterator[Cell]:
    """Cells of one task, number of simulations and seed."""
    problem = make_task(name)
    observations = [jax.device_get(fixed_observation(problem, i + 1)[1]) for i in range(arguments.observations)]
    reference = load(name, arguments.references)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), list(TASKS).index(name)), n)
    answers = run(problem, methods, observations, key, n, n_calibration=500 if arguments.quick else N_CALIBRATION)
    for method, answer in answers.items():
        start = time.perf_counter()
        each = [
            facts | compared(jax.random.fold_in(key, i), reference.draws[i], answer.draws[i])
            for i, facts in enumerate(answer.each)
        ]
        cell = {"task": name, "n": n, "seed": seed, "method": method, "c2st_seconds": time.perf_counter() - start}
        yield cell | {"reference": TASKS[name].reference, **answer.facts, "observations": each}


def compared(key: Any, reference: Any, draws: Any) -> Cell:
    """An answer held against the reference: C2ST, distance of the means and ratio of the widths."""
    n = min(len(reference), len(draws))
    mean, sd = reference.mean(axis=0), reference.std(axis=0)
    return {
        "c2st": c2st(key, reference[:n], draws[:n]).accuracy,
        "shift": [float(v) for v in (draws.mean(axis=0) - mean) / sd],
        "sd_ratio": [float(v) for v in draws.std(axis=0) / sd],
    }


def row(cell: Cell) -> str:
    """One cell as a line."""
    found = summarised([cell])
    return f"{cell['task']:24} {cell['n']:7d} seed {cell['seed']} {cell['method']:10}" + "".join(
        f"  {name} {value:.3f}" for name, value in found.items() if np.isfinite(value)
    )


def summarised(some: list[Cell]) -> dict[str, float]:
    """Mean C2ST, coverage error, median efficiency, mean seconds of an answer and of training."""
    each = [one for cell in some for one in cell["observations"]]
    return {
        "c2st": float(np.mean([one["c2st"] for one in each])),
        "coverage": float(np.mean([cell.get("coverage_error", np.nan) for cell in some])),
        "efficiency": float(np.median([one.get("efficiency", np.nan) for one in each])),
        "answer_s": float(np.median([one["seconds"] for one in each])),
        "training_s": float(np.mean([cell.get("training_seconds", np.nan) for cell in some])),
    }


def table(done: list[Cell]) -> str:
    """Every task, number of simulations and method, means over observations and seeds, as Markdown."""
    head = ["task", "n", "method", "C2ST", "coverage error", "efficiency", "answer [s]", "training [s]"]
    rows = [head, ["---"] * len(head)]
    for name in TASKS:
        for n in sorted({cell["n"] for cell in done}):
            for method in METHODS:
                some = [c for c in done if (c["task"], c["n"], c["method"]) == (name, n, method)]
                if some:
                    found = summarised(some)
                    shown = ["–" if not np.isfinite(v) else f"{v:.3f}" for v in list(found.values())[:3]]
                    shown += ["–" if not np.isfinite(v) else f"{v:.2g}" for v in list(found.values())[3:]]
                    rows.append([name, f"{n:.0e}".replace("e+0", "e"), method, *shown])
    return "\n".join("| " + " | ".join(one) + " |" for one in rows)


def costs(names: tuple[str, ...]) -> str:
    """CPU seconds of one simulation with its summary, among a thousand, as Markdown."""
    rows = ["| task | parameters | features | seconds |", "|---|---|---|---|"]
    for name in names:
        problem = make_task(name)
        keys, draw = jax.random.split(jax.random.key(0), 1000), jax.jit(jax.vmap(problem.draw_pair))
        spent = measure(lambda keys=keys, draw=draw: jax.block_until_ready(draw(keys)), repeats=3)
        n_features = len(problem.summary.names)
        rows.append(f"| {name} | {len(problem.prior.names)} | {n_features} | {spent['cpu'] / 1000:.2g} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
