"""Finite differences of a function of a vector, written once for every package."""

from collections.abc import Callable
from typing import Any

import numpy as np

Function = Callable[[np.ndarray], Any]


def gradient_step(dtype: str) -> float:
    """Step of central differences that balances truncation and rounding for a function of order one."""
    return float(np.finfo(dtype).eps ** (1 / 3))


def hessian_step(dtype: str) -> float:
    """The same for second differences."""
    return float(np.finfo(dtype).eps ** (1 / 4))


def central_gradient(function: Function, theta: np.ndarray, step: float) -> np.ndarray:
    """(f(x + h) - f(x - h)) / 2h for each parameter: 2 n calls."""
    gradient = np.empty_like(theta)
    for i in range(theta.size):
        up, down = theta.copy(), theta.copy()
        up[i] += step
        down[i] -= step
        # Divided by the step that was taken, which rounding makes another than the one asked for.
        gradient[i] = (np.asarray(function(up)) - np.asarray(function(down))) / (up[i] - down[i])
    return gradient


def one_sided_gradient(function: Function, theta: np.ndarray, step: float) -> np.ndarray:
    """(f(x + h) - f(x)) / h for each parameter: n + 1 calls, what optimisers take by default."""
    gradient = np.empty_like(theta)
    here = np.asarray(function(theta))
    for i in range(theta.size):
        up = theta.copy()
        up[i] += step
        gradient[i] = (np.asarray(function(up)) - here) / (up[i] - theta[i])
    return gradient


def central_hessian(function: Function, theta: np.ndarray, step: float) -> np.ndarray:
    """Second central differences of the value: 2 n^2 + 1 calls."""
    n = theta.size
    hessian = np.empty((n, n), theta.dtype)
    here = np.asarray(function(theta))

    def at(*moves: tuple[int, float]) -> np.ndarray:
        point = theta.copy()
        for i, move in moves:
            point[i] += move
        return np.asarray(function(point))

    up = [at((i, step)) for i in range(n)]
    down = [at((i, -step)) for i in range(n)]
    for i in range(n):
        hessian[i, i] = (up[i] - here - here + down[i]) / step**2
        for j in range(i):
            corners = at((i, step), (j, step)) - at((i, step), (j, -step))
            corners = corners - at((i, -step), (j, step)) + at((i, -step), (j, -step))
            hessian[i, j] = hessian[j, i] = corners / (4.0 * step**2)
    return hessian
