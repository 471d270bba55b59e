"""A problem: everything that training, inference, benchmarks and the command line need to know of one question."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.priors import Prior
from eagleray.records import Bank, Key, Theta
from eagleray.simulators.batch import Progress, map_draws
from eagleray.summaries.features import SpectralSummary

Simulate = Callable[[Key, Theta], Float[Array, " n_bins"]]
LogLikelihood = Callable[[Theta, Float[Array, " n_bins"]], Float[Array, ""]]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Prior, simulator and summary for data watched as one observation was.

    Attributes:
        name: Name in the registry.
        prior: Named priors.
        units: Unit of each parameter, for labels ("" if it has none).
        simulate: `(key, theta) -> values` of one light curve, in the observation's kind.
        simulate_views: `(key, theta) -> (n_views, n_bins)`, several light curves with the same parameters where they
            cost less together than apart (windows of one long series); each alone has the law of `simulate`.
        summary: `summary(values) -> (n_features,)`.
        settings: The settings it was made with (JSON).
        conditions: What the simulator took from the observation besides its window (JSON).
        log_likelihood: `(theta, values) -> ln p(values | theta)`, where one exists.
    """

    name: str
    prior: Prior
    units: Mapping[str, str]
    simulate: Simulate
    summary: SpectralSummary
    settings: Mapping[str, float]
    conditions: Mapping[str, float]
    simulate_views: Callable[[Key, Theta], Float[Array, "n_views n_bins"]] | None = None
    log_likelihood: LogLikelihood | None = None

    def draw_pair(self, key: Key) -> Bank:
        """One draw of parameters from the prior and the summaries of its simulations, as a bank of one."""
        key_theta, key_data = jax.random.split(key)
        return self.pair_at(key_data, self.prior.unconstrain(self.prior.sample(key_theta)))

    def pair_at(self, key: Key, position: Float[Array, " n_theta"]) -> Bank:
        """The summaries of simulations at one position of the prior's unconstrained space, as a bank of one."""
        theta = self.prior.constrain(position)
        views = self.simulate(key, theta)[None] if self.simulate_views is None else self.simulate_views(key, theta)
        x = jax.vmap(self.summary)(views)
        return Bank(theta=position, x=x, valid=jnp.isfinite(x).all(axis=-1))

    def simulate_bank(self, key: Key, n: int, *, progress: Progress | None = None) -> Bank:
        """Simulate n sets of parameters and summaries; those with a summary that is not finite are marked, not dropped.

        Args:
            key: Typed PRNG key; consumed.
            n: Number of parameter sets.
            progress: Called with (done, n) as simulating advances.
        """
        return map_draws(self.draw_pair, key, n, progress=progress)

    def simulate_at(self, key: Key, theta: Mapping[str, NDArray[np.floating]]) -> NDArray[np.floating]:
        """Simulate one light curve for each entry of theta, shape (n, n_bins); theta maps names to (n,) arrays."""
        n = len(next(iter(theta.values())))
        return np.asarray(map_draws(self.simulate, key, n, inputs=dict(theta)))

    def signature(self) -> dict[str, Any]:
        """What a network trained on this problem is a function of (JSON)."""
        return {
            "problem": self.name,
            "prior": dict(self.prior.texts),
            "settings": dict(self.settings),
            "conditions": dict(self.conditions),
            "summary": self.summary.signature(),
        }


ProblemMaker = Callable[..., Problem]
"""`(observation: LightCurve, prior: Mapping[str, str], **settings) -> Problem`."""
