"""An astronomer's file in, a checked light curve out."""

import dataclasses
import gzip
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eagleray.errors import InputError
from eagleray.interop.binning import MAX_BINS, bin_events, check_dt, rebin, suggest_dt, trim
from eagleray.interop.columns import check_counts_unit
from eagleray.interop.fits import read_fits
from eagleray.interop.text import GZIP_MAGIC, read_text
from eagleray.problems.problem import Observation, Takes
from eagleray.records import EventList, LightCurve

FITS_MAGIC = b"SIMPLE  ="
MULTIPLE_TOLERANCE = 1e-4
"""How far dt may be from a whole multiple of the file's bins [relative]."""


def _is_fits(path: Path) -> bool:
    """Whether the content, unpacked if it is gzip, begins like FITS."""
    with path.open("rb") as stream:
        head = stream.read(len(FITS_MAGIC))
    if head[:2] != GZIP_MAGIC:
        return head == FITS_MAGIC
    try:
        with gzip.open(path) as stream:
            return stream.read(len(FITS_MAGIC)) == FITS_MAGIC
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False  # the reader of text says what is wrong with the gzip file


def _check_path(path: Path) -> None:
    """Refuse what is not a readable file with something in it."""
    if path.is_dir():
        raise InputError(f"the observation must be a file, got the directory {path}; give the file inside it")
    if not path.exists():
        raise InputError(f"the observation must exist, got {path}, which does not; check the path")
    if not path.is_file():
        raise InputError(f"the observation must be a regular file, got {path}; save the data to a file first")
    if path.stat().st_size == 0:
        raise InputError(f"the observation must not be empty, got {path} of 0 bytes; write or download it again")


def _noted(light_curve: LightCurve, note: str) -> LightCurve:
    """The light curve with one more note."""
    return dataclasses.replace(light_curve, notes=(*light_curve.notes, note))


def _bin(events: EventList, dt: float | None) -> LightCurve:
    """Events in bins of dt, or of a round number that gives some thousand bins."""
    if dt is not None:
        return bin_events(events, dt)
    chosen = suggest_dt(float(events.gti[-1, 1] - events.gti[0, 0]))
    note = f"dt = {chosen:g} s chosen from the length of the observation; pass --dt to choose another"
    return _noted(bin_events(events, chosen), note)


def _coarsen(light_curve: LightCurve, dt: float | None) -> LightCurve:
    """The light curve in bins of dt, a whole multiple of its own."""
    if dt is None:
        return light_curve
    own, duration = light_curve.grid.dt, light_curve.grid.duration
    if dt > duration * (1 + MULTIPLE_TOLERANCE):
        raise InputError(f"dt must be shorter than the observation of {duration:g} s, got {dt:g}; pass a smaller --dt")
    factor = round(dt / own)
    if factor < 1 or abs(dt / own - factor) > MULTIPLE_TOLERANCE * factor:
        below = max(math.floor(dt / own), 1)
        raise InputError(
            f"dt must be a whole multiple of the file's bins of {own:g} s, got {dt:g}; pass --dt {below * own:g} or "
            f"--dt {(below + 1) * own:g}"
        )
    return light_curve if factor == 1 else rebin(light_curve, factor)


def check_light_curve(light_curve: LightCurve) -> LightCurve:
    """Refuse a light curve from which nothing can be inferred.

    Args:
        light_curve: Light curve as read and binned.

    Returns:
        The same light curve.

    Raises:
        InputError: If it has fewer than 2 exposed bins or more than `MAX_BINS` in all, if a value does not fit float32,
            or if there is no signal: no counts, or a mean that is not positive after background.
    """
    n_bins, dt = light_curve.grid.n_bins, light_curve.grid.dt
    if n_bins > MAX_BINS:
        factor = math.ceil(n_bins / MAX_BINS)
        raise InputError(
            f"the light curve must have at most {MAX_BINS} bins, got {n_bins} of {dt:g} s, gaps included; pass --dt "
            f"{factor * dt:g} or larger"
        )
    if light_curve.n_exposed < 2:
        raise InputError(
            f"a light curve must have at least 2 exposed bins, got {light_curve.n_exposed} of {dt:g} s; pass a smaller "
            "--dt, or give a longer observation"
        )
    for name, array in (("values", light_curve.values), ("errors", light_curve.error)):
        if array is not None and np.abs(np.asarray(array)).max() > np.finfo(np.float32).max:
            raise InputError(
                f"{name} must fit single precision (below 3e38), got larger ones; check the columns' units"
            )
    if light_curve.kind == "counts" and not np.asarray(light_curve.values).any():
        raise InputError(f"counts must not all be zero, got {n_bins} empty bins of {dt:g} s; check the source region")
    mean_rate = light_curve.mean_rate
    if light_curve.kind == "rate" and not mean_rate > 0:
        raise InputError(
            f"the mean rate must be positive, got {mean_rate:g} counts/s; check the background subtraction"
        )
    if not mean_rate > 0:
        raise InputError(
            f"mean source counts must be positive after background, got {mean_rate * dt:g} per bin; check the "
            "background"
        )
    return light_curve


def read_observation(
    path: str | os.PathLike[str], *, dt: float | None = None, counts_unit: float = 1.0, band: int = 0
) -> LightCurve:
    """Read an observation as a light curve on a uniform grid, gaps as bins without exposure.

    What the file holds is found from its content: a FITS light curve (RATE extension), a FITS event list of any
    mission Stingray knows, or text in columns: event times; time and counts; time, rate and error. Gzip is unpacked.

    Args:
        path: The file.
        dt: Bin width [s]. For event lists None chooses a round number that gives one to two and a half thousand bins;
            for light curves None keeps the file's bins, and dt must be a whole multiple of them.
        counts_unit: Value of one count in the file's counts column: 1.6 where the column holds 1.6 times the counts.
        band: Energy band, counted from 0, where the file holds several.

    Returns:
        Light curve, its first and last bins exposed, with what was done to the data in `notes`.

    Raises:
        InputError: If there is no such file, if it is not an observation, or if an argument does not suit it.
    """
    if dt is not None:
        check_dt(dt)
    data = _read(path, counts_unit=counts_unit, band=band)
    light_curve = _bin(data, dt) if isinstance(data, EventList) else _coarsen(data, dt)
    light_curve = check_light_curve(trim(light_curve))
    if counts_unit != 1 and (light_curve.kind == "rate" or isinstance(data, EventList)):
        return _noted(light_curve, "counts_unit has no effect on rates and event times")
    return light_curve


def read_events(path: str | os.PathLike[str]) -> EventList:
    """Read an observation as events.

    Args:
        path: A FITS event list of any mission Stingray knows, or text with a column of times. Gzip is unpacked.

    Raises:
        InputError: If there is no such file, or it holds no events.
    """
    data = _read(path)
    if not isinstance(data, EventList):
        raise InputError(f"{Path(path).name} must hold events, got a light curve; give events, or another problem")
    return data


def read_for(
    paths: Sequence[str | os.PathLike[str]],
    takes: Takes,
    *,
    dt: float | None = None,
    counts_unit: float = 1.0,
    band: int = 0,
) -> Observation:
    """Read what a problem explains.

    Args:
        paths: A file for each light curve or detector.
        takes: What the problem takes (`ProblemEntry.takes`).
        dt: As in `read_observation`, for light curves.
        counts_unit: As in `read_observation`, for light curves.
        band: As in `read_observation`, for light curves.

    Returns:
        A light curve or events; a tuple of them of several bands or detectors, the times of detectors as offsets from
        one start.

    Raises:
        InputError: If there are too many or too few files, or one is not what the problem takes; for two bands if bins
            differ.
    """
    most = 2 if "two" in takes else 1
    fewest = 2 if takes == "light curves in two bands" else 1
    if not fewest <= len(paths) <= most:
        raise InputError(f"the problem takes {takes}, got {len(paths)} files; give {most}")
    if takes.startswith("events"):
        if dt is not None:
            raise InputError(f"dt must be left out for a problem that takes {takes}, got {dt:g}")
        events = tuple(read_events(path) for path in paths)
        return events[0] if len(events) == 1 else _from_one_start(events)
    curves = tuple(read_observation(path, dt=dt, counts_unit=counts_unit, band=band) for path in paths)
    if len({(curve.grid, curve.start) for curve in curves}) > 1:
        grids = " and ".join(f"{c.grid.n_bins} of {c.grid.dt:g} s from {c.start:.12g} s" for c in curves)
        raise InputError(f"both bands must have the same bins, got {grids}; extract them alike")
    return curves[0] if len(curves) == 1 else curves


def light_curve_of(observation: Observation, *, dt: float | None = None) -> LightCurve:
    """A light curve that shows an observation: of events binned, of several detectors or bands the first.

    Args:
        observation: What was observed.
        dt: Bin width for events [s]; None chooses a round number.

    Raises:
        InputError: If it is no light curve from which anything can be inferred.
    """
    first, n = (observation[0], len(observation)) if isinstance(observation, tuple) else (observation, 1)
    shown = check_light_curve(trim(_bin(first, dt))) if isinstance(first, EventList) else first
    return shown if n == 1 else _noted(shown, f"shown is the first of {n}")


def _from_one_start(events: tuple[EventList, ...]) -> tuple[EventList, ...]:
    """The same events, all times as offsets from the earliest start."""
    start = min(one.start for one in events)
    return tuple(
        dataclasses.replace(one, times=one.times + (one.start - start), gti=one.gti + (one.start - start), start=start)
        for one in events
    )


def _read(path: str | os.PathLike[str], *, counts_unit: float = 1.0, band: int = 0) -> EventList | LightCurve:
    """What a file holds, as it stands there."""
    path = Path(path).expanduser()
    check_counts_unit(counts_unit)
    try:
        _check_path(path)
        is_fits = _is_fits(path)
        if band != 0 and not is_fits:
            raise InputError(f"band must be 0 for text files, got {band}; leave --band out")
        if is_fits:
            return read_fits(path, counts_unit=counts_unit, band=band)
        return read_text(path, counts_unit=counts_unit)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"the observation must be readable, got {path} ({reason}); check its permissions") from error
