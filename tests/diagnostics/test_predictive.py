"""Statistics of data that the model can make pass; of others they do not."""

import numpy as np
import pytest
from twins import NOISE, TWINS, assert_even, simulate

from eagleray.diagnostics.predictive import statistic_checks
from eagleray.diagnostics.verdicts import judge_checks, judge_statistics

STATISTICS = {"mean": np.mean, "spread": np.std, "largest": lambda data: data.max()}
N_REPEATS = 20  # measurements in one data set, each theta + noise


def data_of(rng, theta):
    """(n, N_REPEATS, 2) data for (n, 2) parameters."""
    return theta[:, None] + rng.multivariate_normal(np.zeros(2), NOISE, (len(theta), N_REPEATS))


def checked(kind, *, scale=1.0, n=999, seed=0):
    """Observed data of one truth against replicates of parameters drawn from a twin given one measurement of it."""
    rng = np.random.default_rng(seed)
    theta, x = simulate(rng, 1)
    draws = TWINS[kind].draw(rng, x, n)[0]
    return statistic_checks(scale * data_of(rng, theta)[0], data_of(rng, draws), STATISTICS)


@pytest.mark.parametrize("kind", ["right", "narrow", "wide"])
def test_right_and_badly_scaled_posteriors_pass(kind):
    """False alarm 5 %. One data set cannot tell widths: the truth is likely near the middle of all three."""
    assert judge_statistics(checked(kind)).state == "passed"


def test_a_far_shift_and_a_wrong_model_fail():
    near = checked("shifted")
    rng = np.random.default_rng(0)
    theta, x = simulate(rng, 1)
    shifted = TWINS["right"].draw(rng, x, 999)[0] + 4.0
    found = statistic_checks(data_of(rng, theta)[0], data_of(rng, shifted), STATISTICS)
    assert judge_statistics(found).state == "failed"
    assert found[0].p_value == 2 / 1000
    assert found[0].p_value < near[0].p_value
    loud = checked("right", scale=3.0)
    assert judge_statistics(loud).state == "failed"
    assert loud[1].p_value == 2 / 1000


def test_p_values_are_even_with_parameters_from_the_prior():
    """Each width too is seen there, over many data sets: replicates of too narrow parameters lie too near."""
    found, narrow = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        theta, _ = simulate(rng, 40)
        data = data_of(rng, theta)
        found.append(statistic_checks(data[0], data[1:], {"mean": np.mean})[0].p_value)
        narrow.append(statistic_checks(data[0], data_of(rng, 0.4 * theta[1:]), {"mean": np.mean})[0].p_value)
    assert_even(found)
    with pytest.raises(AssertionError):
        assert_even(narrow)


def test_record():
    (found,) = statistic_checks(3.0, list(range(1, 40)), {"itself": lambda data: data})
    assert (found.name, found.observed, found.n) == ("itself", 3.0, 39)
    assert found.p_value == 2 * 4 / 40  # 1, 2, 3 and the observed one
    assert found.p_value_error == pytest.approx(2 * np.sqrt(0.1 * 0.9 / 39))
    assert (found.mean, found.sd) == (20.0, pytest.approx(np.std(range(39), ddof=1)))
    assert judge_checks((found,)).state == "passed"  # one-sided checks and these have one verdict


def test_equal_statistics_have_a_p_value_of_one():
    assert statistic_checks(1.0, np.ones(30), {"itself": float})[0].p_value == 1.0


def test_nothing_and_few_replicates_are_no_check():
    assert judge_statistics(()).state == "not checked"
    assert judge_statistics(checked("right", scale=3.0, n=100)).state == "not checked"


@pytest.mark.parametrize(
    ("replicated", "statistics", "message"),
    [
        (np.ones(19), {"a": float}, "replicated must have at least 20 data sets, got 19"),
        (np.ones(20), {}, "statistics must name at least one function"),
        (np.full(20, np.nan), {"a": float}, "statistic 'a' must be one finite number, got nan of replicate 0"),
        (
            np.ones(20),
            {"b": lambda data: np.ones(2)},
            "statistic 'b' must be one finite number, got .* of the observed",
        ),
    ],
)
def test_refuses(replicated, statistics, message):
    with pytest.raises(ValueError, match=message):
        statistic_checks(1.0, replicated, statistics)
