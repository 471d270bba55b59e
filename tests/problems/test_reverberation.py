"""An echo in a second band: simulator against likelihood, and both against plain NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from score_checks import scores_of

from eagleray.errors import InputError
from eagleray.problems.reverberation import ENTRIES, AveragedPowers, default_prior, make, standard
from eagleray.problems.windows import steady_light_curve

N, DT, M = 64, 10.0, 12
BANDS = (steady_light_curve(N * M + 5, dt=DT, rate=8.0), steady_light_curve(N * M + 5, dt=DT, rate=5.0))
THETA = {"rms": 0.3, "slope": 1.6, "ratio": 0.8, "lag": 60.0, "response": 0.6}
OTHER = {"rms": 0.15, "slope": 2.1, "ratio": 1.4, "lag": 45.0, "response": 0.3}


def theta_of(values):
    return {name: jnp.float32(value) for name, value in values.items()}


def matrix_by_hand(theta):
    """(n_freq, 2, 2) matrices E[F_i conj(F_j)] of the model, in float64."""
    freq = np.arange(1, N // 2) / (N * DT)
    power = freq ** -theta["slope"]
    power *= theta["rms"] ** 2 * N * DT / power.sum()
    edges = (np.arange(N + 1) - 0.5) * DT
    weights = np.diff(stats.norm(theta["lag"], 0.3 * theta["lag"]).cdf(edges))
    echo = (weights * np.exp(-2j * np.pi * freq[:, None] * np.arange(N) * DT)).sum(axis=1)
    gain = theta["ratio"] * (1.0 + theta["response"] * echo) / (1.0 + theta["response"])
    matrix = np.empty((freq.size, 2, 2), complex)
    matrix[:, 0, 0], matrix[:, 1, 1] = power + 2.0 / 8.0, power * np.abs(gain) ** 2 + 2.0 / 5.0
    matrix[:, 1, 0], matrix[:, 0, 1] = power * gain, power * gain.conj()
    return matrix


def wishart_by_hand(data, matrix, m):
    """Goodman's density of the mean of m outer products: of two powers and of both parts of the cross spectrum."""
    cross = np.asarray(data.real, float) + 1j * np.asarray(data.imaginary, float)
    p1, p2 = np.asarray(data.power1, float), np.asarray(data.power2, float)
    mean = np.array([[p1, cross.conj()], [cross, p2]]).transpose(2, 0, 1)
    trace = np.trace(np.linalg.solve(matrix, mean), axis1=1, axis2=2).real
    logs = (m - 2) * np.log(np.linalg.det(mean).real) - m * np.log(np.linalg.det(matrix).real) - m * trace
    norm = 2 * m * np.log(m) - np.log(np.pi) - special.gammaln(m) - special.gammaln(m - 1)
    return (logs + norm).sum()


def test_likelihood_belongs_to_the_simulator():
    """Score of mean zero and covariance minus the mean Hessian; false alarm 1e-4 each. The twin has lags in advance."""
    problem = make(BANDS, segment_bins=N)
    assert problem.prior.texts["lag"] == "loguniform(40, 80)"
    at = scores_of(problem)
    for theta in (THETA, OTHER):
        found = at(theta)
        assert found.mean < 4.5
        assert found.information < 4.5

    def reversed_lag(theta, data):
        return problem.log_likelihood(theta, data._replace(imaginary=-data.imaginary))

    assert scores_of(problem, log_likelihood=reversed_lag)(THETA).mean > 4.5


@pytest.mark.parametrize("theta", [THETA, OTHER])
def test_likelihood_is_goodmans(theta):
    problem = make(BANDS, segment_bins=N)
    data = jax.jit(problem.simulate)(jax.random.key(0), theta_of(theta))
    expected = wishart_by_hand(data, matrix_by_hand(theta), M)
    assert float(jax.jit(problem.log_likelihood)(theta_of(theta), data)) == pytest.approx(expected, abs=0.02)


def test_simulations_have_the_mean_and_the_scatter_of_the_model():
    """Means over 500 draws within 4.5 standard errors, 2e-3 of false alarm over all; powers scatter by 1/sqrt(M)."""
    problem, matrix = make(BANDS, segment_bins=N), matrix_by_hand(THETA)
    draw = jax.jit(jax.vmap(problem.simulate, in_axes=(0, None)))
    data = AveragedPowers(
        *(np.asarray(x, float) for x in draw(jax.random.split(jax.random.key(1), 500), theta_of(THETA)))
    )
    wanted = (matrix[:, 0, 0].real, matrix[:, 1, 1].real, matrix[:, 1, 0].real, matrix[:, 1, 0].imag)
    for found, expected in zip(data, wanted, strict=True):
        assert np.abs((found.mean(0) - expected) / (found.std(0) / np.sqrt(500))).max() < 4.5
    np.testing.assert_allclose((data.power2.std(0) / data.power2.mean(0)).mean(), 1.0 / np.sqrt(M), rtol=0.05)


def test_an_echo_in_light_curves_is_seen_as_one():
    """Noise-free light curves by NumPy, the second a delayed copy: the phase is minus 2 pi f lag."""
    rng = np.random.default_rng(2)
    rate = 8.0 + rng.normal(size=N * M + 5)
    late = np.roll(rate, 3)
    bands = tuple(dataclasses.replace(BANDS[0], values=x * DT) for x in (rate, late))
    observed = make(bands, segment_bins=N).observed
    freq = np.arange(1, N // 2) / (N * DT)
    phase = np.angle(np.asarray(observed.real) + 1j * np.asarray(observed.imaginary))
    np.testing.assert_allclose(np.exp(1j * phase[:8]), np.exp(-2j * np.pi * freq[:8] * 3 * DT), atol=0.2)


def test_noise_levels_follow_counts_background_and_errors():
    first, second = BANDS
    background = np.full(first.grid.n_bins, 40.0)
    with_background = dataclasses.replace(first, values=first.values + 40.0, background=background)
    rates = dataclasses.replace(second, values=second.values / DT, error=np.full(second.grid.n_bins, 0.5), kind="rate")
    found = make((with_background, rates), segment_bins=N).conditions
    assert found["noise1"] == pytest.approx(2.0 * (80.0 + 40.0) / 80.0 / 8.0, rel=1e-4)
    assert found["noise2"] == pytest.approx(2.0 * DT * 0.5**2 / 5.0**2, rel=1e-4)


def test_standard_window_and_summary():
    problem = make(standard(), {"slope": "fixed(2)"})
    theta, data = jax.jit(problem.draw)(jax.random.key(3))
    features = np.asarray(jax.jit(problem.summary)(data))
    assert set(theta) == set(ENTRIES["reverberation"].units) == set(default_prior(standard()))
    assert problem.prior.names == ("rms", "ratio", "lag", "response")
    assert features.shape == (len(problem.summary.names),)
    assert np.isfinite(features).all()
    assert problem.summary.shown(features).shape == problem.summary.panel.axis.shape


def test_bad_input_is_named_with_its_remedy():
    first, second = BANDS
    with pytest.raises(InputError, match="needs two light curves, of the continuum's band and of the echo's"):
        make((first,))
    with pytest.raises(InputError, match="must share their bins, got 773 of 10 s and 773 of 5 s"):
        make((first, steady_light_curve(773, dt=5.0, rate=5.0)))
    with pytest.raises(InputError, match="at least two segments without gaps, got one; use fewer segment_bins"):
        make(BANDS, segment_bins=500)
    with pytest.raises(InputError, match="segment_bins must be a whole number of at least 64, got 70.5"):
        make(BANDS, segment_bins=70.5)
    with pytest.raises(InputError, match="rates must come with errors"):
        make((first, dataclasses.replace(second, kind="rate")))
    with pytest.raises(InputError, match="positive mean rate, got -5 counts/s"):
        make((first, dataclasses.replace(second, values=-second.values)))
    with pytest.raises(InputError, match="rebin must be at least 0"):
        make(BANDS, segment_bins=N, rebin=-1)
    with pytest.raises(InputError, match="lag must not reach below 0"):
        make(BANDS, {"lag": "normal(0, 10)"}, segment_bins=N)
