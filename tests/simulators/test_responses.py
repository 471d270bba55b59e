"""Impulse responses, transfer functions, convolution and channels: parity with Stingray."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stingray.simulator import Simulator
from stingray.simulator.transfer import TransferFunction

from eagleray.simulators import responses
from eagleray.simulators.channels import simulate_channels
from eagleray.simulators.timmer_koenig import fourier_frequencies

pytestmark = pytest.mark.filterwarnings("ignore:SIMON says")  # Stingray, on Gaussian errors

DT = 0.125
SIMULATOR = Simulator(dt=DT, N=256, mean=10.0, rms=0.1)


def scalars(**values):
    """Parameters in the default type."""
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in values.items()}


@pytest.mark.parametrize(("start", "width"), [(0, 5), (10, 3), (2.3, 1.99), (0, 0.125)])
def test_simple_response_is_stingrays(start, width):
    """Bin for bin."""
    ours = responses.simple_response(jnp.asarray(0.7), dt=DT, start=start, width=width)
    np.testing.assert_array_equal(ours, SIMULATOR.simple_ir(start, width, 0.7).astype(np.float32))


@pytest.mark.parametrize(("t1", "t2", "t3"), [(3, 4, 10), (1, 2.5, 6), (0, 5, 7.3)])
def test_relativistic_response_is_stingrays(t1, t2, t3):
    """To rounding, its fixed start of the decay included; ours differs from it where t2 is not 4."""
    theirs = SIMULATOR.relativistic_ir(t1, t2, t3, 1.2, 1.9, 0.4, 0.1)
    with jax.enable_x64(True):
        parameters = scalars(p1=1.2, p2=1.9, rise=0.4, decay=0.1)
        ours = responses.relativistic_response(dt=DT, t1=t1, t2=t2, t3=t3, stingray=True, **parameters)
        corrected = responses.relativistic_response(dt=DT, t1=t1, t2=t2, t3=t3, **parameters)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert np.allclose(corrected, theirs) == (t2 == 4)


@pytest.mark.parametrize("mode", ["same", "filtered", "full"])
@pytest.mark.parametrize("n", [256, 255])
def test_convolve_is_stingrays(mode, n):
    """All three modes, even and odd lengths, both precisions."""
    series = np.random.default_rng(0).normal(10.0, 1.0, n)
    response = SIMULATOR.relativistic_ir()
    theirs = SIMULATOR.simulate(series, response, mode).counts
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            responses.convolve(jnp.asarray(series), jnp.asarray(response), mode), theirs, rtol=1e-12, atol=1e-11
        )
    ours = responses.convolve(jnp.asarray(series, jnp.float32), jnp.asarray(response, jnp.float32), mode)
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5 * np.abs(theirs).max())


def test_response_of_one_bin_is_the_light_curve_itself():
    """Where Stingray returns nothing (its defect S10)."""
    series = jnp.arange(16.0)
    np.testing.assert_allclose(responses.convolve(series, jnp.ones(1)), series, atol=1e-5)


BINNED = {
    "top_hat": lambda **k: responses.top_hat_response(
        delay=k["delay"], width=k["width"], intensity=k["intensity"], n=400, dt=DT
    ),
    "gaussian": lambda **k: responses.gaussian_response(**k, n=400, dt=DT),
    "exponential": lambda **k: responses.exponential_response(**k, n=400, dt=DT),
    "thermal": lambda **k: responses.thermal_response(
        inner_delay=k["width"] / 10,
        outer_delay=k["delay"],
        sin_inclination=jnp.asarray(0.5),
        energy_ratio=jnp.asarray(1.0),
        intensity=k["intensity"],
        n=400,
        dt=DT,
    ),
}


@pytest.mark.parametrize("name", sorted(BINNED))
def test_binned_responses_have_their_area(name):
    """Weights are not negative and add up to the intensity."""
    weights = BINNED[name](**scalars(delay=6.0, width=1.5, intensity=0.4))
    assert float(weights.min()) >= -1e-7
    assert float(weights.sum()) == pytest.approx(0.4, rel=1e-4)


def test_mean_lags():
    """First moments: delay for top-hat and Gaussian, delay + width for the exponential."""
    lag = np.arange(400) * DT
    for name, expected in (("top_hat", 6.03), ("gaussian", 6.03), ("exponential", 7.53)):
        weights = np.asarray(BINNED[name](**scalars(delay=6.03, width=1.5, intensity=1.0)), np.float64)
        assert (weights * lag).sum() == pytest.approx(expected, abs=2e-3)


def test_thermal_response_matches_points_thrown_on_the_disc():
    """Monte Carlo of the disc: delays a (1 + sin i cos phi) with black-body weights.

    6 standard errors, false alarm 1e-7.
    """
    inner, outer, sine, energy, n = 0.2, 4.0, 0.7, 1.5, 80
    weights = np.asarray(
        responses.thermal_response(
            **scalars(inner_delay=inner, outer_delay=outer, sin_inclination=sine, energy_ratio=energy, intensity=1.0),
            n=n,
            dt=DT,
            n_rings=512,
        )
    )
    generator = np.random.default_rng(1)
    ring = inner * (outer / inner) ** generator.uniform(size=400_000)
    x = energy * (ring / inner) ** 0.75
    weight = ring**2 * x * np.exp(x) / np.expm1(x) ** 2
    weight /= weight.sum()
    delay = ring * (1 + sine * np.cos(generator.uniform(0, 2 * np.pi, ring.size)))
    edges = (np.arange(n + 1) - 0.5) * DT
    sampled = np.histogram(delay, edges, weights=weight)[0]
    error = np.sqrt(np.histogram(delay, edges, weights=weight**2)[0]) + 2e-5
    assert np.abs((sampled - weights) / error).max() < 6
    assert np.abs((sampled - np.roll(weights, 1)) / error).max() > 6  # twin: one bin late


def test_lag_of_a_top_hat():
    """Phase lag 2 pi f delay for a symmetric response alone; the sign is positive for a late light curve."""
    freq = fourier_frequencies(512, DT)
    weights = responses.top_hat_response(**scalars(delay=0.5, width=0.25, intensity=1.0), n=16, dt=DT)
    lag = np.asarray(responses.response_lag(responses.transfer_function(weights, 512)))
    low = freq < 0.5
    np.testing.assert_allclose(lag[low], 2 * np.pi * freq[low] * 0.5, rtol=1e-4)


def test_transfer_function_gives_the_spectrum_of_the_convolution():
    """|H|^2 times the driver's power, exactly, for a periodic driver."""
    series = np.random.default_rng(2).normal(size=128)
    weights = jnp.asarray([1.0, 0.5, 0.25])
    twice = np.asarray(responses.convolve(jnp.asarray(np.tile(series, 2), jnp.float32), weights))[128:]
    transfer = np.asarray(responses.transfer_function(weights, 128))
    np.testing.assert_allclose(np.fft.rfft(twice)[1:], transfer * np.fft.rfft(series)[1:], atol=1e-3)


def test_matrix_averages_are_stingrays():
    """Where Stingray's indices are right (estart 0, explicit bounds), bin for bin."""
    matrix = np.random.default_rng(3).uniform(size=(12, 20))
    theirs = TransferFunction(matrix, dt=DT, de=0.5)
    theirs.time_response(1.0, 4.0)
    theirs.energy_response()
    ours = responses.energy_averaged_response(jnp.asarray(matrix), e_min=1.0, e_max=4.0, energy_step=0.5)
    np.testing.assert_allclose(ours, theirs.time, rtol=1e-6)
    np.testing.assert_allclose(responses.lag_averaged_response(jnp.asarray(matrix)), theirs.energy, rtol=1e-6)


def test_channels_do_not_depend_on_each_other():
    """Independent draws, the same with and without other channels."""

    def draw(key):
        return jax.random.normal(key, (64,))

    both = simulate_channels(jax.random.key(1), {"0.3-1.0": draw, "1.0-4.0": draw})
    alone = simulate_channels(jax.random.key(1), {"1.0-4.0": draw})
    np.testing.assert_array_equal(both["1.0-4.0"], alone["1.0-4.0"])
    assert abs(np.corrcoef(both["0.3-1.0"], both["1.0-4.0"])[0, 1]) < 0.6


def test_errors_name_what_is_wrong():
    """Each refusal says the rule and what came."""
    with pytest.raises(ValueError, match="width must be at least one bin"):
        responses.simple_response(jnp.asarray(1.0), dt=DT, width=0.1)
    with pytest.raises(ValueError, match="0 <= t1 < t2 < t3"):
        responses.relativistic_response(dt=DT, t1=5.0, **scalars(p1=1.0, p2=2.0, rise=1.0, decay=1.0))
    with pytest.raises(ValueError, match="mode must be"):
        responses.convolve(jnp.ones(4), jnp.ones(2), "valid")
    with pytest.raises(ValueError, match="at most as long as the light curve"):
        responses.convolve(jnp.ones(4), jnp.ones(5), "filtered")
    with pytest.raises(ValueError, match="at most n_bins"):
        responses.transfer_function(jnp.ones(5), 4)
    with pytest.raises(ValueError, match="must span rows of the matrix"):
        responses.energy_averaged_response(jnp.ones((4, 4)), e_min=2.0, e_max=9.0)
