"""Exact likelihood of the intervals between recorded events of a steady source, dead time unknown or varying.

Behind non-paralyzable dead time the recorded events of a steady source are a renewal process: every interval is a dead
time and an exponential waiting time. A fixed dead time gives a shifted exponential; dead times that scatter normally
give an ex-Gaussian, the sum of a normal and an exponential variable. What lies between the last event and the end of a
good time interval is an interval cut short, and enters by the probability that it is longer.

The normal distribution of dead times must lie well above zero (NuSTAR: mean 2.54 ms, standard deviation 0.21 ms).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy import special

from eagleray.records import AnyArray, EventList

Scalar = Float[Array, ""] | float
LogFunction = Callable[[Float[Array, " n"]], Float[Array, " n"]]
"""Intervals [s] -> ln density, or ln probability of a longer one, of each."""

# Chebyshev series in (x - c) / (x + c) of (1 + 2 x) erfcx(x), smooth and between 1 and 1.3 on x >= 0: the map and
# the factor are those of Shepherd & Laframboise (1981), Math. Comp. 36, 249.
_CENTRE = 3.75
_N_CHEBYSHEV = 24


def _scaled_erfcx(x: Any) -> Any:
    """(1 + 2 x) erfcx(x) of the Chebyshev variable, its limit at infinity included."""
    at = _CENTRE * (1.0 + x) / np.maximum(1.0 - x, 1e-300)
    return (1.0 + 2.0 * at) * special.erfcx(at)


_COEFFICIENTS = tuple(map(float, np.polynomial.chebyshev.chebinterpolate(_scaled_erfcx, _N_CHEBYSHEV)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Intervals:
    """Intervals between recorded events of the same detector, not across gaps.

    Attributes:
        complete: (n,) intervals between consecutive events [s].
        censored: (n_last,) times from the last event of each good time interval to its end [s]: the next event came
            later than that.
    """

    complete: Float[AnyArray, " n"]
    censored: Float[AnyArray, " n_last"]


def recorded_intervals(events: EventList | Sequence[EventList]) -> Intervals:
    """Intervals between the events of one or more detectors (host).

    The time before the first event of each good time interval is not used: whether the detector was live when the
    interval began is not known, and given the first event the rest does not depend on it.

    Args:
        events: Recorded events of one detector, or of each.

    Returns:
        Intervals in JAX's default floating type, differences of float64 times.

    Raises:
        ValueError: If times are not sorted.
    """
    complete, censored = [np.zeros(0)], [np.zeros(0)]
    for one in [events] if isinstance(events, EventList) else events:
        times = np.asarray(one.times, np.float64)
        if np.any(np.diff(times) < 0):
            raise ValueError("times must be sorted")
        for low, high in np.asarray(one.gti, np.float64):
            inside = times[np.searchsorted(times, low) : np.searchsorted(times, high)]
            complete.append(np.diff(inside))
            censored.append(high - inside[-1:])
    return Intervals(
        complete=jnp.asarray(np.concatenate(complete), float), censored=jnp.asarray(np.concatenate(censored), float)
    )


def renewal_log_likelihood(
    intervals: Intervals, log_density: LogFunction, log_survival: LogFunction
) -> Float[Array, ""]:
    """Ln likelihood of the intervals of a renewal process, given the first event of each good time interval.

    Args:
        intervals: Complete intervals and those cut short.
        log_density: Intervals -> ln density of each [ln 1/s].
        log_survival: Intervals -> ln probability of a longer one.
    """
    complete, censored = jnp.asarray(intervals.complete), jnp.asarray(intervals.censored)
    return log_density(complete).sum() + log_survival(censored).sum()


def fixed_dead_time_log_likelihood(intervals: Intervals, *, rate: Scalar, dead_time: Scalar) -> Float[Array, ""]:
    """Ln likelihood of intervals of a steady source behind a fixed dead time.

    Args:
        intervals: Complete intervals and those cut short.
        rate: Incident rate [counts/s].
        dead_time: Dead time [s].

    Returns:
        Ln likelihood; -inf where the dead time is longer than the shortest interval.
    """
    return renewal_log_likelihood(
        intervals,
        lambda x: shifted_exponential_log_density(x, rate=rate, dead_time=dead_time),
        lambda x: shifted_exponential_log_survival(x, rate=rate, dead_time=dead_time),
    )


def scattered_dead_time_log_likelihood(
    intervals: Intervals, *, rate: Scalar, mean: Scalar, sd: Scalar
) -> Float[Array, ""]:
    """Ln likelihood of intervals of a steady source behind dead times that scatter normally.

    Args:
        intervals: Complete intervals and those cut short.
        rate: Incident rate [counts/s].
        mean: Mean dead time [s].
        sd: Standard deviation of the dead times [s], positive.
    """
    return renewal_log_likelihood(
        intervals,
        lambda x: ex_gaussian_log_density(x, rate=rate, mean=mean, sd=sd),
        lambda x: ex_gaussian_log_survival(x, rate=rate, mean=mean, sd=sd),
    )


def shifted_exponential_log_density(x: Float[Array, " n"], *, rate: Scalar, dead_time: Scalar) -> Float[Array, " n"]:
    """Ln density of dead time plus an exponential waiting time; -inf below the dead time.

    Args:
        x: (n,) intervals [s].
        rate: Incident rate [counts/s].
        dead_time: Dead time [s].
    """
    waited = x - dead_time
    return jnp.where(waited >= 0, jnp.log(rate) - rate * waited, -jnp.inf)


def shifted_exponential_log_survival(x: Float[Array, " n"], *, rate: Scalar, dead_time: Scalar) -> Float[Array, " n"]:
    """Ln probability that an interval behind a fixed dead time is longer than each x.

    Args:
        x: (n,) intervals [s].
        rate: Incident rate [counts/s].
        dead_time: Dead time [s].
    """
    return -rate * jnp.maximum(x - dead_time, 0)


def ex_gaussian_log_density(x: Float[Array, " n"], *, rate: Scalar, mean: Scalar, sd: Scalar) -> Float[Array, " n"]:
    """Ln density of the sum of a normal and an exponential variable.

    With d = (x - mean) / sd and u = d - rate sd it is ln rate - rate (x - mean) + (rate sd)^2 / 2 + ln Phi(u). Below
    u = 0 the large terms cancel; there it is ln(rate / 2) - d^2 / 2 + ln erfcx(-u / sqrt 2), which loses nothing.

    Args:
        x: (n,) intervals [s].
        rate: Rate of the exponential [1/s].
        mean: Mean of the normal [s].
        sd: Standard deviation of the normal [s], positive.

    Returns:
        (n,) ln density [ln 1/s], that of `scipy.stats.exponnorm(K=1 / (rate sd), loc=mean, scale=sd)`.

    References:
        Grushka (1972), Analytical Chemistry 44, 1733.
    """
    scaled = (x - mean) / sd
    below = scaled - rate * sd
    right = below > 0
    # Each branch gets harmless numbers where the other one is taken, so that no gradient is NaN.
    over = jnp.where(right, below, 1.0)
    under = jnp.where(right, -1.0, below)
    tail = jnp.log1p(-0.5 * jax.scipy.special.erfc(over * math.sqrt(0.5))) - rate * sd * (over + 0.5 * rate * sd)
    rise = log_erfcx(-under * math.sqrt(0.5)) - 0.5 * (under + rate * sd) ** 2 - math.log(2.0)
    return jnp.log(rate) + jnp.where(right, tail, rise)


def ex_gaussian_log_survival(x: Float[Array, " n"], *, rate: Scalar, mean: Scalar, sd: Scalar) -> Float[Array, " n"]:
    """Ln probability that the sum of a normal and an exponential variable exceeds each x.

    Args:
        x: (n,) intervals [s].
        rate: Rate of the exponential [1/s].
        mean: Mean of the normal [s].
        sd: Standard deviation of the normal [s], positive.
    """
    # Either the normal alone exceeds x, or the exponential makes up for the rest: density / rate.
    waiting = ex_gaussian_log_density(x, rate=rate, mean=mean, sd=sd) - jnp.log(rate)
    return jnp.logaddexp(jax.scipy.special.log_ndtr((mean - x) / sd), waiting)


@jax.jit
def log_erfcx(x: Float[Array, " n"]) -> Float[Array, " n"]:
    """Ln of the scaled complementary error function, exp(x^2) erfc(x), for x >= 0.

    Good to rounding in float32 and float64, its derivative too (that of `jax.scipy.special.erfcx` is a difference of
    numbers of the order of x).

    Args:
        x: (n,) arguments, not negative.

    References:
        Shepherd & Laframboise (1981), Mathematics of Computation 36, 249.
    """
    mapped = (x - _CENTRE) / (x + _CENTRE)
    first = second = jnp.zeros_like(mapped)
    for coefficient in reversed(_COEFFICIENTS[1:]):  # Clenshaw's recurrence
        first, second = coefficient + 2.0 * mapped * first - second, first
    return jnp.log(_COEFFICIENTS[0] + mapped * first - second) - jnp.log1p(2.0 * x)
