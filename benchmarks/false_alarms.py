"""How often each diagnostic calls a right posterior wrong: p-values of many studies of one whose posterior is known.

    python -m benchmarks.false_alarms [--studies 2000] [--json FILE]

The problem is linear and Gaussian with two correlated parameters; each study simulates anew and draws from the exact
posterior. A p-value is at most a in a part a of the studies, or in less.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from eagleray.diagnostics.calibration import calibration
from eagleray.diagnostics.coverage import density_coverage, tarp
from eagleray.diagnostics.distances import mmd, sliced_wasserstein
from eagleray.diagnostics.local_c2st import local_c2st, local_classifiers
from eagleray.diagnostics.predictive import statistic_checks
from eagleray.diagnostics.rank_bands import rank_bands
from eagleray.diagnostics.recovery import recovery
from eagleray.files import write_atomic

LEVELS = (0.01, 0.05, 0.1, 0.5)
PRIOR = np.array([[1.0, 0.9], [0.9, 1.0]])
GAIN = PRIOR @ np.linalg.inv(PRIOR + np.eye(2))
ROOT = np.linalg.cholesky(PRIOR - GAIN @ PRIOR)
X_OBS = np.array([[0.8, 0.1]])
N, N_DRAWS = 100, 50

Rows = np.ndarray


def simulate(rng: np.random.Generator, n: int) -> tuple[Rows, Rows]:
    """True parameters and data, (n, 2) each."""
    theta = rng.normal(size=(n, 2)) @ np.linalg.cholesky(PRIOR).T
    return theta, theta + rng.normal(size=(n, 2))


def draw(rng: np.random.Generator, x: Rows, n_draws: int) -> Rows:
    """Draws of the exact posterior of each data set, (n, n_draws, 2)."""
    return (x @ GAIN.T)[:, None] + rng.normal(size=(len(x), n_draws, 2)) @ ROOT.T


def log_prob(theta: Rows, x: Rows) -> Rows:
    """Ln of the posterior density but for a constant, of (n, n_draws, 2) parameters for (n, 2) data."""
    white = np.linalg.solve(ROOT, (theta - (x @ GAIN.T)[:, None]).reshape(-1, 2).T)
    return -0.5 * (white**2).sum(axis=0).reshape(theta.shape[:-1])


def named(values: Rows) -> dict[str, Rows]:
    """Columns by name."""
    return {"a": values[..., 0], "b": values[..., 1]}


def p_values(seed: int) -> dict[str, float]:
    """The p-value of every diagnostic in one study."""
    rng, key = np.random.default_rng(seed), jax.random.key(seed)
    theta, x = simulate(rng, N)
    draws = draw(rng, x, N_DRAWS)
    first, second = draw(rng, X_OBS, 60)[0], draw(rng, X_OBS, 40)[0]
    few = rng.integers(0, 3, (N, 2)), rng.integers(0, 3, (N, 10, 2))
    of_prior = simulate(rng, 200)[0][:, None] + rng.normal(size=(200, 10, 2))
    options = {"n_null": 99, "n_units": 8, "n_steps": 50, "batch_size": 50}
    classifiers = local_classifiers(key, theta, x, draws[:, 0], **options)
    found: dict[str, Callable[[], float]] = {
        "rank_bands": lambda: rank_bands(calibration(named(theta), named(draws))).p_value,
        "density_coverage": lambda: (
            density_coverage(key, log_prob(theta[:, None], x)[:, 0], log_prob(draws, x)).p_value
        ),
        "tarp": lambda: tarp(key, theta, draws).p_value,
        "tarp with ties": lambda: tarp(key, *few).p_value,
        "recovery": lambda: recovery(key, named(theta), named(draws), n_trials=199).p_value,
        "mmd": lambda: mmd(key, first, second).p_value,
        "sliced_wasserstein": lambda: sliced_wasserstein(key, first, second, n_directions=10).p_value,
        "statistic_checks": lambda: statistic_checks(of_prior[0], of_prior[1:], {"mean": np.mean})[0].p_value,
        "local_c2st": lambda: local_c2st(classifiers, X_OBS[0], draw(rng, X_OBS, 100)[0]).p_value,
    }
    return {name: float(run()) for name, run in found.items()}


def main() -> None:
    """Read the command line, run, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--json", type=Path, help="file for every p-value")
    arguments = parser.parse_args()
    studies = [p_values(seed) for seed in range(arguments.studies)]
    if arguments.json:
        write_atomic(arguments.json, (json.dumps(studies) + "\n").encode())
    print(f"| p-value of | {' | '.join(f'≤ {level:g}' for level in LEVELS)} |")
    print("|---|" + "---|" * len(LEVELS))
    for name in studies[0]:
        found = np.array([study[name] for study in studies])
        print(f"| `{name}` | {' | '.join(f'{(found <= level).mean():.3f}' for level in LEVELS)} |")


if __name__ == "__main__":
    main()
