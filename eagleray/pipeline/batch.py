"""Many observations, one trained network: an answer for each, with its doubts, in one pass."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from eagleray.diagnostics.doubts import doubts
from eagleray.diagnostics.typicality import typicality
from eagleray.errors import InputError
from eagleray.inference.posteriors import AmortisedPosterior
from eagleray.inference.storage import Trained
from eagleray.pipeline.amortised import matching_problem, observed_summary, trust_records
from eagleray.pipeline.results import Watch, now, unwatched, versions
from eagleray.problems.problem import Observation, Problem
from eagleray.records import Batch, Key


def infer_each(
    observations: Mapping[str, Observation | Callable[[], Observation]],
    posterior: Trained,
    *,
    n_draws: int = 2000,
    seed: int = 0,
    command: str = "",
    watch: Watch = unwatched,
) -> Batch:
    """Posteriors of many observations by one trained network.

    Each must be watched as those that the network was trained on. What cannot be answered is kept, with the reason.
    Nothing is simulated: whether the model makes data like an observation is asked by `infer`, of one at a time. Each
    is doubted by itself: of a thousand that the model describes, ten are unlike its simulations at p < 0.01.

    Args:
        observations: By name; or functions without arguments that read them, each called when its turn comes.
        posterior: Trained for a registered problem.
        n_draws: Draws for each.
        seed: Seed.
        command: The command that asked, for the record.
        watch: Told of the progress.

    Returns:
        The answers, in the order of the observations.

    Raises:
        InputError: If there are no observations, or none can be answered.
    """
    if not observations:
        raise InputError("observations must hold at least one, got none")
    reference, record = trust_records(posterior)
    summaries, refused, problem = [], [], None
    for i, observation in enumerate(observations.values()):
        watch("reading", i, len(observations))
        try:
            problem, x_obs = _seen(observation() if callable(observation) else observation, posterior)
            summaries.append(x_obs)
            refused.append("")
        except InputError as error:
            refused.append(str(error))
    watch("reading", len(observations), len(observations))
    if problem is None:
        raise InputError(f"at least one observation must suit the network, got none of {len(refused)}: {refused[0]}")
    answered = np.array([not reason for reason in refused])
    x_obs = np.stack(summaries)
    draws, of_sampler = _draws_of_each(jax.random.key(seed), posterior, x_obs, n_draws, watch)
    warnings, p_values = [], []
    for i, x in enumerate(x_obs):
        among_prior = typicality(x, reference)
        p_values.append(among_prior.p_value)
        own = {name: values[i] for name, values in draws.items()}
        invalid = posterior.provenance.get("invalid_fraction", 0.0)
        found = doubts(problem.prior, own, record, among_prior, None, invalid, problem.summary.names)
        warnings.append(found + of_sampler[i])
    each = iter(warnings)
    return Batch(
        names=tuple(observations),
        draws={name: _placed(values, answered) for name, values in draws.items()},
        units=problem.units,
        prior=problem.prior.texts,
        x_obs=_placed(x_obs, answered),
        feature_names=problem.summary.names,
        p_values=_placed(np.array(p_values), answered),
        warnings=tuple(next(each) if one else () for one in answered),
        refused=tuple(refused),
        provenance={
            "problem": problem.name,
            "command": command,
            "seed": seed,
            "created": now(),
            "versions": versions(),
            "n_simulations": posterior.provenance.get("n_simulations"),
        },
    )


def _seen(observation: Observation, posterior: Trained) -> tuple[Problem, NDArray[np.floating]]:
    """The problem that a network was trained for, made for an observation, and what the network sees of it."""
    problem = matching_problem(posterior, observation)
    return problem, observed_summary(problem)


def _draws_of_each(
    key: Key, posterior: Trained, x_obs: NDArray[np.floating], n_draws: int, watch: Watch
) -> tuple[dict[str, NDArray[np.floating]], list[tuple[str, ...]]]:
    """Draws by name, each (n_obs, n_draws), and what a sampler doubts of each."""
    watch("answering", 0, len(x_obs))
    if isinstance(posterior, AmortisedPosterior):
        draws = posterior.sample_each(key, x_obs, n_draws)
        watch("answering", len(x_obs), len(x_obs))
        return draws, [()] * len(x_obs)
    answers = []
    for i, x in enumerate(x_obs):
        answers.append(posterior.answer(jax.random.fold_in(key, i), x, n_draws))
        watch("answering", i + 1, len(x_obs))
    draws = {name: np.stack([one.draws[name] for one in answers]) for name in posterior.prior.all_names}
    return draws, [one.warnings for one in answers]


def _placed(values: NDArray[Any], answered: NDArray[np.bool_]) -> NDArray[Any]:
    """Rows of those that were answered among NaN of those that were not."""
    placed = np.full((len(answered), *values.shape[1:]), np.nan, values.dtype)
    placed[answered] = values
    return placed
