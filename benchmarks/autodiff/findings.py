"""What a result says, in sentences made from its numbers."""

from collections.abc import Callable

from benchmarks.autodiff.methods import DTYPES
from benchmarks.autodiff.reading import Found, dash, error_text, get, middle_size

ALIKE = 0.1  # relative difference of times below which they are called alike


class Absent(Exception):
    """A number that a sentence needs was not measured."""


def findings(found: Found) -> list[str]:
    """One sentence or two for each comparison; where a number is missing, the sentence says so."""
    lines = []
    for sentence in SENTENCES:
        try:
            lines.append(sentence(Numbers(found)))
        except Absent as error:
            lines.append(f"Not measured: {error}.")
    return lines


class Numbers:
    """A result, by the sizes that sentences speak of."""

    def __init__(self, found: Found) -> None:
        """Least, middle and largest number of parameters."""
        self.found, self.middle = found, middle_size(found)
        sizes = list(found["spectral"])
        self.least, self.most = sizes[0], sizes[-1]

    def of(self, n: str, quantity: str, way: str, what: str = "cpu_s", dtype: str = "float64") -> float:
        """A number of an entry.

        Raises:
            Absent: If there is none.
        """
        return _there(get(self.found, "spectral", n, dtype, quantity, way, what), f"{quantity}, {way}, {n} parameters")

    def step(self, size: str, way: str) -> float:
        """CPU seconds of a training step, or Absent."""
        return _there(get(self.found, "network", size, "ways", way, "cpu_s"), f"training step, {way}, {size}")

    def compare(self, n: str, quantity: str, mine: str, other: str) -> str:
        """How the time of one way compares with another's."""
        return against(self.of(n, quantity, mine), self.of(n, quantity, other))


def against(mine: float, other: float) -> str:
    """How `mine` compares with `other`, seconds both."""
    if abs(mine / other - 1.0) < ALIKE:
        return "about the time"
    if mine <= other:
        return f"1/{dash(other / mine, 2)} of the time"
    return f"{dash(mine / other, 2)} times the time"


def _there(value: float | None, what: str) -> float:
    """The number, if there is one."""
    if value is None:
        raise Absent(what)
    return value


def _cost_in_values(numbers: Numbers) -> str:
    """How gradients grow with the number of parameters."""
    ways = {
        "jax_reverse_jit_sync": "reverse mode",
        "jax_forward_jit_sync": "forward mode",
        "jax_finite_sync": "finite differences",
    }
    sizes = numbers.least, numbers.most
    parts = []
    for way, label in ways.items():
        ratios = [numbers.of(n, "gradient", way) / numbers.of(n, "value", "jax_jit_sync") for n in sizes]
        parts.append(f"{label} {dash(ratios[0], 2)} and {dash(ratios[1], 2)}")
    return (
        f"**Cost.** A gradient in units of a value, both compiled by JAX, calls synchronous, for {sizes[0]} and "
        f"{sizes[1]} parameters: {', '.join(parts)}."
    )


def _errors(numbers: Numbers) -> str:
    """What finite differences lose."""
    middle = numbers.middle

    def pair(quantity: str, way: str) -> str:
        return " and ".join(error_text(numbers.of(middle, quantity, way, "error", dtype)) for dtype in DTYPES)

    return (
        f"**Error** for {middle} parameters in float64 and float32: gradient by JAX "
        f"{pair('gradient', 'jax_reverse_jit')}, by finite differences {pair('gradient', 'numpy_finite')}; Hessian by "
        f"JAX {pair('hessian', 'jax_forward_reverse_jit')}, by finite differences {pair('hessian', 'numpy_finite')}."
    )


def _not_compiled(numbers: Numbers) -> str:
    """JAX operation by operation."""
    n = numbers.middle
    return (
        f"**Without compilation** JAX's gradient by {n} parameters takes "
        f"{numbers.compare(n, 'gradient', 'jax_reverse', 'autograd')} of Autograd's and "
        f"{numbers.compare(n, 'gradient', 'jax_reverse', 'torch')} of PyTorch's; compiled, "
        f"{numbers.compare(n, 'gradient', 'jax_reverse_jit', 'autograd')} of Autograd's and "
        f"{numbers.compare(n, 'gradient', 'jax_reverse_jit', 'torch')} of PyTorch's."
    )


def _when_it_pays(numbers: Numbers) -> str:
    """Calls after which compilation is paid for."""
    n = numbers.middle
    gain = numbers.of(n, "gradient", "autograd") - numbers.of(n, "gradient", "jax_reverse_jit")
    prepare = numbers.of(n, "gradient", "jax_reverse_jit", "prepare_s")
    if gain <= 0.0:
        return "**Compilation** of JAX's gradient never pays against Autograd's."
    return (
        f"**Compilation** of JAX's gradient by {n} parameters takes {dash(prepare, 2)} s: it pays against Autograd "
        f"after {dash(prepare / gain, 2)} calls."
    )


def _formulas(numbers: Numbers) -> str:
    """JAX against formulas, by hand or by SymPy."""
    parts = [
        f"for {n} parameters {numbers.compare(n, 'gradient', way, 'numpy_by_hand')} of formulas by hand in NumPy and "
        f"{numbers.compare(n, 'gradient', way, 'sympy')} of SymPy's"
        for way in ("jax_reverse_jit", "jax_reverse_jit_sync")
        for n in dict.fromkeys((numbers.least, numbers.most))
    ]
    half = len(parts) // 2
    return (
        "**Formulas.** JAX's compiled gradient takes "
        + "; ".join(parts[:half])
        + ". With synchronous calls it takes "
        + "; ".join(parts[half:])
        + "."
    )


def _synchronous(numbers: Numbers) -> str:
    """What handing a call to another thread costs."""
    parts = [
        f"{numbers.compare(n, 'gradient', 'jax_reverse_jit_sync', 'jax_reverse_jit')} for {n} parameters"
        for n in dict.fromkeys((numbers.least, numbers.middle, numbers.most))
    ]
    return (
        "**Waiting.** JAX's CPU client hands a call to another thread. A gradient with "
        "`jax_cpu_enable_async_dispatch` off takes " + ", ".join(parts) + "."
    )


def _torch_compiler(numbers: Numbers) -> str:
    """JAX against PyTorch's compiler."""
    n = numbers.most
    parts = [
        f"{quantity} takes {numbers.compare(n, quantity, mine, 'torch_compile')} of torch.compile's, prepared in "
        f"{dash(numbers.of(n, quantity, mine, 'prepare_s'), 2)} s against "
        f"{dash(numbers.of(n, quantity, 'torch_compile', 'prepare_s'), 2)} s"
        for quantity, mine in (("gradient", "jax_reverse_jit"), ("hessian", "jax_forward_reverse_jit"))
    ]
    return f"**PyTorch's compiler.** For {n} parameters JAX's " + "; its ".join(parts) + "."


def _hessians(numbers: Numbers) -> str:
    """JAX's ways to a Hessian."""
    n = numbers.most
    whole = "jax_forward_reverse_jit"
    return (
        f"**Hessian.** By {n} parameters `jax.hessian` (forward over reverse) takes "
        f"{numbers.compare(n, 'hessian', whole, 'numpy_by_hand')} of the formulas by hand; column by column it takes "
        f"{numbers.compare(n, 'hessian', 'jax_columns_jit', whole)} of that, reverse over reverse "
        f"{numbers.compare(n, 'hessian', 'jax_reverse_reverse_jit', whole)}, forward over forward "
        f"{numbers.compare(n, 'hessian', 'jax_forward_forward_jit', whole)}."
    )


def _many_sets(numbers: Numbers) -> str:
    """Vmapped gradients."""
    parts = [
        f"{numbers.compare(n, 'gradient', 'jax_reverse_vmap', 'jax_reverse_jit')} of a call of its own for {n} "
        "parameters"
        for n in dict.fromkeys((numbers.least, numbers.middle, numbers.most))
    ]
    n = numbers.middle
    hessian = numbers.compare(n, "hessian", "jax_forward_reverse_vmap", "jax_forward_reverse_jit")
    return (
        "**Many sets at once.** A gradient in one vmapped call takes "
        + ", ".join(parts)
        + f"; a Hessian by {n} parameters {hessian}."
    )


def _training(numbers: Numbers) -> str:
    """A training step."""
    parts = []
    for size, one in numbers.found["network"].items():
        mine = numbers.step(size, "jax_jit")
        others = {"torch": "PyTorch", "autograd": "Autograd", "numpy_by_hand": "NumPy by hand"}
        compared = ", ".join(f"{against(mine, numbers.step(size, way))} of {name}" for way, name in others.items())
        parts.append(
            f"{'-'.join(map(str, one['widths']))}: JAX takes {compared}; several steps in a call take "
            f"{against(numbers.step(size, 'jax_scan'), mine)} of as many calls"
        )
    return "**Training step**, one thread, float32. " + ". ".join(parts) + "."


SENTENCES: tuple[Callable[[Numbers], str], ...] = (
    _cost_in_values,
    _errors,
    _not_compiled,
    _when_it_pays,
    _synchronous,
    _formulas,
    _torch_compiler,
    _hessians,
    _many_sets,
    _training,
)
