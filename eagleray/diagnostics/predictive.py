"""Does the model make data like the observed? Statistics of one's choice among those of replicated data."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from eagleray.diagnostics.inputs import p_value_error
from eagleray.records import PredictiveCheck

FEWEST_REPLICATES = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class StatisticCheck(PredictiveCheck):
    """One statistic of the observed data among those of replicated data; its p-value is two-sided.

    Attributes:
        p_value_error: Standard error of the p-value, from the finite number of replicates.
        mean: Mean of the statistic over replicates.
        sd: Standard deviation of it.
    """

    p_value_error: float
    mean: float
    sd: float


def statistic_checks(
    observed: Any, replicated: Sequence[Any] | np.ndarray, statistics: Mapping[str, Callable[[Any], Any]]
) -> tuple[StatisticCheck, ...]:
    """Two-sided p-values of statistics of the observed data among replicated data.

    False-alarm rate: with replicates drawn with parameters from the prior, each p-value is below a with a probability
    of at most a. With parameters from the posterior of the same data it is less than that, often much less: the data
    have drawn the parameters towards themselves, and what the parameters fit, no statistic finds missing.

    Args:
        observed: Data, as the statistics take them.
        replicated: Data simulated with one draw of the parameters each: an array (n, ...) or a sequence.
        statistics: Name, for people to read -> function of one data set to a number.

    Returns:
        A check for each statistic, in their order.

    Raises:
        ValueError: If there are fewer than 20 replicates, no statistics, or a statistic is not a finite number.

    References:
        Gelman, Meng & Stern (1996), Statistica Sinica 6, 733; Box (1980), JRSS A 143, 383 (from the prior).
    """
    n = len(replicated)
    if n < FEWEST_REPLICATES:
        raise ValueError(f"replicated must have at least {FEWEST_REPLICATES} data sets, got {n}")
    if not statistics:
        raise ValueError("statistics must name at least one function, got none")
    checks = []
    for name, statistic in statistics.items():
        seen = _value(name, statistic(observed), "the observed data")
        made = np.array([_value(name, statistic(data), f"replicate {i}") for i, data in enumerate(replicated)])
        fewer = min(int((made >= seen).sum()), int((made <= seen).sum()))
        p_value = min(1.0, 2 * (fewer + 1) / (n + 1))
        checks.append(
            StatisticCheck(
                name=name,
                observed=seen,
                p_value=p_value,
                n=n,
                p_value_error=2 * p_value_error(p_value / 2, n),
                mean=float(made.mean()),
                sd=float(made.std(ddof=1)),
            )
        )
    return tuple(checks)


def _value(name: str, value: Any, of_what: str) -> float:
    """A statistic as a finite number."""
    if np.size(value) != 1 or not np.isfinite(value).all():
        raise ValueError(f"statistic {name!r} must be one finite number, got {value!r} of {of_what}")
    return float(np.reshape(value, ()))
