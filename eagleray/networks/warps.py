"""Elementwise maps that bring data to zero mean, unit spread and a tame shape."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float
from numpy.typing import NDArray

from eagleray.networks.layers import Constant
from eagleray.records import AnyArray

# Samples on which the shape of the map is chosen.
_N_SAMPLES = 4000
# Widths of the asinh that are tried, and the greatest of them in median absolute deviations.
_N_WIDTHS, _WIDEST = 24, 10.0
# Gain in mean ln density per sample below which an entry stays as it is.
_LEAST_GAIN = 0.02
# bent, centre, width, mean, scale of the identity.
_AS_IT_IS = (0.0, 0.0, 1.0, 0.0, 1.0)


class Warp(nnx.Module):
    """y = (g(x) - mean) / scale entry by entry, g the identity or asinh((x - centre) / width), learnt from samples.

    asinh is the logarithm where x is far from the centre on the scale of the width, and linear where it is near; unlike
    the logarithm it has a value for every x. Which entries are bent, and how, maximises the likelihood of the samples
    under a normal distribution of g(x), as Box & Cox chose their exponents.

    Args:
        n: Size of the vectors.

    References:
        Box & Cox (1964), J. R. Stat. Soc. B 26, 211, equation 8; Johnson (1949), Biometrika 36, 149 (the S_U system).
    """

    def __init__(self, n: int) -> None:
        """Start as the identity."""
        self.bent = Constant(jnp.zeros(n, bool))
        self.centre = Constant(jnp.zeros(n))
        self.width = Constant(jnp.ones(n))
        self.mean = Constant(jnp.zeros(n))
        self.scale = Constant(jnp.ones(n))

    def learn(self, samples: Float[AnyArray, "n_samples n"], *, bend: bool = True, keep: Sequence[bool] = ()) -> None:
        """Take all constants from samples; an entry that never varies keeps scale one.

        Args:
            samples: (n_samples, n); entries that are not finite do not count.
            bend: Whether the map may be an asinh; otherwise it only shifts and scales.
            keep: Which entries are left as they are, as discrete ones must be; none by default.
        """
        columns = np.asarray(samples, np.float64).T
        constants = np.array([_learn_entry(column[np.isfinite(column)], bend=bend) for column in columns])
        if any(keep):
            constants[np.array(keep)] = _AS_IT_IS
        for name, values in zip(("bent", "centre", "width", "mean", "scale"), constants.T, strict=True):
            variable = getattr(self, name)
            variable.set_value(jnp.asarray(values, variable.get_value().dtype))

    def __call__(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """Warped vector."""
        bent = jnp.arcsinh((x - self.centre[...]) / self.width[...])
        return (jnp.where(self.bent[...], bent, x) - self.mean[...]) / self.scale[...]

    def inverse(self, y: Float[Array, " n"]) -> Float[Array, " n"]:
        """From warped to original."""
        g = y * self.scale[...] + self.mean[...]
        straight = jnp.sinh(jnp.where(self.bent[...], g, 0.0)) * self.width[...] + self.centre[...]
        return jnp.where(self.bent[...], straight, g)

    def log_det(self, x: Float[Array, " n"]) -> Float[Array, ""]:
        """Ln |dy/dx|."""
        bent = -jnp.log(jnp.hypot(x - self.centre[...], self.width[...]))
        return (jnp.where(self.bent[...], bent, 0.0) - jnp.log(self.scale[...])).sum()


def _learn_entry(x: NDArray[np.floating], *, bend: bool) -> tuple[float, ...]:
    """bent, centre, width, mean, scale of one entry."""
    if x.size == 0 or x.std() <= 1e-6 * np.abs(x).max():
        return 0.0, 0.0, 1.0, float(x.mean()) if x.size else 0.0, 1.0
    some = x[:: max(1, len(x) // _N_SAMPLES)]
    centre, width = _best_asinh(some) if bend and some.std() > 0 else (0.0, np.inf)
    if not np.isfinite(width):
        return 0.0, 0.0, 1.0, float(x.mean()), float(x.std())
    g = np.arcsinh((x - centre) / width)
    return 1.0, centre, width, float(g.mean()), float(g.std())


def _best_asinh(x: NDArray[np.floating]) -> tuple[float, float]:
    """Centre and width of the asinh with the greatest normal likelihood; infinite width: none beats the identity."""
    median = float(np.median(x))
    spread = float(np.median(np.abs(x - median))) or float(x.std())
    best, choice = _LEAST_GAIN - np.log(x.std()), (0.0, np.inf)
    for centre in {0.0, median}:
        distances = np.abs(x - centre)
        # No narrower than the data are fine: at a value taken again and again the density would grow without end.
        narrowest = min(float(distances[distances > 0].min()), spread)
        for width in np.geomspace(narrowest, _WIDEST * spread, _N_WIDTHS):
            g = np.arcsinh((x - centre) / width)
            gain = -np.log(g.std()) - 0.5 * np.log(distances**2 + width**2).mean()
            if gain > best:
                best, choice = gain, (centre, float(width))
    return choice
