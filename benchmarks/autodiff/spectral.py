"""Measures the derivatives of a spectral likelihood: time, preparation and error of every way to them."""

import dataclasses
import functools
import importlib.metadata
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.autodiff.finite import central_gradient, central_hessian, one_sided_gradient
from benchmarks.autodiff.methods import DTYPES, Method, Options, Unavailable, all_methods, import_or_say
from benchmarks.autodiff.problem import Problem, log_likelihood, make_problem
from benchmarks.autodiff.reference import Reference
from benchmarks.timing import measure

PACKAGES = ("numpy", "jax", "sympy", "autograd", "torch", "mpmath", "optax")
LONG = 0.2, 1.0  # seconds: what lasts longer is measured twice, or once

Entry = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured.

    Attributes:
        n_parameters: Sizes of the likelihood.
        heavy_at: Those of them at which ways that take long to prepare are tried in float64.
        heavy_single_at: The same in float32.
        n_powers: Powers of the spectrum.
        lengths: Numbers of powers in the comparison of small and large problems.
        step_parameters: Parameters of the comparison of steps.
        repeats: Measurements, of which the median is taken.
        at_least: Seconds of one.
        packages: Those that may be used.
        only: Names of ways, where not all are wanted.
        options: What single ways need to know.
    """

    n_parameters: tuple[int, ...] = (3, 6, 15, 30, 60)
    heavy_at: tuple[int, ...] = (3, 15, 60)
    heavy_single_at: tuple[int, ...] = (15,)
    n_powers: int = 1024
    lengths: tuple[int, ...] = tuple(4**k for k in range(2, 9))
    step_parameters: int = 15
    repeats: int = 5
    at_least: float = 0.04
    packages: tuple[str, ...] = PACKAGES
    only: tuple[str, ...] | None = None
    options: Options = Options()

    def tries(self, name: str, method: Method, n_parameters: int, dtype: str) -> bool:
        """Whether a way is tried for this many parameters in this precision."""
        if dtype not in method.dtypes or (self.only is not None and name not in self.only):
            return False
        if not method.heavy:
            return True
        return n_parameters in (self.heavy_at if dtype == "float64" else self.heavy_single_at)


def load_packages(settings: Settings) -> dict[str, Entry]:
    """Import everything beforehand, so that no entry pays for it: versions, seconds, or the reason why not."""
    found = {}
    for name in PACKAGES:
        start = time.perf_counter()
        try:
            if name not in settings.packages:
                raise Unavailable("left out of this run")
            import_or_say(name)
        except Unavailable as error:
            found[name] = {"version": None, "reason": str(error)}
        else:
            found[name] = {"version": importlib.metadata.version(name), "import_s": time.perf_counter() - start}
    return found


def missing(reason: str) -> Entry:
    """Entry of what was not measured."""
    return {"cpu_s": None, "reason": reason}


def measured(build: Callable[[], Any], settings: Settings, error_of: Callable[[Any], float | None]) -> Entry:
    """Time one way: preparation, then warm calls. What goes wrong in it becomes the reason why there is no number."""
    try:
        start = time.perf_counter()
        ready = build()
        found = ready.result()
        prepare = time.perf_counter() - start
        times = seconds(ready.run, settings)
    except Unavailable as error:
        return missing(str(error))
    except Exception as error:  # another package's failure is a result, not a reason to lose the others
        return missing(f"{type(error).__name__}: {error}")
    return {
        "cpu_s": times["cpu"] / ready.n_sets,
        "cpu_min_s": times["cpu_min"] / ready.n_sets,
        "wall_s": times["wall"] / ready.n_sets,
        "prepare_s": max(0.0, prepare - times["wall"]),
        "n_sets": ready.n_sets,
        "error": error_of(found),
    } | ready.facts


def seconds(run: Callable[[], Any], settings: Settings) -> dict[str, float]:
    """Median seconds of a warm function, with fewer repeats the longer it takes."""
    start, start_cpu = time.perf_counter(), time.process_time()
    run()
    wall, cpu = time.perf_counter() - start, time.process_time() - start_cpu
    if wall > LONG[1]:
        return {"cpu": cpu, "cpu_min": cpu, "wall": wall}
    repeats = settings.repeats if wall < LONG[0] else min(2, settings.repeats)
    return measure(run, repeats=repeats, at_least=settings.at_least)


def derivatives(settings: Settings, packages: dict[str, Entry], say: Callable[[str], None]) -> dict[str, Any]:
    """Entries by number of parameters, precision, quantity and way."""
    found: dict[str, Any] = {}
    for n in settings.n_parameters:
        problem = make_problem(n, settings.n_powers)
        reference = Reference(problem) if packages["mpmath"]["version"] else None
        here: dict[str, Any] = {"reference_check": reference.check if reference else None}
        for dtype in DTYPES:
            here[dtype] = {}
            for quantity, methods in all_methods().items():
                error_of = functools.partial(_error, reference, quantity)
                here[dtype][quantity] = {
                    name: _entry(method, problem, dtype, settings, packages, error_of)
                    for name, method in methods.items()
                    if settings.tries(name, method, n, dtype)
                }
        found[str(n)] = here
        say(f"{n} parameters")
    return found


def _error(reference: Reference | None, quantity: str, found: Any) -> float | None:
    """Error of a derivative; of values there is none."""
    return None if reference is None or quantity == "value" else reference.error(found, quantity)


def _entry(
    method: Method,
    problem: Problem,
    dtype: str,
    settings: Settings,
    packages: dict[str, Entry],
    error_of: Callable[[Any], float | None],
) -> Entry:
    """One number, or the reason why there is none."""
    if reason := packages[method.package].get("reason"):
        return missing(reason)
    return measured(functools.partial(method.build, problem, dtype, settings.options), settings, error_of)


def by_length(settings: Settings, packages: dict[str, Entry]) -> dict[str, Any]:
    """CPU seconds of the gradient by six parameters against the number of powers, in float64."""
    ways = ("jax_reverse_jit", "numpy_by_hand", "sympy", "autograd", "torch", "numpy_finite")
    ways = tuple(name for name in ways if settings.only is None or name in settings.only)
    methods = all_methods()["gradient"]
    seconds: dict[str, list[float | None]] = {name: [] for name in ways}
    for length in settings.lengths:
        problem = make_problem(6, length)
        for name in ways:
            entry = _entry(methods[name], problem, "float64", settings, packages, lambda _: None)
            seconds[name].append(entry["cpu_s"])
    return {"n_parameters": 6, "n_powers": list(settings.lengths), "cpu_s": seconds}


def by_step(settings: Settings, packages: dict[str, Entry]) -> dict[str, Any] | Entry:
    """Errors of finite differences against their step."""
    if reason := packages["mpmath"].get("reason"):
        return missing(reason)
    problem = make_problem(settings.step_parameters, settings.n_powers)
    reference = Reference(problem)
    steps = [10.0 ** (-k / 2) for k in range(1, 27)]
    rules = {
        "central": (central_gradient, "gradient"),
        "one_sided": (one_sided_gradient, "gradient"),
        "second": (central_hessian, "hessian"),
    }
    errors: dict[str, Any] = {}
    for dtype in DTYPES:
        theta, *data = problem.arrays(dtype)
        functions: dict[str, Callable] = {"numpy": lambda point, data=data: log_likelihood(np, point, *data)}
        if packages["jax"]["version"]:
            functions["jax_jit"] = _compiled(data)
        for package, function in functions.items():
            for rule, (differences, quantity) in rules.items():
                if rule == "second" and package != "numpy":
                    continue
                with np.errstate(all="ignore"):  # a step below the resolution of theta divides by zero
                    found = [differences(function, theta, step) for step in steps]
                each = [reference.error(one, quantity) if np.all(np.isfinite(one)) else None for one in found]
                errors[f"{package}_{rule}_{dtype}"] = each
    return {"n_parameters": settings.step_parameters, "steps": steps, "errors": errors}


def _compiled(data: list[np.ndarray]) -> Callable[[np.ndarray], Any]:
    """The likelihood of these data, compiled by JAX."""
    import jax

    from benchmarks.autodiff.with_jax import function

    run = jax.jit(function)
    on_device = [jax.numpy.asarray(array) for array in data]
    return lambda point: run(point, *on_device)


def floor(settings: Settings, packages: dict[str, Entry]) -> dict[str, Entry]:
    """Seconds of the gradient of a sum of three squares: what a call costs when there is nothing to compute."""
    from benchmarks.autodiff.methods import Ready

    point = np.ones(3)

    def with_jax(compile_it: bool) -> Ready:
        import jax

        gradient = jax.grad(lambda x: (x * x).sum())
        gradient = jax.jit(gradient) if compile_it else gradient
        there = jax.numpy.asarray(point)
        return Ready(lambda: jax.block_until_ready(gradient(there)))

    def with_autograd() -> Ready:
        gradient = import_or_say("autograd").grad(lambda x: (x * x).sum())
        return Ready(lambda: gradient(point))

    def with_torch() -> Ready:
        torch = import_or_say("torch")

        def run() -> Any:
            x = torch.from_numpy(point).requires_grad_()
            return torch.autograd.grad((x * x).sum(), x)[0]

        return Ready(run)

    ways = {
        "numpy_by_hand": ("numpy", lambda: Ready(lambda: 2.0 * point)),
        "jax_reverse_jit": ("jax", lambda: with_jax(True)),
        "jax_reverse": ("jax", lambda: with_jax(False)),
        "autograd": ("autograd", with_autograd),
        "torch": ("torch", with_torch),
    }
    return {
        name: missing(packages[package]["reason"])
        if packages[package].get("reason")
        else measured(build, settings, lambda _: None)
        for name, (package, build) in ways.items()
    }
