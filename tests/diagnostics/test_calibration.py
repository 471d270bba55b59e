"""Calibration lets a right posterior pass and notices wrong ones."""

import numpy as np
import pytest

from eagleray.diagnostics.calibration import LEVELS, calibration

N_SIM, N_DRAWS = 1000, 200


def checked(*, width=1.0, shift=0.0, seed=0):
    """Record of the exact posterior of a linear Gaussian problem, made wider or shifted (in posterior sds)."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=N_SIM)
    x = truth + rng.normal(size=N_SIM)
    sd = np.sqrt(0.5)
    draws = (0.5 * x + shift * sd)[:, None] + width * sd * rng.normal(size=(N_SIM, N_DRAWS))
    return calibration({"theta": truth}, {"theta": draws})


def passes(record):
    """What a user would ask: even ranks, and coverage near its noise."""
    return record.p_values.min() > 1e-4 and record.error < 5.0 * record.error_floor


def test_right_posterior_passes():
    """False alarm 1e-4 for the ranks, below 1e-4 for the error."""
    assert passes(checked())


@pytest.mark.parametrize("wrong", [{"width": 0.7}, {"width": 1.4}, {"shift": 0.4}, {"shift": -0.4}])
def test_wrong_posteriors_fail(wrong):
    assert checked(**wrong).p_values[0] < 1e-4
    assert not passes(checked(**wrong))


def test_coverage_tells_narrow_from_wide():
    narrow, wide = checked(width=0.7), checked(width=1.4)
    assert (narrow.coverage[3:-1, 0] < LEVELS[3:-1]).all()
    assert (wide.coverage[3:-1, 0] > LEVELS[3:-1]).all()
    assert min(narrow.error, wide.error) > 5.0 * narrow.error_floor


def test_record():
    rng = np.random.default_rng(1)
    truth = {"b": rng.normal(size=60), "a": rng.normal(size=60)}
    draws = {name: rng.normal(size=(60, 30)) for name in ("a", "b")}
    record = calibration(truth, draws)
    assert (record.names, record.n_draws, record.ranks.shape) == (("b", "a"), 30, (60, 2))
    assert record.coverage.shape == (len(LEVELS), 2)
    np.testing.assert_array_equal(record.ranks[:, 1], (draws["a"] < truth["a"][:, None]).sum(axis=1))


def test_error_floor_is_the_mean_error_of_right_posteriors():
    rng = np.random.default_rng(2)
    records = []
    for _ in range(60):
        truth = rng.normal(size=300)
        records.append(calibration({"a": truth}, {"a": rng.normal(size=(300, 99))}))
    errors = np.array([record.error for record in records])
    expected = records[0].error_floor
    assert abs(errors.mean() - expected) < 5.0 * errors.std() / np.sqrt(60) + 0.1 * expected  # false alarm 1e-6


@pytest.mark.parametrize("n_draws", [99, 97])
def test_p_values_of_right_posteriors_are_uniform_enough(n_draws):
    """Mean of 300 uniform p-values: sd 0.0167, false alarm of five of them 6e-7."""
    rng = np.random.default_rng(3)
    records = [calibration({"a": rng.normal(size=400)}, {"a": rng.normal(size=(400, n_draws))}) for _ in range(300)]
    assert abs(np.mean([record.p_values[0] for record in records]) - 0.5) < 5.0 * 0.0167


def from_ranks(ranks, n_draws):
    """Record of given ranks."""
    draws = np.broadcast_to(np.arange(n_draws) + 0.5, (len(ranks), n_draws))
    return calibration({"a": np.asarray(ranks, float)}, {"a": draws})


@pytest.mark.parametrize("n_draws", [99, 200, 100, 40])
def test_perfectly_even_ranks_have_a_p_value_of_one(n_draws):
    record = from_ranks(np.repeat(np.arange(n_draws + 1), 200), n_draws)
    assert record.p_values[0] > 0.999


@pytest.mark.parametrize("n_draws", [1, 4, 9])
def test_few_draws_still_give_a_p_value(n_draws):
    assert from_ranks(np.repeat(np.arange(n_draws + 1), 60), n_draws).p_values[0] > 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match=r"truth and draws must be finite and not empty, got shapes \(2, 1\)"):
        calibration({"a": np.array([1.0, bad])}, {"a": np.zeros((2, 5))})
    with pytest.raises(ValueError, match="must be finite"):
        calibration({"a": np.zeros(2)}, {"a": np.full((2, 5), bad)})
    with pytest.raises(ValueError, match="not empty"):
        calibration({"a": np.zeros(0)}, {"a": np.zeros((0, 5))})
