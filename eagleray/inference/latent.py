"""Posteriors over named parameters and a latent vector: one flat position, so that every sampler can have them."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from eagleray.likelihoods.cox import CoxProcess
from eagleray.priors import Prior
from eagleray.records import Key, Theta

LogJoint = Callable[[Theta, Float[Array, " n_latent"]], Float[Array, ""]]
"""Parameters and latent vector -> ln p(data, latent | parameters)."""


@dataclasses.dataclass(frozen=True, eq=False)
class LatentTarget:
    """A posterior of parameters and a latent vector, known up to a constant.

    A position is the prior's unconstrained vector, then the latent vector. Draws of the parameters, the latent part
    left out, are draws of their marginal posterior.

    Attributes:
        prior: Named priors of the parameters.
        log_joint: Parameters and latent vector -> ln p(data, latent | parameters), the data already bound.
        n_latent: Length of the latent vector, whose prior is standard normal.
    """

    prior: Prior
    log_joint: LogJoint
    n_latent: int

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters: the first coordinates of a position."""
        return self.prior.names

    def split(self, position: Float[Array, " n"]) -> tuple[dict[str, Float[Array, ""]], Float[Array, " n_latent"]]:
        """Parameters, in physical units, and latent vector of a position (n_theta + n_latent,).

        Raises:
            ValueError: If the position has another length.
        """
        n_theta = len(self.names)
        if position.shape != (n_theta + self.n_latent,):
            raise ValueError(f"position must have shape ({n_theta + self.n_latent},), got {position.shape}")
        return self.prior.constrain(position[:n_theta]), position[n_theta:]

    def join(self, theta: Theta, z: Float[Array, " n_latent"]) -> Float[Array, " n"]:
        """Position of parameters and latent vector: the inverse of `split`."""
        return jnp.concatenate([self.prior.unconstrain(theta), z])

    def log_density(self, position: Float[Array, " n"]) -> Float[Array, ""]:
        """Unnormalised ln posterior density of the position: a `LogDensityFn`."""
        theta, z = self.split(position)
        log_prior = self.prior.log_prob(theta) + self.prior.log_det(position[: len(self.names)])
        return self.log_joint(theta, z) + log_prior

    def initial(self, key: Key, n: int) -> Float[Array, "n n_position"]:
        """Positions drawn from the prior, (n, n_theta + n_latent)."""

        def draw(key: Key) -> Float[Array, " n_position"]:
            key_theta, key_latent = jax.random.split(key)
            theta = self.prior.unconstrain(self.prior.sample(key_theta))
            return jnp.concatenate([theta, jax.random.normal(key_latent, (self.n_latent,), theta.dtype)])

        return jax.vmap(draw)(jax.random.split(key, n))

    def parameters(self, positions: Float[Array, "*batch n"]) -> dict[str, Float[Array, "*batch"]]:
        """Parameters, in physical units, of positions with any number of leading axes; the latent part is left out."""
        free = jnp.asarray(positions)[..., : len(self.names)]
        flat = jax.vmap(self.prior.constrain)(free.reshape(-1, len(self.names)))
        return {name: values.reshape(free.shape[:-1]) for name, values in flat.items()}


def cox_target(prior: Prior, process: CoxProcess) -> LatentTarget:
    """Posterior of a Cox process: parameters of its random rate, and the rate itself.

    Args:
        prior: Priors of the spectrum's parameters and of the mean rate.
        process: Cox process with its data.
    """
    return LatentTarget(prior, process.log_joint, process.n_latent)
