"""Chains of a sampler as ArviZ groups: one `xarray.DataTree`."""

import json
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from eagleray.records import Samples

_DIAGNOSTICS = ("rhat", "ess_bulk", "ess_tail")


def samples_to_datatree(samples: Samples) -> xr.DataTree:
    """Draws of a sampler as ArviZ groups, ready for `arviz_stats`, `arviz` plots and netCDF.

    Groups: `posterior` (named parameters, by chain and draw; free ones carry their diagnostics as attributes) and
    `sample_stats`. The root's attributes hold method, evidence, warnings and diagnostics; what is nested is JSON text.

    Args:
        samples: Draws of several chains.
    """
    import arviz_base  # it brings matplotlib along where that is installed

    tree = arviz_base.from_dict({"posterior": dict(samples.draws), "sample_stats": sample_stats(samples)})
    for name in samples.names:
        attributes = {kind: getattr(samples, kind)[name] for kind in _DIAGNOSTICS if name in getattr(samples, kind)}
        if name in samples.draws:
            tree["posterior"][name].attrs = attributes
    tree.attrs = sample_attributes(samples)
    return tree


def sample_stats(samples: Samples) -> dict[str, NDArray[Any]]:
    """Statistics of each draw (n_chains, n_draws) under ArviZ's names; those that the method has not are left out."""
    lp = np.asarray(samples.log_density)
    step_size = None if samples.step_size is None else np.broadcast_to(np.asarray(samples.step_size)[:, None], lp.shape)
    found = {
        "lp": lp,
        "diverging": samples.divergent,
        "acceptance_rate": samples.acceptance,
        "n_steps": samples.n_steps,
        "step_size": step_size,
    }
    return {name: np.asarray(values) for name, values in found.items() if values is not None}


def sample_attributes(samples: Samples) -> dict[str, Any]:
    """Method, evidence, warnings and diagnostics as netCDF attributes."""
    attributes: dict[str, Any] = {
        "sampler": samples.method,
        "approximate": int(samples.approximate),
        "sampler_warnings": json.dumps(samples.warnings),
        "chains_off": json.dumps(samples.off),
        "seconds": json.dumps({name: float(value) for name, value in samples.seconds.items()}),
    }
    for name in _DIAGNOSTICS:
        attributes[name] = json.dumps({key: float(value) for key, value in getattr(samples, name).items()})
    if samples.log_evidence is not None:
        attributes["log_evidence"] = float(samples.log_evidence)
    if samples.log_evidence_error is not None:
        attributes["log_evidence_error"] = float(samples.log_evidence_error)
    if samples.pareto_k is not None:
        attributes["pareto_k"] = json.dumps([float(k) for k in samples.pareto_k])
    return attributes
