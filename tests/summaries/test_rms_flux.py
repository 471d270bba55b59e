"""The rms-flux relation is that of plain NumPy, linear for log-normal rates and flat for Gaussian ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.simulators.timmer_koenig import fourier_frequencies, gaussian_process
from eagleray.summaries.rms_flux import rms_flux

RNG = np.random.default_rng(8)
N, SEGMENT, GROUPS = 2000, 20, 5
VALUES = np.exp(0.3 * np.sin(np.arange(N) / 60.0)) * (10.0 + 2.0 * RNG.normal(size=N))
ERRORS = RNG.uniform(0.3, 0.5, N)
MASK = np.ones(N)
MASK[305:330] = 0.0


def by_hand(harmonics):
    """Groups and line in NumPy, with segments that a gap touches cut out."""
    shape = (-1, SEGMENT)
    good = MASK.reshape(shape).all(axis=1)
    cut, noise = VALUES.reshape(shape)[good], (ERRORS**2).reshape(shape)[good].mean(axis=1)
    if harmonics is None:
        excess = cut.var(axis=1, ddof=1) - noise
    else:
        low, high = harmonics
        power = np.abs(np.fft.rfft(cut, axis=1)[:, low : high + 1]) ** 2
        excess = 2.0 * power.sum(axis=1) / SEGMENT**2 - noise * 2.0 * (high - low + 1) / SEGMENT
    flux = cut.mean(axis=1)
    order = np.argsort(flux)
    groups = [order[np.arange(order.size) * GROUPS // order.size == k] for k in range(GROUPS)]
    x, rms = np.array([flux[g].mean() for g in groups]), np.sqrt([excess[g].mean() for g in groups])
    error = np.array([excess[g].std(ddof=1) / np.sqrt(g.size) for g in groups]) / (2.0 * rms)
    (slope, intercept), covariance = np.polyfit(x, rms, 1, w=1.0 / error, cov="unscaled")
    return x, rms, error, [g.size for g in groups], slope, intercept, np.sqrt(np.diag(covariance))


@pytest.mark.parametrize("harmonics", [None, (2, 6)])
@pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-9), (False, 1e-4)])
def test_relation_is_that_by_hand(x64, rtol, harmonics):
    with jax.enable_x64(x64):
        options = {"segment_bins": SEGMENT, "n_groups": GROUPS, "harmonics": harmonics}
        function = jax.jit(lambda v, e, m: rms_flux(v, e, mask=m, **options))
        ours = function(*(jnp.asarray(a, float) for a in (VALUES, ERRORS, MASK)))
    x, rms, error, sizes, slope, intercept, (slope_error, intercept_error) = by_hand(harmonics)
    np.testing.assert_allclose(ours[:4], [x, rms, error, sizes], rtol=rtol)
    np.testing.assert_allclose(
        ours[4:9], [slope, slope_error, intercept, intercept_error, -intercept / slope], rtol=10 * rtol
    )


@pytest.mark.slow
def test_gradient_is_finite_differences():
    with jax.enable_x64(True):
        errors, values = jnp.asarray(ERRORS), jnp.asarray(VALUES)
        function = jax.jit(lambda v: rms_flux(v, errors, segment_bins=SEGMENT, n_groups=GROUPS).slope)
        direction = jnp.asarray(RNG.normal(size=N))
        numeric = (function(values + 1e-6 * direction) - function(values - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose(jax.jit(jax.grad(function))(values) @ direction, numeric, rtol=1e-5)


@pytest.mark.slow
def test_log_normal_rates_have_a_line_through_the_origin_and_gaussian_ones_a_flat_one():
    """64 red light curves of each kind; mean slope and offset within 5 standard errors: false alarm 2e-6.

    Each kind is the other's twin: its slope lies outside.
    """
    n = 4096
    power = jnp.asarray(1e-2 / fourier_frequencies(n, 1.0), jnp.float32)

    @jax.jit
    @jax.vmap
    def draw(key):
        process = 0.7 * gaussian_process(key, power, n, 1.0)
        options = {"segment_bins": 32, "n_groups": 8}
        linear = rms_flux(10.0 + 3.0 * process, jnp.zeros(n), **options)
        log_normal = rms_flux(10.0 * jnp.exp(process), jnp.zeros(n), **options)
        return linear.slope, log_normal.slope, log_normal.offset

    flat, steep, offset = (np.asarray(x, np.float64) for x in draw(jax.random.split(jax.random.key(1), 64)))

    def deviation(x, truth):
        return abs(x.mean() - truth) / (x.std() / 8.0)

    assert deviation(flat, 0.0) < 5
    assert deviation(offset, 0.0) < 5
    assert deviation(steep, 0.0) > 20


def test_strict_mode_and_errors(strict):
    values, errors = jnp.asarray(VALUES, jnp.float32), jnp.asarray(ERRORS, jnp.float32)
    function = jax.jit(lambda v, e: rms_flux(v, e, segment_bins=16, n_groups=3, mask=jnp.ones(N), harmonics=(1, 5)))
    assert jax.eval_shape(function, values, errors).slope.dtype == jnp.float32
    for n_groups in (1, 101):
        with pytest.raises(ValueError, match="n_groups must be between 2 and the number of segments 100, got"):
            rms_flux(values, errors, segment_bins=20, n_groups=n_groups)
    with pytest.raises(ValueError, match=r"harmonics must lie between 1 and 9, got \(0, 3\)"):
        rms_flux(values, errors, segment_bins=20, n_groups=3, harmonics=(0, 3))
