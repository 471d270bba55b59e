"""Small parts of networks: standardisation with stored constants, and multilayer perceptrons."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from eagleray.records import Key

N = TypeVar("N", bound=nnx.Module)


class Constant(nnx.Variable):
    """An array that is saved with a network and never trained."""


class Standardise(nnx.Module):
    """Shift and scale to zero mean and unit spread, with constants learnt from the training data.

    Args:
        n: Size of the vectors.
    """

    def __init__(self, n: int) -> None:
        """Start as the identity."""
        self.mean = Constant(jnp.zeros(n))
        self.scale = Constant(jnp.ones(n))

    def learn(self, samples: Float[Array, "n_samples n"]) -> None:
        """Take mean and standard deviation from samples; an entry that never varies keeps scale one."""
        mean = np.asarray(samples, np.float64).mean(axis=0)
        scale = np.asarray(samples, np.float64).std(axis=0)
        constant = scale <= 1e-6 * np.abs(np.asarray(samples, np.float64)).max(axis=0)
        self.mean.set_value(jnp.asarray(mean, self.mean.get_value().dtype))
        self.scale.set_value(jnp.asarray(np.where(constant, 1.0, scale), self.scale.get_value().dtype))

    def __call__(self, value: Float[Array, " n"]) -> Float[Array, " n"]:
        """Standardised vector."""
        return (value - self.mean[...]) / self.scale[...]

    def inverse(self, value: Float[Array, " n"]) -> Float[Array, " n"]:
        """From standardised to original."""
        return value * self.scale[...] + self.mean[...]

    def log_det(self) -> Float[Array, ""]:
        """Ln |d standardised / d original|."""
        return -jnp.log(self.scale[...]).sum()


class Mlp(nnx.Module):
    """Multilayer perceptron with SiLU activations.

    Args:
        n_in: Size of the input.
        hidden: Sizes of the hidden layers.
        n_out: Size of the output.
        zero_output: Start with an output of zero for every input.
        rngs: Keys for the initial weights.
    """

    def __init__(
        self, n_in: int, hidden: Sequence[int], n_out: int, *, zero_output: bool = False, rngs: nnx.Rngs
    ) -> None:
        """Draw the initial weights."""
        sizes = [n_in, *hidden]
        self.hidden = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in zip(sizes[:-1], sizes[1:], strict=True)])
        initial = nnx.initializers.zeros if zero_output else nnx.initializers.lecun_normal()
        self.output = nnx.Linear(sizes[-1], n_out, kernel_init=initial, rngs=rngs)

    def __call__(self, value: Float[Array, " n_in"]) -> Float[Array, " n_out"]:
        """Output vector."""
        hidden = value
        for layer in self.hidden:
            hidden = jax.nn.silu(layer(hidden))
        return self.output(hidden).astype(value.dtype)


class ResidualMlp(nnx.Module):
    """Residual multilayer perceptron: blocks of two layers, each added to what came in.

    Args:
        n_in: Size of the input.
        width: Size of every hidden layer.
        n_blocks: Residual blocks; compiled once, whatever their number.
        n_out: Size of the output.
        zero_output: Start with an output of zero for every input.
        rngs: Keys for the initial weights.

    References:
        He et al. (2016), Identity mappings in deep residual networks, figure 1b.
    """

    def __init__(
        self, n_in: int, width: int, n_blocks: int, n_out: int, *, zero_output: bool = False, rngs: nnx.Rngs
    ) -> None:
        """Draw the initial weights."""

        @nnx.split_rngs(splits=n_blocks)
        @nnx.vmap
        def make_blocks(rngs: nnx.Rngs) -> Mlp:
            return Mlp(width, (width,), width, zero_output=True, rngs=rngs)

        self.input = nnx.Linear(n_in, width, rngs=rngs)
        self.blocks = make_blocks(rngs)
        initial = nnx.initializers.zeros if zero_output else nnx.initializers.lecun_normal()
        self.output = nnx.Linear(width, n_out, kernel_init=initial, rngs=rngs)

    def __call__(self, value: Float[Array, " n_in"]) -> Float[Array, " n_out"]:
        """Output vector."""
        graphdef, weights = nnx.split(self.blocks)

        def block(hidden: Array, block_weights: Any) -> tuple[Array, None]:
            return hidden + nnx.merge(graphdef, block_weights)(jax.nn.silu(hidden)), None

        hidden, _ = jax.lax.scan(block, self.input(value).astype(value.dtype), weights)
        return self.output(jax.nn.silu(hidden)).astype(value.dtype)


def compute_in(network: nnx.Module, dtype: Any) -> None:
    """Let every linear and convolutional layer compute in a precision, in place; weights and all else keep theirs.

    Args:
        network: Any network.
        dtype: For example `jnp.bfloat16`, or None for the precision of the weights.
    """
    for _, module in nnx.iter_modules(network):
        if isinstance(module, nnx.Linear | nnx.Conv):
            module.dtype = dtype


def new_network(kind: Callable[..., N], sizes: tuple[Any, ...], settings: Any, key: Key) -> N:
    """A network with new weights, all drawn in one compiled call that networks of the same structure share.

    Eagerly, the draw of each weight is compiled by itself, which takes longer than some trainings.

    Args:
        kind: Made of `(*sizes, settings, rngs=...)`.
        sizes: Sizes of its inputs and outputs, or examples of them without numbers; hashable.
        settings: What it is made of, hashable.
        key: Typed PRNG key; consumed.
    """
    shapes = nnx.eval_shape(lambda: kind(*sizes, settings, rngs=nnx.Rngs(0)))
    return nnx.merge(nnx.graphdef(shapes), _new_weights(kind, sizes, settings, key))


# What runs once is not worth optimising.
@functools.partial(jax.jit, static_argnums=(0, 1, 2), compiler_options={"xla_backend_optimization_level": 0})
def _new_weights(kind: Callable[..., nnx.Module], sizes: tuple[Any, ...], settings: Any, key: Key) -> Any:
    """All variables of a new network."""
    return nnx.state(kind(*sizes, settings, rngs=nnx.Rngs(key)))
