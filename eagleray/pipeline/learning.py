"""From simulations to a posterior, by the method of choice."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from eagleray.config import Config
from eagleray.errors import InputError
from eagleray.inference.posteriors import AmortisedPosterior
from eagleray.inference.storage import Trained
from eagleray.inference.surrogates import SurrogatePosterior
from eagleray.networks.estimators import DensityEstimator, RatioEstimator
from eagleray.priors import Prior
from eagleray.records import Bank, Key
from eagleray.training.loop import EpochReport, fit, split_validation
from eagleray.training.losses import (
    atomic_loss,
    factorised_loss,
    likelihood_loss,
    network_loss,
    posterior_loss,
    ratio_loss,
)


def learn(
    key: Key,
    prior: Prior,
    bank: Bank,
    *,
    config: Config | None = None,
    n_parts: int = 1,
    anywhere: bool = False,
    start: Trained | None = None,
    report: EpochReport | None = None,
    **about: Any,
) -> Trained:
    """Train a network on simulations, and make a posterior of it.

    Args:
        key: Typed PRNG key; consumed.
        prior: Named priors. The bank's parameters were drawn from them, or for npe from a part of their support that
            holds the posterior; for nle and nre they may come from anywhere.
        bank: The simulations; those that are not valid do no harm.
        config: Method, network and training.
        n_parts: Parts of x, of equal size and one after the other, that are independent given theta; for `nle`.
        anywhere: Whether the bank's parameters came from elsewhere than the prior; npe is then trained by atoms.
        start: A posterior whose weights and scales are the start, of the same method and shapes; default: new ones.
        report: Called after each epoch.
        **about: Signature and provenance to store with the posterior.

    Returns:
        `AmortisedPosterior` for npe, else `SurrogatePosterior`.

    Raises:
        InputError: If there are parts and the method cannot use them, or they do not divide x.
        TrainingError: If the loss stops being finite.
    """
    config = config or Config()
    key_split, key_weights, key_fit = jax.random.split(key, 3)
    if n_parts > 1:
        bank = dataclasses.replace(bank, x=_in_parts(np.asarray(bank.x), n_parts, config.method))
    data = (bank.theta, bank.x, bank.valid)
    training, validation = split_validation(data, key_split, config.training.validation_fraction)
    network = _new_network(config, training, nnx.Rngs(key_weights)) if start is None else start.network
    options: dict[str, Any] = {}
    if config.method == "npe":
        function = atomic_loss if anywhere else posterior_loss
        options = {"log_prior": prior.log_prob_position} if anywhere else {}
    elif config.method == "nre":
        function, options = ratio_loss, {"settings": config.ratio}
    else:
        function, options = factorised_loss if n_parts > 1 else likelihood_loss, {"jitter": _jitter(config, bank)}
    params, loss = network_loss(function, network, **options)
    params, history = fit(loss, params, training, validation, key_fit, settings=config.training, report=report)
    shared: dict[str, Any] = {
        "prior": prior,
        "network": nnx.merge(loss.graphdef, params, loss.constants),
        "settings": config.network,
        "history": history,
        "signature": {},
        **about,
    }
    return AmortisedPosterior(**shared) if config.method == "npe" else SurrogatePosterior(**shared, n_parts=n_parts)


def _in_parts(x: NDArray[Any], n_parts: int, method: str) -> NDArray[Any]:
    """Data as (n, n_views, n_parts, n_part)."""
    if method != "nle":
        raise InputError(f"method must be nle for data in {n_parts} independent parts, got {method!r}")
    if x.shape[-1] % n_parts:
        raise InputError(f"n_parts must divide the {x.shape[-1]} numbers of the data, got {n_parts}")
    return x.reshape(*x.shape[:-1], n_parts, -1)


def _new_network(config: Config, training: Any, rngs: nnx.Rngs) -> DensityEstimator | RatioEstimator:
    """A network for the shapes of the data, with its scales learnt from them."""
    theta, x, valid = training
    seen, of = x[valid], np.repeat(np.asarray(theta)[:, None], valid.shape[1], axis=1)[valid]
    if config.method == "nle":
        if seen.ndim == 3:  # parts
            of, seen = np.repeat(of, seen.shape[1], axis=0), seen.reshape(-1, seen.shape[-1])
        network = DensityEstimator(seen.shape[-1], of.shape[-1], config.network, rngs=rngs)
        network.learn_scales(seen, of, bend_values=True)
        return network
    kind = DensityEstimator if config.method == "npe" else RatioEstimator
    network = kind(of.shape[-1], seen.shape[-1], config.network, rngs=rngs)
    network.learn_scales(of, seen)
    return network


def _jitter(config: Config, bank: Bank) -> jax.Array | None:
    """Half a unit for entries of x that are whole numbers, unless the density knows of them."""
    some = np.asarray(bank.x)[np.asarray(bank.valid)].reshape(-1, np.shape(bank.x)[-1])
    whole = (some == np.round(some)).all(axis=0)
    if config.network.density.kind == "mixed" or not whole.any():
        return None
    return jnp.asarray(0.5 * whole, jnp.float32)
