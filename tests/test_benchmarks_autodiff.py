"""The comparison of derivatives: its reference is right, its ways agree with it, and its command runs."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks.autodiff.finite import central_hessian, hessian_step, one_sided_gradient
from benchmarks.autodiff.methods import Options, Unavailable, all_methods
from benchmarks.autodiff.network import SIZES, WAYS
from benchmarks.autodiff.problem import log_likelihood, make_problem
from benchmarks.autodiff.reading import dash, error_text
from benchmarks.autodiff.reference import Reference, gradient_by_hand, hessian_by_hand
from benchmarks.autodiff.report import refresh
from benchmarks.autodiff.with_sympy import cpu_limit

pytest.importorskip("mpmath")

ROOT = Path(__file__).parents[1]
PROBLEM = make_problem(6, 32)
COMPILED = ("jax_reverse_jit", "jax_forward_reverse_jit", "jax_columns_jit", "jax_reverse_vmap")


@pytest.fixture(scope="module")
def reference():
    return Reference(PROBLEM)


@pytest.fixture
def unharmed(monkeypatch):
    """A way that empties JAX's caches, to measure compilation, would make other tests compile again."""
    monkeypatch.setattr(jax, "clear_caches", lambda: None)


def test_inputs_are_exact_in_single_precision():
    for array in (PROBLEM.theta, PROBLEM.freq, PROBLEM.power):
        np.testing.assert_array_equal(array.astype(np.float32), array)


def test_formulas_agree_with_differences_of_values_in_eighty_digits(reference):
    assert reference.check < 1e-30


def test_formulas_in_double_precision_agree_with_the_reference(reference):
    arguments = PROBLEM.arrays("float64")
    assert reference.error(gradient_by_hand(*arguments), "gradient") < 1e-13
    assert reference.error(hessian_by_hand(*arguments), "hessian") < 1e-13


def test_an_error_is_seen(reference):
    arguments = PROBLEM.arrays("float64")
    assert reference.error(1.001 * gradient_by_hand(*arguments), "gradient") == pytest.approx(1e-3, rel=1e-6)


@pytest.mark.parametrize("package", ["jax", "numpy", "autograd", "sympy"])
def test_ways_agree_with_the_reference(package, reference, unharmed):
    if package != "numpy":
        pytest.importorskip(package)
    for quantity in ("gradient", "hessian"):
        for name, method in all_methods()[quantity].items():
            if method.package != package or (package == "jax" and name not in COMPILED):
                continue
            with jax.enable_x64(True):
                found = method.build(PROBLEM, "float64", Options(batch=4)).result()
            bound = {"gradient": 1e-7, "hessian": 1e-4}[quantity] if "finite" in name else 1e-13
            assert reference.error(found, quantity) < bound, name


def test_differences_lose_digits_as_the_rules_say(reference):
    theta, *data = PROBLEM.arrays("float64")
    value = lambda point: log_likelihood(np, point, *data)  # noqa: E731
    assert 1e-9 < reference.error(one_sided_gradient(value, theta, 1e-8), "gradient") < 1e-5
    assert 1e-9 < reference.error(central_hessian(value, theta, hessian_step("float64")), "hessian") < 1e-5


def test_training_by_hand_and_by_jax_are_the_same_training(unharmed):
    by_hand, by_jax = (WAYS[way][2](SIZES["small"], "float32") for way in ("numpy_by_hand", "jax_jit"))
    losses = np.array([[one.step() for one in (by_hand, by_jax)] for _ in range(4)])
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=1e-5)
    assert losses[-1, 0] < losses[0, 0]


def test_a_derivation_is_given_up_after_its_seconds():
    def forever():
        with cpu_limit(0.05, "something"):
            while True:
                pass

    with pytest.raises(Unavailable, match="something: given up"):
        forever()


def test_numbers_are_written_shortly():
    assert [dash(x) for x in (None, 0.0012345, 12.345, 1234.5)] == ["–", "0.00123", "12.3", "1234"]
    assert [error_text(x) for x in (None, 3.21e-15, 2.0)] == ["–", "3e-15", "2e+0"]


def test_a_page_without_a_place_is_refused():
    for old in ("", "old\n"):
        page = refresh(f"a\n<!-- t -->\n{old}<!-- end t -->\nb", {"t": "new"})
        assert page == "a\n<!-- t -->\nnew\n<!-- end t -->\nb"
    with pytest.raises(ValueError, match="page must have a place <!-- t -->"):
        refresh("a", {"t": "new"})


def test_parameters_must_come_in_threes():
    with pytest.raises(ValueError, match="n_parameters must be 3, 6, 9, ..., got 4"):
        make_problem(4, 32)


@pytest.mark.slow
def test_command_runs_and_says_what_is_missing(tmp_path):
    path = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks.autodiff", "--json", str(path), "--quick", "--markdown"]
    small = ["--parameters", "3", "--powers", "16", "--packages", "numpy", "mpmath"]
    done = subprocess.run([*command, *small], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "NumPy, formulas by hand" in done.stdout
    found = json.loads(path.read_text())
    gradient = found["spectral"]["3"]["float64"]["gradient"]
    assert gradient["numpy_by_hand"]["error"] < 1e-13
    assert gradient["numpy_by_hand"]["cpu_s"] > 0.0
    assert gradient["torch"] == {"cpu_s": None, "reason": "left out of this run"}
