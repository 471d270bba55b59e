"""The chains behind a fit: what they did, and whether they agree."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from eagleray.records import Samples
from eagleray.report.drawing import (
    CYCLE,
    GREY,
    PALE,
    axis_label,
    binomial_interval,
    finish_axes,
    new_figure,
    say,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_RANK_BINS = 20
N_SHOWN = 500
ROW_HEIGHT = 0.95
_LOG_RANGE = 20  # ratio of the largest to the smallest draw from which an axis is logarithmic


@styled
def chains_figure(samples: Samples) -> "Figure":
    """Draw each parameter's chains, and how their ranks are shared out among them.

    Args:
        samples: Draws by parameter name, each (n_chains, n_draws).

    Returns:
        A row for each parameter that varies. Left: the draws of each chain in turn, at most 500 of each. Right: a
        histogram, for each chain, of the ranks of its draws among all draws; chains that agree have even ones. Grey:
        95 % range for independent draws.
    """
    varying = {name: draws for name, draws in samples.draws.items() if np.ptp(draws) > 0}
    if not varying:
        figure = new_figure(1.0)
        say(figure.add_subplot(), "no draws that vary")
        return figure
    height = 0.8 + ROW_HEIGHT * len(varying)
    figure = new_figure(height)
    panels = figure.subplots(
        len(varying),
        2,
        squeeze=False,
        width_ratios=(2.2, 1),
        gridspec_kw={
            "left": 0.13,
            "right": 0.985,
            "top": 1 - 0.25 / height,
            "bottom": 0.5 / height,
            "wspace": 0.14,
            "hspace": 0.35,
        },
    )
    for (name, draws), (left, right) in zip(varying.items(), panels, strict=True):
        _draw_traces(left, np.asarray(draws, np.float64))
        _draw_chain_ranks(right, np.asarray(draws, np.float64))
        left.set_title(axis_label(name, ""), fontsize=8, loc="left", pad=2)
        for axes in (left, right):
            axes.tick_params(labelbottom=axes in panels[-1])
    panels[-1, 0].set_xlabel("Draw of each chain")
    panels[-1, 1].set_xlabel("Rank (fraction)")
    figure.text(0.99, 1 - 0.2 / height, "Count / expected", ha="right", fontsize=8, color=GREY)
    return figure


def _draw_traces(axes: "Axes", draws: NDArray[np.float64]) -> None:
    """Values of each chain against the draw."""
    step = max(1, draws.shape[1] // N_SHOWN)
    place = np.arange(0, draws.shape[1], step)
    for i, chain in enumerate(draws):
        axes.plot(place, chain[::step], color=CYCLE[i % len(CYCLE)], linewidth=0.4, alpha=0.8)
    axes.set_xlim(0, draws.shape[1])
    low, high = np.quantile(draws, (0.001, 0.999))
    if low > 0 and high > _LOG_RANGE * low:
        axes.set_yscale("log")
    finish_axes(axes)


def _draw_chain_ranks(axes: "Axes", draws: NDArray[np.float64]) -> None:
    """Histogram of the ranks of each chain's draws, over what even sharing would give."""
    n_chains, n_draws = draws.shape
    ranks = np.argsort(np.argsort(draws, axis=None)).reshape(draws.shape) / draws.size
    n_bins = int(np.clip(n_draws // 25, 1, N_RANK_BINS))
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    expected = n_draws / n_bins
    low, high = (counts / expected for counts in binomial_interval(n_draws, np.full(n_bins, 1 / n_bins)))
    axes.stairs(high, edges, baseline=low, fill=True, color=PALE)
    for i in range(n_chains):
        axes.stairs(
            np.histogram(ranks[i], edges)[0] / expected,
            edges,
            baseline=None,
            color=CYCLE[i % len(CYCLE)],
            linewidth=0.8,
        )
    axes.axhline(1.0, color=GREY, linewidth=0.8)
    axes.set_xlim(0, 1)
    axes.set_xticks([0.0, 0.5, 1.0], ["0", "0.5", "1"])
    axes.set_ylim(bottom=0)
    finish_axes(axes)
