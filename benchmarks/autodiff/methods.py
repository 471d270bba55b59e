"""What is compared: every way to a value, a gradient or a Hessian, under a name."""

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.autodiff.problem import Problem

DTYPES = ("float64", "float32")


class Unavailable(Exception):
    """A way that cannot be taken here; the message says why."""


@dataclasses.dataclass(frozen=True)
class Ready:
    """A way made ready for one problem and precision.

    Attributes:
        run: Returns the derivative when it is there, or a batch of derivatives of which the first is wanted.
        n_sets: Parameter sets a call of `run` treats.
        facts: What else the entry says, e.g. seconds of derivation.
    """

    run: Callable[[], Any]
    n_sets: int = 1
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)

    def result(self) -> np.ndarray:
        """The derivative at the problem's parameters."""
        found = np.asarray(self.run())
        return found if self.n_sets == 1 else found[0]


@dataclasses.dataclass(frozen=True)
class Options:
    """What ways need to know of the run.

    Attributes:
        batch: Parameter sets of a vmapped call.
        symbolic_cap: CPU seconds after which a symbolic derivation is given up.
    """

    batch: int = 256
    symbolic_cap: float = 60.0


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to a derivative.

    Attributes:
        label: As tables call it.
        package: What must be installed.
        build: Makes it ready; its time, and the first call's, is the time of preparation.
        heavy: Whether it takes so long to prepare that it is tried at few sizes only.
        dtypes: Precisions in which it is tried.
    """

    label: str
    package: str
    build: Callable[[Problem, str, Options], Ready]
    heavy: bool = False
    dtypes: tuple[str, ...] = DTYPES


def import_or_say(package: str) -> Any:
    """Import a package that may be missing.

    Raises:
        Unavailable: Where it is missing or fails to load.
    """
    try:
        return importlib.import_module(package)
    except (ImportError, OSError) as error:
        raise Unavailable(f"{package} cannot be imported: {error}") from error


def all_methods() -> dict[str, dict[str, Method]]:
    """Ways by quantity ("value", "gradient", "hessian") and name."""
    from benchmarks.autodiff import with_jax, with_numpy, with_sympy, with_torch

    found: dict[str, dict[str, Method]] = {"value": {}, "gradient": {}, "hessian": {}}
    for module in (with_jax, with_numpy, with_sympy, with_torch):
        for quantity, methods in module.METHODS.items():
            found[quantity] |= methods
    return found
