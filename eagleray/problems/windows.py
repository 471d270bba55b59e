"""Windows that stand for a problem where there is no observation: steady sources, watched as an instrument would."""

import numpy as np

from eagleray.records import EventList, LightCurve, TimeGrid


def steady_light_curve(n_bins: int, dt: float, rate: float) -> LightCurve:
    """A light curve without gaps and background whose every bin holds what is expected.

    Args:
        n_bins: Number of bins.
        dt: Bin width [s].
        rate: Count rate [counts/s].
    """
    grid = TimeGrid(n_bins=n_bins, dt=dt)
    return LightCurve(
        values=np.full(n_bins, rate * dt, np.float32),
        exposure=np.ones(n_bins, np.float32),
        background=np.zeros(n_bins, np.float32),
        error=None,
        grid=grid,
    )


def steady_events(duration: float, rate: float) -> EventList:
    """Events at even steps in one good time interval.

    Args:
        duration: Length of the interval [s].
        rate: Recorded events per second.
    """
    times = (np.arange(round(duration * rate), dtype=np.float64) + 0.5) / rate
    return EventList(times=times, gti=np.array([[0.0, duration]]))
