"""Named priors: their law, their support, their bijections and their text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eagleray.errors import InputError
from eagleray.priors import FAMILIES, Prior, parse

# Name -> text, the same law in SciPy, and a text that is nearly but not the same.
CASES = {
    "z_uniform": ("uniform(-1, 3)", stats.uniform(-1, 4), "uniform(-1, 3.5)"),
    "loguniform": ("loguniform(0.02, 1)", stats.loguniform(0.02, 1), "loguniform(0.03, 1)"),
    "normal": ("normal(2, 0.5)", stats.norm(2, 0.5), "normal(2.1, 0.5)"),
    "lognormal": ("lognormal(0.3, 0.7)", stats.lognorm(0.7, scale=np.exp(0.3)), "lognormal(0.4, 0.7)"),
    "gamma": ("gamma(2.5, 0.4)", stats.gamma(2.5, scale=2.5), "gamma(2.5, 0.45)"),
    "a_truncnormal": ("truncnormal(1, 0.5, 0, 2.5)", stats.truncnorm(-2, 3, 1, 0.5), "truncnormal(1.1, 0.5, 0, 2.5)"),
}
PRIOR = Prior({name: case[0] for name, case in CASES.items()})
WRONG = Prior({name: case[2] for name, case in CASES.items()})
N = 4000


@pytest.fixture(scope="module")
def sample():
    return jax.device_get(jax.jit(jax.vmap(PRIOR.sample))(jax.random.split(jax.random.key(0), N)))


@pytest.fixture(scope="module")
def wrong_sample():
    return jax.device_get(jax.jit(jax.vmap(WRONG.sample))(jax.random.split(jax.random.key(1), N)))


def test_every_family_is_tested_and_order_is_kept():
    assert {case[0].split("(")[0] for case in CASES.values()} == set(FAMILIES)
    assert PRIOR.names == tuple(CASES)


@pytest.mark.parametrize("name", CASES)
def test_samples_have_the_law_and_a_wrong_law_is_noticed(name, sample, wrong_sample):
    law = CASES[name][1]
    low, high = law.support()
    assert sample[name].min() >= np.float32(low)
    assert sample[name].max() <= np.float32(high)
    assert stats.kstest(sample[name], law.cdf).pvalue > 1e-5  # false alarm 1e-5 for each family
    assert stats.kstest(wrong_sample[name], law.cdf).pvalue < 1e-5


def test_round_trips(sample):
    position = jax.jit(jax.vmap(PRIOR.unconstrain))(sample)
    assert position.shape == (N, len(CASES))
    back = jax.jit(jax.vmap(PRIOR.constrain))(position)
    for name in CASES:
        np.testing.assert_allclose(back[name], sample[name], rtol=2e-5, atol=2e-6)
    grid = jnp.linspace(-4.0, 4.0, 9)[:, None] * jnp.ones(len(CASES))
    again = jax.jit(jax.vmap(lambda p: PRIOR.unconstrain(PRIOR.constrain(p))))(grid)
    np.testing.assert_allclose(again, grid, atol=1e-3)


def test_log_prob_is_scipys(sample):
    expected = sum(case[1].logpdf(sample[name].astype(np.float64)) for name, case in CASES.items())
    np.testing.assert_allclose(jax.jit(jax.vmap(PRIOR.log_prob))(sample), expected, rtol=1e-4, atol=1e-3)


def test_log_prob_is_minus_infinity_outside_with_finite_gradients_inside():
    inside = {name: jnp.float32(case[1].mean()) for name, case in CASES.items()}
    log_prob = jax.jit(PRIOR.log_prob)
    gradient = jax.jit(jax.grad(PRIOR.log_prob))
    assert np.isfinite(log_prob(inside))
    assert all(np.isfinite(g) for g in gradient(inside).values())
    for name, case in CASES.items():
        for edge, step in zip(case[1].support(), (-0.1, 0.1), strict=True):
            if np.isfinite(edge):
                outside = {**inside, name: jnp.float32(edge + step)}
                assert log_prob(outside) == -np.inf
                assert not any(np.isnan(g) for g in gradient(outside).values())


def test_log_det_is_that_of_the_jacobian():
    def vector(position):
        return jnp.stack(list(PRIOR.constrain(position).values()))

    positions = jax.random.normal(jax.random.key(2), (20, len(CASES)))
    # `constrain` keeps the prior's order here because no JAX transformation sorted its keys.
    expected = jax.jit(jax.vmap(lambda p: jnp.linalg.slogdet(jax.jacfwd(vector)(p))[1]))(positions)
    np.testing.assert_allclose(jax.jit(jax.vmap(PRIOR.log_det))(positions), expected, rtol=1e-4, atol=1e-4)


def test_no_position_leaves_the_support():
    far = jnp.array([-1e4, -100.0, -20.0, 20.0, 100.0])[:, None] * jnp.ones(len(CASES))
    theta = jax.device_get(jax.jit(jax.vmap(PRIOR.constrain))(far))
    for name, case in CASES.items():
        low, high = case[1].support()
        assert (theta[name] >= np.float32(low)).all()
        assert (theta[name] <= np.float32(high)).all()


def test_every_draw_has_a_finite_position():
    prior = Prior({"a": "uniform(1000, 1001)"})
    keys = jax.random.split(jax.random.key(0), 200_000)
    positions = jax.jit(jax.vmap(lambda key: prior.unconstrain(prior.sample(key))))(keys)
    assert np.isfinite(positions).all()


def test_strict_mode(strict):
    # numpyro's own truncated normal mixes integers into its density.
    prior = Prior({name: case[0] for name, case in CASES.items() if "trunc" not in name})
    position = jax.jit(lambda key: prior.unconstrain(prior.sample(key)))(jax.random.key(3))
    value = jax.jit(lambda p: prior.log_prob(prior.constrain(p)) + prior.log_det(p))(position)
    assert np.isfinite(value)


@pytest.mark.parametrize("text", ["uniform(0, 3)", "uniform(-2, 0)", "loguniform(0.001, 5)", "truncnormal(0, 1, 0, 2)"])
def test_a_draw_that_rounds_to_an_end_has_a_finite_position(text):
    # One float32 draw in 2^23 is an end of its range.
    prior = Prior({"a": text})
    for end in (prior.lower_end("a"), prior.upper_end("a")):
        assert np.isfinite(prior.unconstrain({"a": jnp.float32(end)})).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cauchy(0, 1)", r"the prior of a must be one of uniform\(low, high\), .*got 'cauchy\(0, 1\)'"),
        ("uniform 0 1", "must be one of"),
        ("", "must be one of"),
        (3, "must be one of .*got 3"),
        ("uniform(1)", r"must be uniform\(low, high\) with numbers, got 'uniform\(1\)'"),
        ("uniform(a, b)", "with numbers"),
        ("uniform(0, inf)", "with numbers"),
        ("normal(nan, 1)", "with numbers"),
        ("uniform(2, 1)", "must have low < high, got low=2, high=1"),
        ("truncnormal(0, 1, 1, 1)", "must have low < high, got low=1, high=1"),
        ("loguniform(0, 1)", "must have low > 0 .* to be log-uniform, got low=0"),
        ("normal(0, -1)", "must have sd > 0, got -1"),
        ("lognormal(0, 0)", "must have log_sd > 0, got 0"),
        ("gamma(0, 1)", "must have shape > 0, got 0"),
    ],
)
def test_error_messages(text, message):
    with pytest.raises(InputError, match=message):
        Prior({"a": text})


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=20) | st.from_regex(r"(uniform|normal)\([-0-9e., ]{0,9}\)", fullmatch=True))
def test_any_text_is_a_prior_or_an_input_error(text):
    complaint = None
    try:
        standard, _ = parse("a", text)
    except InputError as error:
        complaint = str(error)
    if complaint is None:
        assert standard.split("(")[0] in FAMILIES
    else:
        assert complaint.startswith("the prior of a must")


@settings(max_examples=30, deadline=None)
@given(
    low=st.floats(-(2.0**10), 2.0**10, width=32),
    width=st.floats(2.0**-3, 2.0**20, width=32),
    space=st.sampled_from(["", " ", "  "]),
)
def test_standard_form_is_a_fixed_point(low, width, space):
    standard, _ = parse("a", f"{space}uniform{space}({space}{low!r},{space}{low + width!r}{space}){space}")
    assert parse("a", standard)[0] == standard
    numbers = [float(part) for part in standard[len("uniform(") : -1].split(",")]
    np.testing.assert_allclose(numbers, [low, low + width], rtol=1e-8)


TIED = {
    "qpo.freq": "uniform(1, 4)",
    "noise": "fixed(2.5)",
    "harmonic.freq": "tied(2 * qpo.freq)",
    "harmonic.width": "tied(qpo.width)",
    "qpo.width": "loguniform(0.1, 1)",
    "anti": "tied(-1e-1 * qpo.freq)",
}


def test_fixed_and_tied_parameters_come_out_and_are_no_coordinates():
    prior = Prior(TIED)
    assert prior.names == ("qpo.freq", "qpo.width")
    assert prior.all_names == tuple(TIED) == tuple(prior.constrain(jnp.zeros(2)))
    theta = jax.jit(prior.sample)(jax.random.key(0))
    assert theta["noise"] == 2.5
    np.testing.assert_allclose(theta["harmonic.freq"], 2 * theta["qpo.freq"])
    np.testing.assert_allclose(theta["anti"], -0.1 * theta["qpo.freq"], rtol=1e-6)
    assert theta["harmonic.width"] == theta["qpo.width"]
    position = prior.unconstrain(theta)
    assert position.shape == (2,)
    free = Prior({name: TIED[name] for name in prior.names})
    assert prior.log_prob(theta) == free.log_prob(theta)
    assert prior.log_det(position) == free.log_det(position)
    assert (prior.lower_end("harmonic.freq"), prior.upper_end("harmonic.freq")) == (2, 8)
    assert (prior.lower_end("anti"), prior.upper_end("anti")) == (-0.4, -0.1)
    assert prior.lower_end("noise") == prior.upper_end("noise") == 2.5
    assert prior.family("noise") == "fixed"
    assert Prior(prior.texts).texts == prior.texts


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"a": "fixed(1)"}, "at least one parameter free"),
        ({"a": "uniform(0, 1)", "b": "tied(c)"}, "tie it to a free parameter"),
        ({"a": "uniform(0, 1)", "b": "tied(c)", "c": "fixed(1)"}, "tie it to a free parameter"),
        ({"a": "uniform(0, 1)", "b": "tied(x * a)"}, "tied"),
        ({"a": "uniform(0, 1)", "b": "tied(0 * a)"}, "tied"),
        ({"a": "uniform(0, 1)", "b": "tied(a + 1)"}, "tied"),
        ({"a": "uniform(0, 1)", "b": "fixed(nan)"}, "fixed"),
        ({"a": "uniform(0, 1)", "b": "fixed(1, 2)"}, "fixed"),
    ],
)
def test_ties_that_lead_nowhere_are_refused(texts, message):
    with pytest.raises(InputError, match=message):
        Prior(texts)
