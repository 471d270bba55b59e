"""Folded profiles and exposures are Stingray's; where Stingray's exposure is wrong, they are counted by hand."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stingray.pulse import fold_events, p_to_f
from stingray.pulse import phaseogram as stingray_phaseogram
from stingray.pulse.pulsar import phase_exposure as stingray_exposure

from eagleray.summaries.phases import pulse_phase
from eagleray.summaries.pulsations.folding import (
    correct_exposure,
    fold,
    frequencies_from_periods,
    interval_phases,
    phase_exposure,
    phaseogram,
)

RNG = np.random.default_rng(1)
FREQ, DERIVATIVE = 0.37, 1e-5
GTI = np.array([[2.0, 31.3], [40.0, 41.1], [50.2, 99.7]])
TIMES = np.sort(np.concatenate([RNG.uniform(a, b, int(20 * (b - a))) for a, b in GTI]))


@pytest.mark.parametrize("x64", [True, False])
def test_fold_is_stingrays(x64):
    weights = RNG.uniform(1.0, 2.0, TIMES.size)
    _, theirs, _ = fold_events(TIMES, FREQ, DERIVATIVE, nbin=16, weights=weights, gti=GTI)
    with jax.enable_x64(x64):
        phase = jnp.asarray(pulse_phase(TIMES, [FREQ, DERIVATIVE]), float)
        ours = jax.jit(fold, static_argnums=1)(phase - 3.0, 16, jnp.asarray(weights, float))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12 if x64 else 1e-5)


def test_exposure_is_stingrays():
    span = [GTI[0, 0], GTI[-1, 1]]
    theirs = stingray_exposure(*span, 1.0 / FREQ, nbin=16, gti=GTI)
    with jax.enable_x64(True):
        start, length = interval_phases(GTI, [FREQ])
        ours = jax.jit(phase_exposure, static_argnums=2)(jnp.asarray(start), jnp.asarray(length), 16)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    single = phase_exposure(jnp.asarray(start, jnp.float32), jnp.asarray(length, jnp.float32), 16)
    np.testing.assert_allclose(single, theirs, rtol=1e-5)


def test_exposure_before_the_epoch_is_counted_right():
    """Stingray's fmod of negative phases is negative, and exposure goes missing."""
    gti = GTI - 60.0
    fine = np.concatenate([np.arange(a, b, 1e-4) + 5e-5 for a, b in gti])
    counted = np.bincount((np.remainder(fine * FREQ, 1.0) * 16).astype(int), minlength=16)
    start, length = interval_phases(gti, [FREQ])
    ours = phase_exposure(jnp.asarray(start), jnp.asarray(length), 16)
    np.testing.assert_allclose(ours, counted / counted.max(), atol=2e-4)
    theirs = stingray_exposure(gti[0, 0], gti[-1, 1], 1.0 / FREQ, nbin=16, gti=gti)
    assert np.abs(theirs - counted / counted.max()).max() > 1e-2


def test_corrected_profile_is_stingrays():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        centres, theirs, error = fold_events(TIMES, FREQ, nbin=16, gti=GTI, expocorr=True)
    with jax.enable_x64(True):
        dt = TIMES[1] - TIMES[0]
        start, length = interval_phases(np.clip(GTI, TIMES[0], TIMES[-1] + dt), [FREQ])
        exposure = phase_exposure(jnp.asarray(start), jnp.asarray(length), 16)
        profile = correct_exposure(fold(jnp.asarray(pulse_phase(TIMES, [FREQ])), 16), exposure)
    np.testing.assert_allclose(profile.phase, centres, rtol=1e-12)
    np.testing.assert_allclose(profile.values, theirs, rtol=1e-10)
    np.testing.assert_allclose(profile.error, error, rtol=1e-10)


def test_phaseogram_is_stingrays():
    theirs, _, edges, _ = stingray_phaseogram(TIMES, FREQ, nph=8, nt=5, pepoch=0.0)
    with jax.enable_x64(True):
        phase = jnp.asarray(pulse_phase(TIMES, [FREQ]))
        ours = phaseogram(phase, jnp.asarray(TIMES), jnp.asarray(edges), 8)
    np.testing.assert_array_equal(ours, theirs[:8].T)  # Stingray's second cycle repeats the first


def test_periods_to_frequencies_and_back():
    periods = [0.4, 2e-3, 3e-4, 5e-5]
    with jax.enable_x64(True):
        for n in (1, 2, 3, 4):
            freqs = frequencies_from_periods(jnp.asarray(periods[:n]))
            np.testing.assert_allclose(freqs, p_to_f(*periods[:n]), rtol=1e-12)
            np.testing.assert_allclose(frequencies_from_periods(freqs), periods[:n], rtol=1e-12)
    with pytest.raises(ValueError, match="periods must hold 1 to 4 terms, got 5"):
        frequencies_from_periods(jnp.ones(5))


def everything(phase):
    profile = correct_exposure(fold(phase, 8), phase_exposure(jnp.array([0.25, 0.5]), jnp.array([3.5, 0.0]), 8))
    return profile.values, phaseogram(phase, phase, jnp.array([0.0, 4.0, 9.0]), 8, jnp.ones(40))


def test_strict_mode(strict):
    profile, cube = jax.jit(everything)(jnp.linspace(0.0, 9.0, 40))
    assert (profile.shape, cube.shape, float(cube.sum())) == ((8,), (2, 8), 40.0)
