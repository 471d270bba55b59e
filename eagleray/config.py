"""Settings of a run, validated: from TOML, from the command line, or from keyword arguments."""

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import pydantic

from eagleray.errors import InputError
from eagleray.networks.settings import NetworkSettings, network_settings
from eagleray.records import Norm
from eagleray.training.loop import TrainingSettings
from eagleray.training.losses import RatioSettings


class Config(pydantic.BaseModel):
    """Everything that decides a result, besides the observation.

    Attributes:
        problem: Name of the problem.
        prior: Priors that replace the problem's defaults.
        settings: Settings of the problem (as `eagleray problems` lists them).
        simulations: "kept", made once and trained on in every epoch; or "fresh", made anew for every step inside the
            compiled program, so that there is no data set to learn by heart: for accelerators.
        n_simulations: Simulations to train on, validation included; where they are kept.
        steps_per_epoch: Steps that are called an epoch, where they are fresh.
        n_calibration: Fresh simulations on which the trained network is checked.
        n_draws: Posterior draws.
        n_predictive: Posterior draws from which light curves are simulated.
        seed: Seed of every random number.
        method: What is learnt: the posterior ("npe"), the likelihood ("nle") or the ratio of the two ("nre").
        network: What the network is made of; a density of kind "flow_matching" or "score" makes npe FMPE or NPSE.
        ratio: Which ratio estimation, for nre.
        training: How it is trained.
        observation: File of the observation, or files of several bands or detectors, for `eagleray train run.toml`;
            relative to the TOML file.
        bank: Bank of simulations to train on, for the same.
        out: Folder for the trained network, for the same.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    problem: str = "bending_power_law"
    prior: dict[str, str] = {}
    settings: dict[str, float] = {}
    simulations: Literal["kept", "fresh"] = "kept"
    n_simulations: int = pydantic.Field(default=40_000, ge=100)
    steps_per_epoch: int = pydantic.Field(default=500, ge=1)
    n_calibration: int = pydantic.Field(default=1000, ge=50)
    n_draws: int = pydantic.Field(default=4000, ge=100)
    n_predictive: int = pydantic.Field(default=500, ge=50)
    seed: int = pydantic.Field(default=0, ge=0, lt=2**32)
    method: Literal["npe", "nle", "nre"] = "npe"
    network: NetworkSettings = NetworkSettings()
    ratio: RatioSettings = RatioSettings()
    training: TrainingSettings = TrainingSettings()
    observation: str | tuple[str, ...] | None = None
    bank: str | None = None
    out: str | None = None

    def training_part(self) -> dict[str, Any]:
        """What decides the trained network (JSON)."""
        names = {
            "simulations",
            "n_simulations",
            "steps_per_epoch",
            "n_calibration",
            "seed",
            "method",
            "network",
            "ratio",
        }
        part = self.model_dump(mode="json", include=names | {"training"})
        del part["training"]["checkpoint_seconds"]  # which changes no weight
        return part


class FitConfig(pydantic.BaseModel):
    """Everything that decides a fit by exact likelihood, besides the observation.

    Attributes:
        model: Model of the power spectrum, as text.
        problem: Name of a problem with an exact likelihood, which is fitted instead of a spectrum.
        settings: Settings of that problem.
        prior: Priors that replace the defaults; also "fixed(2)" and "tied(2 * qpo.centre)".
        norm: Norm of the spectrum.
        segment_size: Length of the segments whose periodograms are averaged [s]; None: one periodogram of all.
        rebin: Growth of logarithmic frequency bins; 0 for none.
        sampler: A key of `eagleray.inference.samplers.METHODS`.
        sampler_options: Options of that sampler, such as target_acceptance.
        n_chains: Chains.
        n_warmup: Steps of each chain that tune the sampler.
        n_draws: Draws kept of each chain.
        n_predictive: Posterior draws from which powers are simulated.
        seed: Seed of every random number.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    model: str = "powerlaw + constant"
    problem: str | None = None
    settings: dict[str, float] = {}
    prior: dict[str, str] = {}
    norm: Norm = "frac"
    segment_size: float | None = pydantic.Field(default=None, gt=0, allow_inf_nan=False)
    rebin: float = pydantic.Field(default=0.0, ge=0, allow_inf_nan=False)
    sampler: str = "nuts"
    sampler_options: dict[str, int | float] = {}
    n_chains: int = pydantic.Field(default=4, ge=2)
    n_warmup: int = pydantic.Field(default=1000, ge=50)
    n_draws: int = pydantic.Field(default=2000, ge=50)
    n_predictive: int = pydantic.Field(default=1000, ge=50)
    seed: int = pydantic.Field(default=0, ge=0, lt=2**32)

    @pydantic.field_validator("prior", mode="before")
    @classmethod
    def _dotted(cls, prior: Any) -> Any:
        """Names of parameters have dots, which TOML and --set read as tables."""
        return _flatten(prior) if isinstance(prior, Mapping) else prior


Settings = TypeVar("Settings", Config, FitConfig)


def make_config(*layers: Mapping[str, Any], kind: type[Settings] = Config) -> Settings:
    """Merge layers of settings, later ones winning entry by entry, and validate the outcome.

    Args:
        *layers: Settings by name.
        kind: `Config` of a network, or `FitConfig` of an exact likelihood.

    Raises:
        InputError: If a name is unknown or a value out of range.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        _merge(merged, layer)
    if isinstance(merged.get("network"), Mapping):
        merged["network"] = network_settings(merged["network"])  # whose parts are chosen by their kind
    try:
        return kind.model_validate(merged)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "configuration"
        if first["type"] == "extra_forbidden" or first["type"] == "unexpected_keyword_argument":
            raise InputError(
                f"{where} is no setting; known here: {', '.join(_siblings(kind, first['loc']))}"
            ) from error
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{where}: {message}, got {first.get('input')!r}") from error


def _flatten(nested: Mapping[str, Any]) -> dict[str, Any]:
    """Tables within tables as one table with dotted names."""
    flat = {}
    for name, value in nested.items():
        inner = _flatten(value) if isinstance(value, Mapping) else None
        flat |= {name: value} if inner is None else {f"{name}.{key}": entry for key, entry in inner.items()}
    return flat


def _siblings(kind: type[pydantic.BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """Settings that are known where an unknown one was found."""
    parent = kind.model_fields.get(str(place[0])) if len(place) > 1 else None
    if parent is None or not dataclasses.is_dataclass(parent.annotation):
        return list(kind.model_fields)
    return [field.name for field in dataclasses.fields(parent.annotation)]


def read_config(path: Path) -> dict[str, Any]:
    """Read a TOML file into a layer for `make_config`.

    Raises:
        InputError: If the file is missing or no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the configuration {path} is no TOML: {error}") from error


def config_hash(*parts: Mapping[str, Any]) -> str:
    """Short digest of JSON mappings: equal configurations have equal digests."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def _merge(target: dict[str, Any], layer: Mapping[str, Any]) -> None:
    """Put a layer over a nested mapping, in place."""
    for name, value in layer.items():
        if isinstance(value, Mapping) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        else:
            target[name] = dict(value) if isinstance(value, Mapping) else value
