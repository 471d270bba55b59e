"""What can be sampled: a target, a bare log density, or a problem with its data."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float

from eagleray.errors import InputError
from eagleray.inference.log_density import LogDensityFn, Target
from eagleray.priors import Prior
from eagleray.records import Key


@runtime_checkable
class HasLikelihood(Protocol):
    """A problem: a prior, and a likelihood of data, given to it or its own."""

    prior: Prior
    log_likelihood: Callable[..., Float[Array, ""]] | None


@runtime_checkable
class HasDensity(Protocol):
    """A target of more than its parameters, as one with a latent vector: positions hold both."""

    names: Any  # a property is none of a protocol's plain attributes

    def log_density(self, position: Float[Array, " n"]) -> Float[Array, ""]:
        """Unnormalised ln posterior density of the position."""
        ...

    def initial(self, key: Key, n: int) -> Float[Array, "n n_position"]:
        """Positions drawn from the prior."""
        ...

    def parameters(self, positions: Float[Array, "*batch n"]) -> dict[str, Float[Array, "*batch"]]:
        """Parameters, in physical units, of positions."""
        ...


Source = Any
"""A `Target`, a `HasLikelihood` with its data, a `HasDensity`, or a `LogDensityFn`."""


@dataclasses.dataclass(frozen=True, eq=False)
class Bound:
    """A source with its data.

    Attributes:
        log_density: The log density of a position.
        target: Prior and likelihood behind it, where they are to be had by themselves.
        initial: `(key, n) -> (n, n_position)` positions drawn from the prior, where there is one.
        parameters: Positions (n, n_position) -> parameters in physical units, by name, each (n,).
    """

    log_density: LogDensityFn
    target: Target | None
    initial: Callable[[Key, int], Array] | None
    parameters: Callable[[Float[Array, "n n_position"]], dict[str, Array]]

    @property
    def posterior(self) -> Target:
        """The target, for methods that need a prior."""
        if self.target is None:
            raise ValueError("target must have a prior and a likelihood, got a log density")
        return self.target


def bind(source: Source, data: Any = None) -> Bound:
    """Join a source and its data, which may be traced: one compilation serves all data of one shape."""
    if isinstance(source, HasLikelihood):
        likelihood: Any = source.log_likelihood
        given = () if data is None else (data,)
        target = Target(source.prior, lambda theta: likelihood(theta, *given))
        return Bound(target.log_density, target, target.initial, jax.vmap(source.prior.constrain))
    if isinstance(source, HasDensity):
        return Bound(source.log_density, None, source.initial, source.parameters)
    return Bound(source, None, None, _by_place)


def has_prior(source: Source) -> bool:
    """Whether prior and likelihood of a source are to be had by themselves."""
    return isinstance(source, HasLikelihood)


def names_of(source: Source, n_position: int) -> tuple[str, ...]:
    """Names of the free parameters; `theta[0]`, `theta[1]`, ... for a bare log density."""
    if isinstance(source, HasLikelihood):
        return source.prior.names
    return tuple(source.names) if isinstance(source, HasDensity) else tuple(f"theta[{i}]" for i in range(n_position))


def check_source(source: Any, data: Any) -> None:
    """Refuse what cannot be sampled.

    Raises:
        TypeError: If the source is nothing that has a log density.
        InputError: If data are missing, are not wanted, or have no likelihood.
    """
    if isinstance(source, HasLikelihood):
        likelihood = source.log_likelihood
        if likelihood is None:
            raise InputError(f"the problem {getattr(source, 'name', '')!r} has no exact likelihood: train a posterior")
        if not _accepts(likelihood, 1 if data is None else 2):
            raise InputError("data must be given for this problem" if data is None else "data must be left out here")
    elif not isinstance(source, HasDensity) and not callable(source):
        raise TypeError(f"target must be a Target, a log density or a problem, got {type(source).__name__}")
    elif data is not None:
        raise InputError("data must be left out for a log density, which holds its own")


def _accepts(function: Callable[..., Any], n: int) -> bool:
    """Whether a function can be called with n positional arguments."""
    try:
        inspect.signature(function).bind(*range(n))
    except TypeError:
        return False
    return True


def _by_place(positions: Float[Array, "n n_position"]) -> dict[str, Array]:
    """Coordinates by their place."""
    return {f"theta[{i}]": positions[:, i] for i in range(positions.shape[1])}
