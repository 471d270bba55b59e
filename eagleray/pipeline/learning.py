"""From simulations to a posterior, by the method of choice."""

import dataclasses
from pathlib import Path
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
from eagleray.networks.densities.coupling import CouplingSettings
from eagleray.networks.densities.mixed import MixedSettings
from eagleray.networks.estimators import DensityEstimator, RatioEstimator
from eagleray.networks.layers import new_network
from eagleray.networks.selection import Selection
from eagleray.networks.settings import NetworkSettings
from eagleray.priors import Prior
from eagleray.records import Bank, Features, Key
from eagleray.training.data import Reader, Simulated, draw_rows, read_chunks, split_chunks, split_validation
from eagleray.training.loop import EpochReport, TrainingSettings, fit
from eagleray.training.losses import (
    atomic_loss,
    factorised_loss,
    likelihood_loss,
    network_loss,
    posterior_loss,
    ratio_loss,
    selection_loss,
)

_KINDS = {"npe": "posterior", "nle": "likelihood", "nre": "ratio"}
# Fresh simulations from which scales are learnt and weights are chosen, where there is no data set.
_N_FRESH = 4096

Simulations = Bank | Reader | Simulated
"""In memory; in a store, read piece by piece; or made when needed: triples theta, x, valid as a `Bank` has them."""


def learn(
    key: Key,
    prior: Prior,
    simulations: Simulations,
    *,
    config: Config | None = None,
    n_parts: int = 1,
    anywhere: bool = False,
    start: Trained | None = None,
    report: EpochReport | None = None,
    folder: Path | None = None,
    **about: Any,
) -> Trained:
    """Train a network on simulations, and make a posterior of it.

    Args:
        key: Typed PRNG key; consumed.
        prior: Named priors. The parameters were drawn from them, or for npe from a part of their support that holds the
            posterior; for nle and nre they may come from anywhere.
        simulations: What to train on. Those that are not valid have no x to learn from, but count: an observation is
            valid, so that parameters that seldom give valid data are less likely. npe and nre learn that by themselves,
            nle learns p(valid | theta) beside p(x | theta, valid).
        config: Method, network and training.
        n_parts: Parts of x, of equal size and one after the other, that are independent given theta; for nle.
        anywhere: Whether the parameters came from elsewhere than the prior; npe is then trained by atoms.
        start: A posterior whose weights and scales are the start, of the same method and shapes; default: new ones.
        report: Called after each epoch.
        folder: Folder for checkpoints (`checkpoint`, `checkpoint_selection`), from which training goes on if it was cut
            short, `metrics.csv`, and what is kept of a fault; default: nothing is written.
        **about: Signature and provenance to store with the posterior.

    Returns:
        `AmortisedPosterior` for npe, else `SurrogatePosterior`.

    Raises:
        InputError: If no simulation is valid, if parameters in memory are not finite, if there are parts and the method
            cannot use them or they do not divide x, if `start` is of another method, or if the network cannot digest
            data of such a kind.
        TrainingError: If the loss stops being finite.
    """
    config = config or Config()
    if start is not None and start.kind != _KINDS[config.method]:
        raise InputError(f"start must be of the method {config.method}, got a learnt {start.kind}")
    key_split, key_weights, key_fit = jax.random.split(key, 3)
    training, validation, some = _shared_out(key_split, simulations, config.training.validation_fraction)
    _refuse_nothing_valid(some, "train on")
    _refuse_nothing_valid(validation, "validate with")
    if config.method == "nle" and (isinstance(some[1], Features) or np.ndim(some[1]) != 3):
        raise InputError("method nle learns the density of plain vectors, got data of another kind; use npe or nre")
    if n_parts > 1:
        some = (some[0], _in_parts(some[1], n_parts, config.method), some[2])
    settings = config.network if start is None else start.settings
    if config.method == "nle" and start is None:
        settings = _for_yes_or_no(settings, _all_known(simulations, some))
    if start is None:
        try:
            network = _new_network(config.method, settings, some, key_weights)
        except ValueError as error:  # settings that do not suit the data
            raise InputError(f"network: {error}") from error
    else:
        network = start.network
    function, options = _objective(config, prior, settings, some, n_parts=n_parts, anywhere=anywhere)
    params, loss = network_loss(function, network, **options)
    kept = {} if folder is None else {"checkpoint": folder / "checkpoint", "metrics": folder / "metrics.csv"}
    params, history = fit(
        loss,
        params,
        training,
        validation,
        key_fit,
        settings=config.training,
        report=report,
        fault_folder=folder,
        **kept,
    )
    shared: dict[str, Any] = {
        "prior": prior,
        "network": nnx.merge(loss.graphdef, params, loss.constants),
        "settings": settings,
        "history": history,
        "signature": {},
        **about,
    }
    if config.method == "npe":
        return AmortisedPosterior(**shared)
    selection = getattr(start, "selection", None)
    if config.method == "nle" and not (some[2].all() and np.all(validation[2])):
        key_selection = jax.random.fold_in(key_fit, 0)
        selection = _learn_selection(key_selection, training, validation, some, config.training, folder)
    return SurrogatePosterior(**shared, n_parts=n_parts, selection=selection)


def _learn_selection(
    key: Key, training: Any, validation: Any, some: Any, settings: TrainingSettings, folder: Path | None
) -> Selection:
    """p(valid | theta) of the same simulations."""
    key_weights, key_fit = jax.random.split(key)
    network = new_network(Selection, (some[0].shape[-1],), None, key_weights)
    network.learn_scales(some[0], some[2])
    params, loss = network_loss(selection_loss, network)
    checkpoint = None if folder is None else folder / "checkpoint_selection"
    params, _ = fit(
        loss, params, training, validation, key_fit, settings=settings, fault_folder=folder, checkpoint=checkpoint
    )
    return nnx.merge(loss.graphdef, params, loss.constants)


def _objective(
    config: Config, prior: Prior, settings: NetworkSettings, some: Any, *, n_parts: int, anywhere: bool
) -> tuple[Any, dict[str, Any]]:
    """The loss of the method, and its options."""
    if config.method == "nre":
        return ratio_loss, {"settings": config.ratio}
    if config.method == "npe":
        return (atomic_loss, {"log_prior": prior.log_prob_position}) if anywhere else (posterior_loss, {})
    jitter = {"jitter": _jitter(settings, some)}
    return (factorised_loss, jitter | {"n_parts": n_parts}) if n_parts > 1 else (likelihood_loss, jitter)


def _shared_out(key: Key, simulations: Simulations, fraction: float) -> tuple[Any, Any, Any]:
    """What to train on, what to choose the weights by, and rows in memory from which scales are learnt."""
    if isinstance(simulations, Bank):
        if n_bad := int((~np.isfinite(np.asarray(simulations.theta)).all(axis=-1)).sum()):
            raise InputError(f"parameters of simulations must be finite, got {n_bad} rows that are not; leave them out")
        valid = np.asarray(simulations.valid)
        data = (simulations.theta, _stacked(simulations.x, valid.shape), valid)
        training, validation = split_validation(data, key, fraction)
        return training, validation, training
    if isinstance(simulations, Simulated):
        key_validation, key_scales = jax.random.split(key)
        validation = draw_rows(key_validation, simulations.draw, _N_FRESH)
        return simulations, validation, jax.device_get(draw_rows(key_scales, simulations.draw, _N_FRESH))
    source, validation = split_chunks(simulations, key, fraction)
    return source, validation, read_chunks(simulations, source.chunks[:1])


def _refuse_nothing_valid(rows: Any, what: str) -> None:
    """A mean over nothing would pass for the best of losses."""
    if not np.any(rows[2]):
        raise InputError(f"simulations must be valid, got none of {len(rows[0])} to {what}; simulate more")


def _stacked(x: Any, shape: tuple[int, ...]) -> Any:
    """Data on the host; refuse what is not one array or `Features` with the axes of simulations and views in front."""
    x = jax.tree.map(np.asarray, x) if isinstance(x, Features) else np.asarray(x)
    if wrong := [leaf.shape for leaf in jax.tree.leaves(x) if leaf.ndim < 3 or leaf.shape[:2] != shape]:
        raise InputError(f"x must have the axes (n, n_views) of valid, {shape}, and then its own, got shape {wrong[0]}")
    return x


def _all_known(simulations: Simulations, some: Any) -> Any:
    """All rows that are in memory."""
    if not isinstance(simulations, Bank):
        return some
    x = np.asarray(simulations.x).reshape(*np.shape(simulations.x)[:2], *some[1].shape[2:])  # in parts, if those are
    return simulations.theta, x, np.asarray(simulations.valid)


def _in_parts(x: NDArray[Any], n_parts: int, method: str) -> NDArray[Any]:
    """Data as (n, n_views, n_parts, n_part)."""
    if method != "nle":
        raise InputError(f"method must be nle for data in {n_parts} independent parts, got {method!r}")
    if x.shape[-1] % n_parts:
        raise InputError(f"n_parts must divide the {x.shape[-1]} numbers of the data, got {n_parts}")
    return x.reshape(*x.shape[:-1], n_parts, -1)


def _whole(some: Any) -> NDArray[Any]:
    """Valid x (n, n_features) or parts of it, NaN in entries that are not whole numbers throughout."""
    _, x, valid = some
    seen = x[valid].reshape(-1, x.shape[-1])
    return np.where((seen == np.round(seen)).all(axis=0), seen, np.nan)


def _for_yes_or_no(settings: NetworkSettings, some: Any) -> NetworkSettings:
    """The same settings, but for data with entries of zeros and ones, which have no density: they get probabilities."""
    whole = _whole(some)
    binary = ((whole == 0) | (whole == 1)).all(axis=0) & (np.ptp(whole, axis=0) > 0)
    if settings.density.kind == "mixed" or not binary.any():
        return settings
    continuous = settings.density if isinstance(settings.density, CouplingSettings) else CouplingSettings()
    density = MixedSettings(categories=tuple(np.where(binary, 2, 0).tolist()), continuous=continuous)
    return dataclasses.replace(settings, density=density)


def _new_network(method: str, settings: NetworkSettings, some: Any, key: Key) -> DensityEstimator | RatioEstimator:
    """A network for the shapes of the data, with its scales learnt from them."""
    theta, x, valid = some
    seen = jax.tree.map(lambda leaf: leaf[valid], x)
    of = np.repeat(np.asarray(theta)[:, None], valid.shape[1], axis=1)[valid]
    if method == "nle":
        if seen.ndim == 3:  # parts
            of, seen = np.repeat(of, seen.shape[1], axis=0), seen.reshape(-1, seen.shape[-1])
        network = new_network(DensityEstimator, (seen.shape[-1], of.shape[-1]), settings, key)
        network.learn_scales(seen, of, bend_values=True)
        return network
    kind = DensityEstimator if method == "npe" else RatioEstimator
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), seen)
    network = new_network(kind, (of.shape[-1], example), settings, key)
    network.learn_scales(of, seen)
    return network


def _jitter(settings: NetworkSettings, some: Any) -> jax.Array | None:
    """Half a unit for entries of x that are whole numbers, unless the density knows of them."""
    whole = np.isfinite(_whole(some)).all(axis=0)
    if settings.density.kind == "mixed":
        whole &= np.array(settings.density.categories) == 0
    return jnp.asarray(0.5 * whole, jnp.float32) if whole.any() else None
