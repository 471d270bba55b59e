"""What every source simulator must do, asked of each in turn: a new simulator is one line in `CASES`."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from eagleray.records import TimeGrid
from eagleray.simulators import (
    bursts,
    drift,
    emmanoulopoulos,
    lags,
    light_curves,
    lognormal,
    pulsations,
    responses,
    shapes,
    shot_noise,
    state_space,
    timmer_koenig,
)
from eagleray.simulators.spectrum import component

QUICK = {"xla_backend_optimization_level": 0}  # compiling is all the time these tests take
N, DT = 64, 0.125
GRID = TimeGrid(n_bins=N, dt=DT)
IRREGULAR = np.cumsum(np.random.default_rng(1).exponential(0.2, N))
SPLIT = pulsations.grid_times(GRID, 2)
MODEL = component(shapes.bending_power_law, "noise", slope_low=1.0) * component(shapes.constant, "scale") + component(
    shapes.nu_max_lorentzian, "qpo", q=4.0
)


class Case(NamedTuple):
    """A simulator, a point in its parameter space, and which parameters its output is smooth in (default: all)."""

    simulate: Callable[..., Any]
    theta: dict[str, float]
    smooth: tuple[str, ...] | None = None


def frequencies(like: jax.Array, n: int = N) -> jax.Array:
    """Fourier frequencies in the type of the parameters."""
    return jnp.asarray(timmer_koenig.fourier_frequencies(n, DT), like.dtype)


def model_power(theta: dict[str, jax.Array], n: int = N) -> jax.Array:
    """The composed spectrum."""
    return MODEL(frequencies(theta["qpo.rms"], n), theta)


def bend(theta: dict[str, jax.Array], n: int = N) -> jax.Array:
    """A bending power law."""
    return shapes.bending_power_law(
        frequencies(theta["slope"], n),
        slope_low=jnp.ones_like(theta["slope"]),
        slope_high=theta["slope"],
        bend_freq=theta["bend"],
    )


def emmanoulopoulos_curve(key, theta, exact="distribution"):
    """Log-normal values with a bending spectrum."""
    one = jnp.ones_like(theta["sigma"])[None]
    quantile = emmanoulopoulos.log_normal_mixture_quantile(one, one * theta["median"], one * theta["sigma"])
    return emmanoulopoulos.emmanoulopoulos(key, bend(theta), quantile, N, DT, n_iterations=8, exact=exact)


def carma_curve(key, theta):
    """CARMA(3, 1)."""
    return state_space.carma(
        key,
        jnp.asarray(IRREGULAR, theta["sigma"].dtype),
        sigma=theta["sigma"],
        decay_rates=theta["rate"][None],
        widths=theta["width"][None],
        freqs=theta["freq"][None],
        moving_average=theta["beta"][None],
    )


def oscillator_curve(key, theta):
    """Damped oscillator on irregular times."""
    return state_space.damped_oscillator(key, jnp.asarray(IRREGULAR, theta["sigma"].dtype), **theta)


def random_walk_curve(key, theta):
    """Damped random walk on irregular times."""
    return state_space.damped_random_walk(key, jnp.asarray(IRREGULAR, theta["sigma"].dtype), **theta)


def burst_curve(key, theta):
    """FRED with noise and a wave packet."""
    times = jnp.asarray(GRID.times, theta["start"].dtype)
    envelope = bursts.fred_envelope(
        times, start=theta["start"], peak_delay=theta["delay"], sharpness=theta["sharpness"]
    )
    packet = bursts.wave_packet(
        times,
        freq=theta["freq"],
        amplitude=theta["amplitude"],
        phase=theta["phase"],
        centre=theta["centre"],
        duration=theta["duration"],
    )
    power = 0.05 * shapes.power_law(frequencies(theta["start"]), slope=theta["slope"])
    return bursts.burst_rate(
        key, envelope, power, peak_rate=theta["peak"], background=theta["background"], dt=DT, oscillation=packet
    )


def pulsar_curve(key, theta):
    """Pulsar in an eccentric binary, with a random phase."""
    delay = pulsations.roemer_delay(
        SPLIT,
        orbital_freq=theta["orbit"],
        size=theta["size"],
        periastron_phase=theta["anomaly"],
        eccentricity=theta["eccentricity"],
        periastron=theta["periastron"],
    )
    return pulsations.pulsed_rate(
        jnp.stack([theta["freq"], theta["derivative"]]),
        SPLIT,
        mean_rate=theta["rate"],
        phase=jax.random.uniform(key, (), theta["rate"].dtype),
        amplitudes=jnp.stack([theta["first"], theta["second"]]),
        phases=jnp.stack([theta["angle"], 2.0 * theta["angle"]]),
        delay=delay,
    )


def drifting_curve(key, theta):
    """QPO whose frequency and strength drift."""
    return drift.drifting_qpo(
        key,
        drift.linear_path(theta["start"], theta["end"], N),
        drift.log_linear_path(theta["rms"], 2.0 * theta["rms"], N),
        fwhm=theta["fwhm"],
        dt=DT,
    )


def evolving_curve(key, theta):
    """Spectrum that evolves between three."""
    freq = frequencies(theta["slope"])
    slopes = drift.linear_path(theta["slope"], theta["end"], 3)
    powers = jax.vmap(lambda slope: shapes.power_law(freq, slope=slope))(slopes)
    return drift.evolving_process(key, powers, drift.interpolation_weights(3, N, freq.dtype), DT)


def wandering_ensemble(key, theta):
    """Five light curves whose rms wanders."""
    key_path, key_curves = jax.random.split(key)
    path = drift.wandering_path(key_path, theta["start"], theta["step"], 5)

    def simulate(key, parameters):
        return parameters["rms"] * timmer_koenig.gaussian_process(key, jnp.ones(N // 2, path.dtype), N, DT)

    return drift.drifting_ensemble(key_curves, simulate, {"rms": path})


def lagged_curves(key, theta):
    """Two bands, partly coherent, with a time lag."""
    freq = frequencies(theta["slope"])
    power = shapes.power_law(freq, slope=theta["slope"])
    return lags.lagged_pair(
        key,
        power,
        theta["ratio"] * power,
        coherence=theta["coherence"] + jnp.zeros_like(freq),
        lag=lags.phase_lag(theta["lag"] + jnp.zeros_like(freq), freq),
        n=N,
        dt=DT,
    )


def driven_curves(key, theta):
    """Three bands with one driver, one of them fully coherent."""
    freq = frequencies(theta["slope"])
    power = shapes.power_law(freq, slope=theta["slope"])
    level = jnp.stack([jnp.ones_like(theta["coherence"]), theta["coherence"], 0.5 * theta["coherence"]])
    phase = jnp.stack([jnp.zeros_like(theta["lag"]), theta["lag"], -theta["lag"]])
    matrix = lags.driven_matrix(
        jnp.stack([power, 2.0 * power, 3.0 * power]),
        level[:, None] * jnp.ones_like(power)[None],
        phase[:, None] * jnp.ones_like(power)[None],
    )
    return lags.correlated_processes(key, matrix, N, DT)


def reverberating_curve(key, theta):
    """Red noise seen through the disc's thermal response."""
    response = responses.with_direct(
        responses.thermal_response(
            inner_delay=theta["inner"],
            outer_delay=theta["outer"],
            sin_inclination=theta["inclination"],
            energy_ratio=theta["energy"],
            intensity=theta["intensity"],
            n=24,
            dt=DT,
            n_rings=32,
        )
    )
    driver = timmer_koenig.gaussian_process(
        key, shapes.power_law(frequencies(theta["slope"]), slope=theta["slope"]), N, DT
    )
    return responses.convolve(driver, response, "filtered")


def relativistic_curve(key, theta):
    """Red noise seen through Stingray's relativistic response."""
    response = responses.relativistic_response(dt=DT, t1=0.5, t2=0.75, t3=2.0, **theta)
    driver = timmer_koenig.gaussian_process(key, jnp.ones(N // 2, response.dtype), N, DT)
    return responses.convolve(driver, response)


def shots(shape, **extra):
    """Shot noise of one shape."""

    def simulate(key, theta):
        return shot_noise.shot_noise(key, grid=GRID, shape=shape, n_shots=64, before=1.0, **extra, **theta)

    return simulate


def light_curve(normalisation, n_long):
    """Timmer & Koenig with a mean and an rms."""

    def simulate(key, theta):
        return light_curves.timmer_koenig_light_curve(
            key,
            bend(theta, n_long),
            mean=theta["mean"],
            rms=theta["rms"],
            n_bins=N,
            n_long=n_long,
            dt=DT,
            normalisation=normalisation,
        )

    return simulate


def stingray_curve(red_noise):
    """Stingray's recipe."""

    def simulate(key, theta):
        return light_curves.stingray_light_curve(
            key, bend(theta, N * red_noise), mean=theta["mean"], rms=theta["rms"], n_bins=N, red_noise=red_noise
        )

    return simulate


SPECTRUM = {"noise.slope_high": 2.5, "noise.bend_freq": 0.5, "scale.level": 0.03, "qpo.nu_max": 1.0, "qpo.rms": 0.2}
BEND = {"slope": 2.2, "bend": 0.6}
SHOTS = {"shot_rate": 3.0, "width": 0.4, "area": 5.0, "area_scatter": 0.3}

CASES = {
    "gaussian_process": Case(
        lambda key, theta: timmer_koenig.gaussian_process(key, model_power(theta), N, DT), SPECTRUM
    ),
    "log_normal_rate": Case(
        lambda key, theta: lognormal.log_normal_rate(key, model_power(theta), jnp.exp(theta["log_mean"]), N, DT),
        SPECTRUM | {"log_mean": 2.0},
    ),
    "realised": Case(light_curve("realised", N), BEND | {"mean": 100.0, "rms": 0.2}),
    "process": Case(light_curve("process", 2 * N), BEND | {"mean": 100.0, "rms": 0.2}),
    "stingray": Case(stingray_curve(3), BEND | {"mean": 100.0, "rms": 0.2}),
    "emmanoulopoulos": Case(emmanoulopoulos_curve, BEND | {"median": 1.0, "sigma": 0.7}),
    "emmanoulopoulos_spectrum": Case(
        lambda key, theta: emmanoulopoulos_curve(key, theta, "spectrum"), BEND | {"median": 1.0, "sigma": 0.7}
    ),
    "shots_exponential": Case(shots("exponential"), SHOTS),
    "shots_gaussian": Case(shots("gaussian", after=1.0), SHOTS),
    "damped_random_walk": Case(random_walk_curve, {"sigma": 2.0, "tau": 1.5}),
    "oscillator": Case(oscillator_curve, {"sigma": 2.0, "freq": 0.4, "quality": 3.0}),
    "oscillator_critical": Case(oscillator_curve, {"sigma": 2.0, "freq": 0.4, "quality": 0.5}),
    "carma": Case(carma_curve, {"sigma": 2.0, "rate": 0.7, "width": 0.1, "freq": 0.5, "beta": 0.3}),
    "burst": Case(
        burst_curve,
        {
            "start": 0.7,
            "delay": 1.2,
            "sharpness": 1.5,
            "freq": 1.1,
            "amplitude": 0.4,
            "phase": 0.3,
            "centre": 3.0,
            "duration": 1.0,
            "slope": 1.0,
            "peak": 300.0,
            "background": 20.0,
        },
    ),
    "pulsar": Case(
        pulsar_curve,
        {
            "freq": 1.3,
            "derivative": 0.01,
            "rate": 50.0,
            "first": 0.4,
            "second": 0.2,
            "angle": 0.1,
            "orbit": 0.1,
            "size": 0.1,
            "anomaly": 0.2,
            "eccentricity": 0.3,
            "periastron": 1.0,
        },
    ),
    "drifting_qpo": Case(drifting_curve, {"start": 0.5, "end": 1.5, "rms": 0.2, "fwhm": 0.1}),
    "evolving": Case(evolving_curve, {"slope": 1.0, "end": 2.0}),
    "ensemble": Case(wandering_ensemble, {"start": 0.2, "step": 0.1}),
    "lagged_pair": Case(lagged_curves, {"slope": 1.5, "ratio": 2.0, "coherence": 0.7, "lag": 0.3}),
    "driven_bands": Case(driven_curves, {"slope": 1.5, "coherence": 0.7, "lag": 0.3}),
    "thermal": Case(
        reverberating_curve,
        {"slope": 1.5, "inner": 0.1, "outer": 1.0, "inclination": 0.6, "energy": 2.0, "intensity": 0.5},
        smooth=("slope", "energy", "intensity"),  # a ring's share of a bin has a root's kink at each end
    ),
    "relativistic": Case(relativistic_curve, {"p1": 1.0, "p2": 1.4, "rise": 0.6, "decay": 0.1}),
}


@pytest.fixture(autouse=True)
def _strict() -> Iterator[None]:
    """No silent broadcasting of ranks, no mixing of types, no key used twice."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.numpy_rank_promotion("raise"))
        stack.enter_context(jax.numpy_dtype_promotion("strict"))
        stack.enter_context(jax.debug_key_reuse(True))
        yield


@pytest.fixture(params=sorted(CASES))
def case(request) -> Case:
    """Each simulator in turn."""
    return CASES[request.param]


def parameters(case: Case) -> dict[str, jax.Array]:
    """The point of a case, in the default type."""
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in case.theta.items()}


def floats(tree: Any) -> list[jax.Array]:
    """Floating-point leaves."""
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def close(left: Any, right: Any) -> None:
    """Equal to rounding, on the scale of each leaf."""
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-4 * max(np.abs(b).max(), 1e-30))


def test_draws(case):
    """Shapes known beforehand; float32; finite; vmap as a loop; same key, same draw; one trace."""
    theta = parameters(case)
    n_traces = 0

    def simulate(key, theta):
        nonlocal n_traces
        n_traces += 1
        return case.simulate(key, theta)

    expected = jax.eval_shape(case.simulate, jax.random.key(3), theta)
    jitted = jax.jit(simulate)
    first, again, other = (jitted(jax.random.key(seed), theta) for seed in (3, 3, 4))
    assert n_traces == 1
    assert [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(expected)] == [
        (leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(first)
    ]
    assert all(leaf.dtype == jnp.float32 and bool(jnp.isfinite(leaf).all()) for leaf in floats(first))
    for a, b, c in zip(floats(first), floats(again), floats(other), strict=True):
        assert bool((a == b).all())
        assert not bool((a == c).all())
    keys = jax.vmap(jax.random.key)(jnp.arange(3, 5))
    batch = jax.jit(jax.vmap(case.simulate, (0, None)), compiler_options=QUICK)(keys, theta)
    for i, single in enumerate((first, other)):
        close(jax.tree.map(lambda leaf, i=i: leaf[i], batch), single)


@pytest.mark.slow
def test_eager_draws(case):
    """Jit as eager, where each operation is compiled by itself."""
    theta = parameters(case)
    eager = case.simulate(jax.random.key(3), theta)
    close(eager, jax.jit(case.simulate)(jax.random.key(3), theta))


def test_gradient(case):
    """Derivatives by the parameters are finite, and those of finite differences (float64)."""
    with jax.enable_x64(True):
        theta = parameters(case)
        leaves = floats(jax.eval_shape(case.simulate, jax.random.key(6), theta))
        weights = [np.cos(1.0 + np.arange(leaf.size)).reshape(leaf.shape) for leaf in leaves]

        def total(theta, key):
            pairs = zip(floats(case.simulate(key, theta)), weights, strict=True)
            return sum(jnp.sum(leaf * weight) for leaf, weight in pairs)

        value_and_gradient = jax.jit(jax.value_and_grad(total), compiler_options=QUICK)
        value, gradient = value_and_gradient(theta, jax.random.key(6))
        assert all(bool(jnp.isfinite(slope)) for slope in gradient.values())
        scale = abs(float(value)) + sum(abs(float(slope)) for slope in gradient.values())
        for name in case.smooth or tuple(theta):
            step = 1e-5 * max(abs(case.theta[name]), 0.1)
            moved = (theta | {name: theta[name] + sign * step} for sign in (1.0, -1.0))
            up, down = (float(value_and_gradient(point, jax.random.key(6))[0]) for point in moved)
            difference = (up - down) / (2.0 * step)
            assert float(gradient[name]) == pytest.approx(difference, rel=2e-4, abs=1e-6 * scale), name
