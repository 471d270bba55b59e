"""Every sampler where the posterior is known, and what samplers say when something is wrong."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from eagleray.errors import InputError
from eagleray.inference.log_density import Target
from eagleray.inference.samplers import METHODS, sample
from eagleray.inference.samplers.targets import bind
from eagleray.interop.samples import samples_to_datatree
from eagleray.priors import Prior

PRIOR = {"a": "normal(0.5, 2)", "b": "loguniform(0.1, 100)", "c": "uniform(-3, 4)", "d": "fixed(2)", "e": "tied(3 * a)"}
MEAN = np.array([1.0, 1.0, 0.5])
COVARIANCE = np.array([[0.25, 0.1, 0.1], [0.1, 0.16, -0.05], [0.1, -0.05, 0.36]])
N_FREE = 3
# Default: what compiles fast. NUTS has its own tests in test_samplers.py.
FAST = ("hmc", "random_walk")
METHOD_NAMES = [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]


def gaussian_target(scale=1.0):
    """A correlated Gaussian likelihood of a, ln b and c, its covariance times `scale`."""
    precision = jnp.asarray(np.linalg.inv(COVARIANCE * scale))
    mean = jnp.asarray(MEAN)

    def log_likelihood(theta):
        offset = jnp.stack([theta["a"], jnp.log(theta["b"]), theta["c"]]) - mean.astype(theta["a"].dtype)
        return -0.5 * offset @ precision.astype(offset.dtype) @ offset

    return Target(Prior(PRIOR), log_likelihood)


TARGET = gaussian_target()


def known_posterior(covariance=COVARIANCE, n=400_000):
    """Means and sds of a, ln b and c, and ln evidence, by importance sampling from the likelihood."""
    x = np.random.default_rng(0).multivariate_normal(MEAN, covariance, n)
    low, high = np.log(0.1), np.log(100)
    prior = stats.norm.pdf(x[:, 0], 0.5, 2) * stats.uniform.pdf(x[:, 1], low, high - low)
    prior *= stats.uniform.pdf(x[:, 2], -3, 7)
    weight = prior / prior.sum()
    mean = weight @ x
    norm = 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    return mean, np.sqrt(weight @ (x - mean) ** 2), np.log(prior.mean()) + norm


def departures(samples, known):
    """Worst z of the means, and of the sds, by the effective number of draws."""
    mean, sd, _ = known
    draws = np.stack([samples.draws["a"], np.log(samples.draws["b"]), samples.draws["c"]]).astype(np.float64)
    size = np.array([min(samples.ess_bulk[name], samples.ess_tail[name]) for name in "abc"])
    z_mean = (draws.mean(axis=(1, 2)) - mean) / sd * np.sqrt(size)
    z_sd = (draws.std(axis=(1, 2)) / sd - 1) * np.sqrt(2 * size)
    return np.abs(z_mean).max(), np.abs(z_sd).max()


@pytest.fixture(scope="module")
def drawn():
    """Samples of each method, drawn once."""
    found = {}

    def draw(method):
        if method not in found:
            found[method] = sample(jax.random.key(1), TARGET, method, n_warmup=300)
        return found[method]

    return draw


@pytest.mark.parametrize("method", METHOD_NAMES)
def test_known_posterior(drawn, method):
    """Means and sds within 5 standard errors: false alarm 6e-6 for each method, with errors by effective draws.

    Single Gaussians of the approximations are as good as they say: theirs have a bar of their own.
    """
    samples = drawn(method)
    assert set(samples.draws) == set("abcde")
    assert samples.names == ("a", "b", "c")
    assert samples.positions.shape == (4, 1000, N_FREE)
    assert samples.finite.all()
    assert samples.n_nan.sum() == 0
    z_mean, z_sd = departures(samples, known_posterior())
    if METHODS[method].approximate:
        draws = np.stack([samples.draws["a"], np.log(samples.draws["b"]), samples.draws["c"]])
        mean, sd, _ = known_posterior()
        assert (np.abs(draws.mean(axis=(1, 2)) - mean) / sd).max() < 0.3
        assert np.abs(draws.std(axis=(1, 2)) / sd - 1).max() < 0.3
        assert "approximation; Pareto k" in samples.warnings[-1]
        return
    assert z_mean < 5
    assert z_sd < 5
    # The twin: a posterior of half the variance.
    assert departures(samples, known_posterior(COVARIANCE / 2))[1] > 5
    assert max(samples.rhat.values()) < 1.02
    assert samples.warnings == ()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tempered_smc", "nested"])
def test_evidence(drawn, method):
    samples = drawn(method)
    error = samples.log_evidence_error
    assert 0 < error < 0.3
    assert abs(samples.log_evidence - known_posterior()[2]) < 5 * error
    # The twin: the evidence of a likelihood three times as wide in each direction.
    assert abs(samples.log_evidence - known_posterior(9 * COVARIANCE)[2]) > 5 * error


def test_record_is_consistent(drawn):
    samples = drawn("hmc")
    np.testing.assert_array_equal(samples.draws["d"], np.float32(2))
    np.testing.assert_allclose(samples.draws["e"], 3 * samples.draws["a"], rtol=1e-6)
    np.testing.assert_allclose(samples.draws["a"], 0.5 + 2 * samples.positions[..., 0], rtol=1e-5, atol=1e-6)
    density = jax.jit(jax.vmap(TARGET.log_density))(samples.positions[:, -1])
    np.testing.assert_allclose(samples.log_density[:, -1], density, atol=1e-4)
    assert samples.divergent.shape == samples.acceptance.shape == samples.n_steps.shape == (4, 1000)
    assert 0.7 < samples.acceptance.mean() < 0.97
    assert len(np.unique(samples.step_size)) == 4  # every chain its own
    assert samples.seconds["compile"] > 0
    assert (samples.n_warmup_steps >= 300).all()


def test_second_call_compiles_nothing(drawn):
    first = drawn("random_walk")
    again = sample(jax.random.key(1), TARGET, "random_walk", n_warmup=300)
    other = sample(jax.random.key(2), TARGET, "random_walk", n_warmup=300)
    assert again.seconds["compile"] == other.seconds["compile"] == 0
    np.testing.assert_array_equal(again.positions, first.positions)
    assert not np.array_equal(other.positions, first.positions)


def test_datatree_works_with_arviz(drawn):
    from arviz_stats.base import array_stats

    samples = dataclasses.replace(drawn("hmc"), log_evidence=-5.0, log_evidence_error=0.1, warnings=("a doubt",))
    tree = samples_to_datatree(samples)
    assert tree["posterior"]["a"].dims == ("chain", "draw")
    assert set(tree["sample_stats"].data_vars) == {"lp", "diverging", "acceptance_rate", "n_steps", "step_size"}
    assert array_stats.rhat(tree["posterior"]["a"].values) == pytest.approx(samples.rhat["a"], rel=1e-4)
    assert tree.attrs["log_evidence"] == -5.0
    assert json.loads(tree.attrs["sampler_warnings"]) == ["a doubt"]
    assert tree["posterior"]["a"].attrs["ess_bulk"] == samples.ess_bulk["a"]


@dataclasses.dataclass(frozen=True, eq=False)
class Modes:
    """A problem that data spoil: modes at +- separation, and no number beyond `last`."""

    prior: Prior

    def log_likelihood(self, theta, data):
        a, width = theta["a"], 0.02
        two = jnp.logaddexp(-0.5 * ((a - data["s"]) / width) ** 2, -0.5 * ((a + data["s"]) / width) ** 2)
        return jnp.where(a > data["last"], jnp.nan, two)


MODES = Modes(Prior({"a": "normal(0, 1)"}))


def sample_modes(separation, last, starts):
    """Random walks from given starts; one program serves all data."""
    data = {"s": jnp.float32(separation), "last": jnp.float32(last)}
    initial = np.asarray(starts)[:, None]
    return sample(
        jax.random.key(3), MODES, "random_walk", data=data, initial=initial, n_draws=400, n_warmup=100, thinning=5
    )


def test_chain_in_another_mode_is_named():
    together = sample_modes(0.0, 10.0, [0.0, 0.01, -0.01, 0.0])
    assert max(together.rhat.values()) < 1.05
    assert together.off == ()
    apart = sample_modes(2.0, 10.0, [2.0, 2.0, -2.0, 2.0])
    assert apart.seconds["compile"] == 0  # other data, same shapes
    assert apart.rhat["a"] > 1.05
    assert apart.off == (2,)
    assert any("disagree" in text and "chain 2 is off" in text for text in apart.warnings)
    assert apart.draws["a"].shape == (4, 400)
    even = sample_modes(2.0, 10.0, [2.0, -2.0, -2.0, 2.0])
    assert even.off == ()
    assert any("none can be singled out" in text for text in even.warnings)


def test_not_a_number_is_reported():
    half = sample_modes(0.0, 0.01, [0.0, -0.01, -0.01, 0.0])  # the mode's right third has no number
    assert (half.n_nan > 0).all()
    assert any("not a number (NaN)" in text for text in half.warnings)
    assert half.finite.all()
    nowhere = sample_modes(0.0, -10.0, [0.0, -0.1, -0.1, 0.0])
    assert not nowhere.finite.any()
    assert np.isnan(nowhere.log_density).all()
    assert nowhere.rhat["a"] == np.inf
    assert any("chains 0, 1, 2 and 3 are not finite" in text for text in nowhere.warnings)


def test_start_where_the_density_vanishes_is_refused():
    def density(position):
        return jnp.where(position[0] > 5, -jnp.inf, -0.5 * position @ position)

    with pytest.raises(InputError, match=r"got -inf for chain 1 at its starting position"):
        sample(jax.random.key(0), density, initial=np.array([[0.0, 0.0], [6.0, 0.0]]))


def test_divergences_of_a_funnel_are_reported():
    def funnel(position):
        return -0.5 * (position[0] / 3) ** 2 - 0.5 * (position[1:] ** 2).sum() * jnp.exp(-position[0]) - 2 * position[0]

    samples = sample(jax.random.key(0), funnel, "hmc", initial=np.zeros((4, 5)), n_draws=500, n_warmup=200)
    assert samples.names == tuple(f"theta[{i}]" for i in range(5))
    assert samples.divergent.any()
    assert any("chains had divergences" in text and "raise target_acceptance" in text for text in samples.warnings)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((TARGET, "nut"), {}, "method must be one of nuts, hmc"),
        ((TARGET, "nuts"), {"step": 1}, "options of nuts must be among target_acceptance"),
        ((TARGET, "nuts"), {"target_acceptance": 1.5}, "target_acceptance must be between 0 and 1, got 1.5"),
        ((TARGET, "nuts"), {"n_warmup": 3}, "n_warmup must be at least 20"),
        ((TARGET, "nuts"), {"n_draws": 0}, "n_draws must be a whole number of at least 1, got 0"),
        ((TARGET, "nuts"), {"data": 1}, "data must be left out"),
        ((MODES, "nuts"), {}, "data must be given"),
        ((TARGET, "nested"), {"n_live": 5}, "n_live must be at least 10 for each free parameter"),
        ((lambda x: -x @ x, "nested"), {"initial": np.zeros((2, 1))}, "nested needs a prior and a likelihood"),
        ((lambda x: -x @ x, "nuts"), {}, "initial must be given for a log density"),
        ((TARGET, "nuts"), {"initial": np.zeros((2, 3)), "n_chains": 3}, "initial must hold finite positions"),
    ],
)
def test_wrong_calls_are_refused(arguments, options, message):
    with pytest.raises(InputError, match=message):
        sample(jax.random.key(0), *arguments, **options)


def test_what_is_no_target_is_a_type_error():
    with pytest.raises(TypeError, match="target must be a Target, a log density or a problem, got int"):
        sample(jax.random.key(0), 3)


def test_every_method_is_described():
    for method in METHODS.values():
        assert method.about
        assert any(character.isdigit() for character in method.reference)
        assert all(default is not dataclasses.MISSING for default in method.options.values())


def test_bound_problem_is_its_target():
    data = {"s": jnp.float32(0.3), "last": jnp.float32(9.0)}
    bound = bind(MODES, data)
    expected = MODES.log_likelihood({"a": jnp.float32(0.2)}, data) + stats.norm.logpdf(0.2)
    np.testing.assert_allclose(bound.log_density(jnp.array([0.2])), expected, rtol=1e-5)


def few_draws(seed):
    """Draws so soon after given starts that rounding has not grown yet."""
    starts = 0.1 * np.arange(12.0).reshape(4, 3) - 0.5
    return sample(jax.random.key(seed), TARGET, "random_walk", initial=starts, n_warmup=20, n_draws=5, thinning=1)


@pytest.mark.slow
def test_two_devices_give_the_numbers_of_one(tmp_path):
    script = (
        "import jax, numpy, sys; sys.path.insert(0, 'tests/inference'); from test_sample import few_draws;"
        "assert len(jax.devices()) == 2;"
        f"numpy.save(r'{tmp_path / 'positions.npy'}', few_draws(1).positions)"
    )
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    two = np.load(tmp_path / "positions.npy")
    np.testing.assert_allclose(two, few_draws(1).positions, atol=1e-4)
    assert (np.abs(two - few_draws(2).positions).max(axis=(1, 2)) > 1e-2).all()  # the twin: another key


@pytest.mark.slow
def test_float64():
    with jax.enable_x64():
        for method in ("nuts", "tempered_smc", "mclmc", "elliptical_slice", "nested"):
            samples = sample(jax.random.key(1), gaussian_target(), method, n_draws=500, n_warmup=200)
            assert samples.positions.dtype == np.float64
            assert max(departures(samples, known_posterior())) < 5
