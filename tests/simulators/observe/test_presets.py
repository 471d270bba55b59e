"""Detector presets: consistent, sourced, and refused when impossible."""

import ast
import dataclasses
import inspect

import pytest

from eagleray.simulators.observe import presets
from eagleray.simulators.observe.presets import DETECTORS, NICER, NUSTAR, RXTE_PCA, SWIFT_XRT_WT, Detector


def attribute_docstrings():
    """Docstring below each assignment of a preset."""
    body = ast.parse(inspect.getsource(presets)).body
    return {
        ast.unparse(node.targets[0]): following.value.value
        for node, following in zip(body, body[1:], strict=False)
        if isinstance(node, ast.Assign) and isinstance(following, ast.Expr)
    }


@pytest.mark.parametrize("name", list(DETECTORS))
def test_every_number_names_its_source(name):
    documentation = attribute_docstrings()[name.upper()]
    for field in dataclasses.fields(Detector)[1:]:
        value = getattr(DETECTORS[name], field.name)
        single = field.name == "n_detectors" and value == 1
        assert value is None or single or field.name in documentation.split("References:")[1], field.name


def test_known_relations_hold():
    assert pytest.approx(1 / NUSTAR.dead_time) == NUSTAR.max_rate
    small = DETECTORS["xmm_pn_small_window"]
    assert small.frame_time == pytest.approx(3.97e-3 + 200 * 0.72e-6 + 66 * 23.04e-6, rel=1e-4)
    full = DETECTORS["xmm_pn_full_frame"]
    assert full.frame_time == pytest.approx(full.integration_time + 200 * 23.04e-6)


def test_ticks():
    assert RXTE_PCA.ticks(RXTE_PCA.dead_time) == 10
    with pytest.raises(
        ValueError, match="time_resolution must be known to count in ticks, got None for Swift XRT wind"
    ):
        SWIFT_XRT_WT.ticks(1.0)


def test_impossible_detectors_are_refused():
    with pytest.raises(ValueError, match="dead_time must be positive and finite, got nan"):
        dataclasses.replace(NICER, dead_time=float("nan"))
    with pytest.raises(ValueError, match="n_detectors must be at least 1, got 0"):
        dataclasses.replace(NICER, n_detectors=0)
    with pytest.raises(ValueError, match="kind must be 'non-paralyzable', 'paralyzable' or None, got 'both'"):
        dataclasses.replace(NICER, kind="both")
