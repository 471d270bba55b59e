"""The classifier two-sample test: chance for twins, Bayes' accuracy for strangers, scikit-learn's for both."""

import jax
import numpy as np
import pytest
from scipy import stats

from eagleray.diagnostics.c2st import _compiled, _order, c2st

N = 1500


def gaussian(seed, n=N, *, shift=0.0, correlation=0.0):
    """Draws of a Gaussian in two dimensions."""
    covariance = [[1.0, correlation], [correlation, 1.0]]
    return np.random.default_rng(seed).multivariate_normal([shift, 0.0], covariance, n)


@pytest.mark.slow
def test_twins_are_told_by_chance():
    """False alarm 6e-5."""
    found = c2st(jax.random.key(0), gaussian(0), gaussian(1))
    assert abs(found.accuracy - 0.5) < 4 * found.error
    assert found.error == pytest.approx(0.5 / np.sqrt(2 * N), rel=0.02)
    assert found.accuracy == pytest.approx(np.mean(found.folds))
    assert len(found.folds) == 5


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_shifted_gaussians_are_told_as_well_as_can_be(shift):
    """Bayes' accuracy is Phi(shift / 2), less a little that training costs; false alarm 3e-5 above."""
    found = c2st(jax.random.key(1), gaussian(0), gaussian(1, shift=shift))
    best = stats.norm.cdf(shift / 2)
    assert best - 4 * found.error - 0.01 < found.accuracy < best + 4 * found.error


def test_units_and_origin_do_not_matter():
    scale, origin = np.array([1e-6, 1e5]), np.array([3.0, -1e6])
    plain = c2st(jax.random.key(2), gaussian(0), gaussian(1, shift=1.0))
    scaled = c2st(jax.random.key(2), origin + scale * gaussian(0), origin + scale * gaussian(1, shift=1.0))
    assert scaled.accuracy == pytest.approx(plain.accuracy, abs=0.01)


def test_same_key_same_answer_and_one_compilation():
    first = c2st(jax.random.key(3), gaussian(0, 300), gaussian(1, 301), n_folds=2)
    n_compiled = _compiled.cache_info().misses
    assert c2st(jax.random.key(3), gaussian(0, 300), gaussian(1, 301), n_folds=2) == first
    assert c2st(jax.random.key(4), gaussian(0, 300), gaussian(2, 301), n_folds=2) != first
    assert _compiled.cache_info().misses == n_compiled


@pytest.mark.parametrize("n", [2, 7, 16, 1000])
def test_orders_are_permutations(n):
    orders = [np.asarray(_order(jax.random.key(seed), n)) for seed in range(8)]
    assert all(sorted(order) == list(range(n)) for order in orders)
    assert len({order.tobytes() for order in orders}) > 1


@pytest.mark.parametrize("correlation", [0.3, 0.9])
@pytest.mark.slow
def test_accuracy_is_that_of_scikit_learn(correlation):
    """Both classify the same rows, so that they differ by less than either's error; false alarm below 1e-4."""
    network = pytest.importorskip("sklearn.neural_network")
    selection = pytest.importorskip("sklearn.model_selection")
    reference, draws = gaussian(0, 4000), gaussian(1, 4000, correlation=correlation)
    x = (np.concatenate([reference, draws]) - reference.mean(axis=0)) / reference.std(axis=0, ddof=1)
    classifier = network.MLPClassifier((20, 20), max_iter=10_000, random_state=1)
    folds = selection.KFold(5, shuffle=True, random_state=1)
    theirs = selection.cross_val_score(classifier, x, np.repeat([0, 1], 4000), cv=folds).mean()
    ours = c2st(jax.random.key(5), reference, draws)
    assert abs(ours.accuracy - theirs) < 4 * ours.error


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": np.zeros(20)}, r"reference must be of shape \(n, d\)"),
        ({"draws": np.ones((20, 3))}, "draws must have the reference's 2 columns, got 3"),
        ({"draws": np.ones((9, 2))}, "draws must have at least 10 rows for 5 folds, got 9"),
        ({"draws": np.full((20, 2), np.nan)}, "draws must be finite, got 20 of 20 rows"),
        ({"reference": np.ones((20, 2))}, "reference must vary in every column"),
        ({"n_folds": 1}, "n_folds must be at least 2"),
    ],
)
def test_refuses(change, message):
    arguments = {"reference": gaussian(0, 20), "draws": gaussian(1, 20), **change}
    with pytest.raises(ValueError, match=message):
        c2st(jax.random.key(0), **arguments)
