"""What is compared: each method turns simulations into posteriors of the fixed observations."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from numpy.typing import NDArray

from benchmarks.xtbm.classical import CLASSICAL, Likelihood
from benchmarks.xtbm.emulated import EMULATED
from benchmarks.xtbm.importance import sample_each
from benchmarks.xtbm.packing import Facts
from benchmarks.xtbm.tasks import Observed
from eagleray.config import Config, make_config
from eagleray.diagnostics.calibration import calibration
from eagleray.inference.posteriors import AmortisedPosterior
from eagleray.inference.reweighting import ReweightedPosterior
from eagleray.pipeline.search import best_of
from eagleray.problems.problem import Problem
from eagleray.records import Bank, Key

METHODS = ("npe", "npe_exact", "fmpe", "nle", "emulator")
N_DRAWS = 2000
N_CALIBRATION, N_RANK_DRAWS = 2000, 200
_N_EFFECTIVE = 4000
_N_CALIBRATION_EMULATOR = 500  # each costs 21 000 spectra


@dataclasses.dataclass(frozen=True)
class Answers:
    """What one method says of all observations.

    Attributes:
        draws: One (n_draws, n_theta) for each observation, parameters in the prior's order.
        each: What it says of each answer: seconds, efficiency, R-hat.
        facts: What it says of itself: seconds of training, coverage.
    """

    draws: list[NDArray[np.floating]]
    each: list[Facts]
    facts: Facts


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much is done: simulations seen in training, all epochs together; fresh ones to measure coverage."""

    n_trained: int = 2_000_000
    n_calibration: int = N_CALIBRATION


def configs(method: str, n: int, effort: Effort) -> list[Config]:
    """What a method tries for every task, for its validation loss to choose: of npe how hard weights are held back.

    Those of npe were found by validation losses of gappy_agn, reverberation and periodic_qpo with another seed:
    residual blocks, a lower learning rate and a weaker weight decay than the benchmark of sbibm has with a tenth of the
    simulations; a single periodogram is learnt by heart with the weaker of the two.
    """
    training: dict[str, Any] = {"max_epochs": min(60, effort.n_trained // n), "learning_rate": 0.002}
    base: dict[str, Any] = {"n_simulations": n, "training": training}
    if method == "fmpe":
        return [make_config(base, {"network": {"density": "flow_matching"}, "training": {"weight_decay": 3000.0 / n}})]
    if method == "nle":
        training |= {"learning_rate": 0.005, "weight_decay": 0.02}
        return [make_config(base, {"method": "nle", "network": {"density": "autoregressive"}})]
    base |= {"network": {"n_members": 2, "embedding": "residual"}}
    return [make_config(base, {"training": {"weight_decay": decay / n}}) for decay in (3000.0, 9000.0)]


def run(
    task: str, problem: Problem, methods: tuple[str, ...], observed: Observed, key: Key, n: int, effort: Effort
) -> Iterator[tuple[str, Answers]]:
    """Answers of several methods, from the same simulations, each with parameters of its own.

    Where problems give several views of one set of parameters, a simulation is one view: `n` counts what was simulated.

    Args:
        task: Which task.
        problem: Its problem.
        methods: Of `METHODS`; `npe_exact` is left out where there is no likelihood.
        observed: The observations to answer for.
        key: Typed PRNG key; consumed.
        n: Number of simulations.
        effort: How much is done.
    """
    key_bank, key_learn, key_fresh, key_answer = jax.random.split(key, 4)
    if "emulator" in methods:
        emulated = EMULATED[task](problem, jax.random.fold_in(key_learn, 20), n)
        n_calibration = min(effort.n_calibration, _N_CALIBRATION_EMULATOR)
        found = _by_formula(problem, emulated.likelihood, observed, key_answer, n_calibration)
        yield "emulator", dataclasses.replace(found, facts=found.facts | {"training_seconds": emulated.seconds})
    if not set(methods) - {"emulator"}:
        return
    problem = dataclasses.replace(problem, simulate_views=None)
    start = time.perf_counter()
    bank = problem.simulate_bank(key_bank, n)
    simulating = time.perf_counter() - start
    seen = jax.tree.map(lambda a: np.asarray(a)[np.asarray(bank.valid).any(axis=1)], bank)
    for i, method in enumerate(("npe", "fmpe")):
        weighed = method == "npe" and "npe_exact" in methods and problem.log_likelihood is not None
        if method not in methods and not weighed:
            continue
        start = time.perf_counter()
        found = best_of(jax.random.fold_in(key_learn, i), problem.prior, seen, configs(method, n, effort))
        posterior = found.posterior
        if method in methods:
            facts = {"simulating_seconds": simulating, "training_seconds": time.perf_counter() - start}
            facts |= {"losses": found.losses, "chosen": found.chosen}
            facts |= coverage(problem, posterior.sample_each, key_fresh, effort.n_calibration)
            yield method, _amortised(posterior, observed, key_answer, facts)
        if weighed:
            yield "npe_exact", _reweighted(problem, posterior, observed, key_answer)
    if "nle" in methods:
        yield "nle", _by_likelihood(problem, bank, observed, jax.random.fold_in(key_learn, 9), key_answer, n, effort)


def run_classical(
    task: str, problem: Problem, methods: tuple[str, ...], observed: Observed, key: Key, effort: Effort
) -> Iterator[tuple[str, Answers]]:
    """Answers of classical likelihoods; arguments as for `run`."""
    for method in methods:
        yield method, _by_formula(problem, CLASSICAL[method][task](problem), observed, key, effort.n_calibration)


def _by_formula(problem: Problem, likelihood: Likelihood, observed: Observed, key: Key, n_calibration: int) -> Answers:
    """Draws by an approximate likelihood, and their coverage."""
    key_answer, key_fresh, key_draws = jax.random.split(key, 3)
    prior = problem.prior
    data = jax.tree.map(lambda *some: np.stack(some), *observed.data)
    theta, fresh = jax.jit(jax.vmap(problem.draw))(jax.random.split(key_fresh, n_calibration))
    see = jax.jit(jax.vmap(likelihood.see))
    draws, each = sample_each(key_answer, prior, likelihood.log_likelihood, see(data), N_DRAWS)
    drawn, _ = sample_each(key_draws, prior, likelihood.log_likelihood, see(fresh), N_RANK_DRAWS)
    truth = {name: np.asarray(theta[name]) for name in prior.names}
    found = _calibrated(truth, {name: drawn[:, :, i] for i, name in enumerate(prior.names)})
    return Answers(list(draws), each, found)


def _amortised(posterior: AmortisedPosterior, observed: Observed, key: Key, facts: Facts) -> Answers:
    """Draws of a trained posterior."""
    draws, each = [], []
    for i, x_obs in enumerate(observed.x_obs):
        start = time.perf_counter()
        drawn = posterior.sample(jax.random.fold_in(key, i), x_obs, N_DRAWS)
        each.append({"seconds": time.perf_counter() - start})
        draws.append(_stacked(drawn, posterior.names))
    return Answers(draws, each, facts)


def _reweighted(problem: Problem, posterior: AmortisedPosterior, observed: Observed, key: Key) -> Answers:
    """The same, weighed by the exact likelihood of the data."""
    weigher = ReweightedPosterior(posterior, problem.log_likelihood)
    draws, each = [], []
    for i, (data, x_obs) in enumerate(zip(observed.data, observed.x_obs, strict=True)):
        start = time.perf_counter()
        weighted = weigher.reweight(jax.random.fold_in(key, 1000 + i), x_obs, data=data, n_effective=_N_EFFECTIVE)
        draws.append(_stacked(weighted.resample(i, N_DRAWS), posterior.names))
        seconds = time.perf_counter() - start
        each.append({"seconds": seconds, "efficiency": weighted.efficiency, "pareto_k": weighted.pareto_k})
    return Answers(draws, each, {})


def _by_likelihood(
    problem: Problem, bank: Bank, observed: Observed, key_learn: Key, key: Key, n: int, effort: Effort
) -> Answers:
    """NUTS over a learnt likelihood of the summary."""
    surrogate = best_of(key_learn, problem.prior, bank, configs("nle", n, effort)).posterior
    draws, each = [], []
    for i, x_obs in enumerate(observed.x_obs):
        start = time.perf_counter()
        chains = surrogate.sample_chains(jax.random.fold_in(key, 2000 + i), x_obs, "nuts", n_chains=4, n_draws=500)
        seconds = time.perf_counter() - start
        draws.append(_stacked({name: v.reshape(-1) for name, v in chains.draws.items()}, surrogate.names))
        each.append({"seconds": seconds, "rhat": max(map(float, chains.rhat.values()))})
    return Answers(draws, each, {"training_seconds": surrogate.history.seconds})


def coverage(problem: Problem, sample_each: Callable[[Key, ArrayLike, int], Any], key: Key, n: int) -> Facts:
    """Mean |coverage - nominal| of central intervals on fresh simulations, what counting noise alone gives, and all."""
    key_fresh, key_draws = jax.random.split(key)
    fresh = problem.simulate_bank(key_fresh, n)
    valid = np.asarray(fresh.valid[:, 0])
    truth = jax.device_get(jax.vmap(problem.prior.constrain)(jnp.asarray(np.asarray(fresh.theta)[valid])))
    drawn = sample_each(key_draws, np.asarray(fresh.x)[valid, 0], N_RANK_DRAWS)
    return _calibrated({name: truth[name] for name in problem.prior.names}, drawn)


def _calibrated(truth: Any, drawn: Any) -> Facts:
    """Facts of a calibration."""
    record = calibration(truth, drawn)
    curve = {name: record.coverage[:, i].round(4).tolist() for i, name in enumerate(record.names)}
    return {"coverage_error": record.error, "coverage_noise": record.error_floor, "coverage": curve}


def _stacked(draws: Any, names: tuple[str, ...]) -> NDArray[np.floating]:
    """Draws as (n, n_theta)."""
    return np.stack([np.asarray(draws[name]) for name in names], axis=1)
