"""Nested slice sampling: the prior shrunk contour by contour, for the evidence and for posteriors of several modes."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from blackjax.ns import nss
from jaxtyping import Array
from numpy.typing import NDArray
from scipy.special import logsumexp

from eagleray.errors import InputError
from eagleray.inference.samplers.chains import Outcome, Task, over_chains, total
from eagleray.inference.samplers.targets import Bound
from eagleray.inference.samplers.tuning import check_count
from eagleray.records import Key

_N_CHUNK = 10  # iterations between two looks at the evidence that is left
_N_VOLUMES = 500  # simulated sequences of prior volumes behind the error


class Dead(NamedTuple):
    """Points in the order in which they left: positions (n, n_theta); the rest (n,)."""

    position: NDArray[np.floating]
    log_prior: NDArray[np.floating]
    log_likelihood: NDArray[np.floating]
    birth: NDArray[np.floating]


def nested(
    task: Task,
    *,
    n_live: int = 250,
    n_inner: int | None = None,
    precision: float = 0.01,
    max_iterations: int = 5000,
) -> Outcome:
    """Nested sampling with slices shaped by the live points; every chain is a run by itself.

    The evidence is that of all runs merged into one; its error is the scatter over simulated prior volumes. Draws are
    resampled from each run's weighted points. A likelihood that is not a number at a draw from the prior is refused; at
    a later point it counts as below the contour and is not seen, which the methods with an accept step do see.

    Args:
        task: What is asked for; there is no warm-up.
        n_live: Live points of each run. A fifth of them is replaced in each iteration.
        n_inner: Slices behind each new point; 2 n_theta, and at least 5, if None.
        precision: A run ends when the live points hold less than this part of the evidence.
        max_iterations: Iterations after which a run is given up.

    Raises:
        InputError: If an option is out of its range, or the likelihood is not a number at a draw from the prior: such
            a point has no place in the order of likelihoods.

    References:
        Skilling (2006), Bayesian Analysis 1, 833; Yallup, Kroupa & Handley (2026), arXiv:2601.23252.
    """
    n_inner = max(5, 2 * task.n_theta) if n_inner is None else n_inner
    for name, value in (("n_live", n_live), ("n_inner", n_inner), ("max_iterations", max_iterations)):
        check_count(name, value)
    if n_live < 10 * task.n_theta:
        raise InputError(f"n_live must be at least 10 for each free parameter ({10 * task.n_theta}), got {n_live}")
    if not 0 < precision < 1:
        raise InputError(f"precision must be between 0 and 1, got {precision!r}")
    settings = {"n_delete": n_live // 5, "n_inner": int(n_inner)}
    key_start, key_loop = jax.random.split(task.key)
    keys = jax.random.split(key_start, task.n_chains)
    state, seconds = over_chains(_make_start, task, (keys,), n_live=n_live, **settings)
    _refuse_nan(state.particles.loglikelihood)
    gone, n_steps, n_done = [], np.zeros(task.n_chains, int), 0
    while not _finished(state, precision) and n_done < max_iterations:
        keys = jax.random.split(jax.random.fold_in(key_loop, n_done), task.n_chains)
        (state, dead, evaluations), spent = over_chains(_make_advance, task, (keys, state), **settings)
        seconds = total(seconds, spent)
        gone.append(dead)
        n_steps = n_steps + evaluations
        n_done += _N_CHUNK
    runs = [_points([*gone, state.particles], i) for i in range(task.n_chains)]
    rng = np.random.default_rng(np.asarray(jax.random.key_data(jax.random.fold_in(key_loop, max_iterations + 1))))
    lost = not _finished(state, precision)
    return _outcome(task, runs, rng, n_steps + n_live, seconds, lost)


def _outcome(
    task: Task,
    runs: list[Dead],
    rng: np.random.Generator,
    n_steps: NDArray[np.integer],
    seconds: dict[str, float],
    lost: bool,
) -> Outcome:
    """Evidence of the merged runs, and draws of each run by its weights."""
    merged = Dead(*(np.concatenate(parts) for parts in zip(*runs, strict=True)))
    evidence = np.asarray(logsumexp(log_weights(merged, rng), axis=0))
    positions, log_density, effective = [], [], 0.0
    for run in runs:
        log_weight = np.asarray(logsumexp(log_weights(run, rng), axis=1))
        weight = np.exp(log_weight - log_weight.max())
        weight /= weight.sum()
        chosen = rng.choice(len(weight), size=task.n_draws, p=weight)
        effective += 1 / float((weight**2).sum())
        positions.append(run.position[chosen])
        log_density.append((run.log_prior + run.log_likelihood)[chosen])
    notes = ("the runs ended before the live points held little evidence; raise max_iterations",) if lost else ()
    return Outcome(
        positions=np.stack(positions),
        log_density=np.stack(log_density),
        n_steps=np.zeros((task.n_chains, task.n_draws), int),
        n_warmup_steps=n_steps,
        n_nan=np.zeros(task.n_chains, int),
        seconds=seconds,
        log_evidence=float(evidence.mean()),
        log_evidence_error=float(evidence.std()),
        effective=effective,
        notes=notes,
    )


def log_weights(dead: Dead, rng: np.random.Generator) -> NDArray[np.float64]:
    """Ln weights (n, 500) of the points of a run, in their order, for simulated sequences of prior volumes.

    How many points are alive at each death follows from births and deaths, so that runs can be merged by joining their
    points (Higson et al. 2019, Statistics and Computing 29, 891).
    """
    order = np.argsort(dead.log_likelihood, kind="stable")
    likelihood = np.asarray(dead.log_likelihood, np.float64)[order]
    later = np.sort(dead.birth[~np.isnan(dead.birth)])
    n = len(likelihood)
    alive = n - len(later) + np.searchsorted(later, dead.log_likelihood[order], side="left") - np.arange(n)
    shrinkage = -rng.exponential(size=(n, _N_VOLUMES)) / np.maximum(alive, 1)[:, None]
    volume = np.exp(np.concatenate([np.zeros((1, _N_VOLUMES)), np.cumsum(shrinkage, axis=0)]))
    following = np.concatenate([volume[2:], np.zeros((1, _N_VOLUMES))])
    with np.errstate(divide="ignore"):  # a volume can round to zero
        weights = likelihood[:, None] + np.log(0.5 * (volume[:-1] - following))
    back = np.empty_like(weights)
    back[order] = weights
    return back


def _refuse_nan(log_likelihood: NDArray[np.floating]) -> None:
    """Refuse live points that cannot be put in order."""
    n = int(np.isnan(log_likelihood).sum())
    if n:
        raise InputError(
            f"the log likelihood must be a number wherever the prior is not zero, got NaN at {n} of "
            f"{log_likelihood.size} draws from the prior"
        )


def _finished(state: Any, precision: float) -> bool:
    """Whether the live points of all runs hold little of the evidence."""
    left = np.asarray(state.integrator.logZ_live) - np.asarray(state.integrator.logZ)
    return bool((left < math.log(precision)).all())


def _points(parts: list[Any], i: int) -> Dead:
    """All points of run i."""

    def join(name: str) -> NDArray[np.floating]:
        pieces = [np.asarray(getattr(part, name)[i]) for part in parts]
        return np.concatenate(
            [piece.reshape(-1, piece.shape[-1]) if name == "position" else piece.ravel() for piece in pieces]
        )

    return Dead(*(join(name) for name in ("position", "logdensity", "loglikelihood", "loglikelihood_birth")))


def _algorithm(bound: Bound, n_delete: int, n_inner: int) -> Any:
    """Nested slice sampling of a target."""
    target = bound.posterior
    return nss.as_top_level_api(
        target.log_prior, target.log_likelihood_at, num_inner_steps=n_inner, num_delete=n_delete
    )


def _make_start(*, n_live: int, n_delete: int, n_inner: int) -> Callable[..., Any]:
    """Live points from the prior: `chain(bound, key)`."""

    def chain(bound: Bound, key: Key) -> Any:
        positions = bound.posterior.initial(key, n_live)
        return _algorithm(bound, n_delete, n_inner).init(positions)

    return chain


def _make_advance(*, n_delete: int, n_inner: int) -> Callable[..., Any]:
    """Some iterations: `chain(bound, key, state) -> (state, dead points, evaluations)`."""

    def chain(bound: Bound, key: Key, state: Any) -> tuple[Any, Any, Array]:
        step = _algorithm(bound, n_delete, n_inner).step

        def one(state: Any, key: Key) -> tuple[Any, Any]:
            state, info = step(key, state)
            slices = info.update_info
            return state, (info.particles, (slices.num_expansions + slices.num_shrink + 2).sum())

        state, (dead, evaluations) = jax.lax.scan(one, state, jax.random.split(key, _N_CHUNK))
        return state, dead, evaluations.sum()

    return chain
