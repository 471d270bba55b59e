"""Named priors: independent numpyro distributions, their bijections to the real line, and their text form.

A prior is written as text everywhere a user meets it (command line, TOML, saved networks):

    rms = "loguniform(0.02, 1)"
    slope_low = "uniform(0, 1.5)"
    noise = "fixed(2)"
    harmonic_freq = "tied(2 * qpo_freq)"

Fixed and tied parameters are parameters like any other, except that they are no coordinates of the real space.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions.transforms import AffineTransform, ComposeTransform, Transform, biject_to

from eagleray.errors import InputError
from eagleray.records import Key, Theta

# Name of a family -> names of its arguments.
FAMILIES: dict[str, tuple[str, ...]] = {
    "uniform": ("low", "high"),
    "loguniform": ("low", "high"),
    "normal": ("mean", "sd"),
    "lognormal": ("log_mean", "log_sd"),
    "truncnormal": ("mean", "sd", "low", "high"),
    "gamma": ("shape", "inverse_scale"),
}
_TEXT = re.compile(r"\s*([a-z]+)\s*\(([^()]*)\)\s*")
_TIE = re.compile(r"(?:(?P<factor>[^*]+)\*)?\s*(?P<name>[A-Za-z_][\w.]*)\s*")


@dataclasses.dataclass(frozen=True)
class Tie:
    """A parameter that is a multiple of another: `factor * name`; without a name it is the fixed value `factor`."""

    factor: float
    name: str | None = None

    def __str__(self) -> str:
        """The text form."""
        if self.name is None:
            return f"fixed({self.factor:.9g})"
        return f"tied({self.name})" if self.factor == 1 else f"tied({self.factor:.9g} * {self.name})"


class Prior:
    """Independent priors of named parameters, and the bijection from the real line to each support.

    Parameters with a distribution are free: they are the coordinates of a position. Others are fixed, or tied to a
    free one; wherever parameters come out (`sample`, `constrain`) they come out too.

    Args:
        texts: Parameter name -> prior as text, in the order of the vector form.

    Raises:
        InputError: If a text is not a prior, its numbers are out of order, a tie leads nowhere, or nothing is free.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        """Parse every text once."""
        self._ties = {name: tie for name, text in texts.items() if (tie := parse_tie(name, text)) is not None}
        parsed = {name: parse(name, text) for name, text in texts.items() if name not in self._ties}
        self.texts = {name: parsed[name][0] if name in parsed else str(self._ties[name]) for name in texts}
        # Any: numpyro's own hints leave room for numbers that are no arrays, and for a missing support.
        self._distributions: dict[str, Any] = {name: distribution for name, (_, distribution) in parsed.items()}
        self._bijections: dict[str, Any] = {name: _bijection(d) for name, d in self._distributions.items()}
        if not parsed:
            raise InputError(f"the prior must leave at least one parameter free, got {self.texts}")
        for name, tie in self._ties.items():
            if tie.name is not None and tie.name not in parsed:
                raise InputError(
                    f"the prior of {name} must tie it to a free parameter ({', '.join(parsed)}), got {tie.name!r}"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the free parameters, in the order of the vector form."""
        return tuple(self._distributions)

    @property
    def all_names(self) -> tuple[str, ...]:
        """Names of all parameters, fixed and tied ones included."""
        return tuple(self.texts)

    def family(self, name: str) -> str:
        """Family of one parameter's prior, a key of `FAMILIES`; "fixed" or "tied" for those that are not free."""
        return self.texts[name].partition("(")[0]

    def lower_end(self, name: str) -> float:
        """Lower end of the support of one parameter; -inf if it has none."""
        return self._ends(name)[0]

    def upper_end(self, name: str) -> float:
        """Upper end of the support of one parameter; inf if it has none."""
        return self._ends(name)[1]

    def _ends(self, name: str) -> tuple[float, float]:
        """Both ends of the support of one parameter."""
        if name in self._ties:
            tie = self._ties[name]
            low, high = (1.0, 1.0) if tie.name is None else self._ends(tie.name)
            low, high = sorted((tie.factor * low, tie.factor * high))
            return low, high
        family, numbers = _split(self.texts[name])
        ends = dict(zip(FAMILIES[family], numbers, strict=True))
        positive = family in ("lognormal", "gamma")
        return ends.get("low", 0.0 if positive else -math.inf), ends.get("high", math.inf)

    def sample(self, key: Key) -> dict[str, Float[Array, ""]]:
        """Draw one set of parameters."""
        keys = jax.random.split(key, len(self.names))
        draws = {name: d.sample(k) for (name, d), k in zip(self._distributions.items(), keys, strict=True)}
        # In float32 a draw can round to an end of its support, which has no place on the real line.
        return self.complete({name: jnp.clip(draw, *self._inside(name, draw.dtype)) for name, draw in draws.items()})

    def complete(self, free: Theta) -> dict[str, Float[Array, ""]]:
        """Add fixed and tied parameters to the free ones; in the prior's order."""
        if not self._ties:
            return {name: free[name] for name in self.names}
        one = jnp.ones_like(free[self.names[0]])
        others = {name: tie.factor * (one if tie.name is None else free[tie.name]) for name, tie in self._ties.items()}
        return {name: free[name] if name in self._distributions else others[name] for name in self.texts}

    def _inside(self, name: str, dtype: Any) -> tuple[Any, Any]:
        """The smallest and largest numbers inside the support of one parameter that processors tell from zero."""
        low, high = np.asarray([self.lower_end(name), self.upper_end(name)], dtype)
        with np.errstate(under="ignore"):  # next to zero
            low, high = np.nextafter(low, np.asarray(np.inf, dtype)), np.nextafter(high, np.asarray(-np.inf, dtype))
        tiny = np.finfo(dtype).tiny
        return tiny if 0 < low < tiny else low, -tiny if -tiny < high < 0 else high

    def log_prob(self, theta: Theta) -> Float[Array, ""]:
        """Log prior density of the free parameters in physical units; -inf outside the support."""
        total = jnp.zeros(())
        for name, distribution in self._distributions.items():
            inside = distribution.support(theta[name])
            density = distribution.log_prob(jnp.where(inside, theta[name], self._bijections[name](jnp.zeros(()))))
            total = total + jnp.where(inside, density, -jnp.inf)
        return total

    def log_prob_position(self, position: Float[Array, " n_theta"]) -> Float[Array, ""]:
        """Log prior density of a point of the real space itself: ln |d theta / d position| is in it."""
        return self.log_prob(self.constrain(position)) + self.log_det(position)

    def log_prob_natural(self, theta: Theta) -> Float[Array, ""]:
        """Log prior density of the free parameters, of ln theta for those that are log-uniform or log-normal.

        On these coordinates flat priors are flat, and the maximum of a posterior is not drawn to the lower ends of
        parameters that span decades, as it is in physical units.
        """
        logarithmic = [name for name in self.names if self.family(name) in ("loguniform", "lognormal")]
        return self.log_prob(theta) + sum((jnp.log(theta[name]) for name in logarithmic), jnp.zeros(()))

    def unconstrain(self, theta: Theta) -> Float[Array, " n_theta"]:
        """Map the free parameters, inside their support, to the real line, shape (n_theta,).

        What rounds to an end of a bounded support goes where the number next to it does, not to infinity.
        """
        return jnp.stack([self._position(name, theta[name]) for name in self.names])

    def _position(self, name: str, value: Any) -> Float[Array, ""]:
        """Where one parameter is on the real line."""
        position = self._bijections[name].inv(value)
        if not (math.isfinite(self.lower_end(name)) and math.isfinite(self.upper_end(name))):
            return position
        farthest = 1.0 - math.log(jnp.finfo(position.dtype).eps)
        return jnp.clip(position, -farthest, farthest)

    def constrain(self, position: Float[Array, " n_theta"]) -> dict[str, Float[Array, ""]]:
        """Map a point of the real space to parameters inside the support."""
        return self.complete({name: self._bijections[name](position[i]) for i, name in enumerate(self.names)})

    def log_det(self, position: Float[Array, " n_theta"]) -> Float[Array, ""]:
        """Ln |d theta / d position| of `constrain`."""
        total = jnp.zeros(())
        for i, name in enumerate(self.names):
            bijection = self._bijections[name]
            total = total + bijection.log_abs_det_jacobian(position[i], bijection(position[i]))
        return total


def parse_tie(name: str, text: str) -> Tie | None:
    """Read `fixed(value)`, `tied(name)` or `tied(factor * name)`; None for anything else.

    Raises:
        InputError: If what stands in the parentheses is no value, or no parameter.
    """
    match = _TEXT.fullmatch(str(text))
    if match is None or match[1] not in ("fixed", "tied"):
        return None
    if match[1] == "fixed":
        value = _finite(match[2])
        if value is None:
            raise InputError(f"the prior of {name} must be fixed(value) with a number, got {text!r}")
        return Tie(value)
    inner = _TIE.fullmatch(match[2])
    factor = None if inner is None else _finite(inner["factor"] or "1")
    if inner is None or not factor:
        raise InputError(f"the prior of {name} must be tied(parameter) or tied(factor * parameter), got {text!r}")
    return Tie(factor, inner["name"])


def _finite(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def parse(name: str, text: str) -> tuple[str, dist.Distribution]:
    """Read one prior.

    Returns:
        The text in its standard form, and the distribution.

    Raises:
        InputError: If the text is not a prior, or its numbers are out of order.
    """
    match = _TEXT.fullmatch(str(text))
    if match is None or match[1] not in FAMILIES:
        forms = ", ".join(f"{family}({', '.join(arguments)})" for family, arguments in FAMILIES.items())
        forms += ", fixed(value), tied(factor * parameter)"
        raise InputError(f"the prior of {name} must be one of {forms}, got {text!r}")
    family, arguments = match[1], FAMILIES[match[1]]
    try:
        numbers = [float(part) for part in match[2].split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != len(arguments) or not all(math.isfinite(number) for number in numbers):
        raise InputError(f"the prior of {name} must be {family}({', '.join(arguments)}) with numbers, got {text!r}")
    values = dict(zip(arguments, numbers, strict=True))
    _check_order(name, family, values)
    standard = f"{family}({', '.join(f'{number:.9g}' for number in numbers)})"
    distribution = _distribution(family, values)
    _check_samples(name, text, distribution)
    return standard, distribution


def _split(text: str) -> tuple[str, list[float]]:
    """Family and numbers of a prior in its standard form."""
    family, _, arguments = text.rstrip(")").partition("(")
    return family, [float(part) for part in arguments.split(",")]


def _check_order(name: str, family: str, values: Mapping[str, float]) -> None:
    """Refuse numbers that make no distribution, or none in the single precision in which it is sampled."""
    low, high = values.get("low", -math.inf), values.get("high", math.inf)
    if not low < high:
        raise InputError(f"the prior of {name} must have low < high, got low={low:g}, high={high:g}")
    if math.isfinite(high - low) and not np.spacing(np.float32(max(abs(low), abs(high)))) < 1e-3 * (high - low):
        raise InputError(
            f"the prior of {name} must be wider than the rounding of single precision, got low={low:.9g}, "
            f"high={high:.9g}; count from an offset"
        )
    if family == "loguniform" and not low > np.finfo(np.float32).tiny:
        raise InputError(f"the prior of {name} must have low > 0 (1.2e-38) to be log-uniform, got low={low:g}")
    for positive in ("sd", "log_sd", "shape", "inverse_scale"):
        if positive in values and not values[positive] > 0:
            raise InputError(f"the prior of {name} must have {positive} > 0, got {values[positive]:g}")


def _check_samples(name: str, text: str, distribution: dist.Distribution) -> None:
    """Refuse a prior that single precision cannot sample: far in a tail, or over too many decades."""
    draws = distribution.sample(jax.random.key(0), (64,))
    position = np.asarray(_bijection(distribution).inv(draws))
    if np.unique(np.asarray(draws)).size < 32 or not np.isfinite(position).all():
        raise InputError(f"the prior of {name} must be one that single precision can sample, got {text!r}")


def _distribution(family: str, values: Mapping[str, float]) -> dist.Distribution:
    """The numpyro distribution of a family."""
    if family == "uniform":
        return dist.Uniform(values["low"], values["high"])
    if family == "loguniform":
        return dist.LogUniform(values["low"], values["high"])
    if family == "normal":
        return dist.Normal(values["mean"], values["sd"])
    if family == "lognormal":
        return dist.LogNormal(values["log_mean"], values["log_sd"])
    if family == "gamma":
        return dist.Gamma(values["shape"], values["inverse_scale"])
    return dist.TruncatedNormal(values["mean"], values["sd"], low=values["low"], high=values["high"])


def _bijection(distribution: dist.Distribution) -> Transform:
    """From the real line to the support, along the distribution's own transforms, so that scales stay natural."""
    if isinstance(distribution, dist.TransformedDistribution):
        return ComposeTransform([_bijection(distribution.base_dist), *distribution.transforms])
    if isinstance(distribution, dist.Normal):
        return AffineTransform(**distribution.get_args())  # loc and scale
    return biject_to(distribution.support)
