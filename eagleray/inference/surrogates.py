"""Posteriors by a learnt likelihood or likelihood ratio: a network in the likelihood's place, and chains over it."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.inference.posteriors import Answer
from eagleray.inference.samplers import sample
from eagleray.networks.estimators import Context, DensityEstimator, RatioEstimator, as_context, context_shapes
from eagleray.networks.selection import Selection
from eagleray.networks.settings import NetworkSettings
from eagleray.priors import Prior
from eagleray.records import Calibration, Key, ReferenceSummaries, Samples, Theta, TrainingHistory

_SAMPLER = "tempered_smc"
_FEWEST = 250  # particles of a population


class SurrogatePosterior:
    """p(theta | x) from a learnt ln p(x | theta), known up to a function of x alone.

    It has a prior and a log-likelihood, so that everything that takes a problem with an exact likelihood takes it.

    Attributes:
        kind: "likelihood" or "ratio".
        prior: Named priors.
        network: The trained network: of x given theta (likelihood), or of theta given x (ratio).
        settings: What the network is made of.
        n_parts: Parts of the data that are independent given theta and share one density; 1: the data as a whole.
        selection: p(valid | theta), where some simulations of a likelihood were not valid; None where all were.
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
        network: DensityEstimator | RatioEstimator,
        settings: NetworkSettings,
        history: TrainingHistory,
        n_parts: int = 1,
        selection: Selection | None = None,
        signature: Mapping[str, Any] | None = None,
        calibration: Calibration | None = None,
        reference: ReferenceSummaries | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Hold the network and compile nothing yet."""
        self.kind = "ratio" if isinstance(network, RatioEstimator) else "likelihood"
        self.prior = prior
        self.network = network
        self.settings = settings
        self.n_parts = n_parts
        self.selection = selection
        self.signature = dict(signature or {})
        self.history = history
        self.calibration = calibration
        self.reference = reference
        self.provenance = dict(provenance or {})
        self._graphdef, self._state = nnx.split(network)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the free parameters."""
        return self.prior.names

    def _check(self, x: Context) -> None:
        """Refuse data of another kind; how large sets and sequences may be is the embedding's affair."""
        shapes = {"": (self.n_parts * self.network.value_warp.mean.shape[0],)}
        if isinstance(self.network, RatioEstimator):
            shapes = {name: shape for name, shape, _ in self.network.context}
        seen = {name: shape for name, shape, _ in context_shapes(x)}
        alike = {k: len(v) for k, v in seen.items()} == {k: len(v) for k, v in shapes.items()}
        if not alike or ("" in shapes and seen != shapes):
            raise InputError(f"x must have the shape {_said(shapes)} of the training data, got {_said(seen)}")

    def log_likelihood(self, theta: Theta, x: Context) -> Float[Array, ""]:
        """Learnt ln p(x, valid | theta) of one set of parameters; of a ratio, minus ln p(x, valid).

        Args:
            theta: Parameter name -> value, in physical units and inside the prior's support.
            x: (n_features,) data.
        """
        return self.log_likelihood_at(self.prior.unconstrain(theta), x)

    def log_likelihood_at(self, position: Float[Array, " n_theta"], x: Context) -> Float[Array, ""]:
        """`log_likelihood` at a position of the prior's unconstrained space.

        Raises:
            InputError: If x has another shape than the training data.
        """
        network = nnx.merge(self._graphdef, self._state)
        self._check(x)
        if isinstance(network, RatioEstimator):
            return network.log_ratio(position, x)
        seen = 0.0 if self.selection is None else self.selection.log_prob(position)
        if self.n_parts == 1:
            return seen + network.log_prob(x, position)
        parts = x.reshape(self.n_parts, -1)
        return seen + jax.vmap(network.log_prob, in_axes=(0, None))(parts, position).sum()

    def sample_chains(self, key: Key, x_obs: Context, method: str = _SAMPLER, **options: Any) -> Samples:
        """Draws of one observation with their diagnostics; programs are kept from one observation to the next.

        Args:
            key: Typed PRNG key; consumed.
            x_obs: (n_features,) the observation's summary.
            method: A sampler, see `eagleray.inference.samplers.sample`, whose other options are taken too. Learnt
                posteriors have several modes, and ridges too thin for chains, more often than not: by default a
                population is led from the prior to the posterior.
            **options: Those.

        Returns:
            Draws of all chains, or of all runs of a population.
        """
        return sample(key, self, method, data=as_context(x_obs), **options)

    def sample(
        self, key: Key, x_obs: Context, n: int, *, method: str = _SAMPLER, **options: Any
    ) -> dict[str, NDArray[np.floating]]:
        """Draw n times from the posterior of one observation, as the amortised posteriors do.

        Args:
            key: Typed PRNG key; consumed.
            x_obs: (n_features,) its summary.
            n: Number of draws; those of chains are correlated. `answer` and `sample_chains` tell what is doubtful.
            method: A sampler, see `sample_chains`.
            **options: Its options; n_chains is 4 by default.

        Returns:
            Draws by parameter name, each (n,), in physical units and inside the prior's support.
        """
        return self.answer(key, x_obs, n, method=method, **options).draws

    def answer(self, key: Key, x_obs: Context, n: int, *, method: str = _SAMPLER, **options: Any) -> Answer:
        """`sample`, with the log posterior density of each draw and what the sampler doubts."""
        chains = self._enough(key, x_obs, n, method, **options)
        positions = jnp.asarray(_spaced(chains.positions, n))
        log_prob = _spaced(chains.log_density, n) - np.asarray(jax.jit(jax.vmap(self.prior.log_det))(positions))
        return Answer({name: _spaced(draws, n) for name, draws in chains.draws.items()}, log_prob, chains.warnings)

    def sample_positions(
        self, key: Key, x_obs: Context, n: int, *, method: str = _SAMPLER, **options: Any
    ) -> Float[np.ndarray, "n n_theta"]:
        """`sample`, in the prior's unconstrained space."""
        return _spaced(self._enough(key, x_obs, n, method, **options).positions, n)

    def _enough(self, key: Key, x_obs: Context, n: int, method: str, *, n_chains: int = 4, **options: Any) -> Samples:
        """Chains with n draws between them, or more."""
        n_draws = max(-(-n // n_chains), _FEWEST if method == _SAMPLER else 1)
        return self.sample_chains(key, x_obs, method, n_chains=n_chains, n_draws=n_draws, **options)

    def sample_each(self, key: Key, x_obs: Context, n: int, **options: Any) -> dict[str, NDArray[np.floating]]:
        """`sample` for each of many observations, by one run each by default: draws by name, each (n_obs, n)."""
        options = {"n_chains": 1} | options
        some = as_context(x_obs)
        each = [jax.tree.map(lambda leaf, i=i: leaf[i], some) for i in range(len(jax.tree.leaves(some)[0]))]
        draws = [self.sample(jax.random.fold_in(key, i), x, n, **options) for i, x in enumerate(each)]
        return {name: np.stack([one[name] for one in draws]) for name in self.prior.all_names}


def _said(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Names and shapes of arrays in words."""
    return ", ".join(f"{name} {shape}".strip() for name, shape in shapes.items())


def _spaced(values: NDArray[Any], n: int) -> NDArray[Any]:
    """N of the draws (n_chains, n_draws, ...), evenly spaced: draw i of every chain before draw i + 1 of any."""
    together = np.swapaxes(np.asarray(values), 0, 1).reshape(-1, *values.shape[2:])
    return together[np.arange(n) * len(together) // n]
