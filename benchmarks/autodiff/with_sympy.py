"""Derivatives with SymPy: the expression of one power is differentiated, its common parts shared, and compiled.

The likelihood is a sum of the same expression over powers, so that symbols need not know how many there are. That is
symbolic differentiation at its best: written out for 1024 powers, the expression would be a thousand times as long.
"""

import contextlib
import functools
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.autodiff.methods import Method, Options, Ready, Unavailable, import_or_say
from benchmarks.autodiff.problem import Problem, log_likelihood


class _Names:
    """What `log_likelihood` asks of NumPy, for arrays of SymPy's expressions."""

    def __init__(self, sympy: Any) -> None:
        """Elementwise functions."""
        self.exp, self.log = np.frompyfunc(sympy.exp, 1, 1), np.frompyfunc(sympy.log, 1, 1)


class Derivation:
    """Derivatives of the ln likelihood of one power, as expressions.

    Attributes:
        arguments: Symbols of theta's entries, freq, log_freq and power.
        gradient: One expression for each parameter.
        hessian: Expressions of the lower triangle, row by row, or None until asked for.
        seconds: CPU seconds each derivation took.
    """

    def __init__(self, n_parameters: int) -> None:
        """Differentiate once."""
        self.sympy = import_or_say("sympy")
        self.theta = np.array(self.sympy.symbols(f"t:{n_parameters}", real=True), dtype=object)
        data = self.sympy.symbols("freq log_freq power", positive=True)
        self.arguments = [*self.theta, *data]
        start = time.process_time()
        value = log_likelihood(_Names(self.sympy), self.theta, *(np.array([symbol]) for symbol in data))
        self.gradient = [self.sympy.diff(value, one) for one in self.theta]
        self.hessian: list[Any] | None = None
        self.seconds = {"gradient": time.process_time() - start}

    def twice(self, cap: float) -> None:
        """Differentiate again.

        Raises:
            Unavailable: After `cap` CPU seconds.
        """
        start = time.process_time()
        with cpu_limit(cap, f"second derivatives by {self.theta.size} parameters"):
            rows, columns = np.tril_indices(self.theta.size)
            found = [self.sympy.diff(self.gradient[i], self.theta[j]) for i, j in zip(rows, columns, strict=True)]
        self.hessian = found
        self.seconds["hessian"] = self.seconds["gradient"] + time.process_time() - start


_derivations: dict[int, Derivation] = {}
_outcomes: dict[tuple[int, str, bool, float], tuple[Callable, dict[str, float]] | Unavailable] = {}


@contextlib.contextmanager
def cpu_limit(seconds: float, what: str) -> Iterator[None]:
    """Stop what runs inside, if it is Python in the main thread, after so many CPU seconds.

    Raises:
        Unavailable: If that happened.
    """
    end = time.process_time() + seconds

    def look(*_: Any) -> None:
        left = end - time.process_time()
        if left <= 0.0:
            raise Unavailable(f"{what}: given up")
        signal.setitimer(signal.ITIMER_REAL, max(left, 0.01))

    # A timer of CPU time would do without `look`, but makes the clock of CPU seconds coarse for the whole process.
    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def derive(n_parameters: int, quantity: str, share: bool, cap: float) -> tuple[Callable, dict[str, float]]:
    """Differentiate and compile; the function serves both precisions, so that the second time is for free.

    Args:
        n_parameters: Of the likelihood.
        quantity: "gradient" or "hessian".
        share: Whether common subexpressions are computed once.
        cap: CPU seconds that derivation and compilation may take together.

    Returns:
        Function of theta's entries, freq, log_freq and power that returns a list of arrays (of the Hessian the lower
        triangle), to be summed over powers; seconds and operations.

    Raises:
        Unavailable: If SymPy is missing, or needs longer than the cap.
    """
    key = n_parameters, quantity, share, cap
    if key not in _outcomes:
        try:
            _outcomes[key] = _derive(*key)
        except Unavailable as error:
            _outcomes[key] = Unavailable(f"{error} (limit: {cap:g} CPU s)")
    outcome = _outcomes[key]
    if isinstance(outcome, Unavailable):
        raise outcome
    return outcome


def _derive(n_parameters: int, quantity: str, share: bool, cap: float) -> tuple[Callable, dict[str, float]]:
    """The same, every time anew but for derivations already made."""
    if n_parameters not in _derivations:
        _derivations[n_parameters] = Derivation(n_parameters)
    derivation = _derivations[n_parameters]
    if quantity == "hessian" and derivation.hessian is None:
        derivation.twice(cap - derivation.seconds["gradient"])
    sympy, expressions = derivation.sympy, getattr(derivation, quantity)
    facts = {"derive_s": derivation.seconds[quantity]}

    def shared(expressions: Any) -> Any:
        start = time.process_time()
        found = sympy.cse(expressions, list=False)
        facts["share_s"] = time.process_time() - start
        facts["operations"] = _operations([expression for _, expression in found[0]] + found[1])
        return found

    with cpu_limit(cap - facts["derive_s"], f"compilation of the {quantity} by {n_parameters} parameters"):
        if not share:
            facts["operations"] = _operations(expressions)
        start = time.process_time()
        compiled = sympy.lambdify(derivation.arguments, expressions, modules="numpy", cse=shared if share else False)
        facts["compile_s"] = time.process_time() - start - facts.get("share_s", 0.0)
    return compiled, facts


def _operations(expressions: list[Any]) -> int:
    """Arithmetic operations and functions in all."""
    return sum(int(expression.count_ops()) for expression in expressions)


def _build(quantity: str, share: bool, problem: Problem, dtype: str, options: Options) -> Ready:
    """The compiled expressions, summed over powers."""
    theta, *data = problem.arrays(dtype)
    n = theta.size
    function, facts = derive(n, quantity, share, options.symbolic_cap)
    rows, columns = np.tril_indices(n)

    def sums() -> np.ndarray:
        return np.array([term.sum() for term in function(*theta, *data)])

    def full() -> np.ndarray:
        hessian = np.empty((n, n), dtype)
        hessian[rows, columns] = hessian[columns, rows] = sums()
        return hessian

    return Ready(sums if quantity == "gradient" else full, facts={"symbolic": facts})


METHODS = {
    quantity: {
        "sympy": Method("SymPy, parts shared", "sympy", functools.partial(_build, quantity, True)),
        "sympy_plain": Method(
            "SymPy, parts not shared", "sympy", functools.partial(_build, quantity, False), heavy=True
        ),
    }
    for quantity in ("gradient", "hessian")
}
