"""Event times by thinning: for a rate given as a function of time, without any grid."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from eagleray.records import Key
from eagleray.simulators.observe.events import Events, select_events, unit_exponentials
from eagleray.simulators.observe.running import running_sum


def events_by_thinning(
    key: Key,
    rate: Callable[[Float[Array, " n"]], Float[Array, " n"]],
    rate_max: Float[Array, ""],
    duration: float,
    max_candidates: int,
) -> tuple[Events, Bool[Array, ""]]:
    """Draw a Poisson process whose rate is any bounded function of time.

    Candidates of constant rate `rate_max` are kept with probability rate(t) / rate_max. Exact for any rate below the
    bound, however fast it varies: pulsations need no fine grid.

    Args:
        key: Typed PRNG key; consumed.
        rate: Function of (n,) times [s] that gives (n,) rates [counts/s].
        rate_max: Bound on the rate [counts/s]; its type is the type of the times.
        duration: Length of the window [s].
        max_candidates: Candidates to draw (static): `event_capacity(rate_max * duration)`.

    Returns:
        The events [s], and whether the rate exceeded its bound at any candidate: such a draw must not be used.

    References:
        Lewis & Shedler (1979), Naval Research Logistics 26, 403, theorem 1.
    """
    key_gaps, key_keep = jax.random.split(key)
    dtype = jnp.result_type(rate_max)
    candidates = running_sum(unit_exponentials(key_gaps, max_candidates, dtype)) / rate_max
    in_window = candidates < duration
    ratio = rate(jnp.where(in_window, candidates, 0)) / rate_max
    keep = in_window & (jax.random.uniform(key_keep, (max_candidates,), dtype) < ratio)
    chosen = select_events(candidates, keep)
    events = Events(times=chosen.times, n_events=chosen.n_events, overflow=in_window[-1])
    return events, jnp.any(in_window & (ratio > 1))
