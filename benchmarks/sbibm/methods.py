"""What is compared: each method turns simulations into draws of sbibm's parameters for one observation."""

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from benchmarks.sbibm.tasks import BenchmarkTask
from eagleray.config import Config, make_config
from eagleray.inference.posteriors import AmortisedPosterior
from eagleray.inference.reweighting import ReweightedPosterior
from eagleray.inference.surrogates import SurrogatePosterior
from eagleray.pipeline.learning import learn
from eagleray.pipeline.rounds import rounds, shares
from eagleray.pipeline.search import best_of
from eagleray.records import Bank, Key
from eagleray.simulators.batch import map_draws

N_DRAWS = 10_000
N_ROUNDS = 3
AMORTISED = ("npe", "nle", "npe_surrogate", "npe_exact")
SEQUENTIAL = ("tsnpe", "tsnpe_surrogate")
METHODS = (*AMORTISED, *SEQUENTIAL)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """Draws of one method for one observation.

    Attributes:
        method: One of `METHODS`.
        observation: Its number, from 1.
        draws: (n, d) draws of sbibm's parameters.
        seconds: Wall seconds of all that was done for this observation alone.
        facts: What the method says of itself.
    """

    method: str
    observation: int
    draws: NDArray[np.floating]
    seconds: float
    facts: dict[str, float]


def pair_at(task: BenchmarkTask) -> Any:
    """Simulations of a task at one position, as a bank of one."""

    def pair(key: Key, position: jax.Array) -> Bank:
        x = task.simulate(key, task.prior.constrain(position)).astype(jnp.float32)[None]
        return Bank(theta=position, x=x, valid=jnp.isfinite(x).all(axis=-1))

    return pair


def simulations(task: BenchmarkTask, key: Key, n: int) -> Bank:
    """N simulations of a task from its prior."""
    simulate = pair_at(task)

    def draw(key: Key) -> Bank:
        key_theta, key_x = jax.random.split(key)
        return simulate(key_x, task.prior.unconstrain(task.prior.sample(key_theta)))

    return map_draws(draw, key, n)


def npe_configs(n: int) -> list[Config]:
    """What posterior estimation tries for every task, for its validation loss to choose: how long, how hard held back.

    Found by validation losses of slcp, lotka_volterra and bernoulli_glm_raw with another seed, at a time when C2ST of
    earlier runs had been seen. Residual blocks suit all but bernoulli_glm_raw, whose relations are nearly linear.
    """
    deep, deeper = {"kind": "residual"}, {"kind": "residual", "n_blocks": 6}
    long = {"max_epochs": 120, "patience": 20, "learning_rate": 0.002}
    tried = [
        {"training": {"max_epochs": 30, "weight_decay": 0.3}, "network": {"embedding": deeper}},
        {"training": {"max_epochs": 60, "weight_decay": 1.0, "learning_rate": 0.002}},
        {"training": {**long, "weight_decay": 0.1}, "network": {"embedding": deep}},
        {"training": {**long, "weight_decay": 0.02}, "network": {"embedding": deep, "regression": False}},
    ]
    return [make_config({"network": {"n_members": 4}}, one, {"n_simulations": n}) for one in tried]


def nle_config(n: int) -> Config:
    """The one configuration of likelihood estimation for all tasks."""
    network = {"density": "autoregressive", "n_members": 2}
    return make_config({"n_simulations": n, "method": "nle", "network": network, "training": {"weight_decay": 0.02}})


def amortised_answers(task: BenchmarkTask, key: Key, n: int, wanted: list[tuple[str, int]]) -> Iterator[Answer]:
    """Answers of the methods that learn once for all observations.

    Args:
        task: Which task.
        key: Typed PRNG key; consumed.
        n: Number of simulations.
        wanted: Pairs of method and observation.
    """
    key_bank, key_npe, key_nle, key_answer = jax.random.split(key, 4)
    bank = simulations(task, key_bank, n)
    methods = {method for method, _ in wanted}
    npe = nle = None
    facts: dict[str, float] = {}
    if methods & {"npe", "npe_surrogate", "npe_exact"}:
        start = time.perf_counter()
        npe, chosen, losses = best_of(key_npe, task.prior, bank, npe_configs(n))
        facts |= {"npe_training_seconds": time.perf_counter() - start, "npe_loss": min(losses), "npe_chosen": chosen}
    if methods & {"nle", "npe_surrogate"}:
        nle = learn(key_nle, task.prior, bank, config=nle_config(n), n_parts=task.n_trials)
        facts |= {"nle_training_seconds": nle.history.seconds, "nle_loss": min(nle.history.validation_loss)}
    sources: dict[str, Any] = {"npe": npe, "nle": nle}
    if "npe_surrogate" in methods and nle is not None:
        sources["npe_surrogate"] = ReweightedPosterior(npe, nle.log_likelihood)
    if "npe_exact" in methods:
        sources["npe_exact"] = ReweightedPosterior(npe, task.log_likelihood)
    for method, i in wanted:
        yield answer(task, method, i, sources[method], jax.random.fold_in(key_answer, i), facts)


def sequential_answers(task: BenchmarkTask, key: Key, n: int, wanted: list[tuple[str, int]]) -> Iterator[Answer]:
    """Answers of the methods that simulate anew for each observation; arguments as in `amortised_answers`.

    The first round serves all observations. In each of the others validation losses choose the training for the first
    of the observations, and the rest train alike: four trainings a round for all would take three times as long.
    """
    key_bank, key_first = jax.random.split(jax.random.fold_in(key, 0))
    n_each = shares(n, N_ROUNDS)
    first_bank = simulations(task, key_bank, n_each[0])
    start = time.perf_counter()
    first, *_ = best_of(key_first, task.prior, first_bank, npe_configs(n))
    first_seconds = time.perf_counter() - start
    chosen: dict[int, int] = {}
    for i in sorted({i for _, i in wanted}):
        key_rounds, key_nle, key_answer = jax.random.split(jax.random.fold_in(key, i), 3)
        methods = [method for method, j in wanted if j == i]
        x_obs = task.observations[i - 1].x_obs.astype(np.float32)
        facts: dict[str, float] = {"first_seconds": first_seconds}
        start = time.perf_counter()
        posterior, bank = first, first_bank
        for r in range(1, N_ROUNDS):
            configs = npe_configs(sum(n_each[: r + 1]))
            config = configs[chosen[r]] if r in chosen else configs
            key_round, before = jax.random.fold_in(key_rounds, r), (posterior, bank)
            found = rounds(key_round, task.prior, pair_at(task), x_obs, config=config, n_rounds=2, first=before)
            chosen.setdefault(r, found.chosen[0])
            posterior, bank = found.posterior, found.bank
            facts |= {f"chosen_{r + 1}": chosen[r], f"prior_kept_{r + 1}": found.kept[-1]}
        facts |= {"rounds_seconds": time.perf_counter() - start, "npe_loss": min(posterior.history.validation_loss)}
        sources: dict[str, Any] = {"tsnpe": posterior}
        if "tsnpe_surrogate" in methods:
            nle = learn(key_nle, task.prior, bank, config=nle_config(n), n_parts=task.n_trials)
            facts |= {"nle_training_seconds": nle.history.seconds}
            # The network of the last round is right in the region alone: no share of the prior beyond it.
            sources["tsnpe_surrogate"] = ReweightedPosterior(posterior, nle.log_likelihood, prior_share=0.0)
        for method in methods:
            yield answer(task, method, i, sources[method], key_answer, facts)


def answer(
    task: BenchmarkTask,
    method: str,
    i: int,
    source: AmortisedPosterior | SurrogatePosterior | ReweightedPosterior,
    key: Key,
    facts: dict[str, float],
) -> Answer:
    """Draws of one posterior for one observation."""
    x_obs = task.observations[i - 1].x_obs.astype(np.float32)
    start = time.perf_counter()
    if isinstance(source, ReweightedPosterior):
        weighted = source.reweight(key, x_obs, n_effective=2 * N_DRAWS)
        draws = weighted.resample(i, N_DRAWS)
        facts = facts | {"efficiency": weighted.efficiency, "pareto_k": weighted.pareto_k}
    elif isinstance(source, SurrogatePosterior):
        chains = source.sample_chains(key, x_obs, n_chains=4, n_draws=N_DRAWS // 4)
        draws = {name: values.T.reshape(-1) for name, values in chains.draws.items()}
        facts = facts | {"rhat": max(chains.rhat.values())}
    else:
        draws = source.sample(key, x_obs, N_DRAWS)
    seconds = time.perf_counter() - start
    return Answer(method=method, observation=i, draws=task.parameters(draws), seconds=seconds, facts=facts)
