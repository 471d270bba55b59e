"""A problem: everything that training, inference, benchmarks and the command line need to know of one question."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eagleray.likelihoods.cox import CoxProcess
from eagleray.priors import Prior
from eagleray.records import AnyArray, Bank, EventList, Key, LightCurve, Theta
from eagleray.simulators.batch import Progress, map_draws
from eagleray.summaries.features import Summary

Observation = LightCurve | EventList | tuple[LightCurve, ...] | tuple[EventList, ...]
"""What was observed: a light curve, events, or several of either (bands, detectors)."""
Data = Any
"""What a simulator makes and a likelihood takes: an array, or a pytree of arrays, always of the same shapes."""
Takes = Literal["light curve", "events", "light curves in two bands", "events of two detectors"]
"""What kind of observation a problem explains."""
LogLikelihood = Callable[[Theta, Data], Float[Array, ""]]


def several(simulate: Callable[[Key, Theta], Data], n: int) -> Callable[[Key, Theta], Data]:
    """A simulator of n independent draws with the same parameters, for those that cost less than to train on them.

    Args:
        simulate: `(key, theta) -> data`.
        n: Draws, the leading axis of what comes out.
    """
    return lambda key, theta: jax.vmap(simulate, in_axes=(0, None))(jax.random.split(key, n), theta)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """Prior, simulator and summary for data watched as one observation was.

    Attributes:
        name: Name in the registry, or the user's own.
        prior: Named priors.
        units: Unit of each parameter, for labels ("" if it has none).
        simulate: `(key, theta) -> data`, one draw: the light curve in the observation's kind, or what else the problem
            calls its data.
        summary: `summary(data) -> (n_features,)`.
        observed: The observation as data; what `simulate` gives would look like it.
        settings: The settings it was made with (JSON).
        conditions: What the simulator took from the observation besides its window (JSON).
        simulate_views: `(key, theta) -> data` with a leading axis of views, several draws with the same parameters
            where they cost less together than apart (windows of one long series); each alone has the law of `simulate`.
        log_likelihood: `(theta, data) -> ln p(data | theta)`, where one exists.
        cox: `data -> CoxProcess`, where the likelihood is an integral over a latent rate that has to be sampled too.
        light_curve: `data -> (n_bins,)` values in the bins of the observation's light curve, for figures; None where
            data are no light curve.
    """

    name: str
    prior: Prior
    units: Mapping[str, str]
    simulate: Callable[[Key, Theta], Data]
    summary: Summary
    observed: Data
    settings: Mapping[str, float]
    conditions: Mapping[str, float]
    simulate_views: Callable[[Key, Theta], Data] | None = None
    log_likelihood: LogLikelihood | None = None
    cox: Callable[[Data], CoxProcess] | None = None
    light_curve: Callable[[Data], Float[Array, " n_bins"]] | None = None

    def draw_pair(self, key: Key) -> Bank:
        """One draw of parameters from the prior and the summaries of its simulations, as a bank of one."""
        key_theta, key_data = jax.random.split(key)
        return self.pair_at(key_data, self.prior.unconstrain(self.prior.sample(key_theta)))

    def pair_at(self, key: Key, position: Float[Array, " n_theta"]) -> Bank:
        """The summaries of simulations at one position of the prior's unconstrained space, as a bank of one."""
        theta = self.prior.constrain(position)
        if self.simulate_views is None:
            x = self.summary(self.simulate(key, theta))[None]
        else:
            x = jax.vmap(self.summary)(self.simulate_views(key, theta))
        return Bank(theta=position, x=x, valid=jnp.isfinite(x).all(axis=-1))

    def simulate_bank(self, key: Key, n: int, *, progress: Progress | None = None) -> Bank:
        """Simulate n sets of parameters and summaries; those with a summary that is not finite are marked, not dropped.

        Args:
            key: Typed PRNG key; consumed.
            n: Number of parameter sets.
            progress: Called with (done, n) as simulating advances.
        """
        return map_draws(self.draw_pair, key, n, progress=progress)

    def simulate_at(self, key: Key, theta: Mapping[str, Float[AnyArray, " n"]]) -> Data:
        """Simulate data for each entry of theta, which maps names to (n,) arrays; data with a leading axis of n."""
        n = len(next(iter(theta.values())))
        return jax.device_get(map_draws(self.simulate, key, n, inputs=dict(theta)))

    def draw(self, key: Key) -> tuple[dict[str, Float[Array, ""]], Data]:
        """Parameters drawn from the prior, and data simulated with them."""
        key_theta, key_data = jax.random.split(key)
        theta = self.prior.sample(key_theta)
        return theta, self.simulate(key_data, theta)

    def signature(self) -> dict[str, Any]:
        """What a network trained on this problem is a function of (JSON)."""
        return {
            "problem": self.name,
            "prior": dict(self.prior.texts),
            "settings": dict(self.settings),
            "conditions": dict(self.conditions),
            "summary": self.summary.signature(),
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProblemEntry:
    """A problem as it is listed.

    Attributes:
        make: `(observation, prior: Mapping[str, str] | None, *, **settings) -> Problem`; settings are numbers with
            defaults.
        about: What it is, in a line.
        units: Unit of each parameter, in the prior's order.
        takes: What kind of observation it explains.
        standard: Makes the observation that stands for the problem where there is none: its window and mean rate are
            real, its values stand for nothing.
        reference: What the exact answer is, if one is known.
        seconds: Time of one simulation with its summary on one CPU core, among many [s].
    """

    make: Callable[..., Problem]
    about: str
    units: Mapping[str, str]
    takes: Takes
    standard: Callable[[], Observation]
    reference: str
    seconds: float

    @property
    def settings(self) -> dict[str, float]:
        """Settings that `make` takes besides observation and prior, with their defaults."""
        parameters = inspect.signature(self.make).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
