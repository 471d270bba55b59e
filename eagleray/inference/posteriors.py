"""Amortised posteriors: a trained network answers for any observation of its kind."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.networks.estimators import FlowEstimator, FlowSettings
from eagleray.priors import Prior
from eagleray.records import AnyArray, Calibration, Key, ReferenceSummaries, Theta, TrainingHistory

_DRAWS_AT_ONCE = 4096


class AmortisedPosterior:
    """p(theta | x) for any x, from a trained conditional density in the prior's unconstrained space.

    Because the network lives in the unconstrained space, no draw ever leaves the prior's support.

    Attributes:
        prior: Named priors.
        network: The trained estimator.
        settings: Sizes of the network.
        signature: What the network is a function of (`Problem.signature`).
        history: Training curve.
        calibration: Record on fresh simulations; None until it was made.
        reference: What simulated summaries look like; None until it was made.
        provenance: Versions, seed and number of simulations behind the network.
    """

    def __init__(
        self,
        *,
        prior: Prior,
        network: FlowEstimator,
        settings: FlowSettings,
        signature: Mapping[str, Any],
        history: TrainingHistory,
        calibration: Calibration | None = None,
        reference: ReferenceSummaries | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Hold the network and compile nothing yet."""
        self.prior = prior
        self.network = network
        self.settings = settings
        self.signature = dict(signature)
        self.history = history
        self.calibration = calibration
        self.reference = reference
        self.provenance = dict(provenance or {})
        graphdef, self._state = nnx.split(network)

        def draw(state: Any, key: Key, x: Array, n: int) -> tuple[dict[str, Array], Array]:
            network = nnx.merge(graphdef, state)
            position = network.sample_many(key, x, n)
            log_prob = jax.vmap(network.log_prob, in_axes=(0, None))(position, x) - jax.vmap(prior.log_det)(position)
            return jax.vmap(prior.constrain)(position), log_prob

        def position_log_prob(state: Any, position: Array, x: Array) -> Array:
            return nnx.merge(graphdef, state).log_prob(position, x)

        self._draw = jax.jit(draw, static_argnums=3)
        # In small batches of observations: all at once, the activations of a CPU leave its caches.
        self._draw_each = jax.jit(
            lambda state, keys, xs, n: jax.lax.map(
                lambda one: draw(state, one[0], one[1], n)[0], (keys, xs), batch_size=max(1, _DRAWS_AT_ONCE // n)
            ),
            static_argnums=3,
        )
        self._position_log_prob = jax.jit(position_log_prob)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the free parameters."""
        return self.prior.names

    def sample(self, key: Key, x_obs: Float[AnyArray, " n_features"], n: int) -> dict[str, NDArray[np.floating]]:
        """Draw from the posterior of one observation.

        Args:
            key: Typed PRNG key; consumed.
            x_obs: (n_features,) its summary.
            n: Number of draws.

        Returns:
            Draws by parameter name, each (n,), in physical units and inside the prior's support.
        """
        return self.sample_with_log_prob(key, x_obs, n)[0]

    def sample_with_log_prob(
        self, key: Key, x_obs: Float[AnyArray, " n_features"], n: int
    ) -> tuple[dict[str, NDArray[np.floating]], NDArray[np.floating]]:
        """`sample`, and the log posterior density of each draw (n,)."""
        draws, log_prob = jax.device_get(self._draw(self._state, key, jnp.asarray(x_obs), n))
        return self._ordered(draws), log_prob

    def sample_each(
        self, key: Key, x_obs: Float[AnyArray, "n_obs n_features"], n: int
    ) -> dict[str, NDArray[np.floating]]:
        """Draw from the posterior of each of many observations in one call.

        Args:
            key: Typed PRNG key; consumed. Observation i uses `fold_in(key, i)`.
            x_obs: (n_obs, n_features) their summaries.
            n: Draws for each.

        Returns:
            Draws by parameter name, each (n_obs, n).
        """
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(len(x_obs)))
        return self._ordered(jax.device_get(self._draw_each(self._state, keys, jnp.asarray(x_obs), n)))

    def _ordered(self, draws: dict[str, NDArray[np.floating]]) -> dict[str, NDArray[np.floating]]:
        """Parameters in the prior's order; JAX sorts the keys of mappings."""
        return {name: draws[name] for name in self.prior.all_names}

    def log_prob(self, theta: Theta, x_obs: Float[AnyArray, " n_features"]) -> Float[Array, ""]:
        """Ln posterior density of one set of parameters, in physical units; -inf outside the prior's support.

        Args:
            theta: Parameter name -> value.
            x_obs: (n_features,) the observation's summary.
        """
        position = self.prior.unconstrain(theta)
        inside = jnp.isfinite(self.prior.log_prob(theta)) & jnp.isfinite(position).all()
        position = jnp.where(inside, position, 0.0)
        density = self._position_log_prob(self._state, position, jnp.asarray(x_obs)) - self.prior.log_det(position)
        return jnp.where(inside, density, -jnp.inf)
