"""Light curves of several channels under their names; Stingray's `simulate_channel` and what goes with it.

Channels are an ordinary mapping from name to light curve: get, list, delete and count are those of a dict.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax

from eagleray.records import Key


def simulate_channels(key: Key, channels: Mapping[str, Callable[[Key], Any]]) -> dict[str, Any]:
    """Draw one light curve for each channel, each from its own random numbers.

    Args:
        key: Typed PRNG key; consumed.
        channels: For each name (such as "3.5-4.5") a simulator `key -> light curve` (static). For correlated channels
            draw them together, with `eagleray.simulators.lags`, or convolve one light curve with each response.

    Returns:
        Light curves by name. A channel's draw depends on the key and its name alone: adding or removing others leaves
        it as it is.
    """
    return {name: simulate(jax.random.fold_in(key, _number(name))) for name, simulate in channels.items()}


def _number(name: str) -> int:
    """A number that stands for a name, the same in every process (Python's own hash is not)."""
    return zlib.crc32(name.encode())
