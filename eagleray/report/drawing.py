"""What the figures share: colours, style, labels, and the small statistics behind bands."""

import functools
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito (2008): distinguishable with any common colour vision. Yellow is left out: too pale for lines on white.
BLACK, BLUE, VERMILLION, GREEN = "#000000", "#0072B2", "#D55E00", "#009E73"
PURPLE, ORANGE, SKY = "#CC79A7", "#E69F00", "#56B4E9"
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
GREY, PALE = "#6b6b6b", "#e4e4e4"
BAND_68, BAND_95 = "#7fb8dc", "#cfe4f2"  # tints of BLUE

WIDTH = 6.5
"""Width of a figure [inch]: text stays legible when the page is as narrow as a phone."""
DPI = 150
STYLE: dict[Any, Any] = {
    "text.usetex": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
}
BAND_QUANTILES = (0.025, 0.16, 0.5, 0.84, 0.975)

P = ParamSpec("P")


def styled(draw: "Callable[P, Figure]") -> "Callable[P, Figure]":
    """Run a drawing function under the report's style, leaving the global one as it was."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> "Figure":
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapped


def new_figure(height: float, width: float = WIDTH, **kwargs: Any) -> "Figure":
    """Make a figure bound to no window [inch]."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), **kwargs)


def to_png(figure: "Figure") -> bytes:
    """Render a figure as PNG at the report's resolution."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def finish_axes(axes: "Axes") -> None:
    """Settle the ticks' style now, because matplotlib would otherwise read it when the figure is drawn."""
    axes.tick_params(which="both", labelsize=STYLE["xtick.labelsize"], color=GREY)
    for spine in axes.spines.values():
        spine.set_color(GREY)
    axes.spines["top"].set_visible(False)
    axes.spines["right"].set_visible(False)


def say(axes: "Axes", text: str) -> None:
    """Write in an empty panel why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set_xticks([])
    axes.set_yticks([])


def plain(text: str) -> str:
    """Text that matplotlib shows as it is: a dollar sign would start mathematics."""
    return text.replace("$", r"\$")


def axis_label(name: str, unit: str) -> str:
    """A parameter's name as words, with its unit in brackets."""
    words = plain(name.replace("_", " "))
    return f"{words} [{plain(unit)}]" if unit else words


def quantile_bands(samples: NDArray[np.floating]) -> NDArray[np.float64]:
    """Median, 68 % and 95 % bands of simulated curves.

    Args:
        samples: (n_samples, n) curves.

    Returns:
        (5, n) quantiles 0.025, 0.16, 0.5, 0.84, 0.975 of each column's finite entries, NaN where it has none.
    """
    bands = np.full((len(BAND_QUANTILES), samples.shape[-1]), np.nan)
    for i, column in enumerate(samples.T):
        finite = column[np.isfinite(column)]
        if finite.size:
            bands[:, i] = np.quantile(finite, BAND_QUANTILES)
    return bands


def binomial_interval(
    n: int, probability: NDArray[np.floating], level: float = 0.95
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Central interval of binomial counts.

    Args:
        n: Number of trials.
        probability: (m,) chance of success.
        level: Probability that the interval should hold at least.

    Returns:
        Two (m,) arrays: the lowest and the highest count of the interval.
    """
    counts = np.arange(n + 1)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    p = np.clip(np.asarray(probability, np.float64), 1e-12, 1 - 1e-12)[:, None]
    log_choose = log_factorial[n] - log_factorial - log_factorial[::-1]
    cumulative = np.cumsum(np.exp(log_choose + counts * np.log(p) + (n - counts) * np.log1p(-p)), axis=1)
    tail = 0.5 * (1 - level)
    return (cumulative < tail).sum(axis=1), np.minimum((cumulative < 1 - tail).sum(axis=1), n)


def geometric_edges(centres: NDArray[np.floating]) -> NDArray[np.float64]:
    """Edges of logarithmic bins, (n + 1,), half-way in the logarithm between positive increasing centres (n,)."""
    return np.exp(middle_edges(np.log(np.asarray(centres, np.float64)), alone=0.4))


def middle_edges(centres: NDArray[np.floating], alone: float = 1.0) -> NDArray[np.float64]:
    """Edges of bins, (n + 1,), half-way between increasing centres (n,); a centre by itself has the width `alone`."""
    centres = np.asarray(centres, np.float64)
    steps = np.diff(centres) if centres.size > 1 else np.array([alone])
    inner = 0.5 * (centres[1:] + centres[:-1])
    return np.concatenate([[centres[0] - 0.5 * steps[0]], inner, [centres[-1] + 0.5 * steps[-1]]])
