"""Derivatives with JAX: forward and reverse mode, compiled or not, one parameter set or many; finite differences."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.autodiff.finite import central_gradient, central_hessian, gradient_step, hessian_step
from benchmarks.autodiff.methods import Method, Options, Ready
from benchmarks.autodiff.problem import Problem, log_likelihood

LARGEST_ARRAY = 2**28  # bytes that one intermediate of a vmapped Hessian may take


def function(theta: Any, freq: Any, log_freq: Any, power: Any) -> Any:
    """Ln likelihood."""
    import jax.numpy as jnp

    return log_likelihood(jnp, theta, freq, log_freq, power)


def on_device(problem: Problem, dtype: str) -> list[Any]:
    """Theta and data as JAX arrays of this precision."""
    import jax.numpy as jnp

    return [jnp.asarray(array, dtype) for array in problem.arrays(dtype)]


def _derivative(name: str) -> Callable:
    """The transformation of `function` with this name."""
    import jax

    return {
        "value": lambda f: f,
        "reverse": jax.grad,
        "forward": jax.jacfwd,
        "forward over reverse": lambda f: jax.jacfwd(jax.grad(f)),
        "reverse over reverse": lambda f: jax.jacrev(jax.grad(f)),
        "forward over forward": lambda f: jax.jacfwd(jax.jacfwd(f)),
        "one column at a time": _by_columns,
    }[name](function)


def _by_columns(f: Callable) -> Callable:
    """Forward over reverse, one column of the Hessian after the other: small arrays that stay in the cache."""
    import jax

    def hessian(theta: Any, *data: Any) -> Any:
        gradient = lambda point: jax.grad(f)(point, *data)  # noqa: E731
        column = lambda direction: jax.jvp(gradient, (theta,), (direction,))[1]  # noqa: E731
        return jax.lax.map(column, jax.numpy.eye(theta.size, dtype=theta.dtype))

    return hessian


def _build(name: str, compiled: bool, problem: Problem, dtype: str, options: Options) -> Ready:
    """One parameter set."""
    import jax

    jax.clear_caches()  # so that the first call compiles
    derivative = _derivative(name)
    if compiled:
        derivative = jax.jit(derivative)
    arguments = on_device(problem, dtype)
    return Ready(lambda: jax.block_until_ready(derivative(*arguments)))


def _build_batch(name: str, problem: Problem, dtype: str, options: Options) -> Ready:
    """Many parameter sets in one compiled call; of Hessians, fewer where they would fill the memory."""
    import jax
    import jax.numpy as jnp

    jax.clear_caches()
    n_sets = options.batch
    if " over " in name:
        n = problem.theta.size
        per_set = np.dtype(dtype).itemsize * n * max(1, n // 3 - 1) * problem.freq.size
        n_sets = max(1, min(n_sets, LARGEST_ARRAY // per_set))
    derivative = jax.jit(jax.vmap(_derivative(name), in_axes=(0, None, None, None)))
    _, *data = on_device(problem, dtype)
    sets = jnp.asarray(problem.batch(n_sets, dtype))
    # A batch of one is still a batch of derivatives: its only one is taken out.
    run = lambda: jax.block_until_ready(derivative(sets, *data))  # noqa: E731
    return Ready(run, n_sets) if n_sets > 1 else Ready(lambda: run()[0])


def _finite(quantity: str, problem: Problem, dtype: str, options: Options) -> Ready:
    """Central differences of the compiled function, one call a point."""
    import jax

    jax.clear_caches()
    compiled = jax.jit(function)
    theta, *data = problem.arrays(dtype)
    _, *on_it = on_device(problem, dtype)
    value = lambda point: compiled(point, *on_it)  # noqa: E731
    if quantity == "gradient":
        return Ready(lambda: central_gradient(value, theta, gradient_step(dtype)))
    return Ready(lambda: central_hessian(value, theta, hessian_step(dtype)))


def _finite_batch(problem: Problem, dtype: str, options: Options) -> Ready:
    """Central differences, all points in one compiled call."""
    import jax
    import jax.numpy as jnp

    jax.clear_caches()
    theta, *data = on_device(problem, dtype)
    step = jnp.asarray(gradient_step(dtype), dtype)

    @jax.jit
    def gradient(theta: Any, *data: Any) -> Any:
        steps = step * jnp.eye(theta.size, dtype=theta.dtype)
        up, down = theta + steps, theta - steps
        values = jax.vmap(lambda point: function(point, *data))(jnp.concatenate([up, down]))
        return (values[: theta.size] - values[theta.size :]) / jnp.diag(up - down)

    return Ready(lambda: jax.block_until_ready(gradient(theta, *data)))


def _one(label: str, name: str, compiled: bool) -> Method:
    """Entry for one parameter set."""
    build = functools.partial(_build, name, compiled)
    # Dispatch, which is what calls that are not compiled spend, does not know the precision.
    return Method(label, "jax", build) if compiled else Method(label, "jax", build, heavy=True, dtypes=("float64",))


def _many(label: str, name: str) -> Method:
    """Entry for a batch of them."""
    return Method(label, "jax", functools.partial(_build_batch, name))


# Measured once more in a process whose calls are synchronous, under these names with "_sync".
SYNCHRONOUS = (
    "jax_jit",
    "jax_reverse_jit",
    "jax_forward_jit",
    "jax_finite",
    "jax_forward_reverse_jit",
    "jax_columns_jit",
)

METHODS = {
    "value": {
        "jax_jit": _one("JAX, jit", "value", True),
        "jax": _one("JAX, not compiled", "value", False),
        "jax_vmap": _many("JAX, jit, vmap", "value"),
    },
    "gradient": {
        "jax_reverse_jit": _one("JAX reverse, jit", "reverse", True),
        "jax_forward_jit": _one("JAX forward, jit", "forward", True),
        "jax_reverse_vmap": _many("JAX reverse, jit, vmap", "reverse"),
        "jax_forward_vmap": _many("JAX forward, jit, vmap", "forward"),
        "jax_reverse": _one("JAX reverse, not compiled", "reverse", False),
        "jax_forward": _one("JAX forward, not compiled", "forward", False),
        "jax_finite": Method("finite differences, JAX jit", "jax", functools.partial(_finite, "gradient")),
        "jax_finite_vmap": Method("finite differences, JAX jit, vmap", "jax", _finite_batch),
    },
    "hessian": {
        "jax_forward_reverse_jit": _one("JAX forward over reverse, jit", "forward over reverse", True),
        "jax_columns_jit": _one("JAX forward over reverse, jit, column by column", "one column at a time", True),
        "jax_reverse_reverse_jit": _one("JAX reverse over reverse, jit", "reverse over reverse", True),
        "jax_forward_forward_jit": _one("JAX forward over forward, jit", "forward over forward", True),
        "jax_forward_reverse_vmap": _many("JAX forward over reverse, jit, vmap", "forward over reverse"),
        "jax_forward_reverse": _one("JAX forward over reverse, not compiled", "forward over reverse", False),
        "jax_reverse_reverse": _one("JAX reverse over reverse, not compiled", "reverse over reverse", False),
        "jax_forward_forward": _one("JAX forward over forward, not compiled", "forward over forward", False),
        "jax_finite": Method("finite differences, JAX jit", "jax", functools.partial(_finite, "hessian")),
    },
}
