"""What the network sees of a light curve."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.summaries.features import SpectralSummary
from eagleray.summaries.rebin import log_bins
from eagleray.summaries.spectra import positive_frequencies, power_spectrum


def features(observation, rebin=0.1):
    summary = SpectralSummary.of(observation, rebin=rebin)
    return summary, np.asarray(jax.jit(summary)(jnp.asarray(observation.values, jnp.float32)))


@pytest.mark.parametrize("maker", ["make_rates", "make_counts"])
def test_features_are_log_powers_rate_and_variance(maker, request):
    observation = request.getfixturevalue(maker)()
    summary, x = features(observation)
    assert x.shape == (len(summary.names),)
    assert (x.dtype, summary.names[-2:]) == (np.float32, ("log_rate", "log_variance"))
    dt = observation.grid.dt
    counts = observation.values * (dt if observation.kind == "rate" else 1.0)
    with jax.enable_x64(True):
        power = power_spectrum(
            jnp.asarray(counts),
            dt,
            norm="frac",
            exposure=jnp.asarray(observation.exposure),
            background=jnp.asarray(observation.background),
        )
        binned = log_bins(positive_frequencies(200, dt), 0.1).average(power)
    np.testing.assert_allclose(summary.shown(x), binned, rtol=1e-3)
    np.testing.assert_allclose(x[-2], np.log(observation.mean_rate), atol=1e-5)
    source = (counts - observation.background)[observation.exposure > 0]
    np.testing.assert_allclose(x[-1], np.log(source.var() / source.mean() ** 2), atol=1e-3)


def test_rates_and_counts_of_the_same_source_agree(make_rates, make_counts):
    counts = make_counts(background=0.0)
    rates = make_rates(dt=2.0, gap=slice(60, 90))
    _, from_counts = features(counts)
    summary = SpectralSummary.of(rates, rebin=0.1)
    from_rates = jax.jit(summary)(jnp.asarray(counts.values / 2.0, jnp.float32))
    np.testing.assert_allclose(from_rates, from_counts, atol=2e-4)


@pytest.mark.parametrize("values", [np.zeros(200), np.full(200, -1.0)])
def test_no_positive_mean_no_summary(make_rates, values):
    summary = SpectralSummary.of(make_rates(), rebin=0.1)
    assert not np.isfinite(jax.jit(summary)(jnp.asarray(values, jnp.float32))).all()


def test_shown_powers_take_batches(make_rates):
    summary, x = features(make_rates())
    batch = np.stack([x, x + 1.0])
    assert summary.shown(batch).shape == (2, x.size - 2)


def test_signature_tells_windows_apart(make_rates, make_counts):
    base = SpectralSummary.of(make_rates(), rebin=0.1).signature()
    assert SpectralSummary.of(make_rates(seed=5, mean=9.0), rebin=0.1).signature() == base
    others = {
        "rebin": SpectralSummary.of(make_rates(), rebin=0.2),
        "dt": SpectralSummary.of(make_rates(dt=50.0), rebin=0.1),
        "n_bins": SpectralSummary.of(make_rates(n_bins=199), rebin=0.1),
        "exposure": SpectralSummary.of(make_rates(gap=slice(3, 5)), rebin=0.1),
        "kind": SpectralSummary.of(make_counts(), rebin=0.1),
        "background": SpectralSummary.of(make_counts(), rebin=0.1),
    }
    for name, summary in others.items():
        assert summary.signature()[name] != base[name]


def test_strict_mode(strict, make_counts):
    _, x = features(make_counts())
    assert np.isfinite(x).all()
