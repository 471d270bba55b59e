"""From an observation to a folder with its answer, with tiny settings."""

import csv
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from eagleray.config import make_config
from eagleray.errors import InputError
from eagleray.inference.storage import load_posterior
from eagleray.pipeline.amortised import default_cache, infer, matching_problem, observed_summary, simulate, train
from eagleray.pipeline.batch import infer_each
from eagleray.pipeline.results import write_batch, write_result
from eagleray.problems import make_problem

TINY = {
    "n_simulations": 400,
    "n_calibration": 50,
    "n_draws": 200,
    "n_predictive": 50,
    "settings": {"red_noise": 2.0, "rebin": 0.3},
    "training": {"max_epochs": 2},
    "network": {
        "embedding": {"hidden": [8], "n_embedded": 4},
        "density": {"n_layers": 2, "hidden": [8], "n_bins": 2},
    },
}


class Stages(list):
    """A watch that remembers what it was told."""

    def __call__(self, stage, done, total, remark=""):
        self.append(stage)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def observation(make_rates):
    return make_rates()


_ANSWERS = {}


@pytest.fixture
def answer(observation, cache):
    """One inference, trained once for all tests here: (result, posterior, stages)."""
    if not _ANSWERS:
        stages = Stages()
        _ANSWERS["first"] = (*infer(observation, config=make_config(TINY), cache=cache, watch=stages), stages)
    return _ANSWERS["first"]


def test_result_is_whole(answer, observation):
    result, posterior, stages = answer
    assert list(result.draws) == ["slope_low", "slope_high", "bend_freq", "rms", "rate"]
    assert all(values.shape == (200,) and np.isfinite(values).all() for values in result.draws.values())
    assert result.predictive_values.shape == (50, 200)
    assert result.shown_predictive.shape == (50, result.panel.axis.size) == (50, result.shown_obs.size)
    assert result.x_obs.shape == (len(result.feature_names),)
    assert len(result.history.train_loss) == 2
    assert result.calibration.ranks.shape == (50, 5)
    assert result.observation is observation
    assert result.provenance["network"] == "trained for this observation"
    assert result.provenance["config"]["n_simulations"] == 400
    assert list(dict.fromkeys(stages)) == ["simulating", "training", "calibrating"]
    assert posterior.provenance["n_simulations"] == 400
    theta = {name: values[0] for name, values in result.draws.items()}
    np.testing.assert_allclose(posterior.log_prob(theta, result.x_obs), result.log_prob[0], atol=0.02)


@pytest.mark.slow
def test_cached_network_answers_without_training(answer, observation, cache):
    stages = Stages()
    again, _ = infer(observation, config=make_config(TINY), cache=cache, watch=stages)
    assert "training" not in stages
    assert "simulating" not in stages
    assert again.provenance["network"].startswith("from the cache")
    for name, values in answer[0].draws.items():
        np.testing.assert_array_equal(again.draws[name], values)
    np.testing.assert_array_equal(again.predictive_values, answer[0].predictive_values)
    assert again.warnings == answer[0].warnings


@pytest.mark.slow
def test_same_seed_same_answer_and_a_bank_changes_nothing(answer, observation):
    config = make_config(TINY)
    problem = make_problem(config.problem, observation, config.prior, **config.settings)
    bank = simulate(problem, n=400)
    posterior = train(problem, config=config, bank=bank)
    again, _ = infer(observation, config=config, posterior=posterior)
    for name, values in answer[0].draws.items():
        np.testing.assert_array_equal(again.draws[name], values)
    other, _ = infer(observation, config=make_config(TINY, {"seed": 1}), posterior=posterior)
    assert (other.draws["rms"] != again.draws["rms"]).any()


def test_a_damaged_cache_entry_is_made_anew(answer, observation, cache, monkeypatch):
    made = []

    def train_nothing(problem, *, config, watch):
        made.append(problem.name)
        return answer[1]

    monkeypatch.setattr("eagleray.pipeline.amortised.train", train_nothing)
    (entry,) = (cache / "networks").iterdir()
    (entry / "posterior.json").write_text("{")
    infer(observation, config=make_config(TINY), cache=cache)
    assert made == ["bending_power_law"]
    assert load_posterior(entry).names == answer[1].names
    assert [p.name for p in (cache / "networks").iterdir()] == [entry.name]


def test_a_network_serves_only_light_curves_watched_alike(answer, make_rates, make_counts):
    posterior = answer[1]
    for like in (make_rates(seed=1), make_rates(mean=6.0)):
        assert matching_problem(posterior, like).prior.texts == posterior.prior.texts
    for other, name in (
        (make_rates(dt=50.0), "dt"),
        (make_rates(n_bins=201), "n_bins"),
        (make_rates(gap=slice(5, 9)), "exposure"),
        (make_rates(error_scale=2.0), "variance_per_rate"),
        (make_counts(dt=100.0), "kind"),
    ):
        with pytest.raises(InputError, match=rf"the network was trained for .*{name} .*train anew"):
            matching_problem(posterior, other)


def test_given_network_must_have_been_checked(answer, observation):
    bare = dataclasses.make_dataclass("Bare", ["signature", "reference", "calibration"])
    with pytest.raises(InputError, match="must have been checked on fresh simulations"):
        infer(observation, config=make_config(TINY), posterior=bare(answer[1].signature, None, None))


def test_light_curves_without_a_spectrum_are_refused(answer, observation):
    dark = dataclasses.replace(matching_problem(answer[1], observation), observed=-jnp.ones(200))
    with pytest.raises(InputError, match="must have a finite summary, got log_power.* that is not.*positive mean"):
        observed_summary(dark)


def test_simulations_without_a_summary_are_too_many(make_counts):
    faint = make_counts(mean=1e-4, background=3.0)
    config = make_config(TINY, {"prior": {"rate": "loguniform(1e-9, 2e-9)"}})
    problem = make_problem(config.problem, make_counts(), config.prior, **config.settings)
    assert faint.grid == problem.summary.grid
    with pytest.raises(InputError, match="simulations have no positive mean rate; raise the lower bound"):
        train(problem, config=make_config(TINY, {"n_simulations": 100}))


def test_folder_holds_everything_and_nothing_else(answer, tmp_path):
    result, posterior, _ = answer
    folder = tmp_path / "out"
    write_result(result, folder, posterior=posterior)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert {p.name for p in folder.iterdir()} == {"posterior.nc", "summary.csv", "report.html", "figures", "network"}
    assert any((folder / "figures").iterdir())
    tree = xr.load_datatree(folder / "posterior.nc", engine="h5netcdf")
    np.testing.assert_array_equal(tree["posterior"]["rms"].values[0], result.draws["rms"])
    loaded = load_posterior(folder / "network")
    draws = loaded.sample(jax.random.key(5), result.x_obs, 50)
    np.testing.assert_array_equal(draws["rms"], posterior.sample(jax.random.key(5), result.x_obs, 50)["rms"])


def test_existing_folders_are_kept_or_replaced_whole(answer, tmp_path, monkeypatch):
    result, posterior, _ = answer
    for name in ("render_images", "write_figures", "write_report"):  # figures were drawn above
        monkeypatch.setattr(f"eagleray.pipeline.results.{name}", lambda *args: {})
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    for overwrite, match in ((False, "exists"), (True, "holds something else")):
        with pytest.raises(InputError, match=match):
            write_result(result, folder, posterior=posterior, overwrite=overwrite)
    (folder / "mine.txt").rename(folder / "posterior.json")  # now it looks like a network

    def fail(*args):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("eagleray.pipeline.results.write_summary_csv", fail)
        with pytest.raises(OSError, match="disk full"):
            write_result(result, folder, posterior=posterior, overwrite=True)
    assert [p.name for p in folder.iterdir()] == ["posterior.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    write_result(result, folder, posterior=posterior, overwrite=True)
    assert not (folder / "posterior.json").exists()
    assert (folder / "posterior.nc").is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.fixture
def batch(answer, make_rates, observation):
    """Four observations: the first, one like it, one that was watched otherwise, one that cannot be read."""

    def unreadable():
        raise InputError("b.txt must hold numbers, got 'b'")

    observations = {
        "first": observation,
        "like it": lambda: make_rates(seed=1),
        "shorter": make_rates(n_bins=100),
        "unreadable": unreadable,
    }
    return infer_each(observations, answer[1], n_draws=400, watch=Stages())


def test_many_observations_are_answered_as_one_is(answer, batch):
    """The draws are others, the posterior is the same: its median is, within five of its errors."""
    alone, _, _ = answer
    assert batch.names == ("first", "like it", "shorter", "unreadable")
    np.testing.assert_array_equal(batch.x_obs[0], alone.x_obs)
    for name, values in alone.draws.items():
        assert batch.draws[name].shape == (4, 400)
        error = 1.25 * values.std() * np.sqrt(1 / 200 + 1 / 400)
        assert abs(np.median(batch.draws[name][0]) - np.median(values)) < 5 * error
    assert (batch.x_obs[1] != batch.x_obs[0]).any()
    assert batch.p_values[0] == alone.typicality.p_value
    assert set(batch.warnings[0]) <= {*alone.warnings}


def test_what_cannot_be_answered_is_kept_with_the_reason(answer, batch, make_rates):
    assert batch.refused[:2] == ("", "")
    assert "n_bins 200, this one has 100" in batch.refused[2]
    assert batch.refused[3] == "b.txt must hold numbers, got 'b'"
    assert batch.warnings[2:] == ((), ())
    for values in (*batch.draws.values(), batch.x_obs, batch.p_values):
        assert np.isfinite(values[:2]).all()
        assert np.isnan(values[2:]).all()
    with pytest.raises(InputError, match="at least one .* suit the network, got none of 1: the network was trained"):
        infer_each({"shorter": make_rates(n_bins=100)}, answer[1])
    with pytest.raises(InputError, match="at least one, got none"):
        infer_each({}, answer[1])


def test_an_observation_beyond_the_simulations_is_doubted(answer, observation):
    """Twin of the one that it was trained for: fainter than any rate of its prior, as noisy for its rate."""
    faint = dataclasses.replace(observation, values=observation.values / 50, error=observation.error / np.sqrt(50))
    found = infer_each({"first": observation, "faint": faint}, answer[1], n_draws=100)
    assert not any("outside all simulations" in text for text in found.warnings[0])
    assert any("outside all simulations" in text for text in found.warnings[1])


def test_answers_for_many_are_a_folder(batch, tmp_path):
    write_batch(batch, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["posterior.nc", "summary.csv"]
    with (tmp_path / "out" / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["observation"] for row in rows] == list(batch.names)
    assert float(rows[1]["rms_median"]) == pytest.approx(np.median(batch.draws["rms"][1]))
    assert float(rows[1]["rms_low_68"]) < float(rows[1]["rms_median"]) < float(rows[1]["rms_high_68"])
    assert rows[0]["doubts"] == " ".join(batch.warnings[0])
    assert rows[3]["rms_median"] == rows[3]["p_typical"] == ""
    assert rows[3]["refused"] == batch.refused[3]
    with xr.open_datatree(tmp_path / "out" / "posterior.nc", engine="h5netcdf") as tree:
        assert tree["posterior"]["rms"].dims == ("chain", "draw", "observation")
        found = tree["posterior"]["rms"].sel(observation="like it").values
        np.testing.assert_array_equal(found[0], batch.draws["rms"][1])
        assert json.loads(tree.attrs["refused"])[3] == batch.refused[3]
    with pytest.raises(InputError, match="exists"):
        write_batch(batch, tmp_path / "out")


def test_default_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("EAGLERAY_CACHE", str(tmp_path))
    assert default_cache() == tmp_path
    monkeypatch.delenv("EAGLERAY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "eagleray"


@pytest.mark.slow
def test_learning_from_a_store_and_from_fresh_simulations(tmp_path):
    """Both end in a posterior like that of data in memory: mean and sd of a linear Gaussian one to 0.3 sd."""
    from eagleray.interop.banks import open_bank, save_bank
    from eagleray.pipeline.learning import learn
    from eagleray.priors import Prior
    from eagleray.records import Bank
    from eagleray.simulators.batch import map_draws
    from eagleray.training.data import Simulated

    prior = Prior({"mean": "normal(0, 1)"})

    def draw(key):
        key_theta, key_x = jax.random.split(key)
        position = jax.random.normal(key_theta, (1,))
        return position, (position + 0.5 * jax.random.normal(key_x, (1,)))[None], jnp.ones(1, bool)

    theta, x, valid = map_draws(draw, jax.random.key(0), 9000)
    bank = Bank(theta=theta, x=x, valid=valid)
    save_bank(bank, tmp_path / "bank.zarr", signature={})
    config = make_config(
        {
            "network": {
                "embedding": {"hidden": [16]},
                "density": {"kind": "mixture", "n_components": 1, "hidden": [16]},
            },
            "training": {"max_epochs": 12, "learning_rate": 0.005},
        }
    )
    for source in (open_bank(tmp_path / "bank.zarr", signature={}), Simulated(draw=draw, steps_per_epoch=60)):
        posterior = learn(jax.random.key(1), prior, source, config=config, folder=tmp_path / type(source).__name__)
        draws = posterior.sample(jax.random.key(2), np.array([1.0], np.float32), 4000)["mean"]
        assert abs(draws.mean() - 0.8) < 0.3 * np.sqrt(0.2)
        assert abs(draws.std() / np.sqrt(0.2) - 1) < 0.2
        lines = (tmp_path / type(source).__name__ / "metrics.csv").read_text().splitlines()
        assert len(lines) == 1 + len(posterior.history.train_loss)
