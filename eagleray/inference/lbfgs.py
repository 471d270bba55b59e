"""Many small minimisations at once: L-BFGS on a fixed number of lanes, each of which takes the next start when done.

A step of the loop is one evaluation of the objective and its gradient in every lane. A line search is a state of its
lane, not a loop of its own, and a lane whose minimisation is over goes on with the next: no lane waits for the slowest.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

Objective = Callable[..., Float[Array, ""]]
"""`objective(position, data, *shared) -> scalar`, differentiable in the position; +inf or NaN where it must not go."""

_SUFFICIENT = 1e-4  # least decrease of an accepted step, as a fraction of that which the slope promises
_CURVATURE = 0.9  # an accepted step leaves less than this fraction of the slope
_MAX_TRIALS = 12  # evaluations in one line search
_MAX_STEP = 4.0  # largest change of a coordinate that a direction may propose; on the logit scale 4 is most of a range
_NOISE = 8  # rounding error of a value, in units of its last place


class Minima(NamedTuple):
    """Where minimisations ended.

    Attributes:
        position: (n_data, n_starts, n_theta) best positions.
        value: (n_data, n_starts) objective there; inf if the start itself had no finite value.
        gradient: (n_data, n_starts, n_theta) its gradient.
        decrease: (n_data, n_starts) further decrease that the quasi-Newton step promised at the end.
        converged: (n_data, n_starts) whether that is below the tolerance, or lost in the rounding of the value.
        n_evaluations: (n_data, n_starts) evaluations of the objective and its gradient.
    """

    position: Float[Array, "n_data n_starts n_theta"]
    value: Float[Array, "n_data n_starts"]
    gradient: Float[Array, "n_data n_starts n_theta"]
    decrease: Float[Array, "n_data n_starts"]
    converged: Bool[Array, "n_data n_starts"]
    n_evaluations: Int[Array, "n_data n_starts"]


class _Lane(NamedTuple):
    """One minimisation under way: the last accepted position, and the line search that leads on from it."""

    job: Int[Array, ""]
    position: Float[Array, " n_theta"]
    value: Float[Array, ""]
    gradient: Float[Array, " n_theta"]
    decrease: Float[Array, ""]
    direction: Float[Array, " n_theta"]
    step: Float[Array, ""]
    low: Float[Array, ""]  # longest step known to be too short
    high: Float[Array, ""]  # shortest step known to be too long
    memory: Any
    n_trials: Int[Array, ""]
    n_evaluations: Int[Array, ""]


def minimise_each(
    objective: Objective,
    starts: Float[Array, "n_data n_starts n_theta"],
    data: Any = (),
    shared: tuple[Any, ...] = (),
    *,
    tolerance: float,
    max_evaluations: int = 300,
    memory_size: int = 8,
    n_lanes: int = 32,
) -> Minima:
    """Minimise an objective for each data set, from each of its starts.

    Quasi-Newton directions come from Optax's `scale_by_lbfgs`; the line search asks for the weak Wolfe conditions by
    bisection, and takes slopes instead of values where the differences of values drown in rounding. A minimisation
    ends when the quasi-Newton step promises less than `tolerance` after a step that gained no more than that.

    Args:
        objective: `objective(position, data, *shared) -> scalar`.
        starts: (n_data, n_starts, n_theta) positions to start from.
        data: Pytree of arrays with leading axis n_data; `()` where the objective needs none.
        shared: What all data sets have in common, handed on as it is.
        tolerance: Decrease of the objective that is not worth another step.
        max_evaluations: Evaluations after which a minimisation ends unconverged.
        memory_size: Steps that L-BFGS remembers.
        n_lanes: Minimisations under way at once: as many as keep their data in the processor's cache.

    References:
        Nocedal & Wright, Numerical Optimization, chapters 3 and 7; Lewis & Overton (2013), Math. Program. 141, 135, for
        the bisection; Hager & Zhang (2005), SIAM J. Optim. 16, 170, for the conditions on slopes alone.
    """
    n_data, n_starts, n_theta = starts.shape
    n_jobs = n_data * n_starts
    flat = starts.reshape(n_jobs, n_theta)
    lbfgs = optax.scale_by_lbfgs(memory_size=memory_size)

    def advance(lane: _Lane, datum: Any) -> tuple[_Lane, Any, Any]:
        return _advance(lane, lambda position: objective(position, datum, *shared), lbfgs, tolerance)

    def body(carry: tuple[_Lane, Any, Minima]) -> tuple[_Lane, Any, Minima]:
        lanes, next_job, minima = carry
        active = lanes.job < n_jobs
        index = jnp.minimum(lanes.job, n_jobs - 1) // n_starts
        lanes, ended, converged = jax.vmap(advance)(lanes, jax.tree.map(lambda leaf: leaf[index], data))
        done = active & (ended | (lanes.n_evaluations >= max_evaluations))
        results = (lanes.position, lanes.value, lanes.gradient, lanes.decrease, converged, lanes.n_evaluations)
        here = jnp.where(done, lanes.job, n_jobs)
        minima = Minima(*(old.at[here].set(new, mode="drop") for old, new in zip(minima, results, strict=True)))
        waiting = next_job + jnp.cumsum(done, dtype=jnp.int32) - 1
        job = jnp.where(done, jnp.minimum(waiting, n_jobs), lanes.job)
        # Zero evaluations is what marks a new start; direction, memory and trials of the old one are then ignored.
        lanes = lanes._replace(
            job=job,
            position=jnp.where(done[:, None], flat[jnp.minimum(job, n_jobs - 1)], lanes.position),
            value=jnp.where(done, jnp.inf, lanes.value),
            decrease=jnp.where(done, jnp.inf, lanes.decrease),
            step=jnp.where(done, 0.0, lanes.step),
            n_evaluations=jnp.where(done, 0, lanes.n_evaluations),
        )
        return lanes, next_job + done.sum(dtype=jnp.int32), minima

    n_lanes = min(n_lanes, n_jobs)
    lanes = jax.vmap(lambda job: _new_lane(job, flat[job], lbfgs))(jnp.arange(n_lanes, dtype=jnp.int32))
    number, vector = flat[:, 0], flat
    minima = Minima(
        vector,
        jnp.full_like(number, jnp.inf),
        jnp.full_like(vector, jnp.nan),
        jnp.full_like(number, jnp.nan),
        jnp.zeros(n_jobs, bool),
        jnp.zeros(n_jobs, jnp.int32),
    )
    carry = (lanes, jnp.asarray(n_lanes, jnp.int32), minima)
    _, _, minima = jax.lax.while_loop(lambda carry: (carry[0].job < n_jobs).any(), body, carry)
    return Minima(*(leaf.reshape(n_data, n_starts, *leaf.shape[1:]) for leaf in minima))


def _new_lane(job: Int[Array, ""], position: Float[Array, " n_theta"], lbfgs: optax.GradientTransformation) -> _Lane:
    """A lane at a start that has not been evaluated."""
    zero, zeros, count = jnp.zeros_like(position[0]), jnp.zeros_like(position), jnp.zeros((), jnp.int32)
    inf = jnp.full_like(zero, jnp.inf)
    return _Lane(job, position, inf, zeros, inf, zeros, zero, zero, inf, lbfgs.init(position), count, count)


def _advance(
    lane: _Lane,
    objective: Callable[[Float[Array, " n_theta"]], Float[Array, ""]],
    lbfgs: optax.GradientTransformation,
    tolerance: float,
) -> tuple[_Lane, Bool[Array, ""], Bool[Array, ""]]:
    """One evaluation of one lane: the lane after it, whether its minimisation has ended, and whether it converged."""
    trial = lane.position + lane.step * lane.direction
    value, gradient = jax.value_and_grad(objective)(trial)
    first = lane.n_evaluations == 0
    finite = jnp.isfinite(value) & jnp.isfinite(gradient).all()
    slope, trial_slope = lane.gradient @ lane.direction, gradient @ lane.direction
    noise = _NOISE * jnp.finfo(value.dtype).eps * jnp.abs(value)
    decreased = value <= lane.value + _SUFFICIENT * lane.step * slope
    # Where the change of the value is rounding, the slope says whether the trial lies below.
    level = (value <= lane.value + noise) & (trial_slope <= (2.0 * _SUFFICIENT - 1.0) * slope)
    sufficient = finite & (decreased | level)
    patience_ends = lane.n_trials + 1 >= _MAX_TRIALS
    accepted = finite & (first | (sufficient & ((trial_slope >= _CURVATURE * slope) | patience_ends)))
    abandoned = ~accepted & (first | patience_ends)

    curved = (gradient - lane.gradient) @ (trial - lane.position) > 0
    # A start has no past, and a step against the curvature teaches nothing: both leave the memory empty.
    memory = jax.tree.map(lambda old, new: jnp.where(first | ~curved, new, old), lane.memory, lbfgs.init(trial))
    update: Any  # Optax speaks of trees of any kind
    update, memory = lbfgs.update(gradient, memory, trial)
    ascent = update * jnp.minimum(1.0, _MAX_STEP / jnp.abs(update).max())
    decrease = 0.5 * (gradient @ ascent)
    settled = (decrease <= tolerance) & (lane.value - value <= jnp.maximum(tolerance, noise)) & ~first

    low = jnp.where(sufficient, lane.step, lane.low)
    high = jnp.where(sufficient, lane.high, lane.step)
    one, zero = jnp.ones_like(value), jnp.zeros_like(value)
    taken = lane._replace(
        position=trial,
        value=value,
        gradient=gradient,
        decrease=decrease,
        direction=-ascent,
        step=one,
        low=zero,
        high=one * jnp.inf,
        memory=memory,
        n_trials=jnp.zeros_like(lane.n_trials),
    )
    refused = lane._replace(
        step=_next_step(lane.step, low, high, slope, trial_slope, finite),
        low=low,
        high=high,
        n_trials=lane.n_trials + 1,
    )
    lane = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), taken, refused)
    lane = lane._replace(n_evaluations=lane.n_evaluations + 1)
    converged = jnp.where(accepted, settled, abandoned & (lane.decrease <= jnp.maximum(tolerance, noise)))
    return lane, abandoned | (accepted & settled), converged


def _next_step(
    step: Float[Array, ""],
    low: Float[Array, ""],
    high: Float[Array, ""],
    slope: Float[Array, ""],
    trial_slope: Float[Array, ""],
    finite: Bool[Array, ""],
) -> Float[Array, ""]:
    """The next step of a line search: longer while none was too long, else inside the bracket."""
    width = high - low
    rising = finite & (trial_slope > 0)
    # Along a line through two slopes of opposite sign the slope vanishes here; kept off both ends of the bracket.
    secant = step * slope / jnp.where(rising, slope - trial_slope, 1.0)
    inside = jnp.clip(secant, low + 0.1 * width, high - 0.1 * width)
    bracketed = jnp.where(rising, inside, jnp.where(finite, low + 0.5 * width, low + 0.1 * width))
    return jnp.where(jnp.isfinite(high), bracketed, 3.0 * step)
