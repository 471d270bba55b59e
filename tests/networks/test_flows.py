"""Splines and flows: bijections that are normalised, and start as the identity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eagleray.networks.estimators import FlowEstimator, FlowSettings
from eagleray.networks.flows import SplineCouplingFlow
from eagleray.networks.splines import n_spline_parameters, spline_forward, spline_inverse

SMALL = FlowSettings(embedding=(16,), n_embedded=4, n_layers=3, hidden=(16,), n_bins=5)


def wild(module, key, scale=0.3):
    """The module with every trainable weight drawn at random, far from its quiet start."""
    graphdef, params, rest = nnx.split(module, nnx.Param, ...)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    drawn = [scale * jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return nnx.merge(graphdef, jax.tree.unflatten(structure, drawn), rest)


def test_spline_inverts_and_differentiates():
    x = jnp.linspace(-7.0, 7.0, 401)
    parameters = 1.5 * jax.random.normal(jax.random.key(0), (401, n_spline_parameters(6)))
    forward, inverse = jax.jit(spline_forward), jax.jit(spline_inverse)
    y, log_det = forward(x, parameters, 5.0)
    back, log_det_inverse = inverse(y, parameters, 5.0)
    again, _ = forward(back, parameters, 5.0)
    np.testing.assert_allclose(again, y, atol=1e-4)
    np.testing.assert_allclose(log_det_inverse, -log_det, rtol=0.05, atol=0.05)
    slope = jax.jit(jax.vmap(jax.grad(lambda v, p: spline_forward(v[None], p[None], 5.0)[0][0])))(x, parameters)
    np.testing.assert_allclose(jnp.log(slope), log_det, atol=2e-3)


def test_spline_is_the_identity_outside_its_interval_and_for_zero_parameters():
    x = jnp.array([-40.0, -5.1, 5.1, 40.0])
    parameters = jax.random.normal(jax.random.key(1), (4, n_spline_parameters(6)))
    for function in (jax.jit(spline_forward), jax.jit(spline_inverse)):
        y, log_det = function(x, parameters, 5.0)
        np.testing.assert_array_equal(y, x)
        np.testing.assert_array_equal(log_det, 0.0)
    inner = jnp.linspace(-4.9, 4.9, 50)
    y, log_det = jax.jit(spline_forward)(inner, jnp.zeros((50, n_spline_parameters(6))), 5.0)
    np.testing.assert_allclose(y, inner, atol=1e-5)
    np.testing.assert_allclose(log_det, 0.0, atol=1e-5)


@pytest.mark.parametrize("n_value", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_flow_density_follows_from_its_own_sampling_map(n_value):
    """log q(sample(z)) = log N(z) - ln |d sample / d z|, the Jacobian by autodiff."""
    flow = wild(SplineCouplingFlow(n_value, 3, n_layers=3, hidden=(8,), rngs=nnx.Rngs(0)), jax.random.key(2))
    context = jnp.array([0.3, -1.0, 0.5])
    with pytest.MonkeyPatch.context() as patch:  # hand the base noise in, to differentiate the map from it
        patch.setattr(jax.random, "normal", lambda noise, *_: noise)
        to_value = jax.jit(lambda noise: flow.sample(noise, context))
        to_value(jnp.zeros(n_value))
        jacobian = jax.jit(jax.jacobian(lambda noise: flow.sample(noise, context)))
        jacobian(jnp.zeros(n_value))
    log_prob = jax.jit(lambda value: flow.log_prob(value, context))
    for i in range(8):
        noise = 2.5 * jax.random.normal(jax.random.key(i), (n_value,))  # some of it beyond the splines' interval
        log_det = jnp.linalg.slogdet(jacobian(noise))[1]
        expected = -0.5 * (noise**2).sum() - 0.5 * n_value * np.log(2 * np.pi) - log_det
        np.testing.assert_allclose(log_prob(to_value(noise)), expected, rtol=0.02, atol=0.05)


@pytest.mark.slow
def test_estimator_density_integrates_to_one():
    """By quadrature far beyond the splines' interval: a map that is no bijection outside it fails here."""
    estimator = wild(FlowEstimator(1, 3, SMALL, rngs=nnx.Rngs(0)), jax.random.key(0))
    rng = np.random.default_rng(0)
    estimator.learn_scales(rng.normal(-2.0, 3.0, (100, 1)), rng.normal(size=(100, 3)))
    grid = np.linspace(-400.0, 400.0, 80_001, dtype=np.float32)
    density = np.exp(np.asarray(jax.jit(jax.vmap(estimator.log_prob, in_axes=(0, None)))(grid[:, None], np.ones(3))))
    assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=0.01)


def test_scales_are_saved_and_not_trained():
    estimator = FlowEstimator(2, 3, SMALL, rngs=nnx.Rngs(0))
    estimator.learn_scales(np.ones((10, 2)) * [1.0, 2.0], np.zeros((10, 3)))
    np.testing.assert_allclose(estimator.value_scale.scale[...], 1.0)  # never varies: scale one, not zero
    _, params, rest = nnx.split(estimator, nnx.Param, ...)
    trainable = {"/".join(map(str, path)) for path, _ in nnx.to_flat_state(params)}
    assert not any("scale" in name for name in trainable)
    assert len(jax.tree.leaves(rest)) == 4


def test_settings_refuse_sizes_that_make_no_network():
    with pytest.raises(ValueError, match="n_layers must be at least 1, got 0"):
        FlowSettings(n_layers=0)
    with pytest.raises(ValueError, match="bound must be positive"):
        FlowSettings(bound=float("nan"))
