"""Log densities on the unconstrained space: where every likelihood ends and every sampler starts."""

import dataclasses
from collections.abc import Callable

import jax
from jaxtyping import Array, Float

from eagleray.priors import Prior
from eagleray.records import Key, Theta

LogDensityFn = Callable[[Float[Array, " n_theta"]], Float[Array, ""]]
"""Unconstrained position -> scalar. -inf where the density vanishes; NaN is a fault, and stays one."""


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """A posterior known up to a constant: a prior and a likelihood, each to be had by itself.

    Attributes:
        prior: Named priors; its free parameters are the coordinates of a position.
        log_likelihood: Parameters -> ln p(data | parameters), the data already bound.
    """

    prior: Prior
    log_likelihood: Callable[[Theta], Float[Array, ""]]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the coordinates."""
        return self.prior.names

    def log_prior(self, position: Float[Array, " n_theta"]) -> Float[Array, ""]:
        """Ln prior density of the position itself: ln |d theta / d position| is in it."""
        return self.prior.log_prob_position(position)

    def log_likelihood_at(self, position: Float[Array, " n_theta"]) -> Float[Array, ""]:
        """Ln likelihood at a position."""
        return self.log_likelihood(self.prior.constrain(position))

    def log_density(self, position: Float[Array, " n_theta"]) -> Float[Array, ""]:
        """Unnormalised ln posterior density of the position: a `LogDensityFn`."""
        theta = self.prior.constrain(position)
        return self.log_likelihood(theta) + self.prior.log_prob(theta) + self.prior.log_det(position)

    def initial(self, key: Key, n: int) -> Float[Array, "n n_theta"]:
        """Positions drawn from the prior, (n, n_theta)."""
        return jax.vmap(lambda k: self.prior.unconstrain(self.prior.sample(k)))(jax.random.split(key, n))


def log_posterior(prior: Prior, log_likelihood: Callable[[Theta], Float[Array, ""]]) -> LogDensityFn:
    """Unnormalised log posterior of a likelihood under a prior, as a function of the unconstrained position.

    Args:
        prior: Named priors.
        log_likelihood: Parameters -> ln p(data | parameters), the data already bound.
    """
    return Target(prior, log_likelihood).log_density
