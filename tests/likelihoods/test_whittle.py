"""Likelihoods of powers: Stingray's number and what is wrong with it, large averages, edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.modeling.models import PowerLaw1D
from scipy import stats
from stingray.modeling.posterior import PSDLogLikelihood

from eagleray.likelihoods.whittle import averaged_powers, whittle

FREQ = np.linspace(0.1, 10.0, 40)
MODEL = 3.0 * FREQ**-1.2
M = np.random.default_rng(0).integers(1, 60, FREQ.size)


def powers(m, seed=1):
    return MODEL * np.random.default_rng(seed).gamma(m, 1.0 / np.asarray(m), FREQ.size)


def stingray_number(power, m):
    shape = PowerLaw1D(amplitude=3.0, x_0=1.0, alpha=1.2, fixed={"x_0": True})
    return PSDLogLikelihood(FREQ, power, shape, m=m).evaluate([3.0, 1.2])


@pytest.mark.parametrize("m", [1, 2, 20, M, np.ones(FREQ.size)], ids=["1", "2", "20", "array", "ones"])
def test_stingray_number(m):
    """Stingray's is twice the Gamma log-likelihood, up to a constant, except for the single number m = 1."""
    power = powers(m)
    with jax.enable_x64(True):
        theirs = stingray_number(power, m)
        assert float(averaged_powers(power, MODEL, m, stingray_compat=True)) == pytest.approx(theirs, rel=1e-12)

        def change(**how):
            return float(averaged_powers(power, 1.1 * MODEL, m, **how) - averaged_powers(power, MODEL, m, **how))

        factor = 1.0 if np.ndim(m) == 0 and m == 1 else 2.0
        assert change(stingray_compat=True) == pytest.approx(factor * change(), rel=1e-10)


def test_one_power_is_whittle():
    power = powers(1)
    assert float(averaged_powers(power, MODEL, 1)) == pytest.approx(float(whittle(power, MODEL)), rel=1e-6)
    assert float(whittle(power, 2.0)) == pytest.approx(float(whittle(power, np.full(FREQ.size, 2.0))), rel=1e-6)


def test_large_averages_in_float32():
    """Ten thousand averages: terms of 1e5 that cancel to 1."""
    m = np.full(FREQ.size, 10_000)
    power = powers(m)
    reference = stats.gamma(a=m, scale=MODEL / m).logpdf(power).sum()
    ours = averaged_powers(power, MODEL, m)
    assert ours.dtype == jnp.float32
    # What remains is the rounding of the powers themselves, 1e-7 of 100 standard deviations each.
    assert float(ours) == pytest.approx(reference, abs=2e-3)


@pytest.mark.parametrize("m", [1, np.ones(3)])
@pytest.mark.parametrize("compat", [False, True])
def test_a_power_of_zero_is_no_fault_for_one_power(m, compat):
    power = jnp.array([0.0, 1.0, 2.0])
    value, gradient = jax.value_and_grad(lambda x: averaged_powers(power, x, m, stingray_compat=compat))(jnp.ones(3))
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()
    assert averaged_powers(power, jnp.ones(3), 2) == -jnp.inf


def test_averages_may_be_traced():
    power = jnp.asarray(powers(M))
    value = jax.jit(averaged_powers)(power, MODEL, jnp.asarray(M))
    assert float(value) == pytest.approx(float(averaged_powers(power, MODEL, M)), rel=1e-6)


def test_refusals():
    with pytest.raises(ValueError, match=r"m must be at least 1, got 0"):
        averaged_powers(MODEL, MODEL, 0)
    with pytest.raises(ValueError, match=r"m must be at least 1, got nan"):
        averaged_powers(MODEL, MODEL, np.nan)
    with pytest.raises(ValueError, match=r"model must have shape \(\) or \(40,\), got \(40, 1\)"):
        whittle(MODEL, MODEL[:, None])
    with pytest.raises(TypeError, match=r"power must be real, got complex"):
        whittle(MODEL + 1j, MODEL)
