"""From a rate to what a light curve records: Poisson counts, or rates with the errors a file states."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import nnls

from eagleray.records import AnyArray, Key
from eagleray.simulators.observe.poisson import poisson


def poisson_counts(
    key: Key,
    rate: Float[Array, " n_bins"],
    exposure: Float[Array, " n_bins"],
    background: Float[Array, " n_bins"],
    dt: float,
) -> Float[Array, " n_bins"]:
    """Counts per bin of a detector that sees every photon.

    Args:
        key: Typed PRNG key; consumed.
        rate: (n_bins,) source count rate [counts/s].
        exposure: (n_bins,) fraction of each bin watched; bins with zero record nothing.
        background: (n_bins,) expected background counts in each bin.
        dt: Bin width [s].

    Returns:
        (n_bins,) counts per bin, source and background together.
    """
    expected = rate * exposure * dt + background
    return jnp.where(exposure > 0, poisson(key, expected), 0.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class RateErrors:
    """How the stated error of a rate depends on the rate: variance_i = scale_i * (floor + slope * rate_i).

    Attributes:
        floor: Variance at zero rate [counts^2/s^2].
        slope: Growth of the variance with the rate [counts/s]; 1 / (dt * exposure) for pure Poisson noise.
        scale: (n_bins,) what is left of the stated variance, near one; zero in gaps.
    """

    floor: Float[AnyArray, ""]
    slope: Float[AnyArray, ""]
    scale: Float[AnyArray, " n_bins"]

    def variance_per_rate(self, rate: float) -> float:
        """Variance over rate of a typical bin at some rate [counts/s] (host), the same for files with like errors."""
        scale = np.asarray(self.scale)
        return float(np.median(scale[scale > 0])) * (float(self.floor) / rate + float(self.slope))


def fit_rate_errors(
    rate: Float[AnyArray, " n_bins"], error: Float[AnyArray, " n_bins"], exposure: Float[AnyArray, " n_bins"]
) -> RateErrors:
    """Learn from a file how its errors follow its rates, so that simulations get the errors they would have had.

    Copying the observed errors would be wrong: a simulated bin twice as bright has twice the Poisson variance. The two
    coefficients are non-negative and minimise the relative residuals of the variances.

    Args:
        rate: (n_bins,) observed rates [counts/s].
        error: (n_bins,) their stated standard deviations [counts/s], positive where exposed.
        exposure: (n_bins,) zero in gaps.
    """
    rate, error, exposure = (np.asarray(a, np.float64) for a in (rate, error, exposure))
    watched = exposure > 0
    variance = error[watched] ** 2
    design = np.stack([np.ones(variance.size), np.maximum(rate[watched], 0.0)], axis=1) / variance[:, None]
    (floor, slope), _ = nnls(design, np.ones(variance.size))
    scale = np.zeros(rate.shape)
    scale[watched] = 1.0 / (design @ np.array([floor, slope]))
    return RateErrors(
        floor=np.asarray(floor, np.float32), slope=np.asarray(slope, np.float32), scale=scale.astype(np.float32)
    )


def noisy_rates(
    key: Key, rate: Float[Array, " n_bins"], errors: RateErrors, exposure: Float[Array, " n_bins"]
) -> Float[Array, " n_bins"]:
    """Measured rates with Gaussian noise of the size the file's errors would have.

    Args:
        key: Typed PRNG key; consumed.
        rate: (n_bins,) true count rate [counts/s].
        errors: How the errors follow the rate.
        exposure: (n_bins,) zero in gaps.

    Returns:
        (n_bins,) measured rates [counts/s], zero in gaps; they can be negative, as background-subtracted rates are.
    """
    sigma = jnp.sqrt(errors.scale * (errors.floor + errors.slope * rate))
    return jnp.where(exposure > 0, rate + sigma * jax.random.normal(key, rate.shape, rate.dtype), 0.0)
