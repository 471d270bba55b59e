"""Covariances that a state of a few numbers carries from one time to the next, and their power spectra.

A kernel is a sum of exponentials, damped oscillators and damped rotations. Kernels are pytrees: they can be made of
traced parameters, added with `+`, jitted and vmapped. Spectra are one-sided: their integral over all positive
frequencies is the variance. Names and parameters are those of `eagleray.simulators.state_space`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from eagleray.likelihoods.gaussian_process.transitions import oscillator_transition

# One scalar or vector for each attribute of a kind of terms; empty ones where there are no terms.
Terms = tuple[ArrayLike | tuple[()], ...]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Exponentials:
    """Terms variance exp(-rate t).

    Attributes:
        variance: (n,) variances.
        rate: (n,) decay rates [1/s].
    """

    variance: Float[Array, " n"]
    rate: Float[Array, " n"]

    def covariance(self, lag: Float[Array, " n_lag"]) -> Float[Array, " n_lag"]:
        """Sum of the terms at non-negative lags [s]."""
        return jnp.exp(-lag[:, None] * self.rate) @ self.variance

    def spectrum(self, freq: Float[Array, " n_freq"]) -> Float[Array, " n_freq"]:
        """One-sided spectrum at frequencies [Hz]."""
        omega = 2.0 * math.pi * freq[:, None]
        return (4.0 * self.rate / (self.rate**2 + omega**2)) @ self.variance


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Oscillators:
    """Damped oscillators driven by white noise.

    Attributes:
        variance: (n,) variances.
        freq: (n,) undamped frequencies [Hz].
        quality: (n,) quality factors.
    """

    variance: Float[Array, " n"]
    freq: Float[Array, " n"]
    quality: Float[Array, " n"]

    def covariance(self, lag: Float[Array, " n_lag"]) -> Float[Array, " n_lag"]:
        """Sum of the terms at non-negative lags [s]."""
        cosine, sine = oscillator_transition(2.0 * math.pi * self.freq * lag[:, None], self.quality)
        return (cosine + sine / (2.0 * self.quality)) @ self.variance

    def spectrum(self, freq: Float[Array, " n_freq"]) -> Float[Array, " n_freq"]:
        """One-sided spectrum at frequencies [Hz]."""
        square = (freq[:, None] / self.freq) ** 2
        height = 4.0 / (2.0 * math.pi * self.freq * self.quality)
        return (height / ((square - 1.0) ** 2 + square / self.quality**2)) @ self.variance


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotations:
    """Terms exp(-rate t) (cosine cos(2 pi freq t) + sine sin(2 pi freq t)), the general ones of celerite.

    Attributes:
        cosine: (n,) coefficients of the cosine, the variances.
        sine: (n,) coefficients of the sine.
        rate: (n,) decay rates [1/s].
        freq: (n,) frequencies [Hz].
    """

    cosine: Float[Array, " n"]
    sine: Float[Array, " n"]
    rate: Float[Array, " n"]
    freq: Float[Array, " n"]

    def covariance(self, lag: Float[Array, " n_lag"]) -> Float[Array, " n_lag"]:
        """Sum of the terms at non-negative lags [s]."""
        decay, phase = jnp.exp(-lag[:, None] * self.rate), 2.0 * math.pi * self.freq * lag[:, None]
        return (decay * jnp.cos(phase)) @ self.cosine + (decay * jnp.sin(phase)) @ self.sine

    def spectrum(self, freq: Float[Array, " n_freq"]) -> Float[Array, " n_freq"]:
        """One-sided spectrum at frequencies [Hz]."""
        total = jnp.zeros_like(freq)
        for sign in (-1.0, 1.0):
            omega = 2.0 * math.pi * (self.freq + sign * freq[:, None])
            total += 2.0 * ((self.cosine * self.rate + self.sine * omega) / (self.rate**2 + omega**2)).sum(-1)
        return total


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Kernel:
    """Autocovariance of a stationary process, a sum of terms; made by the functions of this module, added with `+`.

    Single terms may be negative as long as the whole, with the measurement noise, is a covariance.

    Attributes:
        exponentials: Terms with one number of state each.
        oscillators: Terms with two.
        rotations: Terms with two.
    """

    exponentials: Exponentials
    oscillators: Oscillators
    rotations: Rotations

    @property
    def n_states(self) -> int:
        """Numbers in the state; the cost of a likelihood grows as its square."""
        return self.exponentials.rate.shape[0] + 2 * (self.oscillators.freq.shape[0] + self.rotations.freq.shape[0])

    @property
    def variance(self) -> Float[Array, ""]:
        """Variance of the process."""
        return self.exponentials.variance.sum() + self.oscillators.variance.sum() + self.rotations.cosine.sum()

    def __add__(self, other: "Kernel") -> "Kernel":
        """Covariance of the sum of two independent processes."""
        if not isinstance(other, Kernel):
            return NotImplemented
        return jax.tree.map(lambda *both: jnp.concatenate(both), self, other)

    def covariance(self, lag: Float[Array, " n"]) -> Float[Array, " n"]:
        """Autocovariance.

        Args:
            lag: (n,) time lags of either sign [s].

        Returns:
            (n,) autocovariance, in the series' units squared.
        """
        lag = jnp.abs(lag)
        parts = (self.exponentials, self.oscillators, self.rotations)
        return sum((part.covariance(lag) for part in parts), start=jnp.zeros_like(lag))

    def spectrum(self, freq: Float[Array, " n"]) -> Float[Array, " n"]:
        """One-sided power spectrum.

        Args:
            freq: (n,) frequencies [Hz].

        Returns:
            (n,) power, in the series' units squared per hertz.
        """
        parts = (self.exponentials, self.oscillators, self.rotations)
        return sum((part.spectrum(freq) for part in parts), start=jnp.zeros_like(freq))


def damped_random_walk(sigma: ArrayLike, tau: ArrayLike) -> Kernel:
    """Damped random walk (Ornstein-Uhlenbeck process), autocovariance sigma^2 exp(-|t| / tau).

    Args:
        sigma: Standard deviation, in the series' units.
        tau: Damping time [s].

    References:
        Kelly, Bechtold & Siemiginowska (2009), ApJ 698, 895, equation 1.
    """
    return make_kernel(exponentials=(_real(sigma) ** 2, 1.0 / _real(tau)))


def damped_oscillator(sigma: ArrayLike, freq: ArrayLike, quality: ArrayLike) -> Kernel:
    """Damped harmonic oscillator driven by white noise (the SHO term of celerite).

    One-sided spectrum P(f) = 4 sigma^2 / (w0 Q) / ((x^2 - 1)^2 + x^2 / Q^2), x = f / freq, w0 = 2 pi freq; smooth
    through critical damping at Q = 1/2.

    Args:
        sigma: Standard deviation, in the series' units.
        freq: Undamped frequency [Hz].
        quality: Quality factor Q.

    References:
        Foreman-Mackey, Agol, Ambikasaran & Angus (2017), AJ 154, 220, equations 19-24.
    """
    return make_kernel(oscillators=(_real(sigma) ** 2, freq, quality))


def red_noise(amplitude: ArrayLike, rate: ArrayLike) -> Kernel:
    """Red noise in the parameters of Stingray's kernel "RN": amplitude exp(-rate |t|).

    Args:
        amplitude: Variance (Stingray's `arn`).
        rate: Decay rate [1/s] (Stingray's `crn`).

    References:
        Huebner et al. (2022), ApJ 936, 17.
    """
    return make_kernel(exponentials=(amplitude, rate))


def quasi_periodic(amplitude: ArrayLike, rate: ArrayLike, freq: ArrayLike) -> Kernel:
    """Oscillation in the parameters of Stingray's kernel "QPO": amplitude exp(-rate |t|) cos(2 pi freq t).

    Stingray's "QPO_plus_RN" is the sum of this and `red_noise`.

    Args:
        amplitude: Variance (Stingray's `aqpo`).
        rate: Decay rate [1/s] (Stingray's `cqpo`).
        freq: Frequency [Hz].

    References:
        Huebner et al. (2022), ApJ 936, 17.
    """
    return make_kernel(rotations=(amplitude, 0.0, rate, freq))


def carma(
    sigma: ArrayLike,
    *,
    decay_rates: Float[Array, " n_real"],
    widths: Float[Array, " n_pairs"],
    freqs: Float[Array, " n_pairs"],
    moving_average: Float[Array, " q"],
) -> Kernel:
    """Continuous autoregressive moving-average process CARMA(p, q), p = n_real + 2 n_pairs, q < p.

    The autoregressive polynomial is given by its roots, which must differ: a real root -r is a Lorentzian of half width
    r / (2 pi) centred on zero, a pair -pi w +- 2 pi i f one of full width w around f.

    Args:
        sigma: Standard deviation, in the series' units.
        decay_rates: (n_real,) decay rates of the real roots [1/s].
        widths: (n_pairs,) full widths of the oscillations [Hz].
        freqs: (n_pairs,) frequencies of the oscillations [Hz].
        moving_average: (q,) coefficients beta_1 to beta_q of 1 + beta_1 s + ... + beta_q s^q [s, s^2, ...].

    Raises:
        ValueError: If q >= p.

    References:
        Kelly et al. (2014), ApJ 788, 33, equation 4.
    """
    decay_rates, widths, freqs, moving_average = (_real(x) for x in (decay_rates, widths, freqs, moving_average))
    n_real, n_pairs, q = decay_rates.shape[0], freqs.shape[0], moving_average.shape[0]
    if q >= n_real + 2 * n_pairs:
        raise ValueError(f"moving_average must have fewer than p = {n_real + 2 * n_pairs} entries, got {q}")
    pairs = jax.lax.complex(-math.pi * widths, 2.0 * math.pi * freqs)
    roots = jnp.concatenate([jax.lax.complex(-decay_rates, jnp.zeros_like(decay_rates)), pairs])
    every = jnp.concatenate([roots, pairs.conj()])
    itself = jnp.arange(n_real + n_pairs)[:, None] == jnp.arange(n_real + 2 * n_pairs)
    factors = (every - roots[:, None]) * (every.conj() + roots[:, None])
    below = -2.0 * roots.real * jnp.prod(jnp.where(itself, 1.0, factors), -1)
    weights = _polynomial(roots, moving_average) * _polynomial(-roots, moving_average) / below
    real, oscillating = weights[:n_real].real, weights[n_real:]
    scale = _real(sigma) ** 2 / (real.sum() + 2.0 * oscillating.real.sum())
    return make_kernel(
        exponentials=(scale * real, decay_rates),
        rotations=(2.0 * scale * oscillating.real, -2.0 * scale * oscillating.imag, math.pi * widths, freqs),
    )


def make_kernel(
    *,
    exponentials: Terms = ((), ()),
    oscillators: Terms = ((), (), ()),
    rotations: Terms = ((), (), (), ()),
) -> Kernel:
    """Kernel of many terms at once, from what the attributes of each kind hold, in their order.

    Args:
        exponentials: variance, rate [1/s].
        oscillators: variance, freq [Hz], quality.
        rotations: cosine, sine, rate [1/s], freq [Hz]. Scalars are broadcast within each kind.
    """
    variance, rate = _vectors(exponentials)
    strength, freq, quality = _vectors(oscillators)
    cosine, sine, damping, rotation = _vectors(rotations)
    return Kernel(
        exponentials=Exponentials(variance=variance, rate=rate),
        oscillators=Oscillators(variance=strength, freq=freq, quality=quality),
        rotations=Rotations(cosine=cosine, sine=sine, rate=damping, freq=rotation),
    )


def _real(value: ArrayLike | tuple[()]) -> Array:
    """As an array of floats, in its own precision where it has one."""
    array = jnp.asarray(value)
    return array.astype(jnp.result_type(array, 1.0))


def _vectors(values: Terms) -> list[Array]:
    """Vectors of one length and type."""
    arrays = [jnp.atleast_1d(_real(value)) for value in values]
    dtype = jnp.result_type(*arrays)
    return [x.astype(dtype) for x in jnp.broadcast_arrays(*arrays)]


def _polynomial(s: Array, coefficients: Array) -> Array:
    """1 + beta_1 s + beta_2 s^2 + ..., by Horner's rule."""
    total = jnp.zeros_like(s)
    for k in reversed(range(coefficients.shape[0])):
        total = (total + coefficients[k].astype(s.dtype)) * s
    return total + 1.0
