"""The compiled calls of a fit: a segment's steps, the same again up to one of them, and the validation loss.

They are compiled once for each structure of their arguments. A loss that is a pytree is one of these: fits of networks
of the same structure, to data of the same shapes, share what is compiled. Nothing is donated: the state before a
segment is kept until its losses are known to be finite.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from eagleray.records import Key
from eagleray.training.data import Plan, Sampler, n_rows
from eagleray.training.faults import Steps, finite_rows
from eagleray.training.losses import Loss
from eagleray.training.optimiser import TrainingSettings, learning_rates, make_optimiser, move_average

_PIECE_BATCHES = 8  # validation rows are evaluated in pieces of so many batches at most


class State(NamedTuple):
    """What a gradient step changes. average: moving average of the parameters; None where there is none."""

    step: Int[Array, ""]
    params: Any
    moments: Any
    average: Any

    def weights(self) -> Any:
        """The parameters to validate and keep."""
        return self.params if self.average is None else self.average


class Rules(NamedTuple):
    """What is compiled in: how rows are picked, settings, steps, and the sharding of what is on every device."""

    sampler: Sampler
    settings: TrainingSettings
    plan: Plan
    everywhere: NamedSharding

    def rates(self) -> optax.Schedule:
        """Learning rate at each step."""
        return learning_rates(self.settings, self.settings.max_epochs * sum(self.plan.n_steps))

    def optimiser(self) -> optax.GradientTransformation:
        """How gradients become updates."""
        return make_optimiser(self.settings, self.rates())

    def start(self, params: Any) -> State:
        """State before the first step."""
        average = params if self.settings.ema else None
        return State(jnp.zeros((), jnp.int32), params, self.optimiser().init(params), average)

    def spread(self, rows: Any) -> Any:
        """Rows divided among the devices (traced)."""
        axis = PartitionSpec(*self.everywhere.mesh.axis_names)
        return jax.lax.with_sharding_constraint(rows, NamedSharding(self.everywhere.mesh, axis))

    def take(self, data: Any, picks: Array) -> Any:
        """A batch (traced)."""
        return self.spread(jax.vmap(self.sampler.row, (None, 0))(data, self.spread(picks)))


class Place(NamedTuple):
    """Where in a fit a segment is. key: that of the fit. epoch, segment: counted from 0. data: the segment's."""

    key: Key
    epoch: int | Array
    segment: int | Array
    data: Any


@functools.partial(jax.jit, static_argnames=("rules", "n_steps"))
def train_segment(loss: Loss, state: State, place: Place, *, rules: Rules, n_steps: int) -> tuple[State, Steps]:
    """The steps of a segment: the state after them, and what is known of each."""
    step = functools.partial(_step, loss, rules, place.data)
    return jax.lax.scan(step, state, _order(place, rules, n_steps))


@functools.partial(jax.jit, static_argnames=("rules", "n_steps"))
def replay_segment(
    loss: Loss, state: State, place: Place, stop: int | Array, *, rules: Rules, n_steps: int
) -> tuple[Any, Any, Key]:
    """Parameters, batch and key of one step of a segment, from the state before the segment."""
    picks, keys = _order(place, rules, n_steps)

    def step(i: Array, state: State) -> State:
        return _step(loss, rules, place.data, state, (picks[i], keys[i]))[0]

    state = jax.lax.fori_loop(0, stop, step, state)
    return state.params, rules.take(place.data, picks[stop]), keys[stop]


@functools.partial(jax.jit, static_argnames="rules")
def validation_loss(loss: Loss, params: Any, data: Any, key: Key, *, rules: Rules) -> Float[Array, ""]:
    """Mean loss over all rows, each counted once."""

    def total(pieces: Any, keys: Array, size: int) -> Array:
        losses = jax.lax.map(lambda piece: loss(params, rules.spread(piece[0]), piece[1]), (pieces, keys))
        return size * losses.sum()

    parts = in_pieces(data, key, _PIECE_BATCHES * rules.plan.batch_size)
    return jnp.stack([total(*part) for part in parts]).sum() / n_rows(data)


def in_pieces(data: Any, key: Key, most: int) -> Iterator[tuple[Any, Array, int]]:
    """All rows in pieces as equal as can be: once or twice (pieces (n_pieces, size, ...), keys (n_pieces,), size)."""
    n = n_rows(data)
    n_pieces = -(-n // most)
    size, n_longer = divmod(n, n_pieces)
    keys = jax.random.split(key, n_pieces)
    start = 0
    for keys_here, size_here in ((keys[:n_longer], size + 1), (keys[n_longer:], size)):
        if len(keys_here):
            rows, shape = slice(start, start + len(keys_here) * size_here), (len(keys_here), size_here)
            yield jax.tree.map(lambda a, r=rows, s=shape: a[r].reshape(*s, *a.shape[1:]), data), keys_here, size_here
            start = rows.stop


def _order(place: Place, rules: Rules, n_steps: int) -> tuple[Array, Array]:
    """What stands for the rows of each step (n_steps, batch_size), and the key of each step."""
    key_segment = jax.random.fold_in(jax.random.fold_in(place.key, place.epoch), place.segment)
    key_picks, key_steps = jax.random.split(key_segment)
    picks = rules.sampler.picks(key_picks, place.data, n_steps * rules.plan.batch_size)
    return picks.reshape(n_steps, rules.plan.batch_size), jax.random.split(key_steps, n_steps)


def _step(loss: Loss, rules: Rules, data: Any, state: State, inputs: tuple[Array, Key]) -> tuple[State, Steps]:
    """One gradient step."""
    picks, key = inputs
    batch = rules.take(data, picks)
    value, gradient = jax.value_and_grad(loss)(state.params, batch, key)
    updates, moments = rules.optimiser().update(gradient, state.moments, state.params)
    params = optax.apply_updates(state.params, updates)
    average = state.average
    if average is not None:
        average = move_average(average, params, rules.settings.ema, state.step)
    after = jax.lax.with_sharding_constraint(State(state.step + 1, params, moments, average), rules.everywhere)
    rate = jnp.asarray(rules.rates()(state.step))
    return after, Steps(value, optax.tree.norm(gradient), rate, 1.0 - finite_rows(batch).mean())
