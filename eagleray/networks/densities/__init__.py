"""Conditional densities, and their settings by kind."""

from eagleray.networks.densities.autoregressive import AutoregressiveSettings
from eagleray.networks.densities.coupling import CouplingSettings
from eagleray.networks.densities.diffusion import DiffusionSettings
from eagleray.networks.densities.flow_matching import FlowMatchingSettings
from eagleray.networks.densities.mixed import MixedSettings
from eagleray.networks.densities.mixture import MixtureSettings

__all__ = ["DENSITIES", "DensitySettings"]

DensitySettings = (
    CouplingSettings
    | AutoregressiveSettings
    | MixtureSettings
    | MixedSettings
    | FlowMatchingSettings
    | DiffusionSettings
)
"""Settings of any density; `settings.build(n_value, n_context, rngs=rngs)` makes it."""

DENSITIES = {
    "coupling": CouplingSettings,
    "autoregressive": AutoregressiveSettings,
    "mixture": MixtureSettings,
    "mixed": MixedSettings,
    "flow_matching": FlowMatchingSettings,
    "score": DiffusionSettings,
}
