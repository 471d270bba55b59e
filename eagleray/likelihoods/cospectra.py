"""Likelihoods and significances of cospectra: the real part of the cross spectrum of two detectors or bands.

Where the two share no signal, one cospectral power has a Laplace distribution, and the mean of m of them the density

    f(c) = (m / s) g(m |c| / s),  g(y) = y^(m - 1/2) K_(m - 1/2)(y) / (sqrt(pi) Gamma(m) 2^(m - 1/2)),

where s is half the geometric mean of the two noise powers (1 in Leahy norm) and K the modified Bessel function. With a
signal in common it is the difference of two Gamma variables of different scale, and so skewed. For independent noise,
dead time leaves the mean of a cospectrum at zero, which is why cospectra are used.

Numbers of averages m are whole, from 1 to any size: up to 15 the Bessel function is summed by its recurrence, above by
the uniform expansion for large orders, exact to 3e-12.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Complex, Float
from numpy.polynomial import Polynomial
from scipy import special, stats

from eagleray.likelihoods.arguments import OneOrEach, Values, at_least, log_ratio_excess, matched
from eagleray.records import AnyArray

_EXPANSION_FROM = 16
_N_TERMS = 8
_N_NEWTON = 30


def averaged_cospectra(cospectrum: Values, model: OneOrEach, m: OneOrEach) -> Float[Array, ""]:
    """Ln likelihood of averaged cospectra of two series that share no signal.

    Args:
        cospectrum: (n,) observed cospectral powers, each the mean of m, of either sign; Nyquist left out.
        model: (n,) or scalar expected noise power, the geometric mean of that of the two series, in the norm of
            the cospectrum: 2 in Leahy norm without dead time.
        m: Cospectral powers averaged in each, whole and at least 1: one number, or (n,).

    Returns:
        Ln probability density of the cospectrum, fully normalised. For m = 1 it is that of the Laplace distribution of
        scale model / 2, whose slope jumps at zero; there the gradient by the cospectrum is that of one side.

    Raises:
        ValueError: If the shapes do not match, or an m that is known while tracing is below 1 or not whole.

    References:
        Huppenkothen & Bachetti (2018), ApJS 236, 13.
    """
    at_least("m", m, 1, whole=True)
    cospectrum, model, m = matched(cospectrum=cospectrum, model=model, m=m)
    steepness = 2.0 * m / model
    return (jnp.log(steepness) + _log_bessel_density(steepness * jnp.abs(cospectrum), m)).sum()


def averaged_cospectra_with_signal(
    cospectrum: Values,
    model1: OneOrEach,
    model2: OneOrEach,
    model_cross: Complex[AnyArray, " n"] | Complex[AnyArray, ""] | OneOrEach,
    m: OneOrEach,
) -> Float[Array, ""]:
    """Ln likelihood of averaged cospectra of two Gaussian series, whatever they share.

    Where the powers and the imaginary part were kept, `eagleray.likelihoods.wishart` uses them too.

    Args:
        cospectrum: (n,) observed cospectral powers, each the mean of m; Nyquist left out.
        model1: (n,) or scalar expected power of the first series, noise included, in the norm of the cospectrum.
        model2: (n,) or scalar expected power of the second series.
        model_cross: (n,) or scalar expected cross spectrum, complex; |model_cross|^2 < model1 model2.
        m: Cospectral powers averaged in each, whole and at least 1: one number, or (n,).

    Returns:
        Ln probability density of the cospectrum, fully normalised. Without a cross spectrum it is
        `averaged_cospectra(cospectrum, sqrt(model1 * model2), m)`.

    Raises:
        ValueError: If the shapes do not match, or an m that is known while tracing is below 1 or not whole.

    References:
        Kotz, Kozubowski & Podgorski (2001), The Laplace Distribution and Generalizations (Birkhauser), chapter 4 (the
        Bessel function distribution); without signal Huppenkothen & Bachetti (2018), ApJS 236, 13.
    """
    at_least("m", m, 1, whole=True)
    real, imaginary = jnp.real(model_cross), jnp.imag(model_cross)
    cospectrum, model1, model2, real, imaginary, m = matched(
        cospectrum=cospectrum, model1=model1, model2=model2, real=real, imaginary=imaginary, m=m
    )
    # The cospectrum is (a X - b Y) / m, X and Y Gamma(m): a - b = real, and (a + b)^2 = total, a b = product / 4.
    total = model1 * model2 - imaginary * imaginary
    product = total - real * real
    steepness = 2.0 * m * jnp.sqrt(total) / product
    tilt = 2.0 * m * real / product
    body = _log_bessel_density(steepness * jnp.abs(cospectrum), m)
    return (jnp.log(steepness) + m * jnp.log1p(-real * real / total) + tilt * cospectrum + body).sum()


def cospectrum_log_survival(
    cospectrum: Float[AnyArray, "*shape"], model: Float[AnyArray, "*shape"] | float, m: Any
) -> Float[Array, "*shape"]:
    """Ln probability that noise gives a higher averaged cospectral power: the ln p-value of one trial.

    Args:
        cospectrum: (*shape) cospectral powers.
        model: (*shape) or scalar expected noise power, as in `averaged_cospectra`: 2 in Leahy norm.
        m: Cospectral powers averaged in each, whole and at least 1: one number, or (*shape) (static).

    Returns:
        (*shape) ln probabilities, exact far into the tail, with their derivative by cospectrum and model.

    Raises:
        ValueError: If the shapes do not match, or m is below 1, not whole, or not known while tracing.

    References:
        Huppenkothen & Bachetti (2018), ApJS 236, 13, whose equation 19 is the distribution function. Stingray's
        `cospectra_pvalue` takes a normal distribution above m = 50, which is too small in the tail.
    """
    cospectrum, model = matched(cospectrum=cospectrum, model=model)
    averages = _fixed(m, cospectrum.shape)
    return _log_survival(averages, jnp.asarray(2.0 * averages.array, cospectrum.dtype) * cospectrum / model)


def cospectrum_cdf(
    cospectrum: Float[AnyArray, "*shape"], model: Float[AnyArray, "*shape"] | float, m: Any
) -> Float[Array, "*shape"]:
    """Probability that noise gives an averaged cospectral power of at most this size.

    Args:
        cospectrum: (*shape) cospectral powers.
        model: (*shape) or scalar expected noise power, as in `averaged_cospectra`: 2 in Leahy norm.
        m: Cospectral powers averaged in each, whole and at least 1: one number, or (*shape) (static).

    Returns:
        (*shape) probabilities.

    Raises:
        ValueError: If the shapes do not match, or m is below 1, not whole, or not known while tracing.

    References:
        Huppenkothen & Bachetti (2018), ApJS 236, 13, equation 19.
    """
    return jnp.exp(cospectrum_log_survival(-jnp.asarray(cospectrum), model, m))


def cospectrum_threshold(
    p_value: Float[AnyArray, "*shape"], model: Float[AnyArray, "*shape"] | float, m: Any
) -> Float[Array, "*shape"]:
    """Averaged cospectral power that noise exceeds with a given probability: a detection threshold.

    Args:
        p_value: (*shape) probability of a false alarm in one trial, above 0 and up to 0.5; divide by the number of
            frequencies searched.
        model: (*shape) or scalar expected noise power, as in `averaged_cospectra`: 2 in Leahy norm.
        m: Cospectral powers averaged in each, whole and at least 1: one number, or (*shape) (static).

    Returns:
        (*shape) thresholds, zero or positive, in the unit of the model; NaN where p_value is out of range.

    Raises:
        ValueError: If the shapes do not match, or m is below 1, not whole, or not known while tracing.

    References:
        Huppenkothen & Bachetti (2018), ApJS 236, 13.
    """
    p_value, model = matched(p_value=p_value, model=model)
    averages = _fixed(m, p_value.shape)
    n_averages = jnp.asarray(averages.array, p_value.dtype)
    target = jnp.log(jnp.where((p_value > 0) & (p_value <= 0.5), p_value, jnp.nan))

    # The ln survival is concave: from zero, Newton's first step goes too far, and all others approach from above.
    def newton(_: Any, y: Array) -> Array:
        log_survival = _log_survival(averages, y)
        slope = -jnp.exp(_log_bessel_density(y, n_averages) - log_survival)
        return jnp.maximum(y - (log_survival - target) / slope, 0.0)

    y = jax.lax.fori_loop(0, _N_NEWTON, newton, jnp.zeros_like(target))
    return y * model / (2.0 * n_averages)


def _log_bessel_density(y: Float[Array, "*shape"], m: Float[Array, "*m"]) -> Float[Array, "*shape"]:
    """Ln g(y) of the module's docstring, y >= 0."""
    large = m >= _EXPANSION_FROM
    order = jnp.where(large, m - 0.5, _EXPANSION_FROM - 0.5)
    return jnp.where(large, _expanded(y, order), _recurred(y, m))


def _expanded(y: Array, order: Array) -> Array:
    """Uniform expansion for large orders; what is large in K and in Gamma(m) is cancelled by hand.

    References:
        NIST Digital Library of Mathematical Functions, 10.41.4, 10.41.9 and 10.41.10.
    """
    ratio = y / order
    square = ratio * ratio
    root = jnp.sqrt(1.0 + square)
    half = 0.5 * square / (1.0 + root)  # (root - 1) / 2 without loss
    step, inverse_square = -1.0 / (order * root), 1.0 / (1.0 + square)
    correction = jnp.zeros_like(y)
    for coefficients in reversed(_debye_polynomials()):
        value = functools.reduce(lambda total, c: total * inverse_square + c, reversed(coefficients), 0.0)
        correction = (correction + value) * step
    exponent = order * (log_ratio_excess(half) - half)
    small = 1.0 / (order * order)
    tail = 1.0 / 24 - small * (7.0 / 2880 - small * (31.0 / 40320 - small * (127.0 / 215040)))
    constant = tail / order - 0.5 * jnp.log(order) - 0.5 * math.log(4.0 * math.pi)
    return exponent - 0.5 * jnp.log(root) + jnp.log1p(correction) + constant


def _recurred(y: Array, m: Array) -> Array:
    """Recurrence of the Bessel functions of half-integer order, as ratios of neighbours (all terms are positive)."""

    def step(carry: tuple[Array, Array], k: Array) -> tuple[tuple[Array, Array], None]:
        ratio, total = carry
        ratio = 2.0 * k - 1.0 + y * y / ratio
        return (ratio, total + jnp.where(k < m, jnp.log(ratio / (2.0 * k)), 0.0)), None

    ratio = 1.0 + y
    start = (ratio, jnp.where(m > 1, jnp.log(0.5 * ratio), 0.0) + jnp.zeros_like(y))
    (_, total), _ = jax.lax.scan(step, start, jnp.arange(2, _EXPANSION_FROM - 1, dtype=y.dtype))
    return total - y - math.log(2.0)


@functools.cache
def _debye_polynomials() -> tuple[tuple[float, ...], ...]:
    """Coefficients of u_1(t) / t, u_2(t) / t^2, ... of the expansion, in ascending powers of t^2 = 1 / (1 + x^2)."""
    polynomials = [Polynomial([1.0])]
    for _ in range(_N_TERMS):
        last = polynomials[-1]
        polynomials.append(
            Polynomial([0.0, 0.0, 0.5, 0.0, -0.5]) * last.deriv() + (Polynomial([1.0, 0.0, -5.0]) * last).integ() / 8.0
        )
    return tuple(tuple(map(float, p.coef[k::2])) for k, p in enumerate(polynomials) if k)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _log_survival(averages: "_Averages", y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Ln of the integral of g from y to infinity: Poisson terms in |y| weighted by negative binomial probabilities."""
    n_terms = int(max(averages.values))
    m = averages.array[..., None]
    order = np.arange(n_terms, dtype=np.float64)
    log_weight = stats.nbinom.logcdf(m - 1.0 - order, m, 0.5)  # -inf for terms beyond the m-th
    whole = np.maximum(order, 1.0)
    log_height = whole * np.log(whole) - whole - special.gammaln(whole + 1.0)
    size = jnp.abs(y)[..., None]
    at = jnp.asarray(whole, y.dtype)
    later = at * log_ratio_excess((size - at) / at) + jnp.asarray(log_height, y.dtype)
    terms = jnp.where(order == 0, -size, later) + jnp.asarray(log_weight, y.dtype)
    upper = jax.nn.logsumexp(terms, axis=-1)
    return jnp.where(y >= 0, upper, jnp.log1p(-jnp.exp(upper)))


@_log_survival.defjvp
def _log_survival_jvp(averages: "_Averages", primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """The derivative is the density over the survival."""
    (y,), (dy,) = primals, tangents
    value = _log_survival(averages, y)
    log_density = _log_bessel_density(jnp.abs(y), jnp.asarray(averages.array, y.dtype))
    return value, -jnp.exp(log_density - value) * dy


class _Averages(NamedTuple):
    """Numbers of averages as JAX can hold them fixed: hashable."""

    values: tuple[float, ...]
    shape: tuple[int, ...]

    @property
    def array(self) -> np.ndarray:
        """The array they came from."""
        return np.asarray(self.values, np.float64).reshape(self.shape)


def _fixed(m: Any, shape: tuple[int, ...]) -> _Averages:
    """Numbers of averages that the number of terms of a sum depends on."""
    if isinstance(m, Tracer):
        raise ValueError("m must be known while tracing, got a traced value")
    at_least("m", m, 1, whole=True)
    array = np.asarray(m, np.float64)
    if array.shape not in ((), shape):
        raise ValueError(f"m must have shape () or {shape}, got {array.shape}")
    return _Averages(tuple(map(float, array.ravel())), array.shape)
