"""Microcanonical methods: Langevin dynamics at constant energy, without and with an accept step."""

from collections.abc import Callable
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
from blackjax.mcmc.adjusted_mclmc_dynamic import make_random_trajectory_length_fn
from jaxtyping import Array, Float

from eagleray.errors import InputError
from eagleray.inference.samplers.chains import Outcome, Task, over_chains
from eagleray.inference.samplers.targets import Bound
from eagleray.inference.samplers.tuning import check_count, is_fault
from eagleray.records import Key

_GRADIENTS = 2  # that McLachlan's integrator takes for each of its steps
_SHARE_1, _SHARE_2, _SHARE_3 = 0.4, 0.3, 0.2  # of the warm-up: step, metric (a third more of it follows), length


def mclmc(task: Task, *, desired_energy_var: float = 5e-4, thinning: int = 8) -> Outcome:
    """Microcanonical Langevin Monte Carlo, unadjusted: the step leaves a small bias, set by the energy error allowed.

    Step, diagonal metric and decoherence length are tuned for each chain in the warm-up.

    Args:
        task: What is asked for.
        desired_energy_var: Variance of the energy error per parameter that the step size aims at; the bias goes with
            it.
        thinning: Steps behind each draw, and behind each step of the warm-up.

    Raises:
        InputError: If there is one parameter alone, or an option is out of its range.
    """
    if not desired_energy_var > 0:
        raise InputError(f"desired_energy_var must be positive, got {desired_energy_var!r}")
    return _run(task, _make_mclmc, "mclmc", thinning, desired_energy_var=float(desired_energy_var))


def adjusted_mclmc(task: Task, *, target_acceptance: float = 0.9, thinning: int = 4) -> Outcome:
    """Microcanonical trajectories of random length, two steps on average, each accepted or rejected.

    Args:
        task: What is asked for.
        target_acceptance: Acceptance probability that the step size aims at.
        thinning: Trajectories behind each draw, and behind each step of the warm-up.

    Raises:
        InputError: If there is one parameter alone, or an option is out of its range.
    """
    if not 0 < target_acceptance < 1:
        raise InputError(f"target_acceptance must be between 0 and 1, got {target_acceptance!r}")
    return _run(task, _make_adjusted, "adjusted_mclmc", thinning, target_acceptance=float(target_acceptance))


def _run(task: Task, make: Callable[..., Any], method: str, thinning: int, **settings: Any) -> Outcome:
    """Check what both methods need, and run all chains."""
    check_count("thinning", thinning)
    if task.n_theta < 2:
        raise InputError(f"{method} needs at least 2 free parameters, got {task.n_theta}; use nuts")
    if task.n_warmup < 20:
        raise InputError(f"n_warmup must be at least 20 to tune the step, got {task.n_warmup!r}")
    outputs, seconds = over_chains(
        make,
        task,
        (task.keys, task.initial),
        n_warmup=task.n_warmup * thinning,
        n_draws=task.n_draws,
        thinning=thinning,
        **settings,
    )
    return Outcome(**outputs, seconds=seconds)


def _make_mclmc(*, n_warmup: int, n_draws: int, thinning: int, desired_energy_var: float) -> Callable[..., Any]:
    """One unadjusted chain: `chain(bound, key, position)`."""
    build: Any = blackjax.mclmc
    kernel = build.build_kernel()

    def chain(bound: Bound, key: Key, position: Float[Array, " n_theta"]) -> dict[str, Any]:
        key_start, key_tune, key_draws = jax.random.split(key, 3)
        state, tuned, n_tuning = blackjax.mclmc_find_L_and_step_size(
            mclmc_kernel=kernel,
            num_steps=n_warmup,
            state=build.init(position, bound.log_density, key_start),
            rng_key=key_tune,
            logdensity_fn=bound.log_density,
            frac_tune1=_SHARE_1,
            frac_tune2=_SHARE_2,
            frac_tune3=_SHARE_3,
            desired_energy_var=desired_energy_var,
        )

        def one(state: Any, key: Key) -> tuple[Any, Any]:
            state, info = kernel(key, state, bound.log_density, tuned.inverse_mass_matrix, tuned.L, tuned.step_size)
            return state, (state.position, state.logdensity, ~info.nonans)

        _, (positions, log_density, lost) = jax.lax.scan(one, state, jax.random.split(key_draws, n_draws * thinning))
        return {
            "positions": positions[thinning - 1 :: thinning],
            "log_density": log_density[thinning - 1 :: thinning],
            "divergent": lost.reshape(n_draws, thinning).any(axis=1),
            "n_steps": jnp.full(n_draws, _GRADIENTS * thinning),
            "n_warmup_steps": jnp.asarray(_GRADIENTS * n_tuning),
            "n_nan": jnp.isnan(log_density).sum(),
            "step_size": tuned.step_size,
        }

    return chain


def _make_adjusted(*, n_warmup: int, n_draws: int, thinning: int, target_acceptance: float) -> Callable[..., Any]:
    """One adjusted chain: `chain(bound, key, position)`."""
    build: Any = blackjax.adjusted_mclmc_dynamic
    kernel = build.build_kernel(integration_steps_fn=make_random_trajectory_length_fn(True))

    def chain(bound: Bound, key: Key, position: Float[Array, " n_theta"]) -> dict[str, Any]:
        key_start, key_tune, key_draws = jax.random.split(key, 3)
        state, tuned, n_tuning = blackjax.adjusted_mclmc_find_L_and_step_size(
            mclmc_kernel=kernel,
            logdensity_fn=bound.log_density,
            num_steps=n_warmup,
            state=build.init(position, bound.log_density, key_start),
            rng_key=key_tune,
            target=target_acceptance,
            frac_tune1=_SHARE_1,  # twice: before and after the metric
            frac_tune2=_SHARE_3,
        )
        length = (tuned.L / tuned.step_size,)

        def one(state: Any, key: Key) -> tuple[Any, Any]:
            state, info = kernel(
                key,
                state,
                bound.log_density,
                tuned.step_size,
                inverse_mass_matrix=tuned.inverse_mass_matrix,
                integration_steps_params=length,
            )
            return state, (state.position, state.logdensity, info, is_fault(info.proposal))

        _, (positions, log_density, info, nan) = jax.lax.scan(
            one, state, jax.random.split(key_draws, n_draws * thinning)
        )
        blocks = (n_draws, thinning)
        return {
            "positions": positions[thinning - 1 :: thinning],
            "log_density": log_density[thinning - 1 :: thinning],
            "divergent": info.is_divergent.reshape(blocks).any(axis=1),
            "acceptance": info.acceptance_rate.reshape(blocks).mean(axis=1),
            "n_steps": _GRADIENTS * info.num_integration_steps.reshape(blocks).sum(axis=1),
            "n_warmup_steps": jnp.asarray(_GRADIENTS * n_tuning),
            "n_nan": nan.sum(),
            "step_size": tuned.step_size,
        }

    return chain
