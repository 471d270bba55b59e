"""Draw i is the same in any chunking."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.simulators.batch import draw_bytes, finite_draws, map_draws


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
    with pytest.raises(ValueError, match="memory must be at least 1, got -5"):
        map_draws(draw, jax.random.key(0), 3, memory=-5)
    with pytest.raises(ValueError, match=r"inputs must have a leading axis of n = 3, got the shape \(2,\)"):
        map_draws(draw, jax.random.key(0), 3, inputs=np.ones(2))
    with pytest.raises(ValueError, match=r"inputs must have a leading axis of n = 3, got the shape \(\)"):
        map_draws(draw, jax.random.key(0), 3, inputs=1.0)
    with pytest.raises(ValueError, match="draws must hold at least one array, got none"):
        finite_draws({})


def test_bytes_of_a_draw_count_loop_bodies_once():
    def steps(key, n_steps):
        def step(x, _):
            y = x * 2.0
            return y, y[0]

        return jax.lax.scan(step, jnp.zeros(5), length=n_steps)[1]

    key = jax.random.key(0)
    few, many = (draw_bytes(lambda key, n=n: steps(key, n), key) for n in (1, 101))
    assert many - few == 4 * 100
    assert 4 * (5 + 5 + 5 + 1) <= few <= 4 * 60
    assert draw_bytes(lambda key, x: x + 1.0, key, np.zeros(7, np.float32)) == 4 * 7
    assert draw_bytes(lambda key: key, key) == 0


def test_chunks_follow_the_memory():
    def sizes(n, **settings):
        told = [0]
        map_draws(draw, jax.random.key(0), n, progress=lambda done, n: told.append(done), **settings)
        return np.diff(told).tolist()

    one = draw_bytes(draw, jax.random.key(0))
    assert sizes(10) == [10]
    assert sizes(10, memory=4 * one) == [4, 4, 2]
    assert sizes(10, memory=9 * one) == [5, 5]  # rather than 9 and 1
    assert sizes(3, memory=1) == [1, 1, 1]
    assert sizes(3, memory=1, chunk_size=3) == [3]


def test_strict(strict):
    inputs = {"scale": np.ones(5, np.float32)}
    draws = map_draws(lambda key, t: t["scale"] * jax.random.normal(key), jax.random.key(0), 5, inputs=inputs)
    assert finite_draws(draws).all()


def test_finite_draws():
    draws = {"x": np.array([[1.0, 2.0], [np.nan, 1.0], [0.0, 0.0]]), "y": np.array([0.0, 1.0, np.inf])}
    np.testing.assert_array_equal(finite_draws(draws | {"n": np.arange(3)}), [True, False, False])
    marked = map_draws(lambda key, x: jnp.log(x), jax.random.key(0), 3, inputs=np.array([1.0, -1.0, 2.0], np.float32))
    np.testing.assert_array_equal(finite_draws(marked), [True, False, True])


SHARDED = """
import jax, jax.numpy as jnp, numpy as np
from eagleray.simulators.batch import map_draws
from eagleray.simulators.timmer_koenig import gaussian_process

one, two = jax.devices()[:1], jax.devices()
assert len(two) == 2
power = jnp.arange(1.0, 65.0) ** -2.0
seen = []

def draw(key, scale):
    x = gaussian_process(key, scale * power, 128, 1.0)
    return {"x": x, "spectrum": jnp.abs(jnp.fft.rfft(x)), "n": jax.random.poisson(key, 5.0)}

def compare(n, **settings):
    run = lambda devices: map_draws(
        draw, jax.random.key(5), n, inputs=np.arange(1, n + 1, dtype=np.float32), devices=devices,
        progress=lambda done, n: seen.append(done), **settings)
    jax.tree.map(np.testing.assert_array_equal, run(one), run(two))

compare(21)
compare(21, chunk_size=6)
compare(1)
seen.clear()
map_draws(jax.random.normal, jax.random.key(0), 10, chunk_size=5, progress=lambda *a: seen.append(a[0]))
assert seen == [4, 8, 10], seen
"""


@pytest.mark.slow
def test_two_devices_make_the_same_draws_as_one():
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SHARDED], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
