"""From an expensive function of parameters to a network in its place."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.networks.emulators import Emulator, EmulatorSettings
from eagleray.networks.layers import new_network
from eagleray.priors import Prior
from eagleray.records import AnyArray, Key, Theta, TrainingHistory
from eagleray.simulators.batch import finite_draws, map_draws
from eagleray.training.loop import EpochReport, TrainingSettings, fit, split_validation
from eagleray.training.losses import emulation_loss, expectation_loss, network_loss

LogMean = Callable[[Theta, Float[Array, " n_coefficients"]], Float[Array, " n_outputs"]]
"""Parameters and coefficients -> ln expectation: a guess that coefficients of zero leave as it is."""

# Of an expectation: simulations at least, and how many of them may not be finite.
_FEWEST, _MOST_NON_FINITE = 100, 0.01
# An emulator has no noise to learn by heart: it is trained for longer than a density.
LONG = TrainingSettings(max_epochs=300, patience=50, learning_rate=2e-3, weight_decay=0.0)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Emulated:
    """A function of named parameters by a network.

    Attributes:
        prior: Where it was learnt: it is right for parameters like those drawn from this prior.
        network: The network, a function of the prior's unconstrained position.
        history: Training curve.
        error: (n_outputs,) root mean square of its errors on parameters that it was not trained on.
    """

    prior: Prior
    network: Emulator
    history: TrainingHistory
    error: NDArray[np.floating]

    def __call__(self, theta: Theta) -> Float[Array, " n_outputs"]:
        """The function at parameters in physical units; pure, and can be differentiated."""
        return self.network(self.prior.unconstrain(theta))

    def with_error(self, theta: Theta) -> tuple[Array, Array]:
        """The function, and the spread of the ensemble there: large where it has not learnt."""
        return self.network.with_error(self.prior.unconstrain(theta))


def emulate(
    key: Key,
    prior: Prior,
    function: Callable[[Theta], Float[Array, " n_outputs"]],
    *,
    n: int = 4000,
    gradients: bool = False,
    settings: EmulatorSettings | None = None,
    training: TrainingSettings = LONG,
    report: EpochReport | None = None,
) -> Emulated:
    """Learn a deterministic function of parameters from its values at draws from a prior.

    Functions that are positive and span decades, as spectra, are better learnt as their logarithm.

    Args:
        key: Typed PRNG key; consumed.
        prior: Named priors: where the function is to be learnt.
        function: Parameters -> (n_outputs,), pure JAX.
        n: Evaluations, validation included.
        gradients: Whether to learn from d function / d position too, by forward differentiation: worth its time where
            evaluations are few.
        settings: Size of the network.
        training: How it is trained.
        report: Called after each epoch.

    Raises:
        InputError: If the function is not finite somewhere, or returns no vector.
    """
    settings = settings or EmulatorSettings()
    key_draw, key_split, key_weights, key_fit = jax.random.split(key, 4)
    positions = np.asarray(map_draws(lambda k: prior.unconstrain(prior.sample(k)), key_draw, n))

    def evaluate(_: Key, position: Array) -> tuple[Array, ...]:
        def at(position: Array) -> Array:
            return function(prior.constrain(position))

        return (at(position), jax.jacfwd(at)(position)) if gradients else (at(position),)

    found = map_draws(evaluate, key_draw, n, inputs=positions)
    if not (finite := finite_draws(found)).all():
        raise InputError(f"the function must be finite over the prior, got {(~finite).sum()} of {n} draws that are not")
    if found[0].ndim != 2:
        raise InputError(f"the function must return a vector, got the shape {found[0].shape[1:]}; stack its numbers")
    data = (positions, *(leaf.astype(np.float32) for leaf in found))
    kept, held = split_validation(data, key_split, training.validation_fraction)
    network = new_network(Emulator, (positions.shape[1], found[0].shape[1]), settings, key_weights)
    network.learn_scales(kept[0], kept[1])
    params, loss = network_loss(emulation_loss, network)
    params, history = fit(loss, params, kept, held, key_fit, settings=training, report=report)
    network = nnx.merge(loss.graphdef, params, loss.constants)
    said = np.asarray(jax.jit(lambda inputs: jax.lax.map(network, inputs, batch_size=256))(jnp.asarray(held[0])))
    error = np.sqrt(((said - held[1]) ** 2).mean(axis=0))
    return Emulated(prior=prior, network=network, history=history, error=error)


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class EmulatedExpectation:
    """The expectation of random numbers at named parameters.

    Attributes:
        prior: Where it was learnt.
        network: Predicts coefficients from the prior's unconstrained position.
        log_mean: What they are coefficients of.
        history: Training curve.
    """

    prior: Prior
    network: Emulator
    log_mean: LogMean
    history: TrainingHistory

    def __call__(self, theta: Theta) -> Float[Array, " n_outputs"]:
        """The expectation at parameters in physical units; pure, and can be differentiated."""
        return jnp.exp(self.log_mean(theta, self.network(self.prior.unconstrain(theta))))


def emulate_expectation(
    key: Key,
    prior: Prior,
    simulate: Callable[[Key, Theta], Float[Array, " n_outputs"]],
    log_mean: LogMean,
    n_coefficients: int,
    *,
    evenness: Float[AnyArray, " n_outputs"] | float = 1.0,
    n: int = 20_000,
    settings: EmulatorSettings | None = None,
    training: TrainingSettings = LONG,
    report: EpochReport | None = None,
) -> EmulatedExpectation:
    """Learn the expectation of positive random numbers, such as powers, from one simulation at each parameter.

    Nothing is averaged before: the loss is least at the expectation, however large the scatter. What is known of the
    answer goes into `log_mean`, as ln of an approximate spectrum plus a basis times coefficients.

    Args:
        key: Typed PRNG key; consumed.
        prior: Named priors: where the expectation is to be learnt.
        simulate: Key and parameters -> (n_outputs,) positive numbers, pure JAX.
        log_mean: Parameters and coefficients -> (n_outputs,) ln expectation.
        n_coefficients: How many of them.
        evenness: (mean / standard deviation)^2 of the numbers, about: 1 for a periodogram, M for an average of M. It
            weighs them against each other.
        n: Simulations, validation included; the few that are not finite are left out.
        settings: Size of the network; of `n_components`, there are as many as coefficients.
        training: How it is trained.
        report: Called after each epoch.

    Raises:
        InputError: If simulations are no vectors, are not positive, or more than one in a hundred is not finite; if
            `log_mean` or `evenness` do not fit them; or if there are too few.
    """
    if n < _FEWEST or n_coefficients < 1:
        raise InputError(f"n must be at least {_FEWEST} and n_coefficients at least 1, got {n} and {n_coefficients}")
    settings = dataclasses.replace(settings or EmulatorSettings(), n_components=n_coefficients)
    key_draw, key_split, key_weights, key_fit = jax.random.split(key, 4)

    def draw(key: Key) -> tuple[Array, Array]:
        key_theta, key_simulate = jax.random.split(key)
        position = prior.unconstrain(prior.sample(key_theta))
        return position, simulate(key_simulate, prior.constrain(position)).astype(jnp.float32)

    weights = _fitting(jax.eval_shape(draw, key_draw)[1].shape, prior, log_mean, n_coefficients, evenness)
    data = map_draws(draw, key_draw, n)
    finite = finite_draws(data)
    if (n_bad := (~finite).sum()) > _MOST_NON_FINITE * n:
        raise InputError(
            f"simulations must be finite over the prior, got {n_bad} of {n} that are not; narrow the prior"
        )
    positions, outputs = (leaf[finite] for leaf in data)
    if n_bad := (outputs < 0).any(axis=1).sum():
        raise InputError(f"simulations must be positive, got {n_bad} of {n} that are not")
    kept, held = split_validation((positions, outputs), key_split, training.validation_fraction)
    network = new_network(Emulator, (positions.shape[1], n_coefficients), settings, key_weights)
    network.input_scale.learn(jnp.asarray(kept[0]))
    params, loss = network_loss(
        expectation_loss,
        network,
        log_mean=lambda position, given: log_mean(prior.constrain(position), given),
        evenness=weights,
    )
    params, history = fit(loss, params, kept, held, key_fit, settings=training, report=report)
    network = nnx.merge(loss.graphdef, params, loss.constants)
    return EmulatedExpectation(prior=prior, network=network, log_mean=log_mean, history=history)


def _fitting(
    shape: tuple[int, ...], prior: Prior, log_mean: LogMean, n_coefficients: int, evenness: Any
) -> Float[Array, " n_outputs"]:
    """Evenness of each output; refuse what does not fit simulations of a shape."""
    if len(shape) != 1:
        raise InputError(f"simulate must return a vector, got the shape {shape}; stack its numbers")

    def at(key: Key) -> Array:
        return log_mean(prior.constrain(prior.unconstrain(prior.sample(key))), jnp.zeros(n_coefficients))

    said = jax.eval_shape(at, jax.random.key(0)).shape
    if said != shape:
        raise InputError(f"log_mean must return what simulate returns, a vector of shape {shape}, got {said}")
    given = np.asarray(evenness, np.float32)
    if given.shape not in ((), shape) or not (np.isfinite(given) & (given > 0)).all():
        raise InputError(f"evenness must be one positive number or {shape} of them, got {evenness!r}")
    return jnp.broadcast_to(jnp.asarray(given), shape)
