"""Power spectra put together from shapes, with parameters named `component.parameter`, and their integrated rms.

    noise = component(bending_power_law, "noise", slope_low=1.0) * component(constant, "scale")
    model = noise + component(nu_max_lorentzian, "qpo")
    model.names        # ("noise.slope_high", "noise.bend_freq", "scale.level", "qpo.nu_max", "qpo.q", "qpo.rms")
    model(freq, theta) # theta: a mapping from those names to scalars

Spectra hold no arrays: they are frozen and hashable, so a compiled simulator may take one as a static argument.
"""

import dataclasses
import inspect
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from eagleray.records import Theta
from eagleray.simulators import shapes

_N_PANELS = 96
_N_NODES = 6


class Spectrum:
    """A power spectrum with named parameters. Add and multiply spectra to make new ones."""

    @property
    def components(self) -> tuple["Component", ...]:
        """Its components, from left to right."""
        raise NotImplementedError

    @property
    def terms(self) -> tuple["Spectrum", ...]:
        """The spectra of which it is the sum, from left to right; itself if it is none."""
        return (self,)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its free parameters, `component.parameter`."""
        return tuple(name for component in self.components for name in component.free)

    def __call__(self, freq: Float[Array, " n"], theta: Theta) -> Float[Array, " n"]:
        """Power at each frequency."""
        raise NotImplementedError

    def integral(self, theta: Theta, f_min: float, f_max: float) -> Float[Array, ""]:
        """Integral of the power between two frequencies."""
        raise NotImplementedError

    def renamed(self, names: Mapping[str, str]) -> "Spectrum":
        """The same spectrum with components renamed."""
        raise NotImplementedError

    def __add__(self, other: "Spectrum") -> "Spectrum":
        """Sum of two spectra, as of independent processes added."""
        return _combine(operator.add, self, other)

    def __mul__(self, other: "Spectrum") -> "Spectrum":
        """Product of two spectra, as of a process seen through a filter."""
        return _combine(operator.mul, self, other)


@dataclasses.dataclass(frozen=True)
class Component(Spectrum):
    """One shape under a name.

    Attributes:
        shape: Function of frequencies and keyword parameters.
        name: Prefix of its parameters.
        fixed: Parameters that are not free, with their values.
    """

    shape: Callable[..., Array]
    name: str
    fixed: tuple[tuple[str, float], ...] = ()

    @property
    def components(self) -> tuple["Component", ...]:
        """Itself."""
        return (self,)

    @property
    def free(self) -> tuple[str, ...]:
        """Full names of the parameters that theta must give."""
        held = dict(self.fixed)
        return tuple(f"{self.name}.{name}" for name in parameters(self.shape) if name not in held)

    def arguments(self, theta: Theta) -> dict[str, Array]:
        """Keyword arguments of the shape; a KeyError names what theta lacks."""
        free = {name.removeprefix(f"{self.name}."): theta[name] for name in self.free}
        dtype = jnp.result_type(*free.values()) if free else jnp.result_type(float)
        return {name: jnp.asarray(value, dtype) for name, value in self.fixed} | free

    def __call__(self, freq: Float[Array, " n"], theta: Theta) -> Float[Array, " n"]:
        """Power at each frequency."""
        return self.shape(freq, **self.arguments(theta))

    def integral(self, theta: Theta, f_min: float, f_max: float) -> Float[Array, ""]:
        """Integral of the power, in closed form where there is one."""
        closed = _INTEGRALS.get(self.shape)
        if closed is None:
            return _quadrature(self, theta, f_min, f_max)
        return closed(f_min, f_max, **self.arguments(theta))

    def renamed(self, names: Mapping[str, str]) -> "Component":
        """The same component, renamed."""
        return dataclasses.replace(self, name=names.get(self.name, self.name))


@dataclasses.dataclass(frozen=True)
class Combination(Spectrum):
    """Two spectra added or multiplied.

    Attributes:
        combine: `operator.add` or `operator.mul`.
        left: First spectrum.
        right: Second spectrum.
    """

    combine: Callable[[Any, Any], Any]
    left: Spectrum
    right: Spectrum

    @property
    def components(self) -> tuple[Component, ...]:
        """Components of both spectra."""
        return self.left.components + self.right.components

    @property
    def terms(self) -> tuple[Spectrum, ...]:
        """Terms of both spectra, if they are added."""
        return self.left.terms + self.right.terms if self.combine is operator.add else (self,)

    def __call__(self, freq: Float[Array, " n"], theta: Theta) -> Float[Array, " n"]:
        """Power at each frequency."""
        return self.combine(self.left(freq, theta), self.right(freq, theta))

    def integral(self, theta: Theta, f_min: float, f_max: float) -> Float[Array, ""]:
        """Integral of the power: term by term for a sum, by quadrature for a product."""
        if self.combine is operator.add:
            return self.left.integral(theta, f_min, f_max) + self.right.integral(theta, f_min, f_max)
        return _quadrature(self, theta, f_min, f_max)

    def renamed(self, names: Mapping[str, str]) -> "Combination":
        """The same combination with components renamed."""
        return dataclasses.replace(self, left=self.left.renamed(names), right=self.right.renamed(names))


def component(shape: Callable[..., Array], name: str | None = None, **fixed: float) -> Component:
    """Make a spectrum of one shape.

    Args:
        shape: Function `(freq, *, parameters...) -> power`, such as those of `eagleray.simulators.shapes`.
        name: Prefix of its parameters; the name of the function if not given.
        **fixed: Values of parameters that are to be held fixed.

    Returns:
        Spectrum whose free parameters are called `name.parameter`.

    Raises:
        ValueError: If a fixed parameter is not one of the shape's.

    Examples:
        >>> component(shapes.nu_max_lorentzian, "qpo", q=5.0).names
        ('qpo.nu_max', 'qpo.rms')
    """
    unknown = sorted(set(fixed) - set(parameters(shape)))
    if unknown:
        raise ValueError(f"fixed parameters must be among {parameters(shape)}, got {unknown}")
    label = name or getattr(shape, "__name__", type(shape).__name__.lower())
    return Component(shape, label, tuple(sorted(fixed.items())))


def parameters(shape: Callable[..., Array]) -> tuple[str, ...]:
    """Names of a shape's parameters: its keyword-only arguments."""
    signature = inspect.signature(shape)
    return tuple(p.name for p in signature.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY)


def rms(spectrum: Spectrum, theta: Theta, f_min: float, f_max: float) -> Float[Array, ""]:
    """Root-mean-square variability of a spectrum between two frequencies.

    Args:
        spectrum: Power spectrum.
        theta: Its parameters.
        f_min: Lower frequency [Hz], positive (static).
        f_max: Upper frequency [Hz] (static).

    Returns:
        Square root of the integrated power: fractional if the spectrum is in (rms/mean)^2/Hz.

    Raises:
        ValueError: If the frequencies are not 0 < f_min < f_max.
    """
    if not 0 < f_min < f_max:
        raise ValueError(f"frequencies must satisfy 0 < f_min < f_max, got {f_min!r} and {f_max!r}")
    return jnp.sqrt(spectrum.integral(theta, f_min, f_max))


def _combine(combine: Callable[[Any, Any], Any], left: Spectrum, right: Spectrum) -> Combination:
    """Join two spectra, numbering components of the right one whose names the left one has taken."""
    taken = {component.name for component in left.components}
    names = {}
    for name in dict.fromkeys(component.name for component in right.components):
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name}_{number}", number + 1
        names[name] = unique
        taken.add(unique)
    return Combination(combine, left, right.renamed(names))


def _quadrature(spectrum: Spectrum, theta: Theta, f_min: float, f_max: float) -> Array:
    """Gauss-Legendre rule on panels of equal width in log-frequency (features broader than 1/96 of the band)."""
    nodes, weights = np.polynomial.legendre.leggauss(_N_NODES)
    edges = np.linspace(math.log(f_min), math.log(f_max), _N_PANELS + 1)
    half = 0.5 * (edges[1] - edges[0])
    log_freq = (0.5 * (edges[1:] + edges[:-1])[:, None] + half * nodes).ravel()
    dtype = jnp.result_type(*theta.values())
    freq = jnp.asarray(np.exp(log_freq), dtype)
    step = jnp.asarray(np.exp(log_freq) * half * np.tile(weights, _N_PANELS), dtype)
    return jnp.sum(spectrum(freq, theta) * step)


def _power_law_integral(f_min: float, f_max: float, *, slope: Array) -> Array:
    """Closed form, smooth through slope 1, where the integral is a logarithm."""
    log_ratio = math.log(f_max / f_min)
    score = (1.0 - slope) * log_ratio
    flat = jnp.abs(score) < 1e-3
    ratio = jnp.expm1(jnp.where(flat, 1.0, score)) / jnp.where(flat, 1.0, score)
    series = 1.0 + 0.5 * score + score * score / 6.0
    return jnp.exp((1.0 - slope) * math.log(f_min)) * log_ratio * jnp.where(flat, series, ratio)


def _lorentzian_integral(f_min: float, f_max: float, *, centre: Array, fwhm: Array, peak: Array) -> Array:
    """Difference of arctangents."""
    half = 0.5 * fwhm
    return peak * half * (jnp.arctan((f_max - centre) / half) - jnp.arctan((f_min - centre) / half))


def _zero_centred_integral(f_min: float, f_max: float, *, rms: Array, half_width: Array) -> Array:
    """Difference of arctangents."""
    return rms * rms * (2.0 / math.pi) * (jnp.arctan(f_max / half_width) - jnp.arctan(f_min / half_width))


def _nu_max_integral(f_min: float, f_max: float, *, nu_max: Array, q: Array, rms: Array) -> Array:
    """Difference of arctangents."""
    half = nu_max / jnp.sqrt(1.0 + 4.0 * q * q)
    centre = 2.0 * q * half
    span = jnp.arctan((f_max - centre) / half) - jnp.arctan((f_min - centre) / half)
    return rms * rms * span / (0.5 * math.pi + jnp.arctan(2.0 * q))


def _qpo_integral(
    f_min: float,
    f_max: float,
    *,
    nu_max: Array,
    q: Array,
    rms: Array,
    ratio_half: Array,
    ratio_2: Array,
    ratio_3: Array,
) -> Array:
    """Sum over the harmonics."""
    members = ((1.0, 1.0), (0.5, ratio_half), (2.0, ratio_2), (3.0, ratio_3))
    return sum(
        (_nu_max_integral(f_min, f_max, nu_max=multiple * nu_max, q=q, rms=ratio * rms) for multiple, ratio in members),
        start=jnp.zeros_like(rms),
    )


def _constant_integral(f_min: float, f_max: float, *, level: Array) -> Array:
    """Level times bandwidth."""
    return level * (f_max - f_min)


_INTEGRALS: dict[Callable[..., Array], Callable[..., Array]] = {
    shapes.power_law: _power_law_integral,
    shapes.lorentzian: _lorentzian_integral,
    shapes.zero_centred_lorentzian: _zero_centred_integral,
    shapes.nu_max_lorentzian: _nu_max_integral,
    shapes.qpo: _qpo_integral,
    shapes.constant: _constant_integral,
}
