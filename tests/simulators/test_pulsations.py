"""Pulsations: phases in float32 against float64, Kepler, the orbit, profiles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from eagleray.records import TimeGrid
from eagleray.simulators import pulsations

TIMES = np.sort(np.random.default_rng(4).uniform(0.0, 1e5, 500))


def scalars(**values):
    """Parameters in the default type."""
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in values.items()}


def cycle_error(ours, exact):
    """Largest difference of two phases, modulo one cycle."""
    difference = np.asarray(ours, np.float64) - np.asarray(exact, np.float64)
    return np.abs(difference - np.round(difference)).max()


@pytest.mark.optimised
@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("freq", [1000.1, 713.37, 1e-3, 29.946923])
def test_phase_of_a_kilohertz_for_a_day(freq, jit):
    """2e-6 cycles at 1e8 cycles, compiled and not; the naive float32 product is off by cycles."""
    times = pulsations.split_times(TIMES, 2)
    rates = np.asarray([freq, -1e-7 * freq], np.float32)

    def phase(rates):
        return pulsations.spin_phase(rates, times, phase=jnp.asarray(0.25))

    ours = (jax.jit(phase) if jit else phase)(jnp.asarray(rates))
    f0, f1 = rates.astype(np.longdouble)
    exact = 0.25 + f0 * TIMES.astype(np.longdouble) + f1 * TIMES.astype(np.longdouble) ** 2 / 2
    assert cycle_error(ours, exact - np.round(exact)) < 2e-6
    if freq > 100:
        naive = rates[0] * TIMES.astype(np.float32)
        assert cycle_error(naive, f0 * TIMES - np.round(f0 * TIMES)) > 0.1  # the failing twin


@pytest.mark.optimised
def test_phase_holds_its_gradient():
    """The derivative of the reduced phase is time itself, and reaches float64 too."""
    times = pulsations.split_times(TIMES[:5])
    slope = jax.jacobian(lambda f: pulsations.cycles(f, times))(jnp.asarray(713.37))
    np.testing.assert_allclose(slope, TIMES[:5], rtol=1e-6)
    with jax.enable_x64(True):
        phase = pulsations.cycles(jnp.asarray(713.37), times)
        assert cycle_error(phase, 713.37 * TIMES[:5]) < 1e-7


@pytest.mark.optimised
def test_reference_frequency_is_kept_in_float64():
    """The frequency 641.92822 Hz is not a float32, but reference plus offset is."""
    times = pulsations.split_times(TIMES)
    ours = pulsations.spin_phase(
        jnp.asarray([0.0078125], jnp.float32), times, phase=jnp.asarray(0.0), reference=641.92822
    )
    exact = (np.longdouble(641.92822) + np.longdouble(0.0078125)) * TIMES.astype(np.longdouble)
    assert cycle_error(ours, exact - np.round(exact)) < 1e-5


@pytest.mark.parametrize("eccentricity", [0.0, 0.3, 0.8, 0.95])
def test_kepler(eccentricity):
    """The equation holds to rounding."""
    mean = np.linspace(-20.0, 20.0, 1001)
    with jax.enable_x64(True):
        anomaly = np.asarray(pulsations.eccentric_anomaly(jnp.asarray(mean), jnp.asarray(eccentricity)))
    residual = (anomaly - eccentricity * np.sin(anomaly) - mean) / (2 * np.pi)
    assert np.abs(residual - np.round(residual)).max() < 1e-10


ORBIT = {"orbital_freq": 1e-4, "size": 1.5, "periastron_phase": 0.3, "eccentricity": 0.4, "periastron": 1.1}


def exact_delay(time, orbit):
    """The delay as the root of its equation, by bisection."""

    def at(emission):
        mean = 2 * np.pi * (orbit["periastron_phase"] + orbit["orbital_freq"] * emission)
        reduced = mean - 2 * np.pi * np.round(mean / (2 * np.pi))
        e, w = orbit["eccentricity"], orbit["periastron"]
        anomaly = brentq(lambda x: x - e * np.sin(x) - reduced, -4.0, 4.0, xtol=1e-15)
        return orbit["size"] * ((np.cos(anomaly) - e) * np.sin(w) + np.sqrt(1 - e * e) * np.sin(anomaly) * np.cos(w))

    return brentq(lambda delay: delay - at(time - delay), -10.0, 10.0, xtol=1e-14)


def test_roemer_delay():
    """An eccentric orbit of 1.5 light-seconds, ten times round: to 1e-11 s in float64 and 1e-6 x in float32."""
    times = pulsations.split_times(TIMES[::10])
    exact = np.array([exact_delay(t, ORBIT) for t in TIMES[::10]])
    with jax.enable_x64(True):
        np.testing.assert_allclose(pulsations.roemer_delay(times, **scalars(**ORBIT)), exact, atol=1e-11)
    rounded = {name: float(np.float32(value)) for name, value in ORBIT.items()}
    exact = np.array([exact_delay(t, rounded) for t in TIMES[::10]])
    ours = np.asarray(pulsations.roemer_delay(times, **scalars(**ORBIT)), np.float64)
    assert np.abs(ours - exact).max() < 1e-6 * ORBIT["size"]


def test_delayed_phase_is_the_phase_at_emission():
    """The Taylor series in the delay equals the phase evaluated at t - delay."""
    delay = 2.0 * np.sin(TIMES / 5000.0)
    rates = np.array([10.0, 1e-4, 1e-9])
    with jax.enable_x64(True):
        times = pulsations.split_times(TIMES, 3)
        at_arrival = pulsations.spin_phase(jnp.asarray(rates), times, phase=jnp.asarray(0.0))
        ours = pulsations.delayed_phase(at_arrival, jnp.asarray(rates), jnp.asarray(delay), times)
    t = (TIMES - delay).astype(np.longdouble)
    exact = rates[0] * t + rates[1] * t**2 / 2 + rates[2] * t**3 / 6
    assert cycle_error(ours, exact - np.round(exact)) < 1e-8


def test_profiles_have_mean_one():
    """Averages over a cycle; the von Mises profile has its peak at phase zero."""
    phase = jnp.linspace(-2.0, 3.0, 5001)[:-1]
    for profile in (
        pulsations.harmonic_profile(phase, jnp.asarray([0.5, 0.3]), jnp.asarray([0.1, 0.7])),
        pulsations.von_mises_profile(phase, jnp.asarray(8.0)),
    ):
        assert float(profile.mean()) == pytest.approx(1.0, abs=1e-4)
        assert float(profile.min()) > 0
    assert float(pulsations.von_mises_profile(jnp.zeros(1), jnp.asarray(8.0))[0]) > 3


def test_smearing_is_the_average_over_a_bin():
    """Amplitudes after binning, against a fine average."""
    dt, freq = 0.03, 7.0
    times = pulsations.grid_times(TimeGrid(n_bins=50, dt=dt))
    amplitudes, phases = jnp.asarray([0.5, 0.3]), jnp.asarray([0.1, 0.7])
    ours = pulsations.pulsed_rate(
        jnp.asarray([freq]),
        times,
        mean_rate=jnp.asarray(1.0),
        phase=jnp.asarray(0.0),
        amplitudes=pulsations.smeared_amplitudes(amplitudes, jnp.asarray(freq), dt),
        phases=phases,
    )
    fine = freq * (np.arange(50 * 400) + 0.5) * dt / 400
    exact = np.asarray(pulsations.harmonic_profile(jnp.asarray(fine, jnp.float32), amplitudes, phases), np.float64)
    np.testing.assert_allclose(ours, exact.reshape(50, 400).mean(1), atol=1e-4)


def test_errors_name_what_is_wrong():
    """Each refusal says the rule and what came."""
    with pytest.raises(ValueError, match="n_terms must be at least 1"):
        pulsations.split_times(TIMES, 0)
    with pytest.raises(ValueError, match="term must be between 1 and n_terms = 1"):
        pulsations.cycles(jnp.asarray(1.0), pulsations.split_times(TIMES), 2)
