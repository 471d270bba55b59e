"""Every pair of parameters at once.

The `corner` package is not used: where ArviZ is installed it imports it, and fails with it; it also draws through
pyplot, leaves log axes narrower than a decade without ticks, and refuses constant parameters.
"""

import dataclasses
import math
import re
import textwrap
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eagleray.records import Result
from eagleray.report.drawing import BAND_68, BAND_95, BLUE, GREY, WIDTH, axis_label, finish_axes, new_figure, styled
from eagleray.report.tables import ParameterRow, half_width, number_format, parameter_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MARGIN = 0.95
"""Room for numbers and labels on the left and below [inch]."""
N_POINTS = 800
"""Draws shown as points beneath the contours."""
EDGE = 0.04
"""Part of a panel at each end where a number would touch the next panel's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Panel:
    """One parameter as it is drawn: on a scale where a uniform or log-uniform prior is flat.

    Attributes:
        row: Its summary.
        log: Whether `values` are logarithms to base ten.
        values: (n_draws,) draws on that scale, NaN where not finite.
        edges: (n_bins + 1,) edges of the histogram on that scale.
        prior_density: Density of a flat prior on that scale; None for other priors.
    """

    row: ParameterRow
    log: bool
    values: NDArray[np.float64]
    edges: NDArray[np.float64]
    prior_density: float | None

    @property
    def limits(self) -> tuple[float, float]:
        """Range drawn."""
        return float(self.edges[0]), float(self.edges[-1])


@styled
def corner_figure(result: Result) -> "Figure":
    """Draw the marginal posterior of each parameter and of each pair.

    Args:
        result: Posterior draws, each (n_draws,), in physical units; fixed parameters are left out. A parameter
            whose prior text starts with `loguniform` has a logarithmic axis.

    Returns:
        A triangle of panels. Diagonal: density, median (solid) and 68 % interval (dashed), and a flat prior in grey.
        Below it: regions holding 68 % and 95 % of the draws.
    """
    rows = [row for row in parameter_table(result) if not row.prior.startswith("fixed")]
    n_bins = 28 if len(rows) <= 6 else 18
    panels = [_panel(row, np.asarray(result.draws[row.name], np.float64), n_bins) for row in rows]
    n = len(panels)
    size = max(WIDTH if n > 1 else 4.0, 0.95 * n + 1.2)
    figure = new_figure(size, size)
    margin = MARGIN / size
    grid = figure.add_gridspec(
        n, n, left=margin, bottom=margin, right=1 - 0.1 / size, top=1 - 0.3 / size, wspace=0.06, hspace=0.06
    )
    for i, vertical in enumerate(panels):
        for j, horizontal in enumerate(panels[: i + 1]):
            axes = figure.add_subplot(grid[i, j])
            if i == j:
                _draw_marginal(axes, horizontal, with_title=n <= 8)
            else:
                _draw_pair(axes, horizontal, vertical)
            _dress(axes, horizontal, vertical, bottom=i == n - 1, left=j == 0 and i > 0, n_ticks=4 if n <= 6 else 2)
    figure.align_labels()
    if n > 2:
        _add_legend(figure, any(panel.prior_density is not None for panel in panels))
    return figure


def log_scaled(prior: str) -> bool:
    """Whether a parameter with this prior text belongs on a logarithmic axis."""
    return prior.strip().lower().startswith("loguniform")


def _panel(row: ParameterRow, draws: NDArray[np.float64], n_bins: int) -> Panel:
    """Choose scale, range and bins for one parameter."""
    finite = draws[np.isfinite(draws)]
    log = log_scaled(row.prior) and finite.size > 0 and bool((finite > 0).all())
    values = np.log10(draws) if log else draws
    values = np.where(np.isfinite(values), values, np.nan)
    shown = values[np.isfinite(values)]
    low, high = np.quantile(shown, (0.001, 0.999)) if shown.size else (0.0, 1.0)
    margin = 0.05 * (high - low)
    if not margin > 1e-7 * max(abs(low), abs(high)):
        margin = 0.1 * abs(low) or 0.5  # a constant has no width of its own
    edges = np.linspace(low - margin, high + margin, n_bins + 1)
    return Panel(row=row, log=log, values=values, edges=edges, prior_density=_flat_density(row.prior, log))


def _flat_density(prior: str, log: bool) -> float | None:
    """Density of a uniform prior on a linear axis, or of a log-uniform one per decade."""
    bounds = [float(text) for text in NUMBER.findall(prior)]
    flat = log or prior.strip().lower().startswith("uniform")
    if not flat or len(bounds) < 2 or not bounds[0] < bounds[1] or (log and bounds[0] <= 0):
        return None
    return 1 / (math.log10(bounds[1] / bounds[0]) if log else bounds[1] - bounds[0])


def _draw_marginal(axes: "Axes", panel: Panel, with_title: bool) -> None:
    """Histogram of one parameter."""
    n_finite = max(int(np.isfinite(panel.values).sum()), 1)
    density = np.histogram(panel.values, panel.edges)[0] / (n_finite * np.diff(panel.edges))
    axes.stairs(density, panel.edges, color=BLUE, fill=True, facecolor=BAND_95, edgecolor=BLUE, linewidth=1.0)
    for value, dashes in ((panel.row.median, "-"), (panel.row.low_68, "--"), (panel.row.high_68, "--")):
        axes.axvline(math.log10(value) if panel.log else value, color=BLUE, linestyle=dashes, linewidth=0.9)
    if panel.prior_density is not None:
        axes.axhline(panel.prior_density, color=GREY, linestyle=":", linewidth=1.2)
    axes.set_ylim(0, 1.12 * max(density.max(), panel.prior_density or 0) or 1.0)
    if with_title:
        axes.set_title(_title(panel.row), fontsize=8, pad=4)


def _draw_pair(axes: "Axes", horizontal: Panel, vertical: Panel) -> None:
    """Draws of two parameters, with the regions that hold 68 % and 95 % of them."""
    x, y = horizontal.values, vertical.values
    axes.plot(x[:N_POINTS], y[:N_POINTS], ".", markersize=1.2, color=BLUE, alpha=0.35, markeredgewidth=0, zorder=0)
    both = np.isfinite(x) & np.isfinite(y)
    counts = np.histogram2d(x[both], y[both], bins=(horizontal.edges, vertical.edges))[0]
    kernel = _smoothing(counts.shape[0])
    density = kernel @ counts @ kernel.T
    levels = _levels(density)
    if not np.all(np.diff(levels) > 0):
        return  # constant, or too few draws: the points say all there is
    centres = (_padded_centres(horizontal.edges), _padded_centres(vertical.edges))
    axes.contourf(*centres, np.pad(density, 1, mode="edge").T, levels=levels, colors=[BAND_95, BAND_68], zorder=1)


def _smoothing(n: int) -> NDArray[np.float64]:
    """(n, n) matrix that smooths a histogram by a Gaussian of one bin, keeping its sum."""
    distance = np.arange(n)[:, None] - np.arange(n)
    kernel = np.exp(-0.5 * distance**2)
    return kernel / kernel.sum(axis=0)


def _levels(density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Densities above which 95 % and 68 % of the draws lie, and the highest of all."""
    ordered = np.sort(density, axis=None)[::-1]
    mass = np.cumsum(ordered)
    inside = np.searchsorted(mass, np.array([0.95, 0.68]) * mass[-1]).clip(max=ordered.size - 1)
    return np.array([*ordered[inside], 1.001 * ordered[0]])


def _padded_centres(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bin centres with one more on each side, so that filled regions reach the frame."""
    step = edges[1] - edges[0]
    return edges[0] + step * (np.arange(edges.size + 1) - 0.5)


def _dress(axes: "Axes", horizontal: Panel, vertical: Panel, *, bottom: bool, left: bool, n_ticks: int) -> None:
    """Limits, ticks and labels: numbers only on the outer edge of the triangle."""
    finish_axes(axes)
    axes.set_xlim(horizontal.limits)
    positions, texts = _ticks(horizontal, n_ticks)
    axes.set_xticks(positions, texts if bottom else [""] * len(texts), rotation=45, ha="right", rotation_mode="anchor")
    if bottom:
        axes.set_xlabel(_wrapped_label(horizontal.row), fontsize=8)
    if horizontal is vertical:
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        return
    axes.set_ylim(vertical.limits)
    positions, texts = _ticks(vertical, n_ticks)
    axes.set_yticks(positions, texts if left else [""] * len(texts))
    if left:
        axes.set_ylabel(_wrapped_label(vertical.row), fontsize=8)


def _wrapped_label(row: ParameterRow) -> str:
    """Name and unit on lines short enough for one panel."""
    return "\n".join(textwrap.wrap(axis_label(row.name, row.unit), width=16, break_long_words=False))


def _ticks(panel: Panel, n_max: int) -> tuple[list[float], list[str]]:
    """Positions on the panel's scale, and the values they stand for as text."""
    from matplotlib.ticker import MaxNLocator

    low, high = panel.limits
    low, high = low + EDGE * (high - low), high - EDGE * (high - low)
    if not panel.log:
        values = MaxNLocator(nbins=n_max, steps=[1, 2, 5, 10]).tick_values(low, high)
        inside = [float(value) for value in values if low <= value <= high]
        return inside, [tick_text(value) for value in inside]
    decades = range(math.floor(low), math.ceil(high) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)):
        values = [
            step * 10.0**decade for decade in decades for step in steps if low <= math.log10(step) + decade <= high
        ]
        if len(values) >= 2:
            break
    else:
        values = [v for v in MaxNLocator(nbins=n_max).tick_values(10**low, 10**high) if 10**low <= v <= 10**high]
    values = values[:: math.ceil(len(values) / n_max) or 1]
    return [math.log10(value) for value in values], [tick_text(value) for value in values]


def tick_text(value: float) -> str:
    """A round number for an axis: plain, or a mantissa and a power of ten."""
    if value == 0 or 0.01 <= abs(value) < 1e5:
        return f"{value:.10g}".replace("-", "−")
    exponent = math.floor(math.log10(abs(value)) + 1e-9)
    mantissa = f"{value / 10.0**exponent:.6g}"
    power = f"10{str(exponent).translate(SUPERSCRIPTS)}"
    return power if mantissa == "1" else f"{mantissa}×{power}"


def _title(row: ParameterRow) -> str:
    """Median with the distances to the ends of the 68 % interval."""
    if not all(math.isfinite(value) for value in row.values):
        return "not finite"
    decimals, exponent = number_format(row.median, half_width(row))
    median, up, down = (
        f"{value / 10.0**exponent:.{decimals}f}"
        for value in (row.median, row.high_68 - row.median, row.median - row.low_68)
    )
    number = rf"{median}^{{+{up}}}_{{-{down}}}"
    return f"${number}$" if exponent == 0 else rf"$({number})\times10^{{{exponent}}}$"


def _add_legend(figure: "Figure", with_prior: bool) -> None:
    """Explain the marks in the empty corner."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor=BAND_68, label="68 % of the posterior"),
        Patch(facecolor=BAND_95, label="95 % of the posterior"),
        Line2D([], [], color=BLUE, label="median"),
        Line2D([], [], color=BLUE, linestyle="--", label="68 % interval"),
    ]
    if with_prior:
        handles.append(Line2D([], [], color=GREY, linestyle=":", label="prior"))
    figure.legend(handles=handles, loc="upper right", bbox_to_anchor=(0.98, 0.98))
