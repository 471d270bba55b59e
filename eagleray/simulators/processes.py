"""Draws that JAX cannot make: NumPy functions and commands, run in processes. Workers import this, so no JAX here."""

import contextlib
import dataclasses
import functools
import json
import math
import multiprocessing
import os
import subprocess
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Generic, TypeVar

import numpy as np

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with (done, total) as work advances."""

# One thread for each worker, and no worker on the accelerator.
_WORKER_ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
    "JAX_PLATFORMS": "cpu",
}
_TASKS_PER_PROCESS = 16


@dataclasses.dataclass(frozen=True)
class HostDraw(Generic[T]):
    """A simulator that is no JAX function, for `map_draws`: it runs in spawned processes.

    Draw i gets its own generator, made from the key and i, so that it is the same for any number of processes. A draw
    that raises becomes NaN (integers then become floats), and a RuntimeWarning gives the number and the first message.

    As always with spawned processes, a script that uses this keeps its own work under `if __name__ == "__main__":`.

    Attributes:
        function: `function(rng)`, or `function(rng, entry)` where there are inputs, of a `numpy.random.Generator`,
            returning a pytree of arrays of fixed shapes. Picklable: defined at the top of an importable module.
        processes: Number of processes; default one for each core that this process may use.
    """

    function: Callable[..., T]
    processes: int | None = None

    def __post_init__(self) -> None:
        """Refuse less than one process."""
        if self.processes is not None and self.processes < 1:
            raise ValueError(f"processes must be at least 1, got {self.processes!r}")

    def run(
        self,
        entropy: Sequence[int],
        n: int,
        *,
        inputs: Any = None,
        chunk_size: int | None = None,
        progress: Progress | None = None,
    ) -> T:
        """Make draws 0 ... n - 1; `map_draws` calls this.

        Args:
            entropy: Non-negative integers that seed all draws: the data of a key.
            n: Number of draws.
            inputs: Pytree of NumPy arrays with a leading axis of n, or none.
            chunk_size: Draws per task; default a sixteenth of each process's share.
            progress: Called with (draws done, n) after each task, in order.

        Returns:
            The pytree that the function returns, each leaf an array with a leading axis of n.

        Raises:
            RuntimeError: If every draw fails, or a process dies.
            ValueError: If two draws differ in structure or shapes.
        """
        import jax  # the parent has it; the workers need not

        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        processes = self.processes or cores
        chunk_size = chunk_size or math.ceil(n / (processes * _TASKS_PER_PROCESS))
        starts = range(0, n, chunk_size)
        arguments = [() if inputs is None else (jax.tree.map(lambda a, i=i: a[i], inputs),) for i in range(n)]
        pool = ProcessPoolExecutor(min(processes, len(starts)), mp_context=multiprocessing.get_context("spawn"))
        draws: list[tuple[T | None, str]] = []
        try:
            with _environment(_WORKER_ENVIRONMENT):  # workers start while tasks are handed in
                tasks = [
                    pool.submit(_run_some, self.function, entropy, i, arguments[i : i + chunk_size]) for i in starts
                ]
            for task in tasks:
                draws += task.result()
                if progress is not None:
                    progress(len(draws), n)
        finally:
            pool.shutdown(cancel_futures=True)
        return _stack(draws)


class CommandDraw(HostDraw[Any]):
    """A simulator that is an external command, for `map_draws`: it runs once for each draw.

    The command gets one JSON object on its standard input: "seed", an integer from 0 to 2^53 - 1, and "inputs", the
    draw's entry of the inputs with arrays as lists, or null. It writes its draw to its standard output. A command
    that ends with another code than 0, or writes what cannot be parsed, has failed: see `HostDraw`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        parse: Callable[[str], Any] | None = None,
        processes: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Describe the command.

        Args:
            argv: Program and arguments; no shell is involved.
            parse: From standard output to a pytree of arrays, picklable; default JSON, where objects become mappings
                and all else float64 arrays, null being NaN.
            processes: Number of commands at a time; default one for each core that this process may use.
            timeout: Seconds after which a command has failed; default never.
        """
        run = functools.partial(_run_command, tuple(argv), parse or parse_json, timeout)
        super().__init__(run, processes)


def _run_command(
    argv: tuple[str, ...], parse: Callable[[str], T], timeout: float | None, rng: np.random.Generator, *inputs: Any
) -> T:
    """Make one draw with a command."""
    task = {"seed": int(rng.integers(2**53)), "inputs": inputs[0] if inputs else None}
    told = json.dumps(task, default=lambda array: array.tolist())
    done = subprocess.run(argv, input=told, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return parse(done.stdout)


def parse_json(text: str) -> Any:
    """Turn JSON into a pytree of arrays: objects become mappings, all else float64 arrays, null being NaN."""
    return _arrays(json.loads(text))


def _arrays(value: Any) -> Any:
    """Arrays in place of the lists and numbers of a mapping."""
    return {k: _arrays(v) for k, v in value.items()} if isinstance(value, dict) else np.asarray(value, np.float64)


def _run_some(
    function: Callable[..., T], entropy: Sequence[int], first: int, arguments: Sequence[tuple[Any, ...]]
) -> list[tuple[T | None, str]]:
    """Make some draws in a worker: each is a value, or None and what went wrong."""
    draws: list[tuple[T | None, str]] = []
    for i, inputs in enumerate(arguments, first):
        rng = np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(i,)))
        try:
            draws.append((function(rng, *inputs), ""))
        except Exception as error:  # whatever a user's simulator raises is its draw's failure
            draws.append((None, f"{type(error).__name__}: {error}"))
    return draws


def _stack(draws: Sequence[tuple[T | None, str]]) -> T:
    """Stack draws, those that failed as NaN, and warn of them."""
    import jax

    failed = [i for i, (_, message) in enumerate(draws) if message]
    if failed:
        told = f"{len(failed)} of {len(draws)} draws failed; the first, draw {failed[0]}: {draws[failed[0]][1]}"
        if len(failed) == len(draws):
            raise RuntimeError(told)
        warnings.warn(f"{told}. They are NaN", RuntimeWarning, stacklevel=4)  # at the caller of map_draws
    made = [jax.tree.map(np.asarray, value) for value, message in draws if not message]
    shapes = {str(jax.tree.map(np.shape, value)) for value in made}
    if len(shapes) > 1:
        raise ValueError(f"draws must all have the same structure and shapes, got {' and '.join(sorted(shapes)[:2])}")
    nothing = jax.tree.map(lambda a: np.full_like(a, np.nan, dtype=np.result_type(a, np.float16)), made[0])
    values = iter(made)
    return jax.tree.map(
        lambda *leaves: np.stack(leaves), *(nothing if message else next(values) for _, message in draws)
    )


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    """Set environment variables for children that start meanwhile."""
    before = {name: os.environ[name] for name in changes if name in os.environ}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in changes:
            del os.environ[name]
        os.environ.update(before)
