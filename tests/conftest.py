"""Fixtures that several rooms' tests share."""

import contextlib
import gc
import os

import jax
import jaxlib
import numpy as np
import pytest
from hypothesis import settings

from eagleray.records import LightCurve, TimeGrid

# Compiling is most of the time these tests take. XLA's older way to write loops takes half of it, without LLVM's
# optimisation it takes a third of that, and in one piece a tenth less again. Where the variable is set already, even to
# nothing, none is asked for: `XLA_FLAGS= make test` compiles as users do.
if "XLA_FLAGS" not in os.environ:
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    if (0, 8) <= jaxlib.version.__version_info__ < (0, 11):
        os.environ["XLA_FLAGS"] = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
# Tracing makes many small objects: looking for cycles among them at every 700 takes up to a fifth of the time.
gc.set_threshold(200_000, 20, 50)
QUICK = os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") == "1"  # the workers of pytest-xdist inherit it

# The same examples in every run: a test that fails once fails always.
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")


# Files of 15 s and more begin first: one that began last would leave the other worker idle.
LONGEST = (
    "test_problem_contract test_contract test_posteriors test_pipeline test_methods test_fit test_model_tests"
    " test_own_problem test_state_space test_gaussian_process test_spectra test_dead_time_spectrum test_cli test_sample"
    " test_checkpoints test_optimise"
).split()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others as they come; pytest-xdist keeps this order with --no-loadscope-reorder."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """NumPy's own settings before each test, as importing Stingray's modelling makes every underflow a warning.

    Long tests, and those of exact rounding, are compiled with optimisation.
    """
    np.seterr(divide="warn", over="warn", under="ignore", invalid="warn")
    marked = any(item.get_closest_marker(name) for name in ("slow", "optimised"))
    jax.config.update("jax_disable_most_optimizations", QUICK and not marked)


@pytest.fixture
def strict():
    """JAX at its strictest: no silent rank or dtype promotion, no key used twice."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.numpy_rank_promotion("raise"))
        stack.enter_context(jax.numpy_dtype_promotion("strict"))
        stack.enter_context(jax.debug_key_reuse(True))
        yield


def _red_rate(rng: np.random.Generator, n: int, mean: float) -> np.ndarray:
    """A log-normal rate with a memory of about ten bins."""
    log_rate, value = np.empty(n), 0.0
    for i in range(n):
        value = 0.9 * value + 0.1 * rng.normal()
        log_rate[i] = value
    return mean * np.exp(log_rate)


@pytest.fixture
def make_rates():
    """A maker of light curves of rates with errors, 200 bins of 100 s by default."""

    def make(*, n_bins=200, dt=100.0, mean=5.0, error_scale=1.0, gap=slice(0), seed=0) -> LightCurve:
        rng = np.random.default_rng(seed)
        rate = _red_rate(rng, n_bins, mean)
        sigma = error_scale * np.sqrt(0.01 + rate / dt)
        values = rate + sigma * rng.normal(size=n_bins)
        error = error_scale * np.sqrt(0.01 + np.maximum(values, 0.0) / dt)
        exposure = np.ones(n_bins)
        exposure[gap], values[gap], error[gap] = 0.0, 0.0, 0.0
        return LightCurve(
            values=values,
            exposure=exposure,
            background=np.zeros(n_bins),
            error=error,
            grid=TimeGrid(n_bins=n_bins, dt=dt),
            kind="rate",
            start=1e8,
            source="made up",
        )

    return make


@pytest.fixture
def make_counts():
    """A maker of light curves of Poisson counts with a gap and background, 200 bins of 2 s by default."""

    def make(*, n_bins=200, dt=2.0, mean=5.0, background=1.5, gap=slice(60, 90), seed=0) -> LightCurve:
        rng = np.random.default_rng(seed)
        exposure = np.ones(n_bins)
        exposure[gap] = 0.0
        expected_background = background * exposure
        counts = rng.poisson(_red_rate(rng, n_bins, mean) * exposure * dt + expected_background)
        return LightCurve(
            values=counts.astype(np.float64),
            exposure=exposure,
            background=expected_background,
            error=None,
            grid=TimeGrid(n_bins=n_bins, dt=dt),
            kind="counts",
            source="made up",
            notes=("a note",),
        )

    return make
