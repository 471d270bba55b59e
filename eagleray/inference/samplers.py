"""BlackJAX samplers over a log density."""

import dataclasses
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.inference.log_density import LogDensityFn
from eagleray.records import Key


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chains:
    """Draws of several chains and what they doubt about themselves.

    Attributes:
        positions: (n_chains, n_draws, n_theta) unconstrained draws.
        log_density: (n_chains, n_draws) their log density.
        divergent: (n_chains, n_draws) steps whose energy ran away.
        acceptance: (n_chains, n_draws) acceptance probabilities.
        step_size: (n_chains,) tuned step of each chain.
    """

    positions: NDArray[np.floating]
    log_density: NDArray[np.floating]
    divergent: NDArray[np.bool_]
    acceptance: NDArray[np.floating]
    step_size: NDArray[np.floating]


def nuts(
    key: Key,
    log_density: LogDensityFn,
    initial: Float[Array, "n_chains n_theta"],
    *,
    n_warmup: int = 500,
    n_draws: int = 1000,
    target_acceptance: float = 0.8,
) -> Chains:
    """No-U-turn sampler with window adaptation; every chain is tuned by itself and keeps its own step and metric.

    Args:
        key: Typed PRNG key; consumed.
        log_density: Unconstrained position -> scalar.
        initial: (n_chains, n_theta) starting positions.
        n_warmup: Adaptation steps of each chain.
        n_draws: Draws kept of each chain.
        target_acceptance: Acceptance probability that the step size aims at.

    References:
        Hoffman & Gelman (2014), JMLR 15, 1593.
    """
    # Any: BlackJAX's hints know neither num_steps nor what is in states and infos.
    warmup: Any = blackjax.window_adaptation(blackjax.nuts, log_density, target_acceptance_rate=target_acceptance)

    def run_chain(key: Key, position: Array) -> tuple[Array, ...]:
        key_warmup, key_draws = jax.random.split(key)
        (state, parameters), _ = warmup.run(key_warmup, position, num_steps=n_warmup)
        kernel: Any = blackjax.nuts(log_density, **parameters).step

        def step(state: Any, key: Key) -> tuple[Any, tuple[Array, ...]]:
            state, info = kernel(key, state)
            return state, (state.position, state.logdensity, info.is_divergent, info.acceptance_rate)

        _, kept = jax.lax.scan(step, state, jax.random.split(key_draws, n_draws))
        return (*kept, parameters["step_size"])

    keys = jax.random.split(key, len(initial))
    positions, densities, divergent, acceptance, step_size = jax.device_get(
        jax.jit(jax.vmap(run_chain))(keys, jnp.asarray(initial))
    )
    return Chains(
        positions=positions,
        log_density=densities,
        divergent=divergent,
        acceptance=acceptance,
        step_size=step_size,
    )
