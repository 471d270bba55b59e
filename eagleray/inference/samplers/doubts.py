"""What several chains doubt about themselves: numbers for each parameter, and words for people."""

import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eagleray.inference.samplers.chains import Outcome

RHAT_OFF = 1.05
ESS_FEW = 400
PARETO_POOR = 0.7


class Agreement(NamedTuple):
    """Diagnostics by parameter, and the chains that are off."""

    rhat: dict[str, float]
    ess_bulk: dict[str, float]
    ess_tail: dict[str, float]
    off: tuple[int, ...]


def agreement(
    draws: Mapping[str, NDArray[np.floating]], names: Sequence[str], finite: NDArray[np.bool_], effective: float | None
) -> Agreement:
    """Compare the chains.

    Args:
        draws: Draws by parameter name, each (n_chains, n_draws).
        names: Parameters to compare, none of them constant by construction.
        finite: (n_chains,) whether a chain is finite.
        effective: Upper bound of the effective number of draws, for draws that were resampled by weights.
    """
    values = np.stack([np.asarray(draws[name], np.float64) for name in names])
    if not finite.all():
        rhat, bulk, tail = (np.full(len(names), x) for x in (np.inf, 0.0, 0.0))
    else:
        rhat = _rhat(values)
        bulk, tail = (_ess(values, method) for method in ("bulk", "tail"))
    most = np.inf if effective is None else effective
    return Agreement(
        *(
            dict(zip(names, map(float, column), strict=True))
            for column in (rhat, np.minimum(bulk, most), np.minimum(tail, most))
        ),
        off=_off(values, finite),
    )


def words(
    method: str, outcome: Outcome, found: Agreement, *, finite: NDArray[np.bool_], moved: NDArray[np.bool_]
) -> tuple[str, ...]:
    """Doubts in plain words."""
    said = []
    if not finite.all():
        said.append(f"{_chains(~finite)} not finite")
    if outcome.n_nan.any():
        said.append(
            f"the log density was not a number (NaN) {int(outcome.n_nan.sum())} times, in {_which(outcome.n_nan > 0)}; "
            "mend the likelihood"
        )
    if not moved.all():
        said.append(f"{_which(~moved)} did not move")
    if outcome.divergent is not None and outcome.divergent.any():
        which = np.asarray(outcome.divergent.any(axis=1))
        remedy = "lower desired_energy_var" if method == "mclmc" else "raise target_acceptance"
        said.append(
            f"{int(which.sum())} of {len(which)} chains had divergences, {int(outcome.divergent.sum())} of "
            f"{outcome.divergent.size} draws; {remedy} or reparametrise"
        )
    said += _disagreement(found) + list(outcome.notes)
    if outcome.pareto_k is not None:
        k = float(outcome.pareto_k.max())
        verdict = "it can be trusted" if k <= PARETO_POOR else "it is poor: use nuts"
        said.append(
            f"the draws are from an approximation; Pareto k of its weights is {k:.2f} (0.7 is the limit), {verdict}"
        )
    return tuple(said)


def _disagreement(found: Agreement) -> list[str]:
    """R-hat, and too few effective draws."""
    said = []
    worst = max(found.rhat, key=lambda name: found.rhat[name])
    if not found.rhat[worst] <= RHAT_OFF:
        which = f"{_list(found.off)} off" if found.off else "none can be singled out"
        said.append(f"the chains disagree: R-hat is {found.rhat[worst]:.3g} for {worst}; {which}")
    size = {name: min(found.ess_bulk[name], found.ess_tail[name]) for name in found.rhat}
    fewest = min(size, key=lambda name: size[name])
    if not size[fewest] >= ESS_FEW:
        said.append(f"only {size[fewest]:.0f} effective draws of {fewest}, {ESS_FEW} are asked for; raise n_draws")
    return said


def _off(values: NDArray[np.floating], finite: NDArray[np.bool_]) -> tuple[int, ...]:
    """Fewest chains, less than half, without which the others agree; none if there are no such chains."""
    n_chains = values.shape[1]
    lost = np.flatnonzero(~finite).tolist()
    off, kept = list(lost), np.flatnonzero(finite).tolist()

    def worst(chains: list[int]) -> float:
        return float(np.nan_to_num(_rhat(values[:, chains]), nan=np.inf).max())

    while len(kept) > 1 and worst(kept) > RHAT_OFF:
        if len(off) + 1 >= n_chains / 2:
            return tuple(lost)
        without = {i: worst([j for j in kept if j != i]) for i in kept}
        out = min(without, key=lambda i: without[i])
        kept.remove(out)
        off.append(out)
    return tuple(sorted(off))


def _rhat(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Rank-normalised R-hat (n_parameters,) of (n_parameters, n_chains, n_draws); inf where no chain moves."""
    from arviz_stats.base import array_stats

    if values.shape[-1] < 4:
        return np.full(len(values), np.nan)
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore")  # constant chains: what comes of them is judged here
        split_of_one = values.shape[1] == 1
        half = values.shape[-1] // 2
        chains = np.concatenate([values[..., :half], values[..., -half:]], axis=1) if split_of_one else values
        rhat = np.asarray(array_stats.rhat(chains), np.float64)
    return np.where(np.ptp(values, axis=(1, 2)) > 0, np.nan_to_num(rhat, nan=np.inf), np.inf)


def _ess(values: NDArray[np.floating], method: str) -> NDArray[np.floating]:
    """Effective number of draws (n_parameters,); 0 where no chain moves."""
    from arviz_stats.base import array_stats

    if values.shape[-1] < 4:
        return np.zeros(len(values))
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore")
        ess = np.asarray(array_stats.ess(values, method=method, prob=(0.05, 0.95) if method == "tail" else None))
    return np.where(np.ptp(values, axis=(1, 2)) > 0, np.nan_to_num(ess, nan=0.0), 0.0)


def _which(flags: NDArray[np.bool_]) -> str:
    """The flagged chains."""
    return _name([int(i) for i in np.flatnonzero(flags)])


def _chains(flags: NDArray[np.bool_]) -> str:
    """The flagged chains, and the verb."""
    return _list([int(i) for i in np.flatnonzero(flags)])


def _list(chains: Sequence[int]) -> str:
    """Chains and the verb: "chain 2 is", "chains 0 and 2 are"."""
    return f"{_name(chains)} {'is' if len(chains) == 1 else 'are'}"


def _name(chains: Sequence[int]) -> str:
    """Chains: "chain 2", "chains 0, 1 and 2"."""
    *others, last = map(str, chains)
    return f"chains {', '.join(others)} and {last}" if others else f"chain {last}"
