"""The classifier two-sample test: can a small network tell draws of a posterior from those of its reference?

The definition is that of sbibm (Lueckmann et al. 2021), whose classifier is scikit-learn's, so that numbers compare
with published ones: the mean accuracy over five folds of a network of two hidden layers, ten units wide for each
dimension, trained by Adam until its training loss has not fallen for ten epochs. 0.5 means alike, 1 that every draw
is told apart.
"""

import dataclasses
import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int
from numpy.typing import ArrayLike, NDArray

from eagleray.records import Key

# scikit-learn's defaults, which sbibm's definition takes over.
_UNITS = 10  # in each hidden layer, for each dimension
_BATCH = 200
_RATE, _BETA_1, _BETA_2, _EPSILON = 1e-3, 0.9, 0.999, 1e-8
_PENALTY = 1e-4
_TOLERANCE = 1e-4
_PATIENCE = 10
_MAX_EPOCHS = 10_000

Layers = list[tuple[Float[Array, "n_in n_out"], Float[Array, " n_out"]]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class C2st:
    """How well a classifier tells two samples apart.

    Attributes:
        accuracy: Mean over the folds of the part told right; 0.5 for samples as large and alike, 1 for disjoint ones.
        error: Standard error of `accuracy` from the finite number of rows told, binomial.
        folds: Accuracy of each fold, on rows its classifier was not trained on.
    """

    accuracy: float
    error: float
    folds: tuple[float, ...]


def c2st(key: Key, reference: ArrayLike, draws: ArrayLike, *, n_folds: int = 5) -> C2st:
    """Classifier two-sample test of draws against reference draws.

    Both samples are standardised by mean and standard deviation of the reference. Rows that do not divide among the
    folds, fewer than `n_folds`, are only trained on. Where one sample is larger, chance is its part of all rows.

    Calls with the same shapes share one compilation, and folds run on as many threads as there are processors: for
    many tests against one reference, call in a loop.

    Args:
        key: Typed PRNG key; consumed.
        reference: (n, d) reference draws.
        draws: (m, d) draws to be told apart from them.
        n_folds: Parts the rows are split into; each is told by a network trained on the others.

    Returns:
        Accuracy, its error, and the folds'.

    Raises:
        ValueError: If a sample is not two-dimensional, has fewer than 2 `n_folds` rows or rows that are not finite,
            the samples have different numbers of columns, a column of the reference does not vary, or `n_folds` < 2.

    References:
        Lopez-Paz & Oquab (2017), arXiv:1610.06545; Lueckmann et al. (2021), arXiv:2101.04653, section 2.4.
    """
    if n_folds < 2:
        raise ValueError(f"n_folds must be at least 2, got {n_folds}")
    first, second = _checked("reference", reference, n_folds), _checked("draws", draws, n_folds)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"draws must have the reference's {first.shape[1]} columns, got {second.shape[1]}")
    x = _standardised(np.concatenate([first, second]), first)
    label = np.repeat(np.array([0, 1], np.float32), [len(first), len(second)])
    key_split, key_fit = jax.random.split(key)
    rows = np.asarray(jax.random.permutation(key_split, len(x)))
    n_test = len(x) // n_folds
    fold_accuracy = _compiled(len(x) - n_test, n_test, x.shape[1])

    def accuracy(fold: int) -> float:
        test, train = _split(rows, fold, n_folds)
        fold_key = jax.random.fold_in(key_fit, fold)
        return float(fold_accuracy(fold_key, x[train], label[train], x[test], label[test]))

    # One fold after the other would leave processors idle: the matrices are too small to share.
    with ThreadPoolExecutor(min(n_folds, os.cpu_count() or 1)) as threads:
        folds = tuple(threads.map(accuracy, range(n_folds)))
    mean = float(np.mean(folds))
    return C2st(accuracy=mean, error=float(np.sqrt(mean * (1 - mean) / (n_folds * n_test))), folds=folds)


def _checked(name: str, sample: ArrayLike, n_folds: int) -> NDArray[np.float64]:
    """A sample as a matrix, all finite and with enough rows."""
    rows = np.asarray(sample, np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"{name} must be of shape (n, d) with d > 0, got {rows.shape}")
    if len(rows) < 2 * n_folds:
        raise ValueError(f"{name} must have at least {2 * n_folds} rows for {n_folds} folds, got {len(rows)}")
    n_wrong = int((~np.isfinite(rows)).any(axis=1).sum())
    if n_wrong:
        raise ValueError(f"{name} must be finite, got {n_wrong} of {len(rows)} rows that are not")
    return rows


def _standardised(x: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows in units of the reference's standard deviation from its mean."""
    deviation = reference.std(axis=0, ddof=1)
    if not (deviation > 0).all():
        raise ValueError(f"reference must vary in every column, got standard deviations {deviation}")
    return ((x - reference.mean(axis=0)) / deviation).astype(np.float32)


def _split(rows: NDArray[np.integer], fold: int, n_folds: int) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Rows one fold tests, and those it trains on; as many in every fold, so that all share one compilation."""
    size = len(rows) // n_folds
    test = slice(fold * size, (fold + 1) * size)
    return rows[test], np.delete(rows, test)


class _State(NamedTuple):
    """Training between two epochs: weights and Adam's moments as vectors, and what says when to stop."""

    weights: Float[Array, " n_weights"]
    mean: Float[Array, " n_weights"]
    square: Float[Array, " n_weights"]
    n_steps: Float[Array, ""]
    best_loss: Float[Array, ""]
    n_stale: Int[Array, ""]
    epoch: Int[Array, ""]


@functools.lru_cache(maxsize=32)
def _compiled(n_train: int, n_test: int, d: int) -> Callable[..., Float[Array, ""]]:
    """`_fold_accuracy` for these sizes, compiled once; threads that meet an uncompiled function compile it each."""

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    arrays = array(n_train, d), array(n_train), array(n_test, d), array(n_test)
    return jax.jit(_fold_accuracy).lower(jax.random.key(0), *arrays).compile()


def _fold_accuracy(
    key: Key,
    train: Float[Array, "n d"],
    train_label: Float[Array, " n"],
    test: Float[Array, "m d"],
    test_label: Float[Array, " m"],
) -> Float[Array, ""]:
    """Train one classifier and return its accuracy on the rows left out."""
    key_start, key_order = jax.random.split(key)
    start, unravel = ravel_pytree(_initial(key_start, train.shape[1]))

    def step(carry, batch):
        weights, mean, square, n_steps = carry
        loss, gradient = jax.value_and_grad(lambda vector: _loss(unravel(vector), *batch))(weights)
        n_steps = n_steps + 1
        mean = _BETA_1 * mean + (1 - _BETA_1) * gradient
        square = _BETA_2 * square + (1 - _BETA_2) * gradient**2
        rate = _RATE * jnp.sqrt(1 - _BETA_2**n_steps) / (1 - _BETA_1**n_steps)
        weights = weights - rate * mean / (jnp.sqrt(square) + _EPSILON)
        return (weights, mean, square, n_steps), loss * batch[-1].sum()

    def epoch(state: _State) -> _State:
        batches = _batches(jax.random.fold_in(key_order, state.epoch), train, train_label)
        carry, losses = jax.lax.scan(step, state[:4], batches)
        loss = losses.sum() / len(train)
        n_stale = jnp.where(loss > state.best_loss - _TOLERANCE, state.n_stale + 1, 0)
        return _State(*carry, jnp.minimum(state.best_loss, loss), n_stale, state.epoch + 1)

    def goes_on(state: _State):
        return (state.n_stale <= _PATIENCE) & (state.epoch < _MAX_EPOCHS)

    zeros, zero, count = jnp.zeros_like(start), jnp.zeros((), start.dtype), jnp.zeros((), jnp.int32)
    state = _State(start, zeros, zeros, zero, zero + jnp.inf, count, count)
    layers = unravel(jax.lax.while_loop(goes_on, epoch, state).weights)
    return jnp.mean((_logit(layers, test) > 0) == (test_label > 0))


def _initial(key: Key, d: int) -> Layers:
    """Weights and offsets before training, uniform after Glorot & Bengio (2010)."""
    layers = []
    sizes = ((d, _UNITS * d), (_UNITS * d, _UNITS * d), (_UNITS * d, 1))
    for layer_key, (n_in, n_out) in zip(jax.random.split(key, len(sizes)), sizes, strict=True):
        bound = (6 / (n_in + n_out)) ** 0.5
        drawn = jax.random.uniform(layer_key, (n_in + 1, n_out), jnp.float32, -bound, bound)
        layers.append((drawn[:-1], drawn[-1]))
    return layers


def _logit(layers: Layers, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Log odds that each row is a draw, not of the reference."""
    for weights, offset in layers[:-1]:
        x = jax.nn.relu(x @ weights + offset)
    weights, offset = layers[-1]
    return (x @ weights + offset)[:, 0]


def _loss(
    layers: Layers, x: Float[Array, "n d"], label: Float[Array, " n"], counts: Float[Array, " n"]
) -> Float[Array, ""]:
    """Cross-entropy of the rows that count, with scikit-learn's penalty on weights (per batch, not per row)."""
    logit = _logit(layers, x)
    entropy = jnp.sum(counts * (jax.nn.softplus(logit) - label * logit))
    return (entropy + 0.5 * _PENALTY * sum(jnp.sum(weights**2) for weights, _ in layers)) / counts.sum()


def _batches(
    key: Key, x: Float[Array, "n d"], label: Float[Array, " n"]
) -> tuple[Float[Array, "n_batches size d"], Float[Array, "n_batches size"], Float[Array, "n_batches size"]]:
    """Rows and labels in a new order, cut into batches; zero in the last array marks what fills up the last batch."""
    n = len(x)
    size = min(_BATCH, n)
    n_batches = -(-n // size)
    order = jnp.pad(_order(key, n), (0, n_batches * size - n))
    counts = (jnp.arange(n_batches * size) < n).astype(x.dtype)
    return x[order].reshape(n_batches, size, -1), label[order].reshape(-1, size), counts.reshape(-1, size)


def _order(key: Key, n: int) -> Int[Array, " n"]:
    """Numbers 0 ... n - 1 in random order: sorted by random bits above their own, six times as fast as argsort."""
    n_bits = (n - 1).bit_length()
    low = jnp.uint32((1 << n_bits) - 1)
    drawn = jax.random.bits(key, (n,), jnp.uint32) & ~low | jnp.arange(n, dtype=jnp.uint32)
    return (jax.lax.sort(drawn, is_stable=False) & low).astype(jnp.int32)
