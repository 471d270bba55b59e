"""Trained posteriors: inside the support, normalised, and the same after a trip to disk."""

import gc
import json
import pickle
import shutil
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eagleray.diagnostics.calibration import calibration
from eagleray.diagnostics.typicality import reference_summaries
from eagleray.errors import InputError
from eagleray.inference.posteriors import AmortisedPosterior
from eagleray.inference.storage import load_posterior, save_posterior
from eagleray.inference.surrogates import SurrogatePosterior
from eagleray.networks.estimators import DensityEstimator, RatioEstimator
from eagleray.networks.selection import Selection
from eagleray.networks.settings import network_settings
from eagleray.priors import Prior
from eagleray.records import TrainingHistory

# Orbax leaves coroutines behind when a restore fails; Python reports them whenever it collects garbage.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SMALL = network_settings(
    {"density": {"n_layers": 2, "hidden": [8], "n_bins": 4}, "embedding": {"hidden": [8], "n_embedded": 4}}
)
X = jnp.array([0.3, -1.0, 2.0], jnp.float32)
THETA = {"zeta": jnp.float32(0.7), "alpha": jnp.float32(1.3)}


def make_posterior(texts, *, scale=0.4, checked=True):
    """A posterior whose network has random weights: far from the identity, and like no Gaussian."""
    prior = Prior(texts)
    network = DensityEstimator(len(texts), 3, SMALL, rngs=nnx.Rngs(0))
    graphdef, params, rest = nnx.split(network, nnx.Param, ...)
    leaves, structure = jax.tree.flatten(params)
    rng = np.random.default_rng(1)
    wild = [jnp.asarray(scale * rng.normal(size=leaf.shape), jnp.float32) for leaf in leaves]
    records = {}
    if checked:
        truth = {name: rng.normal(size=60) for name in texts}
        draws = {name: rng.normal(size=(60, 20)) for name in texts}
        records = {"calibration": calibration(truth, draws), "reference": reference_summaries(rng.normal(size=(60, 3)))}
    return AmortisedPosterior(
        prior=prior,
        network=nnx.merge(graphdef, jax.tree.unflatten(structure, wild), rest),
        settings=SMALL,
        signature={"problem": "made up", "prior": prior.texts, "summary": {"dt": 0.1}},
        history=TrainingHistory(train_loss=(1.0, 0.5), validation_loss=(1.1, 0.6), best_epoch=1, seconds=2.0),
        provenance={"seed": 3},
        **records,
    )


@pytest.fixture(scope="module")
def posterior():
    return make_posterior({"zeta": "uniform(0, 1)", "alpha": "loguniform(0.5, 2)"})


@pytest.fixture(scope="module")
def log_prob(posterior):
    """The posterior's density given X, compiled once."""
    return jax.jit(lambda theta: posterior.log_prob(theta, X))


@pytest.fixture(scope="module")
def saved(posterior, tmp_path_factory):
    folder = tmp_path_factory.mktemp("posterior") / "network"
    save_posterior(posterior, folder)
    return folder


def test_draws_have_shapes_order_support_and_density(posterior):
    draws, log_prob, warnings = posterior.answer(jax.random.key(0), X, 5000)
    assert list(draws) == ["zeta", "alpha"] == list(posterior.names)
    assert warnings == ()
    np.testing.assert_array_equal(posterior.answer(jax.random.key(0), X.tolist(), 5000).log_prob, log_prob)
    assert draws["zeta"].shape == draws["alpha"].shape == log_prob.shape == (5000,)
    assert draws["zeta"].min() >= 0
    assert draws["zeta"].max() <= 1
    assert draws["alpha"].min() >= np.float32(0.5)
    assert draws["alpha"].max() <= 2
    some = {name: values[:200] for name, values in draws.items()}
    again = jax.jit(jax.vmap(lambda theta: posterior.log_prob(theta, X)))(some)
    np.testing.assert_allclose(again, log_prob[:200], atol=5e-3)
    alone = posterior.sample(jax.random.key(0), X, 5000)
    np.testing.assert_array_equal(alone["alpha"], draws["alpha"])


def test_support_is_kept_when_the_network_presses_against_it():
    draws = make_posterior({"a": "uniform(3, 4)"}, scale=2.0).sample(jax.random.key(0), X, 5000)["a"]
    assert draws.min() >= 3
    assert draws.max() <= 4
    assert np.mean((draws < 3.02) | (draws > 3.98)) > 0.1


def test_density_vanishes_outside(log_prob):
    assert np.isfinite(log_prob(THETA))
    for name, value in (("zeta", -0.1), ("zeta", 1.1), ("alpha", 0.4), ("alpha", 2.1), ("alpha", -1.0)):
        assert log_prob({**THETA, name: jnp.float32(value)}) == -np.inf


@pytest.mark.parametrize("text", ["uniform(2, 5)", "loguniform(0.1, 10)", "lognormal(0, 1)"])
def test_density_integrates_to_one_in_physical_space(text):
    posterior = make_posterior({"a": text})
    position = jnp.linspace(-16.0, 16.0, 6001)[:, None]
    theta = jax.jit(jax.vmap(posterior.prior.constrain))(position)["a"]
    log_prob = jax.jit(jax.vmap(lambda a: posterior.log_prob({"a": a}, X)))(theta)
    density = np.exp(np.asarray(log_prob, np.float64))
    inside = np.isfinite(density)  # the outermost points round to the edges
    assert inside.mean() > 0.9
    total = np.trapezoid(density[inside], np.asarray(theta, np.float64)[inside])
    np.testing.assert_allclose(total, 1.0, atol=5e-3)
    # Twin: without the Jacobian of the prior's bijection it is not.
    wrong = density * np.exp(np.asarray(jax.jit(jax.vmap(posterior.prior.log_det))(position), np.float64))
    assert abs(np.trapezoid(wrong[inside], np.asarray(theta, np.float64)[inside]) - 1.0) > 0.05


def test_many_observations_at_once_are_the_same_as_one_by_one(posterior):
    xs = jnp.stack([X, X + 1.0, -X])
    key = jax.random.key(4)
    together = posterior.sample_each(key, xs, 300)
    assert list(together) == ["zeta", "alpha"]
    assert together["zeta"].shape == (3, 300)
    for i in range(3):
        alone = posterior.sample(jax.random.fold_in(key, i), xs[i], 300)
        for name in posterior.names:
            np.testing.assert_allclose(together[name][i], alone[name], rtol=1e-3, atol=1e-4)
    assert abs(together["zeta"][0].mean() - together["zeta"][2].mean()) > 0.01


def test_disk_round_trip(posterior, log_prob, saved):
    loaded = load_posterior(saved)
    assert loaded.names == posterior.names
    assert loaded.prior.texts == posterior.prior.texts
    assert loaded.history == posterior.history
    assert (loaded.settings, loaded.signature, loaded.provenance) == (SMALL, posterior.signature, {"seed": 3})
    for record in ("calibration", "reference"):
        for name, value in vars(getattr(posterior, record)).items():
            np.testing.assert_array_equal(getattr(getattr(loaded, record), name), value)
    ours, theirs = (p.answer(jax.random.key(1), X, 500) for p in (posterior, loaded))
    np.testing.assert_array_equal(ours[1], theirs[1])
    np.testing.assert_array_equal(ours[0]["alpha"], theirs[0]["alpha"])
    np.testing.assert_array_equal(log_prob(THETA), jax.jit(lambda theta: loaded.log_prob(theta, X))(THETA))


def selective():
    """A selection that depends on the parameters."""
    network = Selection(2, rngs=nnx.Rngs(5))
    network.logit.output.kernel.set_value(jnp.ones((64, 1)))
    return network


@pytest.mark.parametrize("kind", ["likelihood", pytest.param("ratio", marks=pytest.mark.slow)])
def test_learnt_likelihoods_and_ratios_go_to_disk_and_back(posterior, tmp_path, kind):
    make, sizes = {"likelihood": (DensityEstimator, (1, 2)), "ratio": (RatioEstimator, (2, 3))}[kind]
    surrogate = SurrogatePosterior(
        prior=posterior.prior,
        network=make(*sizes, SMALL, rngs=nnx.Rngs(3)),
        settings=SMALL,
        history=posterior.history,
        n_parts=3 if kind == "likelihood" else 1,
        selection=selective() if kind == "likelihood" else None,
        calibration=posterior.calibration,
        reference=posterior.reference,
    )
    assert surrogate.kind == kind
    save_posterior(surrogate, tmp_path / "network")
    loaded = load_posterior(tmp_path / "network")
    assert (loaded.kind, loaded.n_parts) == (kind, surrogate.n_parts)
    found = [float(jax.jit(each.log_likelihood)(THETA, X)) for each in (surrogate, loaded)]
    assert np.isfinite(found).all()
    assert found[0] == found[1]
    if kind == "likelihood":
        chance = surrogate.selection.log_prob(surrogate.prior.unconstrain(THETA))
        surrogate.selection = None
        np.testing.assert_allclose(found[0] - float(surrogate.log_likelihood(THETA, X)), float(chance), rtol=1e-4)
    answer = loaded.answer(jax.random.key(0), X, 40, method="nuts", n_warmup=50)  # ten draws of each chain
    assert answer.log_prob.shape == (40,)
    assert any("effective" in warning for warning in answer.warnings)


def test_another_process_loads_it_without_simulators_or_stingray(log_prob, saved):
    script = f"""
import sys
from eagleray.inference.storage import load_posterior
import jax
import jax.numpy as jnp
posterior = load_posterior({str(saved)!r})
theta = {{"zeta": jnp.float32({float(THETA["zeta"])!r}), "alpha": jnp.float32({float(THETA["alpha"])!r})}}
x = jnp.array({[float(v) for v in X]}, jnp.float32)
print(float(jax.jit(lambda theta: posterior.log_prob(theta, x))(theta)).hex())
heavy = [m for m in sys.modules if m.startswith(("eagleray.simulators", "eagleray.problems", "stingray", "matplotlib"))]
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == float(log_prob(THETA)).hex()


def test_nothing_is_pickled(saved, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert load_posterior(saved).names == ("zeta", "alpha")
    for path in saved.rglob("*"):
        if path.is_file():
            assert not (path.read_bytes()[:1] == b"\x80" and path.read_bytes().endswith(b".")), f"{path} is a pickle"


def edit(folder, **changes):
    """Change entries of the JSON record."""
    record = json.loads((folder / "posterior.json").read_text())
    (folder / "posterior.json").write_text(json.dumps({**record, **changes}))


DAMAGE = {
    "no json": (lambda f: (f / "posterior.json").unlink(), "is not a trained network"),
    "truncated json": (lambda f: (f / "posterior.json").write_text('{"format": '), "is damaged"),
    "json of something else": (lambda f: (f / "posterior.json").write_text("[]"), "is damaged"),
    "no format": (lambda f: (f / "posterior.json").write_text("{}"), "is damaged"),
    "other format": (lambda f: edit(f, format="eagleray posterior 0"), "has the format 'eagleray posterior 0'"),
    "other size of features": (lambda f: edit(f, context=[["", [4], "float32"]]), "is damaged"),
    "features of another kind": (lambda f: edit(f, context=[["colour", [3], "float32"]]), "is damaged"),
    "other prior": (lambda f: edit(f, prior={"a": "uniform(0, 1)"}), "is damaged"),
    "impossible prior": (lambda f: edit(f, prior={"a": "uniform(1, 0)"}), "must have low < high"),
    "unknown settings": (lambda f: edit(f, settings={"depth": 3}), "network.depth is no setting"),
    "no weights": (lambda f: shutil.rmtree(f / "weights"), "is damaged"),
    "no trust": (lambda f: (f / "trust.npz").unlink(), "is damaged"),
    "truncated trust": (lambda f: (f / "trust.npz").write_bytes((f / "trust.npz").read_bytes()[:200]), "is damaged"),
    "pickled trust": (lambda f: np.savez(f / "trust.npz", ranks=np.array([{}], object)), "is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_folders_are_refused_in_one_line(saved, tmp_path, damage):
    spoil, message = DAMAGE[damage]
    folder = shutil.copytree(saved, tmp_path / "network")
    spoil(folder)
    with pytest.raises(InputError, match=message) as caught:
        load_posterior(folder)
    assert "\n" not in str(caught.value)


def test_damaged_files_are_closed(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "network")
    DAMAGE["truncated trust"][0](folder)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(InputError):
            load_posterior(folder)
        gc.collect()
    assert not [str(warning.message) for warning in told if "trust.npz" in str(warning.message)]


def test_weights_that_are_not_finite_are_refused(tmp_path):
    save_posterior(make_posterior({"a": "normal(0, 1)"}, scale=np.nan), tmp_path / "network")
    with pytest.raises(InputError, match="is damaged .*weights are not finite"):
        load_posterior(tmp_path / "network")


def test_saving_refuses_unchecked_posteriors_and_existing_folders(posterior, saved, tmp_path):
    with pytest.raises(ValueError, match="must have a calibration"):
        save_posterior(make_posterior({"a": "normal(0, 1)"}, checked=False), tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="exists"):
        save_posterior(posterior, saved)
