"""Trained posteriors on disk: JSON for what people read, Orbax for weights. Nothing is ever unpickled."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from eagleray.errors import InputError
from eagleray.files import atomic_folder
from eagleray.inference.posteriors import AmortisedPosterior
from eagleray.inference.surrogates import SurrogatePosterior
from eagleray.networks.estimators import DensityEstimator, RatioEstimator, context_of
from eagleray.networks.selection import Selection
from eagleray.networks.settings import NetworkSettings, network_settings
from eagleray.priors import Prior
from eagleray.records import Calibration, ReferenceSummaries, TrainingHistory

FORMAT = "eagleray posterior 6"
_JSON, _WEIGHTS, _SELECTION, _TRUST = "posterior.json", "weights", "selection", "trust.npz"
_CALIBRATION_ARRAYS = ("ranks", "levels", "coverage", "p_values")
_REFERENCE_ARRAYS = ("mean", "whitening", "distances", "low", "high")

Trained = AmortisedPosterior | SurrogatePosterior
"""What can be saved."""


def save_posterior(posterior: Trained, folder: Path, *, overwrite: bool = False) -> None:
    """Write a trained posterior: `posterior.json`, `weights/` and `trust.npz`; whole, or not at all.

    What a likelihood has learnt of p(valid | theta) goes to `selection/`.

    Args:
        posterior: A trained posterior with its calibration.
        folder: Folder to make.
        overwrite: Replace a folder that is there.

    Raises:
        InputError: If the folder exists and is not to be replaced.
        ValueError: If the posterior has no calibration yet. It may have no reference summaries: `Features` have none.
    """
    trust = _trust(posterior)
    network, selection = posterior.network, getattr(posterior, "selection", None)
    record = {
        "format": FORMAT,
        "kind": posterior.kind,
        "prior": posterior.prior.texts,
        "value": network.value_warp.mean.shape[0],
        "context": network.context,
        "n_parts": getattr(posterior, "n_parts", 1),
        "settings": dataclasses.asdict(posterior.settings),
        "selection": selection is not None,
        "signature": posterior.signature,
        "history": dataclasses.asdict(posterior.history),
        "calibration": trust.pop("record"),
        "provenance": posterior.provenance,
    }
    with atomic_folder(folder, overwrite=overwrite) as work:
        (work / _JSON).write_text(json.dumps(record, indent=2) + "\n")
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(work / _WEIGHTS, nnx.to_pure_dict(nnx.state(network)))
            checkpointer.wait_until_finished()
            if selection is not None:
                checkpointer.save(work / _SELECTION, nnx.to_pure_dict(nnx.state(selection)))
                checkpointer.wait_until_finished()
        np.savez_compressed(work / _TRUST, **trust)


def load_posterior(folder: Path) -> Trained:
    """Read a trained posterior; needs neither its simulator nor its data.

    Raises:
        InputError: If the folder is missing, damaged, or holds something else.
    """
    folder = Path(folder).resolve()
    if not (folder / _JSON).is_file():
        raise InputError(f"{folder} is not a trained network (no {_JSON} in it); give a folder that eagleray wrote")
    try:
        record = json.loads((folder / _JSON).read_text())
        if record["format"] != FORMAT:
            raise InputError(f"{folder} has the format {record['format']!r}, this version reads {FORMAT!r}; train anew")
        shared: dict[str, Any] = {
            "prior": Prior(record["prior"]),
            "settings": network_settings(record["settings"]),
            "signature": record["signature"],
            "history": TrainingHistory(**{k: _tuple(v) for k, v in record["history"].items()}),
            "provenance": record["provenance"],
        }
        make = RatioEstimator if record["kind"] == "ratio" else DensityEstimator
        shapes = record["value"], context_of(record["context"])
        shared["network"] = _load_network(folder / _WEIGHTS, make, shapes, shared["settings"])
        n_theta = record["context"][0][1][0] if record["kind"] == "likelihood" else record["value"]
        if n_theta != len(shared["prior"].names):
            raise ValueError(f"{n_theta} numbers for {len(shared['prior'].names)} parameters")
        with (folder / _TRUST).open("rb") as file, np.load(file, allow_pickle=False) as trust:
            arrays = {name: trust[name] for name in _CALIBRATION_ARRAYS}
            fields = {k: _tuple(v) for k, v in record["calibration"].items()}
            shared["calibration"] = Calibration(**fields, **arrays)
            if any(name in trust for name in _REFERENCE_ARRAYS):
                shared["reference"] = ReferenceSummaries(**{name: trust[name] for name in _REFERENCE_ARRAYS})
        if record["kind"] == AmortisedPosterior.kind:
            return AmortisedPosterior(**shared)
        selection = _load_network(folder / _SELECTION, Selection, (n_theta,), None) if record["selection"] else None
        return SurrogatePosterior(**shared, n_parts=record["n_parts"], selection=selection)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged folder makes the readers raise
        reason = str(error).split("\n", 1)[0][:120]
        raise InputError(
            f"the network in {folder} is damaged ({type(error).__name__}: {reason}); train anew"
        ) from error


def _trust(posterior: Trained) -> dict[str, Any]:
    """Arrays of calibration and reference, and the rest of the calibration as `record`."""
    calibration, reference = posterior.calibration, posterior.reference
    if calibration is None:
        raise ValueError("a posterior must have a calibration before it is saved, got none")
    record = {name: getattr(calibration, name) for name in ("names", "n_draws", "error", "error_floor")}
    arrays = {name: getattr(calibration, name) for name in _CALIBRATION_ARRAYS}
    of_reference = {} if reference is None else {name: getattr(reference, name) for name in _REFERENCE_ARRAYS}
    return {"record": record} | arrays | of_reference


def _load_network(weights: Path, make: Any, shapes: tuple[Any, ...], settings: NetworkSettings | None) -> Any:
    """A network with its saved weights."""
    network = nnx.eval_shape(lambda: make(*shapes, settings, rngs=nnx.Rngs(0)))
    graphdef, state = nnx.split(network)
    with ocp.StandardCheckpointer() as checkpointer:
        saved = checkpointer.restore(weights, nnx.to_pure_dict(state))
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(saved)):
        raise ValueError("weights are not finite")
    nnx.replace_by_pure_dict(state, saved)
    return nnx.merge(graphdef, state)


def _tuple(value: Any) -> Any:
    """JSON lists back to tuples."""
    return tuple(value) if isinstance(value, list) else value
