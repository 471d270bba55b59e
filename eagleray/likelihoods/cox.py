"""Cox process: events or counts whose rate is itself random, the exponential of a Gaussian process.

The rate is a latent vector z of standard normal numbers made into a light curve: each Fourier amplitude of ln rate is
two entries of z times the root of the spectrum (whitened coefficients, so that z and the parameters hardly depend on
each other a priori). Given z the data are Poisson, or a live-time likelihood behind dead time, and the joint density of
parameters and z is exact: sampling both and forgetting z gives the posterior of the parameters given the events
themselves, which no summary can sharpen.

Conventions are those of `eagleray.simulators.lognormal`. The spectrum asked for is that of ln rate. Where the spectrum
of the rate is to be prescribed instead, put `simulators.lognormal.log_spectrum` behind it:

    spectrum = lambda freq, theta: log_spectrum(shape(freq, theta), grid.n_bins, grid.dt)
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from eagleray.likelihoods.live_time import LiveBins, binned_log_likelihood
from eagleray.records import AnyArray, Theta, TimeGrid

SpectrumFn = Callable[[Float[Array, " n_freq"], Theta], Float[Array, " n_freq"]]
"""Frequencies [Hz] and parameters -> power at each [1/Hz]."""


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class LogNormalRate:
    """A random rate: ln rate is a periodic Gaussian process, made from a vector of standard normal numbers.

    Attributes:
        spectrum: One-sided spectrum of ln rate [1/Hz] at all Fourier frequencies of the grid, (n_bins // 2,), whose
            integral is the variance.
        grid: Time bins; the rate is constant in each.
        mean: Name of the parameter that is the mean rate [counts/s]: the expectation of the process, exp(variance / 2)
            taken off.
        n_freq: Lowest frequencies that vary; power above them is left out, of the mean too. All by default.

    Raises:
        ValueError: If the grid has not so many frequencies.

    References:
        Timmer & Koenig (1995), A&A 300, 707; Uttley, McHardy & Vaughan (2005), MNRAS 359, 345.
    """

    spectrum: SpectrumFn
    grid: TimeGrid
    mean: str = "rate"
    n_freq: int | None = None

    def __post_init__(self) -> None:
        """Refuse frequencies that the grid does not have."""
        available = self.grid.n_bins // 2
        if self.n_freq is not None and not 1 <= self.n_freq <= available:
            raise ValueError(f"n_freq must be between 1 and {available}, got {self.n_freq!r}")

    @property
    def n_varying(self) -> int:
        """Number of frequencies that vary."""
        return self.grid.n_bins // 2 if self.n_freq is None else self.n_freq

    @property
    def freq(self) -> Float64[np.ndarray, " n_freq"]:
        """All Fourier frequencies of the grid, at which the spectrum is asked for [Hz], (n_bins // 2,)."""
        return np.fft.rfftfreq(self.grid.n_bins, self.grid.dt)[1:]

    @property
    def has_nyquist(self) -> bool:
        """Whether the last of them is the Nyquist frequency, whose amplitude is real."""
        return 2 * self.n_varying == self.grid.n_bins

    @property
    def n_latent(self) -> int:
        """Length of z: real and imaginary part of each amplitude."""
        return 2 * self.n_varying - (1 if self.has_nyquist else 0)

    def log_rate(self, theta: Theta, z: Float[Array, " n_latent"]) -> Float[Array, " n_bins"]:
        """Ln of the rate in each bin.

        Args:
            theta: Parameters of the spectrum, and the mean rate [counts/s].
            z: (n_latent,) standard normal a priori: the real parts of the amplitudes by ascending frequency, then the
                imaginary parts.

        Returns:
            (n_bins,) ln rate [ln counts/s].

        Raises:
            ValueError: If z or the spectrum has another shape.
        """
        n_bins, dt, n_varying = self.grid.n_bins, self.grid.dt, self.n_varying
        if z.shape != (self.n_latent,):
            raise ValueError(f"z must have shape ({self.n_latent},), got {z.shape}")
        freq = jnp.asarray(self.freq, z.dtype)
        power = self.spectrum(freq, theta)
        if power.shape != freq.shape:
            raise ValueError(f"spectrum must return shape {freq.shape}, got {power.shape}")
        power = power[:n_varying]
        # The Nyquist frequency has a real amplitude, and stands for half as much of the spectrum as its neighbours.
        part = np.ones(n_varying)
        part[-1] = 0.5 if self.has_nyquist else 1.0
        amplitude = _root(power) * jnp.asarray(np.sqrt(n_bins / (4.0 * dt) / part), z.dtype)
        real, imaginary = z[:n_varying], jnp.pad(z[n_varying:], (0, int(self.has_nyquist)))
        padding = (1, n_bins // 2 - n_varying)
        fourier = jax.lax.complex(jnp.pad(amplitude * real, padding), jnp.pad(amplitude * imaginary, padding))
        variance = (power * jnp.asarray(part / (n_bins * dt), z.dtype)).sum()
        return jnp.log(theta[self.mean]) - 0.5 * variance + jnp.fft.irfft(fourier, n_bins)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class CoxProcess:
    """Events or counts with a random rate: the joint density of data and latent vector, given the parameters.

    Attributes:
        rate: The random rate.
        bins: Counts and live time in its bins. For events, `live_time.live_bins`, through dead time or not; for a light
            curve of counts, the counts, and exposure times bin width.
        background: (n_bins,) or scalar known rate that is added to the random one [counts/s]; None for none.

    Raises:
        ValueError: If the bins are not those of the rate.
    """

    rate: LogNormalRate
    bins: LiveBins
    background: Float[AnyArray, " n_bins"] | float | None = None

    def __post_init__(self) -> None:
        """Refuse data of other bins."""
        shapes = {np.shape(self.bins.counts), np.shape(self.bins.live)}
        if shapes != {(self.rate.grid.n_bins,)}:
            raise ValueError(f"bins must have shape ({self.rate.grid.n_bins},) as the rate has, got {sorted(shapes)}")

    @property
    def n_latent(self) -> int:
        """Length of z."""
        return self.rate.n_latent

    def log_rate(self, theta: Theta, z: Float[Array, " n_latent"]) -> Float[Array, " n_bins"]:
        """Ln of the random rate in each bin, without background [ln counts/s]: see `LogNormalRate.log_rate`."""
        return self.rate.log_rate(theta, z)

    def log_likelihood(self, theta: Theta, z: Float[Array, " n_latent"]) -> Float[Array, ""]:
        """Ln density of the events given parameters and z.

        For counts it lacks a constant, sum(counts ln(live) - ln(counts!)), that depends on the data alone.
        """
        log_rate = self.log_rate(theta, z)
        if self.background is not None:
            log_rate = jnp.log(jnp.exp(log_rate) + jnp.asarray(self.background, log_rate.dtype))
        return binned_log_likelihood(self.bins, log_rate)

    def log_latent(self, z: Float[Array, " n_latent"]) -> Float[Array, ""]:
        """Ln density of z a priori: standard normal."""
        return -0.5 * (jnp.vdot(z, z) + self.n_latent * math.log(2.0 * math.pi))

    def log_joint(self, theta: Theta, z: Float[Array, " n_latent"]) -> Float[Array, ""]:
        """Ln density of data and z, given the parameters: add the prior's and sample both (`inference.latent`)."""
        return self.log_likelihood(theta, z) + self.log_latent(z)


def _root(power: Float[Array, " n"]) -> Float[Array, " n"]:
    """Square root whose gradient is zero, and not infinite, where there is no power."""
    some = power > 0
    return jnp.where(some, jnp.sqrt(jnp.where(some, power, 1)), 0)
