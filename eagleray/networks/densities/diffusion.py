"""Diffusion models: the score of data under noise of every level, and the flow that follows from it."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from eagleray.networks.densities.settings import check_sizes
from eagleray.networks.densities.vector_fields import VectorField
from eagleray.records import Key

# Slope of the variance-preserving path's schedule at its start.
_BETA_MIN = 0.1
# Steps are shorter towards the data, where the field is rougher: the part of the noise falls as this power.
_STEP_POWER = 3.0


class Diffusion(VectorField):
    """Density whose field is the probability flow of a diffusion.

    With sigma = tan(angle) the ratio of noise to data, x = cos(angle) data + sin(angle) noise has unit variance at all
    levels, data being standardised. In these coordinates the probability flows of all diffusions are one: dx / d angle
    is the mean v of cos(angle) noise - sin(angle) data given x. The network is asked for v, which is Karras et al.'s
    preconditioning for data of unit variance. Paths differ in how often training sees each sigma, and in the weight
    that it gives to it:

    - "vp" (variance preserving): time uniform, with a beta linear in time; errors of the predicted noise;
    - "ve" (variance exploding): ln sigma uniform; errors of the predicted noise: the weights of maximum likelihood;
    - "edm": ln sigma normal; errors of v.

    Args:
        n_value: Size of the vector whose density it is.
        n_context: Size of the context.
        settings: Path and sizes.
        rngs: Keys for the initial weights.

    References:
        Song et al. (2021), Score-Based Generative Modeling through SDEs, equation 13 and appendix C (vp, ve); Song,
        Durkan et al. (2021), Maximum Likelihood Training of Score-Based Diffusion Models, theorem 1; Karras et al.
        (2022), Elucidating the Design Space of Diffusion-Based Generative Models, table 1 (edm); Salimans & Ho (2022),
        Progressive Distillation, section 4 and appendix D (v); Sharrock et al. (2024), Sequential Neural Score
        Estimation, section 2.
    """

    def __init__(self, n_value: int, n_context: int, settings: "DiffusionSettings", *, rngs: nnx.Rngs) -> None:
        """Build the network."""
        high, low = (sigma / (1.0 + sigma) for sigma in (settings.sigma_max, settings.sigma_min))
        parts = (
            np.linspace(high ** (1.0 / _STEP_POWER), low ** (1.0 / _STEP_POWER), settings.n_steps + 1) ** _STEP_POWER
        )
        angles = np.arctan2(parts, 1.0 - parts)
        super().__init__(n_value, n_context, width=settings.width, n_blocks=settings.n_blocks, times=angles, rngs=rngs)
        self.settings = settings

    def velocity(
        self, time: Float[Array, ""], value: Float[Array, " n_value"], context: Float[Array, " n_context"]
    ) -> Float[Array, " n_value"]:
        """Derivative of the value by time, time being the angle."""
        return self.network(value, jnp.log(jnp.tan(time)), context)

    def loss(self, key: Key, value: Float[Array, " n_value"], context: Float[Array, " n_context"]) -> Float[Array, ""]:
        """Squared error of the network at a random noise level."""
        key_level, key_noise = jax.random.split(key)
        log_sigma = _log_sigma(self.settings, jax.random.uniform(key_level, (), value.dtype))
        noise = jax.random.normal(key_noise, value.shape, value.dtype)
        cos, sin = jnp.sqrt(jax.nn.sigmoid(-2.0 * log_sigma)), jnp.sqrt(jax.nn.sigmoid(2.0 * log_sigma))
        error = self.network(cos * value + sin * noise, log_sigma, context) - (cos * noise - sin * value)
        # Noise is sin x + cos v.
        return (error**2).mean() * (1.0 if self.settings.path == "edm" else cos**2)


def _log_sigma(settings: "DiffusionSettings", u: Array) -> Array:
    """Ln sigma that a fraction u of training stays below."""
    low, high = settings.sigma_min, settings.sigma_max
    if settings.path == "edm":
        normal = jax.scipy.special.ndtri(jnp.clip(u, 1e-6, 1.0 - 1e-6))  # u may be zero
        return settings.log_sigma_mean + settings.log_sigma_std * normal
    if settings.path == "ve":
        return float(np.log(low)) + float(np.log(high / low)) * u
    # 1 + sigma^2 = exp(beta_min t + rise t^2 / 2), Song et al. (2021), equation 33; t from where sigma is sigma_min.
    rise = 2.0 * (float(np.log1p(high**2)) - _BETA_MIN)
    start = (float(np.sqrt(_BETA_MIN**2 + 2.0 * rise * np.log1p(low**2))) - _BETA_MIN) / rise
    time = start + (1.0 - start) * u
    return 0.5 * jnp.log(jnp.expm1(_BETA_MIN * time + 0.5 * rise * time**2))


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiffusionSettings:
    """Path and size of a diffusion model.

    Attributes:
        kind: Its name in settings.
        path: Variance preserving, variance exploding, or as Karras et al. (2022).
        width: Size of every hidden layer.
        n_blocks: Residual blocks.
        n_steps: Steps from noise to data; the field is asked four times in each.
        sigma_min: Noise left in the data, in standard deviations of the value.
        sigma_max: Noise in which the data are lost.
        log_sigma_mean: Mean of ln sigma in training ("edm" alone).
        log_sigma_std: Its standard deviation ("edm" alone).
    """

    kind: Literal["score"] = "score"
    path: Literal["vp", "ve", "edm"] = "edm"
    width: int = 128
    n_blocks: int = 3
    n_steps: int = 16
    sigma_min: float = 1e-3
    sigma_max: float = 50.0
    log_sigma_mean: float = -2.0
    log_sigma_std: float = 2.0

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse settings that make no density."""
        check_sizes(width=self.width, n_blocks=self.n_blocks, n_steps=self.n_steps)
        if self.path not in ("vp", "ve", "edm"):
            raise ValueError(f"path must be vp, ve or edm, got {self.path!r}")
        if not self.sigma_min > 0:
            raise ValueError(f"sigma_min must be positive, got {self.sigma_min!r}")
        if not max(self.sigma_min, 1.0) < self.sigma_max < np.inf:
            raise ValueError(f"sigma_max must be above 1 and sigma_min, got {self.sigma_max!r}")
        if not self.log_sigma_std > 0:
            raise ValueError(f"log_sigma_std must be positive, got {self.log_sigma_std!r}")

    def build(self, n_value: int, n_context: int, *, rngs: nnx.Rngs) -> Diffusion:
        """Make the density."""
        return Diffusion(n_value, n_context, self, rngs=rngs)
