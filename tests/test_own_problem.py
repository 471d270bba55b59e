"""A problem of one's own, as docs/problems.md adds one: through a network, the exact likelihood and every diagnosis."""

import html
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.config import FitConfig, make_config
from eagleray.diagnostics.verdicts import judge
from eagleray.errors import InputError
from eagleray.inference.log_density import Target
from eagleray.pipeline.amortised import infer
from eagleray.pipeline.diagnosis import diagnose
from eagleray.pipeline.problem_fit import exact_target, fit_problem
from eagleray.pipeline.results import write_result
from eagleray.problems import Problem, make_problem
from eagleray.problems.windows import steady_light_curve
from eagleray.report.diagnosis import write_diagnosis

PAGE = Path(__file__).parents[1] / "docs" / "problems.md"
TINY = {
    "n_simulations": 2000,
    "n_calibration": 100,
    "n_draws": 500,
    "n_predictive": 50,
    "training": {"max_epochs": 15},
    "network": {
        "embedding": {"hidden": [16], "n_embedded": 8},
        "density": {"n_layers": 2, "hidden": [16], "n_bins": 4},
    },
}
TRUTH = {"peak": 60.0, "decay_time": 4.0, "background": 4.0}


@pytest.fixture(scope="module")
def decay():
    """The function of the docs' example."""
    code = re.search(r"```python\n# decay.py\n(.*?)\nif __name__", PAGE.read_text(), re.DOTALL)
    scope = {}
    exec(code[1], scope)  # noqa: S102 our own page
    return scope["decay"]


@pytest.fixture(scope="module")
def observation(decay):
    window = steady_light_curve(160, 0.1, 10.0)
    counts = decay(window).simulate(jax.random.key(3), {name: jnp.float32(v) for name, v in TRUTH.items()})
    return type(window)(**{**vars(window), "values": counts})


@pytest.fixture(scope="module")
def problem(decay, observation) -> Problem:
    return decay(observation)


@pytest.fixture(scope="module")
def answer(problem, observation):
    return infer(observation, problem=problem, config=make_config(TINY))


@pytest.fixture(scope="module")
def fitted(problem, observation):
    return fit_problem(observation, problem=problem, config=FitConfig(n_warmup=400, n_draws=500, n_predictive=100))


def test_network_and_exact_likelihood_find_the_truth(answer, fitted):
    for name, value in TRUTH.items():
        exact = fitted.draws[name]
        assert abs(np.log(exact).mean() - np.log(value)) < 4 * np.log(exact).std()  # false alarm 1e-4
        drawn = np.log(answer[0].draws[name])
        assert abs(drawn.mean() - np.log(exact).mean()) < 2 * drawn.std()  # a network of two thousand simulations


def test_fit_of_a_problem_is_whole(fitted, problem, observation, tmp_path):
    assert fitted.spectrum is None
    assert fitted.optimum is not None
    assert fitted.provenance["problem"] == "decay"
    assert fitted.shown_predictive.shape == (100, 20)
    np.testing.assert_allclose(fitted.shown_obs, np.asarray(observation.values).reshape(-1, 8).sum(axis=1), rtol=1e-5)
    chains, predictive, optimum = (verdict.state for verdict in judge(fitted))
    assert chains != "failed"
    assert (predictive, optimum) == ("passed", "passed")
    write_result(fitted, tmp_path / "fit")
    assert "Time [s]" in (tmp_path / "fit" / "report.html").read_text()
    theta = {name: jnp.asarray(draws[:5]) for name, draws in fitted.draws.items()}
    log_prob = jax.vmap(lambda t: problem.log_likelihood(t, problem.observed) + problem.prior.log_prob(t))(theta)
    np.testing.assert_allclose(fitted.log_prob[:5], log_prob, rtol=1e-4)


def test_network_of_another_problem_is_refused(answer, decay):
    other = decay(steady_light_curve(160, 0.2, 10.0))
    with pytest.raises(InputError, match="trained for observations with dt 0.1, this one has 0.2"):
        infer(steady_light_curve(160, 0.2, 10.0), problem=other, posterior=answer[1], config=make_config(TINY))
    with pytest.raises(InputError, match="trained for the problem decay, got periodic_gaussian"):
        infer(
            steady_light_curve(160, 0.1, 10.0),
            problem=make_problem("periodic_gaussian"),
            posterior=answer[1],
            config=make_config(TINY),
        )


def test_without_a_likelihood_there_is_no_fit(observation):
    with pytest.raises(InputError, match="bending_power_law has no exact likelihood"):
        exact_target(make_problem("bending_power_law"))
    with pytest.raises(InputError, match="a problem must be named"):
        fit_problem(observation)


def test_latent_rate_is_sampled_with_the_parameters():
    assert isinstance(exact_target(make_problem("periodic_gaussian")), Target)
    assert exact_target(make_problem("few_counts")).n_latent > 0


@pytest.mark.slow
def test_every_diagnosis_is_made_and_written(answer, problem, tmp_path):
    found = diagnose(answer[1], problem, n=200, n_null=9)
    assert len(found.everywhere) == 4
    # Typicality, classifier, statistics, weights, two distances.
    assert len(found.here) == 6
    assert found.weighted.efficiency > 0.01
    write_diagnosis(found, tmp_path / "page")
    page = (tmp_path / "page" / "diagnosis.html").read_text()
    assert page.count("<figure>") == 5
    for verdict in (*found.everywhere, *found.here):
        assert html.escape(verdict.title) in page
    record = json.loads((tmp_path / "page" / "diagnosis.json").read_text())
    assert record["weighted"]["efficiency"] == found.weighted.efficiency
    assert len(record["verdicts"]) == 10


def test_window_alone_has_no_verdict_on_an_observation(answer, problem):
    found = diagnose(answer[1], problem, n=100, observed=False)
    assert found.here == ()
    assert len(found.everywhere) == 4


def test_a_narrowed_posterior_fails_its_diagnosis(answer, problem):
    posterior = answer[1]

    class Narrow(type(posterior)):
        def draw_positions(self, state, key, x, n):
            drawn = super().draw_positions(state, key, x, n)
            return drawn.mean(axis=0) + 0.4 * (drawn - drawn.mean(axis=0))

    narrow = object.__new__(Narrow)
    narrow.__dict__.update(posterior.__dict__)
    found = diagnose(narrow, problem, n=200, observed=False)
    states = [verdict.state for verdict in found.everywhere]
    assert states.count("failed") >= 3, states
