"""Distances of twins are chance's, of others more; both agree with plain definitions."""

import jax
import numpy as np
import pytest
from twins import TWINS, WRONG, assert_even

from eagleray.diagnostics.distances import _squared_wasserstein, mmd, sliced_wasserstein
from eagleray.diagnostics.verdicts import judge_distance

X_OBS = np.array([[0.5, -0.3]])
BOTH = pytest.mark.parametrize("distance", [mmd, sliced_wasserstein])


def draws(kind, seed, n=300):
    return TWINS[kind].draw(np.random.default_rng(seed), X_OBS, n)[0]


def measured(distance, kind, n=300, **settings):
    if distance is sliced_wasserstein:
        settings = {"n_directions": 30, **settings}
    return distance(jax.random.key(0), draws("right", 1), draws(kind, 2, n), **settings)


@BOTH
def test_right_posterior_passes(distance):
    """False alarm 5 %."""
    found = measured(distance, "right")
    assert judge_distance(found).state == "passed"
    assert found.null.shape == (199,)
    assert found.p_value_error == pytest.approx(np.sqrt(found.p_value * (1 - found.p_value) / 199))


@BOTH
@pytest.mark.parametrize(("kind", "n"), [*((kind, n) for kind in WRONG for n in (300, 200)), ("independent", 300)])
def test_wrong_posteriors_fail(distance, kind, n):
    found = measured(distance, kind, n)
    assert judge_distance(found).state == "failed"
    assert found.p_value == 1 / 200
    assert found.value > 3 * found.error + found.null.mean()


@BOTH
def test_p_values_of_twins_are_even(distance):
    """Of samples of unlike sizes, one skewed column and one with ties."""
    found = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        sample = np.stack([np.exp(rng.normal(size=40)), rng.integers(0, 4, 40)], axis=1)
        settings = {} if distance is mmd else {"n_directions": 5}
        found.append(distance(jax.random.key(seed), sample[:25], sample[25:], n_permutations=99, **settings).p_value)
    assert_even(found)


def test_discrepancy_by_its_definition():
    first, second = draws("right", 1, 30), draws("shifted", 2, 20)
    together = np.concatenate([first, second])
    deviation, scale = together.std(axis=0), 0.7

    def kernel(a, b):
        return np.exp(-(((a - b) / deviation) ** 2).sum() / (2 * scale**2))

    within = [np.mean([kernel(a, b) for a in s for b in s if a is not b]) for s in (list(first), list(second))]
    expected = sum(within) - 2 * np.mean([kernel(a, b) for a in first for b in second])
    assert mmd(jax.random.key(0), first, second, scale=scale).value == pytest.approx(expected, abs=1e-12)


def test_discrepancy_in_blocks_is_the_same(monkeypatch):
    whole = measured(mmd, "narrow", 200)
    monkeypatch.setattr("eagleray.diagnostics.distances._NUMBERS_AT_ONCE", 7000)
    assert measured(mmd, "narrow", 200).value == pytest.approx(whole.value, rel=1e-9)
    np.testing.assert_allclose(measured(mmd, "narrow", 200).null, whole.null, atol=1e-12)


@pytest.mark.parametrize("kind", ["narrow", "shifted"])
def test_error_of_the_discrepancy(kind):
    """Its square, over 60 repeats, is the variance to 5 times its own error, 0.18; unbiased by two half-samples."""
    repeats = [
        mmd(jax.random.key(0), draws("right", 2 * i, 100), draws(kind, 2 * i + 1, 80), scale=1.0, n_permutations=1)
        for i in range(60)
    ]
    values, errors = (np.array([getattr(r, name) for r in repeats]) for name in ("value", "error"))
    assert 0.5 < values.std(ddof=1) / np.sqrt((errors**2).mean()) < 1.5


def test_median_distance_is_the_scale():
    from scipy.spatial.distance import pdist

    together = np.concatenate([draws("right", 1), draws("right", 2)])
    expected = np.median(pdist(together / together.std(axis=0)))
    assert measured(mmd, "right").scale == pytest.approx(expected, rel=1e-6)


def test_sliced_wasserstein_in_one_dimension_is_wasserstein():
    first, second = draws("right", 1, 50)[:, :1], draws("wide", 2, 50)[:, :1]
    deviation = np.concatenate([first, second]).std()
    expected = np.sqrt(np.mean((np.sort(first, axis=0) - np.sort(second, axis=0)) ** 2)) / deviation
    found = sliced_wasserstein(jax.random.key(0), first, second, n_directions=3)
    assert found.value == pytest.approx(expected)
    assert found.error == pytest.approx(0, abs=1e-12)


def test_samples_of_unlike_size_as_if_repeated():
    rng = np.random.default_rng(0)
    values = rng.normal(size=10)
    label = np.arange(10) < 6
    first, second = np.sort(np.repeat(values[:6], 2)), np.sort(np.repeat(values[6:], 3))
    expected = np.mean((first - second) ** 2)
    np.testing.assert_allclose(_squared_wasserstein(values, label[None]), [expected])


def test_shift_of_all_directions():
    """Of Gaussians with unit covariance, sliced Wasserstein is the shift over the root of the dimension."""
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(2, 4000, 3))
    second = second + np.array([3.0, 0.0, 0.0])
    deviation = np.concatenate([first, second]).std(axis=0)
    found = sliced_wasserstein(jax.random.key(0), first, second, n_directions=200, n_permutations=1)
    assert abs(found.value - 3 / deviation[0] / np.sqrt(3)) < 5 * found.error + 0.02


def test_few_permutations_are_no_check():
    assert judge_distance(measured(mmd, "wide", n_permutations=99)).state == "not checked"


@BOTH
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": np.zeros(20)}, r"reference must be of shape \(n, d\)"),
        ({"draws": np.ones((20, 3))}, "draws must have the reference's number of columns, 2, got 3"),
        ({"draws": np.ones((9, 2))}, "draws must have at least 10 rows, got 9"),
        ({"draws": np.full((20, 2), np.nan)}, "draws must be finite, got 40 of 40"),
        ({"reference": np.ones((20, 2)), "draws": np.ones((20, 2))}, "every column must vary"),
        ({"n_permutations": 0}, "n_permutations must be at least 1"),
    ],
)
def test_refuses(distance, change, message):
    arguments = {"reference": draws("right", 0, 20), "draws": draws("right", 1, 20), **change}
    with pytest.raises(ValueError, match=message):
        distance(jax.random.key(0), **arguments)


def test_refuses_settings():
    with pytest.raises(ValueError, match="scale must be positive and finite, got -1"):
        measured(mmd, "right", scale=-1.0)
    with pytest.raises(ValueError, match="n_directions must be at least 2, got 1"):
        measured(sliced_wasserstein, "right", n_directions=1)
