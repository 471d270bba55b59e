"""Ordinary differential equations in fixed steps."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def integrate(field: Callable[[Float[Array, ""], Any], Any], start: Any, times: Float[Array, " n_times"]) -> Any:
    """Integrate d state / d time = field(time, state) by the classical fourth-order Runge-Kutta method.

    Args:
        field: Derivative of the state, of the state's structure.
        start: State at the first time: an array, or a pytree of them.
        times: (n_times,) ends of the steps, increasing or decreasing; one compilation for any number of them.

    Returns:
        State at the last time.

    References:
        Hairer, Norsett & Wanner (1993), Solving Ordinary Differential Equations I, section II.1, table 1.2.
    """
    # Each stage starts from the one before alone: a loop over stages, in which the field is compiled once.
    nodes = jnp.asarray((0.0, 0.5, 0.5, 1.0), times.dtype)
    shares = jnp.asarray((1 / 6, 1 / 3, 1 / 3, 1 / 6), times.dtype)

    def moved(state: Any, by: Array, slope: Any) -> Any:
        return jax.tree.map(lambda y, k: y + by * k, state, slope)

    def step(state: Any, interval: tuple[Array, Array]) -> tuple[Any, None]:
        time, size = interval

        def stage(carry: tuple[Any, Any], inputs: tuple[Array, Array]) -> tuple[tuple[Any, Any], None]:
            slope, end = carry
            node, share = inputs
            slope = field(time + node * size, moved(state, node * size, slope))
            return (slope, moved(end, share * size, slope)), None

        still = jax.tree.map(jnp.zeros_like, state)
        (_, end), _ = jax.lax.scan(stage, (still, state), (nodes, shares))
        return end, None

    return jax.lax.scan(step, start, (times[:-1], jnp.diff(times)))[0]
