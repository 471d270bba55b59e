"""Spectra simulated from a model and fitted anew, the observed one among them: what calibrates a test."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import ArrayLike, NDArray

from eagleray.inference.spectral_models import (
    FitSettings,
    SpectralModel,
    fit_spectra,
    residuals,
    simulate_spectra,
)
from eagleray.records import Key, Theta

_CHUNK = 2**24  # powers simulated and fitted in one call


def simulate_and_refit(
    key: Key,
    null: SpectralModel,
    alternative: SpectralModel | None,
    power: ArrayLike,
    m: ArrayLike,
    draws: Theta | None,
    widths: tuple[int, ...],
    n_simulations: int,
    settings: FitSettings,
) -> dict[str, NDArray[np.float64]]:
    """Statistics of the observed spectrum, and of spectra simulated from the simpler model, each after its own fit.

    Args:
        key: Typed PRNG key; consumed.
        null: The simpler model.
        alternative: The richer model, for the likelihood ratio; or None.
        power: (n_freq,) observed powers.
        m: Periodogram powers averaged in each, one number or (n_freq,).
        draws: Parameters of the simpler model to simulate from; None for its best fit.
        widths: Widths of the windows in which the highest excess is sought.
        n_simulations: Simulated spectra.
        settings: How spectra are fitted.

    Returns:
        Statistic by name, each (1 + n_simulations, ...), the observed spectrum's first: "highest", "ratio", "index" by
        width, as in `Residuals`; "highest ratio" of a power to the model; "sum of squares"; "likelihood ratio", if
        there is an alternative; and whether a fit is "unconverged".

    Raises:
        ValueError: If powers or m are not positive and finite, or the shapes do not match.
    """
    if n_simulations < 1:
        raise ValueError(f"n_simulations must be at least 1, got {n_simulations}")
    observed, averaged = (jnp.asarray(array) for array in checked_spectrum(power, m))
    key_fit, key_pick, key_simulate, key_starts = jax.random.split(key, 4)
    best = fit_spectra(key_fit, null, observed[None], averaged, settings=settings).theta if draws is None else draws
    theta = _pick(key_pick, stacked_draws(best), n_simulations)
    # Chunks of one size, so that one compiled program serves them all; the last may repeat the end of the one before.
    chunk = min(n_simulations, max(1, _CHUNK // observed.size))
    starts = [min(start, n_simulations - chunk) for start in range(0, n_simulations, chunk)]
    single = bool((averaged == 1).all())
    values: dict[str, NDArray[np.float64]] = {}
    for start in starts:
        some = {name: value[start : start + chunk] for name, value in theta.items()}
        found = _statistics(
            key_starts, key_simulate, start, null, alternative, some, observed, averaged, widths, single, settings
        )
        for name, rows in found.items():
            rows = np.asarray(rows, np.float64)
            values.setdefault(name, np.full((n_simulations + 1, *rows.shape[1:]), np.nan))
            values[name][0], values[name][start + 1 : start + chunk + 1] = rows[0], rows[1:]
    return values


@functools.partial(jax.jit, static_argnames=("null", "alternative", "widths", "single", "settings"))
def _statistics(
    key_starts: Key,
    key_simulate: Key,
    start: int,
    null: SpectralModel,
    alternative: SpectralModel | None,
    theta: Theta,
    observed: Float[Array, " n_freq"],
    m: Float[Array, " n_freq"],
    widths: tuple[int, ...],
    single: bool,
    settings: FitSettings,
) -> dict[str, Array]:
    """Simulate one chunk of spectra, set the observed one before them, and fit them all alike."""
    n = len(next(iter(theta.values())))
    keys = jax.vmap(lambda i: jax.random.fold_in(key_simulate, i))(start + jnp.arange(n))
    simulated = simulate_spectra(keys, null.power, theta, m, single=single)
    power = jnp.concatenate([observed[None], simulated])
    fits = fit_spectra(key_starts, null, power, m, settings=settings)
    model = jax.vmap(null.power)(fits.theta)
    left = jax.vmap(lambda power, model: residuals(power, model, m, widths))(power, model)
    settled = fits.converged
    values = {}
    if alternative is not None:
        richer = fit_spectra(key_starts, alternative, power, m, known=fits.theta, settings=settings)
        values["likelihood ratio"] = 2.0 * (richer.log_likelihood - fits.log_likelihood)
        settled = settled & richer.converged
    return values | {
        "highest": left.highest,
        "ratio": left.ratio,
        "index": left.index,
        "highest ratio": (power / model).max(axis=1),
        "sum of squares": left.sum_squares,
        "unconverged": ~settled,
    }


def checked_spectrum(power: ArrayLike, m: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
    """Powers and numbers of averages as arrays of one shape, in the default precision.

    Raises:
        ValueError: If powers or m are not positive and finite, or the shapes do not match.
    """
    dtype = jnp.result_type(float)
    observed, averaged = np.asarray(power, dtype), np.asarray(m, dtype)
    if observed.ndim != 1 or averaged.shape not in ((), observed.shape):
        shapes = f"{observed.shape} and {averaged.shape}"
        raise ValueError(f"power must be (n_freq,) and m one number or (n_freq,), got {shapes}")
    wrong = observed[~(np.isfinite(observed) & (observed > 0))]
    if wrong.size:
        raise ValueError(f"power must be positive and finite, got {wrong[0]:g} among {observed.size}")
    if not (np.isfinite(averaged).all() and (averaged >= 1).all()):
        raise ValueError(f"m must be at least 1, got {averaged.min():g}")
    return observed, np.broadcast_to(averaged, observed.shape)


def stacked_draws(draws: Theta) -> dict[str, Float[Array, " n_draws"]]:
    """Draws as arrays (n_draws,) in the default precision: chains end to end, single numbers as one draw.

    Raises:
        ValueError: If parameters have different numbers of draws.
    """
    arrays = {name: jnp.asarray(value, jnp.result_type(float)).reshape(-1) for name, value in draws.items()}
    sizes = {name: array.size for name, array in arrays.items()}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"draws must have one number of draws for all parameters, got {sizes}")
    return arrays


def _pick(key: Key, draws: Mapping[str, Float[Array, " n_draws"]], n: int) -> dict[str, Float[Array, " n"]]:
    """N of the draws, none twice where there are enough."""
    size = len(next(iter(draws.values())))
    index = jax.random.choice(key, size, (n,), replace=size < n)
    return {name: value[index] for name, value in draws.items()}
