"""Results as ArviZ groups: one `xarray.DataTree`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from eagleray.errors import InputError
from eagleray.interop.samples import sample_attributes, sample_stats
from eagleray.records import Batch, FitResult, LightCurve, NetworkResult, Optimum, Result, TimeGrid


def to_datatree(result: Result) -> xr.DataTree:
    """A result as ArviZ groups, ready for `arviz` plots and for netCDF.

    Groups: `posterior` (named parameters; one chain of a network, all chains of a fit), `sample_stats` (lp, and what
    the sampler noted), `observed_data` (values and how they were watched, by time; log-binned power, by frequency, or
    what else the problem shows; the summary of a network, the fitted powers of a fit), `posterior_predictive` (the
    same, and light curves of a network), and of a network `calibration` (ranks and coverage). The root's attributes
    hold the verdicts' numbers, warnings, versions, seed, command and configuration; what is nested is JSON text.

    Args:
        result: A finished inference.
    """
    import arviz_base  # it brings matplotlib along where that is installed

    observation = result.observation
    coords: dict[str, Any] = {"time": observation.grid.times + observation.start}
    panel = result.panel
    coords[panel.axis_name] = panel.axis
    observed = {
        "values": np.asarray(observation.values),
        "exposure": np.asarray(observation.exposure),
        "background": np.asarray(observation.background),
        panel.name: result.shown_obs,
    }
    dims = {name: ["time"] for name in ("values", "exposure", "background", "error")}
    dims[panel.name] = [panel.axis_name]
    if observation.error is not None:
        observed["error"] = np.asarray(observation.error)
    predictive = {panel.name: result.shown_predictive[None]}
    posterior = {name: values[None] for name, values in result.draws.items()}
    stats = {"lp": result.log_prob[None]}
    if isinstance(result, NetworkResult):
        coords["feature"] = list(result.feature_names)
        dims["summary"] = ["feature"]
        observed["summary"] = result.x_obs
        predictive["values"] = result.predictive_values[None]
    if isinstance(result, FitResult):
        if result.spectrum is not None:
            coords["fitted_freq"] = np.asarray(result.spectrum.freq)
            dims |= {"fitted_power": ["fitted_freq"], "m": ["fitted_freq"]}
            observed |= {"fitted_power": np.asarray(result.spectrum.power), "m": np.asarray(result.spectrum.m)}
        posterior, stats = dict(result.samples.draws), sample_stats(result.samples)
    # Two trees made one: dimensions go by name, and a parameter may be called what a column of the data is.
    tree = arviz_base.from_dict({"posterior": posterior, "sample_stats": stats})
    tree.update(
        arviz_base.from_dict({"posterior_predictive": predictive, "observed_data": observed}, coords=coords, dims=dims)
    )
    for name, unit in result.units.items():
        tree["posterior"][name].attrs = {"units": unit, "prior": result.prior[name]}
    if isinstance(result, NetworkResult):
        tree["calibration"] = xr.DataTree(_calibration(result))
    tree.attrs = _attributes(result)
    return tree


def batch_datatree(batch: Batch) -> xr.DataTree:
    """Posteriors of many observations as ArviZ groups.

    Groups: `posterior` (named parameters by chain, draw and observation), `observed_data` (summaries, and the p-value
    of each among simulated ones). Doubts and refusals are JSON lists among the root's attributes.

    Args:
        batch: Posteriors of many observations.
    """
    import arviz_base

    coords = {"observation": list(batch.names), "feature": list(batch.feature_names)}
    groups = {
        "posterior": {name: values.T[None] for name, values in batch.draws.items()},
        "observed_data": {"summary": batch.x_obs, "p_typical": batch.p_values},
    }
    dims = {name: ["observation"] for name in (*batch.draws, "p_typical")} | {"summary": ["observation", "feature"]}
    tree = arviz_base.from_dict(groups, coords=coords, dims=dims)
    for name, unit in batch.units.items():
        tree["posterior"][name].attrs = {"units": unit, "prior": batch.prior[name]}
    doubted = {"warnings": json.dumps(batch.warnings), "refused": json.dumps(batch.refused)}
    tree.attrs = doubted | _plain(batch.provenance)
    return tree


def read_shown(path: Path) -> LightCurve:
    """The light curve of a result on disk.

    Args:
        path: `posterior.nc` of a result.

    Raises:
        InputError: If the file is missing, damaged, or of an older version.
    """
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            observed, attributes = tree["observed_data"].load(), tree.attrs
            values = {name: np.asarray(observed[name]) for name in ("values", "exposure", "background")}
            return LightCurve(
                **values,
                error=np.asarray(observed["error"]) if "error" in observed else None,
                grid=TimeGrid(n_bins=values["values"].size, dt=float(attributes["dt"])),
                kind=attributes["kind"],
                start=float(attributes["start"]),
                source=attributes["source"],
                notes=tuple(json.loads(attributes["notes"])),
            )
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path} holds no light curve that can be read ({error}); give the observation") from error


def _calibration(result: NetworkResult) -> xr.Dataset:
    """Ranks and coverage by parameter."""
    record = result.calibration
    return xr.Dataset(
        {
            "ranks": (("simulation", "parameter"), record.ranks),
            "coverage": (("level", "parameter"), record.coverage),
            "rank_p_value": (("parameter",), record.p_values),
        },
        coords={"parameter": list(record.names), "level": record.levels},
        attrs={"n_draws": record.n_draws, "error": record.error, "error_floor": record.error_floor},
    )


def _attributes(result: Result) -> dict[str, Any]:
    """Trust and provenance as netCDF attributes."""
    trust: dict[str, Any] = {"warnings": json.dumps(result.warnings)}
    if isinstance(result, NetworkResult):
        trust |= _network_trust(result)
    if isinstance(result, FitResult):
        trust |= _fit_trust(result)
    shown = result.observation
    observation = {
        "source": shown.source,
        "notes": json.dumps(shown.notes),
        "kind": shown.kind,
        "dt": shown.grid.dt,
        "start": shown.start,
    }
    return trust | observation | _plain(result.provenance)


def _plain(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What netCDF attributes can hold, and the rest as JSON."""
    return {
        name: value if isinstance(value, str | int | float) else json.dumps(value) for name, value in provenance.items()
    }


def _network_trust(result: NetworkResult) -> dict[str, Any]:
    """Calibration and typicality."""
    record = result.calibration
    return {
        "calibration_error": record.error,
        "calibration_error_floor": record.error_floor,
        "calibration_rank_p_values": json.dumps(dict(zip(record.names, map(float, record.p_values), strict=True))),
        "calibration_coverage_68": json.dumps(_coverage_at(result, 0.68)),
        "typicality_p_value": result.typicality.p_value,
        "predictive_typicality_p_value": result.predictive_typicality.p_value,
    }


def _fit_trust(result: FitResult) -> dict[str, Any]:
    """Chains, predictive checks and the best fit."""
    p_values = {check.name: check.p_value for check in result.checks}
    return {
        "predictive_p_values": json.dumps(p_values),
        **_best_fit(result.optimum),
        **sample_attributes(result.samples),
    }


def _best_fit(optimum: Optimum | None) -> dict[str, Any]:
    """The best fit, if one was looked for."""
    if optimum is None:
        return {}
    return {
        "optimum": json.dumps({name: float(value) for name, value in optimum.theta.items()}),
        "standard_error": json.dumps({name: float(value) for name, value in optimum.standard_error.items()}),
        "log_likelihood": optimum.log_likelihood,
        "aic": optimum.aic,
        "bic": optimum.bic,
    }


def _coverage_at(result: NetworkResult, level: float) -> dict[str, float]:
    """Coverage of each parameter's central interval, between the measured levels."""
    record = result.calibration
    return {name: float(np.interp(level, record.levels, record.coverage[:, i])) for i, name in enumerate(record.names)}
