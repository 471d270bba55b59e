"""What networks are made of, as plain records that go to TOML and JSON and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import pydantic

from eagleray.errors import InputError
from eagleray.networks.densities import DENSITIES, DensitySettings
from eagleray.networks.densities.coupling import CouplingSettings
from eagleray.networks.densities.settings import check_sizes
from eagleray.networks.embeddings import EMBEDDINGS, EmbeddingSettings
from eagleray.networks.embeddings.vectors import MlpSettings


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """Size of a ratio classifier.

    Attributes:
        width: Size of its hidden layers.
        n_blocks: Residual blocks of two layers.
    """

    width: int = 128
    n_blocks: int = 3

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse sizes that make no network."""
        check_sizes(width=self.width, n_blocks=self.n_blocks)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkSettings:
    """What a network is made of.

    Attributes:
        density: The conditional density, one of `DENSITIES`; not used for ratios.
        classifier: The classifier; used for ratios alone.
        embedding: What digests the context, one of `EMBEDDINGS`.
        regression: Whether a density is asked about what a linear regression on the context leaves over, instead of the
            value itself: better for most relations, worse for strongly curved ones (`pipeline.search` lets the data
            choose).
        n_members: Networks of the ensemble, trained at the same time.
        precision: Precision of matrix products; weights, densities and all else stay in float32.
    """

    density: DensitySettings = CouplingSettings()
    classifier: ClassifierSettings = ClassifierSettings()
    embedding: EmbeddingSettings = MlpSettings()
    regression: bool = True
    n_members: int = 1
    precision: Literal["float32", "bfloat16"] = "float32"

    __pydantic_config__ = {"extra": "forbid"}  # read by pydantic where settings come from a file

    def __post_init__(self) -> None:
        """Refuse an ensemble without members."""
        check_sizes(n_members=self.n_members)


def network_settings(given: Mapping[str, Any]) -> NetworkSettings:
    """Settings from plain mappings, as they stand in TOML and JSON.

    Parts are mappings with a `kind`, or the kind alone: `density = "mixture"`.

    Args:
        given: Entries of `NetworkSettings` by name; the rest have their defaults.

    Raises:
        InputError: If a kind or a name is unknown, or a value out of range.
    """
    parts = dict(given)
    for name, kinds, default in (("density", DENSITIES, "coupling"), ("embedding", EMBEDDINGS, "mlp")):
        if name in parts:
            parts[name] = _part(name, kinds, default, parts[name])
    return validated(NetworkSettings, parts, "network")


def _part(name: str, kinds: Mapping[str, type], default: str, given: Any) -> Any:
    """One part of a network, by its kind."""
    options = {"kind": given} if isinstance(given, str) else given
    if not isinstance(options, Mapping):
        return options  # made already
    kind = options.get("kind", default)
    if not isinstance(kind, str) or kind not in kinds:
        raise InputError(f"network.{name}.kind must be one of {', '.join(kinds)}, got {kind!r}")
    return validated(kinds[kind], options, f"network.{name}")


def validated(kind: type, options: Mapping[str, Any], where: str) -> Any:
    """A settings dataclass from a mapping.

    Args:
        kind: The dataclass.
        options: Its fields.
        where: What the mapping is called where a user wrote it.

    Raises:
        InputError: If a name is unknown, missing, or its value out of range.
    """
    try:
        return pydantic.TypeAdapter(kind).validate_python(dict(options))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join((where, *(str(part) for part in first["loc"])))
        if first["type"] == "unexpected_keyword_argument":
            known = ", ".join(field.name for field in dataclasses.fields(kind))
            raise InputError(f"{place} is no setting; known here: {known}") from error
        raise InputError(f"{place}: {first['msg'].removeprefix('Value error, ')}, got {first['input']!r}") from error
