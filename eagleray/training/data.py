"""Where the rows of a fit come from: memory, a store larger than memory, or the simulator itself."""

import abc
import collections
import dataclasses
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
from jaxtyping import Array

from eagleray.errors import InputError
from eagleray.records import Key

Place = Callable[[Any], Any]
"""Puts a pytree of arrays on the devices."""


class Sampler(Protocol):
    """How a source's rows become batches, inside the compiled call; hashable, as it is compiled in."""

    def picks(self, key: Key, data: Any, n: int) -> Array:
        """What stands for each of a segment's next n rows, in the order in which they are trained on."""
        ...

    def row(self, data: Any, pick: Array) -> Any:
        """One row; vectorised over a batch."""
        ...


class Stored(NamedTuple):
    """Sampler of rows that are there: each once, in a random order."""

    def picks(self, key: Key, data: Any, n: int) -> Array:
        """Numbers of rows."""
        return jax.random.permutation(key, n_rows(data))[:n]

    def row(self, data: Any, pick: Array) -> Any:
        """The row of that number."""
        return jax.tree.map(lambda leaf: leaf[pick], data)


class Drawn(NamedTuple):
    """Sampler of rows that are simulated when needed. draw: key -> one row."""

    draw: Callable[[Key], Any]

    def picks(self, key: Key, data: Any, n: int) -> Array:
        """A key for each row."""
        return jax.random.split(key, n)

    def row(self, data: Any, pick: Array) -> Any:
        """One simulation."""
        return self.draw(pick)


class Source(abc.ABC):
    """Where the rows of a fit come from.

    An epoch is a sequence of segments, and each segment is trained on in one compiled call. The loop takes a segment's
    data from `segments`; inside the compiled call `sampler` makes batches of them.

    Attributes:
        max_non_finite: Largest fraction of an epoch's rows that may hold numbers that are not finite; above it training
            stops. Stored rows may all do: their loss masks what does not exist.
    """

    max_non_finite: float = 1.0

    @property
    def sampler(self) -> Sampler:
        """How rows become batches."""
        return Stored()

    @abc.abstractmethod
    def rows(self, batch_size: int) -> tuple[int, ...]:
        """Rows of each segment of an epoch; two different numbers at most, as each is compiled for."""

    @abc.abstractmethod
    def segments(self, key: Key, epoch: int, place: Place) -> Generator[Any]:
        """Data of each segment from the start of an epoch on, without end, in place.

        What comes in epoch i depends on `fold_in(key, i)` alone.
        """


@dataclasses.dataclass(frozen=True)
class InMemory(Source):
    """Rows in memory. data: pytree of arrays that share their leading axis. An epoch is one segment."""

    data: Any

    def rows(self, batch_size: int) -> tuple[int, ...]:
        """All of them."""
        return (n_rows(self.data),)

    def segments(self, key: Key, epoch: int, place: Place) -> Generator[Any]:
        """The same data in each epoch."""
        placed = place(self.data)
        while True:
            yield placed


class Reader(Protocol):
    """A store of rows that is read piece by piece."""

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        ...

    @property
    def chunk_rows(self) -> int:
        """Rows that are stored, and best read, together."""
        ...

    def read(self, start: int, stop: int) -> Any:
        """Rows start to stop - 1: a pytree of NumPy arrays that share their leading axis."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class OnDisk(Source):
    """Rows in a store larger than memory; a group of chunks is read by a thread while the one before is trained on.

    Chunks come in groups that are new in each epoch, and rows in an order that is new within each group. Two groups are
    in memory at a time, and for a moment a third.

    Attributes:
        reader: The store.
        chunks: Numbers of the chunks to train on, all of them whole.
        group_chunks: Chunks in a group, at most.
    """

    reader: Reader
    chunks: tuple[int, ...]
    group_chunks: int

    def rows(self, batch_size: int) -> tuple[int, ...]:
        """Rows of each group: groups are as equal as can be."""
        return tuple(len(group) * self.reader.chunk_rows for group in self._groups(np.asarray(self.chunks)))

    def segments(self, key: Key, epoch: int, place: Place) -> Generator[Any]:
        """Groups of chunks in a random order."""
        waiting = collections.deque()
        with ThreadPoolExecutor(1, thread_name_prefix="eagleray-reader") as thread:
            for group in self._ordered(key, epoch):
                waiting.append(thread.submit(lambda chunks=group: place(read_chunks(self.reader, chunks))))
                if len(waiting) == 2:
                    yield waiting.popleft().result()

    def _ordered(self, key: Key, epoch: int) -> Iterator[np.ndarray]:
        """The chunks of each group, epoch after epoch."""
        while True:
            order = np.asarray(jax.random.permutation(jax.random.fold_in(key, epoch), np.asarray(self.chunks)))
            yield from self._groups(order)
            epoch += 1

    def _groups(self, chunks: np.ndarray) -> list[np.ndarray]:
        """Chunks in equal parts; the first ones may be longer by one."""
        return np.array_split(chunks, math.ceil(len(chunks) / self.group_chunks))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulated(Source):
    """Fresh simulations in every step, made inside the compiled call; there is no data set to learn by heart.

    Attributes:
        draw: key -> one row, a pytree of arrays; jittable.
        steps_per_epoch: Steps that are called an epoch.
        max_non_finite: As in `Source`.
    """

    draw: Callable[[Key], Any]
    steps_per_epoch: int
    max_non_finite: float = 0.5

    @property
    def sampler(self) -> Drawn:
        """Draws."""
        return Drawn(self.draw)

    def rows(self, batch_size: int) -> tuple[int, ...]:
        """As many as the steps need."""
        return (self.steps_per_epoch * batch_size,)

    def segments(self, key: Key, epoch: int, place: Place) -> Generator[Any]:
        """Nothing: rows come of keys."""
        while True:
            yield ()


class Plan(NamedTuple):
    """Rows of each batch, and steps of each segment."""

    batch_size: int
    n_steps: tuple[int, ...]


def plan_steps(rows: Sequence[int], batch_size: int, n_devices: int = 1) -> Plan:
    """Batches that leave as few rows as possible waiting for the next epoch: in one segment, less than one a step.

    Args:
        rows: Rows of each segment.
        batch_size: Rows wanted in a batch.
        n_devices: What batches are a multiple of, once they have so many rows.
    """
    longest = max(rows)
    size = min(*rows, longest // max(1, round(longest / batch_size)))
    if size > n_devices:
        size -= size % n_devices
    return Plan(batch_size=size, n_steps=tuple(n // size for n in rows))


def n_rows(data: Any) -> int:
    """Length of the leading axis that all leaves share.

    Raises:
        ValueError: If they do not, or there are no rows.
    """
    lengths = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(data)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"data must be arrays of the same length, at least 1, got lengths {sorted(lengths)}")
    return lengths.pop()


def split_validation(data: Any, key: Key, fraction: float) -> tuple[Any, Any]:
    """Set a random fraction of the data aside: (training, validation), along the leading axis of every leaf."""
    n = n_rows(data)
    n_validation = min(n - 1, max(1, round(fraction * n)))
    order = np.asarray(jax.random.permutation(key, n))
    held, kept = order[:n_validation], order[n_validation:]
    return jax.tree.map(lambda a: a[kept], data), jax.tree.map(lambda a: a[held], data)


def split_chunks(reader: Reader, key: Key, fraction: float, *, group_rows: int = 65_536) -> tuple[OnDisk, Any]:
    """Set random chunks of a store aside, which are never trained on: (training, validation).

    A last chunk that is not whole is set aside first. Rows are taken to be alike throughout the store.

    Args:
        reader: The store.
        key: Typed PRNG key; consumed.
        fraction: Part of the rows to set aside, rounded up to chunks.
        group_rows: Rows in memory at once, about; as many are set aside at most.

    Returns:
        A source of the other chunks, and the rows set aside, in memory.

    Raises:
        InputError: If the store has less than two whole chunks.
    """
    n_whole, rest = divmod(reader.n_rows, reader.chunk_rows)
    if n_whole < 2:
        raise InputError(
            f"a store read chunk by chunk must have two chunks of {reader.chunk_rows} rows or more, got "
            f"{reader.n_rows} rows; load it whole"
        )
    wanted = min(fraction * reader.n_rows, group_rows) - rest
    n_held = min(n_whole - 1, max(0 if rest else 1, math.ceil(wanted / reader.chunk_rows)))
    order = [int(chunk) for chunk in np.asarray(jax.random.permutation(key, n_whole))]
    source = OnDisk(reader=reader, chunks=tuple(order[n_held:]), group_chunks=max(1, group_rows // reader.chunk_rows))
    return source, read_chunks(reader, order[:n_held] + [n_whole] * bool(rest))


def read_chunks(reader: Reader, chunks: Sequence[int] | np.ndarray) -> Any:
    """Chunks of a store, one after the other, as one pytree of arrays; no more is held than that and one chunk."""
    starts = [int(chunk) * reader.chunk_rows for chunk in chunks]
    stops = [min(start + reader.chunk_rows, reader.n_rows) for start in starts]
    ends = np.cumsum(np.subtract(stops, starts))
    whole: Any = None
    for start, stop, end in zip(starts, stops, ends, strict=True):
        piece = reader.read(start, stop)
        if whole is None:
            whole = jax.tree.map(lambda leaf: np.empty((ends[-1], *leaf.shape[1:]), leaf.dtype), piece)
        jax.tree.map(
            lambda leaf, part, rows=slice(end - (stop - start), end): leaf.__setitem__(rows, part), whole, piece
        )
    return whole


def draw_rows(key: Key, draw: Callable[[Key], Any], n: int, *, batch_size: int = 128) -> Any:
    """A fixed set of simulations, as for validation: a pytree of arrays with a leading axis of n.

    Args:
        key: Typed PRNG key; consumed.
        draw: key -> one row, a pytree of arrays; jittable.
        n: Rows to draw.
        batch_size: Rows drawn at once.
    """
    return jax.jit(lambda keys: jax.lax.map(draw, keys, batch_size=min(n, batch_size)))(jax.random.split(key, n))
