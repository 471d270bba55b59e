"""The page of a diagnosis: each test with its verdict, its number and its figure."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from eagleray.diagnostics.coverage import RegionCoverage
from eagleray.diagnostics.diagnosis import Diagnosis
from eagleray.diagnostics.local_c2st import LocalC2st
from eagleray.diagnostics.predictive import StatisticCheck
from eagleray.diagnostics.rank_bands import RankBands
from eagleray.diagnostics.recovery import Recovery
from eagleray.diagnostics.verdicts import Verdict
from eagleray.files import atomic_folder
from eagleray.report.drawing import (
    BLACK,
    BLUE,
    CYCLE,
    GREY,
    PALE,
    VERMILLION,
    axis_label,
    finish_axes,
    new_figure,
    styled,
    to_png,
)
from eagleray.report.markup import document, escape, facts, figure, section, verdict_block

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_diagnosis(diagnosis: Diagnosis, folder: Path, *, overwrite: bool = False) -> None:
    """Write `diagnosis.html`, `diagnosis.json` and `figures/` into a new folder, whole or not at all.

    Args:
        diagnosis: What was found.
        folder: Folder to make.
        overwrite: Replace a folder that is there.

    Raises:
        InputError: If the folder exists and is not to be replaced, or cannot be written.
    """
    images = diagnosis_images(diagnosis)
    with atomic_folder(folder, overwrite=overwrite) as work:
        (work / "diagnosis.html").write_text(render_diagnosis(diagnosis, images))
        (work / "diagnosis.json").write_text(json.dumps(as_json(diagnosis), indent=1) + "\n")
        (work / "figures").mkdir()
        for name, png in images.items():
            (work / "figures" / f"{name}.png").write_bytes(png)


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Every number and verdict of a diagnosis, but for single draws and their weights."""
    verdicts = [dataclasses.asdict(verdict) for verdict in (*diagnosis.everywhere, *diagnosis.here)]
    records = {
        field.name: _plain(getattr(diagnosis, field.name))
        for field in dataclasses.fields(diagnosis)
        if field.name not in ("provenance", "weighted")
    }
    if diagnosis.weighted is not None:
        names = ("effective", "efficiency", "pareto_k", "log_evidence", "log_evidence_error", "warnings")
        records["weighted"] = {name: _plain(getattr(diagnosis.weighted, name)) for name in names}
    return {"verdicts": verdicts, **records, "provenance": _plain(dict(diagnosis.provenance))}


def _plain(value: Any) -> Any:
    """Records and arrays as JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return value


def diagnosis_images(diagnosis: Diagnosis) -> dict[str, bytes]:
    """Figures of a diagnosis as PNG, by name."""
    figures = {
        "ranks": ranks_figure(diagnosis.ranks),
        "coverage": coverage_figure(diagnosis.density, diagnosis.points),
        "recovery": recovery_figure(diagnosis.recovery),
    }
    if diagnosis.local is not None:
        figures["local"] = local_figure(diagnosis.local)
    if diagnosis.statistics:
        figures["statistics"] = statistics_figure(diagnosis.statistics)
    return {name: to_png(drawn) for name, drawn in figures.items()}


def render_diagnosis(diagnosis: Diagnosis, images: Mapping[str, bytes]) -> str:
    """A diagnosis as one HTML page without external parts.

    Args:
        diagnosis: What was found.
        images: PNG files by name, from `diagnosis_images`.
    """
    provenance = diagnosis.provenance
    title = f"Diagnosis of a network for {str(provenance['problem']).replace('_', ' ')}"
    everywhere, here = diagnosis.everywhere, diagnosis.here
    illustrations = {name: figure(images[name], *_CAPTIONS[name]) for name in images}
    blocks = [
        verdict_block(verdict, illustrations.get(name, ""))
        for verdict, name in zip(everywhere, ("ranks", "coverage", "", "recovery"), strict=True)
    ]
    local = [verdict_block(verdict, illustrations.get(_figure_of(verdict), "")) for verdict in here]
    rows = [
        ("Command", provenance.get("command") or None),
        ("Date", provenance.get("created")),
        ("Fresh simulations", provenance.get("n_simulations")),
        ("Seed", provenance.get("seed")),
        ("Versions", ", ".join(f"{name} {version}" for name, version in provenance["versions"].items())),
        ("Time taken", f"{provenance['seconds']:.0f} s"),
    ]
    body = "\n".join(
        [
            f"<header><h1>{escape(title)}</h1>\n<p>{escape(_counted((*everywhere, *here)))}</p></header>",
            "<main>",
            section("Over the whole prior", *blocks, anchor="everywhere"),
            section("At the observation", *local, anchor="here") if local else "",
            section(
                "How to repeat it",
                facts((label, escape(value)) for label, value in rows if value is not None),
                anchor="repeat",
            ),
            "</main>",
        ]
    )
    return document(title, body)


def _counted(verdicts: tuple[Verdict, ...]) -> str:
    """The outcome in a sentence."""
    checked = [verdict for verdict in verdicts if verdict.state != "not checked"]
    passed = sum(verdict.state == "passed" for verdict in checked)
    return (
        f"{passed} of {len(checked)} tests passed. Each fails a right posterior once in a hundred times, and asks for "
        "a second look once in twenty."
    )


def _figure_of(verdict: Verdict) -> str:
    """Which figure goes with a verdict on the observation."""
    if "at this observation" in verdict.title:
        return "local"
    return "statistics" if "make data like the observed" in verdict.title else ""


_CAPTIONS = {
    "ranks": (
        "Difference of the cumulative distribution of ranks from an even one for each parameter, with a band.",
        "Cumulative distribution of the ranks of true parameters, less an even one. The curves of a right posterior "
        "stay in the grey band, all of them and everywhere, 95 times in a hundred. Above zero at the left and below at "
        "the right: too narrow; the reverse: too wide; one hump: shifted.",
    ),
    "coverage": (
        "Coverage less nominal probability against nominal probability, for highest-density regions and random points.",
        "How often regions of all parameters together held the truth, less how often they should, with one and two "
        "standard errors. Below zero: too narrow, or shifted.",
    ),
    "recovery": (
        "Posterior z-score against contraction for each simulation and parameter.",
        "Each point is a simulation: how much the data narrowed the prior, and how far the posterior mean lies from "
        "the truth in posterior standard deviations. A right posterior scatters about zero by one.",
    ),
    "local": (
        "Distribution of the classifier's statistic under the null, and the one observed.",
        "Grey: what classifiers that were taught nothing say of this observation. Line: what the one that was taught "
        "says. A posterior that is right here lies among them.",
    ),
    "statistics": (
        "Observed statistics in units of the scatter of simulated ones.",
        "Statistics of the observed data, less the mean of those simulated from the posterior, in their standard "
        "deviations.",
    ),
}


@styled
def ranks_figure(bands: RankBands) -> "Figure":
    """Draw how ranks differ from even ones, with the band that holds all curves."""
    drawn = new_figure(3.2)
    axes = drawn.add_axes((0.12, 0.16, 0.62, 0.78))
    finish_axes(axes)
    axes.fill_between(bands.points, bands.lower, bands.upper, color=PALE, linewidth=0, label=f"{bands.level:.0%} band")
    for i, name in enumerate(bands.names):
        color, dashes = CYCLE[i % len(CYCLE)], ("-", "--", ":")[i // len(CYCLE) % 3]
        axes.plot(bands.points, bands.difference[:, i], dashes, color=color, label=axis_label(name, ""))
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    axes.set(xlim=(0, 1), xlabel="Rank of the true value (fraction)", ylabel="Cumulative − even")
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0)
    return drawn


@styled
def coverage_figure(density: RegionCoverage, points: RegionCoverage) -> "Figure":
    """Draw coverage less nominal probability of both kinds of regions."""
    drawn = new_figure(3.0)
    left, right = drawn.subplots(1, 2, sharey=True)
    drawn.subplots_adjust(left=0.12, right=0.98, top=0.9, bottom=0.17, wspace=0.08)
    for axes, coverage, title in ((left, density, "Highest density"), (right, points, "Random points (TARP)")):
        excess = coverage.coverage - coverage.levels
        for n_sigma in (2, 1):
            band = n_sigma * coverage.error
            axes.fill_between(coverage.levels, excess - band, excess + band, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(coverage.levels, excess, color=BLUE)
        axes.axhline(0.0, color=GREY, linewidth=0.8)
        axes.set(xlim=(0, 1), title=title, xlabel="Nominal probability")
        finish_axes(axes)
    left.set_ylabel("Coverage − nominal")
    return drawn


@styled
def recovery_figure(recovery: Recovery) -> "Figure":
    """Draw z-scores against contractions."""
    drawn = new_figure(3.2)
    axes = drawn.add_axes((0.12, 0.16, 0.62, 0.78))
    finish_axes(axes)
    for i, name in enumerate(recovery.names):
        color = CYCLE[i % len(CYCLE)]
        axes.plot(recovery.contraction[:, i], recovery.z[:, i], ".", color=color, markersize=2.5, alpha=0.5)
        axes.plot([], [], "o", color=color, label=axis_label(name, ""))
    for height in (-2, 0, 2):
        axes.axhline(height, color=GREY, linewidth=0.8, linestyle="-" if height == 0 else ":")
    low = float(np.quantile(recovery.contraction, 0.01))
    axes.set(xlim=(min(0.0, low), 1.0), xlabel="Contraction of the prior's variance", ylabel="Posterior z-score")
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0.0)
    return drawn


@styled
def local_figure(local: LocalC2st) -> "Figure":
    """Draw the local test's statistic among those of the null."""
    drawn = new_figure(2.4)
    axes = drawn.add_axes((0.12, 0.22, 0.86, 0.72))
    finish_axes(axes)
    scale = _root(np.append(local.null, local.statistic))
    axes.hist(scale[:-1], bins=20, color=PALE, label="taught nothing")
    axes.axvline(scale[-1], color=VERMILLION, label="this posterior")
    axes.set(xlabel="Classifier's distance from one half (root mean square)", ylabel="Null trials")
    axes.legend(loc="upper right")
    return drawn


@styled
def statistics_figure(checks: tuple[StatisticCheck, ...]) -> "Figure":
    """Draw observed statistics in units of the simulated scatter."""
    drawn = new_figure(0.9 + 0.3 * len(checks))
    axes = drawn.add_axes((0.32, 0.55 / (0.9 + 0.3 * len(checks)), 0.64, 1 - 0.7 / (0.9 + 0.3 * len(checks))))
    finish_axes(axes)
    places = np.arange(len(checks))[::-1]
    deviation = [(check.observed - check.mean) / check.sd if check.sd > 0 else 0.0 for check in checks]
    axes.axvspan(-2, 2, color=PALE, linewidth=0)
    axes.axvline(0.0, color=GREY, linewidth=0.8)
    axes.plot(deviation, places, "o", color=BLACK)
    reach = max(3.0, 1.1 * float(np.max(np.abs(deviation))))
    axes.set(
        xlim=(-reach, reach), ylim=(-0.6, len(checks) - 0.4), xlabel="Observed − simulated mean [standard deviations]"
    )
    axes.set_yticks(places, [check.name for check in checks])
    return drawn


def _root(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Square roots of what is not negative but for rounding."""
    return np.sqrt(np.maximum(values, 0.0))
