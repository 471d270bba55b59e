"""FITS files: OGIP light curves, read with astropy, and event lists of the missions that Stingray knows."""

import contextlib
import gzip
import warnings
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.interop.binning import EDGE_TOLERANCE, TOUCHING, bins_inside, check_gti, check_increasing
from eagleray.interop.columns import (
    check_errors,
    check_finite,
    light_curve_from_columns,
    source_name,
    whole_counts,
)
from eagleray.interop.text import GZIP_MAGIC
from eagleray.records import EventList, LightCurve

Table: TypeAlias = Any
"""An `astropy.io.fits.BinTableHDU`: astropy has no hints, and what checkers infer of its attributes is wrong."""
RawEvents: TypeAlias = tuple[NDArray[np.longdouble], NDArray[np.longdouble], float]
"""Times (n_events,), good time intervals (n_gti, 2) and the step of the times, all in s."""
READER_ERRORS = (
    OSError,
    EOFError,
    zlib.error,
    KeyError,
    IndexError,
    ValueError,
    TypeError,
    AttributeError,
    NameError,
    NotImplementedError,
    UserWarning,
    fits.VerifyError,
)
"""What the readers of astropy and Stingray raise on files that are damaged or not what they seem."""
VALUE_COLUMNS = ("COUNTS", "RATE", "RATE1")
ERROR_COLUMNS = ("ERROR", "RATE_ERR", "RATE_ERROR", "ERROR1")
SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "d": 86400.0, "day": 86400.0, "days": 86400.0}
LARGE_BACKGROUND_RATIO = 0.1
HEADER_ERRORS = (KeyError, TypeError, AttributeError, UnboundLocalError)
"""What Stingray raises where it cannot tell the mission from the header."""
EVENT_KEYWORDS = ("TELESCOP", "INSTRUME", "TSTART", "TSTOP")
"""Keywords that Stingray reads an event list by."""


@contextlib.contextmanager
def reader_errors(path: Path, task: str) -> Iterator[None]:
    """Silence the warnings of foreign readers, and turn what they raise into one line for the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*truncated.*")
        try:
            yield
        except InputError:
            raise
        except READER_ERRORS as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise InputError(
                f"{path.name} must be a whole FITS file that {task}, got {reason}; download it again, or check it with "
                "HEASoft's ftverify"
            ) from error


def _check_gzip(path: Path) -> None:
    """Unpack a gzip file to its end: of one that breaks off, astropy silently reads the first extensions."""
    with path.open("rb") as stream:
        packed = stream.read(2) == GZIP_MAGIC
    if packed:
        with gzip.open(path) as stream:
            while stream.read(2**20):
                pass


def _names(hdu: Table) -> dict[str, str]:
    """Column names of a table by their upper case."""
    return {name.upper(): name for name in hdu.columns.names}


def _first_of(names: dict[str, str], wanted: tuple[str, ...]) -> str | None:
    """The first wanted column that is there."""
    return next((names[name] for name in wanted if name in names), None)


def _unit(text: object, where: str) -> float:
    """Seconds in a time unit."""
    try:
        return SECONDS[str(text or "s").strip().lower()]
    except KeyError as error:
        raise InputError(f"{where} must be in s or d, got {text!r}; correct the header") from error


def _column_unit(table: Table, name: str) -> float:
    """Seconds in the unit of a column of times: its own TUNIT, else the header's TIMEUNIT."""
    own = table.columns[name].unit
    return _unit(own, f"the column {name}") if own else _unit(table.header.get("TIMEUNIT"), "TIMEUNIT")


def _time_zero(header: Mapping[str, Any]) -> float:
    """TIMEZERO [s]."""
    return (_keyword(header, "TIMEZERO") or 0.0) * _unit(header.get("TIMEUNIT"), "TIMEUNIT")


def _keyword(header: Mapping[str, Any], name: str) -> float | None:
    """A keyword, or the sum of its whole (I) and fractional (F) parts."""
    if name in header:
        return float(header[name])
    parts = [float(header[part]) for part in (name[:7] + "I", name[:7] + "F") if part in header]
    return sum(parts) if parts else None


def _gti_tables(hdus: fits.HDUList) -> list[Table]:
    """Extensions that hold good time intervals."""
    tables = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU) and "GTI" in hdu.name.upper()]
    return [hdu for hdu in tables if {"START", "STOP"} <= _names(hdu).keys()]


class _Column:
    """Columns of one table as float64 of shape (n_rows,), in the chosen energy band."""

    def __init__(self, hdu: Table, band: int) -> None:
        self.table, self.band, self.names = hdu, band, _names(hdu)

    def __call__(self, name: str) -> NDArray[np.float64]:
        values = np.asarray(self.table.data[name], np.float64)
        return values if values.ndim == 1 else values[:, self.band]

    def optional(self, name: str) -> NDArray[np.float64] | None:
        return self(self.names[name]) if name in self.names else None


def _check_band(hdu: Table, column: str, band: int) -> None:
    """Refuse a band that the file does not have."""
    shape = hdu.data[column].shape
    n_bands = 1 if len(shape) == 1 else shape[1]
    if not 0 <= band < n_bands:
        raise InputError(f"band must be 0 to {n_bands - 1} for this file, got {band}; pass another --band")


def _read_gti(table: Table) -> NDArray[np.float64]:
    """Checked good time intervals of one extension [s], in the file's time system."""
    names = _names(table)
    columns = [
        np.asarray(table.data[names[name]], np.float64) * _column_unit(table, names[name]) for name in ("START", "STOP")
    ]
    return check_gti(np.stack(columns, axis=1) + _time_zero(table.header))


def _exposure(
    column: _Column, gti_tables: list[Table], times: NDArray[np.float64], fraction: float, dt: float | None
) -> NDArray[np.float64]:
    """Watched fraction of each row: FRACEXP, else whether the bin lies inside the good time intervals, else 1."""
    exposure = column.optional("FRACEXP")
    if exposure is not None:
        exposure = np.nan_to_num(exposure, nan=0.0)
        if ((exposure < 0) | (exposure > 1.001)).any():
            raise InputError(
                f"FRACEXP must be 0 to 1, got {exposure.min():g} to {exposure.max():g}; correct the exposure fractions"
            )
        return np.minimum(exposure, 1.0)
    if not gti_tables:
        return np.ones(times.size)
    gti = _read_gti(gti_tables[0])
    width = float(np.median(np.diff(times))) if dt is None else dt
    left = times - fraction * width
    if gti[0, 0] > left[-1] + width or gti[-1, 1] < left[0]:
        raise InputError(
            f"good time intervals (GTI) must cover the light curve, got bins from {left[0]:.12g} to "
            f"{left[-1] + width:.12g} s and intervals from {gti[0, 0]:.12g} to {gti[-1, 1]:.12g} s; check that both "
            "are in one time system"
        )
    return bins_inside(gti, left, width)


def _background(column: _Column, watched: NDArray[np.bool_]) -> tuple[NDArray[np.float64] | None, tuple[str, ...]]:
    """Expected background counts of each row, and notes.

    BACKRATIO scales the counts of the background region to the source region, areas and exposures included: in eROSITA
    files (COUNTS - BACK_COUNTS * BACKRATIO) / FRACEXP / TIMEDEL is the RATE column to the last digit. The product is
    therefore used bin by bin. A mean rate times FRACEXP would be wrong: FRACEXP contains the vignetting of the source,
    but most of this background is not vignetted (in Stingray's test file the product stays at 6-11 counts in bins
    whose FRACEXP runs from 0.2 to 0.84). The noise of a single bin's estimate is harmless where the ratio is small:
    it adds a variance of BACKRATIO times the background's own Poisson variance, 1 % there.
    """
    back_counts = column.optional("BACK_COUNTS")
    if back_counts is None:
        return None, ()
    ratio = column.optional("BACKRATIO")
    if ratio is None:
        raise InputError("BACK_COUNTS must come with BACKRATIO, got no such column; add it (1 if already scaled)")
    background = (back_counts * ratio)[watched]
    check_finite(background, "backgrounds (BACK_COUNTS * BACKRATIO)")
    if (background < 0).any():
        raise InputError(f"backgrounds must not be negative, got {background.min():g} counts; correct BACK_COUNTS")
    notes = ("expected background of each bin is BACK_COUNTS * BACKRATIO",)
    typical = float(np.median(ratio[watched]))
    if typical > LARGE_BACKGROUND_RATIO:
        notes += (f"BACKRATIO is large ({typical:.2g}): the background estimates of single bins are noisy",)
    return background, notes


def _widths(column: _Column, n_rows: int) -> tuple[float | None, NDArray[np.bool_]]:
    """Bin width [s] that the file states, or None; and which rows have it."""
    widths = column.optional("TIMEDEL")
    if widths is None:
        stated = _keyword(column.table.header, "TIMEDEL")
        width = None if stated is None else stated * _unit(column.table.header.get("TIMEUNIT"), "TIMEUNIT")
        usual = np.ones(n_rows, bool)
    else:
        widths = widths * _column_unit(column.table, column.names["TIMEDEL"])
        width = float(np.median(widths))
        usual = np.abs(widths - width) <= EDGE_TOLERANCE * width
        n_unusual = int((~usual).sum())
        if n_unusual > max(1, 0.01 * n_rows):  # the last bin of a file is often a short one
            raise InputError(
                f"bins must be equally wide, got TIMEDEL from {widths.min():g} to {widths.max():g} s ({n_unusual} of "
                f"{n_rows} differ from {width:g} s); rebin the data to equal bins"
            )
    if width is not None and not 0 < width < np.inf:
        raise InputError(f"TIMEDEL must be positive (seconds), got {width!r}; correct the header or the column")
    return width, usual


def _times(column: _Column) -> NDArray[np.float64]:
    """Times of the rows [s], in order, with TIMEZERO added."""
    name = column.names["TIME"]
    times = column(name) * _column_unit(column.table, name)
    check_finite(times, "times")
    check_increasing(times)
    return times + _time_zero(column.table.header)


def _rate_errors(column: _Column, watched: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Errors of the rates in the watched rows."""
    name = _first_of(column.names, ERROR_COLUMNS)
    if name is None:
        raise InputError(
            f"rates must come with errors, got none of the columns {', '.join(ERROR_COLUMNS)}; write COUNTS, or "
            "extract the light curve with errors"
        )
    error = column(name)[watched]
    check_finite(error, "errors of the rates")
    check_errors(error)
    return error


def _light_curve(
    hdu: Table, name: str, gti_tables: list[Table], source: str, counts_unit: float, band: int
) -> LightCurve:
    """The values in one column as a light curve; rows that were not watched become gaps."""
    column = _Column(hdu, band)
    _check_band(hdu, name, band)
    if len(hdu.data) < 2:
        raise InputError(f"a light curve must have at least 2 bins, got {len(hdu.data)}; give a longer observation")
    times, values = _times(column), column(name)
    fraction = float(hdu.header.get("TIMEPIXR", 0.5))
    dt, usual = _widths(column, times.size)
    exposure = _exposure(column, gti_tables, times, fraction, dt)
    is_rate = name.upper() != "COUNTS"
    if is_rate:  # rates without a value are how XRONOS and eSASS write gaps
        exposure = np.where((exposure > 0) & ~np.isnan(values), 1.0, 0.0)
    watched = (exposure > 0) & usual
    if not watched.any():
        raise InputError(f"at least one bin must be exposed, got none of {times.size}; check FRACEXP, GTI and {name}")
    times, values = times[watched], values[watched]
    check_finite(values, "rates" if is_rate else "counts")
    error, background, notes = None, None, ()
    if is_rate:
        error = _rate_errors(column, watched)
    else:
        values, count_notes = whole_counts(values, counts_unit)
        background, background_notes = _background(column, watched)
        notes += count_notes + background_notes
    if hdu.data[name].ndim > 1:
        notes += (f"band {band} of 0 to {hdu.data[name].shape[1] - 1}",)
    if ((exposure > 0) & ~usual).any():
        notes += (f"{int(((exposure > 0) & ~usual).sum())} bins of another width are left out",)
    return light_curve_from_columns(
        times,
        values,
        error,
        exposure=exposure[watched],
        background=background,
        dt=dt,
        time_fraction=fraction,
        source=source,
        notes=notes,
    )


def _stingray_events(path: Path) -> RawEvents:
    """An event list as Stingray reads it."""
    from stingray import EventList as StingrayEvents  # takes seconds, hence here

    events: Any = StingrayEvents.read(str(path), fmt="hea")
    gti = np.asarray(events.gti, np.longdouble).reshape(-1, 2)
    return np.asarray(events.time, np.longdouble), gti, float(events.dt or 0.0)


def _plain_events(path: Path, table: Table, gti_tables: list[Table], missing: str) -> RawEvents:
    """An event list as it stands in the file, whatever the mission: TIME and the first good time intervals."""
    name = _names(table)["TIME"]
    times = np.asarray(table.data[name], np.longdouble)
    if times.ndim != 1:
        raise InputError(
            f"{path.name} must hold one TIME in each row, got {times[0].size}, and a header without {missing} to say "
            "what they mean; complete the header, or write the events one a row"
        )
    unit, header = _column_unit(table, name), table.header
    resolution = (_keyword(header, "TIMEDEL") or 0.0) * _unit(header.get("TIMEUNIT"), "TIMEUNIT")
    to_centre = (0.5 - float(header.get("TIMEPIXR", 0.5))) * resolution
    gti = _read_gti(gti_tables[0]) if gti_tables else np.empty((0, 2))
    return times * unit + _time_zero(header) + to_centre, gti.astype(np.longdouble), resolution


def _read_events(path: Path, table: Table, gti_tables: list[Table], missing: str) -> tuple[RawEvents, tuple[str, ...]]:
    """Events by Stingray, or as they stand where it does not understand the header; and notes."""
    with reader_errors(path, "Stingray can read as an event list"):
        reason = "times are not in seconds"
        try:
            if _column_unit(table, _names(table)["TIME"]) == 1:  # Stingray takes any unit for seconds
                return _stingray_events(path), ()
        except HEADER_ERRORS as error:
            reason = f"no {missing}" if missing else f"{type(error).__name__}: {error}"
        notes = (f"not a header for Stingray ({reason}): TIME and GTI are read as they stand",)
        if len(gti_tables) > 1:
            notes += (f"good time intervals are those of the first of {len(gti_tables)} extensions",)
        return _plain_events(path, table, gti_tables, missing or "known keywords"), notes


def _events(path: Path, table: Table, gti_tables: list[Table], missing: str) -> EventList:
    """An event list, times as exact float64 offsets."""
    (times, gti, resolution), notes = _read_events(path, table, gti_tables, missing)
    if resolution > 0:
        notes += (f"times come in steps of {resolution:g} s: a short dt should be a whole multiple",)
    if (np.diff(times) < 0).any():  # detectors written one after the other: the order says nothing
        times = np.sort(times)
        notes += ("events were not in order of time: sorted",)
    if not gti_tables:  # Stingray then takes the first and last row, which is wrong for unsorted files
        if not times[-1] - times[0] > TOUCHING:
            raise InputError(
                f"event times must differ, got {times.size} within {TOUCHING:g} s; give a longer observation"
            )
        gti = np.array([[times[0], times[-1]]])
        notes += ("no good time intervals in the file: taken from the first to the last event",)
    start = float(gti[0, 0])
    offsets = (gti - np.longdouble(start)).astype(np.float64)
    return EventList(
        times=(times - np.longdouble(start)).astype(np.float64),
        gti=check_gti(offsets),
        start=start,
        source=source_name(path),
        notes=notes,
    )


def read_fits(path: Path, *, counts_unit: float = 1.0, band: int = 0) -> LightCurve | EventList:
    """Read a FITS file, plain or gzip.

    The first table with a TIME column decides: with COUNTS or RATE it is a light curve, without it is an event list.
    In light curves TIMEPIXR says where in its bin a time stands (centre, if it says nothing), NaN rates are gaps, and
    bins not fully inside the good time intervals are unexposed unless FRACEXP gives their exposure.

    Args:
        path: FITS file.
        counts_unit: Value of one count in a COUNTS column.
        band: Energy band, where the columns hold several.

    Returns:
        Light curve on the file's own bins, or events.

    Raises:
        InputError: If the file is damaged, has no such table, or its numbers cannot be an observation.
    """
    with reader_errors(path, "astropy can read"):
        _check_gzip(path)
    with reader_errors(path, "astropy can read"), fits.open(path, memmap=False) as hdus:
        tables: list[Table] = [hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)]
        timed = [hdu for hdu in tables if "TIME" in _names(hdu)]
        if not timed:
            found = ", ".join(f"{hdu.name or i} ({type(hdu).__name__})" for i, hdu in enumerate(hdus))
            raise InputError(
                f"{path.name} must have a table with a TIME column, got the extensions {found}; give a light "
                "curve or an event list"
            )
        gti_tables = _gti_tables(hdus)
        name = _first_of(_names(timed[0]), VALUE_COLUMNS)
        if name is not None:
            return _light_curve(timed[0], name, gti_tables, source_name(path), counts_unit, band)
        if len(timed[0].data) == 0:
            raise InputError(f"an event list must hold events, got none in {path.name}; check the selection behind it")
        check_finite(np.asarray(timed[0].data["TIME"], np.float64), "event times")
        for table in gti_tables:  # Stingray would read on with some that make no sense
            _read_gti(table)
        headers = hdus[0].header, timed[0].header
        missing = ", ".join(key for key in EVENT_KEYWORDS if not any(key in header for header in headers))
    return _events(path, timed[0], gti_tables, missing)
