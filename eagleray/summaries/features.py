"""What a network sees of data: by default a log-binned log power spectrum, the mean rate and the variance."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.errors import InputError
from eagleray.records import AnyArray, LightCurve, Panel, TimeGrid, ValueKind
from eagleray.summaries.rebin import LogBins, log_bins
from eagleray.summaries.spectra import positive_frequencies, power_spectrum

MIN_BINS = 8
"""Fewest exposed time bins from which a spectrum with a shape can be had."""


class Summary(Protocol):
    """From data to the numbers that a network sees of them."""

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each feature."""
        ...

    @property
    def panel(self) -> Panel:
        """What observed and simulated data are compared by."""
        ...

    def __call__(self, data: Any, /) -> Float[Array, " n_features"]:
        """Features of data, shape (n_features,)."""
        ...

    def shown(self, features: Float[np.ndarray, "*batch n_features"]) -> Float[np.ndarray, "*batch n_shown"]:
        """The part of the features that the panel shows, in its unit."""
        ...

    def signature(self) -> dict[str, Any]:
        """What two summaries must share for a network trained on one to be used on the other (JSON)."""
        ...


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CustomSummary:
    """A summary made of a function of the data.

    Attributes:
        function: Data -> (n_features,).
        names: Name of each feature.
        panel: What is shown of data: the features from number `first` on, as many as the panel has.
        about: What makes the function what it is (JSON): its name, bins, settings.
        first: The first feature that is shown.
        undo: From features to the panel's unit: `np.exp` for logarithms; None where they are in it.
    """

    function: Callable[[Any], Float[Array, " n_features"]]
    names: tuple[str, ...]
    panel: Panel
    about: Mapping[str, Any]
    first: int = 0
    undo: Callable[[np.ndarray], np.ndarray] | None = None

    def __call__(self, data: Any) -> Float[Array, " n_features"]:
        """Features of data, shape (n_features,)."""
        return self.function(data)

    def shown(self, features: Float[np.ndarray, "*batch n_features"]) -> Float[np.ndarray, "*batch n_shown"]:
        """The part of the features that the panel shows, in its unit."""
        part = features[..., self.first : self.first + self.panel.axis.size]
        return part if self.undo is None else self.undo(part)

    def signature(self) -> dict[str, Any]:
        """What two summaries must share for a network trained on one to be used on the other (JSON)."""
        return dict(self.about)


@dataclasses.dataclass(frozen=True, eq=False)
class SpectralSummary:
    """Summary of one light curve as `summary(values) -> (n_features,)`.

    The features are ln of the log-binned fractional-rms spectrum, ln of the mean rate [counts/s] and ln of the
    fractional variance (exposure-weighted). A light curve of zero or negative mean has no such summary: its features
    are not finite, and the caller must look.

    Attributes:
        grid: Time bins.
        kind: Whether values are counts per bin or rates.
        exposure: (n_bins,) fraction of each bin watched.
        background: (n_bins,) expected background counts per bin.
        rebin: Growth of the frequency bins, as in `log_bins`.
    """

    grid: TimeGrid
    kind: ValueKind
    exposure: np.ndarray
    background: np.ndarray
    rebin: float

    @classmethod
    def of(cls, observation: LightCurve, *, rebin: float) -> "SpectralSummary":
        """The summary that fits light curves watched as this one was.

        Args:
            observation: Gives bins, exposure, background and kind.
            rebin: Growth of the frequency bins.

        Raises:
            InputError: If fewer than `MIN_BINS` bins were watched, or `rebin` is negative.
        """
        if observation.n_exposed < MIN_BINS:
            raise InputError(
                f"the light curve must have at least {MIN_BINS} exposed bins, got {observation.n_exposed}; use a "
                "smaller dt or a longer observation"
            )
        if not rebin >= 0:
            raise InputError(f"rebin must be at least 0, got {rebin!r}")
        return cls(
            grid=observation.grid,
            kind=observation.kind,
            exposure=np.asarray(observation.exposure, np.float32),
            background=np.asarray(observation.background, np.float32),
            rebin=rebin,
        )

    @functools.cached_property
    def bins(self) -> LogBins:
        """Frequency bins of the spectrum."""
        return log_bins(positive_frequencies(self.grid.n_bins, self.grid.dt), self.rebin)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each feature."""
        return (*(f"log_power[{f:.6g} Hz]" for f in self.bins.freq), "log_rate", "log_variance")

    def __call__(self, values: Float[Array, " n_bins"]) -> Float[Array, " n_features"]:
        """Features of a light curve, shape (n_features,)."""
        dt = self.grid.dt
        exposure, background = jnp.asarray(self.exposure), jnp.asarray(self.background)
        counts = values * dt if self.kind == "rate" else values
        power = power_spectrum(counts, dt, norm="frac", exposure=exposure, background=background)
        mean = (counts - background).sum() / exposure.sum()
        residual = counts - background - mean * exposure
        variance = (residual**2).sum() / (exposure**2).sum() / mean**2
        moments = jnp.stack([jnp.log(mean / dt), jnp.log(variance)])
        return jnp.concatenate([jnp.log(self.bins.average(power)), moments])

    @property
    def panel(self) -> Panel:
        """The log-binned power spectrum."""
        return spectrum_panel(self.bins.freq)

    def shown(self, features: Float[np.ndarray, "*batch n_features"]) -> Float[np.ndarray, "*batch n_freq"]:
        """Powers [(rms/mean)^2/Hz] of features."""
        return np.exp(features[..., : self.bins.freq.size])

    def signature(self) -> dict[str, Any]:
        """What two summaries must share for a network trained on one to be used on the other (JSON)."""
        return {
            "summary": "log_spectrum",
            "n_bins": self.grid.n_bins,
            "dt": self.grid.dt,
            "kind": self.kind,
            "rebin": self.rebin,
            "exposure": hashlib.sha256(np.ascontiguousarray(self.exposure, "<f4").tobytes()).hexdigest()[:16],
            "background": hashlib.sha256(np.ascontiguousarray(self.background, "<f4").tobytes()).hexdigest()[:16],
        }


def spectrum_panel(freq: Float[AnyArray, " n_freq"], unit: str = "(rms/mean)²/Hz") -> Panel:
    """The panel of a power spectrum.

    Args:
        freq: (n_freq,) frequencies [Hz].
        unit: Unit of its powers; "" if they have none.
    """
    return Panel(
        name="power",
        axis_name="freq",
        axis=np.asarray(freq),
        axis_label="Frequency [Hz]",
        value_label=f"Power [{unit}]" if unit else "Power",
    )
