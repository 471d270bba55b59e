"""The tasks of sbibm: simulators that follow their likelihoods, likelihoods that give the reference posteriors."""

import functools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.special import logsumexp

from benchmarks.sbibm.tasks import (
    TASKS,
    formulas,
    glm_design,
    glm_filter,
    load_references,
    lotka_volterra_log_numbers,
    make_task,
    sir_log_infected,
    slcp_noise,
)
from eagleray.errors import InputError

N_FEATURES = {
    "gaussian_linear": 10,
    "gaussian_linear_uniform": 10,
    "gaussian_mixture": 2,
    "two_moons": 2,
    "slcp": 8,
    "slcp_distractors": 100,
    "bernoulli_glm": 10,
    "bernoulli_glm_raw": 100,
    "sir": 10,
    "lotka_volterra": 20,
}
USUAL = {"sir": [0.5, 0.15], "lotka_volterra": [0.9, 0.05, 0.9, 0.05]}  # parameters at which something happens
FOLDER = os.environ.get("SBIBM_REFERENCES")  # with archives or the package's files; else the installed package
task_of = functools.cache(formulas)


def references(name):
    """Observations of a task; the test is skipped where there are none."""
    try:
        return load_references(name, FOLDER)
    except InputError as error:
        pytest.skip(str(error))


@functools.cache
def compiled(name):
    """A task's simulator for many keys, and its likelihood for many x, at one theta."""
    task = task_of(name)
    return jax.jit(jax.vmap(task.simulate, (0, None))), jax.jit(jax.vmap(task.log_likelihood, (None, 0)))


def simulated(name, theta, n, seed=0):
    """(n, n_features) draws at one theta."""
    return compiled(name)[0](jax.random.split(jax.random.key(seed), n), theta)


def some(*quick):
    """All tasks; those that are not named are slow."""
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in TASKS]


@pytest.mark.parametrize("name", some("two_moons"))
def test_contract(name, strict):
    task = task_of(name)

    def draw(key):
        key_theta, key_x = jax.random.split(key)
        theta = task.prior.sample(key_theta)
        x = task.simulate(key_x, theta)
        return theta, x, task.log_likelihood(theta, x)

    theta, x, log_likelihood = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 200))
    assert x.shape == (200, N_FEATURES[name])
    assert log_likelihood.shape == (200,)
    assert jnp.isfinite(x).all()
    assert jnp.isfinite(log_likelihood).all()
    assert task.parameters(theta).shape == (200, len(task.prior.names))
    assert bool((x == jnp.round(x)).all()) == task.discrete
    assert x.shape[1] % task.n_trials == 0
    assert task.observations == ()


@pytest.mark.parametrize("name", some("slcp"))
def test_simulators_follow_their_likelihoods(name):
    """E[p(x | b) / p(x | a)] over x from a is 1, false alarm 6e-7; over x from b, the twin, it is more."""
    task = task_of(name)
    usual = USUAL.get(name, [0.3 + 0.05 * i for i in range(len(task.prior.names))])
    a = dict(zip(task.prior.names, map(jnp.asarray, usual), strict=True))

    def moved(step):
        return {parameter: (1 - step) * value for parameter, value in a.items()}

    def log_ratio(x, step):
        return compiled(name)[1](moved(step), x) - compiled(name)[1](a, x)

    x = simulated(name, a, 10_000)
    tried = log_ratio(x, 1e-3)
    step = 1e-3 * 0.3 / float(jnp.std(tried, where=jnp.isfinite(tried)))  # so that ln of the ratio varies by 0.3

    def excess(x):
        ratio = np.exp(np.asarray(log_ratio(x, step), np.float64))
        return (ratio.mean() - 1) / (ratio.std() / np.sqrt(len(ratio)))

    assert abs(excess(x)) < 5
    assert excess(simulated(name, moved(step), 10_000, seed=1)) > 10


def test_gaussian_tasks_have_the_variance_of_a_tenth():
    """False alarm 6e-7 for each of the ten."""
    theta = {f"theta_{i + 1}": jnp.asarray(float(i)) for i in range(10)}
    x = np.asarray(simulated("gaussian_linear", theta, 10_000), np.float64)
    assert (abs(x.mean(axis=0) - np.arange(10)) < 5 * np.sqrt(0.1 / 1e4)).all()
    assert (abs(x.var(axis=0) / 0.1 - 1) < 5 * np.sqrt(2 / 1e4)).all()


def test_two_moons_is_a_half_circle():
    theta = {"theta_1": jnp.asarray(0.5), "theta_2": jnp.asarray(-0.2)}
    x = np.asarray(simulated("two_moons", theta, 5000)) - [0.25 - 0.3 / np.sqrt(2), -0.7 / np.sqrt(2)]
    radius = np.hypot(*x.T)
    assert (x[:, 0] > -1e-6).all()
    assert radius.mean() == pytest.approx(0.1, abs=5 * 0.01 / np.sqrt(5000))
    assert radius.std() == pytest.approx(0.01, rel=0.05)


def test_slcp_points_have_their_covariance():
    theta = dict(zip(task_of("slcp").prior.names, map(jnp.asarray, (0.5, -1.0, 1.2, -0.8, 0.7)), strict=True))
    points = np.asarray(simulated("slcp", theta, 5000), np.float64).reshape(-1, 2)
    s_1, s_2, rho = 1.2**2, 0.8**2, np.tanh(0.7)
    expected = np.array([[s_1**2, rho * s_1 * s_2], [rho * s_1 * s_2, s_2**2]])
    np.testing.assert_allclose(points.mean(axis=0), [0.5, -1.0], atol=5 * s_1**2 / np.sqrt(20_000))
    np.testing.assert_allclose(np.cov(points.T), expected, rtol=0.06)


@pytest.mark.slow
def test_distractors_know_nothing_of_the_parameters():
    names = task_of("slcp").prior.names
    first, second = ({name: jnp.asarray(value) for name in names} for value in (1.0, -2.0))
    same = np.asarray(simulated("slcp_distractors", first, 50) == simulated("slcp_distractors", second, 50)).all(axis=0)
    informative = np.argsort(slcp_noise()[2])[:8]
    assert sorted(np.flatnonzero(~same)) == sorted(informative)


def test_glm_summary_is_that_of_the_spikes():
    theta = {name: jnp.asarray(0.3) for name in task_of("bernoulli_glm").prior.names}
    spikes = simulated("bernoulli_glm_raw", theta, 20)
    np.testing.assert_allclose(spikes @ glm_design(), simulated("bernoulli_glm", theta, 20), rtol=1e-5, atol=1e-5)


def test_glm_filter_has_its_precision():
    task, n = task_of("bernoulli_glm"), 9
    unit = {name: np.eye(n + 1)[i] for i, name in enumerate(task.prior.names)}
    filters = task.parameters(unit)[1:, 1:].T
    difference = np.eye(n) - np.eye(n, k=-1)
    factor = difference @ difference + np.diag(np.sqrt(np.arange(n) / n))
    np.testing.assert_allclose(np.linalg.inv(filters @ filters.T), factor.T @ factor, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(filters, glm_filter())


def test_constants_are_those_of_sbibm():
    """Where archives with sbibm's pickled arrays are at hand."""
    paths = [Path(FOLDER or "") / f"{name}.npz" for name in ("slcp", "bernoulli_glm")]
    if not all(path.is_file() for path in paths):
        pytest.skip("SBIBM_REFERENCES is no folder with archives")
    slcp, glm = map(np.load, paths)
    for ours, key in zip(slcp_noise(), ("noise_loc", "noise_scale_tril", "permutation_idx"), strict=True):
        np.testing.assert_array_equal(ours, slcp[key])
    np.testing.assert_array_equal(glm_design(), glm["design_matrix"])


def sir_slope(_, y, contact, recovery):
    return [contact * np.exp(y[1]) - recovery, -contact * np.exp(y[0])]


def lotka_volterra_slope(_, y, alpha, beta, gamma, delta):
    return [alpha - beta * np.exp(y[1]), delta * np.exp(y[0]) - gamma]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "solve", "slope", "start", "interval"),
    [
        ("sir", sir_log_infected, sir_slope, [-np.log(1e6), np.log1p(-1e-6)], 17.0),
        ("lotka_volterra", lotka_volterra_log_numbers, lotka_volterra_slope, [np.log(30), 0.0], 2.1),
    ],
)
def test_differential_equations_are_solved(name, solve, slope, start, interval):
    """To a fiftieth of the observations' error, for draws of the prior and for the extremes among ten thousand."""
    task, keys = task_of(name), jax.random.split(jax.random.key(7), 10_000)
    theta = task.parameters(jax.jit(jax.vmap(task.prior.sample))(keys))
    chosen = np.concatenate([theta[:8], theta[theta.argmax(axis=0)], theta[theta.argmin(axis=0)]])
    ours = jax.jit(jax.vmap(solve))(jnp.asarray(chosen))
    times = interval * np.arange(10)
    for row, parameters in zip(np.asarray(ours), chosen, strict=True):
        options = {"t_eval": times, "method": "LSODA", "rtol": 1e-9, "atol": 1e-9}
        exact = solve_ivp(slope, (0, times[-1]), start, args=tuple(parameters.astype(float)), **options).y
        exact = exact[0] if name == "sir" else np.clip(exact.ravel(), np.log(1e-10), np.log(1e4))
        np.testing.assert_allclose(row, exact, atol=2e-3)


def write_archive(folder):
    arrays = {}
    for i in (1, 2):
        arrays |= {f"x_obs_{i}": np.full(8, i), f"x_distractors_{i}": np.full(100, i), f"theta_true_{i}": np.zeros(5)}
        arrays |= {f"ref_{i}": np.ones((3, 5)), f"seed_{i}": np.array(40 + i)}
    np.savez(folder / "slcp.npz", **arrays)


def write_package(folder):
    for i in (1, 2):
        place = folder / "sbibm" / "tasks" / "slcp" / "files" / f"num_observation_{i}"
        place.mkdir(parents=True)
        tables = {
            "observation.csv": np.full((1, 8), i),
            "observation_distractors.csv": np.full((1, 100), i),
            "true_parameters.csv": np.zeros((1, 5)),
            "reference_posterior_samples.csv.bz2": np.ones((3, 5)),
            "observation_seed.csv": np.array([[40 + i, i]]),
        }
        for file, table in tables.items():
            np.savetxt(place / file, table, delimiter=",", header="names", comments="")


@pytest.mark.parametrize("write", [write_archive, write_package])
@pytest.mark.parametrize("name", ["slcp", "slcp_distractors"])
def test_references_are_read(write, name, tmp_path):
    write(tmp_path)
    observations = make_task(name, tmp_path).observations
    assert [found.seed for found in observations] == [41, 42]
    np.testing.assert_array_equal(observations[1].x_obs, np.full(N_FEATURES[name], 2))
    np.testing.assert_array_equal(observations[0].reference, np.ones((3, 5)))
    assert observations[0].theta_true.shape == (5,)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"task must be one of gaussian_linear, .* got 'three_moons'"):
        make_task("three_moons", tmp_path)
    with pytest.raises(InputError, match=r"--references must be a folder with slcp.npz or of the package sbibm, got"):
        make_task("slcp_distractors", tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install --no-deps sbibm, or give --references FOLDER"):
        make_task("slcp")


def test_a_broken_table_is_named(tmp_path):
    write_package(tmp_path)
    (tmp_path / "sbibm/tasks/slcp/files/num_observation_2/observation.csv").write_text("names\nnone\n")
    with pytest.raises(InputError, match="observation.csv must be a table of numbers"):
        make_task("slcp", tmp_path)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.slow
def test_observations_are_like_simulations(name):
    """Each has a likelihood within the range of 1000 simulated at its true parameters; false alarm 0.1 in all."""
    task = task_of(name)
    for found in references(name):
        theta = {parameter: jnp.asarray(value[0]) for parameter, value in named(task, found.theta_true[None]).items()}
        x = jnp.concatenate([jnp.asarray(found.x_obs, jnp.float32)[None], simulated(name, theta, 1000)])
        observed, *others = np.asarray(compiled(name)[1](theta, x))
        assert min(others) - 0.5 < observed < max(others) + 0.5


def named(task, parameters):
    """sbibm's parameters by our names, single precision: the inverse of `task.parameters`, which is linear."""
    names = task.prior.names
    matrix = task.parameters({name: np.eye(len(names))[i] for i, name in enumerate(names)})
    return dict(zip(names, np.linalg.solve(matrix.T, parameters.T).astype(np.float32), strict=True))


def reweighted(task, found, *, n=40_000, n_centres=1000):
    """Draws around the reference, and their weights for prior times likelihood over the density they come from."""
    rng = np.random.default_rng(0)
    centres = found.reference[rng.choice(len(found.reference), n_centres, replace=False)]
    d = centres.shape[1]
    root = np.linalg.cholesky(np.cov(found.reference.T))
    widths = np.array([{2: 0.1, 4: 0.5, 5: 0.2, 10: 0.8}[d], 1.0])  # for narrow modes and for tails, half of each
    scale = widths[rng.integers(2, size=n), None]
    draws = centres[rng.integers(n_centres, size=n)] + scale * rng.normal(size=(n, d)) @ root.T
    white, white_centres = (np.linalg.solve(root, rows.T).T for rows in (draws, centres))
    squares = (white**2).sum(axis=1)[:, None] + (white_centres**2).sum(axis=1) - 2 * white @ white_centres.T
    log_proposal = np.logaddexp(*(logsumexp(-0.5 * squares / h**2, axis=1) - d * np.log(h) for h in widths))
    x = jnp.asarray(found.x_obs, jnp.float32)
    log_target = jax.jit(jax.vmap(lambda theta: task.prior.log_prob(theta) + task.log_likelihood(theta, x)))
    log_weight = np.asarray(log_target(named(task, draws)), np.float64) - log_proposal
    log_weight[np.isnan(log_weight)] = -np.inf
    return draws, np.exp(log_weight - logsumexp(log_weight))


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.slow
def test_likelihoods_give_the_reference_posteriors(name):
    """Means and variances of all parameters, within five standard errors of both; false alarm 1e-4 in all."""
    task, observations = task_of(name), references(name)
    for found in observations:
        draws, weights = reweighted(task, found)
        n_effective = 1 / (weights**2).sum()
        assert n_effective > 300
        centre = found.reference.mean(axis=0)
        for power in (1, 2):
            ours, theirs = (draws - centre) ** power, (found.reference - centre) ** power
            mean = weights @ ours
            error = np.sqrt((weights**2) @ (ours - mean) ** 2 + theirs.var(axis=0) / len(theirs))
            assert (abs(mean - theirs.mean(axis=0)) < 5 * error).all()


@pytest.mark.slow
def test_the_reference_posteriors_refuse_another_likelihood():
    """The twin: the likelihood of noise one and a half times as strong."""
    task, found = task_of("gaussian_linear"), references("gaussian_linear")[0]
    draws, weights = reweighted(task, found)
    theta = named(task, draws)
    squares = ((np.stack(list(theta.values()), axis=1) - found.x_obs) ** 2).sum(axis=1)
    weights = weights * np.exp(squares / (2 * 0.1) * (1 - 1 / 1.5**2))
    weights /= weights.sum()
    variance = weights @ (draws - weights @ draws) ** 2
    assert (variance > 1.15 * found.reference.var(axis=0)).all()
