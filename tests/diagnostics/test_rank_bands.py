"""Bands hold even ranks as often as they say, and only those."""

import dataclasses

import numpy as np
import pytest
from twins import NAMES, WRONG, assert_even, case, named

from eagleray.diagnostics.calibration import calibration
from eagleray.diagnostics.rank_bands import even_band, evenness, rank_bands
from eagleray.diagnostics.verdicts import judge_rank_bands


def bands(kind, **settings):
    theta, _, draws = case(kind, **settings)
    return rank_bands(calibration(named(theta), named(draws)))


def test_right_posterior_passes():
    """False alarm 1 % for the verdict, 5 % for the band."""
    found = bands("right")
    assert judge_rank_bands(found).state == "passed"
    assert not found.outside.any()
    assert "ranks of no parameter leave" in judge_rank_bands(found).sentence
    assert found.p_value == min(1.0, 2 * found.p_values.min())


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_posteriors_fail(kind):
    found = bands(kind)
    assert judge_rank_bands(found).state == "failed"
    assert found.outside.all()
    assert found.p_values.max() < 1e-6


def test_a_missing_correlation_is_not_seen():
    """By construction: ranks are of one parameter at a time, and each of them is right."""
    assert judge_rank_bands(bands("independent")).state == "passed"


def test_curves_tell_what_is_wrong():
    low = bands("right").points < 0.2
    assert (bands("narrow").difference[low] > 0).all()
    assert (bands("wide").difference[low] < 0).all()
    assert (bands("shifted").difference[10:-10] > 0).all()


def test_record():
    found = bands("right", n=200, n_draws=30)
    assert (found.names, found.n_simulations, found.level) == (NAMES, 200, 0.95)
    np.testing.assert_allclose(found.points, np.arange(1, 31) / 31)
    theta, _, draws = case("right", n=200, n_draws=30)
    ranks = (draws < theta[:, None]).sum(axis=1)
    np.testing.assert_allclose(found.difference[9], (ranks <= 9).mean(axis=0) - 10 / 31)
    assert (found.lower < -1.9 * found.error).all()
    assert (found.upper > 1.9 * found.error).all()
    assert ((found.difference < found.lower[:, None]) | (found.difference > found.upper[:, None])).any() == any(
        found.outside
    )


@pytest.mark.parametrize("n", [15, 300])
def test_band_holds_even_numbers_as_often_as_it_says(n):
    """Against simulation; counts come in steps, which makes the band a little too wide for few numbers."""
    points = np.arange(1, 40) / 40
    low, high = even_band(n, tuple(points), 0.1)
    counts = np.random.default_rng(0).multinomial(n, np.full(40, 1 / 40), size=20_000)[:, :-1].cumsum(axis=1)
    left = ((counts < low) | (counts > high)).any(axis=1).mean()
    assert 0.1 - (0.02 if n < 100 else 0.005) - 5 * 0.0021 < left < 0.1 + 5 * 0.0021  # false alarm 6e-7
    few = counts[:300]
    outside = ((few < low) | (few > high)).any(axis=1)
    p_values = np.array([evenness(row, points, n) for row in few])
    np.testing.assert_array_equal(p_values <= 0.1, outside)
    assert_even(p_values)


def test_p_value_against_simulation():
    """Of one unusual set of counts, whose statistic is computed here by itself."""
    from scipy import stats

    n, points = 60, np.arange(1, 10) / 10
    rng = np.random.default_rng(1)

    def strays(u):
        counts = (u[..., None] <= points).sum(axis=-2)
        return np.minimum(stats.binom.cdf(counts, n, points), stats.binom.sf(counts - 1, n, points)).min(axis=-1)

    unusual = ((np.arange(n) + 0.5) / n) ** 1.45
    expected = np.mean(strays(rng.random((20_000, n))) <= strays(unusual) * (1 + 1e-9))
    exact = evenness((unusual[:, None] <= points).sum(axis=0), points, n)
    assert 0.001 < exact < 0.2
    assert abs(exact - expected) < 5 * np.sqrt(exact / 20_000)


def test_extremes():
    points = np.arange(1, 10) / 10
    assert evenness(np.arange(1, 10) * 10, points, 100) == 1.0
    for counts in (np.zeros(9, int), np.full(9, 10_000)):
        assert 0 < evenness(counts, points, 10_000) < 1e-300


def test_few_simulations_are_no_check():
    assert judge_rank_bands(bands("right", n=60)).state == "not checked"
    assert judge_rank_bands(bands("shifted", n=60)).state == "failed"


@pytest.mark.parametrize(
    ("change", "level", "message"),
    [
        ({"ranks": np.zeros((0, 2), int)}, 0.95, "ranks must be 0 ... 100 and not empty"),
        ({"ranks": np.full((9, 2), 101)}, 0.95, r"got shape \(9, 2\) and values 101 ... 101"),
        ({}, 1.0, "level must be between 0 and 1, got 1.0"),
    ],
)
def test_refuses(change, level, message):
    theta, _, draws = case("right")
    record = dataclasses.replace(calibration(named(theta), named(draws)), **change)
    with pytest.raises(ValueError, match=message):
        rank_bands(record, level=level)
