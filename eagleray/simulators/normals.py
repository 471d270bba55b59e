"""Complex normal numbers, quick on a CPU.

A light curve from its Fourier amplitudes needs one complex normal number a frequency, and XLA's own normals are two
thirds of its cost on a CPU: they spend a whole block of the generator on each 32 bits, pass by pass through memory, and
an inverse error function on each. Here one block gives both words of a complex number, in registers: a radius and an
angle (Box & Muller 1958). All else is a few multiplications, so that it fuses with what uses the numbers.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt32

from eagleray.records import Key
from eagleray.simulators.polynomials import polynomial

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)

# Taylor series in v^2 of sin(pi v) / v and cos(pi v): good to 1e-10 on [-1/2, 1/2].
_N_TERMS = 8
_SINE = tuple(float((-1) ** k * np.pi ** (2 * k + 1) / np.prod(np.arange(1.0, 2 * k + 2))) for k in range(_N_TERMS))
_COSINE = tuple(float((-1) ** k * np.pi ** (2 * k) / np.prod(np.arange(1.0, 2 * k + 1))) for k in range(_N_TERMS))


def complex_normals(key: Key, n: int, dtype: DTypeLike) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Draw independent standard normal numbers in pairs: the real and imaginary parts of complex ones.

    In float32 the radius comes from 31 bits, so that numbers reach 6.6, and the angle from 32. Other types are handed
    to `jax.random.normal`.

    Args:
        key: Typed PRNG key of any kind; consumed.
        n: Number of pairs (static).
        dtype: Floating-point type.

    Returns:
        Two arrays of shape (n,), each standard normal.

    References:
        Box & Muller (1958), Annals of Mathematical Statistics 29, 610; Salmon et al. (2011), Proc. SC11, 16
        (Threefry2x32-20, the generator of JAX's default keys).
    """
    if dtype != jnp.float32:
        normals = jax.random.normal(key, (2, n), dtype)
        return normals[0], normals[1]
    # The key's first 64 bits are the key of the blocks: this consumes it by JAX's own rules, whatever its kind.
    words = jax.random.bits(key, (2,), jnp.uint32)
    counter = jnp.arange(n, dtype=jnp.uint32)
    first, second = _threefry(words[0], words[1], jnp.zeros_like(counter), counter)
    uniform = (first >> 1).astype(jnp.int32).astype(dtype) * np.float32(2.0**-31) + np.float32(2.0**-32)
    radius = jnp.sqrt(np.float32(-2.0) * jnp.log(uniform))
    half_turns = jax.lax.bitcast_convert_type(second, jnp.int32).astype(dtype) * np.float32(2.0**-32)
    cosine, sine = _cosine_and_sine(half_turns)
    return radius * cosine, radius * sine


def _cosine_and_sine(turns: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Cosine and sine of 2 pi times numbers in [-1/2, 1/2], from those of half the angle: no branches."""
    squared = turns * turns
    sine = turns * polynomial(_SINE, squared)
    cosine = polynomial(_COSINE, squared)
    return 1 - 2 * sine * sine, 2 * sine * cosine


def _threefry(
    key_0: UInt32[Array, ""], key_1: UInt32[Array, ""], x_0: UInt32[Array, " n"], x_1: UInt32[Array, " n"]
) -> tuple[UInt32[Array, " n"], UInt32[Array, " n"]]:
    """Threefry2x32 with 20 rounds written out; JAX's own, on a CPU, loops over them and stores what lies between."""
    keys = (key_0, key_1, key_0 ^ key_1 ^ _PARITY)
    x_0, x_1 = x_0 + keys[0], x_1 + keys[1]
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x_0 = x_0 + x_1
            x_1 = x_0 ^ ((x_1 << rotation) | (x_1 >> (32 - rotation)))
        x_0 = x_0 + keys[(group + 1) % 3]
        x_1 = x_1 + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x_0, x_1
