"""The maximum of a posterior or of a likelihood, with errors from its curvature.

What is maximised is a density on the prior's natural coordinates, `log_likelihood + prior.log_prob_natural`, or the
likelihood alone within the prior's support. In physical units a log-uniform prior 1/theta would draw the maximum to a
corner without the component. It is sought in the unconstrained space, so that bounds hold without being checked.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.inference.fits import AGREEMENT, Loss, draw_starts
from eagleray.inference.lbfgs import Minima, minimise_each
from eagleray.inference.log_density import Target
from eagleray.priors import Prior
from eagleray.records import Key, Optimum, Theta

# A parameter is at an end of its support if it is closer to it than this fraction of the range, and a unit step on the
# real line changes the log density by less than half of `_FLAT`.
_AT_BOUND = 1e-2
_FLAT = 0.05
_N_NEWTON = 3
_LONGEST_NEWTON = 0.5


def optimise(
    target: Target,
    key: Key,
    *,
    n_starts: int = 16,
    n_draws: int = 64,
    use_prior: bool = True,
    initial: Theta | None = None,
    tolerance: float | None = None,
    max_evaluations: int = 400,
    n_data: int | None = None,
    saturated: float | None = None,
) -> Optimum:
    """Find the maximum of a posterior, or of a likelihood within the prior's support, with errors from its curvature.

    L-BFGS from many starts, then a few Newton steps from the best of their ends. The steps rely on gradients, whose
    rounding matters less than that of the value: in float32, with 10 000 powers, the maximum is reached within 0.01.

    Args:
        target: The posterior: a prior and a likelihood.
        key: Typed PRNG key for the starts; consumed.
        n_starts: Independent starts.
        n_draws: Draws from the prior behind each start, which is the best of them.
        use_prior: Maximise the posterior density on the prior's natural coordinates, ln theta where a prior is
            log-uniform or log-normal (True), or the likelihood alone (False).
        initial: Parameters to start from besides.
        tolerance: Gain in log density that is not worth another step; by default 1e-5 in float32, 1e-11 in float64.
        max_evaluations: Evaluations of density and gradient after which a start ends unconverged.
        n_data: Number of data points, for the BIC.
        saturated: Ln likelihood of a model that fits every point exactly, for the deviance.

    Returns:
        The maximum. Nothing is raised where it is doubtful: see `converged`, `n_agreeing`, `positive_definite` and
        `at_bound`. Stingray's `OptimizationResults` differs: its AIC and BIC begin with -ln L instead of -2 ln L, its
        ln L of averaged powers is twice the log-likelihood, so that errors are too small by sqrt 2, and its deviance is
        without the saturated model. Differences of deviances agree where m = 1.

    Raises:
        ValueError: If there is no start.
        InputError: If none has a finite density.

    References:
        Akaike (1974), IEEE Trans. Autom. Control 19, 716; Schwarz (1978), Ann. Stat. 6, 461.
    """
    if n_starts < 1 or n_draws < 1:
        raise ValueError(f"n_starts and n_draws must be at least 1, got {n_starts} and {n_draws}")
    loss = Loss(target.log_likelihood, target.prior, use_prior)
    extra = None if initial is None else target.prior.unconstrain({k: jnp.asarray(v) for k, v in initial.items()})
    minima = _search(loss, key, extra, n_starts, n_draws, tolerance, max_evaluations)
    values, converged = -np.asarray(minima.value[0], np.float64), np.asarray(minima.converged[0])
    if not np.isfinite(values).any():
        raise InputError(
            "log_likelihood must be finite somewhere under the prior, got none at any start; change the prior"
        )
    position, gradient, hessian = _newton(loss, minima.position[0, values.argmax()])
    found = (np.asarray(leaf, np.float64) for leaf in _parameters(loss, position))
    theta, jacobian, log_likelihood, log_prior = found
    position = np.asarray(position, np.float64)
    at_bound = _at_bound(target.prior, position, hessian)
    free = np.array([name not in at_bound for name in target.names])
    covariance, positive_definite = _invert(hessian, free)
    known = np.nan_to_num(covariance)
    physical = jacobian @ known @ jacobian.T
    unknown = (jacobian != 0) @ np.isnan(np.diag(covariance))
    physical[unknown], physical[:, unknown] = np.nan, np.nan
    names = target.prior.all_names
    errors = dict(zip(names, np.sqrt(np.diag(physical)).tolist(), strict=True))
    order = [names.index(name) for name in target.names]
    n_free = len(target.names)
    return Optimum(
        theta=dict(zip(names, theta.tolist(), strict=True)),
        position=position,
        log_likelihood=float(log_likelihood),
        log_posterior=float(log_likelihood + log_prior),
        covariance=physical[np.ix_(order, order)],
        position_covariance=covariance,
        standard_error={name: error for name, error in errors.items() if target.prior.family(name) != "fixed"},
        n_free=n_free,
        aic=float(2.0 * n_free - 2.0 * log_likelihood),
        bic=float("nan") if n_data is None else float(n_free * np.log(n_data) - 2.0 * log_likelihood),
        n_starts=values.size,
        n_agreeing=int((values >= values.max() - AGREEMENT).sum()),
        converged=bool(converged[values.argmax()]),
        positive_definite=positive_definite and free.all().item(),
        gradient_norm=float(np.linalg.norm(gradient)),
        at_bound=at_bound,
        names=target.names,
        deviance=float("nan") if saturated is None else float(2.0 * (saturated - log_likelihood)),
        # The part of the gradient that pushes against a bound promises nothing.
        shortfall=float(0.5 * gradient @ known @ gradient) if positive_definite else float("nan"),
        start_values=values,
        start_converged=converged,
        n_evaluations=int(minima.n_evaluations.sum()),
    )


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5, 6))
def _search(
    loss: Loss,
    key: Key,
    extra: Float[Array, " n_free"] | None,
    n_starts: int,
    n_draws: int,
    tolerance: float | None,
    max_evaluations: int,
) -> Minima:
    """L-BFGS from all starts."""
    starts = draw_starts(
        key, loss.log_likelihood, loss.prior, n_starts=n_starts, n_draws=n_draws, use_prior=loss.use_prior
    )
    if extra is not None:
        starts = jnp.concatenate([starts, extra.astype(starts.dtype)[None, None]], axis=1)
    if tolerance is None:
        tolerance = 1e-5 if starts.dtype == jnp.float32 else 1e-11
    # The data are bound: there is no axis of data sets.
    return minimise_each(
        lambda position, _: loss(position), starts, tolerance=tolerance, max_evaluations=max_evaluations
    )


@functools.partial(jax.jit, static_argnums=0)
def _derivatives(
    loss: Loss, position: Float[Array, " n_free"]
) -> tuple[Float[Array, " n_free"], Float[Array, "n_free n_free"]]:
    """Gradient and Hessian of a loss."""
    gradient = jax.grad(loss)
    return gradient(position), jax.jacfwd(gradient)(position)


@functools.partial(jax.jit, static_argnums=0)
def _parameters(
    loss: Loss, position: Float[Array, " n_free"]
) -> tuple[Float[Array, " n_theta"], Float[Array, "n_theta n_free"], Float[Array, ""], Float[Array, ""]]:
    """Parameters in the prior's order, their derivatives with respect to the position, ln likelihood and ln prior."""
    prior = loss.prior

    def vector(position: Float[Array, " n_free"]) -> Float[Array, " n_theta"]:
        theta = prior.constrain(position)
        return jnp.stack([theta[name] for name in prior.all_names])

    theta = prior.constrain(position)
    return vector(position), jax.jacfwd(vector)(position), loss.log_likelihood(theta), prior.log_prob_natural(theta)


def _newton(
    loss: Loss, start: Float[Array, " n_free"]
) -> tuple[Float[Array, " n_free"], NDArray[np.float64], NDArray[np.float64]]:
    """A few Newton steps from where L-BFGS ended: position, gradient and Hessian, the algebra in double precision."""
    position = start
    gradient, hessian = (np.asarray(leaf, np.float64) for leaf in _derivatives(loss, position))
    for _ in range(_N_NEWTON):
        step = np.linalg.lstsq(hessian, gradient)[0] if np.isfinite(hessian).all() else np.full_like(gradient, np.nan)
        # Downhill and short: else the parabola is no guide.
        if not (gradient @ step > 0 and np.abs(step).max() < _LONGEST_NEWTON):
            break
        trial = position - jnp.asarray(step, position.dtype)
        new_gradient, new_hessian = (np.asarray(leaf, np.float64) for leaf in _derivatives(loss, trial))
        if not np.linalg.norm(new_gradient) < np.linalg.norm(gradient):
            break
        position, gradient, hessian = trial, new_gradient, new_hessian
    return position, gradient, hessian


def _at_bound(prior: Prior, position: NDArray[np.float64], hessian: NDArray[np.float64]) -> tuple[str, ...]:
    """Parameters near an end of their support, along which nothing changes any more on the real line."""
    bounded = []
    for index, name in enumerate(prior.names):
        # A logit beyond this is within `_AT_BOUND` of an end; a parameter with one end runs to minus infinity.
        far = -position[index] if not np.isfinite(prior.upper_end(name)) else abs(position[index])
        ends = np.isfinite([prior.lower_end(name), prior.upper_end(name)])
        if ends.any() and far > -np.log(_AT_BOUND) and hessian[index, index] < _FLAT:
            bounded.append(name)
    return tuple(bounded)


def _invert(hessian: NDArray[np.float64], free: NDArray[np.bool_]) -> tuple[NDArray[np.float64], bool]:
    """Inverse of a Hessian over some of its rows, NaN in the others, and whether those are positive definite."""
    covariance = np.full_like(hessian, np.nan)
    inner = hessian[np.ix_(free, free)]
    scale = np.sqrt(np.abs(np.diag(inner)))
    if not (np.isfinite(inner).all() and (scale > 0).all()):
        return covariance, False
    # Scaled to a unit diagonal, so that units do not decide what is singular.
    eigenvalues, vectors = np.linalg.eigh(inner / np.outer(scale, scale))
    if not (eigenvalues > 1e-6).all():
        return covariance, False
    covariance[np.ix_(free, free)] = (vectors / eigenvalues) @ vectors.T / np.outer(scale, scale)
    return covariance, True
