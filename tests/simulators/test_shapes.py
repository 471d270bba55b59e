"""Power-spectral shapes: parity with Stingray and astropy, integrals, and how they are put together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from astropy.modeling.models import Lorentz1D, PowerLaw1D
from scipy.integrate import quad
from stingray.simulator import models

from eagleray.simulators import shapes
from eagleray.simulators.spectrum import component, rms

FREQ = np.geomspace(0.01, 100.0, 400)

PARITY = {
    "power_law": (shapes.power_law, {"slope": 1.7}, PowerLaw1D(amplitude=1.0, x_0=1.0, alpha=1.7)),
    "smooth_broken": (
        shapes.smooth_broken_power_law,
        {"norm": 2.0, "slope_low": 0.7, "slope_high": 2.3, "break_freq": 3.0},
        lambda f: models.smoothbknpo(f, [2.0, 0.7, 2.3, 3.0]),
    ),
    "smooth_broken_class": (
        shapes.smooth_broken_power_law,
        {"norm": 2.0, "slope_low": 0.7, "slope_high": 2.3, "break_freq": 3.0},
        models.SmoothBrokenPowerLaw(norm=2.0, gamma_low=0.7, gamma_high=2.3, break_freq=3.0),
    ),
    "lorentzian": (
        shapes.lorentzian,
        {"centre": 5.0, "fwhm": 1.5, "peak": 3.0},
        Lorentz1D(amplitude=3.0, x_0=5.0, fwhm=1.5),
    ),
    "generalized": (
        shapes.generalized_lorentzian,
        {"centre": 5.0, "fwhm": 1.5, "peak": 3.0, "exponent": 3.3},
        lambda f: models.generalized_lorentzian(f, [5.0, 1.5, 3.0, 3.3]),
    ),
    "generalized_class": (
        shapes.generalized_lorentzian,
        {"centre": 5.0, "fwhm": 1.5, "peak": 3.0, "exponent": 1.4},
        models.GeneralizedLorentz1D(x_0=5.0, fwhm=1.5, value=3.0, power_coeff=1.4),
    ),
}

NORMALISED = {
    "zero_centred": (shapes.zero_centred_lorentzian, {"rms": 0.3, "half_width": 2.0}),
    "nu_max": (shapes.nu_max_lorentzian, {"nu_max": 4.0, "q": 3.0, "rms": 0.3}),
    "nu_max_broad": (shapes.nu_max_lorentzian, {"nu_max": 4.0, "q": 0.2, "rms": 0.3}),
}

INTEGRALS = {
    "power_law": (shapes.power_law, {"slope": 1.7}),
    "power_law_1": (shapes.power_law, {"slope": 1.0}),
    "power_law_near_1": (shapes.power_law, {"slope": 1.0001}),
    "bending": (shapes.bending_power_law, {"slope_low": 1.0, "slope_high": 2.5, "bend_freq": 2.0}),
    "double_bending": (
        shapes.double_bending_power_law,
        {"slope_low": 0.0, "slope_middle": 1.0, "slope_high": 2.0, "bend_freq_low": 0.1, "bend_freq_high": 5.0},
    ),
    "qpo": (
        shapes.qpo,
        {"nu_max": 4.0, "q": 8.0, "rms": 0.2, "ratio_half": 0.5, "ratio_2": 0.6, "ratio_3": 0.2},
    ),
    "constant": (shapes.constant, {"level": 0.2}),
    "tabulated": (shapes.Tabulated((0.1, 1.0, 10.0), (2.0, 1.0, 0.05)), {"norm": 3.0}),
    **NORMALISED,
    **{name: PARITY[name][:2] for name in ("lorentzian", "generalized", "smooth_broken")},
}


def arguments(values):
    """Scalars in the default type."""
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in values.items()}


@pytest.mark.parametrize("name", sorted(PARITY))
def test_shape_equals_reference(name):
    """The same numbers as Stingray and astropy, to rounding in both precisions."""
    shape, values, reference = PARITY[name]
    with jax.enable_x64(True):
        np.testing.assert_allclose(shape(jnp.asarray(FREQ), **arguments(values)), reference(FREQ), rtol=1e-12)
    np.testing.assert_allclose(shape(jnp.asarray(FREQ, jnp.float32), **arguments(values)), reference(FREQ), rtol=3e-5)


@pytest.mark.parametrize("name", sorted(NORMALISED))
def test_rms_is_that_of_positive_frequencies(name):
    """Shapes with a parameter called rms integrate to its square."""
    shape, values = NORMALISED[name]
    with jax.enable_x64(True):
        total = quad(lambda f: float(shape(jnp.asarray([f]), **arguments(values))[0]), 0.0, np.inf, limit=200)[0]
    assert total == pytest.approx(values["rms"] ** 2, rel=1e-6)


def test_nu_max_is_where_power_times_frequency_peaks():
    """Belloni et al.'s defining property."""
    freq = np.linspace(1.0, 10.0, 200_001)
    power = shapes.nu_max_lorentzian(jnp.asarray(freq, jnp.float32), **arguments({"nu_max": 4.0, "q": 0.7, "rms": 1.0}))
    assert freq[np.argmax(freq * np.asarray(power, np.float64))] == pytest.approx(4.0, rel=2e-3)


@pytest.mark.parametrize("name", sorted(INTEGRALS))
def test_integral_equals_quadrature(name):
    """Closed forms and the log-spaced rule agree with adaptive quadrature."""
    shape, values = INTEGRALS[name]
    model = component(shape, "c")
    with jax.enable_x64(True):
        theta = {f"c.{key}": value for key, value in arguments(values).items()}
        evaluate = jax.jit(lambda f: model(f[None], theta)[0])
        low, high = 0.05, 60.0
        points = np.log([0.1, 1.0, 2.0, 4.0, 5.0, 8.0, 10.0, 12.0])
        expected = quad(
            lambda u: np.exp(u) * float(evaluate(np.exp(u))), np.log(low), np.log(high), points=points, limit=400
        )
        assert float(rms(model, theta, low, high)) ** 2 == pytest.approx(expected[0], rel=2e-6)


def test_generalized_lorentzian_has_gradient_at_its_centre():
    """The logarithm of zero does not leak into the derivative."""
    slope = jax.grad(
        lambda n: shapes.generalized_lorentzian(
            jnp.asarray([5.0]), **arguments({"centre": 5.0, "fwhm": 1.0, "peak": 1.0}), exponent=n
        )[0]
    )
    assert float(slope(jnp.asarray(2.5))) == 0.0


def test_names_are_unique_and_fixed_values_held():
    """Equal components are numbered; sums and products evaluate as such."""
    line = component(shapes.nu_max_lorentzian, "qpo", q=5.0)
    model = line + line * component(shapes.constant)
    assert model.names == ("qpo.nu_max", "qpo.rms", "qpo_2.nu_max", "qpo_2.rms", "constant.level")
    theta = dict(zip(model.names, (jnp.asarray(x) for x in (2.0, 0.1, 4.0, 0.2, 3.0)), strict=True))
    freq = jnp.asarray(FREQ, jnp.float32)
    first = shapes.nu_max_lorentzian(freq, **arguments({"nu_max": 2.0, "q": 5.0, "rms": 0.1}))
    second = shapes.nu_max_lorentzian(freq, **arguments({"nu_max": 4.0, "q": 5.0, "rms": 0.2}))
    np.testing.assert_allclose(model(freq, theta), first + 3.0 * second, rtol=1e-6)
    assert hash(line + line) == hash(line + line)
    np.testing.assert_allclose(rms(model, theta, 0.01, 100.0) ** 2, 0.01 + 3 * 0.04, rtol=0.02)


def test_errors_name_what_is_wrong():
    """Each refusal says the rule and what came."""
    with pytest.raises(ValueError, match="fixed parameters must be among"):
        component(shapes.constant, "c", width=1.0)
    with pytest.raises(ValueError, match="0 < f_min < f_max"):
        rms(component(shapes.constant), {"constant.level": jnp.asarray(1.0)}, 2.0, 1.0)
    with pytest.raises(ValueError, match="freq must be positive and increasing"):
        shapes.Tabulated((1.0, 1.0), (1.0, 1.0))
    with pytest.raises(ValueError, match="same length"):
        shapes.Tabulated((1.0,), (1.0, 1.0))
    with pytest.raises(ValueError, match="power must be positive"):
        shapes.Tabulated((1.0, 2.0), (1.0, 0.0))
