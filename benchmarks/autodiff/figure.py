"""Figure of a result: times against parameters and powers, errors against the step."""

from pathlib import Path
from typing import Any

from benchmarks.autodiff.reading import Found, get

# Okabe & Ito's palette: told apart by colour-blind readers too.
BLACK, ORANGE, SKY, GREEN, BLUE, RED, PURPLE = "#000000 #e69f00 #56b4e9 #009e73 #0072b2 #d55e00 #cc79a7".split()


def draw_figure(found: Found, path: Path) -> None:
    """Times against parameters, errors against the step, times against powers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with plt.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
        _draw_times(axes[0, 0], found, "gradient")
        _draw_times(axes[0, 1], found, "hessian")
        _draw_steps(axes[1, 0], found)
        _draw_lengths(axes[1, 1], found)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130)
        plt.close(figure)


STYLES = {
    "gradient": {
        "numpy_finite": ("finite differences, NumPy", RED, "v", "-"),
        "jax_finite": ("finite differences, JAX jit", ORANGE, "^", "-"),
        "sympy": ("SymPy", PURPLE, "D", "-"),
        "autograd": ("Autograd", GREEN, "s", "-"),
        "torch": ("PyTorch", SKY, "P", "-"),
        "torch_compile": ("PyTorch, compiled", SKY, "P", ":"),
        "jax_reverse": ("JAX reverse, not compiled", BLUE, "o", ":"),
        "jax_forward_jit": ("JAX forward, jit", BLUE, "o", "--"),
        "jax_reverse_jit": ("JAX reverse, jit", BLUE, "o", "-"),
        "jax_reverse_jit_sync": ("JAX reverse, jit, synchronous", BLUE, "*", "-."),
        "numpy_by_hand": ("NumPy by hand", BLACK, "x", "-"),
    },
    "hessian": {
        "numpy_finite": ("finite differences, NumPy", RED, "v", "-"),
        "jax_finite": ("finite differences, JAX jit", ORANGE, "^", "-"),
        "sympy": ("SymPy", PURPLE, "D", "-"),
        "autograd": ("Autograd", GREEN, "s", "-"),
        "torch": ("PyTorch", SKY, "P", "-"),
        "torch_compile": ("PyTorch, compiled", SKY, "P", ":"),
        "jax_forward_forward_jit": ("JAX forward over forward, jit", BLUE, "o", "--"),
        "jax_forward_reverse_jit": ("JAX forward over reverse, jit", BLUE, "o", "-"),
        "jax_columns_jit": ("the same, column by column", BLUE, "*", "-."),
        "numpy_by_hand": ("NumPy by hand", BLACK, "x", "-"),
    },
}


def _draw_times(axes: Any, found: Found, quantity: str) -> None:
    """CPU seconds against the number of parameters."""
    for name, (label, colour, marker, line) in STYLES[quantity].items():
        points = [
            (int(n), cpu)
            for n, here in found["spectral"].items()
            if (cpu := get(here, "float64", quantity, name, "cpu_s")) is not None
        ]
        if points:
            axes.loglog(*zip(*points, strict=True), color=colour, marker=marker, ls=line, ms=5, lw=1.3, label=label)
    ticks = [int(n) for n in found["spectral"]]
    axes.set_xticks(ticks, [str(n) for n in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set(xlabel="number of parameters", ylabel="CPU time of a call [s]")
    axes.set_title({"gradient": "Gradient", "hessian": "Hessian"}[quantity] + ", float64, one thread", loc="left")
    axes.set_ylim(top=axes.get_ylim()[1] * 40)
    axes.legend(frameon=False, fontsize=7.5, ncols=2, loc="upper left")


def _draw_steps(axes: Any, found: Found) -> None:
    """Errors against the step: the V of truncation and rounding, and automatic differentiation's level."""
    curves = {
        "numpy_one_sided_float64": ("gradient, one-sided, float64", SKY, "s", "-"),
        "numpy_central_float64": ("gradient, central, float64", BLUE, "o", "-"),
        "numpy_second_float64": ("Hessian, float64", GREEN, "D", "-"),
        "numpy_central_float32": ("gradient, central, float32", ORANGE, "^", "-"),
        "numpy_second_float32": ("Hessian, float32", RED, "v", "-"),
    }
    steps = found["steps"]
    for name, (label, colour, marker, line) in curves.items():
        errors = get(steps, "errors", name)
        if errors is None:
            continue
        points = [(s, e) for s, e in zip(steps["steps"], errors, strict=True) if e is not None and e < 1e2]
        axes.loglog(*zip(*points, strict=True), color=colour, marker=marker, ls=line, ms=3.5, lw=1.2, label=label)
    n = str(steps.get("n_parameters"))
    for dtype, colour in (("float64", BLUE), ("float32", ORANGE)):
        level = get(found["spectral"], n, dtype, "gradient", "jax_reverse_jit", "error")
        if level:
            axes.axhline(level, color=colour, ls="--", lw=1.2)
            axes.text(1.2e-13, level * 1.5, f"JAX gradient, {dtype}", color=colour, fontsize=8)
    axes.set(xlabel="step of the finite difference [units of ln parameter]", ylabel="largest error / largest entry")
    axes.set_ylim(1e-17, 1e6)
    axes.set_title(f"Finite differences, {n} parameters", loc="left")
    axes.legend(frameon=False, fontsize=7.5, ncols=2, loc="upper left")


def _draw_lengths(axes: Any, found: Found) -> None:
    """CPU seconds against the number of powers."""
    lengths = found["lengths"]
    for name, values in lengths["cpu_s"].items():
        label, colour, marker, line = STYLES["gradient"][name]
        points = [(n, cpu) for n, cpu in zip(lengths["n_powers"], values, strict=True) if cpu is not None]
        if points:
            axes.loglog(*zip(*points, strict=True), color=colour, marker=marker, ls=line, ms=5, lw=1.3, label=label)
    axes.set(xlabel="number of powers", ylabel="CPU time of a gradient [s]")
    axes.set_title(f"Small and large problems, {lengths['n_parameters']} parameters, float64", loc="left")
    axes.legend(frameon=False, fontsize=7.5, loc="upper left")
