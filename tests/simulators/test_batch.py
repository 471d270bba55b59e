"""Draw i is the same in any chunking."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.simulators.batch import map_draws


def draw(key, scale=1.0):
    """A mapping of arrays of different shapes."""
    key_a, key_b = jax.random.split(key)
    return {"a": scale * jax.random.normal(key_a, (3,)), "b": jax.random.randint(key_b, (), 0, 1000)}


def test_draws_do_not_depend_on_the_chunks():
    key = jax.random.key(0)
    whole = map_draws(draw, key, 11, chunk_size=11)
    assert (whole["a"].shape, whole["b"].shape) == ((11, 3), (11,))
    assert isinstance(whole["a"], np.ndarray)
    for chunk_size in (1, 4, 500):
        part = map_draws(draw, key, 11, chunk_size=chunk_size)
        np.testing.assert_allclose(part["a"], whole["a"], rtol=1e-6)
        np.testing.assert_array_equal(part["b"], whole["b"])
    alone = jax.jit(draw)(jax.random.fold_in(key, 7))
    np.testing.assert_allclose(alone["a"], whole["a"][7], rtol=1e-6)
    longer = map_draws(draw, key, 13, chunk_size=5)
    np.testing.assert_array_equal(longer["b"][:11], whole["b"])
    assert len(np.unique(whole["a"])) == 33


def test_inputs_go_entry_by_entry():
    key = jax.random.key(1)
    scale = np.arange(7, dtype=np.float32)
    plain = map_draws(draw, key, 7)
    scaled = map_draws(draw, key, 7, inputs=scale, chunk_size=3)
    np.testing.assert_allclose(scaled["a"], scale[:, None] * plain["a"], rtol=1e-6)
    tree = map_draws(lambda key, t: t["x"] + t["y"].sum(), key, 4, inputs={"x": jnp.arange(4), "y": jnp.ones((4, 2))})
    np.testing.assert_allclose(tree, [2, 3, 4, 5])


def test_progress_is_told_after_each_chunk():
    told = []
    map_draws(draw, jax.random.key(0), 10, chunk_size=4, progress=lambda done, n: told.append((done, n)))
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_one_compilation_for_all_chunks():
    traces = []

    def counted(key):
        traces.append(1)
        return jax.random.normal(key)

    map_draws(counted, jax.random.key(0), 10, chunk_size=3)
    assert len(traces) == 1


def test_error_messages():
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        map_draws(draw, jax.random.key(0), 0)
    with pytest.raises(ValueError, match="chunk_size must be at least 1, got 0"):
        map_draws(draw, jax.random.key(0), 3, chunk_size=0)
