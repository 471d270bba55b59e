"""Derivatives with NumPy: formulas by hand, finite differences, and Autograd's reverse mode."""

import functools

import numpy as np

from benchmarks.autodiff.finite import central_gradient, central_hessian, gradient_step, hessian_step
from benchmarks.autodiff.methods import Method, Options, Ready, import_or_say
from benchmarks.autodiff.problem import Problem, log_likelihood
from benchmarks.autodiff.reference import gradient_by_hand, hessian_by_hand


def _value(problem: Problem, dtype: str, options: Options) -> Ready:
    """The likelihood itself."""
    arguments = problem.arrays(dtype)
    return Ready(lambda: log_likelihood(np, *arguments))


def _by_hand(quantity: str, problem: Problem, dtype: str, options: Options) -> Ready:
    """Formulas from paper."""
    derivative = gradient_by_hand if quantity == "gradient" else hessian_by_hand
    arguments = problem.arrays(dtype)
    return Ready(lambda: derivative(*arguments))


def _finite(quantity: str, problem: Problem, dtype: str, options: Options) -> Ready:
    """Central differences."""
    theta, *data = problem.arrays(dtype)
    value = lambda point: log_likelihood(np, point, *data)  # noqa: E731
    if quantity == "gradient":
        return Ready(lambda: central_gradient(value, theta, gradient_step(dtype)))
    return Ready(lambda: central_hessian(value, theta, hessian_step(dtype)))


def _autograd(quantity: str, problem: Problem, dtype: str, options: Options) -> Ready:
    """Autograd: reverse mode; for the Hessian reverse over reverse."""
    autograd = import_or_say("autograd")
    xp = import_or_say("autograd.numpy")
    theta, *data = problem.arrays(dtype)
    transform = autograd.grad if quantity == "gradient" else autograd.hessian
    derivative = transform(lambda point: log_likelihood(xp, point, *data))
    return Ready(lambda: derivative(theta))


METHODS = {
    "value": {"numpy": Method("NumPy", "numpy", _value)},
    "gradient": {
        "numpy_by_hand": Method("NumPy, formulas by hand", "numpy", functools.partial(_by_hand, "gradient")),
        "numpy_finite": Method("finite differences, NumPy", "numpy", functools.partial(_finite, "gradient")),
        "autograd": Method("Autograd", "autograd", functools.partial(_autograd, "gradient")),
    },
    "hessian": {
        "numpy_by_hand": Method("NumPy, formulas by hand", "numpy", functools.partial(_by_hand, "hessian")),
        "numpy_finite": Method("finite differences, NumPy", "numpy", functools.partial(_finite, "hessian")),
        "autograd": Method("Autograd", "autograd", functools.partial(_autograd, "hessian")),
    },
}
