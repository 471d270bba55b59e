"""Phases of 1e8 cycles are right to a millionth, in float32 too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.summaries.phases import pulse_phase, shifted_phase, trial_phases

RNG = np.random.default_rng(0)
TIMES = np.sort(RNG.uniform(0.0, 1e5, 300))
FREQS = 1000.0 + RNG.uniform(-1.0, 1.0, 7)
DERIVATIVES = RNG.uniform(-1e-7, 1e-7, 7)


def exact(times, freq, derivative):
    t = times.astype(np.longdouble)
    return np.remainder(np.longdouble(freq) * t + np.longdouble(derivative) * t**2 / 2, 1)


def distance(phase, truth):
    difference = np.asarray(phase, np.float64) - np.asarray(truth, np.float64)
    return np.abs(difference - np.round(difference)).max()


@pytest.mark.parametrize(("x64", "tolerance"), [(False, 3e-6), (True, 1e-7)])
def test_trial_phases_of_1e8_cycles(x64, tolerance):
    with jax.enable_x64(x64):
        trials = trial_phases(TIMES, FREQS, DERIVATIVES)
        phase = jax.jit(lambda trials: trials.map(lambda p: p))(trials)
        assert phase.dtype == (jnp.float64 if x64 else jnp.float32)
    for got, freq, derivative in zip(phase, FREQS, DERIVATIVES, strict=True):
        assert distance(got, exact(TIMES, freq, derivative)) < tolerance
    # Twin: the product in float32.
    naive = np.float32(FREQS[0]) * TIMES.astype(np.float32)
    assert distance(naive, exact(TIMES, FREQS[0], 0.0)) > 0.1


def test_trials_keep_their_shape_and_any_output():
    trials = trial_phases(TIMES[:5], FREQS[None, :], DERIVATIVES[:3, None])
    first, mean = trials.map(lambda p: (p, p.mean()))
    assert (first.shape, mean.shape) == ((3, 7, 5), (3, 7))


def test_host_phase_is_exact_and_in_one_cycle():
    phase = pulse_phase(TIMES, [FREQS[0], DERIVATIVES[0]], phase=0.3)
    assert distance(phase, exact(TIMES, FREQS[0], DERIVATIVES[0]) + 0.3) < 1e-7
    assert ((phase >= 0) & (phase < 1)).all()
    np.testing.assert_array_equal(pulse_phase(np.array([-1e-20]), [1.0]), 0.0)


def test_host_phase_is_stingrays():
    from stingray.pulse import pulse_phase as theirs

    times = TIMES / 1e3
    np.testing.assert_allclose(
        pulse_phase(times, [3.3, -1e-3, 1e-5], phase=0.2), theirs(times, 3.3, -1e-3, 1e-5, ph0=0.2), atol=1e-11
    )


def test_shifted_phase_and_its_gradient(strict):
    with jax.enable_x64(True):
        reference = jnp.asarray(pulse_phase(TIMES, [FREQS[0]]))
        offsets = jnp.asarray([1e-5, 1e-10])
        shifted = jax.jit(shifted_phase)(reference, offsets, jnp.asarray(TIMES))
        gradient = jax.grad(lambda o: shifted_phase(reference, o, jnp.asarray(TIMES)).sum())(offsets)
    assert distance(shifted, exact(TIMES, FREQS[0] + 1e-5, 1e-10)) < 1e-7
    np.testing.assert_allclose(gradient, [TIMES.sum(), (TIMES**2).sum() / 2], rtol=1e-12)
