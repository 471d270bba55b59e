"""Phases of many cycles, right to about a millionth of a cycle in float32.

A float32 number of 1e8 cycles (a kilohertz for a day) knows nothing of the fraction of a cycle. So times and trial
frequencies are split on the host, from float64, into parts of 12 bits. Products of two parts are exact in float32, and
each is reduced to its fraction of a cycle before they are added. With float64 enabled there is one part, the number
itself. Times are offsets from the epoch of the frequencies; at 1e9 s and 1 kHz float64 itself is wrong by 1e-4 cycles.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from eagleray.records import AnyArray

_Result = TypeVar("_Result")

_KEPT_BITS = 12
_N_PARTS = 4
_PHASES_AT_ONCE = 1 << 20
"""Phases held at a time by `TrialPhases.map`: 4 MB in float32."""


def pulse_phase(
    times: Float64[np.ndarray, " n"], freqs: Sequence[float] | Float64[np.ndarray, " n_terms"], *, phase: float = 0.0
) -> Float64[np.ndarray, " n"]:
    """Pulse phase of each time, on the host in float64.

    phase + f_0 t + f_1 t^2 / 2 + f_2 t^3 / 6 + ..., without its whole cycles.

    Args:
        times: (n,) times from the epoch of the frequencies [s].
        freqs: (n_terms,) frequency and its derivatives at the epoch [Hz, Hz/s, ...].
        phase: Phase at the epoch [cycles].

    Returns:
        (n,) phase in [0, 1) cycles, wrong by about 1e-16 of the number of cycles.
    """
    times = np.asarray(times, np.float64)
    total = np.full(times.shape, float(phase))
    for k, freq in enumerate(freqs, start=1):
        total = total + np.remainder(float(freq) * times**k / math.factorial(k), 1.0)
    # A negative number smaller than the rounding of one is reduced to one itself.
    reduced = np.remainder(total, 1.0)
    return np.where(reduced < 1.0, reduced, 0.0)


def shifted_phase(
    phase: Float[Array, " n"], offsets: Float[Array, " n_terms"], times: Float[Array, " n"]
) -> Float[Array, " n"]:
    """Phase at frequencies slightly off those it was made with; differentiable by the offsets.

    Args:
        phase: (n,) phase at the reference frequencies, such as `pulse_phase` [cycles].
        offsets: (n_terms,) what to add to the frequency and its derivatives [Hz, Hz/s, ...].
        times: (n,) times from the epoch [s].

    Returns:
        (n,) phase [cycles], not reduced. In float32 it is wrong by 6e-8 of the cycles that the offsets add.
    """
    shift = jnp.zeros_like(times)
    for k in range(offsets.shape[0], 0, -1):
        shift = (shift + offsets[k - 1] / math.factorial(k)) * times
    return phase + shift


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrialPhases:
    """Times and trial frequencies, split so that the phase of each time at each trial is exact.

    Attributes:
        time_parts: (n_terms, n_parts, n_times) parts of t^k / k!.
        freq_parts: (*trials, n_terms, n_parts) parts of the frequencies and derivatives of each trial.
    """

    time_parts: Float[AnyArray, "n_terms n_parts n_times"]
    freq_parts: Float[AnyArray, "*trials n_terms n_parts"]

    def map(self, function: Callable[[Float[Array, " n_times"]], _Result]) -> _Result:
        """Apply a function to the phases of one trial, for every trial.

        Args:
            function: Takes the (n_times,) phases of a trial [cycles], in [-1/2, 1/2]; gives an array or a pytree.

        Returns:
            What the function gives, with the shape of the trials in front.
        """
        *trials, n_terms, n_parts = self.freq_parts.shape
        times = jnp.asarray(self.time_parts)
        flat = jnp.asarray(self.freq_parts).reshape(-1, n_terms, n_parts)
        batch = max(1, min(flat.shape[0], _PHASES_AT_ONCE // max(1, times.shape[-1])))
        result = jax.lax.map(lambda freq: function(_phase(freq, times)), flat, batch_size=batch)
        return jax.tree.map(lambda leaf: leaf.reshape(*trials, *leaf.shape[1:]), result)


def trial_phases(
    times: Float64[np.ndarray, " n_times"], freqs: Float64[np.ndarray, "*trials"], *derivatives: float | np.ndarray
) -> TrialPhases:
    """Split times and trial frequencies on the host.

    Args:
        times: (n_times,) times from the epoch of the frequencies [s].
        freqs: Trial frequencies [Hz], of any shape.
        *derivatives: Trial frequency derivatives [Hz/s, ...], each broadcast against `freqs`.

    Returns:
        The trials, of the common shape of frequencies and derivatives.
    """
    times = np.asarray(times, np.float64)
    terms = np.stack(np.broadcast_arrays(*(np.asarray(f, np.float64) for f in (freqs, *derivatives))), axis=-1)
    powers = np.stack([times**k / math.factorial(k) for k in range(1, terms.shape[-1] + 1)])
    return TrialPhases(time_parts=_split(powers, axis=1), freq_parts=_split(terms, axis=-1))


def _split(values: Float64[np.ndarray, "..."], axis: int) -> np.ndarray:
    """Numbers as sums of parts of 12 bits along a new axis; as they are where float64 is enabled."""
    dtype = jnp.result_type(float)
    if dtype == jnp.float64:
        return np.expand_dims(values, axis)
    parts, rest = [], values
    for _ in range(_N_PARTS):
        mantissa, exponent = np.frexp(rest)
        part = np.ldexp(np.rint(np.ldexp(mantissa, _KEPT_BITS)), exponent - _KEPT_BITS)
        parts.append(part)
        rest = rest - part
    return np.stack(parts, axis).astype(dtype)


def _phase(freq: Float[Array, "n_terms n_parts"], times: Float[Array, "n_terms n_parts n_times"]) -> Array:
    """Phase of each time at one trial, within half a cycle of zero."""
    n_terms, n_parts, n_times = times.shape
    total = jnp.zeros(n_times, times.dtype)
    for term in range(n_terms):
        for i in range(n_parts):
            for j in range(n_parts - i):  # the rest is below 2^-48 of the whole
                product = freq[term, i] * times[term, j]
                total = total + (product - jnp.round(product))
    return total - jnp.round(total)
