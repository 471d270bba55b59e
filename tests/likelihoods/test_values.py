"""Gaussian, Laplace and Poisson likelihoods: Stingray's numbers, gaps, many counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.modeling.models import Linear1D
from scipy import stats
from stingray.modeling.posterior import GaussianLogLikelihood, LaplaceLogLikelihood, PoissonLogLikelihood

from eagleray.likelihoods.gaussian import gaussian, laplace
from eagleray.likelihoods.poisson import poisson

X = np.linspace(0.0, 5.0, 30)
MODEL = 2.0 * X + 3.0
RNG = np.random.default_rng(2)
VALUES, ERROR = MODEL + RNG.normal(size=X.size), RNG.uniform(0.5, 2.0, X.size)
COUNTS = RNG.poisson(MODEL)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda: gaussian(VALUES, MODEL, ERROR), lambda shape: GaussianLogLikelihood(X, VALUES, ERROR, shape)),
        (lambda: laplace(VALUES, MODEL, ERROR), lambda shape: LaplaceLogLikelihood(X, VALUES, ERROR, shape)),
        (lambda: poisson(COUNTS, MODEL), lambda shape: PoissonLogLikelihood(X, COUNTS, shape)),
    ],
    ids=["gaussian", "laplace", "poisson"],
)
def test_stingray_number(ours, theirs):
    with jax.enable_x64(True):
        assert float(ours()) == pytest.approx(theirs(Linear1D(2.0, 3.0)).evaluate([2.0, 3.0]), rel=1e-12)


@pytest.mark.parametrize("likelihood", [gaussian, laplace])
def test_gaps_are_left_out(likelihood):
    """A gap has no error: neither value nor gradient may feel it."""
    mask = np.arange(X.size) % 5 != 0
    error = jnp.asarray(np.where(mask, ERROR, 0.0))
    value, gradient = jax.value_and_grad(lambda e: likelihood(VALUES, MODEL, e, mask=mask))(error)
    kept = likelihood(VALUES[mask], MODEL[mask], ERROR[mask])
    assert float(value) == pytest.approx(float(kept), rel=1e-5)
    assert jnp.isfinite(gradient).all()
    assert not gradient[~mask].any()
    with pytest.raises(ValueError, match=r"mask must have shape \(30,\), got \(29,\)"):
        likelihood(VALUES, MODEL, ERROR, mask=mask[1:])


def test_where_nothing_is_expected():
    """Zero counts in a gap cost nothing and have a slope; counts there are impossible."""
    counts, expected = jnp.array([0.0, 0.0, 3.0]), jnp.array([0.0, 2.0, 4.0])
    value, gradient = jax.value_and_grad(poisson, argnums=1)(counts, expected)
    assert float(value) == pytest.approx(-2.0 + stats.poisson(4.0).logpmf(3), rel=1e-6)
    np.testing.assert_allclose(gradient, [-1.0, -1.0, -0.25], rtol=1e-6)
    assert poisson(jnp.array([1.0]), jnp.array([0.0])) == -jnp.inf


def test_many_counts_in_float32():
    """A million counts a bin: terms of 1e7 that cancel to 8."""
    expected = np.full(50, 1e6)
    counts = np.random.default_rng(3).poisson(expected).astype(np.float64)
    reference = stats.poisson(expected).logpmf(counts).sum()
    assert float(poisson(counts, expected)) == pytest.approx(reference, rel=1e-5)
    assert float(poisson(counts.astype(np.int32), expected)) == pytest.approx(reference, rel=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match=r"error must have shape \(\) or \(30,\), got \(1,\)"):
        gaussian(VALUES, MODEL, np.ones(1))
    with pytest.raises(ValueError, match=r"scale must have shape \(\) or \(30,\), got \(1,\)"):
        laplace(VALUES, MODEL, np.ones(1))
    with pytest.raises(ValueError, match=r"model must have shape \(\) or \(30,\), got \(29,\)"):
        poisson(COUNTS, MODEL[1:])
