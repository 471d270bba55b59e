"""Derivatives with PyTorch: the tape, its function transforms, and its compiler."""

import functools
from collections.abc import Callable
from typing import Any

from benchmarks.autodiff.methods import Method, Options, Ready, Unavailable, import_or_say
from benchmarks.autodiff.problem import Problem, log_likelihood


def load() -> Any:
    """PyTorch, its compiler's caches off so that compilation is measured."""
    torch = import_or_say("torch")
    import_or_say("torch.compiler.config").force_disable_caches = True
    return torch


def compiled(torch: Any, function: Callable, *arguments: Any) -> Callable:
    """Compile for these arguments, and call once.

    Raises:
        Unavailable: If PyTorch's compiler fails, e.g. for want of a C++ compiler.
    """
    torch._dynamo.reset()
    found = torch.compile(function, fullgraph=True, dynamic=False)
    try:
        found(*arguments)
    except Exception as error:  # whatever the compiler raises: the entry says it
        raise Unavailable(f"torch.compile: {type(error).__name__}: {str(error).strip().splitlines()[0]}") from error
    return found


def _build(way: str, quantity: str, problem: Problem, dtype: str, options: Options) -> Ready:
    """Theta and data as tensors, and one of the ways below."""
    torch = load()
    theta, *data = (torch.from_numpy(array.copy()) for array in problem.arrays(dtype))
    value = functools.partial(log_likelihood, torch)
    if quantity == "value":
        return Ready(lambda: value(theta, *data))
    transform = torch.func.grad if quantity == "gradient" else torch.func.hessian
    if way == "tape":
        return Ready(functools.partial(_on_tape, torch, quantity, value, theta, data))
    if way == "vmap":
        sets = torch.from_numpy(problem.batch(options.batch, dtype))
        many = torch.func.vmap(transform(value), in_dims=(0, None, None, None))
        return Ready(lambda: many(sets, *data), options.batch)
    derivative = transform(value)
    if way == "compile":
        derivative = compiled(torch, derivative, theta, *data)
    return Ready(lambda: derivative(theta, *data))


def _on_tape(torch: Any, quantity: str, value: Callable, theta: Any, data: list[Any]) -> Any:
    """Reverse mode as most users write it."""
    if quantity == "hessian":
        return torch.autograd.functional.hessian(lambda point: value(point, *data), theta)
    point = theta.detach().requires_grad_()
    return torch.autograd.grad(value(point, *data), point)[0]


def _method(label: str, way: str, quantity: str) -> Method:
    """Entry of one way."""
    return Method(label, "torch", functools.partial(_build, way, quantity), heavy=way == "compile")


METHODS = {
    "value": {"torch": _method("PyTorch", "tape", "value")},
    "gradient": {
        "torch": _method("PyTorch", "tape", "gradient"),
        "torch_func": _method("PyTorch, torch.func", "func", "gradient"),
        "torch_compile": _method("PyTorch, torch.compile", "compile", "gradient"),
        "torch_vmap": _method("PyTorch, torch.func, vmap", "vmap", "gradient"),
    },
    "hessian": {
        "torch": _method("PyTorch reverse over reverse", "tape", "hessian"),
        "torch_func": _method("PyTorch forward over reverse, torch.func", "func", "hessian"),
        "torch_compile": _method("PyTorch forward over reverse, torch.compile", "compile", "hessian"),
    },
}
