"""Ready problems under their names."""

from collections.abc import Mapping
from typing import Any

import jax

from eagleray.errors import InputError
from eagleray.problems import (
    bending_power_law,
    burst,
    dead_time_pulsar,
    dead_time_qpo,
    dead_time_rate,
    few_counts,
    gappy_agn,
    hb22,
    leaky_red_noise,
    linear_or_lognormal,
    periodic_gaussian,
    pile_up,
    reverberation,
    variable_dead_time,
)
from eagleray.problems.problem import Data, Observation, Problem, ProblemEntry
from eagleray.records import Theta

__all__ = ["PROBLEMS", "Problem", "ProblemEntry", "find_problem", "fixed_observation", "make_problem"]

PROBLEMS: dict[str, ProblemEntry] = {
    **bending_power_law.ENTRIES,
    **burst.ENTRIES,
    **dead_time_pulsar.ENTRIES,
    **dead_time_qpo.ENTRIES,
    **dead_time_rate.ENTRIES,
    **few_counts.ENTRIES,
    **gappy_agn.ENTRIES,
    **hb22.ENTRIES,
    **leaky_red_noise.ENTRIES,
    **linear_or_lognormal.ENTRIES,
    **periodic_gaussian.ENTRIES,
    **pile_up.ENTRIES,
    **reverberation.ENTRIES,
    **variable_dead_time.ENTRIES,
}

_FIXED_SEED = 2026


def find_problem(name: str) -> ProblemEntry:
    """A registered problem.

    Raises:
        InputError: If there is none of this name.
    """
    if name not in PROBLEMS:
        raise InputError(f"problem must be one of {', '.join(PROBLEMS)}, got {name!r}")
    return PROBLEMS[name]


def make_problem(
    name: str, observation: Observation | None = None, prior: Mapping[str, str] | None = None, **settings: Any
) -> Problem:
    """Make a registered problem for one observation.

    Args:
        name: A key of `PROBLEMS`.
        observation: What is to be explained; default: the window that stands for the problem.
        prior: Priors that replace the defaults, parameter name -> text such as "uniform(0, 2)".
        **settings: Settings of the problem, as `eagleray problems` lists them.

    Raises:
        InputError: If the name, a parameter or a setting is unknown, a prior is none, or the observation does not suit.
    """
    entry = find_problem(name)
    unknown = sorted(set(settings) - set(entry.settings))
    if unknown:
        has = f"the settings {', '.join(entry.settings)}" if entry.settings else "no settings"
        raise InputError(f"{name} has {has}, got {unknown[0]!r}")
    return entry.make(entry.standard() if observation is None else observation, prior, **settings)


def fixed_observation(problem: Problem, i: int) -> tuple[Theta, Data]:
    """One of the observations that every method is tried on: parameters drawn from the prior, and data simulated.

    Args:
        problem: Which problem.
        i: Number of the observation, from 1.

    Raises:
        InputError: If i is below 1.
    """
    if i < 1:
        raise InputError(f"observations are counted from 1, got {i}")
    return jax.jit(problem.draw)(jax.random.fold_in(jax.random.key(_FIXED_SEED), i))
