"""Power spectra of binned light curves, in Stingray's conventions."""

from typing import get_args

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from eagleray.records import Norm


def positive_frequencies(n_bins: int, dt: float) -> Float64[np.ndarray, " n_freq"]:
    """Frequencies of a periodogram of n bins [Hz]: positive, and without Nyquist, as in Stingray."""
    return np.fft.rfftfreq(n_bins, dt)[1 : (n_bins + 1) // 2]


def power_spectrum(
    values: Float[Array, " n_bins"],
    dt: float,
    *,
    norm: Norm = "frac",
    exposure: Float[Array, " n_bins"] | None = None,
    background: Float[Array, " n_bins"] | None = None,
) -> Float[Array, " n_freq"]:
    """Periodogram of one light curve, gaps allowed.

    What is transformed is the residual counts - background - mean * exposure, so that a gap adds nothing and a bin
    watched for half its length counts half. Without gaps and background this is Stingray's `Powerspectrum`.

    Args:
        values: (n_bins,) counts per bin (for rates, rate * dt).
        dt: Bin width [s].
        norm: "leahy" (2 |F|^2 / counts), "frac" (fractional rms: (rms/mean)^2/Hz), "abs" ((counts/bin)^2/Hz), or
            "none" (|F|^2).
        exposure: (n_bins,) fraction of each bin watched; default all ones.
        background: (n_bins,) expected background counts; default zero.

    Returns:
        (n_freq,) powers at `positive_frequencies(n_bins, dt)`. Not finite where the mean source counts are zero
        ("leahy", "frac").

    Raises:
        ValueError: If `norm` is none of the four.

    References:
        Leahy et al. (1983), ApJ 266, 160; Belloni & Hasinger (1990), A&A 230, 103; Vaughan et al. (2003), MNRAS 345,
        1271, appendix A.
    """
    if norm not in get_args(Norm):
        raise ValueError(f"norm must be one of {get_args(Norm)}, got {norm!r}")
    n_bins = values.shape[-1]
    exposure = jnp.ones_like(values) if exposure is None else exposure
    source = values if background is None else values - background
    mean = source.sum() / exposure.sum()
    transform = jnp.fft.rfft(source - mean * exposure)[1 : (n_bins + 1) // 2]
    squared = transform.real**2 + transform.imag**2
    # A fluctuation of the rate reaches the residual multiplied by the exposure.
    effective_bins = (exposure**2).sum()
    if norm == "leahy":
        return 2.0 * squared / values.sum()
    if norm == "frac":
        return 2.0 * dt * squared / (mean**2 * effective_bins)
    if norm == "abs":
        return 2.0 * squared / (effective_bins * dt)
    return squared
