"""Gaussian processes with measurement noise: exact likelihoods of light curves in the time domain.

Kernels with their spectra (`kernels`), the likelihood at any times in linear time (`state_space`), that of a regular
series with any stationary covariance (`toeplitz`), and kernels that imitate any smooth spectrum (`approximations`).
"""

from eagleray.likelihoods.gaussian_process.approximations import approximate_spectrum, approximation_error
from eagleray.likelihoods.gaussian_process.kernels import (
    Kernel,
    carma,
    damped_oscillator,
    damped_random_walk,
    quasi_periodic,
    red_noise,
)
from eagleray.likelihoods.gaussian_process.state_space import (
    Prediction,
    draw,
    gaussian_process_log_likelihood,
    predict,
)
from eagleray.likelihoods.gaussian_process.toeplitz import (
    autocovariance,
    autocovariance_of_power,
    stationary_log_likelihood,
)

__all__ = [
    "Kernel",
    "Prediction",
    "approximate_spectrum",
    "approximation_error",
    "autocovariance",
    "autocovariance_of_power",
    "carma",
    "damped_oscillator",
    "damped_random_walk",
    "draw",
    "gaussian_process_log_likelihood",
    "predict",
    "quasi_periodic",
    "red_noise",
    "stationary_log_likelihood",
]
