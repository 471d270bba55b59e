"""Embeddings: what digests one observation to a vector; and their settings by kind."""

from eagleray.networks.embeddings.light_curves import CnnSettings
from eagleray.networks.embeddings.sets import SetSettings
from eagleray.networks.embeddings.spectra import SpectrumSettings
from eagleray.networks.embeddings.transformer import TransformerSettings
from eagleray.networks.embeddings.vectors import MlpSettings, ResidualSettings

__all__ = ["EMBEDDINGS", "EmbeddingSettings"]

EmbeddingSettings = MlpSettings | ResidualSettings | CnnSettings | SpectrumSettings | TransformerSettings | SetSettings
"""Settings of any embedding; `settings.build(example, rngs=rngs)` makes it."""

EMBEDDINGS = {
    "mlp": MlpSettings,
    "residual": ResidualSettings,
    "cnn": CnnSettings,
    "spectrum": SpectrumSettings,
    "transformer": TransformerSettings,
    "set": SetSettings,
}
