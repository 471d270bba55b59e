"""Likelihood of a Gaussian process at any times, with any measurement noise, in linear time (a Kalman filter).

Why not tinygp's quasiseparable solver: with 10 to 40 numbers of state, its values and gradients take 5 to 14 times as
long, its compilation 2 to 10 times; in float32 its overdamped oscillator is -inf over long gaps, and so is any
oscillator where the noise of a measurement is 1e-7 of the process's variance. `benchmarks/gaussian_process.py` measures
both.

In float32 rounding of the times, not of the filter, limits the result: give them as a NumPy array, whose differences
are taken in float64. Then the error stays below 0.1 for 20000 times and noise down to 1e-5 of the variance. With less
noise, or none on a smooth process, use float64.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from eagleray.likelihoods.gaussian_process.kernels import Kernel
from eagleray.likelihoods.gaussian_process.transitions import Steps, partners, stationary_covariance, steps_between
from eagleray.records import Key

Mean = ArrayLike | Callable[[Array], Array]
# Numbers kept for the gradient, above which steps are made anew in blocks instead: the square root is then kept.
_KEPT = 2**22


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the data say of the process, without measurement noise.

    Attributes:
        mean: (n,) conditional mean, the mean function included.
        variance: (n,) conditional variance.
    """

    mean: Float[Array, " n"]
    variance: Float[Array, " n"]


class _Data(NamedTuple):
    """The series as the filter takes it, all (n,), and the state's steps to each time."""

    residual: Array
    variance: Array
    mask: Array
    steps: Steps


def gaussian_process_log_likelihood(
    kernel: Kernel,
    times: Float[Array, " n"],
    values: Float[Array, " n"],
    variance: ArrayLike,
    *,
    mean: Mean = 0.0,
    mask: Bool[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Ln likelihood of a series: a Gaussian process seen at its times, plus independent Gaussian noise.

    Args:
        kernel: Covariance of the process.
        times: (n,) times [s] as offsets, not decreasing; the result is NaN otherwise. Values are taken at these times,
            not averaged over bins. A NumPy array keeps steps exact that float32 times would round.
        values: (n,) measured values.
        variance: Variance of the measurement noise, a scalar or (n,).
        mean: Mean of the process: a scalar, (n,) values, or a function of times (n,) such as a burst's envelope.
        mask: (n,) True where there is a measurement; everywhere by default. Leaving a time out is the same.

    Raises:
        ValueError: If shapes do not fit.

    References:
        Kelly et al. (2014), ApJ 788, 33 (the filter); Foreman-Mackey et al. (2017), AJ 154, 220 (the kernels).
    """
    kernel, data, _ = _prepare(kernel, times, values, variance, mean, mask)
    n_pairs, seen = _n_pairs(kernel), _seen(kernel)

    def step(state: tuple[Array, Array], now: _Data) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        location, spread = _advance(*state, now.steps, n_pairs)
        gain = spread @ seen
        total = now.variance + seen @ gain
        surprise = now.residual - seen @ location
        return _absorb(location, spread, gain, total, surprise, now.mask), (total, surprise)

    total, surprise = _scan(step, _first(kernel), data, kernel.n_states)
    terms = surprise * surprise / total + jnp.log(total) + math.log(2.0 * math.pi)
    return -0.5 * jnp.where(data.mask, terms, 0.0).sum()


def predict(
    kernel: Kernel,
    times: Float[Array, " n"],
    values: Float[Array, " n"],
    variance: ArrayLike,
    *,
    mean: Mean = 0.0,
    mask: Bool[Array, " n"] | None = None,
    new_times: Float[Array, " n_new"] | None = None,
) -> Prediction:
    """Mean and variance of the process given the data, at the data's times or at others, in linear time.

    Args:
        kernel: Covariance of the process.
        times: (n,) times [s] as offsets, not decreasing.
        values: (n,) measured values.
        variance: Variance of the measurement noise, a scalar or (n,).
        mean: Mean of the process: a scalar, (n,) values, or a function of times; with `new_times` not (n,) values.
        mask: (n,) True where there is a measurement; everywhere by default.
        new_times: (n_new,) times [s] at which to predict, in any order; the data's by default.

    Raises:
        ValueError: If shapes do not fit, or the mean is not known at the new times.

    References:
        Bierman (1973), Automatica 9, 503 (the modified Bryson-Frazier smoother).
    """
    if new_times is None:
        return _smooth(*_prepare(kernel, times, values, variance, mean, mask))
    if not callable(mean) and jnp.ndim(mean) > 0:
        raise ValueError("mean must be a scalar or a function of time where new_times are given, got values")
    n, n_new = times.shape[0], new_times.shape[0]
    mask = jnp.ones(n, bool) if mask is None else jnp.asarray(mask, bool)
    on_host = isinstance(times, np.ndarray) and isinstance(new_times, np.ndarray)
    arrays = np if on_host else jnp
    every = arrays.concatenate([times, new_times])
    order = arrays.argsort(every, stable=True)
    padded = [
        jnp.concatenate([x, jnp.full(n_new, fill, x.dtype)])[order]
        for x, fill in ((jnp.asarray(values), 0), (jnp.broadcast_to(jnp.asarray(variance), n), 1), (mask, False))
    ]
    found = _smooth(*_prepare(kernel, every[order], padded[0], padded[1], mean, padded[2]))
    back = arrays.argsort(order)[n:]
    return Prediction(mean=found.mean[back], variance=found.variance[back])


def draw(
    key: Key, kernel: Kernel, times: Float[Array, " n"], variance: ArrayLike = 0.0, *, mean: Mean = 0.0
) -> Float[Array, " n"]:
    """Draw a series, measurement noise included, in linear time.

    Args:
        key: Typed PRNG key; consumed.
        kernel: Covariance of the process.
        times: (n,) times [s] as offsets, not decreasing.
        variance: Variance of the measurement noise, a scalar or (n,).
        mean: Mean of the process: a scalar, (n,) values, or a function of times.

    Returns:
        (n,) series.
    """
    kernel, data, expected = _prepare(kernel, times, jnp.zeros(jnp.shape(times)), variance, mean, None)
    n_pairs, seen = _n_pairs(kernel), _seen(kernel)
    normals = jax.random.normal(key, expected.shape, expected.dtype)

    def step(state: tuple[Array, Array], now: tuple[_Data, Array]) -> tuple[tuple[Array, Array], Array]:
        data, normal = now
        location, spread = _advance(*state, data.steps, n_pairs)
        gain = spread @ seen
        total = data.variance + seen @ gain
        surprise = jnp.sqrt(total) * normal
        return _absorb(location, spread, gain, total, surprise, data.mask), seen @ location + surprise

    return expected + jax.lax.scan(step, _first(kernel), (data, normals))[1]


def _smooth(kernel: Kernel, data: _Data, expected: Array) -> Prediction:
    """Filter forwards, then gather what later data say of each time."""
    n_pairs, seen = _n_pairs(kernel), _seen(kernel)

    def forwards(state: tuple[Array, Array], now: _Data) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        location, spread = _advance(*state, now.steps, n_pairs)
        gain = spread @ seen
        total = now.variance + seen @ gain
        surprise = now.residual - seen @ location
        found = (gain, surprise / total, 1.0 / total, seen @ location, seen @ gain)
        return _absorb(location, spread, gain, total, surprise, now.mask), found

    _, found = jax.lax.scan(forwards, _first(kernel), data)

    def backwards(state: tuple[Array, Array], now: tuple) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        (pull, weight), (steps, mask, (gain, score, inverse, ahead, spread)) = state, now
        score, inverse = jnp.where(mask, score, 0.0), jnp.where(mask, inverse, 0.0)
        drag = weight @ gain
        pull = pull - seen * (inverse * (gain @ pull) + score)
        cross = inverse * seen[:, None] * drag
        corner = inverse * (1.0 + inverse * (gain @ drag))
        weight = weight - cross - cross.T + corner * seen[:, None] * seen
        answer = (ahead - gain @ pull, spread - gain @ (weight @ gain))
        return (_turn_back(pull, steps, n_pairs, 0), _turn_back_both(weight, steps, n_pairs)), answer

    m = kernel.n_states
    none = (jnp.zeros(m, expected.dtype), jnp.zeros((m, m), expected.dtype))
    _, (location, spread) = jax.lax.scan(backwards, none, (data.steps, data.mask, found), reverse=True)
    return Prediction(mean=expected + location, variance=spread)


def _prepare(
    kernel: Kernel, times: Array, values: Array, variance: ArrayLike, mean: Mean, mask: Array | None
) -> tuple[Kernel, _Data, Array]:
    """Check shapes, bring all to one type, subtract the mean; also the mean at the times."""
    # Times on the host are in float64: their differences are taken before they are rounded.
    gaps = np.diff(times, prepend=times[:1]) if isinstance(times, np.ndarray) else jnp.diff(times, prepend=times[:1])
    times, values = jnp.asarray(times), jnp.asarray(values)
    n = times.shape[0] if times.ndim == 1 else -1
    expected = jnp.asarray(mean(times) if callable(mean) else mean)
    variance = jnp.asarray(variance)
    mask = jnp.ones(times.shape, bool) if mask is None else jnp.asarray(mask, bool)
    for name, shape, allowed in (
        ("times", times.shape, ((n,),)),
        ("values", values.shape, ((n,),)),
        ("variance", variance.shape, ((), (n,))),
        ("mean", expected.shape, ((), (n,))),
        ("mask", mask.shape, ((n,),)),
    ):
        if shape not in allowed:
            raise ValueError(f"{name} must have the shape of times, (n,), got {shape} with times {times.shape}")
    dtype = jnp.result_type(times, values, variance, expected, *jax.tree.leaves(kernel), 1.0)
    kernel = jax.tree.map(lambda leaf: leaf.astype(dtype), kernel)
    expected = jnp.broadcast_to(expected.astype(dtype), n)
    gaps = jnp.asarray(gaps, dtype)
    data = _Data(
        residual=jnp.where(mask, values.astype(dtype) - expected, 0.0),
        variance=jnp.where(mask, variance.astype(dtype), 1.0),
        mask=mask,
        steps=steps_between(kernel, jnp.where(gaps < 0, jnp.nan, gaps)),
    )
    return kernel, data, expected


def _n_pairs(kernel: Kernel) -> int:
    """Pairs of numbers in the state."""
    return kernel.oscillators.freq.shape[0] + kernel.rotations.freq.shape[0]


def _seen(kernel: Kernel) -> Array:
    """(m,) which numbers of the state add up to the process: all but the second of each pair."""
    n_pairs, variance = _n_pairs(kernel), kernel.exponentials.variance
    return jnp.concatenate([jnp.ones(n_pairs), jnp.zeros(n_pairs), jnp.ones_like(variance)]).astype(variance.dtype)


def _first(kernel: Kernel) -> tuple[Array, Array]:
    """Location and covariance of the state before any measurement."""
    covariance = stationary_covariance(kernel)
    return jnp.zeros_like(covariance[0]), covariance


def _advance(location: Array, spread: Array, steps: Steps, n_pairs: int) -> tuple[Array, Array]:
    """Location and covariance of the state one step later."""
    own, other, noise, shared = steps
    location = own * location + other * partners(location, n_pairs, 0)
    spread = own[:, None] * spread + other[:, None] * partners(spread, n_pairs, 0)
    spread = spread * own + partners(spread, n_pairs, 1) * other
    return location, spread + jnp.diag(noise) + partners(jnp.diag(shared), n_pairs, 0)


def _absorb(
    location: Array, spread: Array, gain: Array, total: Array, surprise: Array, mask: Array
) -> tuple[Array, Array]:
    """Location and covariance of the state once the measurement is known; unchanged where there is none."""
    weight = jnp.where(mask, gain / total, 0.0)
    return location + weight * surprise, spread - weight[:, None] * gain


def _turn_back(x: Array, steps: Steps, n_pairs: int, axis: int) -> Array:
    """The transposed transition along an axis."""
    own, other = (jnp.expand_dims(s, 1 - axis) if x.ndim == 2 else s for s in (steps.own, steps.other))
    return own * x + partners(other * x, n_pairs, axis)


def _turn_back_both(x: Array, steps: Steps, n_pairs: int) -> Array:
    """The transposed transition on both sides of a matrix."""
    return _turn_back(_turn_back(x, steps, n_pairs, 0), steps, n_pairs, 1)


def _scan(step: Callable, state: tuple[Array, Array], data: _Data, n_states: int) -> tuple[Array, Array]:
    """Scan whose gradient keeps only the states between steps, and for long series only some of those."""
    step = jax.checkpoint(step)
    n = data.residual.shape[0]
    if n * n_states**2 <= _KEPT:
        return jax.lax.scan(step, state, data)[1]
    length = math.isqrt(n - 1) + 1
    n_blocks = -(-n // length)

    def blocks(x: Array) -> Array:
        padded = jnp.concatenate([x, jnp.repeat(x[-1:], n_blocks * length - n, 0)])
        return padded.reshape((n_blocks, length, *x.shape[1:]))

    # What is added at the end comes after all measurements and is cut off again.
    block = jax.checkpoint(lambda state, part: jax.lax.scan(step, state, part))
    _, found = jax.lax.scan(block, state, jax.tree.map(blocks, data))
    first, second = (x.reshape(-1)[:n] for x in found)
    return first, second
