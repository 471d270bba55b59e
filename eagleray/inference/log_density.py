"""Log densities on the unconstrained space: where every likelihood ends and every sampler starts."""

from collections.abc import Callable

from jaxtyping import Array, Float

from eagleray.priors import Prior
from eagleray.records import Theta

LogDensityFn = Callable[[Float[Array, " n_theta"]], Float[Array, ""]]
"""Unconstrained position -> scalar. -inf where the density vanishes; NaN is a fault, and stays one."""


def log_posterior(prior: Prior, log_likelihood: Callable[[Theta], Float[Array, ""]]) -> LogDensityFn:
    """Unnormalised log posterior of a likelihood under a prior, as a function of the unconstrained position.

    Args:
        prior: Named priors.
        log_likelihood: Parameters -> ln p(data | parameters), the data already bound.
    """

    def log_density(position: Float[Array, " n_theta"]) -> Float[Array, ""]:
        theta = prior.constrain(position)
        return log_likelihood(theta) + prior.log_prob(theta) + prior.log_det(position)

    return log_density
