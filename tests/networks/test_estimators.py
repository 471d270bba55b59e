"""Estimators: scales from data, ensembles, ratios, and settings from plain mappings."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eagleray.errors import InputError
from eagleray.networks.densities.autoregressive import MaskedMlp
from eagleray.networks.embeddings.relevance import depends_on
from eagleray.networks.embeddings.vectors import MlpSettings
from eagleray.networks.estimators import DensityEstimator, RatioEstimator
from eagleray.networks.layers import ResidualMlp, compute_in
from eagleray.networks.settings import NetworkSettings, network_settings
from eagleray.networks.warps import Warp

SMALL = network_settings(
    {
        "density": {"kind": "mixture", "n_components": 2, "hidden": [8]},
        "embedding": {"hidden": [8], "n_embedded": 4},
        "classifier": {"width": 8, "n_blocks": 1},
        "n_members": 3,
    }
)
RNG = np.random.default_rng(0)
VALUES = RNG.normal([1.0, -2.0], [3.0, 0.1], (200, 2)).astype(np.float32)
CONTEXTS = np.exp(3.0 * RNG.normal(size=(200, 3))).astype(np.float32)


@pytest.fixture(scope="module")
def estimator():
    network = DensityEstimator(2, 3, SMALL, rngs=nnx.Rngs(0))
    network.learn_scales(VALUES, CONTEXTS)
    return network


@pytest.fixture(scope="module")
def log_probs(estimator):
    """The density at many values, given one context; compiled once for each number of values."""
    return jax.jit(jax.vmap(estimator.log_prob, in_axes=(0, None)))


def test_density_of_an_ensemble_is_the_mean_of_its_members_and_integrates_to_one(estimator, log_probs):
    context = jnp.asarray(CONTEXTS[0])
    axes = [jnp.linspace(-40.0, 40.0, 201), jnp.linspace(-4.0, 0.0, 201)]
    points = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    densities = np.exp(log_probs(points, context))
    assert densities.sum() * 0.4 * 0.02 == pytest.approx(1.0, abs=0.02)
    graphdef, state = nnx.split(estimator.members)
    warp, regression, value = estimator.value_warp, estimator.regression, jnp.asarray(VALUES[0])

    @jax.jit
    def member(i):
        one = nnx.merge(graphdef, jax.tree.map(lambda leaf: leaf[i], state))
        predicted = regression.predicted(context)
        log_prob = one.density.log_prob(regression.residual(warp(value), predicted), one.digest(context, predicted))
        return jnp.exp(log_prob + warp.log_det(value) + regression.log_det())

    members = [float(member(i)) for i in range(3)]
    assert len(set(members)) == 3
    assert np.exp(log_probs(jnp.asarray(VALUES[:1]), context)) == pytest.approx(np.mean(members), rel=1e-4)


def test_draws_of_an_ensemble_follow_its_density(estimator, log_probs):
    """Mean of the first entry, by quadrature and by 20 000 draws; 5 standard errors."""
    context = jnp.asarray(CONTEXTS[0])
    draws = np.asarray(jax.jit(estimator.sample_many, static_argnums=2)(jax.random.key(0), context, 20_000))
    axes = [jnp.linspace(-40.0, 40.0, 201), jnp.linspace(-4.0, 0.0, 201)]
    points = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    weights = np.exp(log_probs(points, context))
    mean = (weights @ np.asarray(points)) / weights.sum()
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - mean), 5 * draws.std(axis=0) / np.sqrt(len(draws)) + 1e-3)


def test_constants_are_learnt_once_for_all_members_and_not_trained(estimator):
    centres = np.asarray(estimator.members.embedding.warp.mean[...])
    assert centres.shape == (3, 3)
    np.testing.assert_array_equal(centres[0], centres[2])
    assert np.abs(centres).max() > 0
    _, params, _ = nnx.split(estimator, nnx.Param, ...)
    names = {"/".join(map(str, path)) for path, _ in nnx.to_flat_state(params)}
    assert not any("warp" in name or "strength" in name for name in names)


def test_warp_inverts_and_differentiates():
    x = np.stack([np.exp(4.0 * RNG.normal(size=500)), RNG.standard_t(1.5, 500), RNG.normal(size=500), np.ones(500)], 1)
    warp = Warp(4)
    warp.learn(x)
    np.testing.assert_array_equal(warp.bent[...], [True, True, False, False])
    y = jax.jit(jax.vmap(warp))(x)
    assert np.abs(y.mean(axis=0)).max() < 1e-3
    np.testing.assert_allclose(y.std(axis=0)[:3], 1.0, atol=1e-3)
    np.testing.assert_allclose(jax.jit(jax.vmap(warp.inverse))(y), x, rtol=2e-3, atol=1e-4)
    slopes = jax.jit(jax.vmap(lambda v: jnp.diagonal(jax.jacobian(warp)(v))))(x)
    np.testing.assert_allclose(jax.jit(jax.vmap(warp.log_det))(x), np.log(slopes).sum(axis=1), atol=1e-3)


def test_warp_of_counts_with_many_zeros_stays_wide():
    """Narrowing without end would fit the zeros ever better; the asinh is no narrower than one count."""
    counts = np.where(RNG.random(2000) < 0.6, 0, RNG.geometric(0.01, 2000)).astype(float)
    warp = Warp(1)
    warp.learn(counts[:, None])
    assert float(warp.width[...][0]) >= 1.0


def test_warp_keeps_what_it_is_told_to_keep():
    warp = Warp(2)
    warp.learn(np.stack([RNG.integers(0, 3, 100), RNG.normal(5, 2, 100)], axis=1), keep=(True, False))
    np.testing.assert_allclose(warp(jnp.array([2.0, 5.0]))[0], 2.0)


def test_entries_without_dependence_are_found_and_weakened():
    """Level 0.01 for all false alarms together; dependence in the mean, and in the spread alone."""
    theta = RNG.normal(size=(2000, 2))
    features = RNG.normal(size=(2000, 30))
    features[:, 3] += theta[:, 0]
    features[:, 7] *= np.exp(0.5 * theta[:, 1])
    np.testing.assert_array_equal(np.flatnonzero(depends_on(theta, features)), [3, 7])
    embedding = MlpSettings(hidden=(8,)).build(jnp.zeros(30), rngs=nnx.Rngs(0))
    embedding.learn_scales(features, theta)
    assert float(embedding.strength[...][3]) == 1.0
    assert float(embedding.strength[...][0]) < 1.0


def test_ratios_are_those_of_pairs_and_start_at_one():
    network = RatioEstimator(2, 3, SMALL, rngs=nnx.Rngs(0))
    network.learn_scales(VALUES, CONTEXTS)
    ratios = jax.jit(network.log_ratios)(jnp.asarray(VALUES[:5]), jnp.asarray(CONTEXTS[0]))
    assert ratios.shape == (3, 5)
    np.testing.assert_array_equal(ratios, 0.0)
    assert float(jax.jit(network.log_ratio)(jnp.asarray(VALUES[0]), jnp.asarray(CONTEXTS[0]))) == pytest.approx(
        0, abs=1e-6
    )


def masked(value):
    """Of three entries, without a context to speak of, so that nothing but masked products is in half precision."""
    network = MaskedMlp(3, 1, (16, 16), 2, rngs=nnx.Rngs(0))
    network.output.kernel.set_value(jnp.ones((16, 6)))
    return network, lambda: network(value, jnp.zeros(1))


def residual(value):
    network = ResidualMlp(3, 16, 2, 2, rngs=nnx.Rngs(0))
    return network, lambda: network(value)


@pytest.mark.parametrize("make", [residual, masked])
def test_half_precision_products_change_little_and_return_single_precision(make):
    network, call = make(jnp.array([0.3, -1.0, 2.0]))
    single = jax.jit(call)()
    compute_in(network, jnp.bfloat16)
    half = jax.jit(lambda: call())()
    assert half.dtype == jnp.float32
    assert 0 < float(jnp.abs(half - single).max()) < 0.1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"density": "nonsense"}, "network.density.kind must be one of coupling, .*, got 'nonsense'"),
        ({"density": {"n_bins": 0}}, "network.density: n_bins must be from 1 to 100, got 0"),
        (
            {"density": {"kind": "mixture", "n_bins": 4}},
            "network.density.n_bins is no setting; known here: kind, n_comp",
        ),
        ({"embedding": {"hidden": "wide"}}, "network.embedding.hidden"),
        ({"n_members": 0}, "network: n_members must be at least 1, got 0"),
        ({"width": 3}, "network.width is no setting; known here: density, classifier"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(given, message):
    with pytest.raises(InputError, match=message) as caught:
        network_settings(given)
    assert "\n" not in str(caught.value)


def test_settings_go_to_plain_mappings_and_back():
    import dataclasses
    import json

    assert network_settings(json.loads(json.dumps(dataclasses.asdict(SMALL)))) == SMALL
    assert network_settings({}) == NetworkSettings()
    assert network_settings({"density": "mixture"}).density.kind == "mixture"
