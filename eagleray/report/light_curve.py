"""The observed light curve beside simulated ones."""

import dataclasses
import functools
import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eagleray.records import LightCurve, NetworkResult, Result
from eagleray.report.drawing import (
    BAND_68,
    BAND_95,
    BLACK,
    BLUE,
    PALE,
    VERMILLION,
    finish_axes,
    new_figure,
    quantile_bands,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_SHOWN = 1200
"""Points drawn of a light curve; longer ones are averaged."""
N_CURVES = 3
N_DISTRIBUTION = 200
"""Simulated light curves behind the bands of the flux distribution."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class View:
    """How a light curve is drawn.

    Attributes:
        group: Bins averaged into one point.
        times: (n_points,) centres of the points, in `unit`.
        width: Width of a point, in `unit`.
        unit: Unit of time.
        exposure: (n_points,) watched part of each point, in bins.
        background: (n_points,) expected background counts of each point.
        seconds: Width of a bin [s].
        counts: Whether the values are counts.
    """

    group: int
    times: NDArray[np.float64]
    width: float
    unit: str
    exposure: NDArray[np.float64]
    background: NDArray[np.float64]
    seconds: float
    counts: bool


@styled
def light_curve_figure(result: Result) -> "Figure":
    """Draw the observed light curve above simulated ones, with the distribution of their rates at the side.

    Args:
        result: The observation, (n_bins,), and, of a network's answer, light curves simulated from posterior draws,
            (n_predictive, n_bins). Counts are drawn as background-subtracted rates corrected for exposure [counts/s];
            gaps are grey; light curves of more than 1200 bins are averaged for drawing.

    Returns:
        Left: observed rate with one-sigma errors, and up to three simulated light curves. Right: fraction of points at
        each rate, observed and simulated (68 % and 95 % of simulated light curves).
    """
    observation = result.observation
    view = view_of(observation)
    observed = rates(np.asarray(observation.values), view)
    errors = rate_errors(observation, view)
    values = result.predictive_values if isinstance(result, NetworkResult) else np.empty((0, observation.grid.n_bins))
    simulated = rates(np.asarray(values)[:N_DISTRIBUTION], view)
    curves = simulated[:N_CURVES]

    figure = new_figure(2.8 + len(curves))
    grid = figure.add_gridspec(
        1 + len(curves),
        2,
        width_ratios=(3.3, 1),
        height_ratios=(2.4, *[1] * len(curves)),
        left=0.12,
        right=0.98,
        top=1 - 0.25 / figure.get_figheight(),
        bottom=0.5 / figure.get_figheight(),
        wspace=0.06,
        hspace=0.3,
    )
    panels = [figure.add_subplot(grid[i, 0]) for i in range(1 + len(curves))]
    side = figure.add_subplot(grid[0, 1], sharey=panels[0])
    _draw_observed(panels[0], view, observed, errors)
    for i, (axes, curve) in enumerate(zip(panels[1:], curves, strict=True), start=1):
        axes.plot(view.times, curve, color=VERMILLION, linewidth=0.8, marker=_marker(view), markersize=2)
        _head(axes, f"simulated, posterior draw {i}", VERMILLION)
    limits = _rate_limits(observed, curves)
    for axes in panels:
        _shade_gaps(axes, view)
        axes.set_xlim(view.times[0] - 0.5 * view.width, view.times[-1] + 0.5 * view.width)
        axes.set_ylim(limits)
        axes.tick_params(labelbottom=axes is panels[-1])
        finish_axes(axes)
    panels[-1].set_xlabel(f"Time since the start [{view.unit}]")
    figure.supylabel("Count rate [counts/s]", x=0.005, fontsize=9)
    _draw_distribution(side, observed, simulated, limits)
    return figure


def view_of(observation: LightCurve) -> View:
    """Choose the averaging and the unit of time in which an observation is drawn."""
    grid = observation.grid
    group = math.ceil(grid.n_bins / N_SHOWN)
    scale, unit = next(
        (scale, unit)
        for limit, scale, unit in ((1e4, 1.0, "s"), (1e6, 1e3, "ks"), (math.inf, 86400.0, "d"))
        if grid.duration < limit
    )
    width = group * grid.dt / scale
    exposure = _sums(np.asarray(observation.exposure, np.float64), group)
    return View(
        group=group,
        times=width * np.arange(0.5, exposure.size),
        width=width,
        unit=unit,
        exposure=exposure,
        background=_sums(np.asarray(observation.background, np.float64), group),
        seconds=grid.dt,
        counts=observation.kind == "counts",
    )


def rates(values: NDArray[np.floating], view: View) -> NDArray[np.float64]:
    """Rate of each point drawn [counts/s], (..., n_points), from values (..., n_bins); NaN in gaps."""
    total = _sums(np.asarray(values, np.float64), view.group) - (view.background if view.counts else 0.0)
    return _over_exposure(total, view)


def rate_errors(observation: LightCurve, view: View) -> NDArray[np.float64]:
    """One standard deviation of each observed point [counts/s], (n_points,): stated, or Poisson (at least 1 count)."""
    if observation.error is None:
        spread = np.sqrt(np.maximum(_sums(np.asarray(observation.values, np.float64), view.group), 1.0))
    else:
        watched = np.where(np.asarray(observation.exposure) > 0, np.asarray(observation.error, np.float64), 0.0)
        spread = np.sqrt(_sums(watched**2, view.group))
    return _over_exposure(spread, view)


def _sums(values: NDArray[np.float64], group: int) -> NDArray[np.float64]:
    """Sums over runs of `group` bins along the last axis; the last run may be shorter."""
    missing = -values.shape[-1] % group
    padded = np.concatenate([values, np.zeros((*values.shape[:-1], missing))], axis=-1)
    return padded.reshape(*values.shape[:-1], padded.shape[-1] // group, group).sum(axis=-1)


def _over_exposure(total: NDArray[np.float64], view: View) -> NDArray[np.float64]:
    """Totals per point turned into rates, NaN where nothing was watched."""
    watched = np.where(view.exposure > 0, view.exposure, np.nan)
    return total / (watched * view.seconds if view.counts else watched)


def _draw_observed(axes: "Axes", view: View, observed: NDArray[np.float64], errors: NDArray[np.float64]) -> None:
    """Rates with error bars."""
    axes.errorbar(view.times, observed, errors, fmt="none", ecolor="#9a9a9a", elinewidth=0.6)
    axes.plot(view.times, observed, color=BLACK, linewidth=0.7, marker=_marker(view), markersize=2)
    averaged = f", {view.group} bins averaged in each point" if view.group > 1 else ""
    _head(axes, f"observed{averaged}", BLACK)


def _draw_distribution(
    axes: "Axes", observed: NDArray[np.float64], simulated: NDArray[np.float64], limits: tuple[float, float]
) -> None:
    """Fraction of points at each rate, sideways so that the rate runs upwards as beside it."""
    edges = np.linspace(*limits, 26)
    draw_steps = functools.partial(axes.stairs, orientation="horizontal")
    if simulated.size:
        low_95, low_68, median, high_68, high_95 = quantile_bands(np.stack([_fractions(c, edges) for c in simulated]))
        draw_steps(high_95, edges, baseline=low_95, fill=True, color=BAND_95, label="simulated, 95 %")
        draw_steps(high_68, edges, baseline=low_68, fill=True, color=BAND_68, label="simulated, 68 %")
        draw_steps(median, edges, baseline=None, color=BLUE, label="simulated, median")
    draw_steps(_fractions(observed, edges), edges, color=BLACK, label="observed")
    axes.set_xlim(left=0)
    axes.tick_params(labelleft=False)
    axes.set_xlabel("Fraction of points")
    axes.legend(loc="upper left", bbox_to_anchor=(-0.05, -0.3), handlelength=1.0)
    finish_axes(axes)


def _fractions(curve: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fraction of a curve's finite points in each bin of rate."""
    finite = curve[np.isfinite(curve)]
    return np.histogram(finite, edges)[0] / max(finite.size, 1)


def _rate_limits(observed: NDArray[np.float64], curves: NDArray[np.float64]) -> tuple[float, float]:
    """Range of rates that shows the observation and the simulated curves drawn."""
    values = np.concatenate([observed, curves.ravel()])
    finite = values[np.isfinite(values)]
    low, high = (min(finite.min(), 0.0), finite.max()) if finite.size else (0.0, 1.0)
    return float(low), float(high + 0.1 * ((high - low) or 1.0))


def _shade_gaps(axes: "Axes", view: View) -> None:
    """Grey over every run of points that nothing watched."""
    closed = np.concatenate([[False], view.exposure <= 0, [False]])
    turns = np.flatnonzero(np.diff(closed)).reshape(-1, 2) * view.width
    runs = [(start, stop - start) for start, stop in turns]
    axes.broken_barh(runs, (0, 1), transform=axes.get_xaxis_transform(), facecolor=PALE, zorder=0)


def _marker(view: View) -> str:
    """Points where a line alone would hide lonely bins."""
    return "o" if view.times.size <= 200 else ""


def _head(axes: "Axes", text: str, color: str) -> None:
    """Say above a panel what it shows."""
    axes.set_title(text, loc="left", fontsize=8, color=color, pad=2)
