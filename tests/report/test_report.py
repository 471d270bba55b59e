"""The report on a synthetic result made like NGC 4051: what is written, what it says, and what must not break it."""

import csv
import dataclasses
import html.parser
import io
import math
import pathlib
import re
import sys

import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest
from rich.console import Console

from eagleray import report
from eagleray.diagnostics.verdicts import judge_calibration, judge_predictive, judge_training, judge_typicality
from eagleray.records import Calibration, LightCurve, NetworkResult, TimeGrid, TrainingHistory, Typicality
from eagleray.report.drawing import binomial_interval, geometric_edges, quantile_bands, to_png
from eagleray.report.light_curve import rates, view_of
from eagleray.report.markup import as_toml
from eagleray.report.tables import format_row
from eagleray.summaries.features import spectrum_panel

DATA = pathlib.Path(__file__).parents[2] / "examples" / "data" / "ngc4051_xmm.txt"
PRIORS = {
    "slope_low": ("", "uniform(0, 2)", 1.1, 0.2),
    "slope_high": ("", "uniform(1.5, 4)", 2.2, 0.15),
    "bend_frequency": ("Hz", "loguniform(1e-05, 0.003)", 2.3e-4, 1e-4),
    "rms": ("", "loguniform(0.05, 2)", 0.5, 0.05),
    "mean_rate": ("counts/s", "normal(29, 3)", 29.0, 2.0),
}
DRAW = {
    "corner": report.corner_figure,
    "model": report.model_figure,
    "light_curve": report.light_curve_figure,
    "training": lambda result: report.training_figure(result.history),
    "calibration": lambda result: report.calibration_figure(result.calibration),
}
VOID = {"meta", "br", "wbr", "img", "rect", "path"}


def make_draws(n_theta=5, n_draws=1000, seed=0):
    rng = np.random.default_rng(seed)
    draws, units, prior = {}, {}, {}
    for i in range(n_theta):
        base = list(PRIORS)[i % len(PRIORS)]
        unit, text, centre, width = PRIORS[base]
        name = base if i < len(PRIORS) else f"{base}_{i}"
        draws[name] = centre * np.exp(width / centre * rng.normal(size=n_draws))
        units[name], prior[name] = unit, text
    return {"draws": draws, "units": units, "prior": prior, "log_prob": np.zeros(n_draws)}


def make_calibration(names, n=400, n_draws=100, seed=1):
    ranks = np.random.default_rng(seed).integers(0, n_draws + 1, size=(n, len(names)))
    levels = np.linspace(0.05, 0.95, 19)
    central = np.abs(2 * (ranks + 0.5) / (n_draws + 1) - 1)
    coverage = np.array([(central < level).mean(axis=0) for level in levels])
    return Calibration(
        names=tuple(names),
        ranks=ranks,
        n_draws=n_draws,
        levels=levels,
        coverage=coverage,
        error=float(np.abs(coverage - levels[:, None]).mean()) if names else math.nan,
        error_floor=0.016,
        p_values=np.full(len(names), 0.4),
    )


def make_result(n_theta=5, **changes):
    """A result whose observation is NGC 4051 with a gap cut into it, and whose simulations are log-normal noise."""
    rng = np.random.default_rng(3)
    time, rate, error = np.loadtxt(DATA, skiprows=1, unpack=True)
    index = np.round((time - time[0]) / 100.0).astype(int)
    n_bins = index[-1] + 1
    exposure, values, errors = np.zeros(n_bins), np.zeros(n_bins), np.zeros(n_bins)
    exposure[index], values[index], errors[index] = 1.0, rate, error
    exposure[400:450] = values[400:450] = 0.0
    walk = np.cumsum(rng.normal(size=(20, n_bins)), axis=1)
    walk = (walk - walk.mean(1, keepdims=True)) / walk.std(1, keepdims=True)
    freq = np.geomspace(1e-5, 5e-3, 20)
    power = 0.03 * (freq / 2.3e-4) ** -1.5 * 1e4
    fields = make_draws(n_theta)
    fields |= {
        "observation": LightCurve(
            values=jnp.asarray(values),
            exposure=jnp.asarray(exposure),
            background=jnp.zeros(n_bins),
            error=jnp.asarray(errors),
            grid=TimeGrid(n_bins=int(n_bins), dt=100.0),
            kind="rate",
            start=1.07e8,
            source="examples/data/ngc4051_xmm.txt",
            notes=("1170 rows read",),
        ),
        "panel": spectrum_panel(freq),
        "shown_obs": power * rng.gamma(3, 1 / 3, size=freq.size),
        "x_obs": np.zeros(22),
        "feature_names": tuple(f"feature_{i}" for i in range(22)),
        "predictive_values": 29 * np.exp(0.5 * walk) * exposure,
        "shown_predictive": power * rng.gamma(3, 1 / 3, size=(20, freq.size)),
        "calibration": make_calibration(tuple(fields["draws"])),
        "typicality": Typicality(distance=4.2, p_value=0.34, n_reference=2000),
        "predictive_typicality": Typicality(distance=6.0, p_value=0.03, n_reference=500),
        "history": TrainingHistory(
            train_loss=tuple(np.exp(-np.arange(30) / 8)),
            validation_loss=tuple(np.exp(-np.arange(30) / 8) + 0.1),
            best_epoch=21,
            seconds=40.0,
        ),
        "warnings": (),
        "provenance": {
            "problem": "bending_power_law",
            "command": "eagleray infer examples/data/ngc4051_xmm.txt --seed 1",
            "seed": 1,
            "versions": {"eagleray": "0.1.0", "jax": "0.7"},
            "created": "2025-11-23",
            "n_simulations": 100_000,
            "network": "trained for this observation",
            "seconds": {"simulate": 30.0, "train": 61.0},
            "config": {"seed": 1, "cache": None, "training": {"batch": 512, "rate": 5e-4, "flow": "spline"}},
        },
    }
    return NetworkResult(**(fields | changes))


@pytest.fixture(scope="module")
def result():
    return make_result()


@pytest.fixture(scope="module")
def images(result):
    return report.render_images(result)


class Outline(html.parser.HTMLParser):
    """Tags in order, links, and whether every tag was closed."""

    def __init__(self):
        super().__init__()
        self.tags, self.links, self.alts, self.ids, self.open = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attrs = dict(attrs)
        self.links += [attrs[key] for key in ("src", "href") if key in attrs]
        self.ids += [attrs["id"]] if "id" in attrs else []
        self.alts += [attrs.get("alt")] if tag == "img" else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def parse(page):
    outline = Outline()
    outline.feed(page)
    outline.close()
    assert outline.open == []
    return outline


def test_every_file_is_written_from_one_drawing(result, images, tmp_path):
    paths = report.write_figures(result, tmp_path / "figures", images)
    assert sorted(path.name for path in paths) == [
        "calibration.png",
        "corner.png",
        "light_curve.png",
        "model.png",
        "training.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
    page = report.write_report(result, tmp_path / "report.html", images)
    assert page.read_text(encoding="utf-8") == report.render_page(result, images)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "report.html"]


def test_page_is_well_formed_and_self_contained(result, images):
    page = report.render_page(result, images)
    outline = parse(page)
    assert len(outline.alts) == 5
    assert all(outline.alts)
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in outline.links)
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)
    assert "http:" not in page
    assert "https:" not in page
    assert "url(" not in page
    assert "@import" not in page
    levels = [int(tag[1]) for tag in outline.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) <= 1


def test_page_says_what_was_asked_and_how_to_repeat_it(result, images):
    page = report.render_page(result, images)
    for text in (
        "1120 of 1170 bins",
        "loguniform(1e-05, 0.003)",
        "eagleray 0.1.0",
        "--seed 1",
        "100,000",
        "batch = 512",
    ):
        assert text in page
    assert "3 of 4 checks passed" in page
    assert "Mahalanobis distance 4.2" in page


def test_missing_provenance_is_left_out(result, images):
    page = report.render_page(dataclasses.replace(result, provenance={}), images)
    parse(page)
    assert "Configuration" not in page
    assert "None" not in page.replace("None of", "")


def test_what_the_user_wrote_is_escaped(images):
    evil = '<script>alert("&")</script>$x_'
    fields = make_draws(1)
    result = make_result(
        draws={evil: fields["draws"]["slope_low"]},
        units={evil: evil},
        prior={evil: evil},
        calibration=make_calibration((evil,)),
        warnings=(evil,),
        provenance={"problem": evil, "command": evil, "versions": {evil: evil}, "config": {evil: {evil: evil}}},
    )
    result = dataclasses.replace(
        result, observation=dataclasses.replace(result.observation, source=evil, notes=(evil,))
    )
    page = report.render_page(result, images)
    assert "script" not in parse(page).tags
    assert "<script" not in page
    report.render_images(result)  # a dollar sign must not start mathematics
    Console(file=io.StringIO()).print(report.render_table(result))


def test_warnings_are_shown_first_when_there_are_any(result, images):
    assert "Read this first" not in report.render_page(result, images)
    page = report.render_page(dataclasses.replace(result, warnings=("few counts", "short window")), images)
    assert page.index("few counts") < page.index("short window") < page.index("What was asked")


def test_table_equals_numpy_quantiles(result):
    for row in report.parameter_table(result):
        expected = np.quantile(result.draws[row.name], [0.5, 0.16, 0.84, 0.025, 0.975])
        np.testing.assert_allclose(row.values, expected, rtol=1e-12)
        assert (row.unit, row.prior) == (result.units[row.name], result.prior[row.name])


def test_csv_round_trip(result, tmp_path):
    path = report.write_summary_csv(result, tmp_path / "summary.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, expected in zip(rows, report.parameter_table(result), strict=True):
        assert (row["name"], row["unit"], row["prior"]) == (expected.name, expected.unit, expected.prior)
        numbers = [float(row[key]) for key in ("median", "low_68", "high_68", "low_95", "high_95")]
        assert tuple(numbers) == expected.values


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((1.1071, 0.8987, 1.3042, 0.7023, 1.4837), ("1.11", "0.90", "1.30", "0.70", "1.48")),
        ((2.36e-4, 1.41e-4, 3.88e-4, 0.86e-4, 6.2e-4), ("2.4e-4", "1.4e-4", "3.9e-4", "0.9e-4", "6.2e-4")),
        ((1e-4, 1e-5, 1e-3, 1.23e-6, 0.0123), ("1.0e-4", "1.0e-5", "0.0010", "1.2e-6", "0.012")),
        ((12345.6, 12000.0, 12700.0, 11600.0, 13000.0), ("12346", "12000", "12700", "11600", "13000")),
        ((-0.5, -1.0, 0.0, -1.5, 0.5), ("-0.50", "-1.00", "0.00", "-1.50", "0.50")),
        ((3.0, 3.0, 3.0, 3.0, 3.0), ("3.0000",) * 5),
        ((math.nan,) * 5, ("nan",) * 5),
        ((0.0,) * 5, ("0.0000",) * 5),
    ],
)
def test_digits_follow_the_interval(values, texts):
    names = ("median", "low_68", "high_68", "low_95", "high_95")
    row = report.ParameterRow(name="a", unit="", prior="", **dict(zip(names, values, strict=True)))
    assert format_row(row) == texts


def test_terminal_table_shows_names_and_numbers(result):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(report.render_table(result))
    text = console.export_text()
    for row in report.parameter_table(result):
        assert row.name in text
        assert format_row(row)[0] in text


@pytest.mark.parametrize("n_theta", [1, 2, pytest.param(12, marks=pytest.mark.slow)])
def test_any_number_of_parameters(n_theta):
    page = report.render_page(make_result(n_theta))
    parse(page)
    assert ("6 more in the table" in page) == (n_theta == 12)


def one_bin(result):
    observation = LightCurve(
        values=jnp.array([5.0]),
        exposure=jnp.array([0.5]),
        background=jnp.array([1.0]),
        error=None,
        grid=TimeGrid(n_bins=1, dt=10.0),
    )
    return {
        "observation": observation,
        "predictive_values": np.full((2, 1), 4.0),
        "panel": spectrum_panel(np.array([0.01])),
        "shown_obs": np.array([2.0]),
        "shown_predictive": np.array([[1.0], [3.0]]),
    }


def constant_parameter(result):
    return {"draws": result.draws | {"rms": np.full(1000, 0.5), "bend_frequency": np.full(1000, 2e-4)}}


def bad_powers(result):
    observed, predicted = result.shown_obs.copy(), result.shown_predictive.copy()
    observed[0], observed[1], observed[2], predicted[:, 3], predicted[0, 4], predicted[:, 5] = (
        0,
        np.nan,
        -1,
        np.nan,
        0,
        0,
    )
    return {"shown_obs": observed, "shown_predictive": predicted}


def no_power_at_all(result):
    return {"shown_obs": 0 * result.shown_obs, "shown_predictive": 0 * result.shown_predictive}


def nothing_simulated(result):
    return {"predictive_values": result.predictive_values[:0], "shown_predictive": result.shown_predictive[:0]}


def bad_draws(result):
    slope, bend = result.draws["slope_low"].copy(), result.draws["bend_frequency"].copy()
    slope[:3], bend[:2] = np.nan, -1.0
    return {"draws": result.draws | {"slope_low": slope, "bend_frequency": bend, "mean_rate": np.full(1000, np.nan)}}


def unchecked(result):
    return {
        "calibration": dataclasses.replace(
            result.calibration, ranks=np.zeros((0, 5), int), error=math.nan, coverage=np.full((19, 5), np.nan)
        ),
        "typicality": Typicality(distance=math.nan, p_value=math.nan, n_reference=0),
        "predictive_typicality": Typicality(distance=math.nan, p_value=math.nan, n_reference=0),
        "history": TrainingHistory(train_loss=(), validation_loss=(), best_epoch=0, seconds=0.0),
    }


def few_draws(result):
    return {"draws": {name: draws[:3] for name, draws in result.draws.items()}}


@pytest.mark.parametrize(
    ("change", "affected"),
    [
        (one_bin, ("light_curve", "model")),
        (constant_parameter, ("corner",)),
        (bad_powers, ("model",)),
        (no_power_at_all, ("model",)),
        (nothing_simulated, ("light_curve", "model")),
        (bad_draws, ("corner",)),
        (unchecked, ("calibration", "training")),
        (few_draws, ("corner",)),
    ],
)
@pytest.mark.filterwarnings("error")
def test_degenerate_results_still_make_a_page(result, images, change, affected):
    result = dataclasses.replace(result, **change(result))
    page = report.render_page(result, images | {name: to_png(DRAW[name](result)) for name in affected})
    parse(page)
    assert (change is unchecked) == ("Not checked" in page)


def test_counts_are_corrected_for_exposure_background_and_averaging():
    n_bins = 2500
    exposure = np.where(np.arange(n_bins) < 1200, 1.0, 0.5)
    exposure[600:606] = 0.0
    background = 2.0 * exposure
    observation = LightCurve(
        values=jnp.asarray(10.0 * exposure + background),
        exposure=jnp.asarray(exposure),
        background=jnp.asarray(background),
        error=None,
        grid=TimeGrid(n_bins=n_bins, dt=2.0),
    )
    view = view_of(observation)
    rate = rates(np.stack([np.asarray(observation.values)] * 2), view)
    assert view.group == 3
    assert rate.shape == (2, 834)
    assert np.isnan(rate[0, 200:202]).all()
    np.testing.assert_allclose(np.delete(rate[0], [200, 201]), 5.0)


def test_verdicts_follow_the_numbers(result):
    calibration = result.calibration
    assert judge_calibration(calibration).state == "passed"
    assert judge_calibration(dataclasses.replace(calibration, error=0.035)).state == "caution"
    assert judge_calibration(dataclasses.replace(calibration, error=0.08)).state == "failed"
    uneven = np.array([0.4, 0.001, 0.4, 0.4, 0.4])
    assert judge_calibration(dataclasses.replace(calibration, p_values=uneven)).state == "caution"
    assert judge_calibration(dataclasses.replace(calibration, p_values=uneven * np.nan)).state == "caution"
    assert judge_typicality(result.typicality).state == "passed"
    assert judge_predictive(result.predictive_typicality).state == "caution"
    smallest = judge_predictive(Typicality(distance=30.0, p_value=1 / 501, n_reference=500))
    assert smallest.state == "failed"
    assert "none had a summary at least as far" in smallest.sentence
    assert judge_training(result.history).state == "passed"
    falling = TrainingHistory(train_loss=(3.0, 2.0, 1.0), validation_loss=(3.0, 2.0, 1.2), best_epoch=2, seconds=1.0)
    assert judge_training(falling).state == "caution"
    by_heart = TrainingHistory(train_loss=(3.0, 2.0, 1.0), validation_loss=(3.0, 2.4, 2.4), best_epoch=2, seconds=1.0)
    assert "by heart" in judge_training(by_heart).sentence


def test_binomial_interval_holds_its_probability():
    counts = np.random.default_rng(5).binomial(300, 0.2, size=20_000)
    low, high = binomial_interval(300, np.array([0.0, 0.2, 1.0]))
    inside = np.mean((counts >= low[1]) & (counts <= high[1]))
    assert 0.95 - 0.008 < inside < 0.975  # five standard errors: false alarm 6e-7
    assert (low[0], high[0], low[2], high[2]) == (0, 0, 300, 300)


def test_bands_ignore_what_is_not_finite():
    samples = np.array([[1.0, np.nan], [3.0, np.nan], [np.inf, np.nan]])
    bands = quantile_bands(samples)
    assert bands[2, 0] == 2.0
    assert np.isnan(bands[:, 1]).all()


def test_edges_lie_between_centres():
    np.testing.assert_allclose(geometric_edges(np.array([1.0, 4.0, 16.0])), [0.5, 2.0, 8.0, 32.0])


def test_settings_are_valid_toml():
    import tomllib

    settings = {"seed": 1, "on": True, "path": 'a"b', "levels": (0.5, 1e-5), "deep": {"er": {"n": np.int64(3)}}}
    expected = settings | {"levels": [0.5, 1e-5], "deep": {"er": {"n": 3}}}
    assert tomllib.loads(as_toml(settings | {"cache": None})) == expected


def test_drawing_leaves_the_global_style_and_pyplot_alone(result):
    before = dict(matplotlib.rcParams)
    report.model_figure(result)
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []
