"""Light curves whose character drifts: within one light curve, and from one to the next."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eagleray.records import Key
from eagleray.simulators.timmer_koenig import gaussian_process


def drifting_qpo(
    key: Key, freq: Float[Array, " n"], rms: Float[Array, " n"], *, fwhm: Float[Array, ""], dt: float
) -> Float[Array, " n"]:
    """Draw a quasi-periodic oscillation whose frequency and strength change with time.

    A complex Ornstein-Uhlenbeck process, whose spectrum is a Lorentzian of this width around zero, is turned by the
    running phase of the drifting frequency: at constant frequency the result is the Gaussian process with a Lorentzian
    spectrum, folded at zero frequency, and otherwise the phase runs on without a break.

    Args:
        key: Typed PRNG key; consumed.
        freq: (n,) frequency in each bin [Hz].
        rms: (n,) standard deviation in each bin, in the units wanted.
        fwhm: Full width at half maximum of the Lorentzian [Hz].
        dt: Bin width [s].

    Returns:
        (n,) series of zero mean.

    References:
        Vaughan & Nowak (1997), ApJ 474, L43, section 2, on the damped oscillator; the walk is its exact discrete form.
    """
    n = freq.shape[0]
    decay = jnp.exp(-math.pi * fwhm * dt)
    normals = jax.random.normal(key, (n, 2), freq.dtype)
    spread = jnp.where(jnp.arange(n) == 0, 1.0, jnp.sqrt(-jnp.expm1(-2.0 * math.pi * fwhm * dt)))

    def step(state: Array, kick: Array) -> tuple[Array, Array]:
        state = decay * state + kick
        return state, state

    walk = jax.lax.scan(step, jnp.zeros_like(normals[0]), spread[:, None] * normals)[1]
    angle = 2.0 * math.pi * _running_phase(freq * dt)
    return rms * (walk[:, 0] * jnp.cos(angle) + walk[:, 1] * jnp.sin(angle))


def evolving_process(
    key: Key, powers: Float[Array, "k n_freq"], weights: Float[Array, "k n"], dt: float
) -> Float[Array, " n"]:
    """Draw a Gaussian series whose spectrum evolves smoothly between given ones.

    The same Fourier amplitudes are drawn for all k spectra, and the k series are mixed with weights that change in
    time: an oscillatory process in Priestley's sense, with evolutionary spectrum (sum_k weights_k(t) sqrt(P_k(f)))^2.

    Args:
        key: Typed PRNG key; consumed.
        powers: (k, n // 2) one-sided spectra at `fourier_frequencies(n, dt)`.
        weights: (k, n) weight of each in each bin, such as `interpolation_weights`.
        dt: Bin width [s].

    Returns:
        (n,) series of zero mean.

    References:
        Priestley (1965), J. R. Stat. Soc. B 27, 204, equations 3.7 and 5.2.
    """
    n = weights.shape[1]
    series = jax.vmap(lambda power: gaussian_process(key, power, n, dt))(powers)
    return jnp.sum(weights * series, 0)


def interpolation_weights(k: int, n: int, dtype: Any = jnp.float32) -> Float[Array, "k n"]:
    """Weights of straight-line interpolation between k states spread evenly from the first bin to the last.

    Args:
        k: Number of states, 2 or more.
        n: Number of bins.
        dtype: Floating-point type.

    Returns:
        (k, n) weights between 0 and 1 that add up to one in each bin.

    Raises:
        ValueError: If k is below 2.
    """
    if k < 2:
        raise ValueError(f"k must be at least 2, got {k!r}")
    place = jnp.linspace(0.0, k - 1.0, n, dtype=dtype)
    return jnp.maximum(1.0 - jnp.abs(place[None] - jnp.arange(k, dtype=dtype)[:, None]), 0.0)


def linear_path(start: Float[Array, ""], end: Float[Array, ""], n: int) -> Float[Array, " n"]:
    """A parameter that moves at constant speed.

    Args:
        start: First value.
        end: Last value.
        n: Number of values (static).

    Returns:
        (n,) values.
    """
    return start + (end - start) * jnp.linspace(0.0, 1.0, n, dtype=jnp.result_type(start))


def log_linear_path(start: Float[Array, ""], end: Float[Array, ""], n: int) -> Float[Array, " n"]:
    """A positive parameter whose logarithm moves at constant speed.

    Args:
        start: First value.
        end: Last value.
        n: Number of values (static).

    Returns:
        (n,) values.
    """
    return jnp.exp(linear_path(jnp.log(start), jnp.log(end), n))


def wandering_path(key: Key, start: Float[Array, ""], log_step: Float[Array, ""], n: int) -> Float[Array, " n"]:
    """A positive parameter whose logarithm walks at random.

    Args:
        key: Typed PRNG key; consumed.
        start: First value.
        log_step: Standard deviation of one step of the natural logarithm.
        n: Number of values (static).

    Returns:
        (n,) values.
    """
    steps = jax.random.normal(key, (n - 1,), jnp.result_type(start))
    return start * jnp.exp(log_step * jnp.concatenate([jnp.zeros_like(steps[:1]), jnp.cumsum(steps)]))


def drifting_ensemble(
    key: Key, simulate: Callable[[Key, Mapping[str, Array]], Any], paths: Mapping[str, Float[Array, " n_curves"]]
) -> Any:
    """Draw one light curve for each step along a path of parameters.

    Args:
        key: Typed PRNG key; consumed. Light curve i gets `fold_in(key, i)`.
        simulate: Simulator `(key, theta) -> data` of one light curve (static).
        paths: Values of each parameter, one for each light curve.

    Returns:
        What the simulator returns, with a leading axis of n_curves.
    """
    n_curves = next(iter(paths.values())).shape[0]
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(n_curves))
    return jax.vmap(simulate)(keys, dict(paths))


def _running_phase(steps: Array) -> Array:
    """Running sum of phase steps in cycles, reduced as it goes so that float32 keeps the fraction of a cycle."""

    def step(phase: Array, change: Array) -> tuple[Array, Array]:
        phase = phase + change
        phase = phase - jax.lax.stop_gradient(jnp.round(phase))
        return phase, phase

    return jax.lax.scan(step, jnp.zeros_like(steps[0]), steps)[1]
