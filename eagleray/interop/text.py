"""Text files: event times, counts, or rates with errors, in columns."""

import gzip
import re
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.interop.columns import check_errors, check_finite, light_curve_from_columns, source_name, whole_counts
from eagleray.records import EventList, LightCurve

MAX_BYTES = 2**29
"""Largest text that is read, unpacked [bytes]: about 20 million rows."""
GZIP_MAGIC = b"\x1f\x8b"
LAYOUT = "1 column (event times), 2 (time, counts) or 3 (time, rate, error)"
_SEPARATOR = re.compile(r"[\s,;]+")
_COMMENT = re.compile(r"[#!%].*")
_DECIMAL_COMMA = re.compile(r"\d,\d")
_NOT_COMMA = re.compile(r"[^\s,](?:\s*;\s*|\s+)[^\s,]")
"""A separator that is no comma, nor a blank beside one."""
_DAYS = re.compile(r"(?<![a-z])(?:[bhmrt]*jd|days?)(?!\w)(?![\s:=]*\d)", re.IGNORECASE)
"""A header's word for times in days; an epoch such as MJD 55197 is none."""
_SECONDS = re.compile(r"(?<![a-z/])s(?:ecs?|econds?)?(?![\w^-])", re.IGNORECASE)
"""A header's word for times in seconds; that of a rate, as in counts/s or s^-1, is none."""
DAY_RANGES = ((3e4, 7e4), (2.4e6, 2.5e6))
"""Where the (modified) Julian dates of observations lie: 1941 to 2050, and 1858 to 2132 [days]."""
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")


def _number(word: str) -> float | None:
    """The word as a number, or None."""
    try:
        return float(word)
    except ValueError:
        return None


def _check_decimal_points(data: str, line_number: int) -> None:
    """Refuse decimal commas, which show where something else separates the columns."""
    if _DECIMAL_COMMA.search(data) and _NOT_COMMA.search(data):
        raise InputError(
            f"numbers must have decimal points, got {data[:40]!r} in line {line_number}; replace decimal commas by "
            "points, or separate all columns by commas"
        )


def _check_seconds(times: NDArray[np.float64], heading: list[str]) -> None:
    """Refuse times that look like days, by their header or by their values."""
    named = [word[0] for line in heading if (word := _DAYS.search(line)) and not _SECONDS.search(line)]
    dates = any(((low <= times) & (times <= high)).all() for low, high in DAY_RANGES)
    if named or (dates and times.size > 1 and np.median(np.diff(times)) < 1):
        hint = f", header {named[0]!r}" if named else ""
        cure = f"take {named[0]!r} out of the header" if named else "let them start from 0"
        raise InputError(
            f"times must be seconds, got what look like days (first: {times[0]:.12g}{hint}); multiply them by 86400, "
            f"or if they are seconds {cure}"
        )


def _row(words: list[str], line_number: int) -> list[float]:
    """One line as numbers."""
    row = []
    for word in words:
        number = _number(word)
        if number is None:
            raise InputError(
                f"every column must be a number, got {word[:40]!r} in line {line_number}; delete or mend the line"
            )
        row.append(number)
    return row


def parse_table(text: str) -> tuple[NDArray[np.float64], NDArray[np.int64], tuple[str, ...]]:
    """Read the numbers of a table: separated by blanks, commas or semicolons, comments after #, ! or %.

    Lines before the first one that begins with a number are a header.

    Args:
        text: Content of the file.

    Returns:
        (n_rows, n_columns) numbers, (n_rows,) line of each row counted from 1, and notes.

    Raises:
        InputError: If there is no number, or a line is not numbers, has decimal commas, or has another number of
            columns than the first.
    """
    rows: list[list[float]] = []
    lines: list[int] = []
    header: list[str] = []
    for line_number, line in enumerate(text.splitlines(), start=1):
        data = _COMMENT.sub("", line).strip()
        words = [word for word in _SEPARATOR.split(data) if word]
        if not words:
            continue
        if not rows and _number(words[0]) is None:
            header.append(line.strip())
            continue
        _check_decimal_points(data, line_number)
        row = _row(words, line_number)
        if rows and len(row) != len(rows[0]):
            raise InputError(
                f"every line must have the same number of columns, got {len(row)} in line {line_number} and "
                f"{len(rows[0])} in line {lines[0]}; a data line has {LAYOUT}"
            )
        rows.append(row)
        lines.append(line_number)
    if not rows:
        found = f"only text ({header[0][:40]!r})" if header else "no line of data"
        raise InputError(f"the file must hold numbers, got {found}; a data line has {LAYOUT}")
    notes = (f"header skipped: {len(header)} line(s), first {header[0][:60]!r}",) if header else ()
    return np.array(rows, np.float64), np.array(lines), notes


def _load(path: Path) -> str:
    """The file's text, unpacked if it is gzip."""
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == GZIP_MAGIC
        with gzip.open(path) if packed else path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path.name} must be a whole gzip file, got one that breaks off or is damaged ({error}); download it again"
        ) from error
    if len(content) > MAX_BYTES:
        raise InputError(f"{path.name} must unpack to at most {MAX_BYTES} bytes, got more; give binned counts instead")
    if _CONTROL.search(content):
        raise InputError(
            f"{path.name} must be FITS or text, got binary data ({content[:8]!r}...); convert it to one of these"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _events(times: NDArray[np.float64], source: str, notes: tuple[str, ...]) -> EventList:
    """A single column as arrival times; good from the first to the last."""
    steps = np.diff(times)
    if (steps < 0).any():
        i = int(np.argmax(steps < 0))
        raise InputError(
            f"event times (a single column) must be sorted, got {times[i + 1]:.12g} after {times[i]:.12g} in row "
            f"{i + 2}; sort them, or if these are counts add a first column of times"
        )
    span = times[-1] - times[0]
    if span == 0:
        raise InputError(f"event times must differ, got {times.size} at {times[0]:.12g} s; give a longer observation")
    return EventList(
        times=times - times[0],
        gti=np.array([[0.0, span]]),
        start=float(times[0]),
        source=source,
        notes=(*notes, "no good time intervals in the file: taken from the first to the last event"),
    )


def read_text(path: Path, *, counts_unit: float = 1.0) -> LightCurve | EventList:
    """Read a text file, plain or gzip.

    Args:
        path: File with one column (event times [s]), two (time [s], counts) or three (time [s], rate [counts/s],
            error [counts/s]).
        counts_unit: Value of one count in the counts column.

    Returns:
        Events for one column, else a light curve on the file's own bins.

    Raises:
        InputError: If the file is not such a table, or its numbers cannot be an observation.
    """
    text = _load(path)
    table, lines, notes = parse_table(text)
    n_columns = table.shape[1]
    if n_columns > 3:
        raise InputError(f"{path.name} must have {LAYOUT}, got {n_columns} columns; keep the ones meant")
    names = ("times", "counts") if n_columns < 3 else ("times", "rates", "errors")
    for i, name in zip(range(n_columns), names, strict=False):
        check_finite(table[:, i], name, lines)
    times, source = table[:, 0], source_name(path)
    _check_seconds(times, text.splitlines()[: lines[0] - 1])
    if n_columns == 1:
        return _events(times, source, notes)
    notes = (*notes, "times are taken as bin centres")
    if n_columns == 3:
        check_errors(table[:, 2])
        return light_curve_from_columns(times, table[:, 1], table[:, 2], source=source, notes=notes)
    counts, count_notes = whole_counts(table[:, 1], counts_unit)
    return light_curve_from_columns(times, counts, source=source, notes=notes + count_notes)
