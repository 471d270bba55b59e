"""Splines and flows: bijections that are normalised, and start as the identity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eagleray.networks.densities.autoregressive import AutoregressiveSettings, MaskedMlp
from eagleray.networks.densities.coupling import CouplingSettings
from eagleray.networks.densities.mixed import MixedSettings
from eagleray.networks.densities.mixture import MixtureSettings
from eagleray.networks.densities.splines import n_spline_parameters, spline_forward, spline_inverse

FLOWS = {
    "coupling": CouplingSettings(n_layers=3, hidden=(8,)),
    "affine": AutoregressiveSettings(n_layers=3, hidden=(8,), n_bins=0),
    "autoregressive": AutoregressiveSettings(n_layers=3, hidden=(8,)),
}


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


@pytest.mark.parametrize(
    ("kind", "n_value"),
    [("coupling", 3), *[pytest.param(k, n, marks=pytest.mark.slow) for k in FLOWS for n in (1, 2, 4)]],
)
def test_flow_density_follows_from_its_own_sampling_map(kind, n_value):
    """log q(sample(z)) = log N(z) - ln |d sample / d z|, the Jacobian by autodiff."""
    flow = wild(FLOWS[kind].build(n_value, 3, rngs=nnx.Rngs(0)), jax.random.key(2))
    context = jnp.array([0.3, -1.0, 0.5])
    with pytest.MonkeyPatch.context() as patch:  # hand the base noise in, to differentiate the map from it
        patch.setattr(jax.random, "normal", lambda noise, *_: noise)
        to_value = jax.jit(lambda noise: flow.sample(noise, context))
        to_value(jnp.zeros(n_value))
        jacobian = jax.jit(jax.jacfwd(lambda noise: flow.sample(noise, context)))
        jacobian(jnp.zeros(n_value))
    log_prob = jax.jit(lambda value: flow.log_prob(value, context))
    for i in range(8):
        noise = 2.5 * jax.random.normal(jax.random.key(i), (n_value,))  # some of it beyond the splines' interval
        log_det = jnp.linalg.slogdet(jacobian(noise))[1]
        expected = -0.5 * (noise**2).sum() - 0.5 * n_value * np.log(2 * np.pi) - log_det
        np.testing.assert_allclose(log_prob(to_value(noise)), expected, rtol=0.02, atol=0.05)


@pytest.mark.parametrize("settings", [MixtureSettings(n_components=3, hidden=(8,)), FLOWS["coupling"]])
def test_density_integrates_to_one(settings):
    """By quadrature far beyond the splines' interval: a map that is no bijection outside it fails here."""
    density = wild(settings.build(1, 3, rngs=nnx.Rngs(0)), jax.random.key(0))
    grid = jnp.linspace(-200.0, 200.0, 40_001)
    log_prob = jax.jit(lambda values: jax.vmap(density.log_prob, in_axes=(0, None))(values, jnp.ones(3)))
    assert np.trapezoid(np.exp(log_prob(grid[:, None])), grid) == pytest.approx(1.0, abs=0.01)


def test_mixture_draws_have_the_moments_of_its_density():
    """Means and covariances of 40 000 draws against quadrature of the density; 5 standard errors."""
    density = wild(MixtureSettings(n_components=3, hidden=(8,)).build(2, 3, rngs=nnx.Rngs(0)), jax.random.key(5))
    axis = jnp.linspace(-12.0, 12.0, 241)
    points = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    prob = jnp.exp(jax.jit(jax.vmap(density.log_prob, in_axes=(0, None)))(points, jnp.ones(3))) * 0.1**2
    assert float(prob.sum()) == pytest.approx(1.0, abs=0.01)
    mean = prob @ points
    covariance = (points - mean).T @ ((points - mean) * prob[:, None])
    draws = np.asarray(jax.jit(density.sample_many, static_argnums=2)(jax.random.key(1), jnp.ones(3), 40_000))
    error = 5.0 / np.sqrt(len(draws))
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=error * float(jnp.sqrt(jnp.trace(covariance))))
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=4 * error * float(jnp.trace(covariance)))


@pytest.mark.slow
def test_masked_outputs_depend_on_earlier_entries_and_on_all_of_the_context():
    network = wild(MaskedMlp(4, 2, (16, 16), 3, rngs=nnx.Rngs(0)), jax.random.key(3))
    by_value, by_context = jax.jit(jax.jacobian(network, argnums=(0, 1)))(jnp.ones(4), jnp.ones(2))
    depends = np.abs(by_value).max(axis=1) > 0
    np.testing.assert_array_equal(depends, np.tri(4, k=-1, dtype=bool))
    assert (np.abs(by_context) > 0).all()


@pytest.mark.slow
def test_mixed_probabilities_add_up_and_its_draws_follow_them():
    """All 2 x 3 outcomes, the continuous entry integrated out; 20 000 draws against them, 4.5 standard errors."""
    settings = MixedSettings(categories=(2, 0, 3), hidden=(8,), continuous=CouplingSettings(n_layers=2, hidden=(8,)))
    density = wild(settings.build(3, 2, rngs=nnx.Rngs(0)), jax.random.key(4))
    grid = jnp.linspace(-60.0, 60.0, 4001)
    log_prob = jax.jit(jax.vmap(density.log_prob, in_axes=(0, None)))
    outcomes = [(a, b) for a in range(2) for b in range(3)]
    columns = [jnp.stack([jnp.full_like(grid, a), grid, jnp.full_like(grid, b)], axis=1) for a, b in outcomes]
    masses = np.array([np.trapezoid(np.exp(log_prob(column, jnp.ones(2))), grid) for column in columns])
    assert masses.sum() == pytest.approx(1.0, abs=0.01)
    draws = np.asarray(jax.jit(density.sample_many, static_argnums=2)(jax.random.key(6), jnp.ones(2), 20_000))
    found = np.array([((draws[:, 0] == a) & (draws[:, 2] == b)).mean() for a, b in outcomes])
    assert (np.abs(found - masses) < 4.5 * np.sqrt(masses * (1 - masses) / len(draws)) + 1e-4).all()
    assert float(density.log_prob(jnp.array([0.0, 0.0, 3.0]), jnp.ones(2))) == -np.inf


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CouplingSettings(n_layers=0), "n_layers must be at least 1, got 0"),
        (lambda: CouplingSettings(bound=float("nan")), "bound must be positive"),
        (lambda: AutoregressiveSettings(n_bins=-1), "n_bins must be from 1 to 100, got -1"),
        (lambda: MixtureSettings(n_components=0), "n_components must be at least 1"),
        (lambda: MixedSettings(categories=(0, 0)), "categories must be 0 or at least 2"),
        (lambda: MixedSettings(categories=(1, 2)), "categories must be 0 or at least 2"),
    ],
)
def test_settings_refuse_sizes_that_make_no_network(make, message):
    with pytest.raises(ValueError, match=message):
        make()
