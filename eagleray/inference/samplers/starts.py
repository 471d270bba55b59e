"""Where chains start: at given positions, or where a small population led from the prior to the posterior arrives."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.inference.log_density import Target
from eagleray.inference.samplers.chains import Task, over_chains
from eagleray.inference.samplers.targets import Bound
from eagleray.records import Key

N_TRIES = 1000
_N_POPULATION = 48
_N_MOVES = 16  # random-walk steps at each temperature
_MAX_TEMPERATURES = 80
_ACCEPTANCE = 0.3
_FLOOR = -1e30  # stands for a log likelihood of -inf, which times a temperature of zero would be NaN


def find_starts(key: Key, task: Task, initial: Any) -> tuple[Array, NDArray[np.integer], dict[str, float]]:
    """Starting positions of all chains.

    Every chain has its own search: of 1000 draws from the prior, 48 are led to the posterior by likelihood^temperature
    (resampling and random-walk steps), and one of them is the start. So starts are spread about as the posterior is,
    and a chain is rarely caught by a mode that holds little of it. Where prior and likelihood are not known apart, the
    start is the best, by the log density, of 1000 draws from the prior.

    Args:
        key: Typed PRNG key; consumed.
        task: What is asked for.
        initial: (n_chains, n_theta) positions given, or None.

    Returns:
        Positions (n_chains, n_theta), how often each chain met NaN while they were sought, and the seconds spent.

    Raises:
        InputError: If given positions have another shape or are not finite, or the log density is -inf at a start.
    """
    if initial is None:
        found, seconds = over_chains(_make_search, task, (jax.random.split(key, task.n_chains),))
    else:
        positions = jnp.asarray(initial, jnp.result_type(float))
        if positions.shape != (task.n_chains, task.n_theta) or not bool(jnp.isfinite(positions).all()):
            raise InputError(
                f"initial must hold finite positions of shape ({task.n_chains}, n_theta), got {positions.shape}"
            )
        found, seconds = over_chains(_make_check, task, (positions,))
    positions, log_density, n_nan = found
    nowhere = np.flatnonzero(log_density == -np.inf)
    if nowhere.size:
        where = "at its starting position" if initial is not None else f"at all of {N_TRIES} draws from the prior"
        raise InputError(f"the log density must be finite where chains start, got -inf for chain {nowhere[0]} {where}")
    return jnp.asarray(positions), n_nan, seconds


def _make_check() -> Callable[..., Any]:
    """The log density at a given start: `chain(bound, position)`."""

    def chain(bound: Bound, position: Float[Array, " n_theta"]) -> tuple[Array, Array, Array]:
        log_density = bound.log_density(position)
        return position, log_density, jnp.isnan(log_density).astype(int)

    return chain


def _make_search() -> Callable[..., Any]:
    """A start found from the prior: `chain(bound, key)`."""

    def chain(bound: Bound, key: Key) -> tuple[Array, Array, Array]:
        if bound.target is not None:
            return _led(bound.target, key)
        if bound.initial is None:
            raise ValueError("target must have a prior to draw starting positions from")
        candidates = bound.initial(key, N_TRIES)
        log_density = jax.vmap(bound.log_density)(candidates)
        nan = jnp.isnan(log_density)
        best = jnp.argmax(jnp.where(nan, -jnp.inf, log_density))  # NaN is passed over here, and counted
        return candidates[best], jnp.where(nan.all(), jnp.nan, log_density[best]), nan.sum()

    return chain


def _led(target: Target, key: Key) -> tuple[Array, Array, Array]:
    """One of a population led to the posterior, its log density, and how often NaN was met."""
    key_prior, key_first, key_loop = jax.random.split(key, 3)

    def evaluate(positions: Float[Array, "n n_theta"]) -> tuple[Array, Array]:
        prior, likelihood = jax.vmap(target.log_prior)(positions), jax.vmap(target.log_likelihood_at)(positions)
        return prior, jnp.where(likelihood == -jnp.inf, _FLOOR, likelihood)

    def move(i: Array, carry: Any) -> Any:
        positions, prior, likelihood, temperature, log_scale, key, n_nan = carry
        key_step, key_accept = jax.random.split(jax.random.fold_in(key, i))
        offset = positions - positions.mean(axis=0)
        # Differences of the population are steps of its own covariance, also where that cannot be factored.
        weights = jax.random.normal(key_step, (_N_POPULATION, _N_POPULATION), positions.dtype)
        proposed = positions + jnp.exp(log_scale) * (weights @ offset) / _N_POPULATION**0.5
        new_prior, new_likelihood = evaluate(proposed)
        gain = new_prior - prior + temperature * (new_likelihood - likelihood)
        accepted = jnp.log(jax.random.uniform(key_accept, gain.shape, gain.dtype)) < gain
        log_scale = log_scale + 0.5 * (accepted.mean() - _ACCEPTANCE)
        n_nan = n_nan + jnp.isnan(new_likelihood).sum()
        return (
            jnp.where(accepted[:, None], proposed, positions),
            jnp.where(accepted, new_prior, prior),
            jnp.where(accepted, new_likelihood, likelihood),
            temperature,
            log_scale,
            key,
            n_nan,
        )

    def advance(carry: Any) -> Any:
        positions, prior, likelihood, temperature, log_scale, n_nan, count = carry
        key_moves, key_choice = jax.random.split(jax.random.fold_in(key_loop, count))
        positions, prior, likelihood, _, log_scale, _, n_nan = jax.lax.fori_loop(
            0, _N_MOVES, move, (positions, prior, likelihood, temperature, log_scale, key_moves, n_nan)
        )
        temperature, chosen = _next_temperature(key_choice, likelihood, temperature, _N_POPULATION / 2)
        return positions[chosen], prior[chosen], likelihood[chosen], temperature, log_scale, n_nan, count + 1

    positions = target.initial(key_prior, N_TRIES)
    prior, likelihood = evaluate(positions)
    nan = jnp.isnan(likelihood)
    usable = jnp.where(nan, _FLOOR, likelihood)  # NaN is passed over here, and counted
    temperature, chosen = _next_temperature(key_first, usable, jnp.zeros((), usable.dtype), float(_N_POPULATION))
    log_scale = jnp.log(jnp.asarray(2.38 / positions.shape[1] ** 0.5, positions.dtype))
    start = (positions[chosen], prior[chosen], likelihood[chosen], temperature, log_scale, nan.sum(), jnp.asarray(0))
    positions, prior, likelihood, *_, n_nan, _ = jax.lax.while_loop(
        lambda carry: (carry[3] < 1) & (carry[6] < _MAX_TEMPERATURES), advance, start
    )
    log_density = prior + jnp.where(likelihood <= _FLOOR, -jnp.inf, likelihood)
    best = jnp.argmax(jnp.where(jnp.isnan(log_density), -jnp.inf, log_density))
    first = jnp.where(jnp.isfinite(log_density[0]), 0, best)  # they were resampled in random order
    return positions[first], log_density[first], n_nan


def _next_temperature(
    key: Key, likelihood: Float[Array, " n"], temperature: Float[Array, ""], n_effective: float
) -> tuple[Array, Array]:
    """The highest temperature that leaves enough of a population effective, and its members (48,) resampled for it."""

    def weights(share: Float[Array, ""]) -> Float[Array, " n"]:
        return jax.nn.softmax(share * (1 - temperature) * (likelihood - likelihood.max()))

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        enough = 1 / (weights(middle) ** 2).sum() >= n_effective
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    zero, one = jnp.zeros_like(temperature), jnp.ones_like(temperature)
    share, _ = jax.lax.fori_loop(0, 40, halve, (zero, one))
    share = jnp.where(1 / (weights(one) ** 2).sum() >= n_effective, one, share)
    chosen = jax.random.choice(key, len(likelihood), (_N_POPULATION,), p=weights(share))
    reached = jnp.where(share == 1, one, temperature + share * (1 - temperature))
    return reached, chosen
