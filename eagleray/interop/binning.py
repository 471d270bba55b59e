"""Uniform bins: finding the grid behind a column of times, filling it from events, and making it coarser.

Gaps stay on the grid as bins without exposure, so that one FFT, one mask and one compilation serve the whole curve.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray

from eagleray.errors import InputError
from eagleray.records import EventList, LightCurve, TimeGrid, ValueKind

MAX_BINS = 2**20
"""Longest light curve that is handed on."""
MAX_FILE_BINS = 2**24
"""Longest grid that is laid out while reading, before rebinning."""
EDGE_TOLERANCE = 1e-3
"""How far a bin may stick out of a good time interval [bins], as in Stingray."""
STEP_TOLERANCE = 0.1
"""How far a step may be from a whole number of bins [bins]: printed times are rounded."""
TOUCHING = 1e-6
"""Good time intervals closer than this are one [s]: at 1e9 s a float64 step is 1e-7 s."""


def make_light_curve(
    *,
    values: ArrayLike,
    exposure: ArrayLike,
    grid: TimeGrid,
    kind: ValueKind,
    start: float,
    background: ArrayLike | None = None,
    error: ArrayLike | None = None,
    source: str = "",
    notes: tuple[str, ...] = (),
) -> LightCurve:
    """Hand host arrays over to JAX as one light curve, zero where there is no exposure.

    Args:
        values: (n_bins,) counts per bin, or rate [counts/s].
        exposure: (n_bins,) watched fraction of each bin, 0 to 1.
        grid: Time bins.
        kind: `"counts"` or `"rate"`.
        start: Left edge of the first bin [s].
        background: (n_bins,) expected background counts in each bin; None is none.
        error: (n_bins,) standard deviation of each rate [counts/s]; None for counts.
        source: Where the data came from.
        notes: What was done to the data.

    Returns:
        The light curve, on the host in float64.
    """
    exposure = np.asarray(exposure, np.float64)
    watched = exposure > 0

    def masked(array: ArrayLike) -> NDArray[np.float64]:
        return np.where(watched, np.asarray(array, np.float64), 0.0)

    return LightCurve(
        values=masked(values),
        exposure=np.asarray(exposure, np.float64),
        background=masked(np.zeros(grid.n_bins) if background is None else background),
        error=None if error is None else masked(error),
        grid=grid,
        kind=kind,
        start=float(start),
        source=source,
        notes=notes,
    )


def _typical_step(steps: NDArray[np.float64]) -> float:
    """Width of a bin [s]: the mean of the steps that miss no bin, of which at least a tenth must be like that."""
    shortest = np.quantile(steps, 0.1, method="lower")
    typical = np.median(steps[steps < 1.5 * shortest])
    return float(steps[np.abs(steps / typical - 1) <= 2 * STEP_TOLERANCE].mean())


def _shortest_decimal(width: float, n_bins: int) -> float:
    """The shortest decimal number that moves none of `n_bins` edges by more than the edge tolerance."""
    decimals = (float(f"{width:.{digits}g}") for digits in range(1, 18))
    return next(decimal for decimal in decimals if abs(decimal - width) * n_bins <= EDGE_TOLERANCE * width)


def check_increasing(times: Float[np.ndarray, " n"]) -> None:
    """Refuse times of bins that are not in order.

    Args:
        times: (n,) times [s].

    Raises:
        InputError: If a time is smaller than or equal to the one before it.
    """
    steps = np.diff(times)
    if (steps < 0).any():
        i = int(np.argmax(steps < 0))
        raise InputError(
            f"times must be sorted, got {times[i + 1]:.12g} s after {times[i]:.12g} s (row {i + 2}); sort the rows "
            "by time"
        )
    if (steps == 0).any():
        i = int(np.argmax(steps == 0))
        raise InputError(
            f"times must differ, got {times[i]:.12g} s twice (rows {i + 1} and {i + 2}, {int((steps == 0).sum())} such "
            "pairs); keep one row per bin"
        )


def regular_grid(times: Float[np.ndarray, " n"], dt: float | None = None) -> tuple[TimeGrid, Int[np.ndarray, " n"]]:
    """Find the uniform grid on which the times lie, and the bin of each.

    Args:
        times: (n,) centres (or left edges) of the bins that are present [s].
        dt: Bin width [s] if the file states it; None finds it from the times.

    Returns:
        The grid, from the first bin to the last, missing ones included; and the bin of each time, (n,), from 0.

    Raises:
        InputError: If there are fewer than two times, if they are not increasing, if a step is not a whole number of
            bins, or if the grid would be longer than `MAX_FILE_BINS`.
    """
    if times.size < 2:
        raise InputError(f"a light curve must have at least 2 bins, got {times.size}; give a longer observation")
    check_increasing(times)
    steps = np.diff(times)
    width = _typical_step(steps) if dt is None else dt
    ratios = steps / width
    wholes = np.rint(ratios)
    uneven = (np.abs(ratios - wholes) > STEP_TOLERANCE) | (wholes == 0)
    if uneven.any():
        i = int(np.argmax(uneven))
        raise InputError(
            f"bins must be equally spaced, with gaps of whole bins, got a step of {steps[i]:g} s where bins are "
            f"{width:g} s wide (rows {i + 1} and {i + 2}, t = {times[i]:.12g} s; {int(uneven.sum())} of {steps.size} "
            "steps are uneven); rebin the data to equal bins, or give the event times"
        )
    last = wholes.sum()
    if last + 1 > MAX_FILE_BINS:
        raise InputError(
            f"bins from first to last must number at most {MAX_FILE_BINS}, got {last + 1:.0f} of {width:g} s, gaps "
            "included; cut the file at its longest gap, or write it with wider bins"
        )
    index = np.concatenate([[0], np.cumsum(wholes)]).astype(np.int64)
    if dt is None:
        width = _shortest_decimal(float((times[-1] - times[0]) / last), int(last))
    return TimeGrid(n_bins=int(last) + 1, dt=width), index


def check_gti(gti: Float[np.ndarray, "n_gti 2"]) -> Float[np.ndarray, "n_joined 2"]:
    """Sort good time intervals, join those that touch, and refuse those that make no sense.

    Args:
        gti: (n_gti, 2) starts and stops [s].

    Returns:
        (n_joined, 2) sorted, disjoint intervals [s].

    Raises:
        InputError: If there is none, or one is not finite, ends before it starts, or overlaps another.
    """
    if gti.size == 0:
        raise InputError(
            "good time intervals (GTI) must number at least 1, got an empty list; restore or delete the GTI"
        )
    if not np.isfinite(gti).all():
        bad = int((~np.isfinite(gti).all(axis=1)).sum())
        raise InputError(f"good time intervals (GTI) must be finite, got {bad} of {len(gti)} that are not; remove them")
    short = ~(gti[:, 1] > gti[:, 0])
    if short.any():
        i = int(np.argmax(short))
        raise InputError(
            f"good time intervals (GTI) must end after they start, got a length of {gti[i, 1] - gti[i, 0]:g} s in "
            f"interval {i + 1} of {len(gti)}; correct or remove it"
        )
    gti = gti[np.argsort(gti[:, 0], kind="stable")]
    gaps = gti[1:, 0] - gti[:-1, 1]
    if (gaps < -TOUCHING).any():
        i = int(np.argmin(gaps))
        raise InputError(
            f"good time intervals (GTI) must not overlap, got intervals {i + 1} and {i + 2} in time sharing "
            f"{-gaps[i]:g} s; merge them"
        )
    apart = gaps > TOUCHING
    return np.stack([gti[np.r_[True, apart], 0], gti[np.r_[apart, True], 1]], axis=1)


def bins_inside(
    gti: Float[np.ndarray, "n_gti 2"], left_edges: Float[np.ndarray, " n_bins"], dt: float
) -> Float[np.ndarray, " n_bins"]:
    """Mark the bins that lie fully inside a good time interval, to a thousandth of a bin: Stingray's convention.

    Args:
        gti: (n_gti, 2) sorted, disjoint intervals [s].
        left_edges: (n_bins,) left edges of the bins [s].
        dt: Bin width [s].

    Returns:
        (n_bins,) exposure, 1 inside and 0 elsewhere.
    """
    slack = EDGE_TOLERANCE * dt
    latest = np.searchsorted(gti[:, 0], left_edges + slack, side="right") - 1
    inside = (latest >= 0) & (left_edges + dt <= gti[latest, 1] + slack)
    return inside.astype(np.float64)


def check_dt(dt: float) -> None:
    """Refuse a bin width that is not a positive, finite number of seconds.

    Args:
        dt: Bin width [s].

    Raises:
        InputError: If it is not.
    """
    if not 0 < dt < math.inf:
        raise InputError(f"dt must be positive (seconds), got {dt!r}; pass --dt with a bin width such as 0.1")


def suggest_dt(span: float) -> float:
    """Bin width that gives 1024 to 2560 bins, as a round number that people can repeat.

    Args:
        span: Length of the observation [s].

    Returns:
        The largest 1, 2 or 5 times a power of ten that is at most span / 1024 [s].
    """
    width = span / 1024
    decade = math.floor(math.log10(width))
    candidates = [float(f"{digit}e{power}") for power in (decade - 1, decade, decade + 1) for digit in (1, 2, 5)]
    return max(candidate for candidate in candidates if candidate <= width * (1 + 1e-9))


def bin_events(events: EventList, dt: float) -> LightCurve:
    """Count events in uniform bins from the start of the first good time interval.

    A bin counts only if it lies fully inside one interval, to a thousandth of a bin; elsewhere counts and exposure are
    zero, and the events so lost are numbered in the notes. A last bin that does not fit is dropped.

    Args:
        events: Arrival times and good time intervals.
        dt: Bin width [s].

    Returns:
        Light curve of counts, `exposure` 0 or 1.

    Raises:
        InputError: If dt is not positive, longer than the observation, or so short that there would be more than
            `MAX_BINS` bins; if there are no events, or none inside the intervals; if the intervals make no sense.

    References:
        Stingray 2.3, `stingray.gti.create_gti_mask`.
    """
    check_dt(dt)
    if events.times.size == 0:
        raise InputError("an event list must hold events, got none; check the selection that made the file")
    gti = check_gti(events.gti)
    origin, end = gti[0, 0], gti[-1, 1]
    if events.times.max() < origin or events.times.min() > end:
        raise InputError(
            f"good time intervals (GTI) must cover the events, got events from {events.times.min():g} to "
            f"{events.times.max():g} s and intervals from {origin:g} to {end:g} s (after {events.start:.12g} s); "
            "check that both are in one time system"
        )
    n_wanted = (end - origin) / dt + EDGE_TOLERANCE
    if n_wanted < 1:
        raise InputError(
            f"dt must be shorter than the observation of {end - origin:g} s, got {dt:g}; pass a smaller --dt"
        )
    if n_wanted >= MAX_BINS + 1:
        raise InputError(
            f"the light curve must have at most {MAX_BINS} bins, got {n_wanted:.0f} with dt = {dt:g} s over "
            f"{end - origin:g} s; pass --dt {(end - origin) / MAX_BINS:.2g} or larger, or cut the file"
        )
    grid = TimeGrid(n_bins=int(n_wanted), dt=float(dt))
    exposure = bins_inside(gti - origin, np.arange(grid.n_bins) * grid.dt, grid.dt)
    index = np.floor((events.times - origin) / dt)
    on_grid = index[(index >= 0) & (index < grid.n_bins)].astype(np.int64)
    counts = np.bincount(on_grid, minlength=grid.n_bins) * exposure
    lost = events.times.size - int(counts.sum())
    note = (f"{lost} of {events.times.size} events fall outside whole bins of good time and are not counted",)
    return make_light_curve(
        values=counts,
        exposure=exposure,
        grid=grid,
        kind="counts",
        start=events.start + origin,
        source=events.source,
        notes=events.notes + (note if lost else ()),
    )


def rebin(light_curve: LightCurve, factor: int) -> LightCurve:
    """Join neighbouring bins.

    Counts, backgrounds and exposures add up, partly watched bins included. Rates are averaged, and only over groups
    that were watched throughout: the mean rate of half a bin is not the rate of the bin.

    Args:
        light_curve: Light curve to make coarser.
        factor: Bins to join into one; a last group that is not full is dropped.

    Returns:
        Light curve with bins of `factor * dt`.

    Raises:
        InputError: If factor is below 1 or larger than the number of bins.
    """
    n_bins = light_curve.grid.n_bins // max(factor, 1)
    if factor < 1 or n_bins < 1:
        raise InputError(
            f"bins to join must number 1 to {light_curve.grid.n_bins}, got {factor}; pass --dt of at least "
            f"{light_curve.grid.dt:g} s and shorter than the observation"
        )

    def grouped(array: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(array, np.float64)[: n_bins * factor].reshape(n_bins, factor)

    exposure = grouped(light_curve.exposure).mean(axis=1)
    values = grouped(light_curve.values).sum(axis=1)
    error = None
    notes = (f"{factor} bins of {light_curve.grid.dt:g} s joined into one",)
    dropped = light_curve.grid.n_bins - n_bins * factor
    if dropped:
        notes += (f"the last {dropped} bins do not fill a wider one and are dropped",)
    if light_curve.kind == "rate":
        partial = (exposure > 0) & (exposure < 1)
        exposure = np.where(exposure == 1, 1.0, 0.0)
        values = values / factor
        if light_curve.error is not None:
            error = np.sqrt((grouped(light_curve.error) ** 2).sum(axis=1)) / factor
        if partial.any():
            notes += (f"{int(partial.sum())} wider bins with a gap inside are left out",)
    return make_light_curve(
        values=values,
        exposure=exposure,
        background=grouped(light_curve.background).sum(axis=1),
        error=error,
        grid=TimeGrid(n_bins=n_bins, dt=light_curve.grid.dt * factor),
        kind=light_curve.kind,
        start=light_curve.start,
        source=light_curve.source,
        notes=light_curve.notes + notes,
    )


def trim(light_curve: LightCurve) -> LightCurve:
    """Cut off the bins without exposure before the first and after the last watched one.

    Args:
        light_curve: Light curve.

    Returns:
        The shorter light curve, or the same one where there is nothing to cut.

    Raises:
        InputError: If no bin was watched.
    """
    watched = np.flatnonzero(np.asarray(light_curve.exposure) > 0)
    if watched.size == 0:
        raise InputError(
            f"at least one bin must lie fully inside good time, got none of {light_curve.grid.n_bins} bins of "
            f"{light_curve.grid.dt:g} s; pass a smaller --dt, or check the exposures and GTIs"
        )
    first, stop = int(watched[0]), int(watched[-1]) + 1
    n_cut = light_curve.grid.n_bins - (stop - first)
    if n_cut == 0:
        return light_curve
    kept = slice(first, stop)
    return dataclasses.replace(
        light_curve,
        values=light_curve.values[kept],
        exposure=light_curve.exposure[kept],
        background=light_curve.background[kept],
        error=None if light_curve.error is None else light_curve.error[kept],
        grid=TimeGrid(n_bins=stop - first, dt=light_curve.grid.dt),
        start=light_curve.start + first * light_curve.grid.dt,
        notes=(*light_curve.notes, f"{n_cut} unexposed bins at the ends are cut off"),
    )
