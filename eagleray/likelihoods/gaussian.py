"""Likelihoods of values with independent symmetric errors: normal, and double exponential."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from eagleray.likelihoods.arguments import OneOrEach, Values, matched
from eagleray.records import AnyArray


def gaussian(
    values: Values,
    model: OneOrEach,
    error: OneOrEach,
    *,
    mask: Bool[AnyArray, " n"] | None = None,
) -> Float[Array, ""]:
    """Ln likelihood of values with independent normal errors.

    Args:
        values: (n,) observed values.
        model: (n,) or scalar expected values.
        error: (n,) or scalar standard deviations, positive where the mask is True; they may depend on parameters.
        mask: (n,) True for values that count; all if None. Gaps of a light curve, whose error is zero, are left out so.

    Returns:
        Ln probability density of the values, fully normalised.

    Raises:
        ValueError: If the shapes do not match.

    References:
        Stingray's `GaussianLogLikelihood`.
    """
    values, model, error = matched(values=values, model=model, error=error)
    score = (values - model) / _safe(error, mask)
    terms = -0.5 * score * score - jnp.log(_safe(error, mask)) - 0.5 * math.log(2.0 * math.pi)
    return _total(terms, mask)


def laplace(
    values: Values,
    model: OneOrEach,
    scale: OneOrEach,
    *,
    mask: Bool[AnyArray, " n"] | None = None,
) -> Float[Array, ""]:
    """Ln likelihood of values whose independent errors have a Laplace (double exponential) distribution.

    Args:
        values: (n,) observed values.
        model: (n,) or scalar medians.
        scale: (n,) or scalar mean absolute deviations, positive where the mask is True: the standard deviations
            divided by sqrt 2.
        mask: (n,) True for values that count; all if None.

    Returns:
        Ln probability density of the values, fully normalised. Its slope jumps where the model crosses a value.

    Raises:
        ValueError: If the shapes do not match.

    References:
        Stingray's `LaplaceLogLikelihood`. For a cospectrum it holds only where the bands are independent: see
        `eagleray.likelihoods.cospectra`.
    """
    values, model, scale = matched(values=values, model=model, scale=scale)
    scale = _safe(scale, mask)
    return _total(-jnp.abs(values - model) / scale - jnp.log(2.0 * scale), mask)


def _safe(scale: Array, mask: Bool[AnyArray, " n"] | None) -> Array:
    """One where nothing counts, so that neither value nor gradient is spoilt by a zero there."""
    if mask is None:
        return scale
    if scale.shape not in ((), mask.shape):
        raise ValueError(f"mask must have shape {scale.shape}, got {mask.shape}")
    return jnp.where(mask, scale, 1.0)


def _total(terms: Array, mask: Bool[AnyArray, " n"] | None) -> Float[Array, ""]:
    """Sum of the terms that count."""
    if mask is None:
        return terms.sum()
    if mask.shape != terms.shape:
        raise ValueError(f"mask must have shape {terms.shape}, got {mask.shape}")
    return jnp.where(mask, terms, 0.0).sum()
