"""Results as ArviZ groups: one `xarray.DataTree`."""

import json
from typing import Any

import numpy as np
import xarray as xr

from eagleray.records import Result


def to_datatree(result: Result) -> xr.DataTree:
    """A result as ArviZ groups, ready for `arviz` plots and for netCDF.

    Groups: `posterior` (named parameters, one chain), `sample_stats` (lp), `observed_data` (values and how they were
    watched, by time; log-binned power, by frequency; the summary), `posterior_predictive` (light curves and powers),
    `calibration` (ranks and coverage). The root's attributes hold typicality, calibration error, warnings, versions,
    seed, command and configuration; what is nested is JSON text.

    Args:
        result: A finished inference.
    """
    import arviz_base  # it brings matplotlib along where that is installed

    observation = result.observation
    time = observation.grid.times + observation.start
    coords = {"time": time, "freq": result.freq, "feature": list(result.feature_names)}
    observed = {
        "values": np.asarray(observation.values),
        "exposure": np.asarray(observation.exposure),
        "background": np.asarray(observation.background),
        "power": result.power_obs,
        "summary": result.x_obs,
    }
    dims = {name: ["time"] for name in ("values", "exposure", "background", "error")}
    dims |= {"power": ["freq"], "summary": ["feature"]}
    if observation.error is not None:
        observed["error"] = np.asarray(observation.error)
    tree = arviz_base.from_dict(
        {
            "posterior": {name: values[None] for name, values in result.draws.items()},
            "sample_stats": {"lp": result.log_prob[None]},
            "posterior_predictive": {
                "values": result.predictive_values[None],
                "power": result.predictive_power[None],
            },
            "observed_data": observed,
        },
        coords=coords,
        dims=dims,
    )
    for name, unit in result.units.items():
        tree["posterior"][name].attrs = {"units": unit, "prior": result.prior[name]}
    tree["calibration"] = xr.DataTree(_calibration(result))
    tree.attrs = _attributes(result)
    return tree


def _calibration(result: Result) -> xr.Dataset:
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
    record = result.calibration
    trust = {
        "calibration_error": record.error,
        "calibration_error_floor": record.error_floor,
        "calibration_rank_p_values": json.dumps(dict(zip(record.names, map(float, record.p_values), strict=True))),
        "calibration_coverage_68": json.dumps(_coverage_at(result, 0.68)),
        "typicality_p_value": result.typicality.p_value,
        "predictive_typicality_p_value": result.predictive_typicality.p_value,
        "warnings": json.dumps(result.warnings),
    }
    observation = {"source": result.observation.source, "notes": json.dumps(result.observation.notes)}
    provenance = {
        name: value if isinstance(value, str | int | float) else json.dumps(value)
        for name, value in result.provenance.items()
    }
    return trust | observation | provenance


def _coverage_at(result: Result, level: float) -> dict[str, float]:
    """Coverage of each parameter's central interval, between the measured levels."""
    record = result.calibration
    return {name: float(np.interp(level, record.levels, record.coverage[:, i])) for i, name in enumerate(record.names)}
