"""Z^2_n, H, epoch folding and phase dispersion are Stingray's, and follow their distributions without a pulsation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from stingray.pulse import fold_events, htest, z_n
from stingray.pulse.pulsar import (
    ef_profile_stat,
    pdm_profile_stat,
    z_n_binned_events_all,
    z_n_events_all,
    z_n_gauss_all,
)

from eagleray.summaries.pulsations.folding import fold
from eagleray.summaries.pulsations.statistics import (
    epoch_folding,
    h_test,
    phase_dispersion,
    z_squared,
    z_squared_of_profile,
)

RNG = np.random.default_rng(2)
PHASE = np.where(RNG.uniform(size=4000) < 0.2, RNG.normal(0.4, 0.05, 4000) % 1.0, RNG.uniform(size=4000))
PROFILE = np.histogram(PHASE, np.linspace(0.0, 1.0, 33))[0].astype(float)
all_z = jax.jit(z_squared, static_argnums=1)
all_z_of_profile = jax.jit(z_squared_of_profile, static_argnums=1)
fold_chi_squared = jax.jit(epoch_folding)
X64 = pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-10), (False, 1e-5)])


@X64
def test_z_squared_is_stingrays(x64, rtol):
    with jax.enable_x64(x64):
        ours = all_z(jnp.asarray(PHASE, float) + 2.0, 20)
        best = h_test(ours)
        binned = all_z_of_profile(jnp.asarray(PROFILE, float), 20)
        gauss = all_z_of_profile(jnp.asarray(PROFILE, float), 20, jnp.asarray(9.0))
        best_binned = h_test(binned)
    np.testing.assert_allclose(ours, z_n_events_all(PHASE, 20)[1], rtol=rtol)
    np.testing.assert_allclose(ours[1], z_n(PHASE, 2), rtol=rtol)
    np.testing.assert_allclose(binned, z_n_binned_events_all(PROFILE, 20)[1], rtol=rtol)
    np.testing.assert_allclose(gauss, z_n_gauss_all(PROFILE, 9.0, 20)[1], rtol=rtol)
    for mine, theirs in ((best, htest(PHASE, datatype="events")), (best_binned, htest(PROFILE))):
        assert int(mine.n_harmonics) == theirs[0]
        np.testing.assert_allclose(mine.h, theirs[1], rtol=rtol)


@X64
def test_epoch_folding_is_stingrays(x64, rtol):
    with jax.enable_x64(x64):
        profile = jnp.asarray(PROFILE, float)
        np.testing.assert_allclose(fold_chi_squared(profile), ef_profile_stat(PROFILE), rtol=rtol)
        by_error = fold_chi_squared(profile, error=jnp.asarray(9.0, profile.dtype))
    np.testing.assert_allclose(by_error, ef_profile_stat(PROFILE, 9.0), rtol=rtol)


@X64
def test_phase_dispersion_is_stingrays(x64, rtol):
    values = 3.0 + np.sin(2 * np.pi * PHASE) + RNG.normal(size=PHASE.size)
    _, profile, _ = fold_events(PHASE, 1.0, nbin=16, mode="pdm", weights=values)
    theirs = pdm_profile_stat(profile, values.var(ddof=1), values.size)
    with jax.enable_x64(x64):
        phase, data = jnp.asarray(PHASE, float), jnp.asarray(values, float)
        dispersion = jax.jit(phase_dispersion, static_argnums=2)
        ours = dispersion(phase, data, 16)
        seen = jnp.arange(PHASE.size) < 1000
        masked = dispersion(phase, jnp.where(seen, data, 99.0), 16, seen.astype(data.dtype))
        np.testing.assert_allclose(masked, dispersion(phase[:1000], data[:1000], 16), rtol=rtol)
    np.testing.assert_allclose(ours, theirs, rtol=rtol)


def test_weights_are_counts_and_masks():
    with jax.enable_x64(True):
        repeats = RNG.integers(0, 4, 200)
        phase = jnp.asarray(PHASE[:200])
        weighted = all_z(phase, 3, jnp.asarray(repeats, float))
        np.testing.assert_allclose(weighted, all_z(jnp.repeat(phase, repeats), 3), rtol=1e-10)
    assert (all_z(jnp.ones(3), 2, jnp.zeros(3)) == 0).all()
    assert (all_z_of_profile(jnp.zeros(8), 2) == 0).all()
    assert fold_chi_squared(jnp.zeros(8)) == 0


@pytest.mark.slow
def test_gradients_are_finite_differences():
    with jax.enable_x64(True):
        phase = jnp.asarray(PHASE[:50])
        direction = jnp.asarray(RNG.normal(size=50))
        for function in (lambda p: z_squared(p, 4)[-1], lambda p: h_test(z_squared(p, 6)).h):
            function = jax.jit(function)
            slope = jax.jit(jax.grad(function))(phase) @ direction
            step = 1e-6
            numeric = (function(phase + step * direction) - function(phase - step * direction)) / (2 * step)
            np.testing.assert_allclose(slope, numeric, rtol=1e-6)
        gradient = jax.jit(jax.grad(lambda p: z_squared_of_profile(p, 3)[-1] + epoch_folding(p)))(jnp.zeros(8))
    assert jnp.isfinite(gradient).all()


N_SIM, N_BINS = 4000, 12
EXPOSURE = jnp.where(jnp.arange(N_BINS) < 6, 1.0, 0.4)


@pytest.fixture(scope="module")
def noise():
    """Statistics of 300 events with no pulsation, watched unevenly in phase."""

    @jax.jit
    @jax.vmap
    def draw(key):
        key_uniform, key_kept, key_values = jax.random.split(key, 3)
        phase = jax.random.uniform(key_uniform, (300,))
        kept = jax.random.uniform(key_kept, (300,)) < EXPOSURE[(phase * N_BINS).astype(int)]
        profile = fold(phase, N_BINS, kept.astype(phase.dtype))
        z = z_squared(phase, 2)[-1]
        even = fold(phase, N_BINS)
        theta = phase_dispersion(phase, jax.random.normal(key_values, (300,)), N_BINS)
        return (
            z,
            epoch_folding(even),
            epoch_folding(profile, exposure=EXPOSURE),
            epoch_folding(profile / EXPOSURE),
            theta,
        )

    return [np.asarray(x, np.float64) for x in draw(jax.random.split(jax.random.key(3), N_SIM))]


def test_false_alarms_are_as_often_as_they_say(noise):
    """Kolmogorov-Smirnov at p > 1e-5 for each: false alarm 3e-5. The profile divided by its exposure is the twin."""
    z, even, exposed, divided, _ = noise
    assert scipy.stats.kstest(z, scipy.stats.chi2(4).cdf).pvalue > 1e-5
    assert scipy.stats.kstest(even, scipy.stats.chi2(N_BINS - 1).cdf).pvalue > 1e-5
    assert scipy.stats.kstest(exposed, scipy.stats.chi2(N_BINS - 1).cdf).pvalue > 1e-5
    assert scipy.stats.kstest(divided, scipy.stats.chi2(N_BINS - 1).cdf).pvalue < 1e-9


def test_phase_dispersion_follows_its_beta_distribution(noise):
    """False alarm 1e-5; Stingray's argument of the distribution is the twin."""
    theta = noise[-1]
    law = scipy.stats.beta((300 - N_BINS) / 2, (N_BINS - 1) / 2)
    assert scipy.stats.kstest(theta * (300 - N_BINS) / 299, law.cdf).pvalue > 1e-5
    assert scipy.stats.kstest(theta, law.cdf).pvalue < 1e-9


def everything(phase):
    return (
        h_test(z_squared(phase, 3, jnp.ones(20))).h,
        epoch_folding(fold(phase, 4), exposure=jnp.array([1.0, 1.0, 0.0, 0.5])),
        phase_dispersion(phase, jnp.sin(phase), 4),
        z_squared_of_profile(fold(phase, 4), 3)[-1],
    )


def test_strict_mode(strict):
    assert all(value.dtype == jnp.float32 for value in jax.eval_shape(everything, jnp.linspace(0.0, 3.0, 20)))


def test_error_messages():
    for function in (z_squared, z_squared_of_profile):
        with pytest.raises(ValueError, match="n_harmonics must be at least 1, got 0"):
            function(jnp.ones(4), 0)
