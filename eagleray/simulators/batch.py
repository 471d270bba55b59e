"""Many draws from one: chunked, with draw i the same in any chunking."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from eagleray.records import Key

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with (done, total) as work advances."""


def map_draws(
    draw: Callable[..., T],
    key: Key,
    n: int,
    *,
    inputs: Any = None,
    chunk_size: int = 256,
    progress: Progress | None = None,
) -> T:
    """Call `draw(fold_in(key, i))` for i = 0 ... n - 1 and stack the results on the host.

    The draws of one chunk are one compiled, vmapped call; draw i depends on `key` and i alone, so any chunk size gives
    the same draws. On a CPU chunks of 2^18 to 2^21 numbers are quickest.

    Args:
        draw: Pure, jit-able function of a typed PRNG key, or of a key and one entry of `inputs`, returning a pytree of
            arrays.
        key: Typed PRNG key; consumed.
        n: Number of draws.
        inputs: Pytree of arrays with a leading axis of n, handed to `draw` entry by entry; default none.
        chunk_size: Draws per compiled call.
        progress: Called with (draws done, n) after each chunk.

    Returns:
        The pytree that `draw` returns, each leaf a NumPy array with a leading axis of n.

    Raises:
        ValueError: If n or `chunk_size` is below one.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n!r}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size!r}")
    chunk_size = min(chunk_size, n)

    @jax.jit
    def draw_chunk(key: Key, first: jax.Array, inputs: Any) -> T:
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(first + jnp.arange(chunk_size, dtype=jnp.uint32))
        return jax.vmap(draw)(keys) if inputs is None else jax.vmap(draw)(keys, inputs)

    chunks = []
    for first in range(0, n, chunk_size):
        # The last chunk is filled up with repeated entries, so that there is one shape and one compilation.
        rows = np.minimum(np.arange(first, first + chunk_size), n - 1)
        part = jax.tree.map(lambda a, rows=rows: np.asarray(a)[rows], inputs)
        chunks.append(jax.device_get(draw_chunk(key, jnp.uint32(first), part)))
        if progress is not None:
            progress(min(first + chunk_size, n), n)
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *chunks)
