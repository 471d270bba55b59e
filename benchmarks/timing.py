"""How benchmarks measure: CPU seconds of all threads, medians of repeated warm runs, on a machine that says what it is.

CPU seconds are what a shared machine can measure: wall time there depends on the neighbours. Neighbours still slow a
run through caches and memory, so every result carries the load average.
"""

import datetime
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Seconds = dict[str, float]

_PACKAGES = ("eagleray", "jax", "jaxlib", "numpy", "scipy", "stingray", "numba")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def one_thread_environment() -> dict[str, str]:
    """Environment in which NumPy, numba and XLA use one thread each; it must be set before they are imported."""
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    environment = {**os.environ, "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flags}".strip()}
    return environment | dict.fromkeys(_THREADS, "1")


def stay_on_one_core() -> None:
    """Keep this process to one core, before JAX starts: threads that wait for each other cost CPU seconds as well."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def measure(run: Callable[[], Any], *, repeats: int, at_least: float = 0.1) -> Seconds:
    """Time a function that returns when its work is done.

    Args:
        run: The function; called once to warm up.
        repeats: Measurements, of which the median is taken.
        at_least: Seconds a measurement lasts, about; short functions are called many times.

    Returns:
        `cpu`: median CPU seconds per call, of all threads; `cpu_min`: the least; `wall`: median wall seconds.
    """
    run()
    start = time.perf_counter()  # not CPU seconds: a host that waits for an accelerator spends none
    run()
    calls = max(1, int(at_least / max(time.perf_counter() - start, 1e-6)))
    cpu, wall = [], []
    for _ in range(repeats):
        start_cpu, start_wall = time.process_time(), time.perf_counter()
        for _ in range(calls):
            run()
        cpu.append((time.process_time() - start_cpu) / calls)
        wall.append((time.perf_counter() - start_wall) / calls)
    return {"cpu": statistics.median(cpu), "cpu_min": min(cpu), "wall": statistics.median(wall)}


def measure_in_turn(runs: dict[str, Callable[[], Any]], *, repeats: int, at_least: float = 0.1) -> dict[str, Seconds]:
    """Time several functions one after the other, repeat by repeat, so that the neighbours' load falls on all alike."""
    each: dict[str, list[Seconds]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            each[name].append(measure(run, repeats=1, at_least=at_least))
    return {
        name: {
            "cpu": statistics.median(one["cpu"] for one in found),
            "cpu_min": min(one["cpu"] for one in found),
            "wall": statistics.median(one["wall"] for one in found),
        }
        for name, found in each.items()
    }


def machine_facts() -> dict[str, Any]:
    """What ran: processor, cores, load, versions, date."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_average": list(os.getloadavg()),
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _cpu_model() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
