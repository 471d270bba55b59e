"""The spectrum dead time leaves: definition, Zhang's sums by Stingray, closed forms, simulated detectors."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from stingray.deadtime.model import non_paralyzable_dead_time_model, pds_model_zhang

from eagleray.likelihoods.dead_time_spectrum import (
    dead_time_periodogram,
    dead_time_spectrum,
    detected_rate,
    white_level,
)
from eagleray.records import TimeGrid
from eagleray.simulators.observe import dead_time, events
from eagleray.summaries.spectra import positive_frequencies, power_spectrum

TAU = 2.5e-3
FREQ = np.linspace(0.3, 5.0 / TAU, 300)


def by_definition(freq, rate, tau, paralyzable):
    """2 Re[(1 + phi) / (1 - phi)]."""
    s = 2j * np.pi * freq
    escape = rate * np.exp(-(rate + s) * tau)
    phi = escape / (s + escape) if paralyzable else np.exp(-s * tau) / (1 + s / rate)
    return 2 * ((1 + phi) / (1 - phi)).real


@pytest.mark.parametrize("paralyzable", [False, True])
@pytest.mark.parametrize("rate", [1.0, 400.0, 4000.0])
def test_events_spectrum_is_the_definition(rate, paralyzable):
    """To rounding, and in float32 from far below 1 / tau, where the definition cancels, to five times it."""
    reference = by_definition(FREQ, rate, TAU, paralyzable)
    spectrum = jax.jit(lambda r, t: dead_time_spectrum(FREQ, r, t, paralyzable=paralyzable))
    with jax.enable_x64(True):
        np.testing.assert_allclose(spectrum(rate, TAU), reference, rtol=1e-9)
    assert spectrum(rate, TAU).dtype == jnp.float32
    np.testing.assert_allclose(spectrum(rate, TAU), reference, rtol=1e-4)
    low = dead_time_spectrum(np.array([0.0, 1e-6]), rate, TAU, paralyzable=paralyzable)
    a = rate * TAU
    np.testing.assert_allclose(low, 2 * (1 - 2 * a * np.exp(-a)) if paralyzable else 2 / (1 + a) ** 2, rtol=1e-5)


@pytest.mark.parametrize(
    ("rate", "dt"),
    [
        (300.0, 5e-4),
        pytest.param(1000.0, 1e-3, marks=pytest.mark.slow),
        pytest.param(500.0, 5e-3, marks=pytest.mark.slow),
    ],
)
def test_binned_spectrum_is_zhangs(rate, dt):
    """Stingray's sums, whose length enters as 1 / n_bins: the same periodogram, and the same limit."""
    short, long = (pds_model_zhang(n, rate, TAU, dt, limit_k=80)[1] for n in (200, 400))
    freq = np.arange(1, 100) / (200 * dt)
    with jax.enable_x64(True):
        np.testing.assert_allclose(dead_time_periodogram(rate, TAU, 200, dt), short[1:], rtol=1e-5)
        limit = dead_time_spectrum(freq, rate, TAU, dt=dt)
        np.testing.assert_allclose(limit, (2 * long[::2] - short)[1:], rtol=1e-5)
    np.testing.assert_allclose(dead_time_periodogram(rate, TAU, 200, dt), short[1:], rtol=1e-4)


def test_stingrays_model_of_a_detected_rate():
    freq = positive_frequencies(1000, 1e-3)
    with jax.enable_x64(True), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = non_paralyzable_dead_time_model(freq, TAU, float(detected_rate(400.0, TAU)), bin_time=1e-3, limit_k=60)
        ours = white_level(freq, 400.0, TAU, 1e-3)
    np.testing.assert_allclose(ours[1:], theirs[1:], rtol=0.01)  # theirs is interpolated, on bins of one hertz


@pytest.mark.parametrize("dt", [4e-4, 1e-3, 7e-3])
def test_paralyzable_bins_in_closed_form(dt):
    """Covariances of the counts: a hole of twice tau in the pair density, seen through triangles."""
    rate = 700.0
    recorded = rate * np.exp(-rate * TAU)
    lags = np.arange(int(TAU / dt) + 2)
    triangle = lambda t, lag: max(0.0, 1 - abs(t / dt - lag))  # noqa: E731
    kinks = [k * dt for k in range(-lags.size - 1, lags.size + 2) if abs(k * dt) < TAU]
    hole = [integrate.quad(triangle, -TAU, TAU, args=(lag,), points=kinks)[0] for lag in lags]
    freq = positive_frequencies(50, dt)
    cosines = np.where(lags == 0, 1.0, 2.0) * np.cos(2 * np.pi * np.outer(freq, lags) * dt)
    with jax.enable_x64(True):
        ours = dead_time_spectrum(freq, rate, TAU, dt=dt, paralyzable=True, n_aliases=400)
        np.testing.assert_allclose(ours, 2 - 2 * recorded * (cosines @ hole), rtol=1e-8)
        quick = dead_time_spectrum(freq, rate, TAU, dt=dt, paralyzable=True)
        np.testing.assert_allclose(quick, ours, rtol=1e-5)


@pytest.mark.parametrize("paralyzable", [False, True])
def test_simulated_detector(paralyzable):
    """Mean periodogram of 600 light curves, a chi-squared over 63 frequencies (false alarm 1e-6); the twin fails."""
    grid, rate, n = TimeGrid(n_bins=128, dt=1e-3), 800.0, 600
    mask = dead_time.paralyzable_mask if paralyzable else dead_time.non_paralyzable_mask
    wait = 0.05  # the detector forgets that it began live

    def counts(key):
        times = jnp.cumsum(jax.random.exponential(key, (256,))) / rate
        since = jnp.where(mask(times, TAU), times - wait, -1.0)
        inside = (since >= 0) & (since < grid.duration)
        return jnp.zeros(grid.n_bins).at[events.bin_index(since, grid)].add(inside, mode="drop")

    drawn = jax.jit(jax.vmap(counts))(jax.random.split(jax.random.key(7), n))
    power = jax.vmap(lambda x: power_spectrum(x, grid.dt, norm="none"))(drawn).mean(axis=0)
    expected_counts = float(detected_rate(rate, TAU, paralyzable=paralyzable)) * grid.duration
    mean = float(drawn.sum(axis=1).mean())
    assert abs(mean - expected_counts) < 5.0 * float(drawn.sum(axis=1).std()) / np.sqrt(n)
    power = 2.0 * power / mean

    def chi_squared(model):
        return float((n * (power / model - 1.0) ** 2).sum())

    right, other = (
        dead_time_periodogram(rate, TAU, grid.n_bins, grid.dt, paralyzable=kind)
        for kind in (paralyzable, not paralyzable)
    )
    assert chi_squared(right) < 130.0
    assert chi_squared(other) > 500.0
    assert chi_squared(2.0) > 500.0


def test_rates_are_those_of_the_simulators():
    for rate in (10.0, 400.0, 2000.0):
        assert detected_rate(rate, TAU) == pytest.approx(dead_time.non_paralyzable_rate(rate, TAU), rel=1e-6)
        lost = dead_time.paralyzable_rate(rate, TAU)
        assert float(detected_rate(rate, TAU, paralyzable=True)) == pytest.approx(float(lost), rel=1e-6)


@pytest.mark.parametrize("paralyzable", [False, True])
def test_gradient(paralyzable):
    """By rate and dead time, against finite differences; finite in float32 at frequency and dead time zero."""
    freq = jnp.asarray(positive_frequencies(32, 1e-3))

    def total(rate, tau, freq=freq):
        return (
            jnp.cos(freq) * dead_time_spectrum(freq, rate, tau, dt=1e-3, paralyzable=paralyzable, n_aliases=8)
        ).sum()

    gradient = jax.jit(jax.grad(total, (0, 1)))
    with jax.enable_x64(True):
        by_rate, by_tau = gradient(900.0, TAU)
        value = jax.jit(total)
        assert float(by_rate) == pytest.approx(float(value(900.1, TAU) - value(899.9, TAU)) / 0.2, rel=1e-5)
        assert float(by_tau) == pytest.approx(
            float(value(900.0, TAU + 1e-7) - value(900.0, TAU - 1e-7)) / 2e-7, rel=1e-5
        )
    assert all(jnp.isfinite(slope) for slope in gradient(900.0, 0.0))
    assert all(jnp.isfinite(slope) for slope in jax.grad(total, (0, 1))(900.0, TAU, jnp.zeros(1)))


def test_white_level_in_each_norm():
    """As the periodogram in that norm: powers of one light curve have fixed ratios."""
    freq, rate, dt = positive_frequencies(64, 1e-3), 500.0, 1e-3
    leahy = white_level(freq, rate, TAU, dt)
    recorded = float(detected_rate(rate, TAU))
    counts = jnp.asarray(np.random.default_rng(8).poisson(3 * recorded * dt, 64), jnp.float32)
    seen = float(counts.sum()) / (64 * dt)
    for norm in ("frac", "abs"):
        ratio = power_spectrum(counts, dt, norm=norm) / power_spectrum(counts, dt, norm="leahy")
        ours = white_level(freq, rate, TAU, dt, norm=norm, n_detectors=3) / leahy
        power_of_rate = -1 if norm == "frac" else 1
        np.testing.assert_allclose(ours, ratio * (3 * recorded / seen) ** power_of_rate, rtol=1e-4)
    np.testing.assert_allclose(white_level(freq, rate, 0.0, dt), 2.0, rtol=1e-6)


def test_refusals():
    with pytest.raises(ValueError, match=r"dt must be positive \(seconds\), got 0.0"):
        dead_time_spectrum(FREQ, 1.0, TAU, dt=0.0)
    with pytest.raises(ValueError, match=r"n_aliases must not be negative, got -1"):
        white_level(FREQ, 1.0, TAU, 1e-3, n_aliases=-1)
    with pytest.raises(ValueError, match=r"norm must be 'leahy', 'frac' or 'abs', got 'none'"):
        white_level(FREQ, 1.0, TAU, 1e-3, norm="none")
    with pytest.raises(ValueError, match=r"n_detectors must be at least 1, got 0"):
        white_level(FREQ, 1.0, TAU, 1e-3, n_detectors=0)
    with pytest.raises(ValueError, match=r"n_bins must be at least 3, got 2"):
        dead_time_periodogram(1.0, TAU, 2, 1e-3)
