"""Many chains as one compiled program: mapped on a device, shared out between devices, compiled once.

On CPUs the chains of a device run one after the other (`jax.lax.map`). Side by side (`jax.vmap`) every chain waits for
the longest trajectory of each draw: with 1024 powers and six parameters NUTS was no faster for 4 or 16 chains (0.53 and
0.50 s, 2.0 and 2.0 s), and twice as long in compiling (8.1 and 4.4 s). For a Gaussian of three parameters, whose
density costs nothing, side by side was faster by 0.1 s for 4 chains. On accelerators the chains run side by side.
"""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from eagleray.inference.samplers.targets import Source, bind
from eagleray.records import Key

_AXIS = "chains"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """What a method is asked for.

    Attributes:
        key: Typed PRNG key; consumed.
        source: What is sampled.
        data: Its data, for a problem.
        n_chains: Number of chains.
        n_draws: Draws kept of each chain.
        n_warmup: Steps of each chain before them.
        n_theta: Number of coordinates of a position.
        initial: (n_chains, n_theta) starting positions; None for methods that start from the prior.
    """

    key: Key
    source: Source
    data: Any
    n_chains: int
    n_draws: int
    n_warmup: int
    n_theta: int
    initial: Any = None

    @property
    def keys(self) -> Key:
        """One key for each chain."""
        return jax.random.split(self.key, self.n_chains)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a method hands back, on the host; the attributes that `Samples` shares mean the same there.

    Attributes:
        effective: Effective number of draws behind weighted draws, over all chains; None if the draws have no weights.
        notes: What the method itself has to say, in plain words.
    """

    positions: NDArray[np.floating]
    log_density: NDArray[np.floating]
    n_steps: NDArray[np.integer]
    n_warmup_steps: NDArray[np.integer]
    n_nan: NDArray[np.integer]
    seconds: dict[str, float]
    divergent: NDArray[np.bool_] | None = None
    acceptance: NDArray[np.floating] | None = None
    step_size: NDArray[np.floating] | None = None
    pareto_k: NDArray[np.floating] | None = None
    log_evidence: float | None = None
    log_evidence_error: float | None = None
    effective: float | None = None
    notes: tuple[str, ...] = ()


class _Same:
    """An object as the key of a cache: equal to itself alone."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class _Program(NamedTuple):
    """A compiled function of (batched, data), where its arguments must lie, and the seconds it took to compile."""

    call: Callable[..., Any]
    shardings: tuple[Any, Any]
    seconds: float


def over_chains(
    make: Callable[..., Callable[..., Any]], task: Task, batched: tuple[Any, ...], **settings: Any
) -> tuple[Any, dict[str, float]]:
    """Run one function for every chain.

    Args:
        make: `make(**settings)` gives `chain(bound, *of_one_chain) -> pytree of arrays`.
        task: The source and its data.
        batched: Pytrees of arrays (n_chains, ...), one entry for each chain.
        settings: Hashable; they decide, with the source and the shapes, which compiled program is used.

    Returns:
        The outputs, each (n_chains, ...), on the host, and the seconds spent by `compile` and `run`.
    """
    arguments = (batched, jax.tree.map(jnp.asarray, task.data))
    leaves, structure = jax.tree.flatten(arguments)
    shapes = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
    n_chains = leaves[0].shape[0]
    before = _program.cache_info().misses
    program = _program(
        make,
        _Same(task.source),
        tuple(sorted(settings.items())),
        structure,
        shapes,
        _devices(n_chains),
        bool(jax.config.jax_enable_x64),  # pyright: ignore[reportAttributeAccessIssue]
    )
    fresh = _program.cache_info().misses > before
    began = time.perf_counter()
    outputs = jax.device_get(program.call(*map(jax.device_put, arguments, program.shardings)))
    spent = time.perf_counter() - began
    return outputs, {"compile": program.seconds if fresh else 0.0, "run": spent}


def total(*seconds: dict[str, float]) -> dict[str, float]:
    """Sum of times spent."""
    return {name: sum(part[name] for part in seconds) for name in ("compile", "run")}


def _devices(n_chains: int) -> tuple[Any, ...]:
    """As many local devices as share the chains out evenly."""
    devices = jax.local_devices()
    n = max(n for n in range(1, len(devices) + 1) if n_chains % n == 0)
    return tuple(devices[:n])


@functools.lru_cache(maxsize=32)
def _program(
    make: Callable[..., Any],
    source: _Same,
    settings: tuple[tuple[str, Any], ...],
    structure: Any,
    shapes: tuple[jax.ShapeDtypeStruct, ...],
    devices: tuple[Any, ...],
    _x64: bool,
) -> _Program:
    """Trace and compile; the last few programs are kept, and their sources with them."""
    began = time.perf_counter()
    chain = make(**dict(settings))

    def all_chains(batched: tuple[Any, ...], data: Any) -> Any:
        def one(of_one_chain: tuple[Any, ...]) -> Any:
            return chain(bind(source.value, data), *of_one_chain)

        return jax.lax.map(one, batched) if devices[0].platform == "cpu" else jax.vmap(one)(batched)

    mesh = Mesh(np.asarray(devices), (_AXIS,))
    split, whole = PartitionSpec(_AXIS), PartitionSpec()
    sharded = jax.shard_map(all_chains, mesh=mesh, in_specs=(split, whole), out_specs=split, check_vma=False)
    shardings = (NamedSharding(mesh, split), NamedSharding(mesh, whole))
    batched, data = jax.tree.unflatten(structure, shapes)
    compiled = jax.jit(sharded, in_shardings=shardings).lower(batched, data).compile()
    return _Program(compiled, shardings, time.perf_counter() - began)
