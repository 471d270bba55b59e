"""Spectra written as text: `powerlaw + qpo:lorentzian + constant`.

A term is the name of a shape, or a product of shapes joined by `*`; terms are joined by `+`. A shape can be given a
name of its own in front of a colon, by which its parameters are then called (`qpo.centre`); two shapes of one name are
numbered (`lorentzian.centre`, `lorentzian_2.centre`).
"""

import functools
import operator
import re
from collections.abc import Callable

from jaxtyping import Array

from eagleray.errors import InputError
from eagleray.simulators import shapes
from eagleray.simulators.spectrum import Component, Spectrum, component, parameters

SHAPES: dict[str, Callable[..., Array]] = {
    "powerlaw": shapes.scaled(shapes.power_law),
    "bending_powerlaw": shapes.scaled(shapes.bending_power_law),
    "double_bending_powerlaw": shapes.scaled(shapes.double_bending_power_law),
    "lorentzian": shapes.lorentzian,
    "generalized_lorentzian": shapes.generalized_lorentzian,
    "zero_centred_lorentzian": shapes.zero_centred_lorentzian,
    "nu_max_lorentzian": shapes.nu_max_lorentzian,
    "constant": shapes.constant,
}
"""Shapes that a text may name."""

_FACTOR = re.compile(r"\s*(?:(?P<label>[A-Za-z_]\w*)\s*:)?\s*(?P<shape>[A-Za-z_]\w*)\s*")


def spectrum_from_text(text: str, *, pivot: float) -> Spectrum:
    """Read a spectrum.

    Args:
        text: Sum of products of shapes, the names of `SHAPES` with or without underscores.
        pivot: Frequency at which broken and unbroken power laws have the power `norm` [Hz].

    Raises:
        InputError: If the text is no sum of known shapes.

    Examples:
        >>> spectrum_from_text("powerlaw + qpo:lorentzian", pivot=1.0).names
        ('powerlaw.norm', 'powerlaw.slope', 'qpo.centre', 'qpo.fwhm', 'qpo.peak')
    """
    terms = [[_component(factor, text, pivot) for factor in term.split("*")] for term in text.split("+")]
    products: list[Spectrum] = [functools.reduce(operator.mul, factors[1:], factors[0]) for factors in terms]
    return functools.reduce(operator.add, products[1:], products[0])


def _component(factor: str, text: str, pivot: float) -> Component:
    """One shape of the text."""
    known = {name.replace("_", ""): name for name in SHAPES}
    match = _FACTOR.fullmatch(factor)
    name = None if match is None else known.get(match["shape"].lower().replace("_", ""))
    if match is None or name is None:
        raise InputError(
            f"the model must be shapes joined by + or *, from {', '.join(SHAPES)}, got {factor.strip()!r} in {text!r}"
        )
    shape = SHAPES[name]
    fixed = {"pivot": pivot} if "pivot" in parameters(shape) else {}
    return component(shape, match["label"] or name, **fixed)
