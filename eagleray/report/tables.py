"""The posterior as numbers: medians and central intervals, for files, the terminal and the page."""

import csv
import dataclasses
import io
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eagleray.files import write_atomic
from eagleray.records import Batch, Result

if TYPE_CHECKING:
    from rich.table import Table

QUANTILES = (0.5, 0.16, 0.84, 0.025, 0.975)
"""Median, then the ends of the central 68 % and 95 % intervals."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParameterRow:
    """One parameter's marginal posterior, in the unit named.

    Attributes:
        name: Name of the parameter.
        unit: Its unit, empty if it has none.
        median: Posterior median.
        low_68: Lower end of the central 68 % interval (quantile 0.16).
        high_68: Upper end of it (quantile 0.84).
        low_95: Lower end of the central 95 % interval (quantile 0.025).
        high_95: Upper end of it (quantile 0.975).
        prior: Its prior, as text.
    """

    name: str
    unit: str
    median: float
    low_68: float
    high_68: float
    low_95: float
    high_95: float
    prior: str

    @property
    def values(self) -> tuple[float, float, float, float, float]:
        """Median, low_68, high_68, low_95, high_95."""
        return self.median, self.low_68, self.high_68, self.low_95, self.high_95


def parameter_table(result: Result) -> list[ParameterRow]:
    """Summarise each parameter's draws by their median and central intervals.

    Args:
        result: Posterior draws, each (n_draws,), in physical units.

    Returns:
        One row for each parameter, in the order of `result.draws`. Draws that are not finite make a row of NaN: they
        are never left out.
    """
    return [_row(result, name) for name in result.draws]


def write_summary_csv(result: Result, path: str | os.PathLike[str]) -> Path:
    """Write the parameter table at full precision as comma-separated values.

    Args:
        result: Posterior draws, in physical units.
        path: File to write; the columns are the fields of `ParameterRow`.

    Returns:
        The path written.

    Raises:
        OSError: If the file cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=[field.name for field in dataclasses.fields(ParameterRow)])
    writer.writeheader()
    writer.writerows(dataclasses.asdict(row) for row in parameter_table(result))
    return write_atomic(path, text.getvalue().encode())


def write_batch_csv(batch: Batch, path: str | os.PathLike[str]) -> Path:
    """Write a line for each of many observations: medians and central 68 % intervals, and what is doubted.

    Args:
        batch: Posteriors of many observations.
        path: File to write. Columns: observation; of each parameter `_median`, `_low_68` and `_high_68`; `p_typical`;
            `doubts` and `refused`, empty where there is nothing to say.

    Returns:
        The path written.

    Raises:
        OSError: If the file cannot be written.
    """
    columns = {
        f"{name}{suffix}": np.quantile(values, q, axis=1)
        for name, values in batch.draws.items()
        for suffix, q in zip(("_median", "_low_68", "_high_68"), QUANTILES, strict=False)
    }
    columns["p_typical"] = batch.p_values
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["observation", *columns, "doubts", "refused"])
    for i, name in enumerate(batch.names):
        numbers = [float(values[i]) if not batch.refused[i] else "" for values in columns.values()]
        writer.writerow([name, *numbers, " ".join(batch.warnings[i]), batch.refused[i]])
    return write_atomic(path, text.getvalue().encode())


def render_table(result: Result) -> "Table":
    """Lay the parameter table out for the terminal, with digits that the intervals justify.

    Args:
        result: Posterior draws, in physical units.

    Returns:
        A table for `rich.console.Console.print`.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Posterior: medians and central intervals")
    for heading in ("parameter", "unit", "median", "68 %", "95 %", "prior"):
        table.add_column(heading, justify="right" if heading in ("median", "68 %", "95 %") else "left")
    for row in parameter_table(result):
        median, low_68, high_68, low_95, high_95 = format_row(row)
        cells = (row.name, row.unit, median, f"{low_68} to {high_68}", f"{low_95} to {high_95}", row.prior)
        table.add_row(*(Text(cell) for cell in cells))  # Text: square brackets in names are not markup
    return table


def format_row(row: ParameterRow) -> tuple[str, str, str, str, str]:
    """Write a row's five values with the digits its 68 % interval justifies.

    Args:
        row: One parameter's marginal posterior.

    Returns:
        Median, low_68, high_68, low_95 and high_95 as text. All share decimals and power of ten (two digits of half
        the 68 % interval), unless the 95 % interval spans more than a decade: then each has two digits of its own.
    """
    if row.low_95 > 0 and row.high_95 > 10 * row.low_95:
        texts = [format_value(value, *number_format(value, abs(value))) for value in row.values]
    else:
        digits = number_format(row.median, half_width(row))
        texts = [format_value(value, *digits) for value in row.values]
    return texts[0], texts[1], texts[2], texts[3], texts[4]


def half_width(row: ParameterRow) -> float:
    """Half of the central 68 % interval, in the row's unit."""
    return 0.5 * (row.high_68 - row.low_68)


def number_format(value: float, scale: float) -> tuple[int, int]:
    """Choose decimals and a power of ten that show two digits of a scale.

    Args:
        value: Number to be written; outside 1e-3 to 1e5 it gets a power of ten.
        scale: Uncertainty of the number, in the same unit; zero or NaN where there is none.

    Returns:
        Decimals of the mantissa, and the power of ten (0: written plainly).
    """
    magnitude = abs(value)
    plain = not math.isfinite(magnitude) or magnitude == 0 or 1e-3 <= magnitude < 1e5
    exponent = 0 if plain else math.floor(math.log10(magnitude))
    if not (scale > 0 and math.isfinite(scale)):
        return 4, exponent
    decimals = 1 - math.floor(math.log10(scale)) + exponent
    return min(max(decimals, 0), 12), exponent


def format_value(value: float, decimals: int, exponent: int) -> str:
    """Write a number as `mantissa` or `mantissa`e`exponent`, as chosen by `number_format`.

    Args:
        value: Number to be written.
        decimals: Decimals of the mantissa.
        exponent: Power of ten taken out; 0 for none.

    Returns:
        For instance "1.25" or "2.3e-4".
    """
    mantissa = f"{value / 10.0**exponent:.{decimals}f}"
    return f"{mantissa}e{exponent}" if exponent and math.isfinite(value) else mantissa


def _row(result: Result, name: str) -> ParameterRow:
    """The row of one parameter."""
    median, low_68, high_68, low_95, high_95 = np.quantile(np.asarray(result.draws[name], np.float64), QUANTILES)
    return ParameterRow(
        name=name,
        unit=result.units.get(name, ""),
        median=float(median),
        low_68=float(low_68),
        high_68=float(high_68),
        low_95=float(low_95),
        high_95=float(high_95),
        prior=result.prior.get(name, ""),
    )
