"""Whittle's likelihood of a periodogram."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def whittle(power: Float[Array, " n_freq"], model: Float[Array, " n_freq"]) -> Float[Array, ""]:
    """Ln likelihood of a periodogram whose powers are independent and exponential about a model.

    Exact for Gaussian series that are periodic over the window; an approximation, biased by leakage, for others.

    Args:
        power: (n_freq,) observed powers, Nyquist left out.
        model: (n_freq,) expected powers, positive, in the same norm.

    References:
        Whittle (1953), Ark. Mat. 2, 423; Vaughan (2010), MNRAS 402, 307, equation 18.
    """
    return -(jnp.log(model) + power / model).sum()
