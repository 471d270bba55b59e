"""Pulsations: phases exact to a millionth of a cycle, binary orbits, pulse profiles.

A float32 phase of 1e8 cycles (a kilohertz for a day) knows nothing of the fraction of a cycle. So phases are never
formed whole: times are split on the host, from float64, into parts of 12 bits, so is each coefficient, products of
parts are exact in float32, and each is reduced to its fraction before they are added. What remains:

- spin phase, any frequency and its derivatives, any duration: < 2e-6 cycles a term, given the coefficients as they are
  (the float32 nearest to 1000.1 Hz is another frequency than 1000.1 Hz: for a spin known to more digits pass the offset
  from a reference as the parameter, `reference`);
- orbital delay: a float32 delay of x light-seconds is good to 1e-6 x, so the phase to 1e-6 freq x cycles: 1e-3 cycles
  for freq x < 1000, e.g. 600 Hz and 1.6 light-seconds. Beyond it, run in float64.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.records import TimeGrid

_N_PARTS = 4
_KEPT_BITS = 12


class SplitTimes(NamedTuple):
    """Powers t^k / k! of float64 times, each as a sum of float32 parts of 12 bits.

    Attributes:
        parts: (n_terms, 4, n) parts of t^k / k!, k = 1 to n_terms [s^k].
        exact: (n_terms, n) the same as float64, for use when float64 is enabled.
    """

    parts: NDArray[np.float32]
    exact: NDArray[np.float64]


def split_times(times: NDArray[np.float64], n_terms: int = 1) -> SplitTimes:
    """Split times on the host for exact phases.

    Args:
        times: (n,) times from the epoch of the ephemeris [s], float64.
        n_terms: Number of spin terms (frequency and n_terms - 1 derivatives) that will be asked for.

    Returns:
        Split powers of the times.

    Raises:
        ValueError: If n_terms is below one.
    """
    if n_terms < 1:
        raise ValueError(f"n_terms must be at least 1, got {n_terms!r}")
    times = np.asarray(times, np.float64)
    exact = np.stack([times**k / math.factorial(k) for k in range(1, n_terms + 1)])
    parts, rest = [], exact
    for _ in range(_N_PARTS):
        mantissa, exponent = np.frexp(rest)
        part = np.ldexp(np.rint(np.ldexp(mantissa, _KEPT_BITS)), exponent - _KEPT_BITS)
        parts.append(part)
        rest = rest - part
    return SplitTimes(np.stack(parts, 1).astype(np.float32), exact)


def grid_times(grid: TimeGrid, n_terms: int = 1) -> SplitTimes:
    """Split bin centres of a grid, from the start of the window.

    Args:
        grid: Time bins.
        n_terms: Number of spin terms.

    Returns:
        Split powers of the bin centres.
    """
    return split_times(grid.times, n_terms)


def cycles(coefficient: Float[Array, ""], times: SplitTimes, term: int = 1) -> Float[Array, " n"]:
    """Fraction of a cycle of coefficient * t^term / term!.

    Args:
        coefficient: Frequency [Hz] for term 1, its first derivative [Hz/s] for term 2, and so on.
        times: Split times (static).
        term: Which power (static).

    Returns:
        (n,) phase in cycles, in (-1/2, 1/2]; its derivative by the coefficient is t^term / term!.

    Raises:
        ValueError: If the times were split for fewer terms.

    References:
        Dekker (1971), Numerische Mathematik 18, 224, on exact products.
    """
    if not 1 <= term <= times.exact.shape[0]:
        raise ValueError(f"term must be between 1 and n_terms = {times.exact.shape[0]}, got {term}")
    parts = times.parts if coefficient.dtype == jnp.float32 else times.exact[:, None]
    return _cycles(coefficient, jnp.asarray(parts[term - 1], coefficient.dtype))


def spin_phase(
    freqs: Float[Array, " n_terms"], times: SplitTimes, *, phase: Float[Array, ""], reference: float = 0.0
) -> Float[Array, " n"]:
    """Phase of a spin with frequency derivatives.

    phase + (reference + f_0) t + f_1 t^2 / 2 + f_2 t^3 / 6 + ...

    Args:
        freqs: (n_terms,) f_0 [Hz], f_1 [Hz/s], f_2 [Hz/s^2], ... at time zero.
        times: Split times, with at least n_terms powers (static).
        phase: Phase at time zero [cycles].
        reference: Part of the frequency that is known and held fixed, in float64 [Hz] (static).

    Returns:
        (n,) phase in cycles, within half a cycle of zero for each term: reduce before comparing.

    Raises:
        ValueError: If the times were split for fewer terms.
    """
    known = np.remainder(reference * times.exact[0], 1.0) if reference else np.zeros_like(times.exact[0])
    total = phase + jnp.asarray(known, freqs.dtype)
    for k in range(freqs.shape[0]):
        total = total + cycles(freqs[k], times, k + 1)
    return total


def eccentric_anomaly(
    mean_anomaly: Float[Array, " n"], eccentricity: Float[Array, ""], n_iterations: int = 6
) -> Float[Array, " n"]:
    """Solve Kepler's equation E - e sin E = M by a fixed number of Newton steps.

    Args:
        mean_anomaly: (n,) mean anomaly [rad], any value.
        eccentricity: Eccentricity, 0 to 0.95.
        n_iterations: Newton steps (static); 6 reach rounding for e <= 0.95.

    Returns:
        (n,) eccentric anomaly [rad], on the branch of M reduced to (-pi, pi].

    References:
        Danby (1988), Fundamentals of Celestial Mechanics, section 6.6 (starting value E = M + 0.85 e sign(sin M)).
    """
    reduced = 2.0 * math.pi * _fraction(mean_anomaly / (2.0 * math.pi))

    def newton(_: int, anomaly: Array) -> Array:
        residual = anomaly - eccentricity * jnp.sin(anomaly) - reduced
        return anomaly - residual / (1.0 - eccentricity * jnp.cos(anomaly))

    start = reduced + 0.85 * eccentricity * jnp.sign(jnp.sin(reduced))
    # A Newton step from the solution stays there and has the solution's own derivative: one is enough for gradients.
    found = jax.lax.stop_gradient(jax.lax.fori_loop(0, n_iterations - 1, newton, start))
    return newton(0, found)


def roemer_delay(
    times: SplitTimes,
    *,
    orbital_freq: Float[Array, ""],
    size: Float[Array, ""],
    periastron_phase: Float[Array, ""],
    eccentricity: Float[Array, ""],
    periastron: Float[Array, ""],
    n_iterations: int = 4,
) -> Float[Array, " n"]:
    """Light travel time across a binary orbit, at the time of arrival.

    R = x [(cos E - e) sin w + sqrt(1 - e^2) sin E cos w], taken at the time of emission t - R(t_em), found by a fixed
    number of substitutions: each shrinks the error by the orbital velocity over that of light.

    Args:
        times: Split arrival times (static).
        orbital_freq: Orbital frequency [Hz].
        size: Projected semi-major axis x = a sin(i) / c [s].
        periastron_phase: Orbital phase at time zero, counted from periastron [cycles].
        eccentricity: Eccentricity, 0 (circular) to 0.95.
        periastron: Longitude of periastron w [rad].
        n_iterations: Substitutions, to which a Newton step is added (static).

    Returns:
        (n,) delay [s]: the pulse seen at t was emitted at t - delay, in the frame of the binary's centre of mass.

    References:
        Blandford & Teukolsky (1976), ApJ 205, 580, equations 2.2-2.5.
    """
    at_arrival = periastron_phase + cycles(orbital_freq, times)
    sine, cosine = jnp.sin(periastron), jnp.cos(periastron)
    minor = jnp.sqrt(1.0 - eccentricity**2)

    def at_emission(delay: Array) -> Array:
        anomaly = eccentric_anomaly(2.0 * math.pi * (at_arrival - orbital_freq * delay), eccentricity)
        return size * ((jnp.cos(anomaly) - eccentricity) * sine + minor * jnp.sin(anomaly) * cosine)

    def substitute(_: int, delay: Array) -> Array:
        return at_emission(delay)

    start = jnp.zeros_like(at_arrival)
    found = jax.lax.stop_gradient(jax.lax.fori_loop(0, n_iterations, substitute, start))
    value, slope = jax.jvp(at_emission, (found,), (jnp.ones_like(found),))
    return found + (value - found) / jax.lax.stop_gradient(1.0 - slope)


def delayed_phase(
    phase: Float[Array, " n"],
    freqs: Float[Array, " n_terms"],
    delay: Float[Array, " n"],
    times: SplitTimes,
    *,
    reference: float = 0.0,
) -> Float[Array, " n"]:
    """Spin phase at the time of emission, from that at arrival and the delay between them.

    Args:
        phase: (n,) `spin_phase` at arrival [cycles].
        freqs: (n_terms,) frequency and derivatives at time zero, as for `spin_phase`.
        delay: (n,) delay [s].
        times: Split arrival times (static).
        reference: As for `spin_phase` (static).

    Returns:
        (n,) phase [cycles]: a Taylor series in the delay of as many terms as there are frequencies.
    """
    n_terms = freqs.shape[0]
    powers = [jnp.ones_like(delay)] + [jnp.asarray(times.exact[k], delay.dtype) for k in range(n_terms - 1)]
    change = jnp.zeros_like(delay)
    for j in range(1, n_terms + 1):
        # j-th derivative of the phase at arrival: f_{j-1} + f_j t + f_{j+1} t^2 / 2 + ...
        derivative = sum((freqs[k] * powers[k - j + 1] for k in range(j - 1, n_terms)), start=jnp.zeros_like(delay))
        derivative = derivative + (reference if j == 1 else 0.0)
        change = change + derivative * (-delay) ** j / math.factorial(j)
    return phase + change


def harmonic_profile(
    phase: Float[Array, " n"], amplitudes: Float[Array, " k"], phases: Float[Array, " k"]
) -> Float[Array, " n"]:
    """Pulse profile of harmonics, 1 + sum_j a_j cos(2 pi (j phase - phi_j)).

    Args:
        phase: (n,) phase [cycles].
        amplitudes: (k,) fractional amplitudes of harmonics 1 to k; their sum is at most one for a rate that is never
            negative.
        phases: (k,) phases of the harmonics [cycles of the harmonic].

    Returns:
        (n,) profile of mean one.
    """
    order = jnp.arange(1, amplitudes.shape[0] + 1, dtype=phase.dtype)
    angle = 2.0 * math.pi * (order[None] * _fraction(phase)[:, None] - phases[None])
    return 1.0 + jnp.sum(amplitudes[None] * jnp.cos(angle), -1)


def von_mises_profile(phase: Float[Array, " n"], concentration: Float[Array, ""]) -> Float[Array, " n"]:
    """Pulse profile of one peak at phase zero, exp(k cos(2 pi phase)) / I_0(k).

    Args:
        phase: (n,) phase [cycles].
        concentration: k; the peak's width is about 1 / (2 pi sqrt(k)) cycles.

    Returns:
        (n,) positive profile of mean one.
    """
    angle = 2.0 * math.pi * _fraction(phase)
    return jnp.exp(concentration * (jnp.cos(angle) - 1.0)) / jax.scipy.special.i0e(concentration)


def smeared_amplitudes(amplitudes: Float[Array, " k"], freq: Float[Array, ""], dt: float) -> Float[Array, " k"]:
    """Amplitudes of harmonics after averaging over bins, a_j sinc(j freq dt).

    Args:
        amplitudes: (k,) fractional amplitudes of harmonics 1 to k.
        freq: Pulse frequency [Hz].
        dt: Bin width [s].

    Returns:
        (k,) amplitudes to give to `harmonic_profile` when the phases are those of bin centres.

    References:
        van der Klis (1989), in Timing Neutron Stars, NATO ASI C262, 27, equation 4.7.
    """
    order = jnp.arange(1, amplitudes.shape[0] + 1, dtype=amplitudes.dtype)
    return amplitudes * jnp.sinc(order * freq * dt)


def pulsed_rate(
    freqs: Float[Array, " n_terms"],
    times: SplitTimes,
    *,
    mean_rate: Float[Array, ""],
    phase: Float[Array, ""],
    amplitudes: Float[Array, " k"],
    phases: Float[Array, " k"],
    delay: Float[Array, " n"] | None = None,
    reference: float = 0.0,
) -> Float[Array, " n"]:
    """Count rate of a pulsar at given times.

    Args:
        freqs: (n_terms,) spin frequency and its derivatives at time zero [Hz, Hz/s, ...].
        times: Split times, with at least n_terms powers (static).
        mean_rate: Mean rate [counts/s].
        phase: Phase at time zero [cycles].
        amplitudes: (k,) fractional amplitudes of the harmonics.
        phases: (k,) phases of the harmonics [cycles].
        delay: (n,) delay [s], such as `roemer_delay`; none if not given.
        reference: Part of the frequency held fixed in float64 [Hz] (static).

    Returns:
        (n,) rate [counts/s].
    """
    at_arrival = spin_phase(freqs, times, phase=phase, reference=reference)
    if delay is not None:
        at_arrival = delayed_phase(at_arrival, freqs, delay, times, reference=reference)
    return mean_rate * harmonic_profile(at_arrival, amplitudes, phases)


def _fraction(phase: Array) -> Array:
    """What remains after the nearest whole cycle; exact in floating point."""
    return phase - jax.lax.stop_gradient(jnp.round(phase))


@jax.custom_jvp
def _cycles(coefficient: Array, parts: Array) -> Array:
    """Fraction of coefficient * sum(parts).

    In float32 every product below has at most 24 bits, so it is exact. The coefficient is cut by masking bits, not by
    arithmetic, which a compiler may fuse and thereby undo.
    """
    halves: tuple[Array, ...] = (coefficient,)
    if coefficient.dtype == jnp.float32:
        bits = jax.lax.bitcast_convert_type(coefficient, jnp.uint32)
        high = jax.lax.bitcast_convert_type(bits & jnp.uint32(0xFFFFF000), jnp.float32)
        halves = (high, coefficient - high)
    total = jnp.zeros_like(parts[0])
    for half in halves:
        for part in parts:
            total = total + _fraction(half * part)
    return _fraction(total)


@_cycles.defjvp
def _cycles_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """The slope of the phase before it was reduced; the parts of the times are constants."""
    coefficient, parts = primals
    return _cycles(coefficient, parts), tangents[0] * parts.sum(0)
