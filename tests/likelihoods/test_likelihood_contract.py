"""What every likelihood must do, asked of each in turn: a new likelihood is one entry of `CASES`."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sbc
from jax import lax
from scipy import special, stats

from eagleray.likelihoods.cospectra import averaged_cospectra, averaged_cospectra_with_signal
from eagleray.likelihoods.dead_time_spectrum import dead_time_periodogram
from eagleray.likelihoods.gaussian import gaussian, laplace
from eagleray.likelihoods.poisson import poisson
from eagleray.likelihoods.whittle import averaged_powers, whittle
from eagleray.likelihoods.wishart import SpectralMatrix, fourier_amplitudes, spectral_matrix, wishart
from eagleray.priors import Prior
from eagleray.records import TimeGrid
from eagleray.simulators.observe import dead_time, events
from eagleray.simulators.observe.poisson import poisson as observe_poisson
from eagleray.summaries.spectra import positive_frequencies, power_spectrum

QUICK = {"xla_backend_optimization_level": 0}  # compiling is all the time these tests take
Theta = Mapping[str, Any]


class Case(NamedTuple):
    """A likelihood and what it is held against.

    Attributes:
        log_likelihood: (theta, data) -> ln p.
        simulate: (key, theta) -> data, an array or a pytree of arrays.
        prior: Priors under which it must be calibrated.
        theta: A point where values and gradients are compared.
        reference: The same number, by SciPy or dense algebra, from float64 NumPy arrays and floats.
        wrong: (theta, data) -> another likelihood, a mistake to be made, that must not be calibrated.
    """

    log_likelihood: Callable[[Theta, Any], jax.Array]
    simulate: Callable[[jax.Array, Theta], Any]
    prior: dict[str, str]
    theta: dict[str, float]
    reference: Callable[[Theta, Any], float]
    wrong: Callable[[Theta, Any], jax.Array]


# --- power spectra

N_FREQ = 24
M = np.array([1] * 6 + [2] * 4 + [3] * 4 + [5] * 3 + [12] * 3 + [40] * 2 + [300] * 2)
LOG_FREQ = np.linspace(0.0, 3.0, N_FREQ)
SPECTRUM_PRIOR = {"log_level": "uniform(-1, 3)", "slope": "uniform(0, 3)"}
SPECTRUM = {"log_level": 1.0, "slope": 1.4}


def red(theta: Theta) -> Any:
    """A power law on a white level."""
    log_freq = jnp.asarray(LOG_FREQ, jnp.result_type(theta["slope"]))
    return jnp.exp(theta["log_level"] - theta["slope"] * log_freq) + 0.2


def averaged(key, theta, m):
    """Averages of m exponential powers about the red spectrum."""
    model = red(theta)
    m = jnp.asarray(np.broadcast_to(m, model.shape), model.dtype)
    return model * jax.random.gamma(key, m, dtype=model.dtype) / m


def gamma_reference(theta, power, m):
    return stats.gamma(a=m, scale=np.asarray(red(theta)) / m).logpdf(power).sum()


# --- values with errors

TIMES = np.linspace(-1.0, 1.0, 30)
LINE_PRIOR = {"mean": "uniform(-2, 2)", "slope": "uniform(-2, 2)", "scale": "loguniform(0.1, 10)"}
LINE = {"mean": 0.3, "slope": 1.1, "scale": 0.7}


def line(theta: Theta) -> Any:
    return theta["mean"] + theta["slope"] * jnp.asarray(TIMES, jnp.result_type(theta["mean"]))


def rate(theta: Theta) -> Any:
    """Few counts, some bins with many, some with none expected."""
    times = jnp.asarray(TIMES, jnp.result_type(theta["log_rate"]))
    exposure = jnp.where(jnp.arange(TIMES.size) % 7 == 3, 0.0, jnp.where(times > 0.8, 40.0, 1.0))
    return exposure * jnp.exp(theta["log_rate"] + theta["trend"] * times)


def poisson_as_gaussian(theta, counts):
    """The chi-squared of counts with errors from the counts."""
    return gaussian(counts, rate(theta), jnp.sqrt(jnp.maximum(counts, 1.0)), mask=rate(theta) > 0)


# --- two bands

BANDS_PRIOR = {"log_signal": "uniform(0, 3)", "coherence": "uniform(0.05, 0.95)", "lag": "uniform(-1, 1)"}
BANDS = {"log_signal": 1.5, "coherence": 0.7, "lag": 0.4}
COSPECTRUM_PRIOR = {"log_signal": "uniform(0, 3)", "coherence": "uniform(0.05, 0.95)"}
BANDS_M = np.array([2, 2, 3, 4, 6, 10, 16, 17, 40, 200])


def bands(theta: Theta) -> SpectralMatrix:
    """Red signals in two bands, partly coherent, on noise."""
    one = jnp.ones_like(theta["log_signal"])
    signal = jnp.exp(theta["log_signal"] - jnp.linspace(0.0, 2.0, BANDS_M.size, dtype=one.dtype))
    lag = theta["lag"] if "lag" in theta else 0.0 * one
    return spectral_matrix(signal, 0.6 * signal, theta["coherence"], lag, 2.0 * one, 1.5 * one)


def amplitudes(key: jax.Array, theta: Theta, shape: tuple[int, ...] = ()) -> tuple[jax.Array, jax.Array]:
    """Fourier amplitudes of both bands, (*shape, n_freq)."""
    model = bands(theta)
    normals = jax.random.normal(key, (2, 2, *shape, BANDS_M.size), model.power1.dtype) * np.sqrt(0.5).item()
    first = lax.complex(normals[0, 0], normals[0, 1]) * jnp.sqrt(model.power1)
    gain = model.cross / model.power1
    rest = model.power2 - jnp.abs(model.cross) ** 2 / model.power1
    return first, gain * first + lax.complex(normals[1, 0], normals[1, 1]) * jnp.sqrt(rest)


def averaged_matrix(key: jax.Array, theta: Theta) -> SpectralMatrix:
    """Means of `BANDS_M` spectral matrices."""
    first, second = amplitudes(key, theta, (int(BANDS_M.max()),))
    weight = jnp.asarray((np.arange(BANDS_M.max())[:, None] < BANDS_M) / BANDS_M, first.real.dtype)
    mean = lambda x: (weight * x).sum(axis=0)  # noqa: E731
    cross = jnp.conj(first) * second
    return SpectralMatrix(
        mean(jnp.abs(first) ** 2), mean(jnp.abs(second) ** 2), lax.complex(mean(cross.real), mean(cross.imag))
    )


def dense(matrix: SpectralMatrix) -> np.ndarray:
    """(n_freq, 2, 2) Hermitian matrices of E[conj(F_i) F_j]."""
    one, two, cross = (np.asarray(part) for part in matrix)
    return np.moveaxis(np.array([[one, cross], [np.conj(cross), two]]), -1, 0)


def wishart_reference(theta, observed):
    """The textbook density of m S, and the Jacobian m^4 to S."""
    total = 0.0
    for s, sigma, m in zip(dense(observed), dense(bands(theta)), BANDS_M, strict=True):
        w = m * s
        log_gamma = np.log(np.pi) + special.gammaln(m) + special.gammaln(m - 1)
        total += (m - 2) * np.linalg.slogdet(w)[1] - np.trace(np.linalg.solve(sigma, w)).real
        total += -m * np.linalg.slogdet(sigma)[1] - log_gamma + 4 * np.log(m)
    return total


def amplitudes_reference(theta, observed):
    """Real 4 x 4 normal distributions."""
    total = 0.0
    for f1, f2, sigma in zip(*observed, dense(bands(theta)), strict=True):
        covariance = 0.5 * np.kron(sigma.real, np.eye(2)) + 0.5 * np.kron(sigma.imag, np.array([[0, 1], [-1, 0]]))
        total += stats.multivariate_normal(np.zeros(4), covariance).logpdf([f1.real, f1.imag, f2.real, f2.imag])
    return total


def raw_coherence(theta):
    """The coherence of the signals taken for that of signals and noise."""
    model = bands(theta)
    size = jnp.sqrt(theta["coherence"] * model.power1 * model.power2)
    return model._replace(cross=lax.complex(size * jnp.cos(theta["lag"]), size * jnp.sin(theta["lag"])))


def cospectrum_reference(theta, cospectrum):
    """Numerical inverse of the characteristic function of (a X - b Y) / m, a and b the eigenvalues of the form."""
    form = np.array([[0.0, 0.5], [0.5, 0.0]])
    total = 0.0
    for c, sigma, m in zip(cospectrum, dense(bands(theta)), BANDS_M, strict=True):
        a, b = np.sort(np.linalg.eigvals(sigma @ form).real)
        t = np.linspace(-1.0, 1.0, 200_001) * 2000.0 / np.sqrt(-a * b)
        log_characteristic = -m * (np.log(1 - 1j * t * a / m) + np.log(1 - 1j * t * b / m))
        with np.errstate(under="ignore"):
            total += np.log(np.trapezoid(np.exp(log_characteristic - 1j * t * c).real, t) / (2 * np.pi))
    return total


def stingray_laplace(theta, cospectrum):
    """What Stingray fits to cospectra: a Laplace distribution about the model, its scale from the powers."""
    model = bands(theta)
    scale = jnp.sqrt(model.power1 * model.power2) / jnp.asarray(2.0 * np.sqrt(BANDS_M), model.power1.dtype)
    return laplace(cospectrum, model.cross.real, scale)


def noise_cospectrum(key, theta):
    """Two bands without a common signal."""
    level, m = jnp.exp(theta["log_noise"]), int(BANDS_M.max())
    plus, minus = jax.random.exponential(key, (2, m, BANDS_M.size), level.dtype)
    weight = jnp.asarray((np.arange(m)[:, None] < BANDS_M) / BANDS_M, level.dtype)
    return 0.5 * level * (weight * (plus - minus)).sum(axis=0)


def noise_cospectrum_reference(theta, cospectrum):
    """The same density through SciPy's exponentially scaled Bessel function, for m up to 40, and a sum above."""
    total = 0.0
    for c, m in zip(cospectrum, BANDS_M, strict=True):
        y = 2 * m * abs(c) / np.exp(theta["log_noise"])
        j = np.arange(m)
        log_terms = stats.nbinom.logpmf(j, m, 0.5) + stats.gamma(m - j).logpdf(y)
        total += special.logsumexp(log_terms) + np.log(2 * m / np.exp(theta["log_noise"]))
    return total


# --- dead time

GRID = TimeGrid(n_bins=64, dt=1e-3)
N_SEGMENTS, N_ALIASES = 24, 4
FREQ = positive_frequencies(GRID.n_bins, GRID.dt)


def dead_time_model(theta, paralyzable=False):
    rate, grid = jnp.exp(theta["log_rate"]), GRID
    return dead_time_periodogram(
        rate, theta["dead_time"], grid.n_bins, grid.dt, n_aliases=N_ALIASES, paralyzable=paralyzable
    )


def dead_time_powers(key, theta):
    """Averaged powers of events that went through a detector."""
    n = events.event_capacity(N_SEGMENTS * GRID.duration * 3000.0)
    times = jnp.cumsum(jax.random.exponential(key, (n,), theta["log_rate"].dtype)) / jnp.exp(theta["log_rate"])
    recorded = dead_time.non_paralyzable_mask(times, theta["dead_time"])
    long = TimeGrid(n_bins=N_SEGMENTS * GRID.n_bins, dt=GRID.dt)
    counts = jnp.zeros(long.n_bins, times.dtype).at[events.bin_index(times, long)].add(recorded, mode="drop")
    segments = counts.reshape(N_SEGMENTS, GRID.n_bins)
    power = jax.vmap(lambda x: power_spectrum(x, GRID.dt, norm="none"))(segments).mean(axis=0)
    return 2.0 * power * N_SEGMENTS / counts.sum()


def dead_time_reference(theta, power):
    """The characteristic function of the intervals, as it stands, and Fejer's kernel as a sum."""
    k = np.arange(-N_ALIASES, N_ALIASES + 1)[:, None]
    fine = (np.arange(-GRID.n_bins, GRID.n_bins) + 1e-9) / (2 * GRID.duration)
    s = 2j * np.pi * (fine + k / GRID.dt)
    phi = np.exp(-s * theta["dead_time"]) / (1 + s / np.exp(theta["log_rate"]))
    unbinned = 2 * ((1 + phi) / (1 - phi)).real
    excess = (np.sinc(fine * GRID.dt + k) ** 2 * (unbinned - 2)).sum(axis=0)
    lags = np.arange(GRID.n_bins)
    weight = np.where(lags == 0, 1.0, 2.0) * (1 - lags / GRID.n_bins)
    covariance = np.cos(2 * np.pi * np.outer(lags, fine) * GRID.dt) @ excess / fine.size
    model = 2 + (weight * covariance) @ np.cos(2 * np.pi * np.outer(lags, FREQ) * GRID.dt)
    return stats.gamma(a=N_SEGMENTS, scale=model / N_SEGMENTS).logpdf(power).sum()


CASES = {
    "whittle": Case(
        log_likelihood=lambda theta, power: whittle(power, red(theta)),
        simulate=lambda key, theta: averaged(key, theta, 1),
        prior=SPECTRUM_PRIOR,
        theta=SPECTRUM,
        reference=lambda theta, power: gamma_reference(theta, power, 1),
        wrong=lambda theta, power: 2.0 * whittle(power, red(theta)),
    ),
    "averaged_powers": Case(
        log_likelihood=lambda theta, power: averaged_powers(power, red(theta), M),
        simulate=lambda key, theta: averaged(key, theta, M),
        prior=SPECTRUM_PRIOR,
        theta=SPECTRUM,
        reference=lambda theta, power: gamma_reference(theta, power, M),
        wrong=lambda theta, power: averaged_powers(power, red(theta), M, stingray_compat=True),
    ),
    "gaussian": Case(
        log_likelihood=lambda theta, x: gaussian(x, line(theta), theta["scale"]),
        simulate=lambda key, theta: line(theta) + theta["scale"] * jax.random.normal(key, TIMES.shape),
        prior=LINE_PRIOR,
        theta=LINE,
        reference=lambda theta, x: stats.norm(np.asarray(line(theta)), theta["scale"]).logpdf(x).sum(),
        wrong=lambda theta, x: -0.5 * (((x - line(theta)) / theta["scale"]) ** 2).sum(),  # chi-squared alone
    ),
    "laplace": Case(
        log_likelihood=lambda theta, x: laplace(x, line(theta), theta["scale"]),
        simulate=lambda key, theta: line(theta) + theta["scale"] * jax.random.laplace(key, TIMES.shape),
        prior=LINE_PRIOR,
        theta=LINE,
        reference=lambda theta, x: stats.laplace(np.asarray(line(theta)), theta["scale"]).logpdf(x).sum(),
        wrong=lambda theta, x: gaussian(x, line(theta), theta["scale"]),
    ),
    "poisson": Case(
        log_likelihood=lambda theta, counts: poisson(counts, rate(theta)),
        simulate=lambda key, theta: observe_poisson(key, rate(theta)),
        prior={"log_rate": "uniform(-1, 2)", "trend": "uniform(-2, 2)"},
        theta={"log_rate": 1.0, "trend": 0.7},
        reference=lambda theta, counts: stats.poisson(np.asarray(rate(theta))).logpmf(counts).sum(),
        wrong=poisson_as_gaussian,
    ),
    "averaged_cospectra": Case(
        log_likelihood=lambda theta, c: averaged_cospectra(c, jnp.exp(theta["log_noise"]), BANDS_M),
        simulate=noise_cospectrum,
        prior={"log_noise": "uniform(0, 3)"},
        theta={"log_noise": 0.7},
        reference=noise_cospectrum_reference,
        wrong=lambda theta, c: averaged_cospectra(c, jnp.exp(theta["log_noise"]), 1),
    ),
    "averaged_cospectra_with_signal": Case(
        log_likelihood=lambda theta, c: averaged_cospectra_with_signal(c, *bands(theta), BANDS_M),
        simulate=lambda key, theta: averaged_matrix(key, theta).cross.real,
        prior=COSPECTRUM_PRIOR,
        theta={"log_signal": 1.5, "coherence": 0.7},
        reference=cospectrum_reference,
        wrong=stingray_laplace,
    ),
    "wishart": Case(
        log_likelihood=lambda theta, observed: wishart(observed, bands(theta), BANDS_M),
        simulate=averaged_matrix,
        prior=BANDS_PRIOR,
        theta=BANDS,
        reference=wishart_reference,
        wrong=lambda theta, observed: wishart(observed, raw_coherence(theta), BANDS_M),
    ),
    "fourier_amplitudes": Case(
        log_likelihood=lambda theta, f: fourier_amplitudes(*f, bands(theta)),
        simulate=amplitudes,
        prior=BANDS_PRIOR,
        theta=BANDS,
        reference=amplitudes_reference,
        wrong=lambda theta, f: fourier_amplitudes(jnp.conj(f[0]), jnp.conj(f[1]), bands(theta)),  # the other sign
    ),
    "dead_time_periodogram": Case(
        log_likelihood=lambda theta, power: averaged_powers(power, dead_time_model(theta), N_SEGMENTS),
        simulate=dead_time_powers,
        prior={"log_rate": "uniform(6, 7.5)", "dead_time": "uniform(0.002, 0.003)"},
        theta={"log_rate": 6.9, "dead_time": 0.0025},
        reference=dead_time_reference,
        wrong=lambda theta, power: averaged_powers(power, dead_time_model(theta, paralyzable=True), N_SEGMENTS),
    ),
}


@pytest.fixture(params=sorted(CASES))
def case(request) -> Case:
    """Each likelihood in turn."""
    return CASES[request.param]


@contextlib.contextmanager
def strict() -> Iterator[None]:
    """No silent broadcasting of ranks, no mixing of types."""
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        yield


def parameters(case: Case) -> dict[str, jax.Array]:
    """The point of a case, in the default type."""
    return {name: jnp.asarray(value, jnp.result_type(float)) for name, value in case.theta.items()}


def drawn(case: Case) -> Any:
    """Data in float64, held by NumPy."""
    with jax.enable_x64(True):
        data = jax.jit(case.simulate, compiler_options=QUICK)(jax.random.key(8), parameters(case))
        return jax.tree.map(np.asarray, data)


def given(data: Any) -> Any:
    """Data in the default type, with its precision."""
    return jax.tree.map(jnp.asarray, data)


def test_value_gradient_and_transforms(case):
    """Value as the reference; gradient as finite differences; float32 as float64; vmap as a loop."""
    data = drawn(case)
    with jax.enable_x64(True), strict():
        exact = jax.jit(jax.value_and_grad(case.log_likelihood), compiler_options=QUICK)
        theta = parameters(case)
        points = [theta, {name: 1.02 * x for name, x in theta.items()}]
        expected = [exact(point, given(data)) for point in points]
        value, gradient = expected[0]
        assert (value.shape, value.dtype) == ((), jnp.float64)
        assert float(value) == pytest.approx(case.reference(case.theta, data), rel=1e-9)
        for name in theta:
            step = 1e-5 * abs(case.theta[name])
            up, down = (exact(theta | {name: theta[name] + sign * step}, given(data))[0] for sign in (1.0, -1.0))
            assert float(gradient[name]) == pytest.approx(float(up - down) / (2 * step), rel=1e-6, abs=1e-5), name
    n_traces = 0

    def traced(theta, data):
        nonlocal n_traces
        n_traces += 1
        return jax.value_and_grad(case.log_likelihood)(theta, data)

    batched = jax.jit(jax.vmap(traced, (0, None)), compiler_options=QUICK)
    theta = parameters(case)
    thetas = {name: jnp.stack([x, 1.02 * x]) for name, x in theta.items()}
    with strict():
        values, gradients = batched(thetas, given(data))
        batched(jax.tree.map(jnp.flip, thetas), given(data))
    assert n_traces == 1
    assert values.dtype == jnp.float32
    for i, (value, gradient) in enumerate(expected):
        assert float(values[i]) == pytest.approx(float(value), rel=1e-5, abs=1e-4)
        for name in theta:
            scale = abs(float(value) / case.theta[name])
            assert float(gradients[name][i]) == pytest.approx(float(gradient[name]), rel=1e-4, abs=1e-5 * scale), name


@pytest.mark.slow  # op by op, everything is compiled once more
def test_jit_is_eager(case):
    theta, data = parameters(case), given(drawn(case))
    with strict():
        eager = float(case.log_likelihood(theta, data))
    assert eager == pytest.approx(float(jax.jit(case.log_likelihood)(theta, data)), rel=1e-5, abs=1e-4)


@pytest.mark.slow
def test_posteriors_are_calibrated(case):
    sbc.assert_uniform(sbc.ranks(jax.random.key(11), Prior(case.prior), case.simulate, case.log_likelihood))


@pytest.mark.slow
def test_a_wrong_likelihood_is_not_calibrated(case):
    sbc.assert_not_uniform(
        sbc.ranks(jax.random.key(11), Prior(case.prior), case.simulate, case.wrong, n_simulations=1200)
    )


@pytest.mark.slow
def test_averaged_powers_are_calibrated_and_twice_their_logarithm_is_not():
    """The level's posterior on a grid, for 400 data sets; the twin is Stingray's factor 2."""
    case, grid = CASES["averaged_powers"], jnp.linspace(-1.0, 3.0, 500)

    def probability_below_truth(key):
        key_level, key_data = jax.random.split(key)
        level = jax.random.uniform(key_level, minval=-1.0, maxval=3.0)
        data = case.simulate(key_data, {"log_level": level, "slope": jnp.float32(1.4)})

        def below(log_likelihood):
            heights = jax.vmap(lambda x: log_likelihood({"log_level": x, "slope": jnp.float32(1.4)}, data))(grid)
            return (jax.nn.softmax(heights) * (grid < level)).sum()

        return jnp.stack([below(case.log_likelihood), below(case.wrong)])

    keys = jax.random.split(jax.random.key(12), 400)
    right, twice = np.asarray(jax.jit(lambda k: jax.lax.map(probability_below_truth, k, batch_size=50))(keys)).T
    sbc.assert_uniform(np.floor(20 * right[:, None]).clip(0, 19))
    sbc.assert_not_uniform(np.floor(20 * twice[:, None]).clip(0, 19))
