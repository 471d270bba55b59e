"""Training on fresh simulations made inside the compiled step: `python -m benchmarks.streaming --json FILE`.

The default problem in its standard window, trained by streaming and, with batches of the same size, on simulations kept
in memory; and the same simulations drawn alone. Two estimates of the share of a step spent simulating: what drawing a
batch alone takes, and what a step takes more than one that reads its rows from memory.
"""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.timing import machine_facts, measure
from eagleray.config import Config, make_config
from eagleray.pipeline.learning import Simulations, learn
from eagleray.problems import make_problem
from eagleray.problems.problem import Problem
from eagleray.records import Bank
from eagleray.training.data import Simulated, draw_rows
from eagleray.training.metrics import Progress

_STEPS = 50
_EPOCHS = 6
_KEPT_BATCHES = 8


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument("--problem", default="bending_power_law", help="registered problem")
    parser.add_argument("--batch-sizes", default="128,1024,8192", help="rows of a step, with commas between")
    arguments = parser.parse_args()
    problem = make_problem(arguments.problem)
    device = jax.devices()[0].device_kind
    found: list[dict[str, Any]] = []
    print("| batch | fresh [1/s] | from memory [1/s] | drawn alone [1/s] | share drawn | share by difference |")
    print("|---|---|---|---|---|---|")
    for batch_size in map(int, arguments.batch_sizes.split(",")):
        one = measured(problem, batch_size)
        found.append(one)
        rates = " | ".join(f"{one[name]:.3g}" for name in ("fresh", "kept", "drawn"))
        shares = " | ".join(f"{one[name]:.2f}" for name in ("share_drawn", "share_difference"))
        print(f"| {batch_size} | {rates} | {shares} |", flush=True)
        record = {"machine": machine_facts(), "device": device, "problem": arguments.problem, "batches": found}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


def measured(problem: Problem, batch_size: int) -> dict[str, float]:
    """Rows per second of training and of drawing, and the shares."""
    config = make_config({"training": {"max_epochs": _EPOCHS, "patience": _EPOCHS, "batch_size": batch_size}})

    def draw(key: Any) -> tuple[Any, Any, Any]:
        return dataclasses.astuple(problem.draw_pair(key))

    fresh = training_rate(problem, Simulated(draw=draw, steps_per_epoch=_STEPS), config)
    theta, x, valid = draw_rows(jax.random.key(1), draw, _KEPT_BATCHES * batch_size, batch_size=batch_size)
    kept = training_rate(problem, Bank(theta=theta, x=x, valid=valid), config)
    keys = jax.random.split(jax.random.key(2), (_STEPS, batch_size))
    drawn = _STEPS * batch_size / measure(_drawing(jax.vmap(draw), keys), repeats=5)["wall"]
    return {
        "batch_size": batch_size,
        "fresh": fresh,
        "kept": kept,
        "drawn": drawn,
        "share_drawn": fresh / drawn,
        "share_difference": 1 - fresh / kept,
    }


def _drawing(draw: Callable[[Any], Any], keys: Any) -> Callable[[], Any]:
    """Batches drawn one after the other inside one compiled call; their sums keep the work from being left out."""

    def total(key: Any) -> Any:
        return jax.tree.map(lambda a: a.astype(np.float32).sum(), draw(key))

    drawn = jax.jit(lambda keys: jax.lax.map(total, keys))
    return lambda: jax.block_until_ready(drawn(keys))


def training_rate(problem: Problem, simulations: Simulations, config: Config) -> float:
    """Rows trained on per second, the median of all epochs but the first, which compiles."""
    told: list[Progress] = []
    learn(jax.random.key(0), problem.prior, simulations, config=config, report=told.append)
    return statistics.median(one.rows_per_second for one in told[1:])


if __name__ == "__main__":
    main()
