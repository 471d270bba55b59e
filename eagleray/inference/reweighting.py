"""Importance reweighting: draws of a trained posterior, made right by a likelihood, exact or learnt."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.inference.posteriors import AmortisedPosterior
from eagleray.networks.estimators import Context, as_context
from eagleray.records import Key, Theta

# Above this, the mean of the weights is governed by draws that did not come (Vehtari et al. 2024, section 3.2.4).
_MAX_PARETO_K = 0.7
_DRAWS_AT_ONCE = 1024
# Weights below exp(-300) of the greatest count for nothing, and upset the fit of a tail; it needs so many others.
_NEGLIGIBLE, _FEWEST_SMOOTHED = 300.0, 100
# ln of weights that are equal differ by rounding of two densities in float32, which has no tail to be fitted.
_ROUNDING = 1e-3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reweighted:
    """Weighted draws, and how far they can be trusted.

    Attributes:
        draws: Proposed draws by parameter name, each (n,), in physical units.
        weights: (n,) their weights, smoothed in the upper tail; they add up to one.
        effective: Effective number of draws, 1 / sum of squared weights.
        efficiency: The same over the number of draws. Low where the proposal was wrong, or narrow.
        pareto_k: Shape of the tail of the weights; above 0.7 nothing here is to be relied on.
        log_evidence: Ln of the integral of likelihood times prior.
        log_evidence_error: Its standard error.
        warnings: What is to be doubted.
    """

    draws: dict[str, NDArray[np.floating]]
    weights: NDArray[np.floating]
    effective: float
    efficiency: float
    pareto_k: float
    log_evidence: float
    log_evidence_error: float
    warnings: tuple[str, ...]

    def resample(self, seed: int, n: int) -> dict[str, NDArray[np.floating]]:
        """Draw n of the proposals by their weights; systematic, so that repeats are as few as can be, in random order.

        Args:
            seed: Seed of the random numbers.
            n: Number of draws, by preference no more than half of `effective`.
        """
        rng = np.random.default_rng(seed)
        steps = (rng.random() + np.arange(n)) / n
        rows = np.minimum(np.searchsorted(np.cumsum(self.weights), steps), len(self.weights) - 1)
        rng.shuffle(rows)
        return {name: draws[rows] for name, draws in self.draws.items()}


class ReweightedPosterior:
    """A trained posterior as the proposal, and a likelihood that puts it right.

    The proposal is the trained posterior with a share of the prior, so that no part of the prior is out of reach and no
    weight exceeds (likelihood / evidence) / share.

    Args:
        proposal: Trained posterior.
        log_likelihood: `(theta, x) -> ln p(x | theta)`, exact, or learnt (`SurrogatePosterior.log_likelihood`).
        prior_share: Share of the proposals drawn from the prior.

    Raises:
        ValueError: If the share is not at least 0 and below 1.

    References:
        Dax et al. (2023), PRL 130, 171403, equations 1-3; Hesterberg (1995), Technometrics 37, 185 (defensive mixture);
        Vehtari et al. (2024), JMLR 25, 72 (Pareto smoothing).
    """

    def __init__(
        self,
        proposal: AmortisedPosterior,
        log_likelihood: Callable[[Theta, Any], Float[Array, ""]],
        *,
        prior_share: float = 0.05,
    ) -> None:
        """Compile nothing yet."""
        if not 0 <= prior_share < 1:
            raise ValueError(f"prior_share must be at least 0 and below 1, got {prior_share!r}")
        self.prior = proposal.prior
        self.proposal = proposal
        self.prior_share = prior_share
        prior, density = proposal.prior, proposal.position_density

        def weigh(state: Any, position: Array, x: Array, data: Any) -> Array:
            theta = prior.constrain(position)
            log_prior = prior.log_prob_position(position)
            log_q = density(state, position, x)
            if prior_share > 0:
                log_q = jnp.logaddexp(jnp.log1p(-prior_share) + log_q, jnp.log(prior_share) + log_prior)
            return log_likelihood(theta, data) + log_prior - log_q

        def propose(state: Any, key: Key, x: Array, data: Any, n: int) -> tuple[dict[str, Array], Array]:
            key_draw, key_prior, key_which = jax.random.split(key, 3)
            position = proposal.draw_positions(state, key_draw, x, n)
            if prior_share > 0:
                from_prior = jax.vmap(lambda k: prior.unconstrain(prior.sample(k)))(jax.random.split(key_prior, n))
                which = jax.random.uniform(key_which, (n, 1)) < prior_share
                position = jnp.where(which, from_prior, position)
            log_weights = jax.lax.map(lambda p: weigh(state, p, x, data), position, batch_size=_DRAWS_AT_ONCE)
            return jax.vmap(prior.constrain)(position), log_weights

        self._propose = jax.jit(propose, static_argnums=4)

    def reweight(
        self,
        key: Key,
        x_obs: Context,
        *,
        data: Any = None,
        n_effective: int = 2000,
        n_at_once: int = 10_000,
        max_draws: int = 400_000,
    ) -> Reweighted:
        """Draw and weigh until the draws are worth as many as wanted.

        Args:
            key: Typed PRNG key; consumed.
            x_obs: (n_features,) the observation's summary, for the proposal.
            data: What the likelihood takes, any pytree of arrays; default: the summary.
            n_effective: Effective number of draws to reach.
            n_at_once: Proposals of each step.
            max_draws: Proposals at which it stops anyway, with a warning.

        Raises:
            InputError: If no proposal has a positive likelihood, or a likelihood is NaN.
        """
        x = as_context(x_obs)
        data = x if data is None else jax.tree.map(jnp.asarray, data)
        draws, log_weights, step = [], [], 0
        while True:
            key_step = jax.random.fold_in(key, step)
            some, logs = jax.device_get(self._propose(self.proposal.state, key_step, x, data, n_at_once))
            draws.append(some)
            log_weights.append(np.asarray(logs, np.float64))
            step += 1
            n = step * n_at_once
            if _effective(np.concatenate(log_weights)) >= n_effective or n >= max_draws:
                break
        joined = {name: np.concatenate([d[name] for d in draws]) for name in self.prior.all_names}
        return _weighted(joined, np.concatenate(log_weights), n_effective)

    def sample(self, key: Key, x_obs: Context, n: int, **options: Any) -> dict[str, NDArray[np.floating]]:
        """Draw from the reweighted posterior, from twice as many effective draws; options as in `reweight`.

        Its doubts are raised as Python warnings; `reweight` returns them.
        """
        key_weigh, key_resample = jax.random.split(key)
        weighted = self.reweight(key_weigh, x_obs, n_effective=2 * n, **options)
        for warning in weighted.warnings:
            warnings.warn(warning, stacklevel=2)
        return weighted.resample(int(jax.random.randint(key_resample, (), 0, 2**31 - 1)), n)


def _effective(log_weights: NDArray[np.floating]) -> float:
    """Kish's effective number of draws."""
    peak = log_weights.max()
    if not np.isfinite(peak):
        return 0.0
    weights = np.exp(log_weights - peak)
    return float(weights.sum() ** 2 / (weights**2).sum())


def _weighted(draws: dict[str, NDArray[np.floating]], log_weights: NDArray[np.floating], wanted: int) -> Reweighted:
    """Normalise and smooth the weights, and say what is to be doubted."""
    n = len(log_weights)
    if (n_bad := (np.isnan(log_weights) | (log_weights == np.inf)).sum()) > 0:
        raise InputError(f"the log-likelihood must be a number below infinity, got NaN or inf for {n_bad} of {n} draws")
    if not np.isfinite(log_weights.max()):
        raise InputError(f"the log-likelihood must be finite somewhere, got -inf at all {n} draws")
    relative = np.exp(log_weights - log_weights.max())
    mean = relative.mean()
    weights, k = _smoothed(log_weights)
    effective = _effective(log_weights)
    doubts = []
    if not effective >= wanted:
        doubts.append(f"{effective:.0f} effective draws of {n}, {wanted} were wanted: the proposal is far off")
    if not k <= _MAX_PARETO_K:
        doubts.append(f"the weights have a heavy tail (Pareto k {k:.2f}, above {_MAX_PARETO_K}): do not rely on them")
    return Reweighted(
        draws=draws,
        weights=weights,
        effective=effective,
        efficiency=effective / n,
        pareto_k=k,
        log_evidence=float(np.log(mean) + log_weights.max()),
        log_evidence_error=float(relative.std() / (mean * np.sqrt(n))),
        warnings=tuple(doubts),
    )


def _smoothed(log_weights: NDArray[np.floating]) -> tuple[NDArray[np.floating], float]:
    """Weights whose upper tail is smoothed, and the tail's Pareto k; inf and raw weights where too few tell it."""
    from arviz_stats.base import array_stats

    counts = log_weights > log_weights.max() - _NEGLIGIBLE
    smooth, k = log_weights[counts], np.inf
    if len(smooth) >= _FEWEST_SMOOTHED and np.ptp(smooth) < _ROUNDING:
        k = -np.inf
    elif len(smooth) >= _FEWEST_SMOOTHED:
        with np.errstate(all="ignore"):
            # What it takes is what leave-one-out has: ln of inverse weights.
            found, found_k = array_stats.psislw(-smooth)
        if np.isfinite(found).all() and np.isfinite(found_k):
            smooth, k = found, float(found_k)
    weights = np.zeros(len(log_weights))
    weights[counts] = np.exp(smooth - smooth.max())
    return weights / weights.sum(), k
