"""Losses: what a method minimises.

Each is a function `(network, batch, key) -> scalar`, the mean over the batch. A batch is a triple: theta (n, n_theta)
in the prior's unconstrained space; x (n, n_views, ...), several data sets with the same theta, of which each step sees
one, chosen by the key; and which of them exist, valid (n, n_views). `network_loss` makes a `Loss` of a function and a
network, which is what the training loop takes.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from eagleray.errors import InputError
from eagleray.networks.emulators import Emulator
from eagleray.networks.estimators import DensityEstimator, RatioEstimator
from eagleray.networks.selection import Selection
from eagleray.records import Key

Loss = Callable[[Any, Any, Key], Float[Array, ""]]
"""(trainable parameters, batch of data with a leading axis, key) -> mean loss over the batch."""

Batch = tuple[Array, Any, Array]
"""theta, x, valid."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=("constants", "arrays"),
    meta_fields=("function", "graphdef", "options"),
)
@dataclasses.dataclass(frozen=True)
class NetworkLoss:
    """A loss as a pytree: handed to a compiled function, it is compiled once for all networks of one structure.

    Attributes:
        function: `(network, batch, key, **options) -> scalar`.
        graphdef: Structure of the network.
        constants: Its untrained variables.
        arrays: Options of the function that are arrays.
        options: Other options of the function, hashable, as pairs.
    """

    function: Callable[..., Float[Array, ""]]
    graphdef: Any
    constants: Any
    arrays: dict[str, Any]
    options: tuple[tuple[str, Any], ...]

    def __call__(self, params: Any, batch: Any, key: Key) -> Float[Array, ""]:
        """Mean loss over a batch."""
        network = nnx.merge(self.graphdef, params, self.constants)
        return self.function(network, batch, key, **self.arrays, **dict(self.options))


def network_loss(
    function: Callable[..., Float[Array, ""]], network: nnx.Module, **options: Any
) -> tuple[Any, NetworkLoss]:
    """Split a network into what is trained and a loss of it.

    Args:
        function: A loss of this module, or another of its kind.
        network: The network.
        **options: Options of the function; arrays, or hashable.

    Returns:
        Trainable parameters, and the loss as a function of them.
    """
    graphdef, params, constants = nnx.split(network, nnx.Param, ...)
    arrays = {name: value for name, value in options.items() if isinstance(value, jax.Array)}
    rest = tuple((name, value) for name, value in options.items() if name not in arrays)
    return params, NetworkLoss(function, graphdef, constants, arrays, rest)


def posterior_loss(network: DensityEstimator, batch: Batch, key: Key) -> Float[Array, ""]:
    """Neural posterior estimation: minus the mean ln q(theta | x) [nats], or a vector field's regression.

    Args:
        network: Density of theta given x.
        batch: theta, x, valid.
        key: Typed PRNG key; consumed.

    References:
        Papamakarios & Murray (2016), NeurIPS 29, proposition 1; Lueckmann et al. (2017), NeurIPS 30; for vector fields
        Wildberger et al. (2023), NeurIPS 36 (FMPE); Sharrock et al. (2024), ICML 41 (NPSE).
    """
    key_view, key_loss = jax.random.split(key)
    theta, x, exists = pick_view(key_view, batch)
    keys = jax.random.split(key_loss, len(theta))
    return mean_over(jax.vmap(network.loss)(keys, theta, x), exists)


def likelihood_loss(
    network: DensityEstimator, batch: Batch, key: Key, *, jitter: Float[Array, " n_features"] | None = None
) -> Float[Array, ""]:
    """Neural likelihood estimation: minus the mean ln q(x | theta) [nats].

    Whole-numbered data are jittered by up to half a unit, so that a density can be fitted to them; its value at a whole
    number is then the probability of that number, as far as the density is even across one unit.

    Args:
        network: Density of x given theta.
        batch: theta, x, valid.
        key: Typed PRNG key; consumed.
        jitter: (n_features,) half-width of the noise added to each entry of x; None for none.

    References:
        Papamakarios, Sterratt & Murray (2019), AISTATS 22, section 3; Theis et al. (2016), ICLR, section 3.1 (jitter).
    """
    key_view, key_jitter, key_loss = jax.random.split(key, 3)
    theta, x, exists = pick_view(key_view, batch)
    if jitter is not None:
        x = x + jitter * jax.random.uniform(key_jitter, x.shape, x.dtype, -1.0, 1.0)
    keys = jax.random.split(key_loss, len(theta))
    return mean_over(jax.vmap(network.loss)(keys, x, theta), exists)


def factorised_loss(
    network: DensityEstimator,
    batch: Batch,
    key: Key,
    *,
    n_parts: int,
    jitter: Float[Array, " n_part"] | None = None,
) -> Float[Array, ""]:
    """`likelihood_loss` of data in parts that are independent and alike given theta: segments, trials.

    Every part is a training example of one small density q(part | theta).

    Args:
        network: Density of one part given theta.
        batch: theta, x (n, n_views, n_parts * n_part), valid.
        key: Typed PRNG key; consumed.
        n_parts: Parts of x, one after the other.
        jitter: (n_part,) as in `likelihood_loss`.

    Returns:
        The loss of all parts together [nats].
    """
    key_view, key_parts = jax.random.split(key)
    theta, x, exists = pick_view(key_view, batch)
    parts = x.reshape(len(theta) * n_parts, 1, -1)
    flat = (jnp.repeat(theta, n_parts, axis=0), parts, jnp.repeat(exists, n_parts)[:, None])
    return n_parts * likelihood_loss(network, flat, key_parts, jitter=jitter)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RatioSettings:
    """Which ratio estimation.

    Attributes:
        kind: "a", joint against marginal pairs, one by one; "b", which of n_contrasts + 1 thetas made x, which leaves
            the ratio free up to a function of x; "c", the same with one more class, "none of them", which does not.
        n_contrasts: Other thetas that each x is shown with; for "a" one is shown.
        gamma: For "c", prior odds of "one of them".
        balance: Weight of the balance condition E_joint[d] + E_marginal[d] = 1, which makes the ratio conservative; for
            "a" alone. 100 in the paper.
    """

    kind: Literal["a", "b", "c"] = "c"
    n_contrasts: int = 9
    gamma: float = 1.0
    balance: float = 0.0

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse what is no ratio estimation."""
        if self.kind not in ("a", "b", "c"):
            raise ValueError(f"kind must be one of a, b, c, got {self.kind!r}")
        if self.n_contrasts < 1:
            raise ValueError(f"n_contrasts must be at least 1, got {self.n_contrasts!r}")
        if not 0 < self.gamma < np.inf:
            raise ValueError(f"gamma must be positive and finite, got {self.gamma!r}")
        if not 0 <= self.balance < np.inf or (self.balance > 0 and self.kind != "a"):
            raise ValueError(f"balance must be at least 0, and 0 but for the kind a, got {self.balance!r}")


def selection_loss(network: Selection, batch: Batch, key: Key) -> Float[Array, ""]:
    """Minus the mean ln probability of what is and what is not valid [nats], over all views.

    Args:
        network: Chance to be valid given theta.
        batch: theta, x, valid; x is not looked at.
        key: Not used.
    """
    del key
    theta, _, valid = batch
    log_odds = jax.vmap(network.log_odds)(theta)[:, None]
    return jax.nn.softplus(jnp.where(valid, -log_odds, log_odds)).mean()


def ratio_loss(network: RatioEstimator, batch: Batch, key: Key, *, settings: RatioSettings) -> Float[Array, ""]:
    """Neural ratio estimation: tell the theta that made x from thetas that did not, which are others of the batch.

    These are shown whether or not their own data are valid, so that the ratio holds p(valid | theta).

    Args:
        network: Ratio of theta and x.
        batch: theta, x, valid.
        key: Typed PRNG key; consumed.
        settings: Which ratio estimation.

    References:
        "a": Hermans, Begy & Louppe (2020), ICML 37, algorithm 1; "b": Durkan, Murray & Papamakarios (2020), ICML 37,
        equation 6; "c": Miller, Weniger & Forre (2022), NeurIPS 35, equation 9; balance: Delaunoy et al. (2022),
        NeurIPS 35, equation 5.
    """
    key_view, key_contrast = jax.random.split(key)
    theta, x, exists = pick_view(key_view, batch)
    n = len(theta)
    others = contrasts(key_contrast, n, 1 if settings.kind == "a" else settings.n_contrasts)
    # The first of the shown thetas is the true one. (n, n_members, 1 + n_contrasts)
    logits = jax.vmap(network.log_ratios)(theta[jnp.concatenate([jnp.arange(n)[:, None], others], axis=1)], x)
    return mean_over(_ratio_losses(logits, exists, settings).mean(axis=1), exists)


def _ratio_losses(logits: Array, exists: Array, settings: RatioSettings) -> Array:
    """Loss of each x and member, from the ln ratios of the true theta (first) and of others."""
    true, other = logits[..., 0], logits[..., 1:]
    if settings.kind == "b":
        return jax.nn.logsumexp(logits, axis=-1) - true
    if settings.kind == "a":
        cross_entropy = jax.nn.softplus(-true) + jax.nn.softplus(other[..., 0])
        share = exists[:, None] / jnp.maximum(exists.sum(), 1)
        excess = ((jax.nn.sigmoid(true) + jax.nn.sigmoid(other[..., 0])) * share).sum(axis=0, keepdims=True) - 1.0
        return cross_entropy + settings.balance * excess**2
    # Miller et al. (2022): h = gamma sum_k r_k / K against 1, for a set with the true theta and for one without it.
    gamma, k = settings.gamma, other.shape[-1]
    log_gamma = np.log(gamma)
    with_true = jnp.concatenate([true[..., None], other[..., : k - 1]], axis=-1)
    log_with = jnp.logaddexp(np.log(k), log_gamma + jax.nn.logsumexp(with_true, axis=-1))
    log_without = jnp.logaddexp(np.log(k), log_gamma + jax.nn.logsumexp(other, axis=-1))
    chosen = log_with - (log_gamma + true)
    none = log_without - np.log(k)
    return (gamma * chosen + none) / (1.0 + gamma)


def atomic_loss(
    network: DensityEstimator,
    batch: Batch,
    key: Key,
    *,
    log_prior: Callable[[Array], Array],
    n_contrasts: int = 9,
) -> Float[Array, ""]:
    """Sequential neural posterior estimation (SNPE-C) with atoms: theta drawn from any proposal.

    The true theta must be picked from others of the batch by q(theta | x) / p(theta): right for the posterior under the
    prior whatever the proposal was. In the prior's unconstrained space q cannot leave the prior's support, which is
    what the method suffers from elsewhere.

    Args:
        network: Density of theta given x.
        batch: theta, x, valid.
        key: Typed PRNG key; consumed.
        log_prior: Ln prior density of a position in the unconstrained space.
        n_contrasts: Other thetas that each x is shown with.

    References:
        Greenberg, Nonnenmacher & Macke (2019), ICML 36, section 3.3 and equation 5; Durkan, Murray & Papamakarios
        (2020), ICML 37.
    """
    key_view, key_contrast = jax.random.split(key)
    theta, x, exists = pick_view(key_view, batch)
    n = len(theta)
    shown = theta[jnp.concatenate([jnp.arange(n)[:, None], contrasts(key_contrast, n, n_contrasts)], axis=1)]
    logits = jax.vmap(jax.vmap(network.log_prob, in_axes=(0, None)))(shown, x) - jax.vmap(jax.vmap(log_prior))(shown)
    return mean_over(jax.nn.logsumexp(logits, axis=1) - logits[:, 0], exists)


def scored_loss(
    network: DensityEstimator, batch: tuple[Array, Array, Array, Array], key: Key, *, weight: float = 1.0
) -> Float[Array, ""]:
    """`likelihood_loss`, plus how far d ln q / d theta is from the simulator's own d ln p / d theta (SCANDAL).

    The simulator's score may be that of the joint p(x, z | theta) with its random choices z: its mean given x is the
    score of x, so that the mean squared distance has its minimum there.

    Args:
        network: Density of x given theta.
        batch: theta, x, valid, and scores (n, n_views, n_theta): d ln p / d position at each pair.
        key: Typed PRNG key; consumed.
        weight: Weight of the mean squared distance.

    References:
        Brehmer et al. (2020), PNAS 117, 5242, equation 7.
    """
    theta, x, valid, scores = batch
    key_view, key_loss = jax.random.split(key)
    theta, seen, exists = pick_view(key_view, (theta, (x, scores), valid))
    keys = jax.random.split(key_loss, len(theta))
    losses = jax.vmap(network.loss)(keys, seen[0], theta)
    learnt = jax.vmap(jax.grad(lambda t, y: network.log_prob(y, t)))(theta, seen[0])
    return mean_over(losses + weight * ((learnt - seen[1]) ** 2).sum(axis=-1), exists)


def emulation_loss(
    network: Emulator, batch: tuple[Array, ...], key: Key, *, gradient_weight: float = 1.0
) -> Float[Array, ""]:
    """Mean squared error of an emulator's members in units of the outputs' spread, and of their gradients if known.

    Args:
        network: The emulator.
        batch: Inputs (n, n_inputs); outputs (n, n_outputs); where known, d output / d input (n, n_outputs, n_inputs).
        key: Not used.
        gradient_weight: Weight of the gradients' mean squared error, in units of the spreads of outputs over inputs.

    References:
        Czarnecki et al. (2017), NeurIPS 30, equation 1 (Sobolev training).
    """
    del key
    inputs, outputs, *gradients = batch
    scale = network.spread[...]
    error = ((jax.vmap(network.each)(inputs) - outputs[:, None]) / scale) ** 2
    if not gradients:
        return error.mean()
    slopes = jax.vmap(jax.jacfwd(network.each))(inputs)  # (n, n_members, n_outputs, n_inputs)
    steepness = network.input_scale.scale[...] / scale[:, None]
    return error.mean() + gradient_weight * (((slopes - gradients[0][:, None]) * steepness) ** 2).mean()


def expectation_loss(
    network: Emulator,
    batch: tuple[Array, Array],
    key: Key,
    *,
    log_mean: Callable[[Array, Array], Array],
    evenness: Float[Array, " n_outputs"],
) -> Float[Array, ""]:
    """Mean of k (y / m - 1 - ln(y / m)) over positive outputs y and members of an emulator: least where m is E[y].

    For gamma distributed outputs of shape k, such as averages of k periodograms, it is their likelihood (Whittle's);
    for others a quasi-likelihood for scatter in proportion to the mean.

    Args:
        network: Predicts coefficients of m.
        batch: Inputs (n, n_inputs); outputs (n, n_outputs).
        key: Not used.
        log_mean: (n_inputs,), coefficients -> (n_outputs,) ln m.
        evenness: k of each output, (mean / standard deviation)^2 or about that.

    References:
        Wedderburn (1974), Biometrika 61, 439, section 3.
    """
    del key

    def one(inputs: Array, outputs: Array) -> Array:
        said = jax.vmap(lambda coefficients: log_mean(inputs, coefficients))(network.each(inputs))
        # The logarithm of the ratio itself, so that rounding cancels; an output of 0 is left without its infinite part.
        ratio = outputs * jnp.exp(-said)
        some = jnp.where(outputs > 0, jnp.maximum(ratio, jnp.finfo(ratio.dtype).tiny), 1.0)
        return (evenness * (ratio - 1.0 - jnp.where(outputs > 0, jnp.log(some), -said))).mean()

    return jax.vmap(one)(*batch).mean()


def pick_view(key: Key, batch: Batch) -> tuple[Array, Any, Bool[Array, " n"]]:
    """One view of each row: theta (n, n_theta), x (n, ...), and whether it exists; x is 0 where it does not."""
    theta, x, valid = batch
    rows, n_views = jnp.arange(len(theta)), valid.shape[1]
    # One view leaves nothing to chance: random numbers are slow to compile.
    view = jax.random.randint(key, (len(theta),), 0, n_views) if n_views > 1 else jnp.zeros(len(theta), int)
    exists = valid[rows, view]

    def seen(leaf: Array) -> Array:
        picked = leaf[rows, view]
        there = exists.reshape(-1, *[1] * (picked.ndim - 1))
        return jnp.where(there, picked, jnp.zeros((), picked.dtype))

    return theta, jax.tree.map(seen, x), exists


def contrasts(key: Key, n: int, n_contrasts: int) -> Array:
    """(n, n_contrasts) rows other than each row itself; those of one row differ.

    Raises:
        InputError: If a batch has no rows enough.
    """
    if n_contrasts >= n:
        raise InputError(
            f"a batch must have more rows than the {n_contrasts} contrasts, in training and validation, got {n}; "
            "simulate more, or ask for fewer contrasts"
        )
    steps = 1 + jax.random.permutation(key, n - 1)[:n_contrasts]
    return (jnp.arange(n)[:, None] + steps) % n


def mean_over(values: Float[Array, " n"], exists: Bool[Array, " n"]) -> Float[Array, ""]:
    """Mean of the values that exist."""
    return jnp.where(exists, values, 0.0).sum() / jnp.maximum(exists.sum(), 1)
