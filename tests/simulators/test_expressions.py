"""Spectra written as text."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.errors import InputError
from eagleray.simulators import shapes
from eagleray.simulators.expressions import SHAPES, spectrum_from_text
from eagleray.simulators.spectrum import parameters

FREQ = np.geomspace(0.1, 10.0, 7)


def test_text_is_the_sum_of_products_that_it_names():
    model = spectrum_from_text("powerlaw + qpo:lorentzian * lorentzian + constant", pivot=2.0)
    theta = dict(zip(model.names, jnp.asarray([3.0, 1.5, 4.0, 0.5, 2.0, 1.0, 1.0, 7.0, 0.1]), strict=True))
    expected = (
        3.0 * (FREQ / 2.0) ** -1.5
        + shapes.lorentzian(FREQ, centre=4.0, fwhm=0.5, peak=2.0)
        * shapes.lorentzian(FREQ, centre=1.0, fwhm=1.0, peak=7.0)
        + 0.1
    )
    np.testing.assert_allclose(model(jnp.asarray(FREQ), theta), expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [shapes.power_law, shapes.bending_power_law, shapes.double_bending_power_law])
def test_scaled_shapes_have_their_norm_at_the_pivot_and_keep_shape_and_identity(shape):
    scaled = shapes.scaled(shape)
    assert scaled is shapes.scaled(shape)
    assert parameters(scaled) == ("norm", "pivot", *parameters(shape))
    theta = {name: 0.7 + 0.4 * i for i, name in enumerate(parameters(shape))}
    freq = jnp.asarray(FREQ, jnp.float32)
    power = scaled(freq, norm=3.0, pivot=freq[2], **theta)
    np.testing.assert_allclose(power[2], 3.0, rtol=1e-6)
    np.testing.assert_allclose(
        power / shape(freq, **theta), power[0] / shape(freq[:1], **theta)[0] * np.ones(7), rtol=1e-5
    )


def test_equal_names_are_numbered_and_spelling_is_lenient():
    model = spectrum_from_text("Lorentzian+lorentzian + bendingPowerLaw", pivot=1.0)
    assert [c.name for c in model.components] == ["lorentzian", "lorentzian_2", "bending_powerlaw"]
    assert model == spectrum_from_text("lorentzian + lorentzian + bending_powerlaw", pivot=1.0)
    assert hash(model) == hash(spectrum_from_text("lorentzian + lorentzian + bending_powerlaw", pivot=1.0))


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_can_be_written_and_is_positive(name):
    model = spectrum_from_text(name, pivot=1.0)
    theta = {parameter: jnp.float32(1.2 + 0.3 * i) for i, parameter in enumerate(model.names)}
    power = jax.jit(lambda theta: model(jnp.asarray(FREQ, jnp.float32), theta))(theta)
    assert (power > 0).all()
    assert "pivot" not in "".join(model.names)


@pytest.mark.parametrize(
    "text", ["", "powerlaw +", "powerlaw + (constant)", "nonsense", "a:b:constant", "2 * constant"]
)
def test_what_is_no_model_is_refused_with_the_choices(text):
    with pytest.raises(InputError, match="powerlaw, bending_powerlaw"):
        spectrum_from_text(text, pivot=1.0)
