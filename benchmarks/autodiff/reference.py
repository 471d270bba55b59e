"""Derivatives from formulas on paper: in floating point, and to 50 digits as the reference for all the others."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.autodiff.problem import CONTINUUM, Problem, log_likelihood

DIGITS = 50

Elementwise = Callable[[Any], Any]
Product = Callable[[np.ndarray, np.ndarray], np.ndarray]


def gradient_by_hand(theta: np.ndarray, freq: np.ndarray, log_freq: np.ndarray, power: np.ndarray) -> np.ndarray:
    """(n_parameters,) gradient of `log_likelihood`, in NumPy."""
    model, first, _ = _spectrum_derivatives(theta, freq, log_freq, np.exp)
    return first @ ((power / model - 1.0) / model)


def hessian_by_hand(theta: np.ndarray, freq: np.ndarray, log_freq: np.ndarray, power: np.ndarray) -> np.ndarray:
    """(n_parameters, n_parameters) Hessian of `log_likelihood`, in NumPy."""
    return _gradient_and_hessian(theta, freq, log_freq, power, np.exp, lambda left, right: left @ right.T)[1]


class Reference:
    """Gradient and Hessian to 50 digits, from the formulas, and a check of them that uses values of the function alone.

    Attributes:
        gradient: (n_parameters,) of mpmath's numbers.
        hessian: (n_parameters, n_parameters) of them.
        check: Largest relative disagreement of either with central differences along a random direction, taken with
            steps of 1e-20 in 80 digits: 1e-38 or so if the formulas are right.
    """

    def __init__(self, problem: Problem) -> None:
        """Raise ImportError where mpmath is missing."""
        import mpmath

        with mpmath.workdps(DIGITS):
            exp = np.frompyfunc(mpmath.exp, 1, 1)
            theta, freq, log_freq, power = _many_digits(problem)
            self.gradient, self.hessian = _gradient_and_hessian(theta, freq, log_freq, power, exp, _symmetric_product)
        with mpmath.workdps(80):
            self.check = float(self._disagreement(problem))

    def error(self, found: Any, quantity: str) -> float:
        """Largest error of an entry, over the largest entry of the exact derivative."""
        import mpmath

        exact = getattr(self, quantity)
        with mpmath.workdps(DIGITS):
            difference = np.asarray(found, np.float64).astype(object) - exact
            return float(np.abs(difference).max() / np.abs(exact).max())

    def _disagreement(self, problem: Problem) -> Any:
        """Relative difference between the formulas and differences of function values."""
        import mpmath

        theta, *data = _many_digits(problem)
        weights = np.random.default_rng(3).standard_normal(theta.size)
        direction = np.array([mpmath.mpf(float(weight)) for weight in weights])
        step = mpmath.mpf(10) ** -20
        down, middle, up = (_value(theta + k * step * direction, *data) for k in (-1, 0, 1))
        slope, curvature = (up - down) / (2 * step), (up - 2 * middle + down) / step**2
        expected = self.gradient @ direction, direction @ self.hessian @ direction
        return max(abs(a / b - 1) for a, b in zip(expected, (slope, curvature), strict=True))


class _ManyDigits:
    """What `log_likelihood` asks of NumPy, for arrays of mpmath's numbers."""

    def __init__(self) -> None:
        """Elementwise functions."""
        import mpmath

        self.exp, self.log = np.frompyfunc(mpmath.exp, 1, 1), np.frompyfunc(mpmath.log, 1, 1)


def _value(*arguments: np.ndarray) -> Any:
    """Ln likelihood to the digits in force."""
    return log_likelihood(_ManyDigits(), *arguments)


def _many_digits(problem: Problem) -> list[np.ndarray]:
    """Theta and data in mpmath's numbers; the logarithm of frequency is taken anew."""
    import mpmath

    theta, freq, power = (
        np.array([mpmath.mpf(float(value)) for value in array])
        for array in (problem.theta, problem.freq, problem.power)
    )
    return [theta, freq, np.frompyfunc(mpmath.log, 1, 1)(freq), power]


def _symmetric_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """`left @ right.T`, known to be symmetric, with exact products."""
    import mpmath

    n = len(left)
    product = np.empty((n, n), object)
    for i in range(n):
        for j in range(i + 1):
            product[i, j] = product[j, i] = mpmath.fdot(left[i], right[j])
    return product


def _gradient_and_hessian(
    theta: np.ndarray, freq: np.ndarray, log_freq: np.ndarray, power: np.ndarray, exp: Elementwise, product: Product
) -> tuple[np.ndarray, np.ndarray]:
    """Both derivatives of -sum(ln S + P / S), by the chain rule from those of the spectrum S."""
    model, first, second = _spectrum_derivatives(theta, freq, log_freq, exp)
    slope = (power / model - 1.0) / model
    curvature = (1.0 - 2.0 * power / model) / (model * model)
    hessian = product(first * curvature, first)
    for (i, j), derivative in second.items():
        term = derivative @ slope
        hessian[i, j] += term
        if i != j:
            hessian[j, i] += term
    return first @ slope, hessian


def _spectrum_derivatives(
    theta: np.ndarray, freq: np.ndarray, log_freq: np.ndarray, exp: Elementwise
) -> tuple[np.ndarray, np.ndarray, dict[tuple[int, int], np.ndarray]]:
    """Spectrum (n_powers,), its first derivatives (n_parameters, n_powers) and the second ones that are not zero."""
    red = exp(theta[0] - theta[1] * log_freq)
    white = exp(theta[2]) * np.ones_like(freq)
    first = [red, -log_freq * red, white]
    second = {(0, 0): red, (1, 0): first[1], (1, 1): log_freq * log_freq * red, (2, 2): white}
    model = red + white
    for a in range(CONTINUUM, theta.size, 3):
        height, centre, width = exp(theta[a : a + 3])
        offset = (freq - centre) / width
        unit = 1.0 / (1.0 + offset * offset)
        line = height * unit
        ratio = centre / width
        by_centre = 2.0 * ratio * offset * unit * line
        by_width = 2.0 * offset * offset * unit * line
        bend = 4.0 * offset * offset * unit
        first += [line, by_centre, by_width]
        second |= {
            (a, a): line,
            (a + 1, a): by_centre,
            (a + 2, a): by_width,
            (a + 1, a + 1): by_centre - 2.0 * ratio * ratio * unit * line * (1.0 - bend),
            (a + 2, a + 1): by_centre * (bend - 2.0),
            (a + 2, a + 2): by_width * (bend - 2.0),
        }
        model = model + line
    return model, np.stack(first), second
