"""The function that is differentiated: ln likelihood of a power spectrum.

Inputs are exact in float32, so that every method and the reference see the same numbers in either precision.
"""

import dataclasses
from typing import Any

import numpy as np

CONTINUUM = 3  # parameters of the power law and the constant; each Lorentzian adds three
SEGMENT = 16.0  # seconds: frequencies are multiples of 1/16 Hz


@dataclasses.dataclass(frozen=True)
class Problem:
    """A spectrum, and the parameters at which its likelihood is differentiated.

    Attributes:
        theta: (n_parameters,) ln power of the power law at 1 Hz, its slope, ln of the constant; then ln height,
            ln centre [Hz] and ln half width at half maximum [Hz] of each Lorentzian.
        freq: (n_powers,) frequencies [Hz].
        log_freq: (n_powers,) their logarithms.
        power: (n_powers,) powers in Leahy norm.
    """

    theta: np.ndarray
    freq: np.ndarray
    log_freq: np.ndarray
    power: np.ndarray

    def arrays(self, dtype: str) -> tuple[np.ndarray, ...]:
        """Theta, freq, log_freq, power: the arguments of `log_likelihood`."""
        return tuple(array.astype(dtype) for array in (self.theta, self.freq, self.log_freq, self.power))

    def batch(self, n_sets: int, dtype: str) -> np.ndarray:
        """(n_sets, n_parameters) parameter sets about theta; the first is theta."""
        scatter = 0.05 * np.random.default_rng(7).standard_normal((n_sets, self.theta.size))
        scatter[0] = 0.0
        return (self.theta + scatter).astype(dtype)


def make_problem(n_parameters: int, n_powers: int) -> Problem:
    """Draw a spectrum: red noise, Poisson noise and, from 0.2 to 50 Hz, Lorentzians with Q of 4 to 8."""
    n_lorentzians, remainder = divmod(n_parameters - CONTINUUM, 3)
    if n_lorentzians < 0 or remainder:
        raise ValueError(f"n_parameters must be 3, 6, 9, ..., got {n_parameters}")
    rng = np.random.default_rng(n_parameters)
    centre = np.geomspace(0.2, 50.0, n_lorentzians) if n_lorentzians > 1 else np.full(n_lorentzians, 5.0)
    height = 4.0 + 16.0 * rng.random(n_lorentzians)
    width = centre / (8.0 + 8.0 * rng.random(n_lorentzians))
    lorentzians = np.log([height, centre, width]).T.ravel()
    theta = _exact(np.concatenate([[np.log(10.0), 1.2, np.log(2.0)], lorentzians]))
    freq = np.arange(1, n_powers + 1) / SEGMENT
    log_freq = np.log(freq)
    power = _exact(spectrum(np, theta, freq, log_freq) * rng.exponential(size=n_powers))
    return Problem(theta, freq, log_freq, power)


def spectrum(xp: Any, theta: Any, freq: Any, log_freq: Any) -> Any:
    """(n_powers,) expected powers; the same text for NumPy, JAX, Autograd and PyTorch, whichever `xp` is."""
    model = xp.exp(theta[0] - theta[1] * log_freq) + xp.exp(theta[2])
    if theta.shape[0] > CONTINUUM:
        height, centre, width = (xp.exp(theta[CONTINUUM + i :: 3])[:, None] for i in range(3))
        offset = (freq - centre) / width
        model = model + (height / (1.0 + offset * offset)).sum(0)
    return model


def log_likelihood(xp: Any, theta: Any, freq: Any, log_freq: Any, power: Any) -> Any:
    """Ln likelihood of powers that are exponential about the spectrum (Whittle 1953, Ark. Mat. 2, 423)."""
    model = spectrum(xp, theta, freq, log_freq)
    return -(xp.log(model) + power / model).sum()


def _exact(values: np.ndarray) -> np.ndarray:
    """Values rounded to float32, in float64."""
    return values.astype(np.float32).astype(np.float64)
