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
from eagleray.networks.estimators import FlowEstimator, FlowSettings
from eagleray.priors import Prior
from eagleray.records import Calibration, ReferenceSummaries, TrainingHistory

FORMAT = "eagleray posterior 1"
_JSON, _WEIGHTS, _TRUST = "posterior.json", "weights", "trust.npz"
_CALIBRATION_ARRAYS = ("ranks", "levels", "coverage", "p_values")
_REFERENCE_ARRAYS = ("mean", "whitening", "distances", "low", "high")


def save_posterior(posterior: AmortisedPosterior, folder: Path, *, overwrite: bool = False) -> None:
    """Write a trained posterior: `posterior.json`, `weights/` and `trust.npz`; whole, or not at all.

    Raises:
        InputError: If the folder exists and is not to be replaced.
        ValueError: If the posterior has no calibration yet.
    """
    if posterior.calibration is None or posterior.reference is None:
        raise ValueError("a posterior must have calibration and reference before it is saved, got none")
    calibration = posterior.calibration
    record = {
        "format": FORMAT,
        "prior": posterior.prior.texts,
        "n_features": int(posterior.network.context_scale.mean.shape[0]),
        "settings": dataclasses.asdict(posterior.settings),
        "signature": posterior.signature,
        "history": dataclasses.asdict(posterior.history),
        "calibration": {
            "names": calibration.names,
            "n_draws": calibration.n_draws,
            "error": calibration.error,
            "error_floor": calibration.error_floor,
        },
        "provenance": posterior.provenance,
    }
    with atomic_folder(folder, overwrite=overwrite) as work:
        (work / _JSON).write_text(json.dumps(record, indent=2) + "\n")
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(work / _WEIGHTS, nnx.to_pure_dict(nnx.state(posterior.network)))
            checkpointer.wait_until_finished()
        arrays = {name: getattr(calibration, name) for name in _CALIBRATION_ARRAYS}
        arrays |= {name: getattr(posterior.reference, name) for name in _REFERENCE_ARRAYS}
        np.savez_compressed(work / _TRUST, **arrays)


def load_posterior(folder: Path) -> AmortisedPosterior:
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
        settings = FlowSettings(**{k: _tuple(v) for k, v in record["settings"].items()})
        prior = Prior(record["prior"])
        graphdef, state = _blank(prior, record["n_features"], settings)
        with ocp.StandardCheckpointer() as checkpointer:
            weights = checkpointer.restore(folder / _WEIGHTS, nnx.to_pure_dict(state))
        if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(weights)):
            raise ValueError("weights are not finite")
        nnx.replace_by_pure_dict(state, weights)
        with (folder / _TRUST).open("rb") as file, np.load(file, allow_pickle=False) as trust:
            calibration_arrays = {name: trust[name] for name in _CALIBRATION_ARRAYS}
            reference = ReferenceSummaries(**{name: trust[name] for name in _REFERENCE_ARRAYS})
        history = TrainingHistory(**{k: _tuple(v) for k, v in record["history"].items()})
        fields = {k: _tuple(v) for k, v in record["calibration"].items()}
        calibration = Calibration(**fields, **calibration_arrays)
        signature, provenance = record["signature"], record["provenance"]
    except InputError:
        raise
    except Exception as error:  # whatever a damaged folder makes the readers raise
        reason = str(error).split("\n", 1)[0][:120]
        raise InputError(
            f"the network in {folder} is damaged ({type(error).__name__}: {reason}); train anew"
        ) from error
    return AmortisedPosterior(
        prior=prior,
        network=nnx.merge(graphdef, state),
        settings=settings,
        signature=signature,
        history=history,
        calibration=calibration,
        reference=reference,
        provenance=provenance,
    )


def _tuple(value: Any) -> Any:
    """JSON lists back to tuples."""
    return tuple(value) if isinstance(value, list) else value


def _blank(prior: Prior, n_features: int, settings: FlowSettings) -> tuple[Any, Any]:
    """Structure and shapes of a network, nothing computed."""
    shapes = nnx.eval_shape(lambda: FlowEstimator(len(prior.names), n_features, settings, rngs=nnx.Rngs(0)))
    return nnx.split(shapes)
