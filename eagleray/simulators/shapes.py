"""Power-spectral shapes: power as a function of frequency, with named scalar parameters.

Powers are products of exponentials of log-frequency: XLA's `pow` is many times slower than `exp` on a CPU. Shapes whose
parameter is called `rms` are normalised to it: they integrate to rms^2 over all positive frequencies. The others are
shapes up to a factor, to be scaled by `norm`, a product with `constant`, or by the rms of the light curve.

`eagleray.simulators.spectrum` composes these functions into models.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

Freq = Float[Array, " n"]
Power = Float[Array, " n"]
Scalar = Float[Array, ""]


def power_law(freq: Freq, *, slope: Scalar) -> Power:
    """Power law, `freq ** -slope`.

    Args:
        freq: (n,) positive frequencies [Hz].
        slope: Slope; positive for red noise.

    Returns:
        (n,) power, 1 at 1 Hz.
    """
    return jnp.exp(-slope * jnp.log(freq))


def bending_power_law(freq: Freq, *, slope_low: Scalar, slope_high: Scalar, bend_freq: Scalar) -> Power:
    """Power law that bends smoothly from one slope to another.

    P(f) = (f / f_b)^-slope_low / (1 + (f / f_b)^(slope_high - slope_low)).

    Args:
        freq: (n,) positive frequencies [Hz].
        slope_low: Slope far below the bend.
        slope_high: Slope far above the bend.
        bend_freq: Bend frequency f_b [Hz].

    Returns:
        (n,) power, 1/2 at the bend.

    References:
        McHardy et al. (2004), MNRAS 348, 783, equation 3.
    """
    log_ratio = jnp.log(freq) - jnp.log(bend_freq)
    return jnp.exp(-slope_low * log_ratio) / (1.0 + jnp.exp((slope_high - slope_low) * log_ratio))


def double_bending_power_law(
    freq: Freq,
    *,
    slope_low: Scalar,
    slope_middle: Scalar,
    slope_high: Scalar,
    bend_freq_low: Scalar,
    bend_freq_high: Scalar,
) -> Power:
    """Power law with two smooth bends, as of a hard-state or AGN spectrum.

    P(f) = (f / f_1)^-slope_low / (1 + (f / f_1)^(slope_middle - slope_low))
           / (1 + (f / f_2)^(slope_high - slope_middle)).

    Args:
        freq: (n,) positive frequencies [Hz].
        slope_low: Slope below the lower bend.
        slope_middle: Slope between the bends.
        slope_high: Slope above the upper bend.
        bend_freq_low: Lower bend f_1 [Hz].
        bend_freq_high: Upper bend f_2 [Hz].

    Returns:
        (n,) power, about 1/2 at the lower bend.

    References:
        McHardy et al. (2004), MNRAS 348, 783, equation 3, with a second bend.
    """
    upper = jnp.exp((slope_high - slope_middle) * (jnp.log(freq) - jnp.log(bend_freq_high)))
    lower = bending_power_law(freq, slope_low=slope_low, slope_high=slope_middle, bend_freq=bend_freq_low)
    return lower / (1.0 + upper)


def smooth_broken_power_law(
    freq: Freq, *, norm: Scalar, slope_low: Scalar, slope_high: Scalar, break_freq: Scalar
) -> Power:
    """Smoothly broken power law; Stingray's `smoothbknpo` and `SmoothBrokenPowerLaw`.

    P(f) = norm f^-slope_low (1 + (f / f_b)^2)^((slope_low - slope_high) / 2).

    Args:
        freq: (n,) positive frequencies [Hz].
        norm: Power of the low-frequency power law at 1 Hz.
        slope_low: Slope far below the break.
        slope_high: Slope far above the break.
        break_freq: Break frequency f_b [Hz].

    Returns:
        (n,) power, in units of `norm`.
    """
    log_freq = jnp.log(freq)
    log_bend = jnp.logaddexp(0.0, 2.0 * (log_freq - jnp.log(break_freq)))
    return norm * jnp.exp(-slope_low * log_freq + 0.5 * (slope_low - slope_high) * log_bend)


def lorentzian(freq: Freq, *, centre: Scalar, fwhm: Scalar, peak: Scalar) -> Power:
    """Lorentzian given by its peak; astropy's `Lorentz1D`.

    Args:
        freq: (n,) frequencies [Hz].
        centre: Frequency of the peak [Hz].
        fwhm: Full width at half maximum [Hz].
        peak: Power at the centre.

    Returns:
        (n,) power, in units of `peak`.
    """
    score = (freq - centre) / (0.5 * fwhm)
    return peak / (1.0 + score * score)


def generalized_lorentzian(freq: Freq, *, centre: Scalar, fwhm: Scalar, peak: Scalar, exponent: Scalar) -> Power:
    """Lorentzian with free wings; Stingray's `generalized_lorentzian` and `GeneralizedLorentz1D`.

    P(f) = peak (w/2)^n / (|f - f_0|^n + (w/2)^n): half the peak at f_0 +- w/2 for every n.

    Args:
        freq: (n,) frequencies [Hz].
        centre: Frequency of the peak f_0 [Hz].
        fwhm: Full width at half maximum w [Hz].
        peak: Power at the centre.
        exponent: Slope n of the wings, positive; 2 is a Lorentzian.

    Returns:
        (n,) power, in units of `peak`.
    """
    score = jnp.abs(freq - centre) / (0.5 * fwhm)
    at_centre = score == 0
    # The logarithm must be finite at the centre too, or its gradient there is NaN.
    wings = jnp.exp(exponent * jnp.log(jnp.where(at_centre, 1.0, score)))
    return peak / (1.0 + jnp.where(at_centre, 0.0, wings))


def zero_centred_lorentzian(freq: Freq, *, rms: Scalar, half_width: Scalar) -> Power:
    """Lorentzian centred on zero frequency: band-limited noise.

    Args:
        freq: (n,) frequencies [Hz].
        rms: Root of the integral over all positive frequencies.
        half_width: Half width at half maximum, which is also nu_max [Hz].

    Returns:
        (n,) power [rms^2/Hz].

    References:
        Belloni, Psaltis & van der Klis (2002), ApJ 572, 392, equation 1 with nu_0 = 0.
    """
    score = freq / half_width
    return rms * rms * (2.0 / math.pi) / (half_width * (1.0 + score * score))


def nu_max_lorentzian(freq: Freq, *, nu_max: Scalar, q: Scalar, rms: Scalar) -> Power:
    """Lorentzian in characteristic frequency, quality factor and rms.

    With half width d and centre nu_0: nu_max^2 = nu_0^2 + d^2 and Q = nu_0 / (2 d). The rms is that over positive
    frequencies; Belloni et al.'s r is over all frequencies, rms^2 = r^2 (1/2 + arctan(2 Q) / pi).

    Args:
        freq: (n,) frequencies [Hz].
        nu_max: Frequency at which f P(f) peaks [Hz].
        q: Quality factor, 0 (centred on zero) or more.
        rms: Root of the integral over all positive frequencies.

    Returns:
        (n,) power [rms^2/Hz].

    References:
        Belloni, Psaltis & van der Klis (2002), ApJ 572, 392, equations 1-3.
    """
    half_width = nu_max / jnp.sqrt(1.0 + 4.0 * q * q)
    score = (freq - 2.0 * q * half_width) / half_width
    positive_part = 0.5 + jnp.arctan(2.0 * q) / math.pi
    return rms * rms / (positive_part * math.pi * half_width * (1.0 + score * score))


def qpo(
    freq: Freq, *, nu_max: Scalar, q: Scalar, rms: Scalar, ratio_half: Scalar, ratio_2: Scalar, ratio_3: Scalar
) -> Power:
    """Quasi-periodic oscillation with subharmonic, second and third harmonic, all of the same quality factor.

    Args:
        freq: (n,) frequencies [Hz].
        nu_max: Characteristic frequency of the fundamental [Hz].
        q: Quality factor.
        rms: rms of the fundamental.
        ratio_half: rms of the peak at half the frequency, over that of the fundamental.
        ratio_2: rms of the second harmonic, over that of the fundamental.
        ratio_3: rms of the third harmonic, over that of the fundamental.

    Returns:
        (n,) power [rms^2/Hz].

    References:
        Ingram & Motta (2019), New Astronomy Reviews 85, 101524, section 2: types and harmonics of QPOs.
    """
    members = ((1.0, 1.0), (0.5, ratio_half), (2.0, ratio_2), (3.0, ratio_3))
    return sum(
        (nu_max_lorentzian(freq, nu_max=multiple * nu_max, q=q, rms=ratio * rms) for multiple, ratio in members),
        start=jnp.zeros_like(freq),
    )


def constant(freq: Freq, *, level: Scalar) -> Power:
    """Constant power, as of white noise.

    Args:
        freq: (n,) frequencies [Hz].
        level: Power at every frequency.

    Returns:
        (n,) power.
    """
    return level + jnp.zeros_like(freq)


@functools.cache
def scaled(shape: Callable[..., Power]) -> Callable[..., Power]:
    """A shape given by its power at a pivot frequency; the same function at every call, so that it can be static.

    With the pivot in the middle of the data, norm and slopes are nearly independent; a norm at 1 Hz or at a bend, which
    may be far from all data, is not.

    Args:
        shape: Function `(freq, *, parameters...) -> power`.

    Returns:
        Function `(freq, *, norm, pivot, parameters...) -> power`: the shape times a factor, with power `norm` at
        frequency `pivot` [Hz].
    """

    def through_pivot(freq: Freq, *, norm: Scalar, pivot: Scalar, **others: Scalar) -> Power:
        return norm * (shape(freq, **others) / shape(pivot, **others))

    freq, *others = inspect.signature(shape).parameters.values()
    own = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("norm", "pivot")]
    through_pivot.__signature__ = inspect.Signature([freq, *own, *others])  # type: ignore[attr-defined]
    through_pivot.__name__ = f"scaled_{shape.__name__}"
    return through_pivot


@dataclasses.dataclass(frozen=True)
class Tabulated:
    """A shape read from a table: straight lines between its points in log-log, continued at both ends as constants.

    Hashable, so that it can be a static part of a compiled simulator. Call it like any other shape.

    Attributes:
        freq: Increasing positive frequencies [Hz].
        power: Positive powers.
    """

    freq: tuple[float, ...]
    power: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse tables that cannot be interpolated in log-log."""
        if len(self.freq) != len(self.power) or len(self.freq) < 2:
            raise ValueError(
                f"freq and power must have the same length, 2 or more, got {len(self.freq)} and {len(self.power)}"
            )
        if not (self.freq[0] > 0 and all(low < high for low, high in zip(self.freq, self.freq[1:], strict=False))):
            raise ValueError(f"freq must be positive and increasing, got {self.freq!r}")
        if not all(power > 0 for power in self.power):
            raise ValueError(f"power must be positive, got {self.power!r}")

    def __call__(self, freq: Freq, *, norm: Scalar) -> Power:
        """Interpolate the table.

        Args:
            freq: (n,) positive frequencies [Hz].
            norm: Factor on the tabulated powers.

        Returns:
            (n,) power.
        """
        table_freq = jnp.log(jnp.asarray(self.freq, freq.dtype))
        table_power = jnp.log(jnp.asarray(self.power, freq.dtype))
        return norm * jnp.exp(jnp.interp(jnp.log(freq), table_freq, table_power))
