"""How the state behind a kernel moves from one time to the next.

The state holds one number for each exponential and two for each oscillator (position, and velocity over w0) and
rotation. Its transition joins each number with at most one other, its partner: x -> own x + other x[partner].
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

if TYPE_CHECKING:
    from eagleray.likelihoods.gaussian_process.kernels import Kernel

# Nodes and weights of Gauss-Legendre quadrature on the unit interval.
_NODES, _WEIGHTS = (0.5 * (x + shift) for x, shift in zip(np.polynomial.legendre.leggauss(4), (1.0, 0.0), strict=True))


class Steps(NamedTuple):
    """Transitions and noise of the state over each step, all (n, m); the order is that of `partners`.

    Attributes:
        own: Factor of each number on itself.
        other: Factor of its partner on it.
        noise: Variance gathered by each number.
        shared: Covariance gathered by each number and its partner; 0 where it has none.
    """

    own: Float[Array, "n m"]
    other: Float[Array, "n m"]
    noise: Float[Array, "n m"]
    shared: Float[Array, "n m"]


def partners(x: Array, n_pairs: int, axis: int) -> Array:
    """Exchange first and second numbers of the pairs, which come first; the rest stays."""
    first, second, rest = jnp.split(x, (n_pairs, 2 * n_pairs), axis)
    return jnp.concatenate([second, first, rest], axis)


def stationary_covariance(kernel: "Kernel") -> Float[Array, "m m"]:
    """Covariance of the state at any one time."""
    oscillators, rotations = kernel.oscillators, kernel.rotations
    pairs = jnp.concatenate([oscillators.variance, rotations.cosine])
    own = jnp.concatenate([pairs, pairs, kernel.exponentials.variance])
    shared = jnp.concatenate([jnp.zeros_like(oscillators.variance), rotations.sine])
    n_pairs, rest = pairs.shape[0], jnp.zeros_like(kernel.exponentials.variance)
    return jnp.diag(own) + partners(jnp.diag(jnp.concatenate([shared, shared, rest])), n_pairs, 0)


def steps_between(kernel: "Kernel", steps: Float[Array, " n"]) -> Steps:
    """Transitions over steps [s], and the covariance gathered, to the precision of the type for short steps too."""
    exponentials, oscillators, rotations = kernel.exponentials, kernel.oscillators, kernel.rotations
    steps = steps[:, None]
    angle = 2.0 * math.pi * oscillators.freq * steps
    cosine, sine = oscillator_transition(angle, oscillators.quality)
    half = sine / (2.0 * oscillators.quality)
    position, velocity, both = (
        oscillators.variance * x for x in _oscillator_noise(angle, oscillators.quality, cosine, sine)
    )
    phase = 2.0 * math.pi * rotations.freq * steps
    decay = jnp.exp(-rotations.rate * steps)
    along, across = decay * jnp.cos(phase), decay * jnp.sin(phase)
    lost = -jnp.expm1(-2.0 * rotations.rate * steps)
    gathered, turned = rotations.cosine * lost, 2.0 * rotations.sine * along * across
    mixed = rotations.sine * (lost + 2.0 * across * across)
    walk = exponentials.rate * steps
    none = jnp.zeros_like(walk)
    return Steps(
        own=jnp.concatenate([cosine + half, along, cosine - half, along, jnp.exp(-walk)], -1),
        other=jnp.concatenate([sine, across, -sine, -across, none], -1),
        noise=jnp.concatenate(
            [position, gathered - turned, velocity, gathered + turned, exponentials.variance * -jnp.expm1(-2.0 * walk)],
            -1,
        ),
        shared=jnp.concatenate([both, mixed, both, mixed, none], -1),
    )


def oscillator_transition(angle: Float[Array, "*n m"], quality: Float[Array, " m"]) -> tuple[Array, Array]:
    """Damped cosine and sine over an angle w0 t: exp(-w0 t / 2 Q) times cos(b w0 t) and sin(b w0 t) / b.

    b^2 = 1 - 1 / (4 Q^2) may have either sign. With half = sine / (2 Q) the position moves to (cosine + half) position
    + sine velocity, the velocity to (cosine - half) velocity - sine position.
    """
    argument = (1.0 - 1.0 / (4.0 * quality * quality)) * angle * angle
    small, under = jnp.abs(argument) < 1e-3, argument > 0
    root = jnp.sqrt(jnp.where(small, 1.0, jnp.abs(argument)))
    damping = angle / (2.0 * quality)
    decay = jnp.exp(-damping)
    # Overdamped: the growing exponential is taken together with the decay, which always wins.
    slow, fast = jnp.exp(jnp.where(under, 0.0, root) - damping), jnp.exp(-root - damping)
    cosine = jnp.where(under, jnp.cos(root) * decay, 0.5 * (slow + fast))
    sine = jnp.where(under, jnp.sin(root) * decay, 0.5 * (slow - fast)) / root
    square = argument * argument
    cosine_series = decay * (1.0 - argument / 2.0 + square / 24.0 - square * argument / 720.0)
    sine_series = decay * (1.0 - argument / 6.0 + square / 120.0 - square * argument / 5040.0)
    return jnp.where(small, cosine_series, cosine), angle * jnp.where(small, sine_series, sine)


def _oscillator_noise(angle: Array, quality: Array, cosine: Array, sine: Array) -> tuple[Array, Array, Array]:
    """Variance of position and of velocity and their covariance gathered over an angle, for unit variance.

    One minus what is left of the variance; for short steps that is all rounding, and the response to each past kick of
    the velocity is integrated instead.
    """
    half = sine / (2.0 * quality)
    exact = (1.0 - (cosine + half) ** 2 - sine**2, 1.0 - (cosine - half) ** 2 - sine**2, 2.0 * half * sine)
    places, weights = (jnp.asarray(x, angle.dtype)[:, None, None] for x in (_NODES, _WEIGHTS))
    cosine_then, sine_then = oscillator_transition(angle * places, quality)
    speed = cosine_then - sine_then / (2.0 * quality)
    kick = 2.0 * angle / quality
    summed = [kick * (weights * x).sum(0) for x in (sine_then**2, speed**2, sine_then * speed)]
    short = angle * (1.0 + 1.0 / quality) < 0.3
    first, second, third = (jnp.where(short, a, b) for a, b in zip(summed, exact, strict=True))
    return first, second, third
