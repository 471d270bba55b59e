"""The ten tasks of sbibm: posteriors held against the reference draws by a classifier (C2ST).

    python -m benchmarks.sbibm --tasks all --n 10000 --observations 1-5 --seeds 3 --json FILE [--references FOLDER]
    python -m benchmarks.sbibm --table FILE [FILE ...]

Every method has one configuration for all tasks. `npe`, `nle`, `npe_surrogate` (npe reweighted by nle), `tsnpe`
(truncated rounds) and `tsnpe_surrogate` know the simulator alone; `npe_exact` knows the likelihood. Results are written
after each answer, and a run that was stopped goes on where it was.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.sbibm.methods import AMORTISED, METHODS, SEQUENTIAL, Answer, amortised_answers, sequential_answers
from benchmarks.sbibm.tasks import TASKS, make_task
from benchmarks.timing import machine_facts, stay_on_one_core
from eagleray.diagnostics.c2st import c2st
from eagleray.files import write_atomic

Cell = dict[str, Any]


def main() -> None:
    """Run, or print tables."""
    arguments = parse()
    if arguments.table:
        cells = [cell for path in arguments.table for cell in json.loads(path.read_text())["cells"]]
        print(table([cell for cell in cells if cell["n"] == arguments.n]))
        return
    stay_on_one_core()
    record = {"machine": machine_facts(), "command": "python -m benchmarks.sbibm", "cells": []}
    if arguments.json.exists():
        record = json.loads(arguments.json.read_text())
    for cell in run(arguments, record["cells"]):
        record["cells"].append(cell)
        write_atomic(arguments.json, (json.dumps(record, indent=1) + "\n").encode())
        print(
            f"{cell['task']:24} {cell['method']:16} seed {cell['seed']} observation {cell['observation']}: "
            f"{cell['c2st']:.3f}  {cell['seconds']:.1f} s",
            flush=True,
        )
    print(table([cell for cell in record["cells"] if cell["n"] == arguments.n]))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="all", help="names with commas between, or all")
    parser.add_argument("--methods", default="all", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--n", type=int, default=10_000, help="simulations, of all rounds together")
    parser.add_argument("--observations", default="1-5", help="as 1-5, or 3")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--references", type=Path, help="folder of observations; default the installed package sbibm")
    parser.add_argument("--json", type=Path, default=Path("sbibm.json"), help="results, read again and completed")
    parser.add_argument("--table", type=Path, nargs="+", help="print the table of finished results")
    arguments = parser.parse_args()
    for name, known in (("tasks", TASKS), ("methods", METHODS)):
        given = getattr(arguments, name)
        chosen = known if given == "all" else tuple(given.split(","))
        if unknown := sorted(set(chosen) - set(known)):
            parser.error(f"--{name} must be of {', '.join(known)}, got {unknown[0]!r}")
        setattr(arguments, name, chosen)
    return arguments


def run(arguments: argparse.Namespace, done: list[Cell]) -> Iterator[Cell]:
    """Every cell that is wanted and not done yet."""
    first, _, last = arguments.observations.partition("-")
    observations = range(int(first), int(last or first) + 1)
    known = {tuple(cell[name] for name in ("task", "seed", "n", "method", "observation")) for cell in done}
    for seed in range(arguments.seeds):
        for name in arguments.tasks:
            task = make_task(name, arguments.references)
            key = jax.random.fold_in(jax.random.key(seed), TASKS.index(name))
            key_amortised, key_sequential, key_test = jax.random.split(key, 3)
            for group, answers, key_group in (
                (AMORTISED, amortised_answers, key_amortised),
                (SEQUENTIAL, sequential_answers, key_sequential),
            ):
                wanted = [
                    (method, i)
                    for i in observations
                    for method in group
                    if method in arguments.methods and (name, seed, arguments.n, method, i) not in known
                ]
                if wanted:
                    for answer in answers(task, key_group, arguments.n, wanted):
                        yield {"task": name, "seed": seed, "n": arguments.n, **compared(key_test, task, answer)}


def compared(key: Any, task: Any, answer: Answer) -> Cell:
    """An answer held against the reference draws."""
    start = time.perf_counter()
    reference = task.observations[answer.observation - 1].reference
    result = c2st(jax.random.fold_in(key, answer.observation), reference, answer.draws)
    return {
        "method": answer.method,
        "observation": answer.observation,
        "c2st": result.accuracy,
        "seconds": answer.seconds,
        "c2st_seconds": time.perf_counter() - start,
        **answer.facts,
    }


def table(cells: list[Cell]) -> str:
    """Mean C2ST of each task and method over observations and seeds, and the mean of all tasks, as Markdown."""
    methods = [method for method in METHODS if any(cell["method"] == method for cell in cells)]
    tasks = [task for task in TASKS if any(cell["task"] == task for cell in cells)]
    rows = [["task", *methods], ["---", *["---"] * len(methods)]]
    means = {
        (task, method): np.mean(values) if values else np.nan
        for task in tasks
        for method in methods
        for values in [[c["c2st"] for c in cells if c["task"] == task and c["method"] == method]]
    }
    rows += [[task, *(f"{means[task, method]:.3f}" for method in methods)] for task in tasks]
    rows.append(["mean", *(f"{np.mean([means[task, method] for task in tasks]):.3f}" for method in methods)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


if __name__ == "__main__":
    main()
