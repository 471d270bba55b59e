"""The local classifier two-sample test: is the posterior right at one observation, as far as simulations can tell?

A network learns to tell (truth, data) from (draw, data) over all simulations, and is asked about draws at the one
observation. Networks of all null trials are trained together, as one array, on the same batches.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int
from numpy.typing import NDArray

from eagleray.diagnostics.inputs import finite, generator, p_value_error, same
from eagleray.records import AnyArray, Key

FEWEST_SIMULATIONS = 100
_RATE, _WEIGHT_DECAY = 5e-3, 1e-2


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalClassifiers:
    """Networks that tell draws of a posterior from truths, the first on true labels, the others on swapped ones.

    Attributes:
        weights: Layers of all networks, leaves (1 + n_null, ...).
        mean: (d + n_features,) zero of the networks' inputs: parameters, then data.
        scale: (d + n_features,) their unit.
        n_theta: Number of parameters.
        n_simulations: Simulations they learnt from.
    """

    weights: Any
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    n_theta: int
    n_simulations: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalC2st:
    """How well a classifier tells draws from truths at one observation, and what chance would give.

    Attributes:
        statistic: Mean squared distance of `probability` from one half; 0 for a right posterior, 1/4 at most.
        null: (n_null,) the same for classifiers trained on swapped labels.
        p_value: Part of the statistics at least as large, (k + 1) / (n_null + 1).
        p_value_error: Its standard error, from the finite number of null trials.
        probability: (n_draws,) the classifier's probability that each draw at the observation is one, not a truth:
            above one half where the posterior has too much density, below where it has too little.
    """

    statistic: float
    null: NDArray[np.float64]
    p_value: float
    p_value_error: float
    probability: NDArray[np.float64]


def local_classifiers(
    key: Key,
    theta: Float[AnyArray, "n d"],
    x: Float[AnyArray, "n n_features"],
    draws: Float[AnyArray, "n d"],
    *,
    n_null: int = 199,
    n_units: int = 32,
    n_steps: int = 500,
    batch_size: int = 256,
) -> LocalClassifiers:
    """Train the classifiers of a local two-sample test, once for all observations.

    Null networks see truth and draw of each simulation swapped with probability one half, which changes nothing for a
    right posterior.

    Args:
        key: Typed PRNG key; consumed.
        theta: (n, d) true parameters, from the prior; where the prior has edges, best on the real line.
        x: (n, n_features) data, or summaries of them, simulated with each.
        draws: (n, d) one draw of the posterior for each data set.
        n_null: Null trials; 199 can show a p-value of 0.005.
        n_units: Units in each of two hidden layers.
        n_steps: Gradient steps, each of `batch_size` simulations.
        batch_size: Simulations in each step, at most all.

    Returns:
        The classifiers, for `local_c2st`.

    Raises:
        ValueError: If shapes do not match, there are fewer than 100 simulations, a number is not finite, or a setting
            is not positive.

    References:
        Linhart, Gramfort & Rodrigues (2023), NeurIPS, arXiv:2306.03580, section 3.
    """
    for name, value in {"n_null": n_null, "n_units": n_units, "n_steps": n_steps, "batch_size": batch_size}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    truths = finite("theta", theta, "(n, d)", n_axes=2, fewest=FEWEST_SIMULATIONS)
    data = finite("x", x, "(n, n_features)", n_axes=2)
    drawn = finite("draws", draws, "(n, d)", n_axes=2)
    same("x", len(data), len(truths), "a row for each row of theta")
    if drawn.shape != truths.shape:
        raise ValueError(f"draws must be of theta's shape {truths.shape}, got {drawn.shape}")
    both = np.concatenate([truths, drawn])
    mean = np.concatenate([both.mean(axis=0), data.mean(axis=0)])
    scale = np.concatenate([both.std(axis=0), data.std(axis=0)])
    scale = np.where(scale > 0, scale, 1.0)  # what never varies tells nothing
    pairs = np.stack([np.hstack([truths, data]), np.hstack([drawn, data])], axis=1)
    n, rng = len(truths), generator(key)
    # Row 0 has the true labels; numbers are drawn here, since compiling their drawing takes seconds.
    signs = np.vstack([np.ones(n), rng.choice([-1.0, 1.0], (n_null, n))])
    weights = _train(
        _initial(rng, n_null + 1, pairs.shape[2], n_units),
        jnp.asarray((pairs - mean) / scale, jnp.float32),
        jnp.asarray(signs, jnp.float32),
        jnp.asarray(rng.integers(0, n, (n_steps, min(batch_size, n)))),
    )
    return LocalClassifiers(
        weights=jax.device_get(weights),
        mean=mean,
        scale=scale,
        n_theta=truths.shape[1],
        n_simulations=n,
    )


def local_c2st(
    classifiers: LocalClassifiers, x_obs: Float[AnyArray, " n_features"], draws: Float[AnyArray, "n_draws d"]
) -> LocalC2st:
    """Test a posterior at one observation.

    False-alarm rate: for a posterior that is right everywhere, `p_value` is below any a with a probability of at most
    a, exactly. For one that is right at this observation alone, nearly so, since classifiers interpolate. It says
    nothing of an observation unlike the simulations, nor of what a small network cannot learn from them.

    Args:
        classifiers: What `local_classifiers` trained.
        x_obs: (n_features,) the observation.
        draws: (n_draws, d) draws of the posterior at the observation; a thousand or more.

    Returns:
        The statistic among those of the null trials.

    Raises:
        ValueError: If shapes do not match the simulations', or a number is not finite.

    References:
        Linhart, Gramfort & Rodrigues (2023), NeurIPS, arXiv:2306.03580, section 3 (one class evaluated, mean square).
    """
    drawn = finite("draws", draws, "(n_draws, d)", n_axes=2, fewest=1)
    data = finite("x_obs", x_obs, "(n_features,)", n_axes=1)
    same("draws", drawn.shape[1], classifiers.n_theta, "the number of parameters")
    same("x_obs", len(data), len(classifiers.mean) - classifiers.n_theta, "the number of features")
    rows = np.hstack([drawn, np.broadcast_to(data, (len(drawn), len(data)))])
    rows = jnp.asarray((rows - classifiers.mean) / classifiers.scale, jnp.float32)
    probabilities = np.asarray(_probabilities(classifiers.weights, rows), np.float64)
    statistics = ((probabilities - 0.5) ** 2).mean(axis=1)
    observed, null = float(statistics[0]), statistics[1:]
    p_value = (int((null >= observed).sum()) + 1) / (len(null) + 1)
    return LocalC2st(
        statistic=observed,
        null=null,
        p_value=p_value,
        p_value_error=p_value_error(p_value, len(null)),
        probability=probabilities[0],
    )


class _Layer(NamedTuple):
    """Weights and offsets of one layer, of one network or of all."""

    weights: Float[Array, "*networks n_in n_out"]
    offset: Float[Array, "*networks n_out"]


def _initial(rng: np.random.Generator, n_networks: int, n_in: int, n_units: int) -> tuple[_Layer, ...]:
    """Networks before training: normal weights after He et al. (2015); none in the last, so that all say 1/2."""

    def layer(n_before: int, n_after: int, deviation: float) -> _Layer:
        weights = deviation * rng.normal(size=(n_networks, n_before, n_after))
        return _Layer(jnp.asarray(weights, jnp.float32), jnp.zeros((n_networks, n_after), jnp.float32))

    return layer(n_in, n_units, (2 / n_in) ** 0.5), layer(n_units, n_units, (2 / n_units) ** 0.5), layer(n_units, 1, 0)


def _logit(layers: tuple[_Layer, ...], rows: Float[Array, "*shape n_in"]) -> Float[Array, "*shape"]:
    """Log odds that each row is a draw."""
    for layer in layers[:-1]:
        rows = jax.nn.relu(rows @ layer.weights + layer.offset)
    return (rows @ layers[-1].weights + layers[-1].offset)[..., 0]


@jax.jit
def _train(
    layers: tuple[_Layer, ...],
    pairs: Float[Array, "n two n_in"],
    signs: Float[Array, "n_networks n"],
    batches: Int[Array, "n_steps batch_size"],
) -> tuple[_Layer, ...]:
    """Train all networks on the same batches of (truth, draw) pairs, each with its own labels."""
    optimiser = optax.adamw(optax.cosine_decay_schedule(_RATE, len(batches)), weight_decay=_WEIGHT_DECAY)

    def loss(layers, signs, batch):
        logit = _logit(layers, batch)
        return jnp.mean(jax.nn.softplus(signs * logit[:, 0]) + jax.nn.softplus(-signs * logit[:, 1]))

    def step(carry: Any, rows: Array) -> tuple[Any, None]:
        layers, state = carry
        gradient = jax.vmap(jax.grad(loss), in_axes=(0, 0, None))(layers, signs[:, rows], pairs[rows])
        change, state = optimiser.update(gradient, state, layers)
        return (optax.apply_updates(layers, change), state), None

    (layers, _), _ = jax.lax.scan(step, (layers, optimiser.init(layers)), batches)
    return layers


@jax.jit
def _probabilities(layers: Any, rows: Float[Array, "n n_in"]) -> Float[Array, "n_networks n"]:
    """Probability, by each network, that each row is a draw."""
    return jax.nn.sigmoid(jax.vmap(_logit, in_axes=(0, None))(layers, rows))
