"""Named priors: independent numpyro distributions, their bijections to the real line, and their text form.

A prior is written as text everywhere a user meets it (command line, TOML, saved networks):

    rms = "loguniform(0.02, 1)"
    slope_low = "uniform(0, 1.5)"
"""

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
}
_TEXT = re.compile(r"\s*([a-z]+)\s*\(([^()]*)\)\s*")


class Prior:
    """Independent priors of named parameters, and the bijection from the real line to each support.

    Args:
        texts: Parameter name -> prior as text, in the order of the vector form.

    Raises:
        InputError: If a text is not a prior, or its numbers are out of order.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        """Parse every text once."""
        parsed = {name: parse(name, text) for name, text in texts.items()}
        self.texts = {name: text for name, (text, _) in parsed.items()}
        # Any: numpyro's own hints leave room for numbers that are no arrays, and for a missing support.
        self._distributions: dict[str, Any] = {name: distribution for name, (_, distribution) in parsed.items()}
        self._bijections: dict[str, Any] = {name: _bijection(d) for name, d in self._distributions.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names, in the order of the vector form."""
        return tuple(self.texts)

    def family(self, name: str) -> str:
        """Family of one parameter's prior, a key of `FAMILIES`."""
        return _split(self.texts[name])[0]

    def lower_end(self, name: str) -> float:
        """Lower end of the support of one parameter; -inf if it has none."""
        family, numbers = _split(self.texts[name])
        if family == "lognormal":
            return 0.0
        return dict(zip(FAMILIES[family], numbers, strict=True)).get("low", -math.inf)

    def upper_end(self, name: str) -> float:
        """Upper end of the support of one parameter; inf if it has none."""
        family, numbers = _split(self.texts[name])
        return dict(zip(FAMILIES[family], numbers, strict=True)).get("high", math.inf)

    def sample(self, key: Key) -> dict[str, Float[Array, ""]]:
        """Draw one set of parameters."""
        keys = jax.random.split(key, len(self.names))
        draws = {name: d.sample(k) for (name, d), k in zip(self._distributions.items(), keys, strict=True)}
        # In float32 a draw can round to an end of its support, which has no place on the real line.
        return {name: jnp.clip(draw, *self._inside(name, draw.dtype)) for name, draw in draws.items()}

    def _inside(self, name: str, dtype: Any) -> tuple[Any, Any]:
        """The smallest and largest numbers inside the support of one parameter."""
        low, high = np.asarray([self.lower_end(name), self.upper_end(name)], dtype)
        return np.nextafter(low, np.asarray(np.inf, dtype)), np.nextafter(high, np.asarray(-np.inf, dtype))

    def log_prob(self, theta: Theta) -> Float[Array, ""]:
        """Log prior density in physical units; -inf outside the support."""
        total = jnp.zeros(())
        for name, distribution in self._distributions.items():
            inside = distribution.support(theta[name])
            density = distribution.log_prob(jnp.where(inside, theta[name], self._bijections[name](jnp.zeros(()))))
            total = total + jnp.where(inside, density, -jnp.inf)
        return total

    def unconstrain(self, theta: Theta) -> Float[Array, " n_theta"]:
        """Map parameters inside the support to the real line, shape (n_theta,)."""
        return jnp.stack([self._bijections[name].inv(theta[name]) for name in self.names])

    def constrain(self, position: Float[Array, " n_theta"]) -> dict[str, Float[Array, ""]]:
        """Map a point of the real space to parameters inside the support."""
        return {name: self._bijections[name](position[i]) for i, name in enumerate(self.names)}

    def log_det(self, position: Float[Array, " n_theta"]) -> Float[Array, ""]:
        """Ln |d theta / d position| of `constrain`."""
        total = jnp.zeros(())
        for i, name in enumerate(self.names):
            bijection = self._bijections[name]
            total = total + bijection.log_abs_det_jacobian(position[i], bijection(position[i]))
        return total


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
    for spread in ("sd", "log_sd"):
        if spread in values and not values[spread] > 0:
            raise InputError(f"the prior of {name} must have {spread} > 0, got {values[spread]:g}")


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
    return dist.TruncatedNormal(values["mean"], values["sd"], low=values["low"], high=values["high"])


def _bijection(distribution: dist.Distribution) -> Transform:
    """From the real line to the support, along the distribution's own transforms, so that scales stay natural."""
    if isinstance(distribution, dist.TransformedDistribution):
        return ComposeTransform([_bijection(distribution.base_dist), *distribution.transforms])
    if isinstance(distribution, dist.Normal):
        return AffineTransform(**distribution.get_args())  # loc and scale
    return biject_to(distribution.support)
