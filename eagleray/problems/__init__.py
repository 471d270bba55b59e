"""Ready problems under their names."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from eagleray.errors import InputError
from eagleray.problems import bending_power_law, periodic_gaussian
from eagleray.problems.problem import Problem, ProblemMaker
from eagleray.records import LightCurve

__all__ = ["PROBLEMS", "Problem", "ProblemEntry", "make_problem"]


@dataclasses.dataclass(frozen=True)
class ProblemEntry:
    """A problem as it is listed: what it is, its parameters with units, and what the exact answer is, if known."""

    make: ProblemMaker
    about: str
    units: Mapping[str, str]
    reference: str

    @property
    def settings(self) -> dict[str, float]:
        """Settings that `make` takes besides observation and prior, with their defaults."""
        parameters = inspect.signature(self.make).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


PROBLEMS: dict[str, ProblemEntry] = {
    "bending_power_law": ProblemEntry(
        bending_power_law.make,
        "log-normal red noise with a bending power-law spectrum, leaking into a short window",
        bending_power_law.UNITS,
        "none in closed form",
    ),
    "periodic_gaussian": ProblemEntry(
        periodic_gaussian.make,
        "power law plus white noise, Gaussian and periodic: a reference with a known answer",
        periodic_gaussian.UNITS,
        "Whittle likelihood, exact",
    ),
}


def make_problem(
    name: str, observation: LightCurve, prior: Mapping[str, str] | None = None, **settings: Any
) -> Problem:
    """Make a registered problem for one observation.

    Args:
        name: A key of `PROBLEMS`.
        observation: The light curve to be explained.
        prior: Priors that replace the defaults, parameter name -> text such as "uniform(0, 2)".
        **settings: Settings of the problem, as `eagleray problems` lists them.

    Raises:
        InputError: If the name, a parameter or a setting is unknown, or a prior is none.
    """
    if name not in PROBLEMS:
        raise InputError(f"problem must be one of {', '.join(PROBLEMS)}, got {name!r}")
    entry = PROBLEMS[name]
    unknown = sorted(set(settings) - set(entry.settings))
    if unknown:
        raise InputError(f"{name} has the settings {', '.join(entry.settings)}, got {unknown[0]!r}")
    return entry.make(observation, prior, **settings)
