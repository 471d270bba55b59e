"""Gaussian-process likelihoods: `python -m benchmarks.gaussian_process --json FILE [--quick]`.

Irregular times: our state-space filter, tinygp's quasiseparable solver where it is installed, and dense algebra, for
sums of 1 to 20 oscillators. Regular times: Schur's algorithm against dense algebra. For each: milliseconds of CPU for a
value and for value and gradient, seconds of compilation, and the float32 error of the value against float64. All run in
one process with one thread; the data are drawn from the model.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.timing import machine_facts, measure, one_thread_environment

NOISE = 1e-2
# Lengths and oscillators; dense algebra up to a length, tinygp up to lengths times states squared.
IRREGULAR = [(1000, 1), (1000, 5), (1000, 20), (10_000, 1), (10_000, 5), (10_000, 20), (100_000, 1)]
QUICK = [(1000, 1), (1000, 5)]
REGULAR = [256, 512, 1024, 2048]
DENSE_TO = 2048


def oscillators(n: int) -> tuple[Any, Any, float]:
    """Frequencies [Hz] and variances of n oscillators over two decades, and their quality."""
    import numpy as np

    freq = np.geomspace(3e-3, 0.3, n) if n > 1 else np.array([0.03])
    return freq, np.full(n, 1.0 / n), 2.0**-0.5


def make_kernel(parameters: dict[str, Any]) -> Any:
    """Our kernel."""
    from eagleray.likelihoods.gaussian_process.kernels import make_kernel

    return make_kernel(oscillators=(parameters["variance"], parameters["freq"], parameters["quality"]))


def by_state_space(parameters: dict[str, Any], times: Any, values: Any) -> Any:
    """Ln likelihood by our filter."""
    from eagleray.likelihoods.gaussian_process import gaussian_process_log_likelihood

    return gaussian_process_log_likelihood(make_kernel(parameters), times, values, NOISE)


def by_tinygp(parameters: dict[str, Any], times: Any, values: Any) -> Any:
    """Ln likelihood by tinygp."""
    import jax.numpy as jnp
    from tinygp import GaussianProcess, kernels

    parts = [
        kernels.quasisep.SHO(2.0 * jnp.pi * f, q, jnp.sqrt(v))
        for f, q, v in zip(*(list(parameters[name]) for name in ("freq", "quality", "variance")), strict=True)
    ]
    kernel = sum(parts[1:], start=parts[0])
    return GaussianProcess(kernel, times, diag=jnp.full_like(values, NOISE), assume_sorted=True).log_probability(values)


def by_dense_algebra(parameters: dict[str, Any], times: Any, values: Any) -> Any:
    """Ln likelihood by Cholesky."""
    import jax.numpy as jnp
    from jax.scipy.stats import multivariate_normal

    n = times.shape[0]
    lags = jnp.abs(times[:, None] - times).reshape(-1)
    matrix = make_kernel(parameters).covariance(lags).reshape(n, n) + NOISE * jnp.eye(n, dtype=values.dtype)
    return multivariate_normal.logpdf(values, jnp.zeros_like(values), matrix)


def compiled(function: Callable, *args: Any) -> tuple[Callable, float]:
    """Compile for these arguments; also the CPU seconds that took."""
    import jax

    start = time.process_time()
    found = jax.jit(function).lower(*args).compile()
    return found, time.process_time() - start


def times_of(function: Callable, args: tuple, repeats: int) -> dict[str, float]:
    """CPU time of a value and of value and gradient, of compiling each, and the value."""
    import jax

    run, compile_value = compiled(function, *args)
    both, compile_gradient = compiled(jax.value_and_grad(function), *args)
    return {
        "value_ms": 1e3 * measure(lambda: jax.block_until_ready(run(*args)), repeats=repeats)["cpu"],
        "gradient_ms": 1e3 * measure(lambda: jax.block_until_ready(both(*args)), repeats=repeats)["cpu"],
        "compile_value_s": compile_value,
        "compile_gradient_s": compile_gradient,
        "value": float(run(*args)),
    }


def irregular(n: int, n_oscillators: int, repeats: int) -> dict[str, Any]:
    """One length and sum of oscillators."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from eagleray.likelihoods.gaussian_process import draw

    freq, variance, quality = oscillators(n_oscillators)
    host = {"freq": freq, "variance": variance, "quality": np.full(n_oscillators, quality)}
    # Multiples of 2^-6 s, which float32 holds exactly.
    times = np.cumsum(1 + np.random.default_rng(0).poisson(63.0, n)) / 64.0
    with jax.enable_x64(True):
        parameters = {name: jnp.asarray(x) for name, x in host.items()}
        values = np.asarray(jax.jit(lambda p: draw(jax.random.key(0), make_kernel(p), times.copy(), NOISE))(parameters))
        exact = float(jax.jit(by_state_space)(parameters, times.copy(), values))
    parameters = {name: jnp.asarray(x, jnp.float32) for name, x in host.items()}
    args = (parameters, jnp.asarray(times, jnp.float32), jnp.asarray(values, jnp.float32))
    methods = {"state_space": by_state_space}
    if has_tinygp() and n * n_oscillators <= 100_000:
        methods["tinygp"] = by_tinygp
    if n <= DENSE_TO:
        methods["dense"] = by_dense_algebra
    found: dict[str, Any] = {"n": n, "n_states": 2 * n_oscillators}
    for name, function in methods.items():
        found[name] = times_of(function, args, repeats)
        found[name]["float32_error"] = abs(found[name].pop("value") - exact)
    return found


def regular(n: int, repeats: int) -> dict[str, Any]:
    """One length of a regular series of leaky red noise."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from eagleray.likelihoods.gaussian_process import autocovariance, stationary_log_likelihood

    def covariance(slope: Any) -> Any:
        return autocovariance(lambda f: 10.0 / (1.0 + jnp.exp(slope * jnp.log(f / 3e-3))), n, 1.0)

    def by_schur(slope: Any, values: Any) -> Any:
        return stationary_log_likelihood(covariance(slope), values, NOISE)

    def by_cholesky(slope: Any, values: Any) -> Any:
        return stationary_log_likelihood(covariance(slope), values, jnp.full_like(values, NOISE))

    with jax.enable_x64(True):
        first = np.asarray(jax.jit(covariance)(jnp.asarray(2.5)))
        matrix = first[np.abs(np.subtract.outer(np.arange(n), np.arange(n)))] + NOISE * np.eye(n)
        values = np.linalg.cholesky(matrix) @ np.random.default_rng(0).normal(size=n)
        exact = float(jax.jit(by_cholesky)(jnp.asarray(2.5), values.copy()))
    args = (jnp.float32(2.5), jnp.asarray(values, jnp.float32))
    found: dict[str, Any] = {"n": n}
    for name, function in (("schur", by_schur), ("dense", by_cholesky)):
        found[name] = times_of(function, args, repeats)
        found[name]["float32_error"] = abs(found[name].pop("value") - exact)
    return found


def has_tinygp() -> bool:
    """Whether tinygp is installed."""
    try:
        import tinygp  # noqa: F401
    except ImportError:
        return False
    return True


def table(found: dict[str, Any]) -> str:
    """What was found, a line each."""
    lines = ["n       states method       value ms  gradient ms  compile s (gradient)  float32 error"]
    for entry in [*found["irregular"], *found["regular"]]:
        for name, one in entry.items():
            if isinstance(one, dict):
                lines.append(
                    f"{entry['n']:<7} {entry.get('n_states', '-')!s:<6} {name:<12} {one['value_ms']:8.2f}  "
                    f"{one['gradient_ms']:11.2f}  {one['compile_gradient_s']:20.1f}  {one['float32_error']:13.1e}"
                )
    return "\n".join(lines)


def main() -> None:
    """Parse, run in an environment of one thread, write, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gaussian_process", description=__doc__)
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    parser.add_argument("--quick", action="store_true", help="two lengths and few repeats")
    parser.add_argument(
        "--here", action="store_true", help="run in this process; its environment says how many threads"
    )
    arguments = parser.parse_args()
    if not arguments.here:
        command = [sys.executable, "-m", "benchmarks.gaussian_process", *sys.argv[1:], "--here"]
        sys.exit(
            subprocess.run(command, env=one_thread_environment() | {"JAX_PLATFORMS": "cpu"}, check=False).returncode
        )
    repeats = 3 if arguments.quick else 5
    found: dict[str, Any] = {"machine": machine_facts(), "noise_variance": NOISE}
    found["irregular"] = [irregular(*size, repeats) for size in (QUICK if arguments.quick else IRREGULAR)]
    found["regular"] = [regular(n, repeats) for n in (REGULAR[:1] if arguments.quick else REGULAR)]
    arguments.json.write_text(json.dumps(found, indent=2))
    print(table(found))


if __name__ == "__main__":
    main()
