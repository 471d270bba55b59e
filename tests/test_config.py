"""Settings: layers, validation, messages, digests."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eagleray.config import Config, FitConfig, config_hash, make_config, read_config
from eagleray.errors import InputError
from eagleray.networks.settings import network_settings
from eagleray.training.loop import TrainingSettings

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def test_defaults_and_layers():
    assert make_config() == Config()
    config = make_config(
        {"training": {"max_epochs": 9, "patience": 3}, "prior": {"rms": "uniform(0, 1)"}, "seed": 1},
        {"training": {"max_epochs": 8}, "network": {"density": {"hidden": [16, 8]}}},
        {"seed": 2},
    )
    assert config.training == TrainingSettings(max_epochs=8, patience=3)
    assert config.network == network_settings({"density": {"hidden": [16, 8]}})
    assert (config.seed, config.prior) == (2, {"rms": "uniform(0, 1)"})


def test_layers_are_left_alone():
    layers = {"training": {"max_epochs": 9}}, {"training": {"max_epochs": 8}, "settings": {"rebin": 0.2}}
    before = json.dumps(layers)
    make_config(*layers)
    assert json.dumps(layers) == before


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"epochs": 3}, "^epochs is no setting; known here: problem, prior, .*training"),
        ({"training": {"epochs": 3}}, r"^training\.epochs is no setting; known here: batch_size, .*max_epochs"),
        ({"network": {"depth": 3}}, r"^network\.depth is no setting"),
        ({"n_simulations": 99}, "^n_simulations: Input should be greater than or equal to 100, got 99$"),
        ({"n_calibration": 49}, "^n_calibration: .*50, got 49$"),
        ({"n_draws": 99}, "^n_draws: .*100, got 99$"),
        ({"n_predictive": 49}, "^n_predictive: .*50, got 49$"),
        ({"n_draws": "many"}, "^n_draws: .*valid integer.*got 'many'$"),
        ({"seed": -1}, "^seed: .*got -1$"),
        ({"seed": 2**32}, "^seed: .*got 4294967296$"),
        ({"prior": {"rms": 1}}, r"^prior\.rms: .*valid string, got 1$"),
        ({"prior": "uniform(0, 1)"}, "^prior: .*dictionary"),
        ({"settings": {"rebin": "wide"}}, r"^settings\.rebin: .*valid number.*got 'wide'$"),
        ({"training": 3}, "^training: .*got 3$"),
        ({"training": {"patience": 0}}, "^training: patience must be at least 1, got 0"),
        ({"training": {"learning_rate": 0.0}}, "^training: learning_rate must be positive and finite, got 0.0"),
        ({"network": {"density": {"n_layers": 0}}}, "^network.density: n_layers must be at least 1, got 0"),
        ({"network": {"density": {"hidden": [8, 0]}}}, "^network.density: hidden must be at least 1, got 0"),
        ({"network": {"density": {"bound": -1}}}, "^network.density: bound must be positive and finite, got -1"),
        ({"network": {"density": "nonsense"}}, "^network.density.kind must be one of coupling, .*, got 'nonsense'"),
        ({"method": "abc"}, "^method: .*got 'abc'$"),
    ],
)
def test_error_messages(layer, message):
    with pytest.raises(InputError, match=message) as caught:
        make_config(layer)
    assert "\n" not in str(caught.value)


def test_toml_round_trip(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('seed = 3\n[prior]\nrms = "uniform(0, 1)"\n[training]\nmax_epochs = 7\n')
    config = make_config(read_config(path))
    assert (config.seed, config.prior["rms"], config.training.max_epochs) == (3, "uniform(0, 1)", 7)


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(InputError, match="cannot read the configuration .*No such file"):
        read_config(tmp_path / "none.toml")
    for content in (b"seed = ", b"\xff\xfe\x00"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(InputError, match="is no TOML"):
            read_config(tmp_path / "bad.toml")


def test_config_is_frozen_and_survives_json():
    config = make_config({"network": {"density": {"hidden": [4]}, "embedding": "residual"}, "settings": {"rebin": 0.2}})
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3
    assert make_config(json.loads(config.model_dump_json())) == config


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_digest_ignores_order_and_survives_json(mapping):
    turned = dict(reversed(list(mapping.items())))
    assert config_hash(mapping) == config_hash(turned) == config_hash(json.loads(json.dumps(mapping)))
    assert config_hash(mapping) != config_hash({**mapping, "longer name": 1})
    assert len(config_hash(mapping)) == 20


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([f.name for f in dataclasses.fields(TrainingSettings)]), JSON)
def test_any_training_value_is_taken_or_an_input_error(name, value):
    complaint = None
    try:
        config = make_config({"training": {name: value}})
    except InputError as error:
        complaint = str(error)
    if complaint is None:
        assert isinstance(getattr(config.training, name), int | float | str | None)
    else:
        assert complaint.startswith("training")


def test_what_decides_a_network_changes_its_digest():
    base = config_hash(Config().training_part())
    for layer in (
        {"seed": 1},
        {"n_simulations": 500},
        {"training": {"patience": 2}},
        {"network": {"density": {"n_bins": 3}}},
    ):
        assert config_hash(make_config(layer).training_part()) != base
    assert config_hash(make_config({"n_draws": 500, "n_predictive": 60}).training_part()) == base


def test_priors_of_dotted_names_may_be_nested():
    """TOML and --set read dots as tables."""
    nested = make_config({"prior": {"constant": {"level": "fixed(2)"}}}, kind=FitConfig)
    assert nested.prior == {"constant.level": "fixed(2)"}
    assert make_config({"prior": {"constant.level": "fixed(2)"}}, kind=FitConfig) == nested
