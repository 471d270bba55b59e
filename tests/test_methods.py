"""Every method finds posteriors that are known: of a linear Gaussian model, and of Whittle's likelihood of a spectrum.

Bounds are wide against the noise of training (a tenth of a standard deviation) and narrow against what goes wrong: a
twin that is trained on pairs that do not belong together fails them.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from eagleray.config import make_config
from eagleray.errors import InputError
from eagleray.inference.reweighting import ReweightedPosterior
from eagleray.networks.estimators import DensityEstimator
from eagleray.pipeline.learning import learn
from eagleray.pipeline.rounds import rounds, shares, truncated_positions
from eagleray.pipeline.search import best_of
from eagleray.priors import Prior
from eagleray.records import Bank
from eagleray.simulators.batch import map_draws
from eagleray.summaries.rebin import log_bins
from eagleray.training.loop import TrainingSettings, fit
from eagleray.training.losses import network_loss, scored_loss

MATRIX = np.array([[1.0, 0.3], [-0.5, 1.0], [0.4, 0.4]], np.float32)
NOISE = 0.5
FREQ = np.arange(1, 33) / 32.0
BINS = log_bins(FREQ, 0.0)
LINEAR = Prior({"a": "normal(0, 1)", "b": "normal(0, 1)"})
SPECTRAL = Prior({"norm": "loguniform(0.05, 20)", "slope": "uniform(0, 3)"})
X_LINEAR = np.array([0.9, -0.6, 0.5], np.float32)


def linear(key, theta):
    return MATRIX @ jnp.stack([theta["a"], theta["b"]]) + NOISE * jax.random.normal(key, (3,))


def linear_log_likelihood(theta, x):
    distance = (x - MATRIX @ jnp.stack([theta["a"], theta["b"]])) / NOISE
    return -0.5 * (distance**2).sum() - 3 * np.log(NOISE * np.sqrt(2 * np.pi))


def spectrum(theta):
    return theta["norm"] * FREQ ** (-theta["slope"])


def powers(key, theta):
    return spectrum(theta) * jax.random.exponential(key, FREQ.shape)


def pair_at(prior, simulate):
    def pair(key, position):
        x = simulate(key, prior.constrain(position))[None]
        return Bank(theta=position, x=x, valid=jnp.ones(1, bool))

    return pair


@functools.cache
def bank_of(name, n):
    prior, simulate = {"linear": (LINEAR, linear), "whittle": (SPECTRAL, powers)}[name]
    pair = pair_at(prior, simulate)

    def draw(key):
        key_theta, key_x = jax.random.split(key)
        return pair(key_x, prior.unconstrain(prior.sample(key_theta)))

    return map_draws(draw, jax.random.key(3), n)


def exact_linear():
    """Means and standard deviations of a and b."""
    covariance = np.linalg.inv(np.eye(2) + MATRIX.T @ MATRIX / NOISE**2)
    return covariance @ MATRIX.T @ X_LINEAR / NOISE**2, np.sqrt(np.diag(covariance))


def whittle_case(i):
    """A periodogram of parameters from the prior, and means and standard deviations of ln norm and slope."""
    key_theta, key_x = jax.random.split(jax.random.fold_in(jax.random.key(11), i))
    x = np.asarray(powers(key_x, SPECTRAL.sample(key_theta)))
    log_norm, slope = np.meshgrid(np.linspace(np.log(0.05), np.log(20), 401), np.linspace(0, 3, 401), indexing="ij")
    log_s = log_norm[..., None] - slope[..., None] * np.log(FREQ)
    log_likelihood = -(log_s + x * np.exp(-log_s)).sum(axis=-1)
    weights = np.exp(log_likelihood - log_likelihood.max())
    weights /= weights.sum()
    means = np.array([(weights * values).sum() for values in (log_norm, slope)])
    squares = np.array([(weights * values**2).sum() for values in (log_norm, slope)])
    return x.astype(np.float32), means, np.sqrt(squares - means**2)


def agrees(draws, mean, sd, *, shift=0.3, width=0.25):
    """Whether draws (n, 2) have the means to `shift` standard deviations and the widths to a fraction `width`."""
    off = np.abs(draws.mean(axis=0) - mean) / sd
    wide = np.abs(draws.std(axis=0) / sd - 1.0)
    return bool((off < shift).all() and (wide < width).all())


SMALL = {
    "network": {
        "embedding": {"hidden": [32], "n_embedded": 8},
        "classifier": {"width": 64, "n_blocks": 2},
        "regression": False,  # it would leave nothing to learn of a linear model
    },
    "training": {"max_epochs": 30, "learning_rate": 0.003},
    "n_simulations": 4000,
}
FLOW = {"n_layers": 3, "hidden": [32]}
METHODS = {
    "npe mixture": {"network": {"density": {"kind": "mixture", "n_components": 2, "hidden": [32]}}},
    "npe coupling": {"network": {"density": {"kind": "coupling", **FLOW}}},
    "npe autoregressive": {"network": {"density": {"kind": "autoregressive", **FLOW}}},
    "npe affine": {"network": {"density": {"kind": "autoregressive", **FLOW, "n_bins": 0}}},
    "npe regression": {
        "network": {"density": {"kind": "mixture", "n_components": 2, "hidden": [32]}, "regression": True}
    },
    "npe ensemble": {"network": {"density": {"kind": "mixture", "n_components": 2, "hidden": [32]}, "n_members": 3}},
    "fmpe": {"network": {"density": {"kind": "flow_matching", "width": 64}}},
    "npse": {"network": {"density": {"kind": "score", "width": 64}}},
    "nle": {"method": "nle", "network": {"density": {"kind": "autoregressive", **FLOW, "n_bins": 0}}},
    "nre a": {"method": "nre", "ratio": {"kind": "a"}},
    "nre b": {"method": "nre", "ratio": {"kind": "b"}},
    "nre c": {"method": "nre", "ratio": {"kind": "c"}},
    "nre balanced": {"method": "nre", "ratio": {"kind": "a", "balance": 10.0}},
}
QUICK = ("npe mixture",)
CHOSEN = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in METHODS]


def learnt(prior, bank, method, layer=None):
    return learn(jax.random.key(1), prior, bank, config=make_config(SMALL, layer or {}, METHODS[method]))


def linear_draws(posterior, n=4000):
    draws = posterior.sample(jax.random.key(2), X_LINEAR, n)
    return np.stack([draws["a"], draws["b"]], axis=1)


def seen_seldom(key, theta):
    """Data of which those with a large first number are seen more often."""
    key_x, key_seen = jax.random.split(key)
    x = linear(key_x, theta)
    return jnp.where(jax.random.uniform(key_seen) < jax.nn.sigmoid(4.0 * (x[0] - 1.0)), x, jnp.nan)


def finite_pair_at(key, position):
    x = seen_seldom(key, LINEAR.constrain(position))[None]
    return Bank(theta=position, x=x, valid=jnp.isfinite(x).all(axis=-1))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["npe mixture", "nle", "nre a", "nre b", "nre c"])
def test_simulations_that_fail_count_against_their_parameters(method):
    """What is seen depends on x alone, so that the posterior is the same as if all were seen."""
    theta = jax.random.normal(jax.random.key(4), (8000, 2))
    bank = map_draws(finite_pair_at, jax.random.key(3), 8000, inputs=theta)
    assert 0.15 < bank.valid.mean() < 0.35
    posterior = learnt(LINEAR, bank, method)
    assert agrees(linear_draws(posterior), *exact_linear())
    if method == "nle":
        alone = jax.tree.map(lambda leaf: leaf[bank.valid[:, 0]], bank)
        assert not agrees(linear_draws(learnt(LINEAR, alone, method)), *exact_linear())


def test_simulations_none_of_which_is_valid_are_refused():
    bank = bank_of("linear", 400)
    for valid in (np.zeros((400, 1), bool), np.arange(400)[:, None] == 0):
        with pytest.raises(InputError, match="simulations must be valid, got none of"):
            learn(jax.random.key(0), LINEAR, dataclasses.replace(bank, valid=valid))


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_balance_is_that_of_the_simulations_that_exist(fails):
    """Near x = 0, which stands where there is no x."""
    theta = jax.random.normal(jax.random.key(4), (8000, 2))
    bank = map_draws(pair_at(LINEAR, linear), jax.random.key(3), 8000, inputs=theta)
    if fails:  # at random, so that the posterior is the same
        valid = np.random.default_rng(0).random((8000, 1)) < 0.5
        bank = dataclasses.replace(bank, x=np.where(valid[..., None], bank.x, np.nan), valid=valid)
    layer = {"ratio": {"kind": "a", "balance": 100.0}}
    posterior = learn(jax.random.key(1), LINEAR, bank, config=make_config(SMALL, METHODS["nre a"], layer))
    _, sd = exact_linear()
    draws = posterior.sample(jax.random.key(2), np.array([0.1, 0.05, 0.05], np.float32), 4000)
    for name, exact in zip("ab", sd, strict=True):
        assert draws[name].std() < 1.5 * exact


@pytest.mark.slow
def test_the_validation_loss_chooses_how_to_train():
    """Of steps far too small and of good ones; methods whose losses do not compare are refused."""
    good = make_config(SMALL, METHODS[QUICK[0]])
    idle = make_config(SMALL, METHODS[QUICK[0]], {"training": {"learning_rate": 1e-9, "max_epochs": 1}})
    found = best_of(jax.random.key(1), LINEAR, bank_of("linear", 4000), [idle, good])
    assert found.chosen == 1
    assert found.losses[1] < found.losses[0] - 0.3
    assert agrees(linear_draws(found.posterior), *exact_linear())
    with pytest.raises(InputError, match="configs must share one method"):
        best_of(jax.random.key(1), LINEAR, bank_of("linear", 4000), [good, make_config(SMALL, METHODS["nle"])])


def unrelated(bank):
    """The same simulations with the parameters of others."""
    return dataclasses.replace(bank, theta=np.roll(bank.theta, 1, axis=0))


@pytest.mark.parametrize("method", CHOSEN)
def test_linear_gaussian_posterior_is_recovered(method):
    assert agrees(linear_draws(learnt(LINEAR, bank_of("linear", 4000), method)), *exact_linear())


@pytest.mark.parametrize("method", [pytest.param(name, marks=pytest.mark.slow) for name in METHODS if name != QUICK[0]])
def test_twin_trained_on_unrelated_pairs_does_not_recover_it(method):
    assert not agrees(linear_draws(learnt(LINEAR, unrelated(bank_of("linear", 4000)), method)), *exact_linear())


def with_neighbours(power):
    """Powers (..., 32) and their averages over 4 and 8 neighbours, without which ln of them is slow to learn from."""
    wide = [power[..., BINS.neighbours(n)].mean(axis=-1) for n in (4, 8)]
    return np.concatenate([power, *wide], axis=-1).astype(np.float32)


def typically_agrees(bank, method, n=8):
    """Half of n periodograms have means to 0.35 standard deviations and widths to 0.3 of them.

    Single ones are off by up to a standard deviation, where the spectrum is at an edge of the prior. A likelihood is
    that of the powers alone, of which averages are functions.
    """
    seen = with_neighbours if method != "nle" else np.asarray
    posterior = learnt(SPECTRAL, dataclasses.replace(bank, x=seen(bank.x)), method, WIDER)
    off, wide = [], []
    for i in range(n):
        x, mean, sd = whittle_case(i)
        draws = posterior.sample(jax.random.key(2), seen(x), 2000)
        values = np.stack([np.log(draws["norm"]), draws["slope"]], axis=1)
        off.append(np.abs(values.mean(axis=0) - mean) / sd)
        wide.append(np.abs(values.std(axis=0) / sd - 1.0))
    return bool((np.median(off, axis=0) < 0.35).all() and (np.median(wide, axis=0) < 0.3).all())


WIDER = {
    "network": {"embedding": {"hidden": [128, 128], "n_embedded": 16}},
    "training": {"learning_rate": 0.001},
}


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("npe affine", "nre b", "nre balanced")])
def test_whittle_posterior_is_recovered(method):
    """Of 32 powers at once over four decades, without being told that they are independent."""
    assert typically_agrees(bank_of("whittle", 60_000 if method == "nle" else 20_000), method)


@pytest.mark.slow
def test_twin_trained_on_unrelated_periodograms_does_not_recover_it():
    assert not typically_agrees(unrelated(bank_of("whittle", 20_000)), "npe mixture")


SEQUENCES = {
    "tsnpe": ({"network": {"density": {"kind": "coupling", **FLOW}}}, "truncated"),
    "snpe-c": ({"network": {"density": {"kind": "coupling", **FLOW}}}, "posterior"),
    "snle": (METHODS["nle"], "posterior"),
    "snre": (METHODS["nre c"], "posterior"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SEQUENCES)
def test_rounds_recover_the_linear_gaussian_posterior(name):
    layer, proposal = SEQUENCES[name]
    found = rounds(
        jax.random.key(5),
        LINEAR,
        pair_at(LINEAR, linear),
        X_LINEAR,
        config=make_config(SMALL, layer, {"n_simulations": 3000}),
        proposal=proposal,
        n_rounds=2,
    )
    assert agrees(linear_draws(found.posterior), *exact_linear())
    assert found.n_each == (1500, 1500)
    assert len(found.bank.theta) == 3000
    if proposal == "truncated":
        assert found.kept[1] < 0.7
    # The second round's parameters are where the posterior is; draws of the prior are as wide as the first's to 0.02.
    most = 0.9 if proposal == "truncated" else 0.8  # a region that leaves a thousandth out is wide
    assert found.bank.theta[1500:].std() < most * found.bank.theta[:1500].std()


@pytest.mark.slow
def test_rounds_go_on_from_an_amortised_posterior():
    """One first round for several observations; what it simulated counts."""
    config = make_config(SMALL, SEQUENCES["tsnpe"][0], {"n_simulations": 4000})
    first = bank_of("linear", 2000)
    start = learn(jax.random.key(6), LINEAR, first, config=config)
    for sign in (1, -1):
        found = rounds(
            jax.random.key(5),
            LINEAR,
            pair_at(LINEAR, linear),
            sign * X_LINEAR,
            config=config,
            n_rounds=3,
            first=(start, first),
        )
        mean, sd = exact_linear()
        draws = found.posterior.sample(jax.random.key(2), sign * X_LINEAR, 4000)
        assert agrees(np.stack([draws["a"], draws["b"]], axis=1), sign * mean, sd)
        assert found.n_each == (2000, 1000, 1000)
        assert found.kept[0] == 1
        np.testing.assert_array_equal(found.bank.theta[:2000], first.theta)


def test_rounds_after_the_first_need_simulations():
    options = {"config": make_config({"n_simulations": 100}), "first": (None, bank_of("linear", 100))}
    with pytest.raises(
        InputError, match="first must leave each later round a simulation, got 0 left of 100 for 2 rounds"
    ):
        rounds(jax.random.key(0), LINEAR, pair_at(LINEAR, linear), X_LINEAR, **options)


@pytest.mark.slow
def test_rounds_choose_a_training_in_every_round():
    """The validation loss never takes what hardly trains."""
    layer = SEQUENCES["tsnpe"][0]
    idle, good = (
        make_config(SMALL, layer, {"n_simulations": 2000, "training": {"max_epochs": epochs, "learning_rate": rate}})
        for epochs, rate in ((1, 1e-6), (30, 0.005))
    )
    found = rounds(jax.random.key(5), LINEAR, pair_at(LINEAR, linear), X_LINEAR, config=(idle, good), n_rounds=2)
    assert found.chosen == (1, 1)


def test_rounds_refuse_trainings_with_different_numbers_of_simulations():
    configs = [make_config({"n_simulations": n}) for n in (100, 200)]
    with pytest.raises(InputError, match=r"configs must share one n_simulations, got \[100, 200\]"):
        rounds(jax.random.key(0), LINEAR, pair_at(LINEAR, linear), X_LINEAR, config=configs)


@pytest.mark.slow
def test_snpe_without_its_correction_finds_another_posterior():
    """Twin of SNPE-C: the plain loss on parameters that came from the posterior counts the data twice."""
    config = make_config(SMALL, SEQUENCES["snpe-c"][0])
    mean, sd = exact_linear()
    positions = (mean + sd * np.random.default_rng(0).normal(size=(4000, 2))).astype(np.float32)
    bank = map_draws(pair_at(LINEAR, linear), jax.random.key(8), 4000, inputs=positions)
    plain = learn(jax.random.key(1), LINEAR, bank, config=config)
    corrected = learn(jax.random.key(1), LINEAR, bank, config=config, anywhere=True)
    assert not agrees(linear_draws(plain), mean, sd)
    assert agrees(linear_draws(corrected), mean, sd)


def test_parameters_that_are_not_finite_are_refused():
    bank = Bank(theta=np.full((100, 2), np.inf, np.float32), x=np.zeros((100, 1, 3)), valid=np.ones((100, 1), bool))
    with pytest.raises(InputError, match="must be finite, got 100 rows"):
        learn(jax.random.key(1), LINEAR, bank)


@pytest.mark.slow
def test_independent_parts_share_one_small_density():
    """Four repeats of a one-dimensional mean: the posterior is as narrow as their number says."""
    prior = Prior({"mean": "normal(0, 1)"})

    def simulate(key, theta):
        return theta["mean"] + 0.8 * jax.random.normal(key, (4,))

    bank = map_draws(
        lambda key: pair_at(prior, simulate)(jax.random.fold_in(key, 1), jax.random.normal(key, (1,))),
        jax.random.key(0),
        2000,
    )
    density = {"network": {"density": {"kind": "mixture", "n_components": 1, "hidden": [16]}}}
    config = make_config(SMALL, density, {"method": "nle", "training": {"max_epochs": 20}})
    posterior = learn(jax.random.key(1), prior, bank, config=config, n_parts=4)
    x = np.array([0.4, 1.2, -0.1, 0.9], np.float32)
    variance = 1.0 / (1.0 + 4 / 0.64)
    draws = posterior.sample(jax.random.key(0), x, 2000)["mean"]
    assert abs(draws.mean() - variance * x.sum() / 0.64) < 0.3 * np.sqrt(variance)
    assert draws.std() == pytest.approx(np.sqrt(variance), rel=0.2)


@pytest.mark.slow
def test_scores_of_the_simulator_help_where_simulations_are_few():
    """Held-out ln q of 300 simulations gains by d ln p / d theta; scores of other pairs, the twin, make it worse."""
    whole = bank_of("linear", 4000)
    bank, held = (jax.tree.map(lambda a, r=rows: a[r], whole) for rows in (slice(300), slice(300, 4000)))
    residual = (bank.x[:, 0] - bank.theta @ MATRIX.T) / NOISE**2
    scores = (residual @ MATRIX)[:, None]
    settings = make_config(SMALL, METHODS["nle"]).network

    def held_out(weight, scores):
        network = DensityEstimator(3, 2, settings, rngs=nnx.Rngs(0))
        network.learn_scales(bank.x[:, 0], bank.theta)
        params, loss = network_loss(scored_loss, network, weight=weight)
        data = (bank.theta, bank.x, bank.valid, scores)
        training = TrainingSettings(max_epochs=60, patience=60, batch_size=30, learning_rate=0.003)
        params, _ = fit(loss, params, data, data, jax.random.key(0), settings=training)
        trained = nnx.merge(loss.graphdef, params, loss.constants)
        return float(jax.jit(jax.vmap(trained.log_prob))(held.x[:, 0], held.theta).mean())

    without, right, wrong = held_out(0.0, scores), held_out(0.1, scores), held_out(0.1, np.roll(scores, 1, axis=0))
    assert right > without + 0.05
    assert wrong < right - 0.05


@pytest.fixture(scope="module")
def amortised():
    return learnt(LINEAR, bank_of("linear", 4000), "npe mixture")


def test_reweighting_by_the_exact_likelihood_gives_the_exact_posterior_and_evidence(amortised):
    """Errors of 40 000 draws at 5 standard errors; the twin with half the noise fails."""
    exact = ReweightedPosterior(amortised, linear_log_likelihood)
    found = exact.reweight(jax.random.key(4), X_LINEAR, n_effective=20_000)
    mean, sd = exact_linear()
    draws = np.stack([found.draws["a"], found.draws["b"]], axis=1)
    weighted = found.weights @ draws
    error = 5.0 / np.sqrt(found.effective)
    assert (np.abs(weighted - mean) < error * sd).all()
    spread = np.sqrt(found.weights @ (draws - weighted) ** 2)
    np.testing.assert_allclose(spread, sd, rtol=error)
    covariance = MATRIX @ MATRIX.T + NOISE**2 * np.eye(3)
    log_evidence = -0.5 * (
        X_LINEAR @ np.linalg.solve(covariance, X_LINEAR) + np.linalg.slogdet(2 * np.pi * covariance)[1]
    )
    assert abs(found.log_evidence - log_evidence) < 5 * found.log_evidence_error < 0.1
    assert found.efficiency > 0.5
    assert found.warnings == ()
    sharper = ReweightedPosterior(amortised, lambda theta, x: 4.0 * linear_log_likelihood(theta, x))
    other = sharper.reweight(jax.random.key(4), X_LINEAR, n_effective=2000)
    assert (np.sqrt(other.weights @ (draws[: len(other.weights)] - mean) ** 2) < 0.8 * sd).all()


def test_reweighting_says_when_the_proposal_is_far_off(amortised):
    elsewhere = ReweightedPosterior(amortised, lambda theta, x: linear_log_likelihood(theta, x + 6.0), prior_share=0.0)
    found = elsewhere.reweight(jax.random.key(4), X_LINEAR, n_effective=5000, max_draws=10_000)
    assert any("effective draws" in warning for warning in found.warnings)
    assert found.efficiency < 0.1


def test_defensive_share_of_the_prior_bounds_the_weights(amortised):
    """No weight can exceed likelihood over (share times evidence); without the share some do."""
    found = ReweightedPosterior(amortised, linear_log_likelihood, prior_share=0.5).reweight(
        jax.random.key(4), X_LINEAR, n_effective=2000
    )
    theta = {name: jnp.asarray(values) for name, values in found.draws.items()}
    best = float(jax.jit(jax.vmap(linear_log_likelihood, in_axes=(0, None)))(theta, X_LINEAR).max())
    limit = np.exp(best - found.log_evidence) / 0.5
    assert found.weights.max() * len(found.weights) < 1.1 * limit


@pytest.mark.parametrize("spread", [0.0, 0.1, 1000.0])
def test_weights_are_numbers_whatever_their_spread(amortised, spread):
    """Equal weights are perfect; those of which one is all are said to be useless, not smoothed to NaN."""
    noise = np.random.default_rng(0).normal(size=10_000)

    def log_likelihood(theta, x):  # makes the weights what they are to be, but for the proposal's own
        rows = jnp.asarray(noise, jnp.float32)
        place = jnp.abs(jnp.sin(1e4 * theta["a"]) * 10_000).astype(int) % 10_000
        log_q = amortised.position_density(amortised.state, LINEAR.unconstrain(theta), x)
        return spread * rows[place] + log_q - LINEAR.log_prob_position(LINEAR.unconstrain(theta))

    posterior = ReweightedPosterior(amortised, log_likelihood, prior_share=0.0)
    found = posterior.reweight(jax.random.key(0), X_LINEAR, n_effective=5000, max_draws=10_000)
    assert np.isfinite(found.weights).all()
    assert found.weights.sum() == pytest.approx(1.0)
    if spread < 1:
        assert found.efficiency > 0.97
        assert found.warnings == ()
    else:
        assert found.efficiency < 0.01
        assert len(found.warnings) == 2


@pytest.mark.slow
def test_truncated_proposals_are_the_prior_inside_the_region(amortised):
    """Against draws of the prior that were put to the same test; the posterior's own draws lie much nearer together."""
    positions, fraction = truncated_positions(jax.random.key(3), amortised, X_LINEAR, 4000, left_out=0.01)
    draws = np.random.default_rng(1).normal(size=(200_000, 2)).astype(np.float32)

    @jax.jit
    @jax.vmap
    def gain(position):
        density = amortised.position_density(amortised.state, position, jnp.asarray(X_LINEAR))
        return density - LINEAR.log_prob_position(position)

    inside = draws[np.asarray(gain(draws)) >= np.asarray(gain(positions)).min()]
    assert fraction == pytest.approx(len(inside) / len(draws), rel=0.1)
    np.testing.assert_allclose(positions.mean(axis=0), inside.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(positions.std(axis=0), inside.std(axis=0), rtol=0.07)
    assert (linear_draws(amortised).std(axis=0) < 0.9 * positions.std(axis=0)).all()


def test_likelihoods_that_cannot_be_are_refused(amortised):
    nan = ReweightedPosterior(amortised, lambda theta, x: jnp.nan * theta["a"])
    with pytest.raises(ValueError, match="must be a number below infinity, got NaN or inf for 1000 of 1000"):
        nan.reweight(jax.random.key(0), X_LINEAR, n_at_once=1000, max_draws=1000)
    nowhere = ReweightedPosterior(amortised, lambda theta, x: -jnp.inf + 0.0 * theta["a"])
    with pytest.raises(ValueError, match="must be finite somewhere"):
        nowhere.reweight(jax.random.key(0), X_LINEAR, n_at_once=1000, max_draws=1000)
    with pytest.raises(ValueError, match="prior_share must be at least 0 and below 1, got 1"):
        ReweightedPosterior(amortised, linear_log_likelihood, prior_share=1)


def test_most_probable_parameters_are_the_peak(amortised):
    mean, sd = exact_linear()
    found = amortised.map(jax.random.key(0), X_LINEAR)
    assert (np.abs(np.array([found["a"], found["b"]]) - mean) < 0.4 * sd).all()


def test_simulations_are_shared_out():
    assert shares(10, 3) == (4, 3, 3)
    with pytest.raises(ValueError, match="n_rounds must be from 1 to the number of simulations, 2, got 3"):
        shares(2, 3)
