"""Complex normals: the generator is Threefry, the law is normal."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from eagleray.simulators import normals
from eagleray.simulators.normals import complex_normals

N = 200_000


def test_generator_is_threefry():
    key = jax.random.key_data(jax.random.key(20))
    counter = jnp.arange(7, dtype=jnp.uint32)
    high, low = normals._threefry(key[0], key[1], jnp.zeros_like(counter), counter)
    expected = jax.extend.random.threefry_2x32(key, jnp.concatenate([jnp.zeros_like(counter), counter]))
    np.testing.assert_array_equal(jnp.concatenate([high, low]), expected)


def test_angles_in_float64_arithmetic_and_float32():
    turns = np.linspace(-0.5, 0.5, 100_001)
    squared = turns**2
    for terms, exact in ((normals._SINE, np.sin(np.pi * turns)), (normals._COSINE, np.cos(np.pi * turns))):
        series = np.polynomial.polynomial.polyval(squared, terms) * (turns if terms is normals._SINE else 1)
        np.testing.assert_allclose(series, exact, atol=1e-10)
    cosine, sine = normals._cosine_and_sine(jnp.asarray(turns, jnp.float32))
    np.testing.assert_allclose(cosine, np.cos(2 * np.pi * turns), atol=1e-6)
    np.testing.assert_allclose(sine, np.sin(2 * np.pi * turns), atol=1e-6)


@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_law_is_normal(kind):
    """False-alarm rate 1e-6 for each of four tests and two kinds of key; a scale wrong by 3 % fails."""
    x, y = complex_normals(jax.random.key(3, impl=kind), N, jnp.float32)
    for sample in (x, y, (x + y) / np.sqrt(2.0)):
        assert stats.kstest(np.asarray(sample, float), "norm").pvalue > 1e-6
    assert stats.kstest(np.asarray(x * x + y * y, float), "chi2", args=(2,)).pvalue > 1e-6
    assert stats.kstest(1.03 * np.asarray(x, float), "norm").pvalue < 1e-6


def test_tails_reach_as_far_as_they_should():
    """Poisson count of |x| > 4 in 2e7 numbers; false-alarm rate 1e-6 (5 sd)."""
    draw = jax.jit(
        jax.vmap(lambda key: sum(jnp.sum(jnp.abs(z) > 4.0) for z in complex_normals(key, 100_000, jnp.float32)))
    )
    found = int(draw(jax.random.split(jax.random.key(4), 100)).sum())
    expected = 2e7 * 2 * stats.norm.sf(4.0)
    assert abs(found - expected) < 5 * np.sqrt(expected)


def test_neighbours_and_neighbouring_keys_are_independent():
    """Correlations within 5 sd of zero."""
    keys = jax.random.split(jax.random.key(5), 2)
    (x, y), (other, _) = (complex_normals(key, N, jnp.float32) for key in keys)
    for a, b in ((x, y), (x[1:], x[:-1]), (x, other), (x * x - 1, y * y - 1), (y[1:], x[:-1])):
        product = np.asarray(a * b, float)
        assert abs(product.mean()) < 5 * product.std() / np.sqrt(product.size)


def test_same_draw_in_any_batch():
    keys = jax.random.split(jax.random.key(6), 5)
    draw = jax.jit(jax.vmap(lambda key: complex_normals(key, 33, jnp.float32)))
    np.testing.assert_array_equal(draw(keys)[0][3:4], draw(keys[3:4])[0])
    np.testing.assert_allclose(draw(keys)[0][3], complex_normals(keys[3], 33, jnp.float32)[0], atol=3e-6)


def test_reuse_of_a_key_is_found():
    with jax.debug_key_reuse(True):
        key = jax.random.key(0)
        complex_normals(key, 4, jnp.float32)
        with pytest.raises(jax.errors.KeyReuseError):
            complex_normals(key, 4, jnp.float32)
