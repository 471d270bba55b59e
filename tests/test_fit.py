"""From an observation to a folder with the exact posterior of its spectrum."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import eagleray as er
from eagleray.config import FitConfig
from eagleray.diagnostics.doubts import fit_doubts
from eagleray.diagnostics.verdicts import judge, judge_chains, judge_checks, judge_optimum
from eagleray.errors import InputError
from eagleray.pipeline.exact import fit, observed_spectrum
from eagleray.pipeline.results import write_result
from eagleray.priors import Prior
from eagleray.problems.spectral_fit import make_spectral_problem
from eagleray.records import LightCurve, PowerSpectrum, PredictiveCheck, TimeGrid
from eagleray.report import render_images, render_page
from eagleray.simulators.timmer_koenig import gaussian_process

N_BINS, DT, MEAN = 1024, 0.5, 100.0
CONFIG = FitConfig(model="powerlaw + constant", n_warmup=200, n_draws=500, n_predictive=200, segment_size=128.0)
FREQ = np.arange(1, 65) / 128.0


def red_light_curve(n_bins=N_BINS, seed=0):
    """Counts of mean 100 whose spectrum is 0.02 f^-1 and white noise at the Poisson level."""
    freq = jnp.fft.rfftfreq(n_bins, DT)[1:]
    noise = 2.0 / (MEAN / DT)
    values = MEAN * (1.0 + gaussian_process(jax.random.key(seed), 0.02 / freq + noise, n_bins, DT))
    return LightCurve(
        values=np.asarray(values),
        exposure=np.ones(n_bins),
        background=np.zeros(n_bins),
        error=None,
        grid=TimeGrid(n_bins=n_bins, dt=DT),
        source="made up",
    )


def flat_spectrum(m=1.0, noise=None):
    return PowerSpectrum(
        freq=FREQ, power=np.ones(64), m=np.full(64, m), n_photons=1e4, norm="frac", dt=1.0, noise=noise
    )


@pytest.fixture(scope="module")
def observation():
    return red_light_curve()


@pytest.fixture(scope="module")
def result(observation):
    return fit(observation, config=CONFIG, command="eagleray fit made-up")


@pytest.fixture(scope="module")
def images(result):
    return render_images(result)


def test_posterior_holds_the_truth_and_agrees_with_the_optimum(result):
    truth = {"powerlaw.slope": 1.0, "constant.level": 2.0 / (MEAN / DT)}
    for name, value in truth.items():
        draws = result.draws[name]
        assert abs(np.mean(draws) - value) < 4 * np.std(draws)  # false alarm 1e-4
    slope = result.draws["powerlaw.slope"]
    assert abs(result.optimum.theta["powerlaw.slope"] - slope.mean()) < slope.std()
    np.testing.assert_allclose(result.optimum.standard_error["powerlaw.slope"], slope.std(), rtol=0.35)
    assert result.optimum.n_free == 3
    assert np.isfinite(result.optimum.bic)


def test_result_is_whole(result, observation):
    n = CONFIG.n_chains * CONFIG.n_draws
    assert {len(draws) for draws in result.draws.values()} == {n} == {len(result.log_prob)}
    assert result.spectrum.power.shape == (127,)
    assert set(np.asarray(result.spectrum.m)) == {4.0}
    assert set(result.components) == {"powerlaw", "constant"}
    problem = make_spectral_problem(result.spectrum, CONFIG.model)
    total = problem.power({name: jnp.float32(value) for name, value in result.optimum.theta.items()})
    np.testing.assert_allclose(sum(result.components.values()), total, rtol=1e-5)
    assert result.shown_predictive.shape == (200, result.panel.axis.size)
    assert result.shown_obs.shape == result.panel.axis.shape
    assert result.provenance["model"] == CONFIG.model
    assert "averages of 4 periodogram powers in segments of 128 s" in result.provenance["likelihood"]
    assert all(verdict.state == "passed" for verdict in judge(result)[1:]), judge(result)


def test_log_prob_is_the_posterior_density_in_physical_units(result):
    problem = make_spectral_problem(result.spectrum, CONFIG.model)
    some = {name: jnp.asarray(draws[:20]) for name, draws in result.draws.items()}
    expected = jax.vmap(lambda theta: problem.log_likelihood(theta) + problem.prior.log_prob(theta))(some)
    np.testing.assert_allclose(result.log_prob[:20], expected, atol=2e-3)


def test_likelihood_is_scipys_gamma():
    spectrum = flat_spectrum(m=3.0)
    problem = make_spectral_problem(spectrum, "constant")
    expected = stats.gamma(3.0, scale=0.7 / 3.0).logpdf(np.ones(64)).sum()
    np.testing.assert_allclose(problem.log_likelihood({"constant.level": jnp.float32(0.7)}), expected, rtol=1e-5)


@pytest.mark.slow
def test_simulated_powers_have_the_law_of_averages():
    problem = make_spectral_problem(flat_spectrum(m=3.0), "constant")
    theta = {"constant.level": jnp.float32(2.0)}
    powers = jax.vmap(lambda key: problem.simulate(key, theta))(jax.random.split(jax.random.key(0), 50))
    law = stats.gamma(3.0, scale=2.0 / 3.0)
    assert stats.kstest(np.asarray(powers).ravel(), law.cdf).pvalue > 1e-5  # false alarm 1e-5
    assert stats.kstest(np.asarray(powers).ravel(), stats.gamma(2.0, scale=1.0).cdf).pvalue < 1e-5


def test_priors_come_from_the_data_and_can_be_fixed_and_tied():
    problem = make_spectral_problem(
        flat_spectrum(noise=0.5),
        "powerlaw + lorentzian + lorentzian + constant",
        {"constant.level": "fixed(0.4)", "lorentzian_2.centre": "tied(2 * lorentzian.centre)"},
    )
    assert "constant.level" not in problem.prior.names
    assert problem.units["lorentzian.centre"] == "Hz"
    assert problem.units["constant.level"] == "1/Hz"
    assert problem.prior.lower_end("lorentzian.centre") == pytest.approx(FREQ[0], rel=1e-2)
    theta = problem.prior.constrain(jnp.zeros(len(problem.prior.names)))
    assert np.isfinite(problem.log_likelihood(theta))
    known = make_spectral_problem(flat_spectrum(noise=0.5), "constant")
    assert known.prior.family("constant.level") == "lognormal"
    assert make_spectral_problem(flat_spectrum(), "constant").prior.family("constant.level") == "loguniform"


def test_rebinned_spectra_keep_their_averages(observation):
    spectrum = observed_spectrum(observation, CONFIG.model_copy(update={"rebin": 0.1}))
    assert spectrum.m[0] == 4
    assert spectrum.m[-1] > 20
    np.testing.assert_allclose(np.sum(spectrum.m), 4 * 127)


def test_what_cannot_be_fitted_is_refused(observation):
    with pytest.raises(InputError, match="at least 8 powers"):
        observed_spectrum(observation, CONFIG.model_copy(update={"segment_size": 4.0}))
    with pytest.raises(InputError, match="at least two bins"):
        observed_spectrum(observation, CONFIG.model_copy(update={"segment_size": 0.6}))
    with pytest.raises(InputError, match="at least 8 powers"):
        observed_spectrum(observation, CONFIG.model_copy(update={"segment_size": 1.0, "rebin": 0.1}))
    constant = dataclasses.replace(observation, values=np.full(N_BINS, 3.0))
    with pytest.raises(InputError, match="positive powers"):
        observed_spectrum(constant, CONFIG)
    with pytest.raises(InputError, match="has the parameters"):
        fit(observation, config=CONFIG.model_copy(update={"prior": {"nonsense": "uniform(0, 1)"}}))
    with pytest.raises(InputError, match="must be one of nuts"):
        fit(observation, config=CONFIG.model_copy(update={"sampler": "nonsense"}))


def test_the_folder_holds_chains_report_and_figures(result, tmp_path, monkeypatch, images):
    monkeypatch.setattr("eagleray.pipeline.results.render_images", lambda _: images)
    folder = tmp_path / "out"
    write_result(result, folder)
    assert {path.name for path in folder.iterdir()} == {"posterior.nc", "summary.csv", "report.html", "figures"}
    assert {path.name for path in (folder / "figures").iterdir()} == {f"{name}.png" for name in images}
    tree = xr.load_datatree(folder / "posterior.nc", engine="h5netcdf")
    assert dict(tree["posterior"].sizes) == {"chain": CONFIG.n_chains, "draw": CONFIG.n_draws}
    np.testing.assert_array_equal(tree["posterior"]["powerlaw.slope"], result.samples.draws["powerlaw.slope"])
    np.testing.assert_allclose(tree["observed_data"]["fitted_power"], result.spectrum.power)
    assert json.loads(tree.attrs["optimum"])["powerlaw.slope"] == pytest.approx(result.optimum.theta["powerlaw.slope"])
    assert json.loads(tree.attrs["warnings"]) == list(result.warnings)


def test_page_says_what_was_fitted_and_escapes_it(result, images):
    hostile = dataclasses.replace(result, provenance={**result.provenance, "model": "<script>alert(1)</script>"})
    page = render_page(hostile, images)
    assert "<script>" not in page
    page = render_page(result, images)
    for text in ("Best fit", "BIC", "Do the chains agree", "powerlaw", "periodogram powers"):
        assert text in page
    assert "network" not in page.lower()


def test_bad_chains_poor_models_and_lost_optima_are_judged(result):
    chains = result.samples
    assert judge_chains(dataclasses.replace(chains, rhat=dict.fromkeys(chains.rhat, 1.2))).state == "failed"
    assert judge_chains(dataclasses.replace(chains, rhat=dict.fromkeys(chains.rhat, np.nan))).state == "failed"
    assert judge_chains(dataclasses.replace(chains, ess_tail=dict.fromkeys(chains.rhat, 50.0))).state == "failed"
    good = dataclasses.replace(
        chains,
        rhat=dict.fromkeys(chains.rhat, 1.001),
        ess_bulk=dict.fromkeys(chains.rhat, 900.0),
        ess_tail=dict.fromkeys(chains.rhat, 900.0),
        divergent=np.zeros_like(chains.log_density, bool),
    )
    assert judge_chains(good).state == "passed"
    assert judge_chains(dataclasses.replace(good, divergent=~good.divergent)).state == "caution"
    check = PredictiveCheck(name="highest power", observed=30.0, p_value=0.001, n=999)
    assert judge_checks((check,)).state == "failed"
    assert judge_checks((dataclasses.replace(check, p_value=0.5),)).state == "passed"
    assert judge_checks(()).state == "not checked"
    assert judge_optimum(dataclasses.replace(result.optimum, converged=False)).state == "failed"
    assert judge_optimum(dataclasses.replace(result.optimum, n_agreeing=1)).state == "caution"
    assert judge_optimum(dataclasses.replace(result.optimum, positive_definite=False)).state == "caution"


def test_doubts_name_gaps_leakage_and_priors(result):
    prior = Prior(result.prior)

    def ask(**changes):
        found = {"gap_fraction": 0.0, "steepness": 1.0, "checks": (), "draws": result.draws} | changes
        return fit_doubts(prior=prior, samples=result.samples, optimum=result.optimum, **found)

    quiet = ask()
    assert set(quiet) <= set(result.samples.warnings)
    assert any("--segment" in doubt for doubt in ask(gap_fraction=0.1))
    assert any("leaks" in doubt for doubt in ask(steepness=2.0))
    at_end = {**result.draws, "powerlaw.slope": np.full(100, prior.upper_end("powerlaw.slope"))}
    assert any("presses" in doubt for doubt in ask(draws=at_end))


def test_gaps_are_doubted(observation, monkeypatch):
    from eagleray.pipeline import exact

    exposure = np.ones(N_BINS)
    exposure[300:400] = 0.0
    gappy = dataclasses.replace(observation, exposure=exposure, values=np.asarray(observation.values) * exposure)
    assert exact._gap_fraction(gappy, CONFIG) == 0.0
    assert exact._gap_fraction(gappy, CONFIG.model_copy(update={"segment_size": None})) == pytest.approx(100 / N_BINS)


def test_public_name():
    assert er.fit is fit


def test_the_prior_of_a_width_does_not_depend_on_the_rebinning():
    from eagleray.summaries.rebin import rebin_log

    fine = observed_spectrum(red_light_curve(), CONFIG)
    coarse = rebin_log(fine, 0.2)
    lowest = [make_spectral_problem(s, "lorentzian").prior.lower_end("lorentzian.fwhm") for s in (fine, coarse)]
    assert lowest[0] == pytest.approx(1 / 128, rel=0.02)
    assert lowest[1] == pytest.approx(lowest[0], rel=0.02)


def test_a_chain_that_never_moved_is_no_passed_check(result):
    samples = result.samples
    stuck = {name: (np.inf if i == 0 else value) for i, (name, value) in enumerate(samples.rhat.items())}
    assert judge_chains(samples).state == "passed"
    still = {
        name: np.zeros_like(values) if not np.isfinite(stuck[name]) else values
        for name, values in samples.draws.items()
    }
    assert judge_chains(dataclasses.replace(samples, rhat=stuck, draws=still)).state == "failed"
