"""How well a posterior recovers known parameters: errors in its own standard deviations, and how far data narrow it."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, NDArray

from eagleray.diagnostics.inputs import finite, generator, p_value_error, same
from eagleray.records import Key

FEWEST_SIMULATIONS, FEWEST_DRAWS = 20, 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recovery:
    """Posterior z-scores and contractions over simulations; each array has one entry for each parameter.

    Attributes:
        names: Parameter names.
        z: (n, n_theta) posterior mean less truth, in posterior standard deviations.
        z_mean: Mean of the z-scores; 0 for a right posterior, positive where it lies too high.
        z_mean_error: Its standard error.
        z_sd: Root mean square of the z-scores about their mean; 1 for a right posterior, more where it is too narrow.
        z_sd_error: Its standard error.
        contraction: (n, n_theta) one less the ratio of posterior to prior variance; 0 where data taught nothing, 1
            where they taught everything.
        contraction_mean: Mean of it.
        contraction_error: Standard error of the mean, that of the prior's variance included.
        p_value: Part of the trials in which mean and mean square of some parameter's z-scores are as unusual,
            (k + 1) / (n_trials + 1), where a draw of each posterior is taken for the truth.
        p_value_error: Its standard error, from the finite number of trials.
        n_trials: Trials.
    """

    names: tuple[str, ...]
    z: NDArray[np.float64]
    z_mean: NDArray[np.float64]
    z_mean_error: NDArray[np.float64]
    z_sd: NDArray[np.float64]
    z_sd_error: NDArray[np.float64]
    contraction: NDArray[np.float64]
    contraction_mean: NDArray[np.float64]
    contraction_error: NDArray[np.float64]
    p_value: float
    p_value_error: float
    n_trials: int


def recovery(
    key: Key,
    truth: Mapping[str, Float[np.ndarray, " n"]],
    draws: Mapping[str, Float[np.ndarray, "n n_draws"]],
    *,
    prior_variance: Mapping[str, float] | None = None,
    n_trials: int = 999,
) -> Recovery:
    """Posterior z-scores and contractions over simulations from the prior.

    Whatever its shape, a right posterior has z-scores of mean 0 and mean square 1, averaged over the prior. What the
    finite number of draws adds to them is divided out as for a Gaussian posterior. The contraction knows no truth: it
    is larger for narrow posteriors, right or wrong, and blind to shifts. With draws of heavy tails both mean little.

    False-alarm rate: `p_value` is below any a with a probability of at most a for a right posterior, exactly, whatever
    its shape and the number of draws: the truth is then one more draw, and is exchanged with others at random.

    Args:
        key: Typed PRNG key; consumed by the trials.
        truth: Parameter name -> (n,) true values, drawn from the prior.
        draws: Parameter name -> (n, n_draws) posterior draws for the data simulated with each truth.
        prior_variance: Variance of each prior; None for that of the truths.
        n_trials: Exchanges of truth and draws; 999 can show a p-value of 0.001.

    Returns:
        z-scores, contractions and the p-value, parameters in the order of `truth`.

    Raises:
        ValueError: If there are fewer than 20 simulations or 10 draws, shapes do not match, a number is not finite, the
            draws of a posterior are all the same, or `n_trials` < 1.

    References:
        Betancourt (2018), arXiv:1803.08393; Schad, Betancourt & Vasishth (2021), Psychol. Methods 26, 103.
    """
    names = tuple(truth)
    if n_trials < 1:
        raise ValueError(f"n_trials must be at least 1, got {n_trials}")
    true_values, drawn = _stacked(names, truth, draws)
    n, n_draws = drawn.shape[:2]
    variance = drawn.var(axis=1, ddof=1)
    if not (variance > 0).all():
        raise ValueError(f"draws must vary, got {int((variance == 0).any(axis=1).sum())} of {n} posteriors that do not")
    # What a finite number of draws adds to the mean square: error of their mean, Student's distribution.
    extra = (1 + 1 / n_draws) * (n_draws - 1) / (n_draws - 3)
    z = (drawn.mean(axis=1) - true_values) / np.sqrt(extra * variance)
    z_sd = z.std(axis=0, ddof=1)
    fourth = ((z - z.mean(axis=0)) ** 4).mean(axis=0)
    prior, prior_terms = _prior_variance(names, true_values, prior_variance)
    # Errors of a ratio of means: those of its terms, to first order.
    ratio_terms = (variance - variance.mean(axis=0) / prior * prior_terms) / prior
    contraction = 1 - variance / prior
    p_value = _p_value(generator(key), true_values, drawn, n_trials)
    return Recovery(
        names=names,
        z=z,
        z_mean=z.mean(axis=0),
        z_mean_error=z_sd / np.sqrt(n),
        z_sd=z_sd,
        z_sd_error=np.sqrt(np.maximum(fourth - z_sd**4, 0) / n) / (2 * z_sd),
        contraction=contraction,
        contraction_mean=contraction.mean(axis=0),
        contraction_error=ratio_terms.std(axis=0, ddof=1) / np.sqrt(n),
        p_value=p_value,
        p_value_error=p_value_error(p_value, n_trials),
        n_trials=n_trials,
    )


def _stacked(
    names: tuple[str, ...], truth: Mapping[str, ArrayLike], draws: Mapping[str, ArrayLike]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Checked truths (n, n_theta) and draws (n, n_draws, n_theta)."""
    if not names or set(draws) != set(names):
        raise ValueError(f"draws must have the parameters of truth, {list(names)}, got {list(draws)}")
    columns = [finite(f"truth[{name!r}]", truth[name], "(n,)", n_axes=1, fewest=FEWEST_SIMULATIONS) for name in names]
    n, drawn = len(columns[0]), []
    for name, column in zip(names, columns, strict=True):
        same(f"truth[{name!r}]", len(column), n, "as many simulations as the first parameter")
        values = finite(f"draws[{name!r}]", draws[name], "(n, n_draws)", n_axes=2)
        n_draws = drawn[0].shape[1] if drawn else max(FEWEST_DRAWS, values.shape[1])
        if values.shape != (n, n_draws):
            raise ValueError(f"draws[{name!r}] must be of shape ({n}, {n_draws}), got {values.shape}")
        drawn.append(values)
    return np.stack(columns, axis=1), np.stack(drawn, axis=2)


def _prior_variance(
    names: tuple[str, ...], truth: NDArray[np.float64], given: Mapping[str, float] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Variance of each prior, and the terms (n, n_theta) whose mean it is."""
    if given is None:
        return truth.var(axis=0, ddof=1), (truth - truth.mean(axis=0)) ** 2
    prior = np.array([float(given[name]) for name in names])
    if not (prior > 0).all():
        raise ValueError(f"prior_variance must be positive, got {dict(given)}")
    return prior, np.broadcast_to(prior, truth.shape)


def _p_value(rng: np.random.Generator, truth: NDArray[np.float64], draws: NDArray[np.float64], n_trials: int) -> float:
    """How unusual mean and mean square of the z-scores are among trials that take other draws for the truth."""
    everything = np.concatenate([truth[:, None], draws], axis=1)
    everything -= everything.mean(axis=1, keepdims=True)
    which = rng.integers(0, everything.shape[1], (n_trials + 1, len(truth)))
    which[0] = 0
    squares = (everything**2).sum(axis=1)
    moments = np.stack([_moments(everything, squares, columns) for columns in which])
    centred = moments - moments.mean(axis=0)
    # Squared distances (n_trials + 1, n_theta), each parameter's in the scatter of its own two moments.
    scatter = np.linalg.pinv(np.einsum("tip,tjp->pij", centred, centred) / n_trials)
    most = np.einsum("tip,pij,tjp->tp", centred, scatter, centred).max(axis=1)
    return (int((most[1:] >= most[0]).sum()) + 1) / (n_trials + 1)


def _moments(
    everything: NDArray[np.float64], squares: NDArray[np.float64], which: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Mean and mean square (2, n_theta) of z-scores, up to a factor, with one of each row of draws as the truth.

    Rows add up to zero; `squares` are their sums of squares.
    """
    n_draws = everything.shape[1] - 1
    truth = everything[np.arange(len(which)), which]
    mean = -truth / n_draws
    rest = squares - truth**2 - n_draws * mean**2
    z = (mean - truth) / np.sqrt(np.maximum(rest, np.finfo(float).tiny))
    return np.stack([z.mean(axis=0), (z**2).mean(axis=0)])
