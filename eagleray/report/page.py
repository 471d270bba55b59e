"""The report: one self-contained HTML page that an astronomer can read and send to a colleague."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from eagleray.diagnostics.verdicts import Verdict, judge
from eagleray.records import FitResult, NetworkResult, Panel, Result
from eagleray.report.figures import render_images
from eagleray.report.markup import (
    as_toml,
    bullet_list,
    document,
    escape,
    facts,
    figure,
    gauge,
    name,
    number,
    section,
    table,
    unbroken,
    verdict_block,
)
from eagleray.report.tables import ParameterRow, format_row, parameter_table

N_HEADLINE = 6
"""Parameters named in the headline; the rest stand in the table."""


def render_page(result: Result, images: Mapping[str, bytes] | None = None) -> str:
    """Write a result as one HTML page without external parts.

    Args:
        result: A finished inference. Missing entries of its provenance are left out of the page.
        images: PNG files by name, as `render_images(result)` returns them; drawn here if None.

    Returns:
        The page. Everything that came from the user (file names, commands, notes, names) is escaped.

    Raises:
        KeyError: If `images` lacks a figure.
    """
    images = render_images(result) if images is None else images
    rows, verdicts = parameter_table(result), judge(result)
    title = f"Variability of {_source_name(result)}"
    body = "\n".join(
        [
            _headline(result, title, rows, verdicts),
            "<main>",
            _asked(result, rows),
            _data(result, images),
            _posterior(rows, images),
            _model(result, images),
            _trust(result, verdicts, images),
            _repeat(result.provenance),
            "</main>",
        ]
    )
    return document(title, body)


def _headline(result: Result, title: str, rows: list[ParameterRow], verdicts: tuple[Verdict, ...]) -> str:
    """Title, the answer in a sentence, whether to trust it, and the warnings."""
    answers = [_answer(row) for row in rows[:N_HEADLINE]]
    more = f" and {len(rows) - N_HEADLINE} more in the table below" if len(rows) > N_HEADLINE else ""
    problem = result.provenance.get("problem", result.provenance.get("model"))
    under = f" under the model <i>{escape(str(problem).replace('_', ' '))}</i>" if problem else ""
    doubtful = sum(verdict.state in ("caution", "failed") for verdict in verdicts)
    checked = sum(verdict.state != "not checked" for verdict in verdicts)
    trust = (
        f"{checked - doubtful} of {checked} checks passed"
        if checked
        else "None of the checks of this result could be made"
    )
    return "\n".join(
        filter(
            None,
            [
                f"<header><h1>{escape(title)}</h1>",
                f'<p class="answer">Posterior medians with 68 % intervals{under}: {"; ".join(answers)}{more}.</p>',
                f'<p>{trust}: see <a href="#trust">Can it be trusted?</a></p>',
                _warnings(result.warnings),
                "</header>",
            ],
        )
    )


def _answer(row: ParameterRow) -> str:
    """One parameter's median and interval, as in a sentence."""
    median, low, high, *_ = (number(text) for text in format_row(row))
    unit = f" {escape(row.unit)}" if row.unit else ""
    return f"{escape(row.name.replace('_', ' '))} <b>{median}</b> ({low} to {high}){unit}"


def _warnings(warnings: tuple[str, ...]) -> str:
    """The result's doubts, where nobody can miss them."""
    if not warnings:
        return ""
    return f'<div class="warnings" role="note"><strong>Read this first</strong>{bullet_list(warnings)}</div>'


def _asked(result: Result, rows: list[ParameterRow]) -> str:
    """What went in: the observation's settings, the model and its priors."""
    observation, provenance = result.observation, result.provenance
    grid = observation.grid
    exposure = float(np.asarray(observation.exposure, np.float64).sum()) * grid.dt
    watched = f"{observation.n_exposed} of {grid.n_bins} bins" if observation.n_exposed < grid.n_bins else "every bin"
    kind = "counts" if observation.kind == "counts" else "rates with errors"
    settings = [
        ("File", escape(observation.source or "not named")),
        ("Bins", f"{grid.n_bins} of {number(f'{grid.dt:.6g}')} s ({kind})"),
        ("Window", f"{number(f'{grid.duration:.6g}')} s from time {number(f'{observation.start:.12g}')} s"),
        ("Exposure", f"{number(f'{exposure:.6g}')} s ({watched} watched)"),
        ("Mean rate", f"{number(f'{observation.mean_rate:.4g}')} counts/s"),
        ("Compared by", f"{escape(result.panel.value_label)}, {result.panel.axis.size} bins of {_range(result.panel)}"),
        *(
            (label, escape(_grouped(provenance[key])))
            for label, key in (
                ("Problem", "problem"),
                ("Model", "model"),
                ("Likelihood", "likelihood"),
                ("Simulations", "n_simulations"),
                ("Network", "network"),
            )
            if provenance.get(key) is not None
        ),
    ]
    priors = ((name(row.name), unbroken(escape(row.unit or "–")), escape(row.prior or "–")) for row in rows)
    prior_table = table("Parameters and priors", ("Parameter", "Unit", "Prior"), priors)
    return section("What was asked", facts(settings), prior_table, anchor="asked")


def _grouped(value: Any) -> str:
    """A value as text, thousands set apart."""
    return f"{value:,}" if isinstance(value, int) else str(value)


def _range(panel: Panel) -> str:
    """What a panel's axis is, and its ends."""
    low, high = np.min(panel.axis), np.max(panel.axis)
    return f"{escape(panel.axis_label)} from {number(f'{low:.3g}')} to {number(f'{high:.3g}')}"


def _data(result: Result, images: Mapping[str, bytes]) -> str:
    """The light curve, and what was done to it."""
    observation = result.observation
    alt = f"Observed count rate against time over {observation.grid.duration:.6g} seconds"
    caption = "The observed count rate, corrected for exposure and background, with one-sigma errors; gaps are grey. "
    if isinstance(result, NetworkResult):
        alt += (
            ", above up to three light curves simulated from the posterior, with the distribution of rates at the side."
        )
        caption += (
            "Below: light curves simulated with parameters drawn from the posterior, seen through the same window. "
            "They should resemble the observation in character, not in detail. At the side: the fraction of points at "
            "each rate, observed and simulated."
        )
    else:
        alt += ", with the distribution of rates at the side."
        caption += "At the side: the fraction of points at each rate."
    notes = "<h3>Notes from reading the file</h3>" + bullet_list(observation.notes) if observation.notes else ""
    return section("The data", figure(images["light_curve"], alt, caption), notes, anchor="data")


def _posterior(rows: list[ParameterRow], images: Mapping[str, bytes]) -> str:
    """Numbers and the corner figure."""
    lines = []
    for row in rows:
        median, low_68, high_68, low_95, high_95 = (number(text) for text in format_row(row))
        unit = " " + unbroken(f"[{escape(row.unit)}]") if row.unit else ""
        lines.append((name(row.name) + unit, median, f"{low_68} to {high_68}", f"{low_95} to {high_95}"))
    alt = "Marginal posterior of each parameter and of each pair of: " + ", ".join(row.name for row in rows) + "."
    caption = (
        "Diagonal: the posterior of each parameter, its median (solid) and 68 % interval (dashed), and its prior "
        "(dotted grey) where that is flat on this axis. Below: regions that hold 68 % and 95 % of the posterior of "
        "each pair."
    )
    head = ("Parameter", "Median", "68 %", "95 %")
    numbers = table("Posterior medians and central intervals", head, lines)
    return section("The posterior", numbers, figure(images["corner"], alt, caption), anchor="posterior")


def _model(result: Result, images: Mapping[str, bytes]) -> str:
    """The observation among data of the posterior."""
    panel, n_predictive = result.panel, result.shown_predictive.shape[0]
    alt = (
        f"{panel.value_label} against {panel.axis_label} from {np.min(panel.axis):.2g} to {np.max(panel.axis):.2g}, "
        f"observed, with bands of {n_predictive} data sets simulated from the posterior, and the two compared below."
    )
    below = "divided by the simulated median" if panel.log_value else "less the simulated median, in units of scatter"
    caption = (
        f"Points: the observation. Bands: where 68 % and 95 % of {n_predictive} data sets simulated from the posterior "
        f"have theirs, so that {_in_the_bands(result)} in the bands. Below: both {below}. About one point in twenty "
        "should lie outside the pale band."
    )
    best = _best_fit(result) if isinstance(result, FitResult) else ""
    return section("Model against data", figure(images["model"], alt, caption), best, anchor="model")


def _in_the_bands(result: Result) -> str:
    """What scatters the simulated data."""
    return "sampling noise, leakage and gaps are" if isinstance(result, NetworkResult) else "sampling noise is"


def _best_fit(result: FitResult) -> str:
    """The optimum: its likelihood, what penalises it, and its parameters with errors from the curvature."""
    optimum = result.optimum
    if optimum is None:
        return ""
    lines = (
        (name(parameter), number(f"{value:.5g}"), number(f"{optimum.standard_error[parameter]:.2g}"))
        for parameter, value in optimum.theta.items()
        if parameter in optimum.standard_error
    )
    numbers = [
        ("ln likelihood", number(f"{optimum.log_likelihood:.2f}")),
        ("Free parameters", str(optimum.n_free)),
        ("AIC", number(f"{optimum.aic:.2f}")),
        ("BIC", number(f"{optimum.bic:.2f}")),
    ]
    if result.samples.log_evidence is not None:
        error = result.samples.log_evidence_error
        numbers.append(("ln evidence", number(f"{result.samples.log_evidence:.2f} ± {error:.2f}")))
    return (
        "<h3>Best fit</h3>"
        + facts(numbers)
        + table(
            "Maximum of the posterior density (that of the logarithm under log-uniform and log-normal priors), with "
            "standard errors from its curvature",
            ("Parameter", "Value", "Error"),
            lines,
        )
    )


def _trust(result: Result, verdicts: tuple[Verdict, ...], images: Mapping[str, bytes]) -> str:
    """Every check, with its number and its figure."""
    illustrations = _network_figures(result, images) if isinstance(result, NetworkResult) else _fit_figures(images)
    n_warnings = len(result.warnings)
    pointer = (
        f"<p>Beside these checks, mind the warning{'s' if n_warnings > 1 else ''} at the top of this page.</p>"
        if n_warnings
        else ""
    )
    blocks = (verdict_block(verdict, image) for verdict, image in zip(verdicts, illustrations, strict=True))
    return section("Can it be trusted?", pointer, *blocks, anchor="trust")


def _fit_figures(images: Mapping[str, bytes]) -> tuple[str, ...]:
    """Illustrations of a fit's verdicts, in their order."""
    chains = figure(
        images["chains"],
        "Draws of each chain in turn for each parameter, and histograms of their ranks.",
        "Left: the draws of each chain; they should look alike and wander freely. Right: how each chain's draws rank "
        "among all; even if the chains agree. Grey: 95 % range for independent draws.",
    )
    return chains, "", ""


def _network_figures(result: NetworkResult, images: Mapping[str, bytes]) -> tuple[str, ...]:
    """Illustrations of a network's verdicts, in their order."""
    calibration = figure(
        images["calibration"],
        "Coverage of the intervals against their nominal probability, the difference of the two, and rank histograms "
        "for each parameter, with the ranges a perfect posterior would keep to.",
        "Above: how often intervals held the true value, against how often they should. Below: where the true value "
        "ranked among posterior draws: even if calibrated, hollow if too wide, heaped at the ends if too narrow, "
        "tilted if shifted. Grey: 95 % range for a perfect posterior, each value taken by itself, so one in twenty "
        "may lie outside.",
    )
    training = figure(
        images["training"],
        "Training and validation loss against epoch.",
        "Loss on the simulations used for training and on those held back; the dashed line marks the weights kept.",
    )
    return calibration, gauge(result.typicality), gauge(result.predictive_typicality), training


def _repeat(provenance: Mapping[str, Any]) -> str:
    """Command, versions, seed and settings."""
    versions, seconds = provenance.get("versions") or {}, provenance.get("seconds") or {}
    rows = [
        ("Date", provenance.get("created")),
        ("Seed", provenance.get("seed")),
        ("Versions", ", ".join(f"{package} {version}" for package, version in versions.items()) or None),
        ("Time taken", ", ".join(f"{stage} {float(spent):.1f} s" for stage, spent in seconds.items()) or None),
    ]
    command, config = provenance.get("command"), provenance.get("config")
    return section(
        "How to repeat it",
        f"<pre><code>{escape(command)}</code></pre>" if command else "",
        facts((label, escape(value)) for label, value in rows if value is not None),
        f"<h3>Configuration</h3>\n<pre><code>{escape(as_toml(config))}</code></pre>" if config else "",
        anchor="repeat",
    )


def _source_name(result: Result) -> str:
    """What to call the observation: its file's name."""
    return PurePath(result.observation.source).name or "an unnamed observation"
