"""One training step of a fully connected network: gradient of a mean squared error, and Adam."""

import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.autodiff.methods import Unavailable, import_or_say
from benchmarks.autodiff.spectral import Entry, Settings, missing, seconds
from benchmarks.autodiff.with_torch import load

LEARNING_RATE, DECAY_1, DECAY_2, EPSILON = 1e-3, 0.9, 0.999, 1e-8
CHECKED_STEPS = 5
SCANNED_STEPS = 10


@dataclasses.dataclass(frozen=True)
class Size:
    """Layers' widths from input to output, and examples in a batch."""

    widths: tuple[int, ...]
    batch: int


SIZES = {
    "small": Size((8, 32, 32, 4), 32),
    "middle": Size((64, 256, 256, 8), 256),
    "large": Size((256, 1024, 1024, 8), 256),
}

Layers = Sequence[Sequence[Any]]


@dataclasses.dataclass(frozen=True)
class Trainer:
    """A network in training.

    Attributes:
        step: Takes `n_steps` training steps, waits for them, and returns the loss before the last of them.
        n_steps: Of a call.
    """

    step: Callable[[], float]
    n_steps: int = 1


def loss(xp: Any, layers: Layers, x: Any, y: Any) -> Any:
    """Mean squared error of a network with tanh between its layers; the same text for every package."""
    hidden = x
    for weights, biases in layers[:-1]:
        hidden = xp.tanh(hidden @ weights + biases)
    weights, biases = layers[-1]
    return ((hidden @ weights + biases - y) ** 2).mean()


def start(size: Size, dtype: str) -> tuple[Layers, np.ndarray, np.ndarray]:
    """Initial weights and a batch: the same numbers for every package."""
    rng = np.random.default_rng(11)
    layers = [
        ((rng.standard_normal((n, m)) / np.sqrt(n)).astype(dtype), np.zeros(m, dtype))
        for n, m in zip(size.widths, size.widths[1:], strict=False)
    ]
    x = rng.standard_normal((size.batch, size.widths[0])).astype(dtype)
    y = rng.standard_normal((size.batch, size.widths[-1])).astype(dtype)
    return layers, x, y


class NumPyAdam:
    """Adam (Kingma & Ba 2015) in place on a list of arrays."""

    def __init__(self, arrays: list[np.ndarray]) -> None:
        """Moments start at zero."""
        self.arrays, self.n = arrays, 0
        self.moments = [(np.zeros_like(array), np.zeros_like(array)) for array in arrays]

    def update(self, gradients: list[np.ndarray]) -> None:
        """One step down the gradients."""
        self.n += 1
        for array, gradient, (first, second) in zip(self.arrays, gradients, self.moments, strict=True):
            first += (1.0 - DECAY_1) * (gradient - first)
            second += (1.0 - DECAY_2) * (gradient * gradient - second)
            root = np.sqrt(second / (1.0 - DECAY_2**self.n)) + EPSILON
            array -= LEARNING_RATE / (1.0 - DECAY_1**self.n) * first / root


def backward_by_hand(layers: Layers, x: np.ndarray, y: np.ndarray) -> tuple[float, list[np.ndarray]]:
    """Loss and its gradients, weights and biases in turn, by backpropagation written out."""
    inputs = [x]
    for weights, biases in layers[:-1]:
        inputs.append(np.tanh(inputs[-1] @ weights + biases))
    difference = inputs[-1] @ layers[-1][0] + layers[-1][1] - y
    value = float((difference * difference).mean())
    flow = difference * (2.0 / difference.size)
    gradients: list[np.ndarray] = []
    for i in range(len(layers) - 1, -1, -1):
        gradients[:0] = [inputs[i].T @ flow, flow.sum(0)]
        if i:
            flow = (flow @ layers[i][0].T) * (1.0 - inputs[i] * inputs[i])
    return value, gradients


def _by_hand(size: Size, dtype: str) -> Trainer:
    """NumPy alone."""
    layers, x, y = start(size, dtype)
    adam = NumPyAdam([array for layer in layers for array in layer])

    def step() -> float:
        value, gradients = backward_by_hand(layers, x, y)
        adam.update(gradients)
        return value

    return Trainer(step)


def _autograd(size: Size, dtype: str) -> Trainer:
    """Autograd's reverse mode."""
    autograd, xp = import_or_say("autograd"), import_or_say("autograd.numpy")
    layers, x, y = start(size, dtype)
    adam = NumPyAdam([array for layer in layers for array in layer])
    differentiate = autograd.value_and_grad(lambda layers: loss(xp, layers, x, y))

    def step() -> float:
        value, gradients = differentiate(layers)
        adam.update([gradient for layer in gradients for gradient in layer])
        return float(value)

    return Trainer(step)


def _jax(way: str, size: Size, dtype: str) -> Trainer:
    """JAX and Optax: operation by operation, compiled, or several steps in one compiled call."""
    jax, optax = import_or_say("jax"), import_or_say("optax")
    jax.clear_caches()
    optimiser = optax.adam(LEARNING_RATE, b1=DECAY_1, b2=DECAY_2, eps=EPSILON)
    layers, x, y = jax.tree.map(jax.numpy.asarray, start(size, dtype))

    def one(carry: Any, _: None = None) -> Any:
        layers, state = carry
        value, gradients = jax.value_and_grad(lambda layers: loss(jax.numpy, layers, x, y))(layers)
        updates, state = optimiser.update(gradients, state)
        return (optax.apply_updates(layers, updates), state), value

    def several(carry: Any) -> Any:
        carry, values = jax.lax.scan(one, carry, length=SCANNED_STEPS)
        return carry, values[CHECKED_STEPS - 1]

    advance = {
        "operations": one,
        "jit": jax.jit(one, donate_argnums=0),
        "scan": jax.jit(several, donate_argnums=0),
    }[way]
    carry = layers, optimiser.init(layers)

    def step() -> float:
        nonlocal carry
        carry, value = advance(carry)
        return float(jax.block_until_ready((carry, value))[1])

    return Trainer(step, SCANNED_STEPS if way == "scan" else 1)


def _torch(compile_it: bool, size: Size, dtype: str) -> Trainer:
    """PyTorch with its own Adam; compiled, the loss and its gradient are."""
    torch = load()
    layers, x, y = start(size, dtype)
    tensors = [[torch.from_numpy(array).requires_grad_() for array in layer] for layer in layers]
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    adam = torch.optim.Adam(
        [tensor for layer in tensors for tensor in layer], LEARNING_RATE, (DECAY_1, DECAY_2), EPSILON
    )
    function = functools.partial(loss, torch)
    if compile_it:
        torch._dynamo.reset()
        function = torch.compile(function, fullgraph=True, dynamic=False)

    def step() -> float:
        adam.zero_grad()
        value = function(tensors, x, y)
        value.backward()
        adam.step()
        return value.item()

    return Trainer(step)


WAYS: dict[str, tuple[str, str, Callable[[Size, str], Trainer]]] = {
    "numpy_by_hand": ("NumPy, backpropagation by hand", "numpy", _by_hand),
    "autograd": ("Autograd", "autograd", _autograd),
    "torch": ("PyTorch", "torch", functools.partial(_torch, False)),
    "torch_compile": ("PyTorch, torch.compile", "torch", functools.partial(_torch, True)),
    "jax": ("JAX, not compiled", "jax", functools.partial(_jax, "operations")),
    "jax_jit": ("JAX, jit", "jax", functools.partial(_jax, "jit")),
    "jax_scan": (f"JAX, jit, {SCANNED_STEPS} steps a call", "jax", functools.partial(_jax, "scan")),
}


def training_steps(
    settings: Settings, packages: dict[str, Entry], sizes: tuple[str, ...], ways: tuple[str, ...], dtype: str
) -> dict[str, Any]:
    """Entries by size and way: seconds of a step, and how far the loss is off after a few of them."""
    found: dict[str, Any] = {}
    for name in sizes:
        size = SIZES[name]
        exact = _by_hand(size, "float64")
        target = [exact.step() for _ in range(CHECKED_STEPS)][-1]
        found[name] = {
            "widths": size.widths,
            "batch": size.batch,
            "ways": {way: _entry(WAYS[way], size, dtype, target, settings, packages) for way in ways},
        }
    return found


def _entry(way: tuple, size: Size, dtype: str, target: float, settings: Settings, packages: dict[str, Entry]) -> Entry:
    """One number, or the reason why there is none."""
    _, package, build = way
    needed = [package, "optax"] if package == "jax" else [package]
    for one in needed:
        if reason := packages[one].get("reason"):
            return missing(reason)
    try:
        begun = time.perf_counter()
        trainer = build(size, dtype)
        value = trainer.step()
        prepare = time.perf_counter() - begun
        for _ in range(CHECKED_STEPS - 1 if trainer.n_steps == 1 else 0):
            value = trainer.step()
        times = seconds(trainer.step, settings)
    except Unavailable as error:
        return missing(str(error))
    except Exception as error:  # another package's failure is a result, not a reason to lose the others
        return missing(f"{type(error).__name__}: {error}")
    return {
        "cpu_s": times["cpu"] / trainer.n_steps,
        "cpu_min_s": times["cpu_min"] / trainer.n_steps,
        "wall_s": times["wall"] / trainer.n_steps,
        "prepare_s": max(0.0, prepare - times["wall"]),
        "loss_error": abs(value / target - 1.0),
    }
