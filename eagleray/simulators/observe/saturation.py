"""Telemetry saturation: events that the detector saw but that never reached the ground.

Two models, after the two ways in which instruments run out of telemetry. A cap per frame: the first `cap` events of
each frame are sent and the rest of the frame is lost. A buffer: events queue first in, first out and are sent at a
constant rate; those that find the queue full are lost until it has room again. Both keep events in order of arrival.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from eagleray.simulators.observe.events import is_valid
from eagleray.simulators.observe.running import running_max, running_sum


def frame_cap_mask(
    times: Float[Array, " n"], frame_time: float, cap: int, sent: Bool[Array, " n"] | None = None
) -> Bool[Array, " n"]:
    """Keep the first events of each frame.

    Args:
        times: (n,) sorted, padded times [s].
        frame_time: Length of a frame [s]; 1 for a cap per second.
        cap: Largest number of events in one frame.
        sent: (n,) events that reach the telemetry; all if None.

    Returns:
        (n,) True for transmitted events.
    """
    offered = is_valid(times) if sent is None else is_valid(times) & sent
    frame = jnp.floor(times / frame_time)
    is_new = jnp.concatenate([jnp.ones((1,), bool), frame[1:] != frame[:-1]])
    each = offered.astype(jnp.int32)
    before = running_sum(each) - each
    before_frame = running_max(jnp.where(is_new, before, 0))
    return offered & (before - before_frame < cap)


def buffer_mask(
    times: Float[Array, " n"],
    send_rate: Float[Array, ""] | float,
    capacity: int,
    sent: Bool[Array, " n"] | None = None,
) -> Bool[Array, " n"]:
    """Keep the events that find room in a buffer emptied at a constant rate.

    The level of the buffer falls by send_rate per second, not below zero, and rises by one with each event that still
    fits (level + 1 <= capacity): a continuous (fluid) leaky bucket, which starts empty.

    Args:
        times: (n,) sorted, padded times [s].
        send_rate: Events sent per second.
        capacity: Events that the buffer holds, at least 1.
        sent: (n,) events that reach the buffer; all if None.

    Returns:
        (n,) True for transmitted events.

    Raises:
        ValueError: If capacity is below 1.
    """
    if capacity < 1:
        raise ValueError(f"capacity must be at least 1 event, got {capacity!r}")
    offered = is_valid(times) if sent is None else is_valid(times) & sent
    gaps = jnp.diff(jnp.where(is_valid(times), times, 0), prepend=0)
    drained = jnp.maximum(gaps, 0) * send_rate

    def step(level: Float[Array, ""], event: tuple[Float[Array, ""], Bool[Array, ""]]):
        out, is_offered = event
        level = jnp.maximum(level - out, 0)
        kept = is_offered & (level + 1 <= capacity)
        return jnp.where(kept, level + 1, level), kept

    return lax.scan(step, jnp.zeros((), times.dtype), (drained, offered))[1]
