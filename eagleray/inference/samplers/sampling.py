"""One call over all samplers."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.inference.log_density import LogDensityFn
from eagleray.inference.samplers.chains import Outcome, Task, over_chains, total
from eagleray.inference.samplers.doubts import agreement, words
from eagleray.inference.samplers.registry import Method, find_method
from eagleray.inference.samplers.starts import find_starts
from eagleray.inference.samplers.targets import HasDensity, Source, check_source, has_prior, names_of
from eagleray.inference.samplers.tuning import check_count
from eagleray.records import AnyArray, Key, Samples


def sample(
    key: Key,
    target: Source,
    method: str = "nuts",
    *,
    data: Any = None,
    n_chains: int | None = None,
    n_draws: int = 1000,
    n_warmup: int = 500,
    initial: Float[AnyArray, "n_chains n_theta"] | None = None,
    **options: Any,
) -> Samples:
    """Draw from a posterior, and say what is to be doubted about the draws.

    Chains are independent; each is tuned by itself and keeps its own step. They are shared out between the local
    devices. Compiled programs are kept: a second call with the same target (the same object) and the same sizes and
    shapes compiles nothing, and a problem compiles once for all data of one shape.

    Where no starting positions are given, each chain has its own search: a small population is led from the prior to
    the posterior, and one of it is the start. A target with further coordinates starts at the best of 1000 draws from
    its prior.

    Args:
        key: Typed PRNG key; consumed.
        target: A `Target`; or a bare log density of an unconstrained position, which needs `initial`, and whose
            coordinates are called theta[0], theta[1], ...; or a problem with a prior and a likelihood of `data`; or a
            target with further coordinates, such as `LatentTarget`.
        method: A key of `METHODS`.
        data: Data of a problem, any pytree of arrays.
        n_chains: Number of chains; as many as `initial` has, else 4. For "tempered_smc" and "nested" the number of
            independent runs, for approximations the number of independent fits.
        n_draws: Draws kept of each chain.
        n_warmup: Steps of each chain that tune it and are not kept; methods without a warm-up ignore it.
        initial: (n_chains, n_theta) unconstrained starting positions; methods that start from the prior ignore them.
        options: Options of the method, see `METHODS[method].options`.

    Returns:
        Draws of all chains: none is left out, whatever it did. What went wrong stands in `warnings`.

    Raises:
        TypeError: If the target is nothing that has a log density.
        InputError: If the method or an option is unknown or out of its range, if the method needs a prior that the
            target has not, or if a chain cannot start: the log density is -inf there.
    """
    check_source(target, data)
    found = find_method(method, options)
    if found.needs_prior and not has_prior(target):
        raise InputError(f"{method} needs a prior and a likelihood: give a Target, got a log density")
    if n_chains is None:
        n_chains = 4 if initial is None else len(initial)
    for name, value in (("n_chains", n_chains), ("n_draws", n_draws)):
        check_count(name, value)
    key_start, key_run = jax.random.split(key)
    task = Task(
        key=key_run,
        source=target,
        data=data,
        n_chains=n_chains,
        n_draws=n_draws,
        n_warmup=n_warmup,
        n_theta=_n_theta(target, initial),
    )
    if not found.starts:
        outcome = found.run(task, **options)
        return _samples(task, method, found, outcome, np.zeros(n_chains, int), outcome.seconds)
    positions, n_nan, seconds = find_starts(key_start, task, initial)
    outcome = found.run(dataclasses.replace(task, initial=positions), **options)
    return _samples(task, method, found, outcome, n_nan, total(seconds, outcome.seconds))


def nuts(
    key: Key,
    log_density: LogDensityFn,
    initial: Float[AnyArray, "n_chains n_theta"],
    *,
    n_warmup: int = 500,
    n_draws: int = 1000,
    target_acceptance: float = 0.8,
) -> Samples:
    """`sample` by the no-U-turn sampler, for a log density and starting positions.

    Args:
        key: Typed PRNG key; consumed.
        log_density: Unconstrained position -> scalar.
        initial: (n_chains, n_theta) starting positions.
        n_warmup: Adaptation steps of each chain.
        n_draws: Draws kept of each chain.
        target_acceptance: Acceptance probability that the step size aims at.
    """
    return sample(
        key,
        log_density,
        initial=initial,
        n_warmup=n_warmup,
        n_draws=n_draws,
        target_acceptance=target_acceptance,
    )


def _n_theta(source: Source, initial: Any) -> int:
    """Number of coordinates of a position."""
    if initial is not None:
        return np.shape(initial)[-1]
    if isinstance(source, HasDensity):
        return jax.eval_shape(lambda: source.initial(jax.random.key(0), 1)).shape[-1]
    if not has_prior(source):
        raise InputError("initial must be given for a log density: positions (n_chains, n_theta) to start from")
    return len(names_of(source, 0))


def _make_parameters() -> Callable[..., Any]:
    """Parameters in physical units: `chain(bound, positions)`."""
    return lambda bound, positions: bound.parameters(positions)


def _samples(
    task: Task, method: str, found: Method, outcome: Outcome, n_nan: NDArray[np.integer], seconds: dict[str, float]
) -> Samples:
    """The draws by name, and their diagnostics."""
    outcome = dataclasses.replace(outcome, n_nan=outcome.n_nan + n_nan)
    draws, spent = over_chains(_make_parameters, task, (jnp.asarray(outcome.positions),))
    order = [name for name in getattr(getattr(task.source, "prior", None), "all_names", draws) if name in draws]
    draws = {name: draws[name] for name in order}  # JAX sorts the keys of mappings
    finite = np.asarray(np.isfinite(outcome.positions).all(axis=(1, 2)) & np.isfinite(outcome.log_density).all(axis=1))
    moved = np.ptp(np.nan_to_num(outcome.positions), axis=1).any(axis=1)
    names = names_of(task.source, task.n_theta)
    compared = agreement(draws, names, finite, outcome.effective)
    shared = {name: getattr(outcome, name) for name in _SHARED}
    return Samples(
        draws=draws,
        names=names,
        finite=finite,
        method=method,
        approximate=found.approximate,
        seconds=total(seconds, spent),
        warnings=words(method, outcome, compared, finite=finite, moved=moved),
        **compared._asdict(),
        **shared,
    )


_SHARED = {field.name for field in dataclasses.fields(Outcome)} & {
    field.name for field in dataclasses.fields(Samples)
} - {"seconds"}
