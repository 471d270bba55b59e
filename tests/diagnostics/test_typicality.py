"""Typical summaries have uniform p-values, odd ones small; doubts are voiced when they must be, and not otherwise."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from eagleray.diagnostics.calibration import calibration
from eagleray.diagnostics.doubts import doubts, prior_edges
from eagleray.diagnostics.typicality import reference_summaries, typicality
from eagleray.diagnostics.verdicts import judge_typicality
from eagleray.priors import Prior
from eagleray.records import Typicality

N_FEATURES = 5


def summaries(rng, n, spread=1.0):
    """Correlated, heavy-tailed, skewed summaries."""
    mixing = np.tril(np.ones((N_FEATURES, N_FEATURES)))
    return spread * np.exp(0.3 * rng.standard_t(5, size=(n, N_FEATURES))) @ mixing


def p_values(spread, n=600):
    """p-values of one summary each among 90 others; exactly uniform on k / 31 where all have one law."""
    rng = np.random.default_rng(0)
    return np.array(
        [typicality(summaries(rng, 1, spread)[0], reference_summaries(summaries(rng, 90))).p_value for _ in range(n)]
    )


def evenness(p):
    """Chi-squared p-value of the 31 possible values."""
    return stats.chisquare(np.bincount(np.round(31 * p).astype(int), minlength=32)[1:]).pvalue


def test_typical_summaries_have_uniform_p_values_and_others_have_not():
    assert evenness(p_values(1.0)) > 1e-5  # false alarm 1e-5
    assert evenness(p_values(1.4)) < 1e-5


def test_odd_summaries_are_noticed():
    rng = np.random.default_rng(1)
    reference = reference_summaries(summaries(rng, 3000))
    typical = summaries(rng, 300).mean(axis=0)
    assert typicality(typical, reference).p_value > 0.5
    # Each feature usual by itself, but not together: against the correlation.
    odd = typical + np.array([1.5, -1.5, 1.5, -1.5, 1.5])
    found = typicality(odd, reference)
    assert found.p_value < 0.01
    assert found.distance > typicality(typical, reference).distance
    assert found.n_reference == 1000
    far = typicality(typical + 1e3, reference)
    assert far.p_value == 1 / 1001
    assert typicality(np.full(N_FEATURES, np.nan), reference).p_value == 1 / 1001


def test_a_feature_that_never_varies_is_no_obstacle():
    rng = np.random.default_rng(2)
    x = summaries(rng, 300)
    x[:, 2] = 4.0
    reference = reference_summaries(x)
    assert typicality(x[0], reference).p_value > 0.01
    assert typicality(x[0] + np.eye(N_FEATURES)[2], reference).p_value < 0.02


def test_distance_is_mahalanobis():
    rng = np.random.default_rng(3)
    covariance = np.array([[2.0, 0.5], [0.5, 1.0]])
    reference = reference_summaries(rng.multivariate_normal([1.0, 2.0], covariance, 30_000))
    offset = np.array([1.0, -1.0])
    expected = np.sqrt(offset @ np.linalg.inv(covariance) @ offset)
    np.testing.assert_allclose(typicality(np.array([1.0, 2.0]) + offset, reference).distance, expected, rtol=0.03)


def test_too_few_summaries_are_refused():
    with pytest.raises(ValueError, match="at least 30 summaries are needed to say what is typical, got 29"):
        reference_summaries(np.zeros((29, 2)))


PRIOR = Prior({"rms": "loguniform(0.01, 1)", "slope": "uniform(0, 2)", "rate": "normal(0, 1)"})
FINE = Typicality(distance=2.0, p_value=0.4, n_reference=1000)
ODD = dataclasses.replace(FINE, p_value=0.001)


def case(**changes):
    """Arguments of `doubts` that raise none, with changes."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=500)
    given = {
        "draws": {"rms": rng.uniform(0.05, 0.2, 500), "slope": rng.uniform(0.5, 1.5, 500), "rate": np.zeros(500)},
        "calibration": calibration({"a": truth}, {"a": rng.normal(size=(500, 99))}),
        "among_prior": FINE,
        "among_posterior": FINE,
        "invalid_fraction": 0.005,
        "feature_names": ("log_rate",),
    }
    draws = {**given["draws"], **changes.pop("draws", {})}
    return {**given, **changes, "draws": draws}


def test_no_doubt_without_reason():
    assert doubts(PRIOR, **case()) == ()


def test_each_doubt_is_voiced_alone():
    record = case()["calibration"]
    edge = np.full(500, 1.0)
    edge[:100] = 1.99
    low = np.full(500, 0.1)
    low[:100] = 0.0101
    for start, changes in {
        "The observation is unlike the simulations": {"among_prior": ODD},
        "Light curves simulated from the posterior do not look like": {"among_posterior": ODD},
        "The network's calibration is in doubt; more simulations may mend it. On 500 fresh": {
            "calibration": dataclasses.replace(record, error=0.1)
        },
        "slope presses against the upper end of its prior, uniform(0, 2) (20% of the draws": {"draws": {"slope": edge}},
        "rms presses against the lower end of its prior, loguniform(0.01, 1)": {"draws": {"rms": low}},
        "20.0% of the simulations had no positive mean rate": {"invalid_fraction": 0.2},
        "1 of 500 draws of rate are not finite": {"draws": {"rate": np.append(np.zeros(499), np.nan)}},
    }.items():
        found = doubts(PRIOR, **case(**changes))
        assert len(found) == 1
        assert found[0].startswith(start)


def test_a_single_feature_far_outside_is_not_diluted():
    """45 features, one beyond anything simulated: the distance alone would let it pass."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(3000, 45))
    x[:, 0] = rng.uniform(-1.0, 1.0, 3000)
    reference = reference_summaries(x)
    typical = rng.normal(size=45) * 0.9
    typical[0] = 0.5
    assert typicality(typical, reference).outside == ()
    odd = typical.copy()
    odd[0] = 1.5
    found = typicality(odd, reference)
    assert found.outside == (0,)
    assert found.p_value > 0.01
    assert judge_typicality(found).state == "failed"
    names = ("log_rate", *("other",) * 44)
    (doubt,) = doubts(PRIOR, **case(among_prior=found, feature_names=names))
    assert doubt.startswith("The observation's log_rate lies outside all simulations")


def test_too_few_simulations_are_no_check():
    assert judge_typicality(Typicality(distance=1.0, p_value=0.5, n_reference=98)).state == "not checked"


def test_doubts_have_thresholds():
    record = case()["calibration"]
    even = dataclasses.replace(record, error_floor=0.005, p_values=np.array([0.011]))
    assert doubts(PRIOR, **case(calibration=dataclasses.replace(even, error=0.0199))) == ()
    assert doubts(PRIOR, **case(calibration=dataclasses.replace(even, error=0.029, error_floor=0.02))) == ()
    for wrong in ({"error": 0.0201}, {"error": 0.01, "p_values": np.array([0.009])}):
        assert len(doubts(PRIOR, **case(calibration=dataclasses.replace(even, **wrong)))) == 1
    assert doubts(PRIOR, **case(among_prior=dataclasses.replace(FINE, p_value=0.011))) == ()
    assert len(doubts(PRIOR, **case(among_prior=dataclasses.replace(FINE, p_value=0.009)))) == 1
    few = np.full(500, 1.0)
    few[:50] = 1.99
    assert prior_edges(PRIOR, case(draws={"slope": few})["draws"]) == []


def test_a_posterior_that_is_its_prior_presses_against_nothing():
    uniform = np.random.default_rng(4).uniform(0, 2, 4000)
    assert prior_edges(PRIOR, {"slope": uniform}) == []
