"""The ten tasks of sbibm 1.1.0 as formulas in JAX, and the reader of its observations and reference posteriors.

sbibm itself need not be importable: only its files are read, from the installed package or from a folder. What it
keeps as pickles (stimulus, noise, permutation) is made anew from the seeds it was made from.

References:
    Lueckmann et al. (2021), arXiv:2101.04653, appendix T; https://github.com/sbi-benchmark/sbibm (MIT licence).
"""

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import stats
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.priors import Prior
from eagleray.records import Key, Theta

Simulate = Callable[[Key, Theta], Float[Array, " n_features"]]
LogLikelihood = Callable[[Theta, Float[Array, " n_features"]], Float[Array, ""]]
Parameters = Callable[[Mapping[str, NDArray[np.floating]]], NDArray[np.floating]]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Observation:
    """One of a task's observations.

    Attributes:
        x_obs: (n_features,) what was observed.
        theta_true: (d,) sbibm's parameters it was simulated from.
        reference: (n, d) draws from its exact posterior.
        seed: sbibm's seed of the simulation.
    """

    x_obs: NDArray[np.floating]
    theta_true: NDArray[np.floating]
    reference: NDArray[np.floating]
    seed: int


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class BenchmarkTask:
    """A prior, a simulator with its exact likelihood, and observations with exact posteriors.

    Attributes:
        name: One of `TASKS`.
        prior: Independent named priors.
        simulate: One draw (key, theta) -> x, shape (n_features,).
        log_likelihood: ln p(x | theta), normalised; of the informative numbers alone where there are distractors.
        parameters: Draws by name, each (n,) -> sbibm's parameters, (n, d), in which posteriors are compared.
        n_trials: x is that many independent blocks of equal size, alike given theta.
        discrete: Whether every entry of x is a whole number.
        observations: As many as the references hold; sbibm has ten.
    """

    name: str
    prior: Prior
    simulate: Simulate
    log_likelihood: LogLikelihood | None
    parameters: Parameters
    n_trials: int = 1
    discrete: bool = False
    observations: tuple[Observation, ...] = ()


def make_task(name: str, references_folder: str | Path | None = None) -> BenchmarkTask:
    """One task with its observations and reference posteriors.

    Args:
        name: One of `TASKS`.
        references_folder: Where `load_references` looks.

    Raises:
        InputError: If there is no such task, or no references are found.
    """
    return dataclasses.replace(formulas(name), observations=load_references(name, references_folder))


def formulas(name: str) -> BenchmarkTask:
    """One task without observations: what needs no files.

    Raises:
        InputError: If there is no such task.
    """
    if name not in _MAKERS:
        raise InputError(f"task must be one of {', '.join(TASKS)}, got {name!r}")
    return _MAKERS[name](name)


# --- The tasks -------------------------------------------------------------------------------------------------------


def _vector(theta: Theta, names: Iterable[str]) -> Float[Array, " d"]:
    """Parameters in the order of the names; that of a mapping is lost under `jit`."""
    return jnp.stack([theta[name] for name in names])


def _plain_task(name: str, texts: Mapping[str, str], simulate: Callable, log_likelihood: Callable, **more):
    """A task whose parameters are sbibm's own; simulator and likelihood take them as a vector, in sbibm's order."""
    return BenchmarkTask(
        name=name,
        prior=Prior(texts),
        simulate=lambda key, theta: simulate(key, _vector(theta, texts)),
        log_likelihood=lambda theta, x: log_likelihood(_vector(theta, texts), x),
        parameters=lambda draws: np.stack([np.asarray(draws[parameter]) for parameter in texts], axis=1),
        **more,
    )


def _numbered(n: int, text: str) -> dict[str, str]:
    """The same prior for theta_1 ... theta_n."""
    return {f"theta_{i + 1}": text for i in range(n)}


def _gaussian_linear(name: str) -> BenchmarkTask:
    """Ten means with Gaussian or uniform priors, each seen once with the variance 0.1."""
    deviation = math.sqrt(0.1)
    text = "uniform(-1, 1)" if name == "gaussian_linear_uniform" else f"normal(0, {deviation:.9g})"

    def simulate(key, theta):
        return theta + deviation * jax.random.normal(key, theta.shape)

    def log_likelihood(theta, x):
        return stats.norm.logpdf(x, theta, deviation).sum()

    return _plain_task(name, _numbered(10, text), simulate, log_likelihood)


def _gaussian_mixture(name: str) -> BenchmarkTask:
    """A mean in the plane, seen through a mixture of a wide and a narrow Gaussian."""
    narrow = 0.1

    def simulate(key, theta):
        key_which, key_noise = jax.random.split(key)
        scale = jnp.where(jax.random.bernoulli(key_which), narrow, 1.0)
        return theta + scale * jax.random.normal(key_noise, theta.shape)

    def log_likelihood(theta, x):
        wide = stats.norm.logpdf(x, theta).sum()
        return jnp.logaddexp(wide, stats.norm.logpdf(x, theta, narrow).sum()) - math.log(2)

    return _plain_task(name, _numbered(2, "uniform(-10, 10)"), simulate, log_likelihood)


def _two_moons(name: str) -> BenchmarkTask:
    """A half circle with a fuzzy edge, moved by the parameters; the posterior is two such."""
    centre, radius, width = 0.25, 0.1, 0.01

    def shift(theta):
        return jnp.stack([-jnp.abs(theta[0] + theta[1]), theta[1] - theta[0]]) / math.sqrt(2)

    def simulate(key, theta):
        key_angle, key_radius = jax.random.split(key)
        angle = jax.random.uniform(key_angle, minval=-math.pi / 2, maxval=math.pi / 2)
        r = radius + width * jax.random.normal(key_radius)
        return jnp.stack([r * jnp.cos(angle) + centre, r * jnp.sin(angle)]) + shift(theta)

    def log_likelihood(theta, x):
        across, along = x - shift(theta) - jnp.array([centre, 0.0])
        r = jnp.hypot(across, along)
        # Polar coordinates: the angle is uniform on pi, the area element is r. Negative radii lie ten widths away.
        density = stats.norm.logpdf(r, radius, width) - jnp.log(math.pi * r)
        return jnp.where(across > 0, density, -jnp.inf)

    return _plain_task(name, _numbered(2, "uniform(-1, 1)"), simulate, log_likelihood)


def _slcp(name: str) -> BenchmarkTask:
    """Simple likelihood, complex posterior: four points of a Gaussian in the plane; x_1, y_1, x_2 ..."""
    return _plain_task(name, _numbered(5, "uniform(-3, 3)"), _slcp_points, _slcp_log_likelihood, n_trials=_SLCP_POINTS)


_SLCP_POINTS = 4


def _slcp_triangle(theta: Float[Array, " 5"]) -> tuple[Array, Array, Array]:
    """Cholesky factor of the covariance with 1e-6 on its diagonal, as (l_11, l_21, l_22), without cancellation."""
    ridge = 1e-6
    variance_1, variance_2 = theta[2] ** 4, theta[3] ** 4
    rho = jnp.tanh(theta[4])
    l_11 = jnp.sqrt(variance_1 + ridge)
    l_21 = rho * theta[2] ** 2 * theta[3] ** 2 / l_11
    free = 1 / jnp.cosh(theta[4]) ** 2 + rho**2 * ridge / (variance_1 + ridge)
    return l_11, l_21, jnp.sqrt(variance_2 * free + ridge)


def _slcp_points(key: Key, theta: Float[Array, " 5"]) -> Float[Array, " 8"]:
    """Four points, one after the other."""
    l_11, l_21, l_22 = _slcp_triangle(theta)
    first, second = jax.random.normal(key, (2, _SLCP_POINTS))
    return jnp.stack([theta[0] + l_11 * first, theta[1] + l_21 * first + l_22 * second], axis=1).ravel()


def _slcp_log_likelihood(theta: Float[Array, " 5"], x: Float[Array, " 8"]) -> Float[Array, ""]:
    """Gaussian density of the four points."""
    l_11, l_21, l_22 = _slcp_triangle(theta)
    points = x.reshape(_SLCP_POINTS, 2)
    first = (points[:, 0] - theta[0]) / l_11
    second = (points[:, 1] - theta[1] - l_21 * first) / l_22
    log_density = stats.norm.logpdf(first) + stats.norm.logpdf(second)
    return log_density.sum() - _SLCP_POINTS * (jnp.log(l_11) + jnp.log(l_22))


def _slcp_distractors(name: str) -> BenchmarkTask:
    """The same among 92 numbers that say nothing, shuffled; the likelihood is that of the eight that do."""
    location, triangle, order = slcp_noise()
    # Constants of 0.7 MB, in single precision unless JAX has been told otherwise.
    location, triangle, order = jnp.asarray(location), jnp.asarray(triangle), np.asarray(order)
    informative = np.argsort(order)[: 2 * _SLCP_POINTS]

    def simulate(key, theta):
        key_points, key_which, key_normal, key_scale = jax.random.split(key, 4)
        which = jax.random.randint(key_which, (), 0, len(location))
        # Student's t of two degrees of freedom: a chi-squared variable of two, over two, is an exponential one.
        # All components and then one: under vmap that is one product of matrices, not a matrix for each draw.
        normal = (triangle @ jax.random.normal(key_normal, location.shape[1:]))[which]
        noise = location[which] + normal / jnp.sqrt(jax.random.exponential(key_scale))
        return jnp.concatenate([_slcp_points(key_points, theta), noise])[order]

    def log_likelihood(theta, x):
        return _slcp_log_likelihood(theta, x[informative])

    return _plain_task(name, _numbered(5, "uniform(-3, 3)"), simulate, log_likelihood)


@functools.cache
def slcp_noise() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """The distractors: locations (20, 92) and triangles (20, 92, 92) of a mixture of t; the order of x, (100,)."""
    n_components, n_noise = 20, 92
    random = np.random.RandomState(42)  # noqa: NPY002 - sbibm's own generator
    location = np.array([15 * random.normal(size=n_noise) for _ in range(n_components)])
    triangle = np.array(
        [
            np.tril(random.normal(size=(n_noise, n_noise))) + np.diag(np.exp(random.normal(size=n_noise)))
            for _ in range(n_components)
        ]
    )
    return location, 3 * triangle, random.permutation(n_noise + 2 * _SLCP_POINTS)


_N_FILTER = 9


def _bernoulli_glm(name: str) -> BenchmarkTask:
    """Spikes of a neuron that filters white noise, as they are (raw) or as their sufficient statistics.

    sbibm's filter has a correlated Gaussian prior; here its coordinates are independent standard normals, white_1 ...,
    which `glm_filter` turns into it. The summary, number of spikes and spike-triggered sums, is design' y; it tells
    the spikes apart, so that its probability is theirs.
    """
    raw = name.endswith("raw")
    names = ("bias", *(f"white_{i + 1}" for i in range(_N_FILTER)))
    texts = dict.fromkeys(names, "normal(0, 1)") | {"bias": f"normal(0, {math.sqrt(2):.9g})"}
    design, mixing = glm_design(), np.eye(_N_FILTER + 1)
    mixing[1:, 1:] = glm_filter()
    device_design, device_mixing, to_logit = (jnp.asarray(m, jnp.float32) for m in (design, mixing, design @ mixing))

    def simulate(key, theta):
        spikes = (jax.random.uniform(key, (len(design),)) < jax.nn.sigmoid(to_logit @ _vector(theta, names))).astype(
            jnp.float32
        )
        return spikes if raw else device_design.T @ spikes

    def log_likelihood(theta, x):
        white = _vector(theta, names)
        logit = to_logit @ white
        weights = logit if raw else device_mixing @ white
        return jnp.dot(x, weights) - jax.nn.softplus(logit).sum()

    def parameters(draws):
        return np.stack([np.asarray(draws[parameter]) for parameter in names], axis=1) @ mixing.T

    return BenchmarkTask(
        name=name,
        prior=Prior(texts),
        simulate=simulate,
        log_likelihood=log_likelihood,
        parameters=parameters,
        discrete=raw,
    )


def glm_design() -> NDArray[np.floating]:
    """Ones, and the stimulus at nine lags, shape (100, 10); rounded to single precision as in sbibm."""
    n_bins = 100
    stimulus = np.random.RandomState(42).randn(n_bins).astype(np.float32)  # noqa: NPY002 - sbibm's own generator
    columns = [np.ones(n_bins)]
    columns += [np.concatenate([np.zeros(lag), stimulus[: n_bins - lag]]) for lag in range(_N_FILTER)]
    return np.stack(columns, axis=1)


def glm_filter() -> NDArray[np.floating]:
    """Matrix (9, 9) from standard normals to the filter; its precision penalises second differences."""
    difference = np.eye(_N_FILTER) - np.eye(_N_FILTER, k=-1)
    return np.linalg.inv(difference @ difference + np.diag(np.sqrt(np.arange(_N_FILTER) / _N_FILTER)))


def runge_kutta(
    slope: Callable[[Float[Array, " k"]], Float[Array, " k"]],
    start: Float[Array, " k"],
    *,
    interval: float,
    n_saved: int,
    n_steps: int,
) -> Float[Array, "n_saved k"]:
    """Solve a differential equation by the classical method of fourth order.

    Args:
        slope: Derivative of the state.
        start: State at the first saved time.
        interval: Time between saved states.
        n_saved: Saved states, the first included.
        n_steps: Steps from one saved state to the next.
    """
    h = interval / n_steps

    def step(_, y):
        k_1 = slope(y)
        k_2 = slope(y + 0.5 * h * k_1)
        k_3 = slope(y + 0.5 * h * k_2)
        k_4 = slope(y + h * k_3)
        return y + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)

    def save(y, _):
        y = jax.lax.fori_loop(0, n_steps, step, y)
        return y, y

    _, later = jax.lax.scan(save, start, length=n_saved - 1)
    return jnp.concatenate([start[None], later])


def sir_log_infected(theta: Float[Array, " 2"]) -> Float[Array, " 10"]:
    """Ln of the infected part of a million people on days 0, 17 ... 153, for contact and recovery rates [1/day].

    The state is ln of the infected part and of the susceptible part: growth and decay are then straight lines.
    """
    contact, recovery = theta
    population = 1e6

    def slope(y):
        return jnp.stack([contact * jnp.exp(y[1]) - recovery, -contact * jnp.exp(y[0])])

    start = jnp.array([-math.log(population), math.log1p(-1 / population)])
    return runge_kutta(slope, start, interval=17.0, n_saved=10, n_steps=_SIR_STEPS)[:, 0]


_SIR_STEPS = 68
_SIR_TESTED = 1000


def _sir(name: str) -> BenchmarkTask:
    """An epidemic: how many of a thousand people tested are infected, on ten days."""
    texts = {"beta": f"lognormal({math.log(0.4):.9g}, 0.5)", "gamma": f"lognormal({math.log(0.125):.9g}, 0.2)"}

    def simulate(key, theta):
        return jax.random.binomial(key, float(_SIR_TESTED), jnp.exp(sir_log_infected(theta)))

    def log_likelihood(theta, x):
        log_part = sir_log_infected(theta)
        gammaln = jax.scipy.special.gammaln
        choices = gammaln(_SIR_TESTED + 1.0) - gammaln(x + 1) - gammaln(_SIR_TESTED - x + 1)
        return (choices + x * log_part + (_SIR_TESTED - x) * jnp.log1p(-jnp.exp(log_part))).sum()

    return _plain_task(name, texts, simulate, log_likelihood, discrete=True)


def lotka_volterra_log_numbers(theta: Float[Array, " 4"]) -> Float[Array, " 20"]:
    """Ln of the numbers of prey (10), then predators (10), every 2.1 days, clamped to 1e-10 ... 1e4 as in sbibm."""
    alpha, beta, gamma, delta = theta

    def slope(y):
        prey, predators = jnp.exp(y)
        return jnp.stack([alpha - beta * predators, delta * prey - gamma])

    start = jnp.array([math.log(30.0), 0.0])
    saved = runge_kutta(slope, start, interval=2.1, n_saved=10, n_steps=_LOTKA_VOLTERRA_STEPS)
    return jnp.clip(saved.T.ravel(), math.log(1e-10), math.log(1e4))


_LOTKA_VOLTERRA_STEPS = 210


def _lotka_volterra(name: str) -> BenchmarkTask:
    """Prey and predators, seen ten times with log-normal errors of a tenth."""
    deviation = 0.1
    texts = {
        "alpha": "lognormal(-0.125, 0.5)",
        "beta": "lognormal(-3, 0.5)",
        "gamma": "lognormal(-0.125, 0.5)",
        "delta": "lognormal(-3, 0.5)",
    }

    def simulate(key, theta):
        log_numbers = lotka_volterra_log_numbers(theta)
        return jnp.exp(log_numbers + deviation * jax.random.normal(key, log_numbers.shape))

    def log_likelihood(theta, x):
        return (stats.norm.logpdf(jnp.log(x), lotka_volterra_log_numbers(theta), deviation) - jnp.log(x)).sum()

    return _plain_task(name, texts, simulate, log_likelihood)


_MAKERS: dict[str, Callable[[str], BenchmarkTask]] = {
    "gaussian_linear": _gaussian_linear,
    "gaussian_linear_uniform": _gaussian_linear,
    "gaussian_mixture": _gaussian_mixture,
    "two_moons": _two_moons,
    "slcp": _slcp,
    "slcp_distractors": _slcp_distractors,
    "bernoulli_glm": _bernoulli_glm,
    "bernoulli_glm_raw": _bernoulli_glm,
    "sir": _sir,
    "lotka_volterra": _lotka_volterra,
}
TASKS = tuple(_MAKERS)
"""Names of the tasks, in sbibm's order."""


# --- Observations and reference posteriors ---------------------------------------------------------------------------

# Tasks that share another's files: (that task, key of x in an archive, file of x in the package).
_SHARED = {
    "slcp_distractors": ("slcp", "x_distractors", "observation_distractors.csv"),
    "bernoulli_glm_raw": ("bernoulli_glm", "x_raw", "observation_raw.csv"),
}


def load_references(name: str, folder: str | Path | None = None) -> tuple[Observation, ...]:
    """Observations of a task with draws from their exact posteriors.

    Args:
        name: One of `TASKS`.
        folder: Either of archives `<task>.npz` with arrays `x_obs_i`, `theta_true_i`, `ref_i` and `seed_i`, i = 1 ...,
            or of the package sbibm (or the folder above it, or its `tasks`); without it, the installed package.

    Raises:
        InputError: If neither is there.
    """
    if name not in _MAKERS:
        raise InputError(f"task must be one of {', '.join(TASKS)}, got {name!r}")
    base, key, file = _SHARED.get(name, (name, "x_obs", "observation.csv"))
    root = _installed() if folder is None else Path(folder)
    archive = root / f"{base}.npz"
    if archive.is_file():
        with np.load(archive, allow_pickle=False) as arrays:
            found = tuple(_from_archive(arrays, key))
    else:
        places = (root / "sbibm" / "tasks", root / "tasks", root)
        found = tuple(obs for place in places for obs in _from_package(place / base / "files", file))
    if not found:
        raise InputError(f"--references must be a folder with {base}.npz or of the package sbibm, got {str(root)!r}")
    return found


def _installed() -> Path:
    """Folder of the installed package, found without importing it."""
    spec = importlib.util.find_spec("sbibm")
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            "reference posteriors must come from the package sbibm, which is not installed: "
            "pip install --no-deps sbibm, or give --references FOLDER"
        )
    return Path(spec.submodule_search_locations[0])


def _from_archive(arrays: Mapping[str, NDArray], key: str) -> Iterator[Observation]:
    """Observations 1, 2 ... of an archive."""
    i = 1
    while f"{key}_{i}" in arrays:
        yield Observation(
            x_obs=arrays[f"{key}_{i}"],
            theta_true=arrays[f"theta_true_{i}"],
            reference=arrays[f"ref_{i}"],
            seed=int(arrays[f"seed_{i}"]),
        )
        i += 1


def _from_package(files: Path, x_file: str) -> Iterator[Observation]:
    """Observations 1, 2 ... of a task's folder in the package."""
    i = 1
    while (folder := files / f"num_observation_{i}").is_dir():
        yield Observation(
            x_obs=_table(folder / x_file)[0],
            theta_true=_table(folder / "true_parameters.csv")[0],
            reference=_table(folder / "reference_posterior_samples.csv.bz2"),
            seed=int(_table(folder / "observation_seed.csv")[0, 0]),
        )
        i += 1


def _table(path: Path) -> NDArray[np.float64]:
    """Numbers of a table with one line of names."""
    try:
        return np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} must be a table of numbers, got {error}") from error
