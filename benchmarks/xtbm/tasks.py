"""The tasks: registered problems in their standard windows, with settings."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from eagleray.problems import fixed_observation, make_problem
from eagleray.problems.problem import Problem

Reference = Literal["exact", "latent"]


@dataclasses.dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        number: Its number in the list of twelve.
        problem: Name of the registered problem.
        settings: Its settings, where they are not the defaults.
        reference: "exact": the network's summary aims at the reference itself, and C2ST can be 0.5; "latent": the
            reference is that of the events, which is narrower than that of any summary.
    """

    number: int
    problem: str
    settings: Mapping[str, float] = dataclasses.field(default_factory=dict)
    reference: Reference = "exact"


TASKS: dict[str, Task] = {
    "dead_time_rate": Task(1, "dead_time_rate"),
    "variable_dead_time": Task(2, "variable_dead_time"),
    "periodic_gaussian": Task(3, "periodic_gaussian"),
    "periodic_gaussian_m4": Task(3, "periodic_gaussian", {"segments": 4}),
    "periodic_gaussian_m50": Task(3, "periodic_gaussian", {"segments": 50}),
    "periodic_qpo": Task(3, "periodic_qpo"),
    "leaky_red_noise": Task(4, "leaky_red_noise"),
    "gappy_agn": Task(5, "gappy_agn"),
    "few_counts": Task(6, "few_counts", reference="latent"),
    "dead_time_qpo": Task(7, "dead_time_qpo", reference="latent"),
    "dead_time_pulsar": Task(8, "dead_time_pulsar"),
    "reverberation": Task(9, "reverberation"),
    "burst_qpo": Task(10, "burst_qpo"),
    "linear_noise": Task(11, "linear_noise"),
    "lognormal_noise": Task(11, "lognormal_noise"),
    "pile_up": Task(12, "pile_up"),
}


def make_task(name: str) -> Problem:
    """The problem of a task."""
    task = TASKS[name]
    settings: dict[str, Any] = dict(task.settings)
    return make_problem(task.problem, **settings)


@dataclasses.dataclass(frozen=True)
class Observed:
    """The first fixed observations of a task.

    Attributes:
        truth: (n_observations, n_theta) true parameters, in the prior's order.
        data: Of each.
        x_obs: (n_observations, n_features) their summaries.
    """

    truth: NDArray[np.floating]
    data: list[Any]
    x_obs: NDArray[np.floating]


def observe(problem: Problem, n: int) -> Observed:
    """Draw fixed observations, on a CPU wherever this runs."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        pairs = [jax.device_get(fixed_observation(problem, i + 1)) for i in range(n)]
        x_obs = np.array([problem.summary(jax.tree.map(jnp.asarray, data)) for _, data in pairs])
    truth = np.array([[float(theta[name]) for name in problem.prior.names] for theta, _ in pairs])
    return Observed(truth, [data for _, data in pairs], x_obs)


def chosen(given: str) -> tuple[str, ...]:
    """Names of tasks from the command line: "all", or names with commas between.

    Raises:
        ValueError: If a name is unknown.
    """
    names = tuple(TASKS) if given == "all" else tuple(given.split(","))
    if unknown := sorted(set(names) - set(TASKS)):
        raise ValueError(f"tasks must be of {', '.join(TASKS)}, got {unknown[0]!r}")
    return names
