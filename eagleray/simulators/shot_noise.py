"""Shot noise: pulses of one form that arrive at random, with Campbell's theorem for its moments and spectrum."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from scipy.fft import next_fast_len

from eagleray.records import Key, TimeGrid


@dataclasses.dataclass(frozen=True)
class ShotShape:
    """A pulse of unit area in units of its width, by what the simulation and Campbell's theorem need of it.

    Attributes:
        cumulative: Integral of the pulse up to x = t / width.
        squared_transfer: |Fourier transform|^2 at frequency times width; 1 at zero.
        squared_norm: Integral of the squared pulse.
    """

    cumulative: Callable[[Array], Array]
    squared_transfer: Callable[[Array], Array]
    squared_norm: float


def _decay(x: Array) -> Array:
    """exp(-x) for positive x, one for negative: safe to differentiate on both sides of a `where`."""
    return jnp.exp(-jnp.maximum(x, 0.0))


def _lorentz(x: Array) -> Array:
    """Squared transfer of a one-sided exponential."""
    return 1.0 / (1.0 + (2.0 * math.pi * x) ** 2)


_RISE = 0.1  # rise time of the fred shape, in decay times

SHAPES: dict[str, ShotShape] = {
    "exponential": ShotShape(lambda x: 1.0 - _decay(x), _lorentz, 0.5),
    "rising_exponential": ShotShape(lambda x: _decay(-x), _lorentz, 0.5),
    "two_sided_exponential": ShotShape(
        lambda x: jnp.where(x < 0, 0.5 * _decay(-x), 1.0 - 0.5 * _decay(x)), lambda x: _lorentz(x) ** 2, 0.25
    ),
    "gamma": ShotShape(lambda x: 1.0 - (1.0 + jnp.maximum(x, 0.0)) * _decay(x), lambda x: _lorentz(x) ** 2, 0.25),
    "fred": ShotShape(
        lambda x: 1.0 - (_decay(x) - _RISE * _decay(x / _RISE)) / (1.0 - _RISE),
        lambda x: _lorentz(x) * _lorentz(_RISE * x),
        0.5 / (1.0 + _RISE),
    ),
    "rectangular": ShotShape(lambda x: jnp.clip(x, 0.0, 1.0), lambda x: jnp.sinc(x) ** 2, 1.0),
    "gaussian": ShotShape(
        lambda x: 0.5 * (1.0 + jax.lax.erf(x * math.sqrt(0.5))),
        lambda x: jnp.exp(-((2.0 * math.pi * x) ** 2)),
        0.5 / math.sqrt(math.pi),
    ),
}
"""Shot shapes by name. The width is the decay time, the length (rectangular) or the standard deviation (gaussian)."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ShotNoise:
    """A draw of shot noise.

    Attributes:
        rate: (n_bins,) mean rate in each bin.
        complete: Whether the shots drawn reach the end of the window; if not, `n_shots` was too small and the end of
            the light curve lacks shots.
    """

    rate: Float[Array, " n_bins"]
    complete: Bool[Array, ""]


def shot_noise(
    key: Key,
    *,
    shot_rate: Float[Array, ""],
    width: Float[Array, ""],
    area: Float[Array, ""],
    area_scatter: Float[Array, ""],
    grid: TimeGrid,
    shape: str = "exponential",
    n_shots: int,
    before: float,
    after: float = 0.0,
) -> ShotNoise:
    """Draw a light curve made of shots with Poisson arrivals.

    Arrivals are the running sum of exponential waiting times, so that they, and with them the light curve, are smooth
    functions of all parameters. Each shot is shared between two neighbouring bins in proportion to its place in the bin
    and convolved with the bin-averaged pulse: exact in mean, and second order in dt / width in its form.

    Args:
        key: Typed PRNG key; consumed.
        shot_rate: Expected shots per second [1/s].
        width: Width of a shot [s].
        area: Mean integral of a shot [counts].
        area_scatter: Standard deviation of the natural logarithm of the area; 0 for equal shots.
        grid: Time bins (static).
        shape: Name of a shape in `SHAPES` (static).
        n_shots: Largest number of shots (static); take mean plus six standard deviations of
            shot_rate * (before + duration + after).
        before: Time before the window from which shots still reach into it [s] (static): several widths.
        after: The same after the window, for shapes that rise before their arrival [s] (static).

    Returns:
        Rate [counts/s], and whether the shots reach the end.

    Raises:
        ValueError: If the shape is unknown, or a time is negative.

    References:
        Terrell (1972), ApJ 174, L35; Sutherland, Weisskopf & Kahn (1978), ApJ 219, 1029.
    """
    if shape not in SHAPES:
        raise ValueError(f"shape must be one of {sorted(SHAPES)}, got {shape!r}")
    if not (before >= 0 and after >= 0):
        raise ValueError(f"before and after must not be negative (seconds), got {before!r} and {after!r}")
    n_before, n_after = math.ceil(before / grid.dt), math.ceil(after / grid.dt)
    n_all = n_before + grid.n_bins + n_after
    key_wait, key_area = jax.random.split(key)
    waits = jax.random.exponential(key_wait, (n_shots,), width.dtype)
    position = jnp.cumsum(waits) / (shot_rate * grid.dt)  # in bins since the beginning of the extended window
    score = jax.random.normal(key_area, (n_shots,), width.dtype)
    areas = area * jnp.exp(area_scatter * score - 0.5 * area_scatter**2)

    inside = position < n_all
    first = jnp.where(inside, position, 0.0).astype(jnp.int32)
    fraction = position - first.astype(width.dtype)
    held = jnp.where(inside, areas, 0.0)
    impulses = jnp.zeros(n_all + 1, width.dtype)
    impulses = impulses.at[first].add(held * (1.0 - fraction)).at[first + 1].add(held * fraction)

    n_transform: Any = next_fast_len(2 * (n_all + 1), real=True)  # SciPy's hint says None
    lags = np.fft.fftfreq(n_transform, 1.0 / n_transform)
    edges = jnp.asarray(np.stack([lags, lags + 1.0]) * grid.dt, width.dtype) / width
    cumulative = SHAPES[shape].cumulative(edges)
    kernel = (cumulative[1] - cumulative[0]) / grid.dt
    transform = jnp.fft.rfft(kernel) * jnp.fft.rfft(impulses, n_transform)
    rate = jnp.fft.irfft(transform, n_transform)[n_before : n_before + grid.n_bins]
    # The transform rounds zero to about 1e-7 of the peak, of either sign; a rate is never negative.
    return ShotNoise(rate=jnp.maximum(rate, 0.0), complete=position[-1] >= n_all)


def shot_noise_mean(shot_rate: Float[Array, ""], area: Float[Array, ""]) -> Float[Array, ""]:
    """Mean of shot noise, by Campbell's theorem [counts/s].

    Args:
        shot_rate: Expected shots per second [1/s].
        area: Mean integral of a shot [counts].

    Returns:
        Mean rate.

    References:
        Campbell (1909); Rice (1944), Bell System Technical Journal 23, 282, equation 1.4-1.
    """
    return shot_rate * area


def shot_noise_variance(
    shot_rate: Float[Array, ""],
    width: Float[Array, ""],
    area: Float[Array, ""],
    area_scatter: Float[Array, ""],
    shape: str = "exponential",
) -> Float[Array, ""]:
    """Variance of shot noise in bins much shorter than a shot, by Campbell's theorem [(counts/s)^2].

    Args:
        shot_rate: Expected shots per second [1/s].
        width: Width of a shot [s].
        area: Mean integral of a shot [counts].
        area_scatter: Standard deviation of the natural logarithm of the area.
        shape: Name of a shape in `SHAPES` (static).

    Returns:
        Variance of the rate.

    References:
        Rice (1944), Bell System Technical Journal 23, 282, equation 1.5-5, with areas of mean square
        area^2 exp(area_scatter^2).
    """
    return shot_rate * area**2 * jnp.exp(area_scatter**2) * SHAPES[shape].squared_norm / width


def shot_noise_spectrum(
    freq: Float[Array, " n"],
    *,
    shot_rate: Float[Array, ""],
    width: Float[Array, ""],
    area: Float[Array, ""],
    area_scatter: Float[Array, ""],
    shape: str = "exponential",
) -> Float[Array, " n"]:
    """One-sided power spectrum of shot noise [(counts/s)^2/Hz].

    Args:
        freq: (n,) positive frequencies [Hz].
        shot_rate: Expected shots per second [1/s].
        width: Width of a shot [s].
        area: Mean integral of a shot [counts].
        area_scatter: Standard deviation of the natural logarithm of the area.
        shape: Name of a shape in `SHAPES` (static).

    Returns:
        (n,) power.

    References:
        Rice (1944), Bell System Technical Journal 23, 282, equation 2.6-8.
    """
    transfer = SHAPES[shape].squared_transfer(freq * width)
    return 2.0 * shot_rate * area**2 * jnp.exp(area_scatter**2) * transfer
