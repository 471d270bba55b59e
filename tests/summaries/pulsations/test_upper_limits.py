"""Confidence and upper limits are Stingray's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stingray import stats

from eagleray.summaries.pulsations import upper_limits


@pytest.mark.slow
@pytest.mark.parametrize(("x64", "rtol"), [(True, 1e-9), (False, 5e-5)])
@pytest.mark.parametrize("averaged", [False, True])
def test_limits_are_stingrays(averaged, x64, rtol):
    """Most of the time goes into compiling the incomplete gamma function."""
    options = {"confidence": 0.9, "n_powers": 5, "averaged": averaged}
    with jax.enable_x64(x64):
        interval = jax.jit(lambda p: upper_limits.power_confidence_limits(p, **options))(jnp.asarray(60.0))
        amplitude = jax.jit(
            lambda p: upper_limits.amplitude_upper_limit(
                p, 30000.0, **options, any_phase_in_bin=True, nyquist_ratio=0.7
            )
        )(jnp.asarray([0.1, 4.0, 40.0]))
    np.testing.assert_allclose(interval, stats.power_confidence_limits(60.0, 5, 0.9, not averaged), rtol=rtol)
    theirs = [stats.amplitude_upper_limit(p, 30000, 5, 0.9, True, 0.7, not averaged) for p in (0.1, 4.0, 40.0)]
    np.testing.assert_allclose(amplitude, theirs, rtol=rtol)
    assert float(amplitude[0]) == 0


@pytest.mark.slow
def test_gradients_are_finite_differences():
    with jax.enable_x64(True):
        for function in (
            lambda p: upper_limits.power_upper_limit(p, confidence=0.9, n_powers=3),
            lambda p: upper_limits.power_confidence_limits(p, n_powers=2)[0],
        ):
            value_and_slope = jax.jit(jax.value_and_grad(function))
            numeric = (value_and_slope(30.001)[0] - value_and_slope(29.999)[0]) / 2e-3
            np.testing.assert_allclose(value_and_slope(30.0)[1], numeric, rtol=1e-6)


def test_conversions_are_stingrays():
    with jax.enable_x64(True):
        a = jnp.asarray(0.3)
        np.testing.assert_allclose(upper_limits.pulsed_fraction(a), stats.pf_from_a(0.3))
        np.testing.assert_allclose(upper_limits.amplitude_from_pulsed_fraction(a), stats.a_from_pf(0.3))
        np.testing.assert_allclose(upper_limits.signal_power(a, 900.0), stats.ssig_from_a(0.3, 900))
        np.testing.assert_allclose(upper_limits.amplitude_from_signal_power(a, 900.0), stats.a_from_ssig(0.3, 900))


def test_strict_mode_and_errors(strict):
    assert jax.eval_shape(upper_limits.power_upper_limit, jnp.asarray(40.0)).dtype == jnp.float32
    for function in (upper_limits.power_upper_limit, upper_limits.power_confidence_limits):
        with pytest.raises(ValueError, match="confidence must be between 0 and 1, got 1.0"):
            function(jnp.asarray(40.0), confidence=1.0)
