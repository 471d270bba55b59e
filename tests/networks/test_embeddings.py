"""Embeddings: one contract for all kinds, and what they learn."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from eagleray.networks.embeddings import EMBEDDINGS
from eagleray.networks.embeddings.light_curves import CnnSettings
from eagleray.networks.embeddings.sets import SetSettings
from eagleray.networks.embeddings.spectra import SpectrumSettings
from eagleray.networks.embeddings.transformer import TransformerSettings
from eagleray.networks.embeddings.vectors import MlpSettings, ResidualSettings
from eagleray.networks.layers import Constant
from eagleray.records import Features

SMALL_CNN = CnnSettings(width=4, n_levels=2, kernel=3, hidden=(8,), n_embedded=5)
# Settings; shape of the values; whether there are times; whether the mask has as many axes as sets of sequences need.
CASES = {
    "mlp": (MlpSettings(hidden=(8,), n_embedded=5), (11,), False, 1),
    "residual": (ResidualSettings(width=8, n_blocks=2, n_embedded=5), (11,), False, 1),
    "cnn": (SMALL_CNN, (21, 2), False, 1),
    "spectrum": (
        SpectrumSettings(width=4, n_levels=2, kernel=3, n_cells=4, hidden=(8,), n_embedded=5),
        (21,),
        False,
        1,
    ),
    "transformer": (
        TransformerSettings(width=8, n_heads=2, n_blocks=2, patch=4, hidden=(8,), n_embedded=5),
        (21, 2),
        True,
        1,
    ),
    "set": (SetSettings(item=MlpSettings(hidden=(8,), n_embedded=6), hidden=(8,), n_embedded=5), (7, 3), False, 1),
    "set of light curves": (SetSettings(item=SMALL_CNN, hidden=(8,), n_embedded=5), (4, 9), False, 2),
}
FIXED_LENGTH = ("mlp", "residual")
N = 6


def cases(*quick):
    """All cases; those not named here take long to compile and are slow tests."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


def make_batch(name, n=N, seed=0):
    """A batch of features with gaps and two settings, and room at the end (masked) where the length may vary."""
    _, shape, timed, mask_axes = CASES[name]
    rng = np.random.default_rng(seed)
    mask = rng.uniform(size=(n, *shape[:mask_axes])) < 0.7
    mask[:, 0], mask[:, 1], mask[:, -1] = True, False, name in FIXED_LENGTH
    return Features(
        values=rng.lognormal(2.0, 1.0, size=(n, *shape)).astype(np.float32),
        mask=mask,
        time=np.cumsum(rng.exponential(3.0, size=(n, shape[0])), axis=1).astype(np.float32) if timed else None,
        settings=np.stack([rng.lognormal(-3.0, 2.0, n), rng.normal(size=n)], axis=1).astype(np.float32),
    )


def blank(settings, batch, seed=2):
    """An embedding with random weights everywhere and scales learnt; drawn by NumPy, which compiles nothing."""
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), batch)
    graphdef, params, rest = nnx.split(
        nnx.eval_shape(lambda: settings.build(example, rngs=nnx.Rngs(0))), nnx.Param, ...
    )
    rng = np.random.default_rng(seed)

    def weights(leaf):
        return jnp.asarray(0.5 * rng.normal(size=leaf.shape) / np.sqrt(1 + np.prod(leaf.shape[:-1])) ** 0.5, leaf.dtype)

    def ones(leaf):
        return jnp.asarray(np.ones(leaf.shape), leaf.dtype) if leaf.dtype in (bool, np.float32) else leaf

    embedding = nnx.merge(graphdef, jax.tree.map(weights, params), jax.tree.map(ones, rest))
    embedding.learn_scales(batch)
    return embedding


@functools.cache
def make_embedding(name):
    """An embedding of the case."""
    return blank(CASES[name][0], make_batch(name, n=40, seed=1))


def outputs(weights, constants, batch):
    graphdef, constants = constants
    return jax.vmap(nnx.merge(graphdef, weights, constants))(batch)


def sum_of_squares(weights, data, constants, batch):
    return (outputs(weights, constants, dataclasses.replace(batch, **data)) ** 2).sum()


run, differentiate = jax.jit(outputs), jax.jit(jax.grad(sum_of_squares, argnums=(0, 1)))


def call(name, batch):
    """Outputs of the case's embedding, with JAX at its strictest; all tests share what is compiled."""
    graphdef, weights, constants = nnx.split(make_embedding(name), nnx.Param, ...)
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        return np.asarray(run(weights, (graphdef, constants), batch))


def gradients(name, batch):
    """Gradients of the outputs' sum of squares by weights and by data."""
    graphdef, weights, constants = nnx.split(make_embedding(name), nnx.Param, ...)
    data = {name: getattr(batch, name) for name in ("values", "time", "settings")}
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        return differentiate(weights, data, (graphdef, constants), batch)


def with_garbage(batch, value, *, mask=None):
    """The batch with a value wherever the mask says that there are no data."""
    absent = ~batch.mask
    values = np.where(absent.reshape(*absent.shape, *[1] * (batch.values.ndim - absent.ndim)), value, batch.values)
    time = None if batch.time is None else np.where(absent, value, batch.time).astype(np.float32)
    return dataclasses.replace(
        batch, values=values.astype(np.float32), time=time, mask=batch.mask if mask is None else mask
    )


@pytest.mark.parametrize("name", cases("mlp", "cnn", "transformer", "set"))
def test_what_is_masked_does_not_count(name):
    batch = make_batch(name)
    clean = call(name, batch)
    assert clean.shape == (N, make_embedding(name).n_embedded) == (N, 5)
    assert clean.dtype == jnp.float32
    assert np.isfinite(clean).all()
    for garbage in (np.nan, np.inf, -1e30):
        np.testing.assert_array_equal(call(name, with_garbage(batch, garbage)), clean)
    # The twin: the same where the mask says that there are data.
    seen = call(name, dataclasses.replace(with_garbage(batch, 1e3, mask=np.ones_like(batch.mask)), time=batch.time))
    assert (np.abs(seen - clean).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("name", cases("mlp", "set"))
def test_gradients_are_finite_beside_garbage_and_with_no_data_at_all(name):
    batch = make_batch(name)
    batch.mask[0] = False
    by_weights, by_data = gradients(name, with_garbage(batch, np.nan))
    for leaf in jax.tree.leaves((by_weights, by_data)):
        assert np.isfinite(leaf).all()
    assert all((leaf != 0).any() for leaf in jax.tree.leaves(by_weights))


@pytest.mark.parametrize("name", cases("mlp", "cnn", "transformer", "set"))
def test_settings_matter(name):
    batch = make_batch(name)
    other = dataclasses.replace(batch, settings=batch.settings * np.float32([10.0, 1.0]))
    assert (np.abs(call(name, other) - call(name, batch)).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("name", cases("cnn", "transformer", "set")[len(FIXED_LENGTH) :])
def test_padding_changes_nothing(name):
    """The last point of each batch is masked: without it, and with it, alike."""
    batch = make_batch(name)
    n_points = batch.values.shape[1]

    def shorter(leaf):
        return leaf[:, :-1] if leaf.ndim > 1 and leaf.shape[1] == n_points else leaf

    np.testing.assert_allclose(call(name, jax.tree.map(shorter, batch)), call(name, batch), rtol=1e-4, atol=1e-5)


def flipped(batch):
    return dataclasses.replace(batch, values=batch.values[:, ::-1], mask=batch.mask[:, ::-1])


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("set")])
def test_sets_have_no_order(name):
    batch = make_batch(name)
    np.testing.assert_allclose(call(name, flipped(batch)), call(name, batch), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cnn", pytest.param("spectrum", marks=pytest.mark.slow)])
def test_sequences_have_an_order(name):
    batch = make_batch(name)
    assert (np.abs(call(name, flipped(batch)) - call(name, batch)).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("name", cases("mlp", "cnn"))
def test_scales_are_learnt_of_what_is_there(name):
    settings, batch = CASES[name][0], make_batch(name, n=40)

    def learnt(batch):
        return jax.tree.leaves(nnx.state(blank(settings, batch), Constant))

    clean, untold = learnt(batch), learnt(with_garbage(batch, 1e6, mask=np.ones_like(batch.mask)))
    for ours, theirs in zip(clean, learnt(with_garbage(batch, np.nan)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert np.isfinite(ours).all()
    assert any(not np.allclose(ours, theirs) for ours, theirs in zip(clean, untold, strict=True))


def test_settings_are_logarithms_where_positive_and_standardised():
    rng = np.random.default_rng(0)
    settings = np.stack([rng.lognormal(5.0, 2.0, 200), rng.normal(3.0, 4.0, 200), np.full(200, 7.0)], axis=1)
    batch = Features(values=rng.normal(size=(200, 1)).astype(np.float32), settings=settings.astype(np.float32))
    seen = jax.jit(jax.vmap(blank(MlpSettings(hidden=(2,)), batch).settings))(batch)
    expected = np.stack([np.log(settings[:, 0]), settings[:, 1]], axis=1)
    expected = (expected - expected.mean(axis=0)) / expected.std(axis=0)
    np.testing.assert_allclose(seen[:, :2], expected, atol=1e-4)
    np.testing.assert_allclose(seen[:, 2], 0.0, atol=1e-5)


def test_a_vector_that_never_varies_and_a_plain_array_are_fine():
    embedding = MlpSettings(hidden=(4,)).build(jax.ShapeDtypeStruct((2,), jnp.float32), rngs=nnx.Rngs(0))
    embedding.learn_scales(np.ones((10, 2)) * [1.0, 0.0])
    np.testing.assert_allclose(embedding.warp.scale[...], 1.0)
    assert np.isfinite(embedding(jnp.ones(2, int))).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn", "transformer", "set"])
def test_one_point_is_enough(name):
    batch = make_batch(name)
    one = dataclasses.replace(
        batch, values=batch.values[:, :1], mask=None, time=None if batch.time is None else batch.time[:, :1]
    )
    for leaf in jax.tree.leaves((call(name, one), gradients(name, one))):
        assert np.isfinite(leaf).all()


def test_times_may_be_shifted_but_not_stretched():
    batch = make_batch("transformer")
    clean = call("transformer", batch)
    shifted = call("transformer", dataclasses.replace(batch, time=batch.time + np.float32(64.0)))
    stretched = call("transformer", dataclasses.replace(batch, time=batch.time * np.float32(3.0)))
    np.testing.assert_allclose(shifted, clean, atol=1e-3)
    assert (np.abs(stretched - clean).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MlpSettings(hidden=(8, 0)), "hidden must be at least 1, got 0"),
        (lambda: ResidualSettings(n_blocks=0), "n_blocks must be at least 1, got 0"),
        (lambda: CnnSettings(width=0), "width must be at least 1, got 0"),
        (lambda: CnnSettings(kernel=4), "kernel must be odd and at least 1, got 4"),
        (lambda: SpectrumSettings(kernel=-1), "kernel must be odd and at least 1, got -1"),
        (lambda: SpectrumSettings(n_cells=0), "n_cells must be at least 1, got 0"),
        (lambda: TransformerSettings(patch=0), "patch must be at least 1, got 0"),
        (lambda: TransformerSettings(width=10), "width must be a multiple of n_heads = 4, got 10"),
        (lambda: SetSettings(n_queries=0), "n_queries must be at least 1, got 0"),
    ],
)
def test_settings_refuse_what_makes_no_network(make, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


@pytest.mark.parametrize(
    ("kind", "example", "message"),
    [
        ("mlp", np.zeros((3, 2)), "features.values must have 1 axes for the embedding 'mlp', got shape"),
        ("residual", np.zeros((3, 2)), "features.values must have 1 axes for the embedding 'residual', got shape"),
        ("cnn", np.zeros((3, 2, 2)), "features.values must have 1 or 2 axes for the embedding 'cnn'"),
        ("set", np.zeros(3), "features.values must have 2 or 3 axes for the embedding 'set'"),
        ("cnn", Features(values=np.zeros(3), time=np.zeros(3)), "features.time must be None for the embedding 'cnn'"),
        ("set", Features(values=np.zeros((3, 2)), time=np.zeros((3, 2))), "features.time must be None .* 'mlp'"),
    ],
)
def test_build_refuses_examples_of_another_kind(kind, example, message):
    with pytest.raises(ValueError, match=message):
        EMBEDDINGS[kind]().build(example, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mlp", {"values": np.zeros(3)}, r"features.values must have shape \(11,\), got \(3,\)"),
        ("mlp", {"settings": None}, r"features.settings must have shape \(2,\), got \(0,\)"),
        ("mlp", {"mask": np.ones(3, bool)}, r"features.mask must have shape \(11,\), got \(3,\)"),
        ("cnn", {"values": np.zeros((21, 3))}, r"features.values must have shape \(n_points, 2\), got \(21, 3\)"),
        ("cnn", {"mask": np.ones((21, 2), bool)}, r"features.mask must have shape \(21,\), got \(21, 2\)"),
        ("spectrum", {"values": np.zeros(22), "mask": None}, "features.values must have at most 21 points, got 22"),
        ("transformer", {"time": None}, r"features.time must have shape \(21,\), got \(0,\)"),
    ],
)
def test_calls_refuse_what_the_network_was_not_made_for(name, changes, message):
    features = jax.tree.map(lambda leaf: leaf[0], make_batch(name))
    with pytest.raises(ValueError, match=message):
        make_embedding(name)(dataclasses.replace(features, **changes))


# --- what they learn ---


def autoregressive(rng, n, n_points, *, irregular):
    """Light curves with exp. correlations; (ln rms, ln time scale), values, mask (a third is gaps), times."""
    theta = np.stack([rng.uniform(-2.0, 0.0, n), rng.uniform(np.log(2.0), np.log(30.0), n)], axis=1)
    steps = rng.exponential(1.0, (n, n_points)) if irregular else np.ones((n, n_points))
    memory = np.exp(-steps / np.exp(theta[:, 1:]))
    x = np.empty((n, n_points))
    x[:, 0] = rng.normal(size=n)
    for i in range(1, n_points):
        x[:, i] = memory[:, i] * x[:, i - 1] + np.sqrt(1.0 - memory[:, i] ** 2) * rng.normal(size=n)
    values = 3.0 + np.exp(theta[:, :1]) * x + 0.03 * rng.normal(size=x.shape)
    start = rng.integers(0, n_points, n)[:, None]
    since = (np.arange(n_points)[None] - start) % n_points
    mask = since >= rng.integers(0, n_points // 2, n)[:, None]
    mask &= rng.uniform(size=mask.shape) < 0.9
    time = np.cumsum(steps, axis=1).astype(np.float32) if irregular else None
    return theta, Features(values=np.where(mask, values, np.nan).astype(np.float32), mask=mask, time=time)


def periodograms(rng, n, n_freq):
    """Powers of power laws with chi-squared noise, and (ln norm, slope)."""
    theta = np.stack([rng.normal(size=n), rng.uniform(0.5, 2.5, n)], axis=1)
    freq = np.geomspace(0.01, 1.0, n_freq)
    mean = np.exp(theta[:, :1]) * (freq[None] / 0.1) ** -theta[:, 1:]
    return theta, Features(values=(mean * rng.exponential(size=mean.shape) + 0.1).astype(np.float32))


def segments(rng, n, n_items):
    """Sets of up to n_items pairs (noise, log-normal) whose spread is theta."""
    theta = np.stack([rng.normal(size=n), rng.uniform(-1.5, 0.5, n)], axis=1)
    draws = rng.normal(size=(n, n_items, 3))
    values = theta[:, None, :1] + np.exp(theta[:, None, 1:]) * draws
    mask = np.arange(n_items)[None] < rng.integers(4, n_items + 1, n)[:, None]
    return theta, Features(values=values.astype(np.float32), mask=mask)


def fit(settings, theta, batch, *, n_steps=1500, n_batch=64):
    """An embedding trained to give standardised theta by least squares."""
    embedding = settings.build(jax.tree.map(lambda leaf: leaf[0], batch), rngs=nnx.Rngs(0))
    embedding.learn_scales(batch)
    graphdef, params, rest = nnx.split(embedding, nnx.Param, ...)
    optimiser = optax.adam(optax.cosine_decay_schedule(3e-3, n_steps))
    theta, batch = jnp.asarray(theta, jnp.float32), jax.tree.map(jnp.asarray, batch)

    def step(carry, key):
        params, state = carry
        rows = jax.random.randint(key, (n_batch,), 0, len(theta))

        def loss(params):
            found = jax.vmap(nnx.merge(graphdef, params, rest))(jax.tree.map(lambda leaf: leaf[rows], batch))
            return ((found - theta[rows]) ** 2).mean()

        updates, state = optimiser.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    keys = jax.random.split(jax.random.key(0), n_steps)
    (params, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, keys))((params, optimiser.init(params)))
    return nnx.merge(graphdef, params, rest)


def linear_error(theta, batch, test_theta, test_batch):
    """Mean squared error of ridge regression on the values, gaps filled with the mean, and the mask."""

    def design(batch):
        values = batch.values.reshape(len(batch.values), -1)
        if batch.mask is None:
            return np.concatenate([np.log(values), np.ones((len(values), 1))], axis=1)
        mask = np.broadcast_to(
            batch.mask.reshape(len(values), -1, 1), (*batch.mask.shape, values.size // batch.mask.size)
        )
        mask = mask.reshape(len(values), -1)
        mean = values[mask].mean()
        return np.concatenate([np.where(mask, values - mean, 0.0), mask, np.ones((len(values), 1))], axis=1)

    x = design(batch)
    weights = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ theta)
    return ((design(test_batch) @ weights - test_theta) ** 2).mean(axis=0)


LEARNT = {
    "mlp": (MlpSettings(hidden=(64, 64), n_embedded=2), lambda rng, n: periodograms(rng, n, 48)),
    "residual": (ResidualSettings(width=64, n_blocks=2, n_embedded=2), lambda rng, n: periodograms(rng, n, 48)),
    "spectrum": (
        SpectrumSettings(width=12, n_cells=12, hidden=(64,), n_embedded=2),
        lambda rng, n: periodograms(rng, n, 48),
    ),
    "cnn": (
        CnnSettings(width=12, hidden=(64,), n_embedded=2),
        lambda rng, n: autoregressive(rng, n, 128, irregular=False),
    ),
    "transformer": (
        TransformerSettings(width=32, n_blocks=2, hidden=(64,), n_embedded=2),
        lambda rng, n: autoregressive(rng, n, 128, irregular=True),
    ),
    "set": (
        SetSettings(item=MlpSettings(hidden=(32,), n_embedded=16), hidden=(32,), n_embedded=2),
        lambda rng, n: segments(rng, n, 16),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LEARNT)
def test_embeddings_learn_what_linear_regression_cannot(name):
    settings, simulate = LEARNT[name]
    rng = np.random.default_rng(0)
    (theta, batch), (test_theta, test_batch) = simulate(rng, 8000), simulate(rng, 1000)
    mean, spread = theta.mean(axis=0), theta.std(axis=0)
    theta, test_theta = (theta - mean) / spread, (test_theta - mean) / spread
    found = np.asarray(jax.jit(jax.vmap(fit(settings, theta, batch)))(test_batch))
    error = ((found - test_theta) ** 2).mean(axis=0)
    baseline = linear_error(theta, batch, test_theta, test_batch)
    assert (error < baseline).all(), (error, baseline)
