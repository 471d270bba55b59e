"""Monotonic rational-quadratic splines, elementwise, with linear tails."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

_MIN_WIDTH = 1e-3
_MIN_DERIVATIVE = 1e-3


def n_spline_parameters(n_bins: int) -> int:
    """Free numbers of one spline: widths, heights, and derivatives at the inner knots."""
    return 3 * n_bins - 1


def spline_forward(
    x: Float[Array, " n"], parameters: Float[Array, "n n_parameters"], bound: float
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Map x through one spline per element; the identity outside [-bound, bound].

    Args:
        x: (n,) inputs.
        parameters: (n, 3 n_bins - 1) unconstrained; all zero gives the identity.
        bound: Half-width of the interval that bends.

    Returns:
        (n,) outputs and (n,) ln |dy/dx|.

    References:
        Durkan et al. (2019), Neural Spline Flows, equations 4-5; Gregory & Delbourgo (1982).
    """
    inside = jnp.abs(x) < bound
    within = jnp.where(inside, x, 0.0)
    x0, width, y0, height, slope, d0, d1 = _bin_of(within, parameters, bound, by_height=False)
    t = (within - x0) / width
    denominator = slope + (d1 + d0 - 2.0 * slope) * t * (1.0 - t)
    y = y0 + height * (slope * t**2 + d0 * t * (1.0 - t)) / denominator
    log_det = _log_derivative(t, slope, d0, d1, denominator)
    return jnp.where(inside, y, x), jnp.where(inside, log_det, 0.0)


def spline_inverse(
    y: Float[Array, " n"], parameters: Float[Array, "n n_parameters"], bound: float
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Inverse of `spline_forward`, with ln |dx/dy|.

    References:
        Durkan et al. (2019), Neural Spline Flows, equations 6-8 and appendix A.
    """
    inside = jnp.abs(y) < bound
    within = jnp.where(inside, y, 0.0)
    x0, width, y0, height, slope, d0, d1 = _bin_of(within, parameters, bound, by_height=True)
    rise = within - y0
    curvature = d1 + d0 - 2.0 * slope
    a = height * (slope - d0) + rise * curvature
    b = height * d0 - rise * curvature
    c = -slope * rise
    # The stable root: b is positive, so nothing cancels; float32 can leave the discriminant just below zero.
    t = 2.0 * c / (-b - jnp.sqrt(jnp.maximum(b**2 - 4.0 * a * c, 0.0)))
    x = x0 + t * width
    denominator = slope + curvature * t * (1.0 - t)
    log_det = _log_derivative(t, slope, d0, d1, denominator)
    return jnp.where(inside, x, y), jnp.where(inside, -log_det, 0.0)


def _log_derivative(t: Array, slope: Array, d0: Array, d1: Array, denominator: Array) -> Array:
    """Durkan et al. (2019), equation 5, as a logarithm."""
    numerator = slope**2 * (d1 * t**2 + 2.0 * slope * t * (1.0 - t) + d0 * (1.0 - t) ** 2)
    return jnp.log(numerator) - 2.0 * jnp.log(denominator)


def _knots(parameters: Array, bound: float) -> tuple[Array, Array, Array, Array]:
    """Left edges and sizes of the bins in x and y."""
    n_bins = (parameters.shape[-1] + 1) // 3
    widths = _sizes(parameters[..., :n_bins], bound)
    heights = _sizes(parameters[..., n_bins : 2 * n_bins], bound)
    left_x = jnp.cumsum(widths, axis=-1) - widths - bound
    left_y = jnp.cumsum(heights, axis=-1) - heights - bound
    return left_x, widths, left_y, heights


def _sizes(parameters: Array, bound: float) -> Array:
    """Positive sizes that fill the interval."""
    n_bins = parameters.shape[-1]
    return 2.0 * bound * (_MIN_WIDTH + (1.0 - _MIN_WIDTH * n_bins) * jax.nn.softmax(parameters, axis=-1))


def _bin_of(value: Array, parameters: Array, bound: float, *, by_height: bool) -> tuple[Array, ...]:
    """The bin that holds each value; picked by a mask, since gathers differentiate to slow scatters on a CPU."""
    left_x, widths, left_y, heights = _knots(parameters, bound)
    left = left_y if by_height else left_x
    reached = (value[..., None] >= left).at[..., 0].set(True)
    following = jnp.pad(reached[..., 1:], [(0, 0)] * (reached.ndim - 1) + [(0, 1)], constant_values=False)
    mask = (reached & ~following).astype(value.dtype)

    def pick(array: Array, mask: Array = mask) -> Array:
        return (array * mask).sum(axis=-1)

    # The numbers behind the derivatives are picked first, so that two derivatives are computed and not all.
    inner = parameters[..., 2 * widths.shape[-1] :]
    first, last = mask[..., 0] > 0, mask[..., -1] > 0
    width, height = pick(widths), pick(heights)
    return (
        pick(left_x),
        width,
        pick(left_y),
        height,
        height / width,
        jnp.where(first, 1.0, _derivative(pick(inner, mask[..., 1:]))),
        jnp.where(last, 1.0, _derivative(pick(inner, mask[..., :-1]))),
    )


def _derivative(number: Array) -> Array:
    """Derivative at an inner knot from an unconstrained number; 1 from 0."""
    # softplus(offset) = 1 - _MIN_DERIVATIVE.
    offset = jnp.log(jnp.expm1(jnp.asarray(1.0 - _MIN_DERIVATIVE, number.dtype)))
    return _MIN_DERIVATIVE + jax.nn.softplus(number + offset)
