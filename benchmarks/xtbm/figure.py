"""Coverage of classical answers beside that of networks: how often do intervals hold the truth?"""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.xtbm.packing import load
from eagleray.diagnostics.calibration import LEVELS
from eagleray.report.drawing import BLUE, GREEN, ORANGE, PURPLE, VERMILLION

STYLES = {
    "npe": ("eagleray, amortised", BLUE, "-", "o"),
    "whittle": ("Whittle", VERMILLION, "--", "v"),
    "zhang": ("Whittle on Zhang's noise", PURPLE, "--", "^"),
    "fad": ("Whittle on FAD powers", ORANGE, "--", "s"),
    "live_time": ("live time, Poisson error", GREEN, "--", "D"),
}
# Task, parameter, what it is.
PANELS = (
    ("leaky_red_noise", "slope_high", "Slope of red noise that\nleaks into a short window"),
    ("leaky_red_noise", "rms", "Its rms"),
    ("dead_time_qpo", "rms", "Rms of a QPO behind\nNuSTAR's dead time"),
    ("dead_time_rate", "rate", "Rate behind\nNuSTAR's dead time"),
)


def draw(answers: Path, n: int, path: Path) -> None:
    """Coverage against nominal probability, a panel for each parameter, from kept answers of the first seed.

    Args:
        answers: Folder of answers.
        n: Number of simulations of the networks.
        path: Image to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure, row = plt.subplots(1, len(PANELS), figsize=(11, 3.6), layout="constrained", sharey=True)
        for axes, (task, parameter, title) in zip(row, PANELS, strict=True):
            axes.plot([0, 100], [0, 100], color="0.6", lw=1)
            for method, style in STYLES.items():
                file = answers / f"{task}-{n if method == 'npe' else 0}-0-{method}.npz"
                if file.exists():
                    _curve(axes, np.array(load(file).facts["coverage"][parameter]), *style)
            axes.set_title(title, fontsize=9)
            axes.set_xlabel("nominal probability [%]")
            axes.set_aspect("equal")
            axes.set_xlim(0, 100)
            axes.set_ylim(0, 100)
        row[0].set_ylabel("intervals that hold the truth [%]")
        handles = {label: line for axes in row for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)
        plt.close(figure)


def _curve(axes: Any, coverage: np.ndarray, label: str, colour: str, line: str, marker: str) -> None:
    """One method."""
    axes.plot(100 * LEVELS, 100 * coverage, color=colour, ls=line, marker=marker, ms=3.5, lw=1.5, label=label)
