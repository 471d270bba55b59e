"""Calibrated tests of spectral models: valid under the simpler model, powerful under the richer, and as Stingray's."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from eagleray.inference.evidence import bayes_factor, model_probabilities
from eagleray.inference.model_tests import (
    _tails,
    likelihood_ratio_test,
    outlier_test,
    predictive_checks,
    predictive_tests,
)
from eagleray.inference.refits import simulate_and_refit
from eagleray.inference.spectral_models import (
    FitSettings,
    SpectralLogLikelihood,
    SpectralModel,
    fit_spectra,
    residuals,
    simulate_spectra,
)
from eagleray.priors import Prior

N = 64
FREQ = np.arange(1, N + 1) / 4.0
TRUTH = {"norm": 20.0, "slope": 1.5, "level": 2.0}
CONTINUUM = {"norm": "loguniform(0.01, 1e4)", "slope": "uniform(0, 4)", "level": "fixed(2)"}
PEAK = {"centre": "fixed(8)", "fwhm": "fixed(2)", "peak": "uniform(0, 50)"}


def continuum(theta):
    freq = jnp.asarray(FREQ, theta["norm"].dtype)
    return theta["norm"] * jnp.exp(-theta["slope"] * jnp.log(freq)) + theta["level"]


def with_peak(theta):
    freq = jnp.asarray(FREQ, theta["norm"].dtype)
    return continuum(theta) + theta["peak"] / (1.0 + (2.0 * (freq - theta["centre"]) / theta["fwhm"]) ** 2)


NULL = SpectralModel(Prior(CONTINUUM), continuum)
ALTERNATIVE = SpectralModel(Prior(CONTINUUM | PEAK), with_peak)
SETTINGS = FitSettings(n_starts=2, n_draws=16)
N_SIMULATIONS = 59


def observed(seed, peak=0.0, m=1):
    """Powers of the continuum, with or without the peak."""
    model = TRUTH["norm"] * FREQ ** -TRUTH["slope"] + TRUTH["level"] + peak / (1.0 + (FREQ - 8.0) ** 2)
    return model * np.random.default_rng(seed).gamma(m, 1.0 / m, N)


def statistics(seed, peak=0.0):
    """All statistics of one observation and of its simulations; compiled once for the whole file."""
    return simulate_and_refit(
        jax.random.key(seed), NULL, ALTERNATIVE, observed(seed, peak), 1, None, (1,), N_SIMULATIONS, SETTINGS
    )


def p_value(values):
    return (1 + (values[1:] >= values[0]).sum()) / len(values)


@pytest.fixture(scope="module")
def under_the_null():
    return [statistics(seed) for seed in range(60)]


def uniformity(p_values):
    """Kolmogorov-Smirnov against the p-values' own law, the steps of 1 / (n + 1), blurred to be continuous."""
    blurred = np.asarray(p_values) - np.random.default_rng(0).uniform(size=len(p_values)) / (N_SIMULATIONS + 1)
    return stats.kstest(blurred, "uniform").pvalue


@pytest.mark.parametrize("name", ["likelihood ratio", "highest ratio", "sum of squares"])
def test_p_values_are_uniform_under_the_null(under_the_null, name):
    """60 observations (false alarm 1e-3 each)."""
    assert uniformity([p_value(values[name]) for values in under_the_null]) > 1e-3


def test_the_asymptotic_law_fails_at_the_boundary(under_the_null):
    """Twin: a peak that must not be negative has likelihood ratio 0 half of the time, not chi-squared with one."""
    ratios = np.array([values["likelihood ratio"][0] for values in under_the_null])
    assert ratios.min() > -1e-2
    assert stats.kstest(stats.chi2(1).sf(np.maximum(ratios, 0.0)), "uniform").pvalue < 1e-6


def test_a_peak_is_found():
    """Of 20 spectra with a peak of five times the level, the ratio test sees 15 or more at 5 % (by chance: 1)."""
    found = [p_value(statistics(1000 + seed, peak=10.0)["likelihood ratio"]) <= 0.05 for seed in range(20)]
    assert sum(found) >= 15


def test_likelihood_ratio_test_reports():
    test = likelihood_ratio_test(
        jax.random.key(3), NULL, ALTERNATIVE, observed(3), 1, n_simulations=N_SIMULATIONS, settings=SETTINGS
    )
    k = (test.simulated >= test.statistic).sum()
    assert test.p_value == (k + 1) / (N_SIMULATIONS + 1)
    assert test.p_value_error == pytest.approx(np.sqrt(test.p_value * (1 - test.p_value) / (N_SIMULATIONS + 1)))
    assert test.simulated.shape == (N_SIMULATIONS,)
    assert test.n_failed == 0
    assert test.n_unconverged <= 3
    assert test.simulated.min() > -1e-2


@pytest.fixture
def stingray_modeling():
    """Stingray's modelling, imported without its warnings and without the error state that it leaves NumPy in."""
    with warnings.catch_warnings(), np.errstate():
        warnings.simplefilter("ignore")
        import stingray.modeling

        yield stingray.modeling


def test_statistics_at_given_parameters_are_those_of_stingray(stingray_modeling, under_the_null):
    """At the same parameters deviances differ as in Stingray; for averaged powers Stingray's difference is doubled."""
    from astropy.modeling.models import Const1D, Lorentz1D, PowerLaw1D
    from stingray.powerspectrum import Powerspectrum

    thetas = {"norm": 15.0, "slope": 1.3, "level": 2.0}, {**TRUTH, "centre": 8.0, "fwhm": 2.0, "peak": 3.0}
    specs = []
    for peak in ([], [Lorentz1D(x_0=8.0, fwhm=2.0, fixed={"x_0": True, "fwhm": True})]):
        spec = PowerLaw1D(fixed={"x_0": True}) + Const1D(2.0, fixed={"amplitude": True})
        specs.append(spec + peak[0] if peak else spec)
    vectors = [15.0, 1.3], [20.0, 1.5, 3.0]
    for m, factor in ((1, 1.0), (20, 2.0)):
        power = observed(5, m=m)
        theirs = [stingray_modeling.PSDLogLikelihood(FREQ, power, spec, m=m) for spec in specs]
        with jax.enable_x64():
            ours = [
                SpectralLogLikelihood(model.power)({k: jnp.asarray(v) for k, v in theta.items()}, power, float(m))
                for model, theta in zip((NULL, ALTERNATIVE), thetas, strict=True)
            ]
        difference = theirs[1](vectors[1]) - theirs[0](vectors[0])
        assert factor * float(ours[1] - ours[0]) == pytest.approx(difference, rel=1e-10)

    # Each by its own fit, with the peak present so that its optimum is no boundary.
    power = observed(1000, peak=10.0)
    spectrum = Powerspectrum()
    spectrum.freq, spectrum.power, spectrum.m, spectrum.norm = FREQ, power, 1, "leahy"
    likelihoods = [stingray_modeling.PSDLogLikelihood(FREQ, power, spec, m=1) for spec in specs]
    np.random.seed(0)  # noqa: NPY002 - Stingray starts from a point perturbed by the global generator
    with np.errstate(all="ignore"):
        ratio, *_ = stingray_modeling.PSDParEst(spectrum, fitmethod="BFGS", max_post=False).compute_lrt(
            likelihoods[0], [20.0, 1.5], likelihoods[1], [20.0, 1.5, 10.0]
        )
    assert statistics(1000, peak=10.0)["likelihood ratio"][0] == pytest.approx(ratio, abs=2e-2)


def test_many_averages_lose_nothing_in_single_precision():
    """Half the deviance of powers that are means of 10 000, whose ratios are within 1 % of the model."""
    power, theta = observed(0, m=10_000), {k: np.float32(v) for k, v in TRUTH.items()}
    found = SpectralLogLikelihood(continuum)(theta, power.astype(np.float32), np.float32(10_000))
    model = TRUTH["norm"] * FREQ ** -TRUTH["slope"] + TRUTH["level"]
    ratio = power.astype(np.float32).astype(float) / model
    assert float(found) == pytest.approx(-(1e4 * (ratio - np.log(ratio) - 1)).sum(), abs=1e-2)


@pytest.fixture(scope="module")
def searched():
    """An outlier test of several widths, under the null and with a peak four frequencies wide."""

    def search(seed, peak):
        return outlier_test(
            jax.random.key(seed),
            NULL,
            observed(seed, peak),
            1,
            widths=(1, 4, 8),
            n_simulations=N_SIMULATIONS,
            settings=SETTINGS,
        )

    return search


@pytest.mark.slow
def test_outliers_of_several_widths(searched):
    """Uniform under the null, each width and all together (false alarm 4e-3); a wide peak is seen by wide windows."""
    tests = [searched(seed, 0.0) for seed in range(100)]
    for i in range(3):
        assert uniformity([test.each[i].p_value for test in tests]) > 1e-3
    assert uniformity([test.combined.p_value for test in tests]) > 1e-3
    # Twin: the smallest of three p-values, taken for one, is too small.
    assert uniformity([min(each.p_value for each in test.each) for test in tests]) < 1e-3
    peaks = [searched(2000 + seed, 10.0) for seed in range(10)]
    combined, single = (np.array([test.combined.p_value for test in peaks]), [test.each[0].p_value for test in peaks])
    assert (combined <= 0.05).sum() >= 7
    assert combined.mean() < np.mean(single)
    for seed, test in enumerate(peaks):
        power = jnp.asarray(observed(2000 + seed, 10.0), jnp.float32)
        fit = fit_spectra(jax.random.key(0), NULL, power[None], jnp.ones(N, jnp.float32), settings=SETTINGS)
        ratio = power / continuum({name: value[0] for name, value in fit.theta.items()})
        first = test.index[1]
        assert test.ratio[1] == pytest.approx(float(ratio[first : first + 4].mean()), rel=1e-2)
    assert np.median([abs(FREQ[test.index[1]] + 0.375 - 8.0) for test in peaks]) < 1.0


def test_predictive_tests_name_the_statistics_of_vaughan(under_the_null):
    tests = predictive_tests(
        jax.random.key(7),
        NULL,
        observed(7),
        1,
        {name: np.full((2, 30), value) for name, value in TRUTH.items()},
        alternative=ALTERNATIVE,
        n_simulations=N_SIMULATIONS,
        settings=SETTINGS,
    )
    assert set(tests) == {"T_R", "T_SSE", "T_LRT"}
    expected = under_the_null[7]
    assert tests["T_R"].statistic == pytest.approx(2 * expected["highest ratio"][0], rel=1e-2)
    assert tests["T_SSE"].statistic == pytest.approx(expected["sum of squares"][0], rel=1e-2)
    assert tests["T_LRT"].statistic == pytest.approx(expected["likelihood ratio"][0], abs=2e-2)
    for test in tests.values():
        assert 0 < test.p_value <= 1


def test_quick_checks_see_what_a_model_misses():
    draws = {name: np.full(400, value) for name, value in TRUTH.items()}
    good = predictive_checks(jax.random.key(0), continuum, draws, observed(0), 1)
    assert [check.name for check in good][0] == "sum of squared residuals"
    assert len(good) == 4
    assert all(check.n == 400 and check.p_value > 1e-3 for check in good)
    bad = predictive_checks(jax.random.key(0), continuum, draws, observed(0, peak=20.0), 1)
    assert all(check.p_value == 1 / 401 for check in bad)


def test_residuals_of_rebinned_powers():
    power, m = np.array([1.0, 4.0, 1.5, 2.0, 1.0]), np.array([1.0, 1.0, 100.0, 2.0, 2.0])
    found = jax.jit(residuals, static_argnums=3)(power, np.ones(5), m, (1, 2))
    assert found.sum_squares == pytest.approx((m * (power - 1) ** 2).sum())
    # A ratio of 1.5 in 100 averages is rarer than one of 4 in a single power; the cube root knows.
    assert found.index.tolist() == [2, 1]
    assert found.ratio[0] == pytest.approx(1.5)
    assert found.ratio[1] == pytest.approx((150.0 + 4.0) / 101.0)
    np.testing.assert_allclose(found.highest[0], stats.norm.isf(stats.gamma.sf(150.0, 100.0)), atol=0.03)


def test_simulated_powers_have_the_law_of_averages():
    """KS of 1280 powers over their model (false alarm 1e-4 each)."""
    theta = {name: jnp.full(20, value, jnp.float32) for name, value in TRUTH.items()}
    keys = jax.random.split(jax.random.key(0), 20)
    simulate = jax.jit(simulate_spectra, static_argnums=1, static_argnames="single")
    model = np.asarray(continuum({name: jnp.float32(value) for name, value in TRUTH.items()}))
    for m, single in ((1.0, True), (5.0, False)):
        power = simulate(keys, continuum, theta, jnp.full(N, m, jnp.float32), single=single)
        assert stats.kstest((np.asarray(power) / model).ravel(), stats.gamma(m, scale=1 / m).cdf).pvalue > 1e-4
        # Twin: powers of half as many averages.
        assert stats.kstest((np.asarray(power) / model).ravel(), stats.gamma(m / 2, scale=2 / m).cdf).pvalue < 1e-4


def test_failed_simulations_count_against_the_discovery():
    from eagleray.inference.model_tests import _tails, _test

    test = _test("t", np.array([3.0, 1.0, np.nan, 2.0, 5.0]), np.array([0.0, 1.0, 0.0, 0.0, 1.0]))
    assert test.p_value == 3 / 5
    assert (test.n_failed, test.n_unconverged) == (1, 2)
    assert _test("t", np.array([np.nan, 1.0]), np.zeros(2)).p_value == 1.0
    np.testing.assert_allclose(_tails(np.array([[3.0], [1.0], [3.0], [np.nan]])), [[0.75], [1.0], [0.75], [0.25]])


def test_what_cannot_be_tested_is_refused():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="alternative must have more free parameters than null, got 2 and 3"):
        likelihood_ratio_test(key, ALTERNATIVE, NULL, observed(0), 1)
    with pytest.raises(ValueError, match="power must be positive and finite, got 0 among 64"):
        likelihood_ratio_test(key, NULL, ALTERNATIVE, observed(0) * (FREQ > 1), 1)
    with pytest.raises(ValueError, match="m must be at least 1, got 0"):
        outlier_test(key, NULL, observed(0), 0)
    with pytest.raises(ValueError, match=r"m one number or \(n_freq,\), got \(64,\) and \(2,\)"):
        outlier_test(key, NULL, observed(0), [1, 2])
    with pytest.raises(ValueError, match="widths must be between 1 and the number of powers, 64"):
        outlier_test(key, NULL, observed(0), 1, widths=(65,))
    with pytest.raises(ValueError, match="n_simulations must be at least 1, got 0"):
        outlier_test(key, NULL, observed(0), 1, n_simulations=0)
    with pytest.raises(ValueError, match="draws must have one number of draws"):
        predictive_tests(key, NULL, observed(0), 1, {"norm": np.ones(3), "slope": np.ones(2), "level": np.ones(3)})
    with pytest.raises(ValueError, match="tolerance must be positive"):
        FitSettings(tolerance=0.0)
    with pytest.raises(ValueError, match="at least 1"):
        FitSettings(n_starts=0)


def test_evidences():
    factor = bayes_factor((-100.0, 0.3), (-104.0, 0.4))
    assert factor.log == pytest.approx(4.0)
    assert factor.error == pytest.approx(0.5)
    assert factor.strength == "strong"
    assert bayes_factor((-104.0, 0.0), (-104.5, 0.0)).strength == "not worth more than a bare mention"
    probabilities = model_probabilities({"a": -100.0, "b": -100.0 + np.log(3.0)}, {"a": 3.0, "b": 1.0})
    assert probabilities == pytest.approx({"a": 0.5, "b": 0.5})
    assert model_probabilities({"a": -1e6, "b": -1e6 - 800.0}) == pytest.approx({"a": 1.0, "b": 0.0})
    with pytest.raises(ValueError, match="log evidences must be finite"):
        bayes_factor((np.nan, 0.1), (0.0, 0.1))
    with pytest.raises(ValueError, match="prior_odds must be positive"):
        model_probabilities({"a": 0.0}, {"b": 1.0})
    with pytest.raises(ValueError, match="at least one model"):
        model_probabilities({})


@pytest.mark.slow
def test_a_thousand_refits_with_a_free_lorentzian():
    """1024 powers: fits of a spectrum with a QPO beside 1000 simulated ones; four starts miss little."""
    freq = np.arange(1, 1025) / 64.0
    prior = {"centre": "uniform(0.5, 15)", "fwhm": "loguniform(0.05, 3)", "peak": "loguniform(1e-3, 1e2)"}

    def null(theta):
        return theta["norm"] * jnp.exp(-theta["slope"] * jnp.log(jnp.asarray(freq, jnp.float32))) + theta["level"]

    def alternative(theta):
        score = 2.0 * (jnp.asarray(freq, jnp.float32) - theta["centre"]) / theta["fwhm"]
        return null(theta) + theta["peak"] / (1.0 + score * score)

    continuum_prior = {"norm": "loguniform(1e-3, 1e3)", "slope": "uniform(0, 4)", "level": "loguniform(0.1, 10)"}
    models = SpectralModel(Prior(continuum_prior), null), SpectralModel(Prior(continuum_prior | prior), alternative)
    theta = {"norm": 2.0, "slope": 1.7, "level": 2.0, "centre": 6.0, "fwhm": 0.5, "peak": 4.0}
    model = np.asarray(alternative({name: np.float32(value) for name, value in theta.items()}))
    power = model * np.random.default_rng(0).exponential(size=1024)
    test = likelihood_ratio_test(jax.random.key(0), *models, power, 1)
    assert test.p_value == 1 / 1001
    assert test.n_failed == 0
    assert test.n_unconverged < 50
    assert test.simulated.min() > -0.1
    with jax.enable_x64():
        refit = fit_spectra(jax.random.key(1), models[0], power[None], np.ones(1024), settings=FitSettings())
    assert refit.converged.all()


def test_an_observed_fit_that_fails_is_no_discovery():
    values = np.vstack([[np.nan, np.nan], np.random.default_rng(0).normal(size=(100, 2))])
    assert _tails(values).min(axis=1)[0] == 1.0
