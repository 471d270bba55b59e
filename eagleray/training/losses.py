"""Losses: what a method minimises, as `loss(params, batch, key) -> scalar`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from eagleray.records import Key

Loss = Callable[[Any, Any, Key], Float[Array, ""]]
"""(trainable parameters, batch of data with a leading axis, key) -> mean loss over the batch."""


def posterior_loss(graphdef: Any, constants: Any) -> Loss:
    """Neural posterior estimation: minus the mean ln q(theta | x), in nats.

    Args:
        graphdef: Structure of an estimator, from `flax.nnx.split`.
        constants: Its untrained variables, from the same split.

    Returns:
        Loss whose batch is a triple: theta (n, n_theta) in the unconstrained space, x
        (n, n_views, n_features), several summaries of the same theta, of which each step sees one, chosen by the key;
        and which of them exist, valid (n, n_views).

    References:
        Papamakarios & Murray (2016), NeurIPS 29, proposition 1; Lueckmann et al. (2017), NeurIPS 30.
    """

    def loss(params: Any, batch: tuple[Array, Array, Array], key: Key) -> Array:
        network = nnx.merge(graphdef, params, constants)
        theta, x, valid = batch
        view = jax.random.randint(key, (x.shape[0],), 0, x.shape[1])
        rows = jnp.arange(x.shape[0])
        exists = valid[rows, view]
        seen = jnp.where(exists[:, None], x[rows, view], 0.0)
        log_prob = jnp.where(exists, jax.vmap(network.log_prob)(theta, seen), 0.0)
        return -log_prob.sum() / jnp.maximum(exists.sum(), 1)

    return loss
