"""Amortised posteriors: a trained network answers for any observation of its kind."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.networks.estimators import Context, DensityEstimator, as_context
from eagleray.networks.settings import NetworkSettings
from eagleray.priors import Prior
from eagleray.records import Calibration, Key, ReferenceSummaries, Theta, TrainingHistory

_DRAWS_AT_ONCE = 4096
# Draws among which the ascent to the most probable parameters starts, and its steps.
_N_MAP_DRAWS, _N_MAP_STEPS = 1000, 300


class Answer(NamedTuple):
    """Draws from the posterior of one observation, and what goes with them.

    Attributes:
        draws: By parameter name, each (n,), in physical units and inside the prior's support.
        log_prob: (n,) ln posterior density of each, in physical units; by a learnt likelihood up to a constant.
        warnings: What the sampler doubts; nothing where a network draws by itself.
    """

    draws: dict[str, NDArray[np.floating]]
    log_prob: NDArray[np.floating]
    warnings: tuple[str, ...] = ()


class AmortisedPosterior:
    """p(theta | x) for any x, from a trained conditional density in the prior's unconstrained space.

    Because the network lives in the unconstrained space, no draw ever leaves the prior's support.

    Attributes:
        prior: Named priors.
        network: The trained estimator.
        settings: What the network is made of.
        signature: What the network is a function of (`Problem.signature`).
        history: Training curve.
        calibration: Record on fresh simulations; None until it was made.
        reference: What simulated summaries look like; None until it was made.
        provenance: Versions, seed and number of simulations behind the network.
    """

    kind = "posterior"

    def __init__(
        self,
        *,
        prior: Prior,
        network: DensityEstimator,
        settings: NetworkSettings,
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
        self._graphdef, self.state = nnx.split(network)

        def draw(state: Any, key: Key, x: Array, n: int) -> tuple[dict[str, Array], Array]:
            position = self.draw_positions(state, key, x, n)
            density = jax.vmap(self.position_density, in_axes=(None, 0, None))(state, position, x)
            log_prob = density - jax.vmap(prior.log_det)(position)
            return jax.vmap(prior.constrain)(position), log_prob

        def draw_alone(state: Any, key: Key, x: Array, n: int) -> dict[str, Array]:
            return jax.vmap(prior.constrain)(self.draw_positions(state, key, x, n))

        def draw_each(state: Any, keys: Key, xs: Array, n: int) -> dict[str, Array]:
            batch_size = max(1, _DRAWS_AT_ONCE // n)
            return jax.lax.map(lambda one: draw_alone(state, one[0], one[1], n), (keys, xs), batch_size=batch_size)

        self._draw = jax.jit(draw, static_argnums=3)
        self._draw_alone = jax.jit(draw_alone, static_argnums=3)
        # In small batches of observations: all at once, the activations of a CPU leave its caches.
        self._draw_each = jax.jit(draw_each, static_argnums=3)
        self._densities = jax.jit(jax.vmap(self.position_density, in_axes=(None, 0, None)))
        self._climb = jax.jit(self._climbed)

    def draw_positions(self, state: Any, key: Key, x: Array, n: int) -> Float[Array, "n n_theta"]:
        """Draws in the prior's unconstrained space, as a function of the network's weights: `state`."""
        return nnx.merge(self._graphdef, state).sample_many(key, x, n)

    def position_density(self, state: Any, position: Float[Array, " n_theta"], x: Array) -> Float[Array, ""]:
        """Ln density of a position of the unconstrained space, as a function of the network's weights."""
        return nnx.merge(self._graphdef, state).log_prob(position, x)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the free parameters."""
        return self.prior.names

    def sample(self, key: Key, x_obs: Context, n: int) -> dict[str, NDArray[np.floating]]:
        """Draw from the posterior of one observation.

        Args:
            key: Typed PRNG key; consumed.
            x_obs: (n_features,) its summary, or what else the network was trained on.
            n: Number of draws.

        Returns:
            Draws by parameter name, each (n,), in physical units and inside the prior's support.
        """
        return self._ordered(jax.device_get(self._draw_alone(self.state, key, as_context(x_obs), n)))

    def answer(self, key: Key, x_obs: Context, n: int) -> Answer:
        """`sample`, with the log posterior density of each draw."""
        draws, log_prob = jax.device_get(self._draw(self.state, key, as_context(x_obs), n))
        return Answer(self._ordered(draws), log_prob)

    def sample_each(self, key: Key, x_obs: Context, n: int) -> dict[str, NDArray[np.floating]]:
        """Draw from the posterior of each of many observations in one call.

        Args:
            key: Typed PRNG key; consumed. Observation i uses `fold_in(key, i)`.
            x_obs: (n_obs, n_features) their summaries, or what else; a leading axis on every leaf.
            n: Draws for each.

        Returns:
            Draws by parameter name, each (n_obs, n).
        """
        x = as_context(x_obs)
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(len(jax.tree.leaves(x)[0])))
        return self._ordered(jax.device_get(self._draw_each(self.state, keys, x, n)))

    def _ordered(self, draws: dict[str, NDArray[np.floating]]) -> dict[str, NDArray[np.floating]]:
        """Parameters in the prior's order; JAX sorts the keys of mappings."""
        return {name: draws[name] for name in self.prior.all_names}

    def log_prob(self, theta: Theta, x_obs: Context) -> Float[Array, "*batch"]:
        """Ln posterior density of parameters in physical units; -inf outside the prior's support.

        Args:
            theta: Parameter name -> value, a scalar or an array (n,).
            x_obs: (n_features,) the observation's summary.

        Returns:
            One number, or (n,) of them.
        """
        single = jnp.ndim(theta[self.names[0]]) == 0
        some = {name: jnp.atleast_1d(jnp.asarray(theta[name], float)) for name in self.names}
        position = jax.vmap(self.prior.unconstrain)(some)
        inside = jnp.isfinite(jax.vmap(self.prior.log_prob)(some)) & jnp.isfinite(position).all(axis=1)
        position = jnp.where(inside[:, None], position, 0.0)
        density = self._densities(self.state, position, as_context(x_obs)) - jax.vmap(self.prior.log_det)(position)
        density = jnp.where(inside, density, -jnp.inf)
        return density[0] if single else density

    def map(self, key: Key, x_obs: Context) -> dict[str, float]:
        """The most probable parameters, on the prior's natural coordinates: ln theta where the prior is flat in it.

        The best of 1000 draws, improved by gradient ascent.

        Args:
            key: Typed PRNG key; consumed.
            x_obs: (n_features,) the observation's summary.

        Returns:
            Parameters by name, in physical units.
        """
        found = jax.device_get(self._climb(self.state, key, as_context(x_obs)))
        return {name: float(found[name]) for name in self.prior.all_names}

    def _climbed(self, state: Any, key: Key, x: Array) -> dict[str, Array]:
        """Parameters at the highest natural density that ascent from the best draw finds."""

        def height(position: Array) -> Array:
            prior, theta = self.prior, self.prior.constrain(position)
            per_natural = prior.log_prob_natural(theta) - prior.log_prob(theta) - prior.log_det(position)
            return self.position_density(state, position, x) + per_natural

        positions = self.draw_positions(state, key, x, _N_MAP_DRAWS)
        best = positions[jnp.argmax(jax.vmap(height)(positions))]
        scale = positions.std(axis=0)
        optimiser = optax.adam(optax.cosine_decay_schedule(0.05, _N_MAP_STEPS))

        def step(carry: tuple[Array, Any, Array, Array], _: None) -> tuple[Any, None]:
            move, moments, top, highest = carry
            value, slope = jax.value_and_grad(lambda m: height(best + scale * m))(move)
            top, highest = jnp.where(value > highest, move, top), jnp.maximum(value, highest)
            update, moments = optimiser.update(-slope, moments)
            return (optax.apply_updates(move, update), moments, top, highest), None

        start = jnp.zeros_like(best)
        carry, _ = jax.lax.scan(step, (start, optimiser.init(start), start, height(best)), length=_N_MAP_STEPS)
        return self.prior.constrain(best + scale * carry[2])
