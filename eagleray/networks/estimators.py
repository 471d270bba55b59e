"""Networks made whole: raw numbers in, densities or ratios out, with scales learnt from data and several members."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from eagleray.networks.densities.density import Density
from eagleray.networks.layers import Constant, ResidualMlp, compute_in
from eagleray.networks.regression import Regression
from eagleray.networks.settings import NetworkSettings
from eagleray.networks.warps import Warp
from eagleray.records import AnyArray, Features, Key

_PRECISIONS = {"float32": None, "bfloat16": jnp.bfloat16}

Context = Any
"""One observation, or whatever else a density is conditioned on: a plain vector (n_context,), or a `Features`."""

ContextShapes = tuple[tuple[str, tuple[int, ...], str], ...]
"""Name, shape and type of each array of a context; a plain array has one, without a name."""


def context_shapes(context: Context) -> ContextShapes:
    """What a context looks like."""
    if not isinstance(context, Features):
        return (("", tuple(context.shape), str(context.dtype)),)
    named = ((field.name, getattr(context, field.name)) for field in dataclasses.fields(Features))
    return tuple((name, tuple(leaf.shape), str(leaf.dtype)) for name, leaf in named if leaf is not None)


def context_of(shapes: ContextShapes) -> Context:
    """An example of a context that looks so, without numbers.

    Raises:
        ValueError: If nothing looks so.
    """
    leaves: dict[str, Any] = {}
    for name, shape, kind in shapes:
        if name in leaves or jnp.dtype(kind).kind not in "biuf" or not all(type(n) is int and n > 0 for n in shape):
            raise ValueError(f"no context has an array {name!r} of shape {shape} and type {kind!r}")
        leaves[name] = jax.ShapeDtypeStruct(tuple(shape), jnp.dtype(kind))
    return leaves[""] if set(leaves) == {""} else Features(**leaves)


def as_context(given: Any) -> Context:
    """An observation on the device: its `Features`, or one array of whatever else was given, a list too."""
    return jax.tree.map(jnp.asarray, given) if isinstance(given, Features) else jnp.asarray(given)


class _Member(nnx.Module):
    """One network of an ensemble: what digests the context, and the density given what it says."""

    def __init__(
        self, n_value: int, example: Any, settings: NetworkSettings, *, n_predicted: int, rngs: nnx.Rngs
    ) -> None:
        """Build both parts."""
        self.embedding = settings.embedding.build(example, rngs=rngs)
        self.density: Density = settings.density.build(n_value, self.embedding.n_embedded + n_predicted, rngs=rngs)

    def digest(self, context: Context, predicted: Float[Array, " n_predicted"]) -> Array:
        """What the density is given: the embedded context, and what the regression took out, so that it can undo it."""
        return jnp.concatenate([self.embedding(context), predicted])


class _Ensemble(nnx.Module):
    """Networks of one structure, trained at the same time: one, with a leading axis on its weights.

    Args:
        make: Makes a member of (n_value, example, settings), with an `embedding` of the context.
        n_value: Size of the vector.
        example: A context, of which only the shapes are read; or the size of a plain vector.
        settings: What it is made of.
        rngs: Keys for the initial weights.
    """

    def __init__(self, make: Any, n_value: int, example: Any, settings: NetworkSettings, *, rngs: nnx.Rngs) -> None:
        """Build the members."""
        if isinstance(example, int):
            example = jax.ShapeDtypeStruct((example,), jnp.float32)
        self.context = context_shapes(example)
        self.n_members = settings.n_members
        self.value_warp = Warp(n_value)

        @nnx.split_rngs(splits=settings.n_members)
        @nnx.vmap
        def make_members(rngs: nnx.Rngs) -> Any:
            return make(n_value, example, settings, rngs=rngs)

        self.members: Any = make_members(rngs)
        compute_in(self, _PRECISIONS[settings.precision])

    def _each(self, function: Any, *inputs: Any) -> Array:
        """A function of every member, and of its own entry of the inputs, stacked."""
        graphdef, weights = nnx.split(self.members)
        return jax.vmap(lambda member, *own: function(nnx.merge(graphdef, member), *own))(weights, *inputs)


class DensityEstimator(_Ensemble):
    """p(value | context): warp the value, take out what is linear in the context, ask an ensemble about the rest.

    The density of the ensemble is the mean of its members', which are trained at the same time.

    Args:
        n_value: Size of the vector whose density it is.
        example: A context, of which only the shapes are read; or the size of a plain vector.
        settings: What it is made of.
        rngs: Keys for the initial weights.
    """

    def __init__(self, n_value: int, example: Any, settings: NetworkSettings, *, rngs: nnx.Rngs) -> None:
        """Build the members."""
        regression = Regression(n_value, _n_entries(example) if settings.regression else 0)
        super().__init__(
            functools.partial(_Member, n_predicted=regression.n_predicted), n_value, example, settings, rngs=rngs
        )
        self.regression = regression

    def learn_scales(self, values: Float[AnyArray, "n n_value"], contexts: Any, *, bend_values: bool = False) -> None:
        """Take all constants from training data.

        Args:
            values: (n, n_value).
            contexts: n of them, along the leading axis of every leaf.
            bend_values: Whether values may be bent (`Warp`); parameters in a prior's own space need no bending.
        """
        discrete = self.members.density.discrete
        self.value_warp.learn(values, bend=bend_values, keep=discrete)
        self.regression.learn(jax.jit(jax.vmap(self.value_warp))(jnp.asarray(values)), contexts, keep=discrete)
        learn_embedding(self.members.embedding, values, contexts)

    def loss(self, key: Key, value: Float[Array, " n_value"], context: Context) -> Float[Array, ""]:
        """Mean over the members of what training minimises, for one pair, in the value's own units."""
        predicted = self.regression.predicted(context)
        residual = self.regression.residual(self.value_warp(value), predicted)

        def one(member: _Member) -> Array:
            return member.density.loss(key, residual, member.digest(context, predicted))

        return self._each(one).mean() - self._log_det(value)

    def log_prob(self, value: Float[Array, " n_value"], context: Context) -> Float[Array, ""]:
        """Ln density of one vector given its context."""
        predicted = self.regression.predicted(context)
        residual = self.regression.residual(self.value_warp(value), predicted)

        def one(member: _Member) -> Array:
            return member.density.log_prob(residual, member.digest(context, predicted))

        return jax.nn.logsumexp(self._each(one)) - jnp.log(self.n_members) + self._log_det(value)

    def _log_det(self, value: Float[Array, " n_value"]) -> Float[Array, ""]:
        """Ln |d residual / d value|."""
        return self.value_warp.log_det(value) + self.regression.log_det()

    def sample(self, key: Key, context: Context) -> Float[Array, " n_value"]:
        """Draw one vector given a context."""
        key_member, key_draw = jax.random.split(key)
        predicted = self.regression.predicted(context)
        drawn = self._each(lambda member: member.density.sample(key_draw, member.digest(context, predicted)))
        residual = drawn[jax.random.randint(key_member, (), 0, self.n_members)]
        return self.value_warp.inverse(self.regression.restore(residual, predicted))

    def sample_many(self, key: Key, context: Context, n: int) -> Float[Array, "n n_value"]:
        """Draw n vectors given one context, which is digested once; members draw in equal shares, in random order."""
        key_order, key_draw = jax.random.split(key)
        share = -(-n // self.n_members)
        predicted = self.regression.predicted(context)

        def one(member: _Member, key: Key) -> Array:
            return member.density.sample_many(key, member.digest(context, predicted), share)

        drawn = self._each(one, jax.random.split(key_draw, self.n_members)).reshape(self.n_members * share, -1)
        if self.n_members > 1:
            drawn = jax.random.permutation(key_order, drawn)[:n]
        return jax.vmap(lambda r: self.value_warp.inverse(self.regression.restore(r, predicted)))(drawn)


class RatioEstimator(_Ensemble):
    """Ln of the ratio p(value | context) / p(value), by a classifier of pairs.

    Args:
        n_value: Size of the vector.
        example: A context, of which only the shapes are read; or the size of a plain vector.
        settings: What it is made of.
        rngs: Keys for the initial weights.

    References:
        Hermans, Begy & Louppe (2020), ICML 37, section 3; Cranmer, Pavez & Louppe (2015), arXiv:1506.02169.
    """

    def __init__(self, n_value: int, example: Any, settings: NetworkSettings, *, rngs: nnx.Rngs) -> None:
        """Build the members."""
        super().__init__(_Classifier, n_value, example, settings, rngs=rngs)

    def learn_scales(self, values: Float[AnyArray, "n n_value"], contexts: Any) -> None:
        """Take all constants from training data; see `DensityEstimator.learn_scales`."""
        self.value_warp.learn(values, bend=False)
        learn_embedding(self.members.embedding, values, contexts)

    def log_ratios(self, values: Float[Array, "k n_value"], context: Context) -> Float[Array, "n_members k"]:
        """Ln ratio of k vectors with one context, which is digested once, by every member."""
        warped = jax.vmap(self.value_warp)(values)
        return self._each(lambda member: member(warped, context))

    def log_ratio(self, value: Float[Array, " n_value"], context: Context) -> Float[Array, ""]:
        """Ln ratio of one vector: the mean of the members' ratios."""
        return jax.nn.logsumexp(self.log_ratios(value[None], context)[:, 0]) - jnp.log(self.n_members)


class _Classifier(nnx.Module):
    """One network of an ensemble of classifiers."""

    def __init__(self, n_value: int, example: Any, settings: NetworkSettings, *, rngs: nnx.Rngs) -> None:
        """Build both parts."""
        self.embedding = settings.embedding.build(example, rngs=rngs)
        self.head = ResidualMlp(
            n_value + self.embedding.n_embedded,
            settings.classifier.width,
            settings.classifier.n_blocks,
            1,
            zero_output=True,
            rngs=rngs,
        )

    def __call__(self, values: Float[Array, "k n_value"], context: Context) -> Float[Array, " k"]:
        """Ln ratios of k values with one context."""
        embedded = self.embedding(context)
        return jax.vmap(lambda value: self.head(jnp.concatenate([value, embedded]))[0])(values)


def _n_entries(example: Any) -> int:
    """Size of a context that is a plain vector; 0 for any other."""
    if isinstance(example, int):
        return example
    shape = getattr(example, "shape", ())
    return shape[0] if len(shape) == 1 else 0


def learn_embedding(embeddings: Any, values: Any, contexts: Any) -> None:
    """Let one embedding of an ensemble learn its constants, and give them to all, in place."""
    graphdef, state = nnx.split(embeddings)
    first = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf[0], state))
    first.learn_scales(contexts, values)
    n_members = jax.tree.leaves(state)[0].shape[0]
    constants = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (n_members, *leaf.shape)), nnx.state(first, Constant))
    nnx.update(embeddings, constants)
