"""Fits of many data sets at once, and starts for them: what calibrated tests are made of."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from eagleray.inference.lbfgs import Minima, minimise_each
from eagleray.priors import Prior
from eagleray.records import Key, Theta

AGREEMENT = 0.1
"""Starts that end this close to the best log density are said to have found the same maximum."""
_CACHE = 2**16  # numbers that the data of all lanes together should not exceed


@dataclasses.dataclass(frozen=True)
class Loss:
    """Negative log density of a position; equal for the same functions, so that its compiled program is found again."""

    log_likelihood: Callable[..., Float[Array, ""]]
    prior: Prior
    use_prior: bool

    def __call__(self, position: Float[Array, " n_free"], *data: Any) -> Float[Array, ""]:
        """What is minimised."""
        return self.at(self.prior.constrain(position), *data)

    def at(self, theta: Theta, *data: Any) -> Float[Array, ""]:
        """The same, of parameters inside the support."""
        log_density = self.log_likelihood(theta, *data)
        return -(log_density + self.prior.log_prob_natural(theta)) if self.use_prior else -log_density


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Fits:
    """Maxima for many data sets.

    Attributes:
        position: (n_data, n_free) best positions in the unconstrained space.
        log_density: (n_data,) what was maximised, there; -inf where no start had a finite density.
        converged: (n_data,) whether the start that got there ran until nothing was left to gain.
        n_agreeing: (n_data,) starts that ended within 0.1 of the best log density.
        n_evaluations: (n_data,) evaluations of density and gradient, all starts together.
    """

    position: Float[Array, "n_data n_free"]
    log_density: Float[Array, " n_data"]
    converged: Bool[Array, " n_data"]
    n_agreeing: Int[Array, " n_data"]
    n_evaluations: Int[Array, " n_data"]


@functools.partial(
    jax.jit, static_argnames=("log_likelihood", "prior", "use_prior", "tolerance", "max_evaluations", "n_lanes")
)
def optimise_each(
    log_likelihood: Callable[..., Float[Array, ""]],
    prior: Prior,
    data: Any,
    starts: Float[Array, "n_data n_starts n_free"],
    *,
    shared: tuple[Any, ...] = (),
    use_prior: bool = True,
    tolerance: float = 1e-4,
    max_evaluations: int = 300,
    n_lanes: int | None = None,
) -> Fits:
    """Fit many data sets of one shape at once; compiled once for each likelihood and prior.

    Args:
        log_likelihood: `log_likelihood(theta, datum, *shared)` -> ln p(datum | theta), for one data set.
        prior: Named priors.
        data: Pytree of arrays with leading axis n_data.
        starts: (n_data, n_starts, n_free) positions to start from, as from `draw_starts`.
        shared: What all data sets have in common, handed on as it is.
        use_prior: Maximise the posterior density on the prior's natural coordinates (True), or the likelihood (False).
        tolerance: Gain in log density that is not worth another step.
        max_evaluations: Evaluations after which a start ends unconverged.
        n_lanes: Fits under way at once; by default as many as keep their data in the processor's cache.
    """
    if n_lanes is None:
        size = sum(leaf[0].size for leaf in jax.tree.leaves(data))
        n_lanes = int(np.clip(_CACHE // max(size, 1), 8, 64))
    minima = minimise_each(
        Loss(log_likelihood, prior, use_prior),
        starts,
        data,
        shared,
        tolerance=tolerance,
        max_evaluations=max_evaluations,
        n_lanes=n_lanes,
    )
    return _best(minima)


def _best(minima: Minima) -> Fits:
    """The best start of each data set."""
    best = jnp.argmin(minima.value, axis=1)
    value = minima.value.min(axis=1)
    return Fits(
        position=jnp.take_along_axis(minima.position, best[:, None, None], axis=1)[:, 0],
        log_density=-value,
        converged=jnp.take_along_axis(minima.converged, best[:, None], axis=1)[:, 0],
        n_agreeing=(minima.value <= value[:, None] + AGREEMENT).sum(axis=1, dtype=jnp.int32),
        n_evaluations=minima.n_evaluations.sum(axis=1),
    )


def draw_starts(
    key: Key,
    log_likelihood: Callable[..., Float[Array, ""]],
    prior: Prior,
    data: Any = None,
    *,
    shared: tuple[Any, ...] = (),
    known: Mapping[str, Float[Array, " n_data"]] | None = None,
    n_starts: int = 4,
    n_draws: int = 128,
    use_prior: bool = True,
) -> Float[Array, "n_data n_starts n_free"]:
    """Starts for fits: each the best of some draws from the prior, for each data set.

    A draw costs one evaluation of the density without gradient, a small part of a fit, and a good start is what finds
    a narrow peak. Starts of one data set are independent of each other, so that their agreement means something.

    Args:
        key: Typed PRNG key; consumed. All data sets are offered the same draws.
        log_likelihood: `log_likelihood(theta, datum, *shared)`; `log_likelihood(theta)` if `data` is None.
        prior: Named priors.
        data: Pytree of arrays with leading axis n_data; None for a likelihood whose data are bound, n_data = 1.
        shared: What all data sets have in common.
        known: Parameters whose values are known already for each data set, (n_data,) each, as from the fit of a
            simpler model; they take the place of the drawn ones wherever they lie inside the support.
        n_starts: Starts of each data set.
        n_draws: Draws behind each start.
        use_prior: Whether the posterior density decides which is best, or the likelihood alone.
    """
    loss = Loss(log_likelihood, prior, use_prior)
    drawn = jax.vmap(prior.sample)(jax.random.split(key, n_starts * n_draws))
    drawn = {name: drawn[name] for name in prior.names}
    first = {name: values[0] for name, values in drawn.items()}

    def choose(datum: tuple[Any, ...], known: Theta) -> Float[Array, "n_starts n_free"]:
        # What is known is one number for all draws: a part of the model that depends on nothing else is computed once.
        given = {name: known[name] for name in prior.names if name in known}
        inside = dict(zip(prior.names, jnp.isfinite(prior.unconstrain(first | given)), strict=True))
        given = {name: jnp.where(inside[name], value, first[name]) for name, value in given.items()}
        values = jax.vmap(lambda draw: loss.at(prior.complete(draw | given), *datum))(drawn)
        values = jnp.where(jnp.isnan(values), jnp.inf, values).reshape(n_starts, n_draws)
        best = jnp.argmin(values, axis=1) + n_draws * jnp.arange(n_starts)
        return jax.vmap(lambda i: prior.unconstrain({name: draws[i] for name, draws in drawn.items()} | given))(best)

    if data is None:
        return choose((), {})[None]
    return jax.lax.map(lambda each: choose((each[0], *shared), each[1]), (data, dict(known or {})))
