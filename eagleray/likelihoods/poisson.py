"""Likelihood of counts."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from eagleray.likelihoods.arguments import OneOrEach, Values, log_gamma_excess, log_ratio_excess, matched


def poisson(counts: Values, model: OneOrEach) -> Float[Array, ""]:
    """Ln likelihood of independent Poisson counts.

    Args:
        counts: (n,) observed counts, whole and not negative.
        model: (n,) or scalar expected counts, background included: rate * exposure * dt + background. Where it is
            zero (a gap) zero counts are certain, and any other number impossible.

    Returns:
        Ln probability of the counts, fully normalised; -inf where counts came although none were expected.

    Raises:
        ValueError: If the shapes do not match.

    References:
        Cash (1979), ApJ 228, 939, whose statistic is -2 ln L without the constant; Stingray's `PoissonLogLikelihood`.
    """
    counts, model = matched(counts=counts, model=model)
    some = counts > 0
    at = jnp.where(some, counts, 1.0)
    # ln n! and n ln(model) are large and cancel: what remains is the distance from the best model, and its height.
    excess = (jnp.where(some, model, 1.0) - at) / at
    peaked = at * log_ratio_excess(excess) + log_gamma_excess(at) - jnp.log(at)
    return jnp.where(some, peaked, -model).sum()
