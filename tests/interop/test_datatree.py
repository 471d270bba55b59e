"""Results as ArviZ groups, in memory and through netCDF."""

import json

import numpy as np
import pytest
import xarray as xr

from eagleray.diagnostics.calibration import calibration
from eagleray.interop.datatree import to_datatree
from eagleray.records import NetworkResult, TrainingHistory, Typicality
from eagleray.summaries.features import spectrum_panel

UNITS = {"slope": "", "rate": "counts/s"}
PRIOR = {"slope": "uniform(0, 3)", "rate": "loguniform(1, 9)"}


def make_result(observation):
    """A result of made-up numbers for an observation."""
    rng = np.random.default_rng(0)
    n_bins = observation.grid.n_bins
    truth = {name: rng.normal(size=60) for name in UNITS}
    return NetworkResult(
        draws={"slope": rng.uniform(0, 3, 100), "rate": rng.uniform(1, 9, 100)},
        log_prob=rng.normal(size=100),
        units=UNITS,
        prior=PRIOR,
        observation=observation,
        panel=spectrum_panel(np.array([0.1, 0.2, 0.4])),
        shown_obs=np.array([3.0, 2.0, 1.0]),
        x_obs=rng.normal(size=5),
        feature_names=("p1", "p2", "p3", "log_rate", "log_variance"),
        predictive_values=rng.normal(size=(7, n_bins)),
        shown_predictive=rng.normal(size=(7, 3)),
        calibration=calibration(truth, {name: rng.normal(size=(60, 20)) for name in UNITS}),
        typicality=Typicality(distance=1.5, p_value=0.4, n_reference=100),
        predictive_typicality=Typicality(distance=2.5, p_value=0.3, n_reference=90),
        history=TrainingHistory(train_loss=(1.0,), validation_loss=(1.1,), best_epoch=0, seconds=1.0),
        warnings=("One doubt.", "Another: µ ≥ 1."),
        provenance={"seed": 3, "command": "eagleray infer", "versions": {"jax": "1"}, "config": {"n": 2}, "none": None},
    )


@pytest.fixture(params=["make_rates", "make_counts"])
def result(request):
    return make_result(request.getfixturevalue(request.param)())


@pytest.fixture(params=["memory", "disk"])
def tree(request, result, tmp_path):
    made = to_datatree(result)
    if request.param == "memory":
        return made
    made.to_netcdf(tmp_path / "posterior.nc", engine="h5netcdf")
    return xr.load_datatree(tmp_path / "posterior.nc", engine="h5netcdf")


def test_groups_and_draws(result, tree):
    assert set(tree.children) == {"posterior", "sample_stats", "observed_data", "posterior_predictive", "calibration"}
    assert set(tree["posterior"].data_vars) == set(UNITS)
    for name, values in result.draws.items():
        variable = tree["posterior"][name]
        assert variable.dims == ("chain", "draw")
        np.testing.assert_array_equal(variable.values[0], values)
        assert variable.attrs["units"] == UNITS[name]
        assert variable.attrs["prior"] == PRIOR[name]
    np.testing.assert_array_equal(tree["sample_stats"]["lp"].values[0], result.log_prob)


def test_data_and_predictions(result, tree):
    observation, observed = result.observation, tree["observed_data"]
    np.testing.assert_array_equal(observed["values"], observation.values)
    np.testing.assert_array_equal(observed["exposure"], observation.exposure)
    np.testing.assert_array_equal(observed["background"], observation.background)
    assert ("error" in observed.data_vars) == (observation.kind == "rate")
    np.testing.assert_allclose(observed["time"], observation.start + observation.grid.times, rtol=0, atol=1e-6)
    assert observed["time"].dtype == np.float64
    np.testing.assert_array_equal(observed["freq"], result.panel.axis)
    np.testing.assert_array_equal(observed["power"], result.shown_obs)
    assert list(observed["feature"].values) == list(result.feature_names)
    predictive = tree["posterior_predictive"]
    np.testing.assert_array_equal(predictive["values"].values[0], result.predictive_values)
    np.testing.assert_array_equal(predictive["power"].values[0], result.shown_predictive)
    assert predictive["values"].dims == ("chain", "draw", "time")
    assert predictive["power"].dims == ("chain", "draw", "freq")


def test_trust_and_provenance(result, tree):
    record = result.calibration
    np.testing.assert_array_equal(tree["calibration"]["ranks"], record.ranks)
    np.testing.assert_array_equal(tree["calibration"]["coverage"], record.coverage)
    np.testing.assert_array_equal(tree["calibration"]["rank_p_value"], record.p_values)
    assert list(tree["calibration"]["parameter"].values) == ["slope", "rate"]
    assert tree["calibration"].attrs["n_draws"] == 20
    attrs = tree.attrs
    assert attrs["calibration_error"] == pytest.approx(record.error)
    assert (attrs["typicality_p_value"], attrs["predictive_typicality_p_value"]) == (0.4, 0.3)
    assert json.loads(attrs["warnings"]) == list(result.warnings)
    assert json.loads(attrs["calibration_rank_p_values"]) == pytest.approx(
        dict(zip(record.names, record.p_values, strict=True))
    )
    assert (attrs["seed"], attrs["command"], attrs["source"]) == (3, "eagleray infer", "made up")
    assert json.loads(attrs["versions"]) == {"jax": "1"}
    assert json.loads(attrs["config"]) == {"n": 2}
    assert json.loads(attrs["none"]) is None
    assert json.loads(attrs["notes"]) == list(result.observation.notes)
