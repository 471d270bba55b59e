"""What every registered problem promises, on the window that stands for it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.errors import InputError
from eagleray.problems import PROBLEMS, find_problem, fixed_observation, make_problem
from eagleray.problems.problem import Problem

N = 64
# Their simulator is that of the other runs, in other windows.
OTHER_WINDOWS = {"hb22_grs1915", "hb22_hf_averaged", "hb22_hf_single", "hb22_lf_averaged"}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.slow] * (name in OTHER_WINDOWS)) for name in sorted(PROBLEMS)],
)
def problem(request) -> Problem:
    return make_problem(request.param)


@pytest.fixture(scope="module")
def first(problem):
    """The first fixed observation: its parameters and data."""
    return fixed_observation(problem, 1)


def test_simulations_have_finite_summaries_over_the_whole_prior(problem):
    bank = problem.simulate_bank(jax.random.key(0), N)
    assert bank.x.shape[0] == N
    assert bank.x.shape[2] == len(problem.summary.names)
    assert bank.x.dtype == jnp.float32
    # Physics may leave a draw without a summary (no event at all), but rarely.
    assert np.asarray(bank.valid).mean() > 0.9
    varies = np.asarray(bank.x)[np.asarray(bank.valid)].std(axis=0) > 0
    assert varies.all(), [name for name, v in zip(problem.summary.names, varies, strict=True) if not v]


def test_what_was_observed_looks_like_what_is_simulated(problem, first):
    theta, data = first
    shapes = jax.tree.map(jnp.shape, data)
    assert shapes == jax.tree.map(jnp.shape, problem.observed)
    assert set(theta) == set(problem.prior.all_names) == set(problem.units)
    again, same = fixed_observation(problem, 1)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((a == b).all()), (theta, data), (again, same)))


def test_panel_shows_a_part_of_the_summary(problem, first):
    x = np.asarray(jax.jit(problem.summary)(first[1]))
    panel = problem.summary.panel
    assert problem.summary.shown(x).shape == panel.axis.shape
    assert problem.summary.shown(np.stack([x, x])).shape == (2, panel.axis.size)
    assert (np.diff(panel.axis) > 0).all()
    assert panel.axis_label
    assert panel.value_label


def test_likelihood_is_finite_and_has_a_gradient_over_the_prior(problem, first):
    if problem.log_likelihood is None:
        pytest.skip("no likelihood in closed form")
    data = first[1]

    def at(position):
        return problem.log_likelihood(problem.prior.constrain(position), data)

    keys = jax.random.split(jax.random.key(1), N)
    positions = jax.vmap(lambda key: problem.prior.unconstrain(problem.prior.sample(key)))(keys)
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(at)))(positions)
    assert not np.isnan(values).any()
    assert np.isfinite(np.asarray(slopes)[np.isfinite(values)]).all()
    assert np.isfinite(values).mean() > 0.9


def test_signature_is_json_and_knows_its_settings(problem):
    signature = problem.signature()
    assert json.loads(json.dumps(signature)) == signature
    assert signature["problem"] == problem.name
    assert set(signature["settings"]) == set(find_problem(problem.name).settings)


@pytest.mark.parametrize("name", sorted(PROBLEMS))
def test_entry_says_what_it_is(name):
    entry = find_problem(name)
    assert entry.about
    assert entry.reference
    assert 0 < entry.seconds < 1
    assert all(isinstance(value, int | float) for value in entry.settings.values())


def test_unknown_problem_or_observation_is_refused():
    with pytest.raises(InputError, match="problem must be one of .*, got 'weather'"):
        find_problem("weather")
    with pytest.raises(InputError, match="counted from 1, got 0"):
        fixed_observation(make_problem("periodic_gaussian"), 0)
    with pytest.raises(InputError, match="has the settings .*, got 'height'"):
        make_problem("periodic_gaussian", height=3)
