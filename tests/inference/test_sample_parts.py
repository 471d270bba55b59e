"""What samplers compute on the host: diagnostics, importance weights, prior volumes, evidences."""

import numpy as np
import pytest
from scipy import stats

from eagleray.inference.samplers.chains import Outcome
from eagleray.inference.samplers.doubts import agreement, words
from eagleray.inference.samplers.nested import Dead, log_weights
from eagleray.inference.samplers.tempering import combined_evidence
from eagleray.inference.samplers.variational import psis


def chains(n_chains=4, n_draws=500, seed=0):
    """Independent normal draws."""
    return np.random.default_rng(seed).normal(size=(n_chains, n_draws))


def compare(draws):
    """Diagnostics of one parameter."""
    return agreement({"a": draws}, ["a"], np.isfinite(draws).all(axis=1), None)


def outcome(draws, **changes):
    """What a method would hand back."""
    shape = draws.shape
    plain = {
        "positions": draws[..., None],
        "log_density": draws,
        "n_steps": np.ones(shape, int),
        "n_warmup_steps": np.zeros(shape[0], int),
        "n_nan": np.zeros(shape[0], int),
        "seconds": {},
    }
    return Outcome(**(plain | changes))


def say(draws, method="nuts", **changes):
    """Doubts about draws."""
    finite = np.isfinite(draws).all(axis=1)
    moved = np.ptp(draws, axis=1) > 0
    return words(method, outcome(draws, **changes), compare(draws), finite=finite, moved=moved)


def test_good_chains_raise_no_doubt():
    found = compare(chains())
    assert abs(found.rhat["a"] - 1) < 0.02
    assert 1500 < found.ess_bulk["a"] < 2600
    assert found.off == ()
    assert say(chains()) == ()


def test_effective_draws_of_weighted_draws_are_bounded():
    found = agreement({"a": chains()}, ["a"], np.ones(4, bool), 37.0)
    assert found.ess_bulk["a"] == found.ess_tail["a"] == 37.0


@pytest.mark.parametrize("off", [(0,), (3,), (1, 4)])
def test_shifted_chains_are_named(off):
    draws = chains(6)
    draws[list(off)] += 5
    found = compare(draws)
    assert found.rhat["a"] > 1.05
    assert found.off == off


def test_two_chains_that_disagree_name_none():
    draws = chains(2)
    draws[1] += 5
    assert compare(draws).off == ()


def test_wide_chain_is_named():
    draws = chains()
    draws[2] *= 10
    assert compare(draws).off == (2,)


def test_chain_that_stands_still():
    draws = chains()
    draws[2] = 0.3
    said = say(draws)
    assert "chain 2 did not move" in said
    assert any("chain 2 is off" in text for text in said)
    all_still = say(np.zeros((4, 100)))
    assert "chains 0, 1, 2 and 3 did not move" in all_still
    assert any("R-hat is inf" in text for text in all_still)


def test_chain_that_is_not_finite():
    draws = chains()
    draws[1, 7] = np.nan
    found = compare(draws)
    assert found.rhat["a"] == np.inf
    assert found.ess_bulk["a"] == 0
    assert found.off == (1,)
    assert "chain 1 is not finite" in say(draws)


def test_one_chain_is_compared_with_itself():
    assert compare(chains(1)).rhat["a"] < 1.02
    drifting = chains(1) + np.linspace(0, 3, 500)
    assert compare(drifting).rhat["a"] > 1.05


def test_divergences_in_words():
    divergent = np.zeros((4, 500), bool)
    divergent[[0, 2], :3] = True
    expected = "2 of 4 chains had divergences, 6 of 2000 draws; raise target_acceptance or reparametrise"
    assert say(chains(), divergent=divergent) == (expected,)


def test_approximation_in_words():
    assert "0.30 (0.7 is the limit), it can be trusted" in say(chains(), pareto_k=np.array([0.1, 0.3]))[0]
    assert "it is poor" in say(chains(), pareto_k=np.array([0.1, 0.9]))[0]


@pytest.mark.parametrize("sd", [0.6, 0.9])
def test_pareto_k_of_a_narrow_proposal(sd):
    """Weights of N(0, 1) over N(0, sd^2) have a tail of shape 1 - sd^2; five standard errors of the fit are 0.25."""
    x = np.random.default_rng(0).normal(0, sd, 20_000)
    weight, k = psis(stats.norm.logpdf(x) - stats.norm.logpdf(x, 0, sd))
    assert abs(k - (1 - sd**2)) < 0.25
    assert weight.sum() == pytest.approx(1)
    assert abs((weight * x**2).sum() - 1) < (0.3 if sd < 0.8 else 0.05)
    # The twin: the ratio upside down has a bounded weight, hence no tail.
    assert psis(stats.norm.logpdf(x, 0, sd) - stats.norm.logpdf(x))[1] < 0.1


def test_pareto_k_of_what_is_not_finite():
    weight, k = psis(np.array([0.0, np.nan, 1.0, -np.inf]))
    assert k == np.inf
    np.testing.assert_array_equal(weight, 0.25)


def nested_run(rng, n_live=200, n_delete=40, n_iterations=60):
    """An ideal run: the likelihood of a standard normal in 3 dimensions under a uniform ball of radius 8."""

    def log_likelihood(volume):
        return -0.5 * (8 * volume ** (1 / 3)) ** 2

    live, birth = rng.uniform(size=n_live), np.full(n_live, np.nan)
    dead = []
    for _ in range(n_iterations):
        order = np.argsort(-live)[:n_delete]
        dead += [(live[i], birth[i]) for i in order]
        contour = live[order].min()
        live[order], birth[order] = rng.uniform(0, contour, n_delete), log_likelihood(contour)
    volume, birth = np.array(dead + list(zip(live, birth, strict=True))).T
    return Dead(volume[:, None], np.zeros(len(volume)), log_likelihood(volume), birth)


@pytest.mark.slow
def test_evidence_of_ideal_nested_runs():
    """Runs alone, and merged, within five of their errors; and the errors are those of the scatter."""
    rng = np.random.default_rng(0)
    truth = 1.5 * np.log(2 * np.pi) - np.log(4 / 3 * np.pi * 8**3)
    runs = [nested_run(rng) for _ in range(30)]
    evidence = np.array([np.logaddexp.reduce(log_weights(run, rng), axis=0) for run in runs])
    mean, error = evidence.mean(axis=1), evidence.std(axis=1)
    assert abs(mean.mean() - truth) < 5 * mean.std() / np.sqrt(30)
    assert 0.6 < mean.std() / error.mean() < 1.6
    merged = Dead(*(np.concatenate(parts) for parts in zip(*runs[:10], strict=True)))
    together = np.logaddexp.reduce(log_weights(merged, rng), axis=0)
    assert together.std() == pytest.approx(error.mean() / np.sqrt(10), rel=0.3)
    assert abs(together.mean() - truth) < 5 * together.std()
    # The twin: the merged points taken for one run of as many live points as each had.
    wrong = merged._replace(birth=np.where(np.arange(len(merged.birth)) < 200, np.nan, -np.inf))
    assert abs(np.logaddexp.reduce(log_weights(wrong, rng), axis=0).mean() - truth) > 5 * together.std()


def test_combined_evidence():
    value, error = combined_evidence(np.log([1.0, 3.0]), np.zeros(2))
    assert value == pytest.approx(np.log(2))
    assert error == pytest.approx(np.std(np.log([1, 3]), ddof=1) / np.sqrt(2))
    assert combined_evidence(np.zeros(4), np.full(4, 0.04))[1] == pytest.approx(0.1)
