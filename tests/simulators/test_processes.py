"""Simulators outside JAX: the same draws for any number of processes, failures marked. Workers import this module."""

import os
import sys
import time

import numpy as np
import pytest

from eagleray.simulators.processes import CommandDraw, HostDraw, parse_json

WORDS = [1, 2]


def noise(rng, scale=1.0):
    """A NumPy simulator; it also tells who ran it."""
    return {
        "x": scale * rng.normal(size=3).astype(np.float32),
        "counts": rng.poisson(5.0),
        "settings": np.array([int("jax" in sys.modules), int(os.environ["OMP_NUM_THREADS"])]),
    }


def sometimes_fails(rng, entry):
    if entry["i"] % 3 == 1:
        raise ValueError(f"no draw {entry['i']}")
    return {"rate": rng.normal(size=2).astype(np.float32), "counts": np.array([1, 2])}


def changing_shape(rng, n):
    return rng.normal(size=int(n))


def dies(rng):
    os._exit(3)


def slow(rng):
    time.sleep(0.3)
    return np.zeros(1)


def stingray_power_law(rng, mean):
    """Stingray's own simulator, whose draws come from NumPy's global state."""
    from stingray.simulator import Simulator

    np.random.seed(rng.integers(2**32))  # noqa: NPY002
    return Simulator(N=64, dt=1.0, mean=float(mean), rms=0.2).simulate(2.0).counts


@pytest.fixture(scope="module")
def map_draws():
    """Imported here, so that the workers stay without JAX."""
    from eagleray.simulators.batch import map_draws

    return map_draws


@pytest.fixture(scope="module")
def key():
    import jax

    return jax.random.key(3)


def test_draws_do_not_depend_on_the_processes(map_draws, key):
    told = []
    one = map_draws(HostDraw(noise, processes=1), key, 9, chunk_size=9)
    two = map_draws(HostDraw(noise, processes=2), key, 9, chunk_size=2, progress=lambda *done: told.append(done))
    longer = HostDraw(noise, processes=1).run(np.random.default_rng(0).integers(9, size=2).tolist(), 2)
    for name in ("x", "counts", "settings"):
        np.testing.assert_array_equal(one[name], two[name])
    assert told == [(2, 9), (4, 9), (6, 9), (8, 9), (9, 9)]
    assert (one["x"].shape, one["x"].dtype, one["counts"].dtype) == ((9, 3), np.float32, np.int64)
    assert len(np.unique(one["x"])) == 27
    assert not np.isin(longer["x"], one["x"]).any()
    np.testing.assert_array_equal(one["settings"], [[0, 1]] * 9)  # no JAX, one thread


def test_the_environment_is_left_as_it_was(map_draws, key, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    draws = map_draws(HostDraw(noise, processes=1), key, 2, inputs=np.array([0.0, 1.0], np.float32))
    assert dict(os.environ) == before
    assert (draws["x"][0] == 0).all()
    assert (draws["x"][1] != 0).all()
    assert draws["settings"][0, 1] == 1


def test_failed_draws_are_marked_and_told(map_draws, key):
    from eagleray.simulators.batch import finite_draws

    inputs = {"i": np.arange(7)}
    with pytest.warns(RuntimeWarning, match="2 of 7 draws failed; the first, draw 1: ValueError: no draw 1") as told:
        draws = map_draws(HostDraw(sometimes_fails, processes=1), key, 7, inputs=inputs, chunk_size=3)
    assert told[0].filename == __file__
    np.testing.assert_array_equal(finite_draws(draws), inputs["i"] % 3 != 1)
    assert np.isnan(draws["counts"][1]).all()
    assert (draws["rate"].dtype, draws["counts"].dtype) == (np.float32, np.float64)
    np.testing.assert_array_equal(draws["counts"][[0, 2, 3, 5, 6]], [[1, 2]] * 5)


def test_nothing_made_is_an_error(map_draws, key):
    with pytest.raises(RuntimeError, match="2 of 2 draws failed; the first, draw 0: ValueError: no draw 1"):
        map_draws(HostDraw(sometimes_fails, processes=1), key, 2, inputs={"i": np.array([1, 4])})
    with pytest.raises(ValueError, match=r"draws must all have the same structure and shapes, got \(2,\) and \(3,\)"):
        map_draws(HostDraw(changing_shape, processes=1), key, 2, inputs=np.array([2, 3]))
    with pytest.raises(RuntimeError, match="terminated abruptly"):
        map_draws(HostDraw(dies, processes=1), key, 2)
    with pytest.raises(ValueError, match="processes must be at least 1, got 0"):
        HostDraw(noise, processes=0)


def test_an_interruption_does_not_wait_for_all_draws(map_draws, key):
    def interrupt(done, n):
        raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        map_draws(HostDraw(slow, processes=1), key, 100, chunk_size=1, progress=interrupt)
    assert time.monotonic() - start < 15  # all: 30 s


@pytest.mark.slow
def test_stingray_as_simulator(map_draws, key):
    mean = np.array([50.0, 500.0, 50.0])
    counts = map_draws(HostDraw(stingray_power_law, processes=1), key, 3, inputs=mean)
    assert counts.shape == (3, 64)
    np.testing.assert_allclose(counts.mean(axis=1), mean, rtol=0.5)
    assert not (counts[0] == counts[2]).any()


COMMAND = """
import json, random, sys
task = json.load(sys.stdin)
draw = random.Random(task["seed"])
if task["inputs"]["n"] == 2: sys.exit("two is too many")
print(json.dumps({"x": [draw.gauss(0, 1), sum(task["inputs"]["a"])], "nested": {"n": None}}))
"""


def test_command_as_simulator(map_draws, key):
    inputs = {"n": np.array([1, 2, 3]), "a": np.ones((3, 2), np.float32)}
    draws = CommandDraw([sys.executable, "-c", COMMAND], processes=1)
    with pytest.warns(RuntimeWarning, match="1 of 3 draws failed.*draw 1: RuntimeError.*ended with 1: two is too many"):
        first = map_draws(draws, key, 3, inputs=inputs)
    assert first["x"].shape == (3, 2)
    np.testing.assert_array_equal(first["x"][:, 1], [2, np.nan, 2])
    assert first["x"][0, 0] != first["x"][2, 0]
    assert np.isnan(first["nested"]["n"]).all()
    with pytest.warns(RuntimeWarning, match="failed"):
        again = map_draws(CommandDraw(draws.function.args[0], processes=2), key, 3, inputs=inputs)
    np.testing.assert_array_equal(first["x"], again["x"])


def test_command_without_inputs_with_its_own_parser_and_a_timeout(map_draws, key):
    draws = map_draws(CommandDraw(["cat"], parse=len, processes=1), key, 2)
    assert draws.shape == (2,)
    with pytest.raises(RuntimeError, match="TimeoutExpired"):
        map_draws(CommandDraw(["sleep", "5"], timeout=0.1, processes=1), key, 1)
    with pytest.raises(RuntimeError, match="JSONDecodeError"):
        map_draws(CommandDraw(["echo", "no"], processes=1), key, 1)


def test_parse_json():
    found = parse_json('{"a": [1, 2], "b": {"c": null}}')
    np.testing.assert_array_equal(found["a"], [1.0, 2.0])
    assert np.isnan(found["b"]["c"])
