"""Columns of a file, whatever its format, checked and laid out on a grid."""

import math
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.interop.binning import make_light_curve, regular_grid
from eagleray.records import LightCurve

COUNT_TOLERANCE = 1e-3
"""How far a count may be from a whole number [counts]."""
MAX_COUNT = 2.0**53
"""Largest count of a bin: beyond it float64 has no longer every whole number."""
FLOAT32_STEP = 2e-7
"""Relative rounding of columns stored as float32."""


def source_name(path: Path) -> str:
    """Name of a file as text that can be written anywhere.

    Args:
        path: The file.

    Returns:
        Its name, bytes that are not UTF-8 replaced.
    """
    return os.fsencode(path.name).decode("utf-8", "replace")


def check_finite(values: Float[np.ndarray, " n"], name: str, lines: Int[np.ndarray, " n"] | None = None) -> None:
    """Refuse NaN and infinite values.

    Args:
        values: (n,) column.
        name: What the column holds, for the message.
        lines: (n,) line of the file behind each value; None where rows are the file's own.

    Raises:
        InputError: If there are any; says how many and where the first is.
    """
    bad = ~np.isfinite(values)
    if bad.any():
        i = int(np.argmax(bad))
        place = f"row {i + 1}" if lines is None else f"line {lines[i]}"
        raise InputError(
            f"{name} must be finite, got {int(bad.sum())} NaN or infinite values (first: {values[i]} in {place}); "
            "delete these rows: missing bins become gaps"
        )


def _broken(values: NDArray[np.float64], unit: float) -> NDArray[np.bool_]:
    """Which values are not whole multiples of the unit."""
    multiples = values / unit
    return np.abs(multiples - np.rint(multiples)) > COUNT_TOLERANCE + FLOAT32_STEP * multiples


def common_quantum(values: Float[np.ndarray, " n"]) -> float | None:
    """Find the number of which all values are whole multiples.

    Args:
        values: (n,) non-negative values.

    Returns:
        The largest such number, as the shortest decimal that fits, or None if none stands out of the rounding.
    """
    largest = float(values.max())
    rounding = 1e-6 * largest
    levels = np.unique(np.concatenate([[0.0], values]))
    gaps = np.diff(levels)
    gaps = gaps[gaps > 10 * rounding]
    if gaps.size == 0:
        return None
    quantum = float(gaps.sum() / np.rint(gaps / gaps.min()).sum())
    for _ in range(2):  # large values pin the quantum down once small ones have numbered them
        multiples = np.rint(values / quantum)
        quantum = float((values * multiples).sum() / (multiples**2).sum())
    if np.unique(np.rint(values / quantum)).size < 3:  # then any number would fit
        return None
    decimals = (float(f"{quantum:.{digits}g}") for digits in range(1, 13))
    return next((decimal for decimal in decimals if not _broken(values, decimal).any()), None)


def whole_counts(values: Float[np.ndarray, " n"], counts_unit: float) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Turn a column into numbers of photons.

    Args:
        values: (n,) finite column of counts.
        counts_unit: Value of one count in the column.

    Returns:
        (n,) whole counts, and notes.

    Raises:
        InputError: If a count is negative, not whole or above `MAX_COUNT`.
    """
    if (values < 0).any():
        i = int(np.argmax(values < 0))
        raise InputError(
            f"counts must not be negative, got {int((values < 0).sum())} such values (first: {values[i]:g} in row "
            f"{i + 1}); background-subtracted rates need a third column of errors"
        )
    if (values > MAX_COUNT * counts_unit).any():
        i = int(np.argmax(values))
        raise InputError(
            f"counts must be at most 2**53 (9e15) in a bin, got {values[i]:g} in row {i + 1}; check the columns and "
            "their units"
        )
    counts = np.rint(values / counts_unit)
    broken = _broken(values, counts_unit)
    if broken.any():
        i = int(np.argmax(broken))
        quantum = common_quantum(values)
        remedy = "" if quantum is None else f"pass --counts-unit {quantum:g} (all values are multiples of it), or "
        unit = "" if counts_unit == 1 else f" of {counts_unit:g}"
        raise InputError(
            f"counts must be whole numbers{unit}, got {values[i]:.10g} in row {i + 1} ({int(broken.sum())} of "
            f"{values.size} are not whole); {remedy}if these are rates add a third column of errors, if event times "
            "keep one column"
        )
    divisor = int(np.gcd.reduce(counts.astype(np.int64)))
    if divisor > 1 and np.unique(counts).size > 2:
        note = f"all counts are multiples of {divisor}: if the column is scaled, pass --counts-unit {divisor}"
        return counts, (note,)
    return counts, ()


def check_errors(error: Float[np.ndarray, " n"]) -> None:
    """Refuse errors of rates that are not positive.

    Args:
        error: (n,) standard deviations [counts/s].

    Raises:
        InputError: If one is zero or negative.
    """
    bad = ~(error > 0)
    if bad.any():
        i = int(np.argmax(bad))
        raise InputError(
            f"errors of the rates must be positive, got {int(bad.sum())} that are not (first: {error[i]:g} in row "
            f"{i + 1}); empty bins have no Gaussian error: give counts instead of rates, or wider bins"
        )


def check_counts_unit(counts_unit: float) -> None:
    """Refuse a unit of counts that is not positive and finite.

    Args:
        counts_unit: Value of one count in the file's counts column.

    Raises:
        InputError: If it is not.
    """
    if not 0 < counts_unit < math.inf:
        raise InputError(f"counts_unit must be positive, got {counts_unit!r}; pass --counts-unit 1 for plain counts")


def light_curve_from_columns(
    times: Float[np.ndarray, " n"],
    values: Float[np.ndarray, " n"],
    error: Float[np.ndarray, " n"] | None = None,
    *,
    exposure: Float[np.ndarray, " n"] | None = None,
    background: Float[np.ndarray, " n"] | None = None,
    dt: float | None = None,
    time_fraction: float = 0.5,
    source: str = "",
    notes: tuple[str, ...] = (),
) -> LightCurve:
    """Lay checked columns out on the uniform grid they imply; bins without data are gaps.

    Args:
        times: (n,) time of each row [s].
        values: (n,) whole counts, or rates [counts/s] if errors are given.
        error: (n,) standard deviations [counts/s]; None makes it a light curve of counts.
        exposure: (n,) watched fraction of each row's bin; None is 1.
        background: (n,) expected background counts of each row; None is 0.
        dt: Bin width [s] if the file states it.
        time_fraction: Where in its bin a time stands: 0 left edge, 0.5 centre.
        source: Where the data came from.
        notes: What was done so far.

    Returns:
        Light curve from the first row to the last.

    Raises:
        InputError: If the times do not lie on a uniform grid.
    """
    grid, index = regular_grid(times, dt)

    def placed(column: NDArray[np.float64]) -> NDArray[np.float64]:
        dense = np.zeros(grid.n_bins)
        dense[index] = column
        return dense

    missing = grid.n_bins - times.size
    return make_light_curve(
        values=placed(values),
        exposure=placed(np.ones(times.size) if exposure is None else exposure),
        background=None if background is None else placed(background),
        error=None if error is None else placed(error),
        grid=grid,
        kind="counts" if error is None else "rate",
        start=float(times[0]) - time_fraction * grid.dt,
        source=source,
        notes=notes + ((f"{missing} bins without data are gaps",) if missing else ()),
    )
