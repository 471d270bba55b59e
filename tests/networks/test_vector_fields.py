"""Flow matching and diffusion: densities by the probability flow, checked where the posterior is known."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from eagleray.networks.densities.diffusion import DiffusionSettings, _log_sigma
from eagleray.networks.densities.flow_matching import FlowMatchingSettings
from eagleray.networks.densities.odes import integrate

SMALL = {"width": 32, "n_blocks": 1, "n_steps": 10}
KINDS = {
    "flow_matching": FlowMatchingSettings(**SMALL),
    "vp": DiffusionSettings(path="vp", **SMALL),
    "ve": DiffusionSettings(path="ve", **SMALL),
    "edm": DiffusionSettings(path="edm", **SMALL),
}


# x = MIXING theta + NOISE * normal, theta standard normal: value and context are both of unit variance in the mean.
MIXING, NOISE = np.array([[0.8, 0.3], [-0.4, 0.6]], np.float32), 0.5
COVARIANCE = np.linalg.inv(np.eye(2) + MIXING.T @ MIXING / NOISE**2)
GAIN = COVARIANCE @ MIXING.T / NOISE**2


def wild(density, scale=0.3):
    """The density with every weight drawn at random, far from its quiet start."""
    graphdef, params, rest = nnx.split(density, nnx.Param, ...)
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(5), len(leaves))
    drawn = [scale * jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return nnx.merge(graphdef, jax.tree.unflatten(structure, drawn), rest)


def linear_gaussian(key, n):
    """n pairs (theta, x)."""
    key_theta, key_noise = jax.random.split(key)
    theta = jax.random.normal(key_theta, (n, 2))
    return theta, theta @ MIXING.T + NOISE * jax.random.normal(key_noise, (n, 2))


@functools.partial(jax.jit, static_argnames=("graphdef", "n_steps"))
def trained(graphdef, params, key, n_steps=3000):
    """Weights after Adam along a cosine, each step with pairs of its own."""
    optimiser = optax.adam(optax.cosine_decay_schedule(1e-2, n_steps))

    def loss(params, key):
        key_pairs, key_loss = jax.random.split(key)
        pairs = linear_gaussian(key_pairs, 128)
        return jax.vmap(nnx.merge(graphdef, params).loss)(jax.random.split(key_loss, 128), *pairs).mean()

    def step(carry, key):
        params, state = carry
        updates, state = optimiser.update(jax.grad(loss)(params, key), state)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, optimiser.init(params)), jax.random.split(key, n_steps))[0][0]


@functools.partial(jax.jit, static_argnames=("graphdef",))
def judged(graphdef, params):
    """Mean absolute error of the ln density at draws from the truth, and draws with their contexts."""
    density = nnx.merge(graphdef, params)
    theta, x = linear_gaussian(jax.random.key(11), 500)
    exact = jax.scipy.stats.multivariate_normal.logpdf(theta - x @ GAIN.T, jnp.zeros(2), COVARIANCE)
    error = jnp.abs(jax.vmap(density.log_prob)(theta, x) - exact).mean()
    draws = jax.vmap(density.sample)(jax.random.split(jax.random.key(12), 500), x)
    return error, draws - x @ GAIN.T


def check(graphdef, params):
    """Hold a density to the posterior: five sigma of the moments of 500 draws are 0.22, 0.22 and 0.32 in its units."""
    error, residuals = judged(graphdef, params)
    assert error < 0.1
    scaled = residuals @ np.linalg.inv(np.linalg.cholesky(COVARIANCE)).T
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=0.25)
    np.testing.assert_allclose(np.cov(scaled.T), np.eye(2), atol=0.35)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_training_finds_a_linear_gaussian_posterior(kind):
    graphdef, params = nnx.split(KINDS[kind].build(2, 2, rngs=nnx.Rngs(0)))
    check(graphdef, trained(graphdef, params, jax.random.key(1)))
    with pytest.raises(AssertionError):
        check(graphdef, params)  # the untrained twin


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_density_follows_from_its_own_sampling_map(kind):
    """log q(sample(z)) = log N(z) - ln |d sample / d z|, the Jacobian by autodiff."""
    settings = dataclasses.replace(KINDS[kind], n_steps=40)
    density = wild(settings.build(2, 2, rngs=nnx.Rngs(0)))
    context = jnp.array([0.3, -1.0])

    @jax.jit
    @jax.vmap
    def both(noise):
        log_det = jnp.linalg.slogdet(jax.jacfwd(density.carry)(noise, context))[1]
        expected = -0.5 * (noise**2).sum() - np.log(2.0 * np.pi) - log_det
        return expected, density.log_prob(density.carry(noise, context), context)

    expected, found = both(2.0 * jax.random.normal(jax.random.key(2), (16, 2)))
    assert np.std(expected) > 0.3  # the field is no trivial one
    np.testing.assert_allclose(found, expected, atol=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_density_integrates_to_one(kind):
    density = wild(dataclasses.replace(KINDS[kind], n_steps=40).build(1, 2, rngs=nnx.Rngs(0)))
    grid = np.linspace(-60.0, 60.0, 12_001, dtype=np.float32)
    log_prob = jax.jit(jax.vmap(density.log_prob, in_axes=(0, None)))(grid[:, None], jnp.array([0.3, -1.0]))
    assert np.trapezoid(np.exp(log_prob), grid) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.slow
def test_untrained_flow_matching_is_the_normal_distribution():
    """The field is zero at first: draws are the noise, whatever the context."""
    density = KINDS["flow_matching"].build(2, 2, rngs=nnx.Rngs(0))
    draws = density.sample_many(jax.random.key(0), jnp.ones(2), 3)
    np.testing.assert_array_equal(
        draws, jax.vmap(lambda key: jax.random.normal(key, (2,)))(jax.random.split(jax.random.key(0), 3))
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_output_has_the_dtype_of_the_input(kind):
    density = wild(KINDS[kind].build(2, 2, rngs=nnx.Rngs(0)))
    key, narrow = jax.random.key(0), jnp.zeros(2, jnp.float32)
    with jax.enable_x64(True):
        for dtype in (jnp.float32, jnp.float64):
            value = jnp.zeros(2, dtype)
            assert density.log_prob(value, value).dtype == dtype
            assert density.loss(key, value, value).dtype == dtype
            assert density.sample(key, value).dtype == dtype
        wide = density.log_prob(jnp.zeros(2, jnp.float64), jnp.zeros(2, jnp.float64))
    np.testing.assert_allclose(density.log_prob(narrow, narrow), wide, atol=1e-4)


@pytest.mark.parametrize("kind", ["vp", "ve"])
def test_training_sees_all_noise_levels_of_the_steps(kind):
    settings = KINDS[kind]
    ends = _log_sigma(settings, jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(ends, np.log([settings.sigma_min, settings.sigma_max]), rtol=1e-3)


def test_integration_is_of_fourth_order():
    """dy/dt = (y z, -z) from (1, 1): z = exp(-t), y = exp(1 - z); halved steps leave a sixteenth of the error."""

    def error(n_steps):
        times = np.linspace(0.0, 2.0, n_steps + 1, dtype=np.float64)
        end = integrate(lambda _, state: (state[0] * state[1], -state[1]), (1.0, 1.0), jnp.asarray(times))
        return abs(float(end[0]) - np.exp(1.0 - np.exp(-2.0)))

    with jax.enable_x64(True):
        assert error(8) / error(16) == pytest.approx(16.0, rel=0.15)


@pytest.mark.parametrize(
    ("settings", "wrong", "message"),
    [
        (FlowMatchingSettings, {"n_steps": 0}, "n_steps must be at least 1, got 0"),
        (FlowMatchingSettings, {"sigma_min": 0.0}, "sigma_min must be between 0 and 1, got 0.0"),
        (FlowMatchingSettings, {"alpha": -1.0}, "alpha must be above -1, got -1.0"),
        (DiffusionSettings, {"width": 0}, "width must be at least 1, got 0"),
        (DiffusionSettings, {"path": "subvp"}, "path must be vp, ve or edm, got 'subvp'"),
        (DiffusionSettings, {"sigma_min": float("nan")}, "sigma_min must be positive, got nan"),
        (DiffusionSettings, {"sigma_max": 0.5}, "sigma_max must be above 1 and sigma_min, got 0.5"),
        (DiffusionSettings, {"log_sigma_std": 0.0}, "log_sigma_std must be positive, got 0.0"),
    ],
)
def test_settings_refuse_what_makes_no_density(settings, wrong, message):
    with pytest.raises(ValueError, match=message):
        settings(**wrong)
