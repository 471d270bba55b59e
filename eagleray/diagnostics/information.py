"""What a summary lost: how much wider posteriors are, given the summary, than given all the data."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import special
from scipy.spatial import KDTree

from eagleray.diagnostics.inputs import finite, same
from eagleray.records import AnyArray

FEWEST_OBSERVATIONS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class InformationLost:
    """Information about the parameters that a summary of the data lost [nats].

    Attributes:
        gaussian: Mean over observations of half the ln of the ratio of the determinants of both covariances, that of
            the posterior given the summary above.
        gaussian_error: Its standard error over observations.
        entropy: Mean over observations of the difference of both entropies, from distances to nearest neighbours: the
            same for Gaussian posteriors, right for others too, and noisier.
        entropy_error: Its standard error over observations.
        each: (n, 2) both, for each observation.
        n: Observations.
        n_theta: Number of parameters.
    """

    gaussian: float
    gaussian_error: float
    entropy: float
    entropy_error: float
    each: NDArray[np.float64]
    n: int
    n_theta: int


def information_lost(
    summary: Float[AnyArray, "n m d"], reference: Float[AnyArray, "n k d"], *, n_neighbours: int = 3
) -> InformationLost:
    """Compare posteriors given a summary with posteriors given all the data, over many observations.

    For right posteriors and observations drawn from the prior's predictive distribution, the difference of entropies
    is the loss of mutual information between parameters and data, which is never negative. A negative one says that a
    posterior is too narrow, or the reference too wide. Shifts are not seen: entropies know no truth.

    Args:
        summary: (n, m, d) draws of the posterior given the summary, independent, for each observation.
        reference: (n, k, d) draws of the posterior given all its data. Parameters are best on the real line.
        n_neighbours: Which neighbour the entropy takes: more lowers its noise and raises its bias.

    Returns:
        Loss by covariances and by entropies, with errors.

    Raises:
        ValueError: If shapes do not match, a number is not finite, there are fewer than two observations or too few
            draws for the parameters, or draws repeat themselves.

    References:
        Kozachenko & Leonenko (1987), Probl. Inf. Transm. 23, 95; Kraskov, Stögbauer & Grassberger (2004), PRE 69,
        066138, equation 20 (entropy). Half the ln of a Wishart determinant is freed of its bias (Anderson 2003, 7.5).
    """
    first = finite("summary", summary, "(n, m, d)", n_axes=3, fewest=FEWEST_OBSERVATIONS)
    second = finite("reference", reference, "(n, k, d)", n_axes=3)
    same("reference", len(second), len(first), "a posterior for each of the summary's")
    d = first.shape[2]
    same("reference", second.shape[2], d, "the summary's number of parameters")
    if n_neighbours < 1:
        raise ValueError(f"n_neighbours must be at least 1, got {n_neighbours}")
    fewest = max(d, n_neighbours) + 2
    for name, draws in {"summary": first, "reference": second}.items():
        if draws.shape[1] < fewest:
            raise ValueError(f"{name} must have at least {fewest} draws of each posterior, got {draws.shape[1]}")
    each = np.array([_lost(*pair, n_neighbours) for pair in zip(first, second, strict=True)])
    mean, error = each.mean(axis=0), each.std(axis=0, ddof=1) / math.sqrt(len(each))
    return InformationLost(
        gaussian=float(mean[0]),
        gaussian_error=float(error[0]),
        entropy=float(mean[1]),
        entropy_error=float(error[1]),
        each=each,
        n=len(each),
        n_theta=d,
    )


def _lost(summary: NDArray[np.float64], reference: NDArray[np.float64], n_neighbours: int) -> tuple[float, float]:
    """Loss at one observation by covariances and by entropies."""
    covariance = np.atleast_2d(np.cov(reference, rowvar=False))
    if not np.linalg.eigvalsh(covariance)[0] > 0:
        raise ValueError("reference must vary in every direction, got draws that do not; leave out fixed parameters")
    # In units in which the reference is round, neighbours are near in all directions; the units cancel.
    rounding = np.linalg.inv(np.linalg.cholesky(covariance)).T
    first, second = summary @ rounding, reference @ rounding
    gaussian = _half_log_det(first) - _half_log_det(second)
    return gaussian, _entropy("summary", first, n_neighbours) - _entropy("reference", second, n_neighbours)


def _half_log_det(draws: NDArray[np.float64]) -> float:
    """Half the ln of the determinant of a covariance, without bias for Gaussian draws."""
    n, d = draws.shape
    sign, log_det = np.linalg.slogdet(np.atleast_2d(np.cov(draws, rowvar=False)))
    if not sign > 0:
        raise ValueError("summary must vary in every direction, got draws that do not; leave out fixed parameters")
    bias = special.digamma((n - np.arange(1, d + 1)) / 2).sum() - d * math.log((n - 1) / 2)
    return 0.5 * float(log_det - bias)


def _entropy(name: str, draws: NDArray[np.float64], n_neighbours: int) -> float:
    """Differential entropy [nats], from each draw's distance to its neighbour."""
    n, d = draws.shape
    distance = KDTree(draws).query(draws, n_neighbours + 1)[0][:, -1]
    if not distance.all():
        raise ValueError(f"{name} must not repeat draws, got {int((distance == 0).sum())} that do; thin the chains")
    log_ball = 0.5 * d * math.log(math.pi) - special.gammaln(0.5 * d + 1)
    return float(special.digamma(n) - special.digamma(n_neighbours) + log_ball + d * np.log(distance).mean())
