"""The records that cross rooms: what was observed, what was computed from it, and what to think of the answer.

Records are frozen. Arrays are leaves; whatever fixes a shape is static and hashable. Times are offsets [s] from a
start kept on the host in float64, because at 1e8 s a float32 step is 8 s. Gaps are zeros of the exposure, never
deleted bins.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, PRNGKeyArray
from numpy.typing import NDArray

ValueKind = Literal["counts", "rate"]
Norm = Literal["leahy", "frac", "abs", "none"]
"""Norm of a power spectrum, as in Stingray: noise level 2; (rms/mean)^2/Hz; (counts/s)^2/Hz; |F|^2."""

Key = PRNGKeyArray
AnyArray: TypeAlias = Array | np.ndarray
"""An array of JAX or of NumPy: `Float[AnyArray, " n_bins"]`."""
Theta = Mapping[str, Float[Array, ""]]
"""Named scalar parameters of a source."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeGrid:
    """Uniform time bins (static: one compilation for each distinct grid).

    Attributes:
        n_bins: Number of bins.
        dt: Bin width [s].
    """

    n_bins: int
    dt: float

    def __post_init__(self) -> None:
        """Refuse grids on which nothing can be computed."""
        if not self.dt > 0:  # written so that NaN fails too
            raise ValueError(f"dt must be positive (seconds), got {self.dt!r}")
        if self.n_bins < 1:
            raise ValueError(f"n_bins must be at least 1, got {self.n_bins!r}")

    @property
    def duration(self) -> float:
        """Length of the window [s]."""
        return self.n_bins * self.dt

    @property
    def nyquist(self) -> float:
        """Highest frequency of the grid [Hz]."""
        return 0.5 / self.dt

    @property
    def times(self) -> NDArray[np.float64]:
        """Bin centres [s], as offsets from the start of the window."""
        return (np.arange(self.n_bins, dtype=np.float64) + 0.5) * self.dt


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LightCurve:
    """An observed light curve on a uniform grid, with how the source was watched.

    Attributes:
        values: (n_bins,) counts per bin (`kind="counts"`, background included), or count rate [counts/s]
            (`kind="rate"`). Zero where the exposure is zero.
        exposure: (n_bins,) fraction of each bin in which the source was watched, 0 (a gap) to 1. For rates, which are
            already corrected for exposure, 0 or 1.
        background: (n_bins,) expected background counts in each bin; zero for rates.
        error: (n_bins,) standard deviation of each value, for `kind="rate"`; None for counts, which are Poisson.
        grid: Time bins (static).
        kind: What the values are (static).
        start: Time of the left edge of the first bin [s], in the file's own time system (static).
        source: Where the data came from, for people to read (static).
        notes: What was done to the data while reading, for people to read (static).
    """

    values: Float[AnyArray, " n_bins"]
    exposure: Float[AnyArray, " n_bins"]
    background: Float[AnyArray, " n_bins"]
    error: Float[AnyArray, " n_bins"] | None
    grid: TimeGrid = dataclasses.field(metadata={"static": True})
    kind: ValueKind = dataclasses.field(default="counts", metadata={"static": True})
    start: float = dataclasses.field(default=0.0, metadata={"static": True})
    source: str = dataclasses.field(default="", metadata={"static": True})
    notes: tuple[str, ...] = dataclasses.field(default=(), metadata={"static": True})

    @property
    def mean_rate(self) -> float:
        """Exposure-weighted mean count rate of the source, background taken off [counts/s]."""
        values = np.asarray(self.values, np.float64)
        exposed = np.asarray(self.exposure, np.float64).sum()
        if self.kind == "rate":
            return float((values * np.asarray(self.exposure)).sum() / exposed)
        return float((values - np.asarray(self.background)).sum() / (exposed * self.grid.dt))

    @property
    def n_exposed(self) -> int:
        """Number of bins in which the source was watched at all."""
        return int((np.asarray(self.exposure) > 0).sum())


class Estimate(NamedTuple):
    """A measured quantity and its standard error, of one shape and unit; NaN where it cannot be had."""

    value: Float[AnyArray, "*shape"]
    error: Float[AnyArray, "*shape"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class PowerSpectrum:
    """An observed power spectrum: averages of periodogram powers.

    Attributes:
        freq: (n_freq,) frequencies, ascending and positive [Hz].
        power: (n_freq,) powers in the units of `norm`.
        m: (n_freq,) periodogram powers averaged in each: segments times neighbouring frequencies.
        n_photons: Mean number of counts in a segment.
        norm: Norm of the powers (static).
        dt: Bin width of the light curve behind it [s] (static).
        error: (n_freq,) standard error of each power; None where it is power / sqrt(m).
        width: (n_freq,) width in frequency of what was averaged in each [Hz]; None if not known.
        noise: Power expected of the measurement alone (Poisson counts, or the errors of the values); None if not known.
    """

    freq: Float[AnyArray, " n_freq"]
    power: Float[AnyArray, " n_freq"]
    m: Float[AnyArray, " n_freq"]
    n_photons: Float[AnyArray, ""]
    norm: Norm = dataclasses.field(metadata={"static": True})
    dt: float = dataclasses.field(metadata={"static": True})
    error: Float[AnyArray, " n_freq"] | None = None
    width: Float[AnyArray, " n_freq"] | None = None
    noise: Float[AnyArray, ""] | None = None

    @property
    def power_error(self) -> Float[AnyArray, " n_freq"]:
        """Standard error of each power, shape (n_freq,)."""
        return self.power / self.m**0.5 if self.error is None else self.error


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossSpectrum:
    """An observed cross spectrum of two channels, conj(F_1) F_2 averaged, and their power spectra.

    The phase is positive where channel 1 lags channel 2.

    Attributes:
        freq: (n_freq,) frequencies, ascending and positive [Hz].
        power: (n_freq,) complex cross powers in the units of `norm`.
        power_1: (n_freq,) powers of channel 1.
        power_2: (n_freq,) powers of channel 2.
        noise_1: Power of channel 1 expected of the measurement alone.
        noise_2: Power of channel 2 expected of the measurement alone.
        error: (n_freq,) standard errors of the real and the imaginary part, as a complex number.
        m: (n_freq,) powers averaged in each: segments times neighbouring frequencies.
        n_photons_1: Mean number of counts of channel 1 in a segment.
        n_photons_2: Mean number of counts of channel 2 in a segment.
        width: (n_freq,) width in frequency of what was averaged in each [Hz].
        norm: Norm of the powers (static).
        dt: Bin width of the light curves behind it [s] (static).
        overlapping: Whether the photons of channel 1 are also in channel 2 (static).
    """

    freq: Float[AnyArray, " n_freq"]
    power: Complex[AnyArray, " n_freq"]
    power_1: Float[AnyArray, " n_freq"]
    power_2: Float[AnyArray, " n_freq"]
    noise_1: Float[AnyArray, ""]
    noise_2: Float[AnyArray, ""]
    error: Complex[AnyArray, " n_freq"]
    m: Float[AnyArray, " n_freq"]
    n_photons_1: Float[AnyArray, ""]
    n_photons_2: Float[AnyArray, ""]
    width: Float[AnyArray, " n_freq"]
    norm: Norm = dataclasses.field(metadata={"static": True})
    dt: float = dataclasses.field(metadata={"static": True})
    overlapping: bool = dataclasses.field(default=False, metadata={"static": True})


@dataclasses.dataclass(frozen=True, kw_only=True)
class EventList:
    """Photon arrival times of one observation (host record, float64).

    Attributes:
        times: (n_events,) sorted arrival times [s], as offsets from `start`.
        gti: (n_gti, 2) good time intervals [s], as offsets from `start`, sorted and disjoint.
        start: Zero of the offsets [s], in the file's own time system.
        source: Where the data came from, for people to read.
        notes: What was done to the data while reading, for people to read.
    """

    times: NDArray[np.float64]
    gti: NDArray[np.float64]
    start: float = 0.0
    source: str = ""
    notes: tuple[str, ...] = ()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Bank:
    """Simulations ready for training: parameters, summaries, and which of them are usable.

    Attributes:
        theta: (n, n_theta) parameters in the prior's unconstrained space.
        x: (n, n_views, n_features) summaries of light curves simulated with each set of parameters; or `Features`, or
            an array with more axes, with the leading axes (n, n_views) on every leaf.
        valid: (n, n_views) whether each summary is finite. Leaving a pair out because of its x, and of nothing else,
            leaves p(theta | x) unchanged; a likelihood p(x | theta) also needs to know which were left out.
    """

    theta: Float[AnyArray, "n n_theta"]
    x: Any
    valid: Bool[AnyArray, "n n_views"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Features:
    """What a network is shown of one observation. What stands where the mask is False does not count, NaN included.

    Attributes:
        values: (n_features,) numbers, or (n_points, n_channels) of a sequence, or (n_items, ...) of a set of either.
        mask: (n_features,), (n_points,) or (n_items,), True where there are data; (n_items, n_points) for a set of
            sequences with gaps; None where there are data everywhere.
        time: (n_points,) ascending times [s], as offsets; None for even steps.
        settings: (n_settings,) how it was observed: bin width, exposure, segments averaged, rate, dead time; None if it
            was always observed in one way.
    """

    values: Float[AnyArray, " n_features"] | Float[AnyArray, "n_points n_channels"]
    mask: Bool[AnyArray, " n_points"] | None = None
    time: Float[AnyArray, " n_points"] | None = None
    settings: Float[AnyArray, " n_settings"] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingHistory:
    """How a training went.

    Attributes:
        train_loss: Mean loss over the steps of each epoch [nats per simulation].
        validation_loss: Loss of the validation data after each epoch.
        best_epoch: The epoch whose weights were kept, counted from 0.
        seconds: Time it took in all [s].
        batch_size: Simulations in each gradient step; None where it was not recorded.
    """

    train_loss: tuple[float, ...]
    validation_loss: tuple[float, ...]
    best_epoch: int
    seconds: float
    batch_size: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Calibration:
    """How often a posterior's intervals hold the truth, on fresh simulations.

    Attributes:
        names: Parameter names.
        ranks: (n_simulations, n_theta) number of posterior draws below the true value, 0 to `n_draws`.
        n_draws: Posterior draws behind each rank.
        levels: (n_levels,) nominal probabilities of the central intervals.
        coverage: (n_levels, n_theta) fraction of simulations whose truth lies in the interval.
        error: Mean of |coverage - nominal| over levels and parameters.
        error_floor: What `error` would be on average for a perfect posterior, from the binomial noise of n_simulations.
        p_values: (n_theta,) chi-squared test of the ranks' uniformity.
    """

    names: tuple[str, ...]
    ranks: NDArray[np.int64]
    n_draws: int
    levels: NDArray[np.float64]
    coverage: NDArray[np.float64]
    error: float
    error_floor: float
    p_values: NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Typicality:
    """How typical one summary is among simulated ones.

    Attributes:
        distance: Mahalanobis distance of the summary from the simulated ones.
        p_value: Fraction of simulated summaries at least as far out, (k + 1) / (n + 1).
        n_reference: Simulated summaries behind the p-value.
        outside: Features, counted from 0, that lie well outside all simulated ones.
    """

    distance: float
    p_value: float
    n_reference: int
    outside: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReferenceSummaries:
    """What simulated summaries look like, for telling whether an observed one is typical.

    Attributes:
        mean: (n_features,) their mean.
        whitening: (n_features, n_features) matrix that makes them uncorrelated with unit variance.
        distances: (n_reference,) ascending Mahalanobis distances of summaries that did not make mean and whitening.
        low: (n_features,) smallest value of each feature.
        high: (n_features,) largest value of each feature.
    """

    mean: NDArray[np.floating]
    whitening: NDArray[np.floating]
    distances: NDArray[np.floating]
    low: NDArray[np.floating]
    high: NDArray[np.floating]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimum:
    """The best of several maximisations of a posterior density or a likelihood.

    Attributes:
        theta: All parameters by name, fixed and tied ones included, in physical units.
        position: (n_free,) the same in the prior's unconstrained space.
        log_likelihood: Ln likelihood there.
        log_posterior: Ln likelihood plus ln prior density there, on the prior's natural coordinates.
        covariance: (n_free, n_free) of the free parameters in physical units, from the curvature (delta method). NaN
            for a parameter at an end of its support; the others' then holds with that one where it is.
        position_covariance: (n_free, n_free) of the position.
        standard_error: Standard error of each parameter that is not fixed, in physical units; NaN where the curvature
            gives none.
        n_free: Number of free parameters.
        aic: 2 n_free - 2 ln L.
        bic: n_free ln n_data - 2 ln L; NaN where the number of data was not given.
        n_starts: Maximisations.
        n_agreeing: Those that reached the best value to within 0.1.
        converged: Whether the best one settled.
        positive_definite: Whether the curvature there is that of a maximum in every direction.
        gradient_norm: Norm of the gradient there, in the unconstrained space.
        at_bound: Parameters that sit at an end of their support.
        names: Free parameters, in the order of a position.
        deviance: 2 (ln L of the model that fits every datum - ln L); NaN where the former was not given.
        shortfall: How far below the top of a parabola with its gradient and curvature the maximum is; NaN where the
            curvature is not that of a maximum.
        start_values: (n_starts,) what was maximised, where each start ended; -inf where it could not begin.
        start_converged: (n_starts,) whether each start settled.
        n_evaluations: Evaluations of the density and its gradient, all starts together.
    """

    theta: Mapping[str, float]
    position: NDArray[np.floating]
    log_likelihood: float
    log_posterior: float
    covariance: NDArray[np.floating]
    position_covariance: NDArray[np.floating]
    standard_error: Mapping[str, float]
    n_free: int
    aic: float
    bic: float
    n_starts: int
    n_agreeing: int
    converged: bool
    positive_definite: bool
    gradient_norm: float
    at_bound: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    deviance: float = float("nan")
    shortfall: float = float("nan")
    start_values: NDArray[np.floating] | None = None
    start_converged: NDArray[np.bool_] | None = None
    n_evaluations: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Samples:
    """Draws of several chains from one posterior, and what they doubt about themselves. Chains are counted from 0.

    Attributes:
        draws: All parameters by name, fixed and tied ones included, each (n_chains, n_draws), in physical units.
        positions: (n_chains, n_draws, n_free) the same in the unconstrained space.
        log_density: (n_chains, n_draws) unnormalised ln posterior density of the positions.
        divergent: (n_chains, n_draws) steps whose energy ran away; None where the method knows no energy.
        acceptance: (n_chains, n_draws) acceptance probabilities; None where nothing is accepted or rejected.
        n_steps: (n_chains, n_draws) evaluations of the gradient behind each draw; of the density, for methods that use
            no gradient; None if not counted.
        step_size: (n_chains,) tuned step of each chain; None where the method has none.
        method: Name of the method.
        seconds: Wall time [s] of each stage: `compile` (0 when a compiled program was used again) and `run`.
        rhat: Rank-normalised split R-hat of each free parameter over all chains; inf if a chain is not finite.
        ess_bulk: Effective number of draws of each free parameter in the bulk; 0 if a chain is not finite.
        ess_tail: The same in the tails (5 % and 95 %).
        log_evidence: Ln of the normalisation of likelihood times prior; None where the method gives none.
        log_evidence_error: Its standard error.
        warnings: Doubts in plain words; empty when there are none.
        names: Free parameters, in the order of a position.
        n_warmup_steps: (n_chains,) evaluations, as in `n_steps`, before the first draw.
        n_nan: (n_chains,) times that a chain met a log density that is not a number, at its start or while it sampled.
        finite: (n_chains,) whether all draws of a chain, and their log densities, are finite.
        off: Chains that disagree with all the others.
        approximate: Whether the draws come from an approximation of the posterior.
        pareto_k: (n_chains,) shape of the tail of an approximation's importance weights; it can be trusted below 0.7.
    """

    draws: Mapping[str, NDArray[np.floating]]
    positions: NDArray[np.floating]
    log_density: NDArray[np.floating]
    divergent: NDArray[np.bool_] | None
    acceptance: NDArray[np.floating] | None
    n_steps: NDArray[np.integer] | None
    step_size: NDArray[np.floating] | None
    method: str
    seconds: Mapping[str, float]
    rhat: Mapping[str, float]
    ess_bulk: Mapping[str, float]
    ess_tail: Mapping[str, float]
    log_evidence: float | None = None
    log_evidence_error: float | None = None
    warnings: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    n_warmup_steps: NDArray[np.integer] | None = None
    n_nan: NDArray[np.integer] | None = None
    finite: NDArray[np.bool_] | None = None
    off: tuple[int, ...] = ()
    approximate: bool = False
    pareto_k: NDArray[np.floating] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictiveCheck:
    """One statistic of the observed data among those of data simulated from the posterior.

    Attributes:
        name: The statistic, for people to read.
        observed: Its value, averaged over the posterior where it depends on the parameters.
        p_value: Fraction of simulated data whose statistic is at least as large, (k + 1) / (n + 1).
        n: Simulated data sets behind the p-value.
    """

    name: str
    observed: float
    p_value: float
    n: int


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """What observed and simulated data are compared by, and how it is drawn.

    Attributes:
        name: What is compared, a name for a variable: "power".
        axis_name: What it depends on, a name for a coordinate: "freq".
        axis: (n,) ascending values of that.
        axis_label: Its label, with its unit.
        value_label: Label of what is compared, with its unit.
        log_axis: Whether the axis is logarithmic.
        log_value: Whether the values are drawn on a logarithmic scale.
    """

    name: str
    axis_name: str
    axis: NDArray[np.floating]
    axis_label: str
    value_label: str
    log_axis: bool = True
    log_value: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """A posterior for one observation, and what it doubts about itself.

    Attributes:
        draws: Posterior draws by parameter name, each (n_draws,), in physical units.
        log_prob: (n_draws,) log posterior density of each draw in physical units; of a fit, unnormalised.
        units: Unit of each parameter, for labels.
        prior: Prior of each parameter, as text.
        observation: What was observed.
        panel: What the data are compared with simulations by: log-binned powers, a pulse profile.
        shown_obs: (n_shown,) that of the observation.
        shown_predictive: (n_predictive, n_shown) that of data simulated from posterior draws.
        warnings: Doubts in plain words; empty when there are none.
        provenance: Versions, seed, command, configuration: all that is needed to repeat the result.
    """

    draws: Mapping[str, NDArray[np.floating]]
    log_prob: NDArray[np.floating]
    units: Mapping[str, str]
    prior: Mapping[str, str]
    observation: LightCurve
    panel: Panel
    shown_obs: NDArray[np.floating]
    shown_predictive: NDArray[np.floating]
    warnings: tuple[str, ...]
    provenance: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkResult(Result):
    """The answer of a trained network.

    Attributes:
        x_obs: (n_features,) the summary the network saw.
        feature_names: Name of each entry of the summary.
        predictive_values: (n_predictive, n_bins) light curves simulated from posterior draws, like the observation.
        calibration: Record of the network on fresh simulations.
        typicality: Observed summary among those simulated from the prior.
        predictive_typicality: Observed summary among those simulated from the posterior.
        history: Training curve of the network.
    """

    x_obs: NDArray[np.floating]
    feature_names: tuple[str, ...]
    predictive_values: NDArray[np.floating]
    calibration: Calibration
    typicality: Typicality
    predictive_typicality: Typicality
    history: TrainingHistory


@dataclasses.dataclass(frozen=True, kw_only=True)
class FitResult(Result):
    """The answer of a sampler on an exact likelihood.

    Attributes:
        spectrum: The powers that were fitted; None where it was not a spectrum.
        components: Power of each term of the model at `spectrum.freq`, at the optimum.
        optimum: The best fit; None where parameters and a latent rate were sampled together.
        samples: The chains.
        checks: Statistics of the observed powers among simulated ones.
    """

    spectrum: PowerSpectrum | None
    components: Mapping[str, NDArray[np.floating]]
    optimum: Optimum | None
    samples: Samples
    checks: tuple[PredictiveCheck, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Posteriors of many observations by one trained network.

    Attributes:
        names: (n_obs,) what the observations are called.
        draws: Posterior draws by parameter name, each (n_obs, n_draws), in physical units; NaN where refused.
        units: Unit of each parameter, for labels.
        prior: Prior of each parameter, as text.
        x_obs: (n_obs, n_features) the summaries that the network saw; NaN where refused.
        feature_names: Name of each entry of the summary.
        p_values: (n_obs,) part of the simulated summaries that lie at least as far out; NaN where refused.
        warnings: For each its doubts in plain words; empty where there are none.
        refused: For each why it could not be answered; empty where it was.
        provenance: Versions, seed, command.
    """

    names: tuple[str, ...]
    draws: Mapping[str, NDArray[np.floating]]
    units: Mapping[str, str]
    prior: Mapping[str, str]
    x_obs: NDArray[np.floating]
    feature_names: tuple[str, ...]
    p_values: NDArray[np.floating]
    warnings: tuple[tuple[str, ...], ...]
    refused: tuple[str, ...]
    provenance: Mapping[str, Any]
