"""Many draws from one: chunked to a memory budget, sharded over devices, with draw i the same however it is made."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.extend.core import Jaxpr, jaxprs_in_params
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Bool

from eagleray.records import Key
from eagleray.simulators.processes import HostDraw, Progress

T = TypeVar("T")

# Bytes of intermediate arrays per compiled call. XLA keeps a tenth of them at a time, or less where it fuses, and a CPU
# is quickest while that stays in its caches. Measured with 32 MiB of L3: 64 to 256 MiB are within a fifth of the best,
# and 512 MiB is half as quick for simulators that fuse little.
_CPU_MEMORY = 2**28
# The same on an accelerator, as a fraction of the memory it may use.
_ACCELERATOR_FRACTION = 1 / 8


def map_draws(
    draw: Callable[..., T] | HostDraw[T],
    key: Key,
    n: int,
    *,
    inputs: Any = None,
    chunk_size: int | None = None,
    memory: int | None = None,
    devices: Sequence[Any] | None = None,
    progress: Progress | None = None,
) -> T:
    """Call `draw(fold_in(key, i))` for i = 0 ... n - 1 and stack the results on the host.

    The draws of one chunk are one compiled call, vmapped on each device. Draw i depends on `key` and i alone: any chunk
    size and any number of devices give the same draws (to rounding, where XLA vectorises another batch size otherwise).
    Draws that are not finite stay in place; `finite_draws` finds them.

    Args:
        draw: Pure, jit-able function of a typed PRNG key, or of a key and one entry of `inputs`, returning a pytree of
            arrays; or a `HostDraw` (a NumPy function, a command), which runs in processes.
        key: Typed PRNG key; consumed.
        n: Number of draws.
        inputs: Pytree of arrays with a leading axis of n, handed to `draw` entry by entry; default none.
        chunk_size: Draws per compiled call on all devices together, rounded down to a multiple of their number; for a
            `HostDraw`, draws per task. Default as many as `memory` holds.
        memory: Bytes per compiled call on each device, against `draw_bytes`; not used with `chunk_size` or a
            `HostDraw`. Default 256 MiB on a CPU, where more misses the caches, and an eighth of an accelerator's.
        devices: Devices (`jax.Device`) to draw on; not used by a `HostDraw`. Default all local ones.
        progress: Called with (draws done, n) after each chunk.

    Returns:
        The pytree that `draw` returns, each leaf a NumPy array with a leading axis of n.

    Raises:
        ValueError: If n, `chunk_size` or `memory` is below one, or a leaf of `inputs` has no leading axis of n.
    """
    for name, value in (("n", n), ("chunk_size", chunk_size), ("memory", memory)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value!r}")
    inputs = jax.tree.map(np.asarray, inputs)
    for leaf in jax.tree.leaves(inputs):
        if leaf.shape[:1] != (n,):
            raise ValueError(f"inputs must have a leading axis of n = {n}, got the shape {leaf.shape}")
    if isinstance(draw, HostDraw):
        words = np.asarray(jax.random.key_data(key)).ravel().tolist()
        return draw.run(words, n, inputs=inputs, chunk_size=chunk_size, progress=progress)

    devices = jax.local_devices() if devices is None else devices
    if chunk_size is None:
        entry = () if inputs is None else (jax.tree.map(lambda a: a[0], inputs),)
        memory = _default_memory(devices[0]) if memory is None else memory
        most = max(1, memory // max(1, draw_bytes(draw, key, *entry))) * len(devices)
        chunk_size = math.ceil(n / math.ceil(n / most))  # chunks of one size waste least
        chunk_size = math.ceil(chunk_size / len(devices)) * len(devices)
    else:
        chunk_size = max(1, min(chunk_size, n) // len(devices)) * len(devices)

    def draw_some(key: Key, indices: jax.Array, inputs: Any) -> T:
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, indices)
        return jax.vmap(draw)(keys) if inputs is None else jax.vmap(draw)(keys, inputs)

    # Each device runs the program of its own share: left to itself, XLA would gather the whole chunk for each FFT.
    mesh, split = Mesh(np.asarray(devices), ("draws",)), PartitionSpec("draws")
    in_specs = (PartitionSpec(), split, split)
    draw_chunk = jax.jit(jax.shard_map(draw_some, mesh=mesh, in_specs=in_specs, out_specs=split, check_vma=False))
    key = jax.device_put(key, jax.NamedSharding(mesh, PartitionSpec()))

    chunks = []
    for first in range(0, n, chunk_size):
        # The last chunk is filled up with repeated entries, so that there is one shape and one compilation.
        rows = np.minimum(np.arange(first, first + chunk_size), n - 1)
        part = jax.tree.map(lambda a, rows=rows: a[rows], inputs)
        chunks.append(jax.device_get(draw_chunk(key, rows.astype(np.uint32), part)))
        if progress is not None:
            progress(min(first + chunk_size, n), n)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *chunks)


def draw_bytes(draw: Callable[..., Any], *args: Any) -> int:
    """Bytes of all arrays that one draw computes on its way, loop bodies counted once, found by tracing alone.

    An upper bound of the memory a draw takes unless a loop allocates; XLA fuses and reuses, and needs a tenth or less.

    Args:
        draw: Function to be traced.
        *args: What it is called with; only shapes and dtypes matter.

    Returns:
        Number of bytes.
    """
    return _jaxpr_bytes(jax.make_jaxpr(draw)(*args).jaxpr)


def _jaxpr_bytes(jaxpr: Jaxpr) -> int:
    """Bytes of the outputs of all equations, and of those inside them."""
    outputs: list[Any] = [v.aval for eqn in jaxpr.eqns for v in eqn.outvars]
    own = sum(math.prod(a.shape) * a.dtype.itemsize for a in outputs if hasattr(a, "shape"))  # all but tokens
    return own + sum(_jaxpr_bytes(inner) for eqn in jaxpr.eqns for inner in jaxprs_in_params(eqn.params))


def _default_memory(device: Any) -> int:
    """Memory budget of one device; only accelerators tell what they have."""
    limit = (device.memory_stats() or {}).get("bytes_limit")
    return _CPU_MEMORY if limit is None else int(limit * _ACCELERATOR_FRACTION)


def finite_draws(draws: Any) -> Bool[np.ndarray, " n"]:
    """Which draws are finite in every number.

    Args:
        draws: Pytree of arrays with a leading axis of n, as `map_draws` returns it.

    Returns:
        (n,) whether all leaves of a draw are finite.

    Raises:
        ValueError: If there is no leaf.
    """
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(draws)]
    if not leaves:
        raise ValueError("draws must hold at least one array, got none")
    return np.logical_and.reduce([np.isfinite(a).reshape(len(a), -1).all(axis=1) for a in leaves])
