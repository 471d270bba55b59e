"""Structure functions are those of a double loop; noise comes off; a random walk gives a straight line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.summaries.structure_function import grid_structure_function, structure_function

RNG = np.random.default_rng(7)
N = 120
TIMES = RNG.permutation(np.cumsum(RNG.exponential(1.0, N)))
VALUES = 5.0 + np.sin(TIMES / 7.0) + RNG.normal(size=N)
ERRORS = RNG.uniform(0.1, 0.5, N)
MASK = (RNG.uniform(size=N) < 0.8).astype(float)
EDGES = np.array([0.0, 0.5, 2.0, 5.0, 20.0, 500.0, 600.0])
X64 = pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-10), (False, 2e-5)])


def by_loop(times, values, errors, mask, edges):
    """Lag, structure function, scatter and number of pairs of each bin, one pair at a time."""
    found = [[] for _ in edges[1:]]
    for i in range(times.size):
        for j in range(i):
            lag = abs(times[i] - times[j])
            k = np.searchsorted(edges, lag, side="right") - 1
            if mask[i] and mask[j] and 0 <= k < edges.size - 1:
                found[k].append((lag, (values[i] - values[j]) ** 2 - errors[i] ** 2 - errors[j] ** 2))
    rows = []
    for pairs in found:
        if pairs:
            lag, square = np.transpose(pairs)
            rows.append([lag.mean(), square.mean(), square.std() / np.sqrt(lag.size), lag.size])
        else:
            rows.append([np.nan, np.nan, np.nan, 0])
    return np.transpose(rows)


@X64
def test_irregular_is_the_double_loop(x64, rtol):
    theirs = by_loop(TIMES, VALUES, ERRORS, MASK, EDGES)
    assert theirs[3, -1] == 0
    with jax.enable_x64(x64):
        arrays = [jnp.asarray(a, float) for a in (TIMES, VALUES, EDGES, ERRORS, MASK)]
        ours = jax.jit(lambda t, v, edges, e, m: structure_function(t, v, edges, errors=e, mask=m))(*arrays)
    np.testing.assert_allclose(np.stack(ours), theirs, rtol=rtol, atol=rtol)


@X64
def test_grid_is_the_double_loop(x64, rtol):
    dt, lags = 0.25, np.array([1, 2, 7, 100])
    times = np.arange(N) * dt
    edges = [np.array([k - 0.5, k + 0.5]) * dt for k in lags]
    theirs = np.concatenate([by_loop(times, VALUES, ERRORS, MASK, e) for e in edges], axis=1)
    with jax.enable_x64(x64):
        function = jax.jit(lambda v, e, m: grid_structure_function(v, dt, lags, errors=e, mask=m))
        ours = function(*(jnp.asarray(a, float) for a in (VALUES, ERRORS, MASK)))
    np.testing.assert_allclose(np.stack(ours), theirs, rtol=rtol, atol=rtol)


@pytest.mark.slow
def test_gradient_is_finite_differences():
    with jax.enable_x64(True):
        times, edges, values = jnp.asarray(TIMES), jnp.asarray(EDGES[:-1]), jnp.asarray(VALUES)
        function = jax.jit(lambda v: structure_function(times, v, edges).value @ jnp.arange(1.0, 6.0))
        direction = jnp.asarray(RNG.normal(size=N))
        numeric = (function(values + 1e-5 * direction) - function(values - 1e-5 * direction)) / 2e-5
        np.testing.assert_allclose(jax.jit(jax.grad(function))(values) @ direction, numeric, rtol=1e-7)


def test_random_walk_with_gaps_and_noise():
    """SF(k) = k for unit steps; 2000 walks, each lag within 5 standard errors: false alarm 2e-6.

    Twin: the noise left on.
    """
    lags = np.array([1, 4, 16])
    mask = jnp.asarray(np.arange(64) % 10 != 3, jnp.float32)

    @jax.jit
    @jax.vmap
    def draw(key):
        key_steps, key_noise = jax.random.split(key)
        walk = jnp.cumsum(jax.random.normal(key_steps, (64,))) + 0.5 * jax.random.normal(key_noise, (64,))
        walk = jnp.where(mask > 0, walk, 1e3)
        with_errors = grid_structure_function(walk, 1.0, lags, errors=jnp.full(64, 0.5), mask=mask)
        return with_errors.value, grid_structure_function(walk, 1.0, lags, mask=mask).value

    right, wrong = (np.asarray(x, np.float64) for x in draw(jax.random.split(jax.random.key(0), 2000)))
    error = right.std(axis=0) / np.sqrt(2000)
    assert (np.abs(right.mean(axis=0) - lags) < 5 * error).all()
    assert (np.abs(wrong.mean(axis=0) - lags) > 5 * error)[0]


def test_strict_mode_and_errors(strict):
    values = jnp.asarray(VALUES, jnp.float32)
    for function in (
        lambda v: structure_function(v, v, jnp.array([0.0, 1.0, 9.0]), errors=jnp.ones(N), mask=jnp.ones(N)).value,
        lambda v: grid_structure_function(v, 1.0, np.array([1, 2]), errors=jnp.ones(N), mask=jnp.ones(N)).value,
    ):
        assert jax.eval_shape(function, values).dtype == jnp.float32
    with pytest.raises(ValueError, match="edges must hold at least two edges, got 1"):
        structure_function(values, values, jnp.array([0.0]))
    with pytest.raises(ValueError, match="lags must be between 1 and n_bins - 1 = 119, got"):
        grid_structure_function(values, 1.0, np.array([0, 2]))
