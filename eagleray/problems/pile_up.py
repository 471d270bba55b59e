"""Pile-up in a detector read out in frames: photons of one frame add up to one event, of good grade or lost."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray
from scipy import stats

from eagleray.errors import InputError
from eagleray.priors import Prior
from eagleray.problems.priors import problem_prior
from eagleray.problems.problem import Problem, ProblemEntry, several
from eagleray.problems.windows import steady_events
from eagleray.records import EventList, Key, Panel, Theta
from eagleray.simulators.observe.events import event_capacity, unit_exponentials
from eagleray.simulators.observe.frames import pile_up
from eagleray.simulators.observe.running import running_sum
from eagleray.summaries.features import CustomSummary

CHANDRA_FRAME_TIME = 3.2
"""Time from one read-out of all of a Chandra ACIS chip to the next [s]."""

UNITS = {"rate": "counts/s", "photon_index": "", "alpha": ""}

# Spectra for each set of parameters: simulating is cheaper than training.
_N_VIEWS = 4
_MIN_EVENTS = 50
_MAX_PER_FRAME = 10.0
_MAX_CHANNELS = 400
# Bins of the summary, about: up to the highest energy of a photon, and above.
_N_BELOW, _N_ABOVE = 24, 6
# Probability of more photons in a frame than the likelihood counts.
_NEGLECTED = 1e-10


@dataclasses.dataclass(frozen=True, kw_only=True)
class EnergyEvents(EventList):
    """Events with the energy that was recorded for each.

    Attributes:
        energies: (n_events,) energies [keV].
    """

    energies: NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Channels:
    """Channels of equal width (static). Channel i holds energies about i width, so that energies add as numbers do.

    Attributes:
        width: Width of a channel [keV].
        first: Number of the first channel.
        last: Number of the last channel that a single photon reaches.
    """

    width: float
    first: int
    last: int

    @property
    def photons(self) -> NDArray[np.int64]:
        """Numbers of the channels of single photons."""
        return np.arange(self.first, self.last + 1)

    @property
    def recorded(self) -> NDArray[np.int64]:
        """Numbers of the channels that are recorded, up to twice the highest energy of a photon."""
        return np.arange(self.first, 2 * self.last + 1)


def default_prior(observation: EnergyEvents, *, frame_time: float = CHANDRA_FRAME_TIME) -> dict[str, str]:
    """Incident rates from half to four times the recorded one: pile-up hides photons, and lost grades more of them."""
    rate = observation.energies.size / np.diff(observation.gti, axis=1).sum()
    return {
        "rate": f"loguniform({rate / 2:.4g}, {min(rate * 4, _MAX_PER_FRAME / frame_time):.4g})",
        "photon_index": "uniform(0.5, 3.5)",
        "alpha": "uniform(0, 1)",
    }


def make(
    observation: EnergyEvents,
    prior: Mapping[str, str] | None = None,
    *,
    frame_time: float = CHANDRA_FRAME_TIME,
    channel_width: float = 0.25,
    lowest: float = 0.5,
    highest: float = 8.0,
) -> Problem:
    """A power-law spectrum in one detection cell, piled up.

    Photons come at a constant rate, their number in a frame is Poisson. What is recorded of a frame with n > 0 photons
    is one event with the sum of their energies, if its grade is good, which has the probability alpha^(n - 1). Photons
    have whole channel numbers i with probabilities proportional to i^(-photon_index) between `lowest` and `highest`, so
    that sums of energies are sums of numbers; events are recorded up to twice `highest`, and are lost above. There is
    no response and no background: a toy. Parameters:

    - rate: incident rate in the cell [counts/s].
    - photon_index: slope of the photon spectrum.
    - alpha: probability that one more photon in an event leaves its grade good.

    Data are the counts in each recorded channel; the number of frames is known. The likelihood is that of the frames,
    each of which is empty (or lost) or in one of the channels: up to the number of ways to order them, which no
    parameter enters, it is the multinomial one. It is exact: convolutions count up to so many photons in a frame that
    more have a probability below 1e-10.

    Args:
        observation: `EnergyEvents`, at most one for each frame; gives the number of frames and the prior range of the
            rate. Events outside of the recorded channels are left out.
        prior: Priors that replace the defaults, by parameter name.
        frame_time: Time from one read-out to the next [s].
        channel_width: Width of a channel [keV].
        lowest: Energy of the first channel [keV].
        highest: Energy of the last channel of single photons [keV].

    Raises:
        InputError: If the observation has no energies, too few events, or two events in one frame; a prior names no
            parameter or leaves the range that it can have; or the channels are out of range.

    References:
        Davis (2001), ApJ 562, 575, section 3 (sums of energies within a frame, grade migration alpha).
    """
    channels = _channels(channel_width, lowest, highest)
    n_frames = _n_frames(observation, frame_time)
    counts = _counts(observation, channels)
    priors = problem_prior("pile_up", default_prior(observation, frame_time=frame_time), prior, positive=("rate",))
    most = _most_per_frame(priors, frame_time)
    n_photons = int(stats.poisson(most).isf(_NEGLECTED)) + 1
    capacity = event_capacity(most * n_frames)
    numbers = jnp.asarray(channels.photons, jnp.float32)

    def photon_law(theta: Theta) -> Float[Array, " n_photon_channels"]:
        return jax.nn.softmax(-theta["photon_index"] * jnp.log(numbers))

    def simulate(key: Key, theta: Theta) -> Float[Array, " n_channels"]:
        key_times, key_energies, key_grades = jax.random.split(key, 3)
        law = photon_law(theta)
        # Times in frames.
        times = running_sum(unit_exponentials(key_times, capacity, law.dtype)) / (theta["rate"] * frame_time)
        u = jax.random.uniform(key_energies, (capacity,), law.dtype)
        drawn = channels.first + jnp.searchsorted(jnp.cumsum(law)[:-1], u, side="right", method="compare_all")
        frames = pile_up(key_grades, times, drawn.astype(law.dtype), theta["alpha"], 1.0, n_frames)
        at = jnp.where(frames.detected, frames.energies.astype(jnp.int32) - channels.first, -1)
        n_channels = channels.recorded.size
        return jnp.zeros(n_channels, law.dtype).at[jnp.where(at < 0, n_channels, at)].add(1.0, mode="drop")

    def log_likelihood(theta: Theta, data: Float[Array, " n_channels"]) -> Float[Array, ""]:
        law = piled_law(photon_law(theta), theta["rate"] * frame_time, theta["alpha"], channels, n_photons)
        return (data * jnp.log(law)).sum() + (n_frames - data.sum()) * jnp.log1p(-law.sum())

    return Problem(
        name="pile_up",
        prior=priors,
        units=UNITS,
        simulate=simulate,
        simulate_views=several(simulate, _N_VIEWS),
        summary=_summary(channels, n_frames),
        observed=jnp.asarray(counts, jnp.float32),
        settings={
            "frame_time": float(frame_time),
            "channel_width": float(channel_width),
            "lowest": float(lowest),
            "highest": float(highest),
        },
        conditions={},
        log_likelihood=log_likelihood,
    )


def piled_law(
    photon_law: Float[Array, " n_photon_channels"],
    per_frame: Float[Array, ""],
    alpha: Float[Array, ""],
    channels: Channels,
    n_photons: int,
) -> Float[Array, " n_channels"]:
    """Probability that a frame gives an event in each recorded channel.

    The sum over n of Poisson(n; per_frame) alpha^(n - 1) times the n-fold convolution of the photons' law, in which
    every term is positive, so that small probabilities keep their digits.

    Args:
        photon_law: Probability of each channel of single photons.
        per_frame: Mean number of photons in a frame.
        alpha: Probability that one more photon leaves the grade good.
        channels: The channels.
        n_photons: Most photons in a frame that are counted (static).

    Returns:
        (n_channels,) probabilities; what is missing to 1 is the probability of no event.

    References:
        Davis (2001), ApJ 562, 575, section 3.
    """
    recorded = channels.recorded
    # Entry (i, j): what one more photon adds to channel i of what was in channel j.
    shift = recorded[:, None] - recorded[None, :] - channels.first
    allowed = (shift >= 0) & (shift < channels.photons.size)
    adding = jnp.where(allowed, photon_law[np.where(allowed, shift, 0)], 0.0)
    spectrum = jnp.concatenate([photon_law, jnp.zeros(recorded.size - photon_law.size, photon_law.dtype)])
    spectrum = spectrum * per_frame * jnp.exp(-per_frame)
    total = spectrum
    for n in range(2, n_photons + 1):
        spectrum = adding @ spectrum * (alpha * per_frame / n)
        total = total + spectrum
    return total


def _channels(width: float, lowest: float, highest: float) -> Channels:
    """Channels between two energies [keV]."""
    if not (0 < width < math.inf and width <= lowest < highest < math.inf):
        raise InputError(
            f"channels need 0 < channel_width <= lowest < highest (keV), got channel_width {width:g}, lowest "
            f"{lowest:g}, highest {highest:g}"
        )
    channels = Channels(width, round(lowest / width), round(highest / width))
    if not 2 <= channels.photons.size <= _MAX_CHANNELS:
        raise InputError(
            f"channel_width must leave 2 to {_MAX_CHANNELS} channels between lowest and highest, got "
            f"{channels.photons.size}"
        )
    return channels


def _n_frames(observation: EnergyEvents, frame_time: float) -> int:
    """Number of frames in good time; refuse what is no observation of single frames."""
    if not isinstance(observation, EnergyEvents):
        raise InputError(
            f"pile_up needs the energy of each event, got {type(observation).__name__}, which has none; give "
            "eagleray.problems.pile_up.EnergyEvents"
        )
    n_times, n_energies = np.size(observation.times), np.size(observation.energies)
    if n_times != n_energies:
        raise InputError(f"energies must be one for each of {n_times} events, got {n_energies}")
    if n_times < _MIN_EVENTS:
        raise InputError(f"pile_up needs at least {_MIN_EVENTS} events, got {n_times}")
    if not 0 < frame_time < math.inf:
        raise InputError(f"frame_time must be positive (seconds), got {frame_time!r}")
    shortest = np.diff(observation.times).min()
    if shortest < 0.5 * frame_time:
        raise InputError(
            f"events must be one to a frame, got two {shortest:.3g} s apart with frame_time {frame_time:g} s; take the "
            "events of one detection cell"
        )
    return int(np.diff(observation.gti, axis=1).sum() / frame_time + 1e-6)


def _counts(observation: EnergyEvents, channels: Channels) -> NDArray[np.int64]:
    """Counts in each recorded channel."""
    numbers = np.rint(np.asarray(observation.energies, np.float64) / channels.width)
    inside = numbers[(numbers >= channels.first) & (numbers <= channels.recorded[-1])].astype(int)
    return np.bincount(inside - channels.first, minlength=channels.recorded.size)


def _most_per_frame(prior: Prior, frame_time: float) -> float:
    """Largest mean number of photons in a frame; refuse priors that the model cannot have."""
    most = prior.upper_end("rate") * frame_time
    if not most <= _MAX_PER_FRAME * (1 + 1e-3):
        raise InputError(
            f"the prior of rate must end at {_MAX_PER_FRAME / frame_time:.4g} counts/s, {_MAX_PER_FRAME:g} photons in "
            f"a frame, or below, got {prior.texts['rate']}"
        )
    if prior.lower_end("alpha") < 0 or prior.upper_end("alpha") > 1:
        raise InputError(f"the prior of alpha must stay between 0 and 1, got {prior.texts['alpha']}")
    return most


def _summary(channels: Channels, n_frames: int) -> CustomSummary:
    """Square roots of the counts in wider bins, whose scatter is even, and moments of the energies."""
    end = channels.last + 1
    edges = [np.geomspace(channels.first, end, _N_BELOW), np.geomspace(end, channels.recorded[-1] + 1, _N_ABOVE)]
    first = np.unique(np.rint(np.concatenate(edges)).astype(int))
    widths = np.diff(first)
    centres = (first[:-1] + 0.5 * (widths - 1)) * channels.width
    energies = channels.recorded * channels.width
    membership = np.repeat(np.eye(widths.size, dtype=np.float32), widths, axis=1)

    def function(data: Float[Array, " n_channels"]) -> Float[Array, " n_features"]:
        binned = membership @ data
        law = (data + 0.01) / (data + 0.01).sum()
        mean, mean_log = law @ jnp.asarray(energies, data.dtype), law @ jnp.asarray(np.log(energies), data.dtype)
        above = binned[centres > channels.last * channels.width].sum()
        moments = jnp.stack([jnp.log(data.sum() + 1.0), jnp.log(mean), mean_log, jnp.sqrt(above + 0.375)])
        return jnp.concatenate([jnp.sqrt(binned + 0.375), moments])

    return CustomSummary(
        function=function,
        names=(
            *(f"root_counts[{energy:.4g} keV]" for energy in centres),
            "log_events",
            "log_mean_energy",
            "mean_log_energy",
            "root_counts_above",
        ),
        panel=Panel(
            name="counts",
            axis_name="energy",
            axis=centres,
            axis_label="Energy [keV]",
            value_label="Counts per channel",
            log_value=False,
        ),
        about={"summary": "root_counts", "n_frames": n_frames},
        undo=lambda roots: (roots**2 - 0.375) / widths,
    )


def standard() -> EnergyEvents:
    """Four thousand frames of Chandra ACIS, an event in two of five, of photon index near 1.7."""
    events = steady_events(4000 * CHANDRA_FRAME_TIME, 0.4 / CHANDRA_FRAME_TIME)
    rank = np.arange(events.times.size) * 0.6180339887 % 1.0  # even, and in no order
    energies = (0.5**-0.7 + rank * (8.0**-0.7 - 0.5**-0.7)) ** (-1 / 0.7)
    return EnergyEvents(times=events.times, gti=events.gti, energies=energies)


ENTRIES = {
    "pile_up": ProblemEntry(
        make=make,
        about="a power-law spectrum piled up in frames: energies add, grades migrate",
        units=UNITS,
        takes="events",
        standard=standard,
        reference="multinomial likelihood of the frames, exact",
        seconds=0.001,
    )
}
