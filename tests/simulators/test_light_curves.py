"""Timmer & Koenig light curves: Stingray's draw to rounding, and what "rms" means."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from stingray.simulator import Simulator
from stingray.simulator import models as stingray_models

from eagleray.simulators.light_curves import stingray_light_curve, stingray_recipe, timmer_koenig_light_curve
from eagleray.simulators.shapes import generalized_lorentzian, power_law, smooth_broken_power_law
from eagleray.simulators.timmer_koenig import fourier_frequencies

pytestmark = pytest.mark.filterwarnings("ignore:SIMON says")  # Stingray, on Gaussian errors

DT, MEAN, RMS = 0.125, 100.0, 0.2

MODELS = {
    "power_law": (power_law, {"slope": 2.0}, (2.0,)),
    "function": (
        generalized_lorentzian,
        {"centre": 1.0, "fwhm": 0.3, "peak": 2.0, "exponent": 2.0},
        ("generalized_lorentzian", [1.0, 0.3, 2.0, 2.0]),
    ),
    "dictionary": (
        smooth_broken_power_law,
        {"norm": 1.0, "slope_low": 1.0, "slope_high": 2.0, "break_freq": 0.5},
        ("SmoothBrokenPowerLaw", {"norm": 1.0, "gamma_low": 1.0, "gamma_high": 2.0, "break_freq": 0.5}),
    ),
    "astropy": (
        generalized_lorentzian,
        {"centre": 1.0, "fwhm": 0.3, "peak": 2.0, "exponent": 2.0},
        (stingray_models.GeneralizedLorentz1D(x_0=1.0, fwhm=0.3, value=2.0, power_coeff=2.0),),
    ),
}


@pytest.mark.parametrize("n", [128, 129])
@pytest.mark.parametrize("red_noise", [1, 3])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_recipe_equals_stingray(monkeypatch, name, n, red_noise):
    """Given Stingray's normal numbers and its cut, its light curve follows to rounding."""
    shape, values, call = MODELS[name]
    drawn = []
    generator = np.random.default_rng(5)

    def record(size):
        drawn.append(generator.standard_normal(size))
        return drawn[-1]

    simulator = Simulator(dt=DT, N=n, mean=MEAN, rms=RMS, red_noise=red_noise, random_state=11)
    cut = 0 if red_noise == 1 else np.random.RandomState(11).randint(n - 1, red_noise * n - n + 1)
    monkeypatch.setattr(np.random, "normal", record)
    theirs = simulator.simulate(*call).counts
    with jax.enable_x64(True):
        power = shape(
            jnp.asarray(fourier_frequencies(n * red_noise, DT)), **{k: jnp.asarray(v) for k, v in values.items()}
        )
        ours = stingray_recipe(
            jnp.asarray(np.stack(drawn)),
            jnp.asarray(cut),
            power,
            mean=jnp.asarray(MEAN),
            rms=jnp.asarray(RMS),
            n_bins=n,
            red_noise=red_noise,
        )
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def draw_many(draw, n_sim=3000, seed=2):
    """Many draws of one simulator."""
    return np.asarray(jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(seed), n_sim)), np.float64)


def steep(n):
    """An f^-2 spectrum."""
    return power_law(jnp.asarray(fourier_frequencies(n, DT), jnp.float32), slope=jnp.asarray(2.0))


@functools.cache
def curves(normalisation, n=64):
    """Light curves in one of the two normalisations."""
    arguments = {"mean": jnp.asarray(MEAN), "rms": jnp.asarray(RMS), "n_bins": n, "n_long": n, "dt": DT}
    return draw_many(lambda key: timmer_koenig_light_curve(key, steep(n), normalisation=normalisation, **arguments))


def lowest_power_p_value(sample):
    """Probability that the lowest powers are exponentially distributed around the model (Kolmogorov-Smirnov)."""
    n = sample.shape[1]
    power = np.abs(np.fft.rfft(sample)[:, 1]) ** 2 * 2 * DT / n
    shape = np.asarray(steep(n), np.float64)
    variance = (shape.sum() - 0.5 * shape[-1]) / (n * DT)
    return stats.kstest(power / (shape[0] * (MEAN * RMS) ** 2 / variance), "expon").pvalue


def test_process_powers_are_exponential():
    """The default gives the Whittle likelihood its due; false alarm 1e-5."""
    assert lowest_power_p_value(curves("process")) > 1e-5


def test_realised_powers_are_not():
    """The failing twin: Stingray's normalisation does not (its defect S1)."""
    assert lowest_power_p_value(curves("realised")) < 1e-10


def test_realised_rms_is_exact():
    """Mean and rms of each light curve are as asked for."""
    sample = curves("realised")
    np.testing.assert_allclose(sample.mean(1), MEAN, rtol=1e-5)
    np.testing.assert_allclose(sample.std(1), MEAN * RMS, rtol=1e-4)


def test_process_variance_is_expected_variance():
    """Mean variance over draws within 5 standard errors; false alarm 6e-7. Twin: half the rms is far outside."""
    variance = curves("process").var(1)
    error = variance.std() / np.sqrt(variance.size)
    assert abs(variance.mean() - (MEAN * RMS) ** 2) < 5 * error
    assert abs(variance.mean() - (MEAN * RMS / 2) ** 2) > 5 * error


def test_red_noise_cut_stays_where_stingray_cuts():
    """With red_noise=3 the cut keeps the long curve's rms, so that short curves scatter below it on average."""
    n = 64
    arguments = {"mean": jnp.asarray(MEAN), "rms": jnp.asarray(RMS), "n_bins": n, "red_noise": 3}
    sample = draw_many(lambda key: stingray_light_curve(key, steep(3 * n), **arguments), n_sim=500)
    assert sample.shape == (500, n)
    np.testing.assert_allclose(sample.mean(1), MEAN, rtol=1e-5)
    assert 0.3 * MEAN * RMS < sample.std(1).mean() < MEAN * RMS


def test_errors_name_what_is_wrong():
    """Each refusal says the rule and what came."""
    scalars = {"mean": jnp.asarray(1.0), "rms": jnp.asarray(0.1), "n_bins": 64, "dt": DT}
    with pytest.raises(ValueError, match="normalisation must be"):
        timmer_koenig_light_curve(jax.random.key(0), steep(64), n_long=64, normalisation="exact", **scalars)
    with pytest.raises(ValueError, match="n_long must be at least"):
        timmer_koenig_light_curve(jax.random.key(0), steep(32), n_long=32, **scalars)
    with pytest.raises(ValueError, match="power must have shape"):
        stingray_light_curve(jax.random.key(0), steep(32), mean=scalars["mean"], rms=scalars["rms"], n_bins=64)
