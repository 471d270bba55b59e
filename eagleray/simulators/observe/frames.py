"""Detectors read out in frames: quantised times, transfer gaps, and a toy model of pile-up."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from eagleray.records import Key
from eagleray.simulators.observe.events import Number, is_valid, padding_time


def frame_index(times: Float[Array, " n"], frame_time: float, n_frames: int) -> Int[Array, " n"]:
    """Find the frame in which each event falls.

    Args:
        times: (n,) padded times [s].
        frame_time: Time from one read-out to the next [s].
        n_frames: Number of frames (static).

    Returns:
        (n,) int32 frame number; n_frames for padding and for times outside the frames.
    """
    scaled = jnp.floor(times / frame_time)
    inside = (scaled >= 0) & (scaled < n_frames)
    return jnp.where(inside, scaled, n_frames).astype(jnp.int32)


def read_out(times: Float[Array, " n"], frame_time: float) -> Float[Array, " n"]:
    """Replace each arrival time by the end of its frame, when the detector is read.

    Args:
        times: (n,) sorted, padded times [s].
        frame_time: Time from one read-out to the next [s].

    Returns:
        (n,) times [s] in the same order; all events of a frame share one.
    """
    return jnp.where(is_valid(times), (jnp.floor(times / frame_time) + 1) * frame_time, padding_time(times.dtype))


def in_transfer(times: Float[Array, " n"], frame_time: float, transfer_time: float) -> Bool[Array, " n"]:
    """Mark out-of-time events: those that arrive while the charge of their frame is being moved, at the frame's end.

    On average a fraction transfer_time / frame_time of the events. Their position along the read-out direction is
    wrong: drop them, or keep them as a background smeared over the image.

    Args:
        times: (n,) padded times [s].
        frame_time: Time from one read-out to the next [s].
        transfer_time: Part of it spent moving charge [s].

    Returns:
        (n,) True for out-of-time events; False for padding.

    References:
        XMM-Newton Users Handbook, section on EPIC out-of-time events.
    """
    phase = times - jnp.floor(times / frame_time) * frame_time
    return is_valid(times) & (phase >= frame_time - transfer_time)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PiledFrames:
    """What a detector that cannot tell the photons of one frame apart makes of them.

    Attributes:
        energies: (n_frames,) summed energy [keV]; zero for empty frames.
        n_photons: (n_frames,) photons in the frame.
        detected: (n_frames,) whether the frame gives an event of good grade.
    """

    energies: Float[Array, "*batch n_frames"]
    n_photons: Int[Array, "*batch n_frames"]
    detected: Bool[Array, "*batch n_frames"]


def pile_up(
    key: Key,
    times: Float[Array, " n"],
    energies: Float[Array, " n"],
    alpha: Float[Array, ""],
    frame_time: float,
    n_frames: int,
) -> PiledFrames:
    """Merge the photons of each frame into one event: energies add, and the grade survives with alpha^(n - 1).

    A toy of one detection cell: all photons of the list fall into the same island of pixels.

    Args:
        key: Typed PRNG key; consumed.
        times: (n,) padded times [s].
        energies: (n,) energy of each photon [keV].
        alpha: Grade migration parameter, 0 to 1: probability that one more photon leaves the grade good.
        frame_time: Time from one read-out to the next [s].
        n_frames: Number of frames (static).

    Returns:
        Energy, number of photons and detection of each frame.

    References:
        Davis (2001), ApJ 562, 575 (the grade migration parameter alpha).
    """
    frame = frame_index(times, frame_time, n_frames)
    summed = jnp.zeros((n_frames,), energies.dtype).at[frame].add(energies, mode="drop")
    n_photons = jnp.zeros((n_frames,), jnp.int32).at[frame].add(1, mode="drop")
    survival = jnp.asarray(alpha, energies.dtype) ** jnp.maximum(n_photons - 1, 0).astype(energies.dtype)
    lucky = jax.random.uniform(key, (n_frames,), energies.dtype) < survival
    return PiledFrames(energies=summed, n_photons=n_photons, detected=lucky & (n_photons > 0))


def piled_rate(rate: Number, frame_time: Number, alpha: Number) -> Number:
    """Mean rate of detected events of a steady source with pile-up.

    With mean photons per frame m, the sum over n >= 1 of Poisson(n; m) alpha^(n - 1) is exp(-m) (exp(alpha m) - 1) /
    alpha, which tends to m exp(-m) for alpha = 0.

    Args:
        rate: Incident rate in the detection cell [counts/s].
        frame_time: Time from one read-out to the next [s].
        alpha: Grade migration parameter, 0 to 1.

    Returns:
        Rate of detected events [counts/s].

    References:
        Follows from the model of Davis (2001), ApJ 562, 575.
    """
    mean = rate * frame_time
    scaled = alpha * mean
    small = scaled < 1e-6
    safe = jnp.where(small, 1, scaled)
    growth = jnp.where(small, 1 + scaled / 2, jnp.expm1(safe) / safe)
    return rate * jnp.exp(-mean) * growth
