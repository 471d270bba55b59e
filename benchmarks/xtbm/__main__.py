"""The benchmark of X-ray timing ("xtbm"): posteriors held against exact ones, and intervals against the truth.

    python -m benchmarks.xtbm --json FILE [--tasks all] [--methods all] [--n 10000,100000] [--seeds 3] [--quick]
    python -m benchmarks.xtbm --table FILE [FILE ...]
    python -m benchmarks.xtbm --figure FILE [--answers FOLDER]
    python -m benchmarks.xtbm --costs

Every method has one configuration for all tasks (`benchmarks/xtbm/methods.py`). First methods answer, and their draws
are kept; then the draws are held against the references that `python -m benchmarks.xtbm.references` made. Both are
written one by one, and a run that was stopped goes on where it was. With `--answers-only`, methods answer on one
machine (an accelerator, say) and are compared on another.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.timing import machine_facts, measure, stay_on_one_core
from benchmarks.xtbm.classical import CLASSICAL
from benchmarks.xtbm.emulated import EMULATED
from benchmarks.xtbm.figure import draw
from benchmarks.xtbm.methods import METHODS, Effort, run, run_classical
from benchmarks.xtbm.packing import Draws, Facts, load, same_data, save
from benchmarks.xtbm.references import FOLDER
from benchmarks.xtbm.tasks import TASKS, chosen, make_task, observe
from eagleray.diagnostics.c2st import c2st
from eagleray.files import write_atomic

ALL_METHODS = (*METHODS, *CLASSICAL)
QUICK = Effort(n_trained=100_000, n_calibration=200)
_QUICK_TASKS, _QUICK_N, _QUICK_OBSERVATIONS = "dead_time_rate", "5000", 2


def main() -> None:
    """Run, or print tables."""
    arguments = parse()
    if arguments.table:
        print(table([cell for path in arguments.table for cell in json.loads(path.read_text())["cells"]]))
        return
    if arguments.figure:
        draw(arguments.answers, max(arguments.n), arguments.figure)
        return
    stay_on_one_core()
    if arguments.costs:
        print(costs(arguments.tasks))
        return
    record: dict[str, Any] = {"machine": machine_facts(), "command": "python -m benchmarks.xtbm", "cells": []}
    if arguments.json.exists():
        record = json.loads(arguments.json.read_text())
    known = {tuple(one[name] for name in ("seed", "n", "task", "method")) for one in record["cells"]}
    arguments.answers.mkdir(parents=True, exist_ok=True)
    for cell in cells(arguments):
        answer(cell, arguments, known)
    if arguments.answers_only:
        return
    for found in compared(arguments, known):
        record["cells"].append(found)
        write_atomic(arguments.json, (json.dumps(record, indent=1) + "\n").encode())
        print(row(found), flush=True)
    print(table(record["cells"]))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default="all", help="names with commas between, or all")
    parser.add_argument("--methods", default="all", help=f"of {', '.join(ALL_METHODS)}")
    parser.add_argument("--n", default="10000,100000", help="numbers of simulations")
    parser.add_argument("--observations", type=int, default=10, help="how many of the fixed observations")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    parser.add_argument("--references", type=Path, default=FOLDER, help="folder of reference posteriors")
    parser.add_argument("--answers", type=Path, default=Path("xtbm_answers"), help="folder of draws, completed")
    parser.add_argument("--answers-only", action="store_true", help="make draws, and compare nothing")
    parser.add_argument("--json", type=Path, default=Path("xtbm.json"), help="results, read again and completed")
    parser.add_argument("--quick", action="store_true", help="one task, little of everything")
    parser.add_argument("--table", type=Path, nargs="+", help="print the table of finished results")
    parser.add_argument("--figure", type=Path, help="draw coverage of classical answers beside ours")
    parser.add_argument("--costs", action="store_true", help="time of one simulation of each task")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tasks, arguments.n = _QUICK_TASKS, _QUICK_N
        arguments.observations, arguments.seeds = _QUICK_OBSERVATIONS, 1
        arguments.answers = arguments.answers.with_name(f"{arguments.answers.name}_quick")
    try:
        arguments.tasks = chosen(arguments.tasks)
    except ValueError as error:
        parser.error(str(error))
    arguments.methods = ALL_METHODS if arguments.methods == "all" else tuple(arguments.methods.split(","))
    if unknown := sorted(set(arguments.methods) - set(ALL_METHODS)):
        parser.error(f"--methods must be of {', '.join(ALL_METHODS)}, got {unknown[0]!r}")
    arguments.n = tuple(int(n) for n in arguments.n.split(","))
    return arguments


class Cell(NamedTuple):
    """What is asked for at once: one training, several methods; n = 0 is what needs no simulations."""

    seed: int
    n: int
    task: str

    def methods(self, asked: tuple[str, ...]) -> tuple[str, ...]:
        """Which of the methods apply."""
        if self.n == 0:
            return tuple(method for method in asked if self.task in CLASSICAL.get(method, {}))
        return tuple(m for m in asked if m in METHODS and (m != "emulator" or self.task in EMULATED))

    def path(self, method: str, folder: Path) -> Path:
        """File of a method's draws."""
        return folder / f"{self.task}-{self.n}-{self.seed}-{method}.npz"


def cells(arguments: argparse.Namespace) -> Iterator[Cell]:
    """Every one that is wanted."""
    yield from (Cell(0, 0, task) for task in arguments.tasks)
    yield from itertools.starmap(Cell, itertools.product(range(arguments.seeds), arguments.n, arguments.tasks))


def answer(cell: Cell, arguments: argparse.Namespace, known: set[tuple[Any, ...]]) -> None:
    """Make what is missing of a cell's draws, but for methods whose comparison is known."""
    asked = [method for method in cell.methods(arguments.methods) if (*cell, method) not in known]
    paths = {method: cell.path(method, arguments.answers) for method in asked}
    missing = tuple(
        m for m, path in paths.items() if not path.exists() or len(load(path).draws) < arguments.observations
    )
    if not missing:
        return
    problem = make_task(cell.task)
    observed = observe(problem, arguments.observations)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(cell.seed), list(TASKS).index(cell.task)), cell.n)
    effort = QUICK if arguments.quick else Effort()
    if cell.n == 0:
        found_each = run_classical(cell.task, problem, missing, observed, key, effort)
    else:
        found_each = run(cell.task, problem, missing, observed, key, cell.n, effort)
    for method, found in found_each:
        device = jax.devices()[0].device_kind
        facts = {**found.facts, "observations": found.each, "machine": machine_facts() | {"device": device}}
        draws = Draws(truth=observed.truth, x_obs=observed.x_obs, draws=found.draws, facts=facts)
        save(paths[method], draws)
        print(*cell, method, found.facts.get("coverage_error", ""), flush=True)


def compared(arguments: argparse.Namespace, known: set[tuple[Any, ...]]) -> Iterator[Facts]:
    """Draws held against the references, those not yet known; tasks without references are left out.

    Raises:
        SystemExit: If draws and reference are not of the same data.
    """
    for cell in cells(arguments):
        reference_path = arguments.references / f"{cell.task}.npz"
        for method in cell.methods(arguments.methods):
            path = cell.path(method, arguments.answers)
            if (*cell, method) in known or not path.exists() or not reference_path.exists():
                continue
            found, reference = load(path), load(reference_path)
            if not same_data(found, reference):
                sys.exit(f"{path} and {reference_path} must be about the same data; make one of them again")
            start = time.perf_counter()
            pairs = zip(reference.draws, found.draws, found.facts["observations"], strict=False)
            each = [facts | held_against(jax.random.key(i), a, b) for i, (a, b, facts) in enumerate(pairs)]
            about = {**cell._asdict(), "method": method, "reference": TASKS[cell.task].reference}
            yield about | {**found.facts, "observations": each, "c2st_seconds": time.perf_counter() - start}


def held_against(key: Any, reference: Any, draws: Any) -> Facts:
    """An answer and the reference: C2ST, distance of the means and ratio of the widths."""
    n = min(len(reference), len(draws))
    mean, sd = reference.mean(axis=0), reference.std(axis=0)
    return {
        "c2st": c2st(key, reference[:n], draws[:n]).accuracy,
        "shift": [float(v) for v in (draws.mean(axis=0) - mean) / sd],
        "sd_ratio": [float(v) for v in draws.std(axis=0) / sd],
    }


def row(cell: Facts) -> str:
    """One cell as a line."""
    found = summarised([cell])
    return f"{cell['task']:24} {cell['n']:7d} seed {cell['seed']} {cell['method']:10}" + "".join(
        f"  {name} {value:.3f}" for name, value in found.items() if np.isfinite(value)
    )


def summarised(some: list[Facts]) -> dict[str, float]:
    """Mean C2ST, coverage error, median efficiency, mean seconds of an answer and of training."""
    each = [one for cell in some for one in cell["observations"]]
    return {
        "c2st": float(np.mean([one["c2st"] for one in each])),
        "coverage": float(np.mean([cell.get("coverage_error", np.nan) for cell in some])),
        "efficiency": float(np.median([one.get("efficiency", np.nan) for one in each])),
        "answer_s": float(np.median([one["seconds"] for one in each])),
        "training_s": float(np.mean([cell.get("training_seconds", np.nan) for cell in some])),
    }


def table(done: list[Facts]) -> str:
    """Every task, number of simulations and method, means over observations and seeds, as Markdown."""
    head = ["task", "n", "method", "C2ST", "coverage error", "efficiency", "answer [s]", "training [s]"]
    rows = [head, ["---"] * len(head)]
    for name in TASKS:
        for n in sorted({cell["n"] for cell in done}):
            for method in ALL_METHODS:
                some = [c for c in done if (c["task"], c["n"], c["method"]) == (name, n, method)]
                if some:
                    found = summarised(some)
                    shown = ["–" if not np.isfinite(v) else f"{v:.3f}" for v in list(found.values())[:3]]
                    shown += ["–" if not np.isfinite(v) else f"{v:.2g}" for v in list(found.values())[3:]]
                    rows.append([name, f"{n:.0e}".replace("e+0", "e") if n else "–", method, *shown])
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
