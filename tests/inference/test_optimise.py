"""Maxima of posteriors and likelihoods against SciPy, exact answers, and what they report when in doubt."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize as scipy_optimize

from eagleray.inference.fits import draw_starts, optimise_each
from eagleray.inference.lbfgs import minimise_each
from eagleray.inference.log_density import Target
from eagleray.inference.optimise import optimise
from eagleray.priors import Prior

FREQ = np.arange(1, 513) / 32.0
SHAPES = {
    "power law": (
        {"norm": "loguniform(1e-3, 1e3)", "slope": "uniform(0, 4)", "level": "fixed(2)"},
        {"norm": 3.0, "slope": 1.5, "level": 2.0},
    ),
    "bending power law": (
        {"norm": "loguniform(1e-3, 1e4)", "slope": "normal(2, 1)", "bend": "loguniform(0.05, 10)", "level": "fixed(2)"},
        {"norm": 30.0, "slope": 2.4, "bend": 1.0, "level": 2.0},
    ),
    "Lorentzian and harmonic": (
        {
            "norm": "loguniform(1e-3, 1e3)",
            "slope": "uniform(0, 4)",
            "level": "loguniform(0.1, 10)",
            "centre": "uniform(1, 7)",
            "fwhm": "loguniform(0.1, 2)",
            "peak": "loguniform(0.1, 1e3)",
            "harmonic": "tied(2 * centre)",
        },
        {"norm": 3.0, "slope": 1.5, "level": 2.0, "centre": 4.0, "fwhm": 0.5, "peak": 20.0, "harmonic": 8.0},
    ),
}


def spectrum(theta, freq):
    """The sum of whatever components the parameters name."""
    power = theta["level"] + jnp.zeros_like(freq)
    if "bend" in theta:
        power += theta["norm"] / (1.0 + jnp.exp(theta["slope"] * jnp.log(freq / theta["bend"])))
    else:
        power += theta["norm"] * jnp.exp(-theta["slope"] * jnp.log(freq))
    for name in {"centre", "harmonic"} & set(theta):
        power += theta["peak"] / (1.0 + (2.0 * (freq - theta[name]) / theta["fwhm"]) ** 2)
    return power


def draw(theta, freq=FREQ, seed=0):
    """Powers drawn about a spectrum."""
    with jax.enable_x64():
        model = np.asarray(spectrum(theta, jnp.asarray(freq)))
    return model * np.random.default_rng(seed).exponential(size=freq.size)


def log_likelihood(theta, power, freq):
    """Whittle's, summed as it stands."""
    model = spectrum(theta, freq)
    return -(jnp.log(model) + power / model).sum()


def target_of(name, power, freq=FREQ):
    dtype = jnp.result_type(float)
    data = jnp.asarray(power, dtype), jnp.asarray(freq, dtype)
    return Target(Prior(SHAPES[name][0]), lambda theta: log_likelihood(theta, *data))


def scipy_maximum(target, start, use_prior=True):
    """Minimum of the negative log density by SciPy, in physical units, and its Hessian; call in double precision."""
    names = target.prior.names

    def loss(vector):
        theta = target.prior.complete(dict(zip(names, vector, strict=True)))
        return -target.log_likelihood(theta) - use_prior * target.prior.log_prob_natural(theta)

    value_and_gradient = jax.jit(jax.value_and_grad(loss))

    def numpy_loss(vector):
        value, gradient = value_and_gradient(jnp.asarray(vector))
        return (float(value), np.asarray(gradient)) if np.isfinite(value) else (1e10, np.zeros(len(names)))

    scale = np.array([start[name] for name in names])
    found = scipy_optimize.minimize(
        lambda scaled: (lambda v, g: (v, g * scale))(*numpy_loss(scaled * scale)),
        np.ones_like(scale),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-7},
    )
    best, steps = found.x * scale, np.diag(1e-5 * np.abs(found.x * scale))
    columns = [(numpy_loss(best + step)[1] - numpy_loss(best - step)[1]) / (2 * step.max()) for step in steps]
    return found.fun, best, np.stack(columns)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("power law", marks=pytest.mark.slow),
        pytest.param("bending power law", marks=pytest.mark.slow),
        "Lorentzian and harmonic",
    ],
)
def test_the_maximum_is_that_of_scipy(name):
    """In float64: the same maximum to 1e-6, errors from the same Hessian, criteria with their factors."""
    power = draw(SHAPES[name][1])
    with jax.enable_x64():
        target = target_of(name, power)
        saturated = -(np.log(power) + 1.0).sum()
        ours = optimise(target, jax.random.key(0), n_starts=8, n_data=power.size, saturated=saturated)
        value, vector, hessian = scipy_maximum(target, ours.theta)
        loglike = float(log_likelihood(ours.theta, power, FREQ))
    names = target.prior.names
    assert ours.converged
    assert ours.positive_definite
    assert ours.n_agreeing > 1
    assert ours.at_bound == ()
    assert ours.shortfall < 1e-12
    assert ours.log_posterior == pytest.approx(-value, abs=1e-8)
    np.testing.assert_allclose([ours.theta[n] for n in names], vector, rtol=1e-6)
    np.testing.assert_allclose(ours.covariance, np.linalg.inv(hessian), rtol=1e-4)
    errors = np.sqrt(np.diag(np.linalg.inv(hessian)))
    np.testing.assert_allclose([ours.standard_error[n] for n in names], errors, rtol=1e-4)
    assert list(ours.theta) == list(SHAPES[name][0])
    assert "level" in names or ours.theta["level"] == 2.0
    assert "level" in names or "level" not in ours.standard_error
    if "harmonic" in ours.theta:
        assert ours.theta["harmonic"] == pytest.approx(2 * ours.theta["centre"])
        assert ours.standard_error["harmonic"] == pytest.approx(2 * ours.standard_error["centre"])
    assert ours.log_likelihood == pytest.approx(loglike)
    assert ours.n_free == len(names)
    assert ours.aic == pytest.approx(2 * len(names) - 2 * loglike)
    assert ours.bic == pytest.approx(len(names) * np.log(power.size) - 2 * loglike)
    assert ours.deviance == pytest.approx(2 * (saturated - loglike))
    # Twin: with the likelihood doubled, as Stingray has it for averaged powers, the errors are wrong by sqrt 2.
    assert not np.allclose(np.sqrt(np.diag(ours.covariance)), errors / np.sqrt(2), rtol=0.2)


@pytest.mark.slow
def test_ten_thousand_powers_in_single_precision():
    """The plain sum is -1e5, known to 0.01: the maximum is found all the same, judged in double precision."""
    name, freq = "bending power law", np.arange(1, 10_001) / 1000.0
    truth = {"norm": 1e5, "slope": 3.5, "bend": 0.3, "level": 2.0}
    prior = Prior(SHAPES[name][0] | {"norm": "loguniform(1, 1e8)"})
    power = draw(truth, freq)
    data = jnp.asarray(power, jnp.float32), jnp.asarray(freq, jnp.float32)
    ours = optimise(Target(prior, lambda t: log_likelihood(t, *data)), jax.random.key(0), n_starts=4, use_prior=False)
    with jax.enable_x64():
        exact = Target(prior, lambda t: log_likelihood(t, jnp.asarray(power), jnp.asarray(freq)))
        value, *_ = scipy_maximum(exact, ours.theta, use_prior=False)
        reached = float(exact.log_likelihood({n: jnp.asarray(v) for n, v in ours.theta.items()}))
    assert ours.converged
    assert ours.n_agreeing > 1
    assert -value - reached < 1e-3
    assert np.isnan(ours.bic)
    assert np.isnan(ours.deviance)


def test_doubts_are_reported():
    """One parameter pushed against its bound, one of no consequence, one Gaussian with a Gaussian prior."""
    prior = Prior({"pushed": "uniform(0, 5)", "good": "normal(1, 2)", "idle": "uniform(-1, 1)"})
    target = Target(prior, lambda theta: -3.0 * theta["pushed"] - 0.5 * (theta["good"] - 4.0) ** 2)
    ours = optimise(target, jax.random.key(0), n_starts=4, n_data=10)
    assert ours.at_bound == ("pushed",)
    assert 0 <= ours.theta["pushed"] < 1e-3
    assert ours.theta["good"] == pytest.approx((1.0 / 4 + 4.0) / (1 + 1 / 4), rel=1e-4)
    assert not ours.positive_definite
    assert np.isnan(list(ours.standard_error.values())).all()
    assert np.isnan(ours.shortfall)


def test_no_start_with_a_finite_density():
    target = Target(Prior({"a": "normal(0, 1)"}), lambda theta: jnp.nan * theta["a"])
    with pytest.raises(ValueError, match="log_likelihood must be finite somewhere"):
        optimise(target, jax.random.key(0), n_starts=2, n_draws=2)
    with pytest.raises(ValueError, match="n_starts and n_draws must be at least 1, got 0"):
        optimise(target, jax.random.key(0), n_starts=0)


def rosenbrock(position, centre):
    """The banana, its minimum at a centre; undefined far to the left."""
    x, y = position - centre
    value = (1.0 - (x + 1.0)) ** 2 + 30.0 * ((y + 1.0) - (x + 1.0) ** 2) ** 2
    return jnp.where(position[0] > -8.0, value, jnp.nan)


def test_every_lane_finds_its_own_minimum():
    """More minimisations than lanes, one of them started where nothing is finite."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(50, 2)).astype(np.float32)
    starts = (centres[:, None] + rng.normal(size=(50, 3, 2))).astype(np.float32)
    starts[7, 1] = -9.0
    minima = jax.jit(lambda s, d: minimise_each(rosenbrock, s, d, tolerance=1e-6, n_lanes=7))(starts, centres)
    begun = np.ones((50, 3), bool)
    begun[7, 1] = False
    np.testing.assert_array_equal(minima.converged, begun)
    np.testing.assert_array_equal(np.isfinite(minima.value), begun)
    assert minima.n_evaluations[7, 1] == 1
    np.testing.assert_allclose(minima.position[begun], np.repeat(centres, 3, 0).reshape(50, 3, 2)[begun], atol=2e-2)
    assert minima.value[begun].max() < 1e-4
    assert minima.n_evaluations.max() < 100


def test_many_fits_are_the_same_as_each():
    """Exponential counts of a known law: the best level is the mean, whatever else is in the batch."""
    prior = Prior({"level": "loguniform(0.1, 100)"})

    def likelihood(theta, power, m):
        return -(m * (jnp.log(theta["level"]) + power / theta["level"])).sum()

    power = np.random.default_rng(0).exponential(np.linspace(1, 10, 40)[:, None], (40, 64)).astype(np.float32)
    m = jnp.full(64, 3.0, jnp.float32)
    starts = jax.jit(
        lambda key, power, known: draw_starts(
            key, likelihood, prior, power, shared=(m,), known=known, n_starts=2, n_draws=8
        )
    )
    draws = starts(jax.random.key(0), power, {"level": np.full(40, np.nan, np.float32)})
    known = starts(jax.random.key(0), power, {"level": power[:, 0]})
    inside = (power[:, 0] > 0.1) & (power[:, 0] < 100)
    given = np.asarray(jax.vmap(jax.vmap(prior.constrain))(known)["level"])
    np.testing.assert_allclose(given[inside], np.repeat(power[inside, :1], 2, 1), rtol=1e-4)
    assert (given[~inside] > 0.1).all()
    fits = optimise_each(likelihood, prior, power, draws, shared=(m,), use_prior=False)
    level = np.asarray(jax.vmap(prior.constrain)(fits.position)["level"])
    np.testing.assert_allclose(level, power.mean(axis=1), rtol=1e-3)
    assert fits.converged.all()
    assert (fits.n_agreeing == 2).all()
    # Twin: with the prior the maximum lies where m n ln(level) has gained one ln(level).
    assert abs(level / (power.mean(axis=1) * 64 * 3 / (64 * 3 + 1)) - 1).min() > 2e-3


@pytest.mark.slow
def test_log_uniform_priors_do_not_draw_the_maximum_to_their_corner():
    """A peak worth 4 in ln likelihood stays, where 1 / theta of three priors over decades would outweigh it."""
    freq = jnp.arange(1.0, 201.0)
    names = ("centre", "width", "peak")
    prior = Prior(
        dict(zip(names, ("loguniform(1, 200)", "loguniform(0.1, 200)", "loguniform(1e-3, 1e3)"), strict=True))
    )

    def model(theta):
        return 1.0 + theta["peak"] / (1.0 + ((freq - theta["centre"]) / theta["width"]) ** 2)

    truth = dict(zip(names, (60.0, 3.0, 3.0), strict=True))
    power = model(truth) * np.random.default_rng(5).exponential(size=200)
    target = Target(prior, lambda theta: -(jnp.log(model(theta)) + power / model(theta)).sum())
    without = float(-power.sum())
    found = optimise(target, jax.random.key(0))
    assert found.log_likelihood - without > 3.0
    assert abs(found.theta["centre"] - 60.0) < 6.0
    # Twin: in physical units the corner is better than this maximum.
    physical = {"best": found.theta, "corner": {name: 1.001 * prior.lower_end(name) for name in names}}
    values = {k: float(target.log_likelihood(t) + prior.log_prob(t)) for k, t in physical.items()}
    assert values["corner"] > values["best"]
