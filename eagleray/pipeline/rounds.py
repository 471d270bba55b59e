"""Rounds: simulate where the posterior of one observation is, learn, and again."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

import jax
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.config import Config
from eagleray.errors import InputError
from eagleray.inference.storage import Trained
from eagleray.inference.surrogates import SurrogatePosterior
from eagleray.networks.estimators import Context, as_context
from eagleray.pipeline.search import best_of
from eagleray.priors import Prior
from eagleray.records import AnyArray, Bank, Key
from eagleray.simulators.batch import map_draws

PairAt = Callable[[Key, Float[Array, " n_theta"]], Bank]
"""Simulations at one position of the prior's unconstrained space, as a bank of one: `Problem.pair_at`."""

# Draws of posterior and prior that are tried at once for a truncated prior, and how often at most.
_N_REGION, _MOST_STEPS = 40_000, 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rounds:
    """What came of a sequence of rounds.

    Attributes:
        posterior: Of the last round; right for the one observation alone.
        bank: The simulations of all rounds.
        n_each: Number of simulations of each round.
        kept: Fraction of the prior, by its own measure, that each round's simulations came from; 1 for the first, NaN
            for draws from a posterior.
        chosen: Place among the configurations of the one that each round learnt by; none for a round that was given.
    """

    posterior: Trained
    bank: Bank
    n_each: tuple[int, ...]
    kept: tuple[float, ...]
    chosen: tuple[int, ...]


def rounds(
    key: Key,
    prior: Prior,
    pair_at: PairAt,
    x_obs: Float[AnyArray, " n_features"],
    *,
    config: Config | Sequence[Config] | None = None,
    proposal: Literal["truncated", "posterior"] = "truncated",
    n_rounds: int = 3,
    first: tuple[Trained, Bank] | None = None,
    left_out: float = 1e-3,
    n_parts: int = 1,
    watch: Callable[[int, int], None] | None = None,
) -> Rounds:
    """Posterior of one observation, each round simulating where the round before found the posterior.

    - Truncated proposals: the prior cut to the region that holds all but a fraction `left_out` of the posterior, where
      the posterior-to-prior ratio is greatest. There the posterior under the cut prior is the posterior, so that the
      simulations of all rounds train one network by its plain loss (TSNPE, for npe).
    - Draws from the posterior: right as it is for likelihoods and ratios (SNLE, SNRE), whose dependence on theta is the
      same whatever theta was drawn from; for npe with the loss that is right for any proposal (SNPE-C with atoms).

    Args:
        key: Typed PRNG key; consumed.
        prior: Named priors.
        pair_at: The simulator at one position.
        x_obs: (n_features,) the observation's summary.
        config: Settings; its n_simulations are shared out equally between the rounds, or what `first` leaves of them
            between the others. Of several, every round's validation loss chooses: what suits a third of the simulations
            need not suit all.
        proposal: Where the rounds after the first simulate.
        n_rounds: Number of rounds, the first counted; 1 is no sequence at all.
        first: An amortised posterior and the simulations it learnt from, which then are the first round, the same for
            any number of observations; default: simulate from the prior and learn.
        left_out: Posterior mass that each truncation may cut off.
        n_parts: Independent parts of x; see `learn`.
        watch: Called with (rounds done, n_rounds).

    Raises:
        InputError: If there are more rounds than simulations, none is left after `first`, or configurations differ in
            their number of simulations; and as in `best_of`.

    References:
        TSNPE: Deistler, Goncalves & Macke (2022), NeurIPS 35, algorithm 1; SNPE-C: Greenberg, Nonnenmacher & Macke
        (2019), ICML 36; SNLE: Papamakarios, Sterratt & Murray (2019), AISTATS 22, algorithm 1; SNRE: Hermans, Begy &
        Louppe (2020), ICML 37; Durkan, Murray & Papamakarios (2020), ICML 37.
    """
    configs = (config or Config(),) if isinstance(config, Config | None) else tuple(config)
    n_all = {config.n_simulations for config in configs}
    if len(n_all) != 1:
        raise InputError(f"configs must share one n_simulations, got {sorted(n_all)}")
    n_simulations = n_all.pop()
    n_each = shares(n_simulations, n_rounds)
    posterior, bank, kept, chosen = None, None, [], []
    if first is not None:
        (posterior, bank), kept = first, [1.0]
        n_left = n_simulations - len(bank.theta)
        if not 1 <= n_rounds - 1 <= n_left:
            raise InputError(
                f"first must leave each later round a simulation, got {n_left} left of {n_simulations} for "
                f"{n_rounds - 1} rounds; raise n_simulations or n_rounds"
            )
        n_each = (len(bank.theta), *shares(n_left, n_rounds - 1))
    for i in range(len(kept), n_rounds):
        n = n_each[i]
        key_place, key_simulate, key_learn = jax.random.split(jax.random.fold_in(key, i), 3)
        fraction = float("nan")
        if posterior is None:
            positions, fraction = prior_positions(key_place, prior, n), 1.0
        elif proposal == "truncated":
            positions, fraction = truncated_positions(key_place, posterior, x_obs, n, left_out=left_out)
        else:
            positions = posterior_positions(key_place, posterior, x_obs, n)
        simulated = map_draws(pair_at, key_simulate, n, inputs=positions)
        bank = simulated if bank is None else jax.tree.map(lambda *two: np.concatenate(two), bank, simulated)
        anywhere = proposal == "posterior" and i > 0
        posterior, place, _ = best_of(key_learn, prior, bank, configs, n_parts=n_parts, anywhere=anywhere)
        kept.append(fraction)
        chosen.append(place)
        if watch is not None:
            watch(i + 1, n_rounds)
    if posterior is None or bank is None:
        raise AssertionError("shares gives at least one round")
    return Rounds(posterior=posterior, bank=bank, n_each=n_each, kept=tuple(kept), chosen=tuple(chosen))


def shares(n: int, n_rounds: int) -> tuple[int, ...]:
    """Simulations of each round: equal, the first ones one more where it does not go without remainder.

    Raises:
        InputError: If there are more rounds than simulations.
    """
    if not 1 <= n_rounds <= n:
        raise InputError(f"n_rounds must be from 1 to the number of simulations, {n}, got {n_rounds}")
    return tuple(n // n_rounds + (i < n % n_rounds) for i in range(n_rounds))


def prior_positions(key: Key, prior: Prior, n: int) -> NDArray[np.floating]:
    """Draws from the prior in its unconstrained space, (n, n_theta)."""
    return np.asarray(map_draws(lambda k: prior.unconstrain(prior.sample(k)), key, n))


def posterior_positions(key: Key, posterior: Trained, x_obs: Context, n: int) -> NDArray[np.floating]:
    """Draws from a posterior in the unconstrained space, (n, n_theta)."""
    if isinstance(posterior, SurrogatePosterior):
        return posterior.sample_positions(key, x_obs, n)
    draw = jax.jit(posterior.draw_positions, static_argnums=3)
    return np.asarray(draw(posterior.state, key, as_context(x_obs), n))


def truncated_positions(
    key: Key, posterior: Trained, x_obs: Context, n: int, *, left_out: float
) -> tuple[NDArray[np.floating], float]:
    """Draws from the prior inside the region that holds a posterior, and the fraction of the prior inside it.

    By rejection: draws of the prior that fall into the region, and draws of the posterior inside it, each kept with the
    probability edge / (posterior / prior), which the edge of the region bounds by one. Where a great many of both are
    too few, the rest are picked among the posterior's, again and again, by the same probability.

    Args:
        key: Typed PRNG key; consumed.
        posterior: Which posterior.
        x_obs: (n_features,) the observation's summary.
        n: Number of draws.
        left_out: Posterior mass outside the region.

    Returns:
        (n, n_theta) positions in the unconstrained space, and the fraction.

    References:
        Deistler, Goncalves & Macke (2022), NeurIPS 35, section 3.2 and appendix A.3.
    """
    x = as_context(x_obs)
    gain = jax.jit(lambda positions: jax.lax.map(lambda p: _log_gain(posterior, p, x), positions, batch_size=1024))
    key_region, key_prior, key_accept = jax.random.split(key, 3)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key_accept)).ravel().tolist())
    edge, kept, pool, n_inside, n_tried = np.nan, [], [], 0, 0
    for step in range(_MOST_STEPS):
        draws = posterior_positions(jax.random.fold_in(key_region, step), posterior, x_obs, _N_REGION)
        gains = np.asarray(gain(draws), np.float64)
        if step == 0:
            edge = float(np.quantile(gains, left_out))
        inside = gains >= edge
        chances = np.exp(edge - gains[inside])
        pool.append((draws[inside], chances))
        kept.append(draws[inside][rng.random(len(chances)) < chances])
        candidates = prior_positions(jax.random.fold_in(key_prior, step), posterior.prior, _N_REGION)
        accepted = candidates[np.asarray(gain(candidates)) >= edge]
        kept.append(accepted)
        n_inside, n_tried = n_inside + len(accepted), n_tried + len(candidates)
        if sum(map(len, kept)) >= n:
            break
    found = np.concatenate(kept)
    if len(found) < n:
        positions, chances = (np.concatenate(parts) for parts in zip(*pool, strict=True))
        rows = rng.choice(len(positions), size=n - len(found), p=chances / chances.sum())
        found = np.concatenate([found, positions[rows]])
    return rng.permutation(found)[:n], n_inside / n_tried


def _log_gain(posterior: Trained, position: Array, x: Array) -> Array:
    """Ln of posterior over prior, up to a function of x."""
    if isinstance(posterior, SurrogatePosterior):
        return posterior.log_likelihood_at(position, x)
    return posterior.position_density(posterior.state, position, x) - posterior.prior.log_prob_position(position)
