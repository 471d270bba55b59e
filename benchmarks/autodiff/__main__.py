"""Derivatives compared: `python -m benchmarks.autodiff --json FILE [--quick] [--figure FILE] [--page FILE]`.

Gradient and Hessian of a spectral likelihood, and a training step of a network, by JAX, finite differences, SymPy,
Autograd and PyTorch. Everything runs in a fresh process with one thread; some of JAX once more in one whose calls are
synchronous; training steps also in one with all cores.
What is not installed is left out, and the file says so. docs/autodiff.md says what comes out and why.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks.autodiff.figure import draw_figure
from benchmarks.autodiff.methods import DTYPES, Options
from benchmarks.autodiff.network import WAYS, training_steps
from benchmarks.autodiff.report import markdown, refresh
from benchmarks.autodiff.spectral import PACKAGES, Settings, by_length, by_step, derivatives, floor, load_packages
from benchmarks.autodiff.with_jax import SYNCHRONOUS
from benchmarks.timing import machine_facts, one_thread_environment


def read_settings(arguments: argparse.Namespace) -> Settings:
    """Settings of a full or a quick run."""
    more: dict[str, Any] = {"n_powers": arguments.powers, "packages": tuple(arguments.packages)}
    if arguments.quick:
        more |= {
            "n_parameters": (3, 15),
            "heavy_at": (15,),
            "heavy_single_at": (),
            "lengths": (16, 1024, 16384),
            "step_parameters": 6,
        }
        more |= {"repeats": 3, "at_least": 0.02, "options": Options(batch=32, symbolic_cap=10.0)}
    if arguments.parameters:
        more["n_parameters"] = tuple(arguments.parameters)
    return Settings(**more)


def run_here(settings: Settings, quick: bool, threads: str) -> dict[str, Any]:
    """Every comparison, in this process."""
    begun = time.perf_counter()
    packages = load_packages(settings)
    found: dict[str, Any] = {"machine": machine_facts(), "packages": packages}
    found["settings"] = {"quick": quick, "n_powers": settings.n_powers, "n_parameters": settings.n_parameters}

    def say(what: str) -> None:
        print(f"{time.perf_counter() - begun:4.0f} s: {what}, threads: {threads}", file=sys.stderr, flush=True)

    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module="torch.*")
        if packages["jax"]["version"]:
            import jax

            stack.enter_context(jax.enable_x64(True))
        if threads == "all":
            ways = ("numpy_by_hand", "torch", "jax_jit", "jax_scan")
            found["network"] = training_steps(settings, packages, ("middle", "large"), ways, "float32")
            return found
        found["floor"] = floor(settings, packages)
        found["spectral"] = derivatives(settings, packages, say)
        found["steps"] = by_step(settings, packages)
        say("steps of finite differences")
        found["lengths"] = by_length(settings, packages)
        say("numbers of powers")
        sizes = ("small", "middle") if quick else ("small", "middle", "large")
        ways = tuple(name for name in WAYS if not (quick and name == "torch_compile"))
        found["network"] = training_steps(settings, packages, sizes, ways, "float32")
        say("networks")
    found["machine"]["load_average_after"] = list(os.getloadavg())
    found["wall_s"] = time.perf_counter() - begun
    found["cpu_s"] = time.process_time()
    return found


def run_synchronously(settings: Settings) -> dict[str, Any]:
    """What JAX costs in this process once calls of its CPU client wait for their result in the calling thread."""
    needed = tuple(name for name in ("numpy", "jax", "mpmath") if name in settings.packages)
    settings = dataclasses.replace(settings, only=SYNCHRONOUS, packages=needed)
    packages = load_packages(settings)
    if packages["jax"].get("reason"):
        return {}
    import jax

    jax.config.update("jax_cpu_enable_async_dispatch", False)
    with jax.enable_x64(True):
        return {
            "spectral": derivatives(settings, packages, lambda _: None),
            "lengths": by_length(settings, packages),
            "floor": floor(settings, packages),
        }


def add_synchronous(found: dict[str, Any], other: dict[str, Any]) -> None:
    """Put the entries of the synchronous process next to the others, under their names with "_sync"."""
    for n, here in other.get("spectral", {}).items():
        for dtype in DTYPES:
            for quantity, entries in here[dtype].items():
                found["spectral"][n][dtype][quantity] |= {f"{name}_sync": entry for name, entry in entries.items()}
    if other:
        found["floor"]["jax_reverse_jit_sync"] = other["floor"]["jax_reverse_jit"]
        found["lengths"]["cpu_s"]["jax_reverse_jit_sync"] = other["lengths"]["cpu_s"]["jax_reverse_jit"]


def run_apart(threads: str) -> dict[str, Any]:
    """The same command in a fresh process, with one thread or with all."""
    environment = dict(os.environ) if threads == "all" else one_thread_environment()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "found.json"
        command = [sys.executable, "-m", "benchmarks.autodiff", *sys.argv[1:], "--json", str(path)]
        subprocess.run([*command, "--threads", threads], env=environment, check=True)
        return json.loads(path.read_text())


def main() -> None:
    """Read the command line, run, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.autodiff", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument("--quick", action="store_true", help="fewer sizes, repeats and ways")
    parser.add_argument("--figure", type=Path, help="figure of times and errors")
    parser.add_argument("--markdown", action="store_true", help="print the tables")
    parser.add_argument("--page", type=Path, help="page whose numbers are to be replaced")
    parser.add_argument("--reuse", action="store_true", help="measure nothing: read the file instead of writing it")
    parser.add_argument("--parameters", type=int, nargs="+", help="numbers of parameters: 3, 6, 9, ...")
    parser.add_argument("--powers", type=int, default=1024, help="powers of the spectrum")
    parser.add_argument("--packages", nargs="+", choices=PACKAGES, default=PACKAGES, help="packages to use")
    parser.add_argument("--threads", choices=("one", "sync", "all"), help="what to run in this process")
    arguments = parser.parse_args()
    if arguments.reuse:
        found = json.loads(arguments.json.read_text())
    elif arguments.threads == "sync":
        found = run_synchronously(read_settings(arguments))
    elif arguments.threads:
        found = run_here(read_settings(arguments), arguments.quick, arguments.threads)
    else:
        found = run_apart("one")
        add_synchronous(found, run_apart("sync"))
        found["all_cores"] = None if arguments.quick else run_apart("all")
    if not arguments.reuse:
        arguments.json.write_text(json.dumps(found, indent=2))
    if arguments.threads:
        return
    if arguments.figure:
        draw_figure(found, arguments.figure)
    if arguments.markdown:
        print("\n\n".join(markdown(found).values()))
    if arguments.page:
        arguments.page.write_text(refresh(arguments.page.read_text(), markdown(found)))


if __name__ == "__main__":
    main()
