"""The figures of a result, each a matplotlib Figure bound to no window, and all of them as images."""

import itertools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eagleray.records import Calibration, FitResult, NetworkResult, Result, TrainingHistory
from eagleray.report.chains import chains_figure
from eagleray.report.corner import corner_figure
from eagleray.report.drawing import (
    BAND_68,
    BAND_95,
    BLACK,
    BLUE,
    CYCLE,
    GREY,
    PALE,
    VERMILLION,
    axis_label,
    binomial_interval,
    finish_axes,
    geometric_edges,
    middle_edges,
    new_figure,
    quantile_bands,
    say,
    styled,
    to_png,
)
from eagleray.report.light_curve import light_curve_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RANK_COLUMNS = 3


def render_images(result: Result) -> dict[str, bytes]:
    """Draw every figure of a result once.

    Args:
        result: A finished inference.

    Returns:
        PNG files (150 dots per inch) by name: corner, model, light_curve; and training and calibration of a network,
        or chains of a fit.
    """
    figures = {
        "corner": corner_figure(result),
        "model": model_figure(result),
        "light_curve": light_curve_figure(result),
    }
    if isinstance(result, NetworkResult):
        figures["training"] = training_figure(result.history)
        figures["calibration"] = calibration_figure(result.calibration)
    if isinstance(result, FitResult):
        figures["chains"] = chains_figure(result.samples)
    return {name: to_png(figure) for name, figure in figures.items()}


@styled
def model_figure(result: Result) -> "Figure":
    """Draw what is shown of the observation over the same of data simulated from the posterior.

    Args:
        result: Its panel (an axis and labels), what is shown of the observation (n_shown,), and of simulated data
            (n_predictive, n_shown).

    Returns:
        Above: the observation, and median, 68 % and 95 % bands of the simulations; for a fit, the terms of the model at
        the optimum. Below: the observation less the simulated median, in units of the simulated scatter; on a
        logarithmic scale divided by the median. What is not positive cannot be drawn on such a scale; the figure says
        how many.
    """
    panel = result.panel
    axis, observed = np.asarray(panel.axis, np.float64), np.asarray(result.shown_obs, np.float64)
    bands = quantile_bands(np.asarray(result.shown_predictive, np.float64).reshape(-1, axis.size))
    figure = new_figure(4.4)
    grid = figure.add_gridspec(2, 1, height_ratios=(2.4, 1), left=0.12, right=0.98, top=0.97, bottom=0.11, hspace=0.08)
    top, bottom = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    edges = geometric_edges(axis) if panel.log_axis else middle_edges(axis)
    for axes, scaled in ((top, lambda values: values), (bottom, _compared(bands, ratio=panel.log_value))):
        drawn, drawn_bands = scaled(observed), scaled(bands)
        if panel.log_value:
            drawn, drawn_bands = (np.where(values > 0, values, np.nan) for values in (drawn, drawn_bands))
        _draw_bands(axes, edges, drawn_bands)
        axes.plot(axis, drawn, "o", color=BLACK, markersize=3.5, label="observed")
        axes.set_xscale("log" if panel.log_axis else "linear")
        axes.set_xlim(edges[0], edges[-1])
        if panel.log_value:
            _scale_logarithmically(axes, np.concatenate([drawn, *drawn_bands]))
        finish_axes(axes)
    if isinstance(result, FitResult):
        _draw_components(top, result)
    top.set_ylabel(panel.value_label)
    top.tick_params(which="both", labelbottom=False)
    top.legend(loc="upper right")
    hidden = int((~(np.isfinite(observed) & (observed > 0))).sum()) if panel.log_value else 0
    if hidden:
        note = f"{hidden} of {axis.size} observed values are not positive and cannot be drawn"
        top.text(0.01, 0.03, note, transform=top.transAxes, fontsize=8, color=GREY)
    bottom.axhline(1.0 if panel.log_value else 0.0, color=GREY, linewidth=0.8)
    bottom.set_ylabel("Observed /\nsimulated median" if panel.log_value else "Observed less\nmedian [scatter]")
    bottom.set_xlabel(panel.axis_label)
    figure.align_ylabels()
    return figure


def _compared(bands: NDArray[np.float64], *, ratio: bool) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Values against simulated ones: divided by their median, or less the median in units of their 68 % half-width."""
    _, low, median, high, _ = bands
    if ratio:
        return lambda values: values / np.where(median > 0, median, np.nan)
    scatter = 0.5 * (high - low)
    return lambda values: (values - median) / np.where(scatter > 0, scatter, np.nan)


@styled
def training_figure(history: TrainingHistory) -> "Figure":
    """Draw the loss of a network against the epochs of its training.

    Args:
        history: Training and validation loss of each epoch [nats per simulation].

    Returns:
        Both curves, and the epoch whose weights were kept.
    """
    figure = new_figure(2.6)
    axes = figure.add_axes((0.12, 0.18, 0.86, 0.76))
    finish_axes(axes)
    if not history.validation_loss:
        say(axes, "no training record")
        return figure
    marker = "o" if len(history.validation_loss) < 3 else ""
    for losses, color, label in (
        (history.train_loss, BLUE, "training"),
        (history.validation_loss, VERMILLION, "validation"),
    ):
        axes.plot(np.arange(len(losses)), losses, color=color, label=label, marker=marker)
    axes.axvline(
        history.best_epoch, color=GREY, linestyle="--", linewidth=0.9, label=f"kept: epoch {history.best_epoch}"
    )
    axes.set_xlabel("Epoch (counted from 0)")
    axes.set_ylabel("Loss [nats per simulation]")
    axes.legend(loc="upper right")
    return figure


@styled
def calibration_figure(calibration: Calibration) -> "Figure":
    """Draw how often intervals held the truth, and where the truth ranked among the draws.

    Args:
        calibration: Coverage (n_levels, n_theta) at nominal levels (n_levels,), and ranks (n_simulations, n_theta).

    Returns:
        Above: coverage against nominal probability, and their difference. Below: a histogram of ranks for each
        parameter, relative to a uniform one. Grey: where 95 % of the values of a perfect posterior would fall, each
        taken by itself (binomial, for this number of simulations).
    """
    n_theta, n_simulations = len(calibration.names), calibration.ranks.shape[0]
    if n_simulations == 0 or n_theta == 0:
        figure = new_figure(1.0)
        say(figure.add_subplot(), "no calibration record")
        return figure
    rows = math.ceil(n_theta / RANK_COLUMNS)
    legend_height = 0.35 + 0.19 * math.ceil((n_theta + 1) / RANK_COLUMNS)
    height = 3.5 + legend_height + 1.45 * rows + 0.55
    figure = new_figure(height)
    edges = {"left": 0.09, "right": 0.985}
    upper = figure.add_gridspec(1, 2, top=1 - 0.1 / height, bottom=1 - 3.1 / height, wspace=0.3, **edges)
    lower = figure.add_gridspec(
        rows, RANK_COLUMNS, top=(1.45 * rows + 0.45) / height, bottom=0.55 / height, wspace=0.12, hspace=0.5, **edges
    )
    coverage, difference = figure.add_subplot(upper[0]), figure.add_subplot(upper[1])
    _draw_coverage(coverage, difference, calibration)
    handles, labels = coverage.get_legend_handles_labels()
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 1 - 3.55 / height)}
    figure.legend(handles, labels, ncols=RANK_COLUMNS, **place)
    panels = lower.subplots(sharey=True, squeeze=False)
    for i, axes in enumerate(panels.flat):
        if i < n_theta:
            _draw_ranks(axes, calibration, i)
        else:
            axes.set_axis_off()
    panels[0, 0].set_ylim(bottom=0)  # shared by all, so only once everything is drawn
    middle = (0.5 + 0.725 * rows) / height
    figure.text(0.012, middle, "Count / expected", rotation=90, ha="left", va="center")
    figure.text(0.54, 0.1 / height, "Rank of the true value among the draws (fraction)", ha="center", va="bottom")
    return figure


def _draw_bands(axes: "Axes", edges: NDArray[np.float64], bands: NDArray[np.float64]) -> None:
    """Median, 68 % and 95 % bands as steps."""
    low_95, low_68, median, high_68, high_95 = bands
    axes.stairs(high_95, edges, baseline=low_95, fill=True, color=BAND_95, label="simulated, 95 %")
    axes.stairs(high_68, edges, baseline=low_68, fill=True, color=BAND_68, label="simulated, 68 %")
    axes.stairs(median, edges, baseline=None, color=BLUE, label="simulated, median")


def _draw_components(axes: "Axes", result: FitResult) -> None:
    """Terms of the model at the optimum, behind what is drawn already, without changing its range."""
    if result.spectrum is None:
        return
    limits = axes.get_ylim()
    for (name, power), color in zip(result.components.items(), itertools.cycle(CYCLE[1:]), strict=False):
        axes.plot(result.spectrum.freq, power, "--", color=color, linewidth=1.0, label=axis_label(name, ""))
    axes.set_ylim(limits)


def _scale_logarithmically(axes: "Axes", values: NDArray[np.float64]) -> None:
    """Logarithmic axis of at least a decade around whatever is positive."""
    positive = values[np.isfinite(values) & (values > 0)]
    axes.set_yscale("log")
    if positive.size:
        low, high = positive.min(), positive.max()
        margin = max(1.6, math.sqrt(10 * low / high))
        axes.set_ylim(low / margin, high * margin)
    else:
        axes.set_ylim(0.1, 10.0)
        axes.text(0.5, 0.5, "no positive power", transform=axes.transAxes, ha="center", color=GREY)


def _draw_coverage(coverage: "Axes", difference: "Axes", calibration: Calibration) -> None:
    """Coverage against nominal, and their difference, with the band that counting noise allows."""
    n = calibration.ranks.shape[0]
    nominal = np.linspace(0.0, 1.0, 101)
    low, high = (counts / n for counts in binomial_interval(n, nominal))
    coverage.fill_between(nominal, low, high, color=PALE, linewidth=0, label="95 % range if perfect")
    difference.fill_between(nominal, low - nominal, high - nominal, color=PALE, linewidth=0)
    marker = "o" if calibration.levels.size < 3 else ""
    for i, name in enumerate(calibration.names):
        color, dashes = CYCLE[i % len(CYCLE)], ("-", "--", ":")[i // len(CYCLE) % 3]
        found = calibration.coverage[:, i]
        for axes, values in ((coverage, found), (difference, found - calibration.levels)):
            axes.plot(calibration.levels, values, dashes, color=color, marker=marker, label=axis_label(name, ""))
    coverage.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    difference.axhline(0.0, color=GREY, linewidth=0.8)
    coverage.set(xlim=(0, 1), ylim=(0, 1), ylabel="Coverage on simulations")
    difference.set(xlim=(0, 1), ylabel="Coverage − nominal")
    for axes in (coverage, difference):
        axes.set_xlabel("Nominal probability of the interval")
        finish_axes(axes)


def _draw_ranks(axes: "Axes", calibration: Calibration, index: int) -> None:
    """Histogram of one parameter's ranks over what uniform ranks would give."""
    ranks, n_values = calibration.ranks[:, index], calibration.n_draws + 1
    n_bins = int(np.clip(ranks.size // 25, 1, min(20, n_values)))
    edges = np.round(np.linspace(0, n_values, n_bins + 1))  # whole ranks, shared as evenly as they can be
    chance = np.diff(edges) / n_values
    expected = chance * ranks.size
    low, high = (counts / expected for counts in binomial_interval(ranks.size, chance))
    axes.stairs(high, edges / n_values, baseline=low, fill=True, color=PALE)
    axes.stairs(np.histogram(ranks, edges - 0.5)[0] / expected, edges / n_values, color=BLUE, baseline=None)
    axes.axhline(1.0, color=GREY, linewidth=0.8)
    axes.set_title(axis_label(calibration.names[index], ""), fontsize=8)
    axes.set_xlim(0, 1)
    finish_axes(axes)
