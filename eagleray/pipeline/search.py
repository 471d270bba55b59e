"""Several ways to train, of which the data choose one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eagleray.config import Config
from eagleray.errors import InputError
from eagleray.inference.storage import Trained
from eagleray.pipeline.learning import Simulations, learn
from eagleray.priors import Prior
from eagleray.records import Key


class Found(NamedTuple):
    """The best of several trainings.

    Attributes:
        posterior: What it learnt.
        chosen: Its place among the configurations.
        losses: Least validation loss of each configuration [nats].
    """

    posterior: Trained
    chosen: int
    losses: tuple[float, ...]


def best_of(
    key: Key,
    prior: Prior,
    simulations: Simulations,
    configs: Sequence[Config],
    *,
    folder: Path | None = None,
    **options: Any,
) -> Found:
    """Train by each of several configurations, and keep the one with the least validation loss.

    All of them train and validate on the same simulations. How long and how hard to hold weights back is what depends
    most on the problem where simulations are few; the validation loss tells.

    Args:
        key: Typed PRNG key; consumed. Every training is that of `learn` with this key.
        prior: As in `learn`.
        simulations: As in `learn`.
        configs: What to try; of one method and one validation fraction, without which losses do not compare.
        folder: As in `learn`; each training has a folder of its own in it, named by its place.
        **options: Others of `learn`.

    Raises:
        InputError: If there is nothing to try, or methods or validation fractions differ; and as in `learn`.
    """
    compared = {(config.method, config.training.validation_fraction) for config in configs}
    if len(compared) != 1:
        raise InputError(f"configs must share one method and one validation_fraction, got {len(compared)} of them")
    places = [None if folder is None else folder / str(i) for i in range(len(configs))]
    found = [
        learn(key, prior, simulations, config=config, folder=place, **options)
        for config, place in zip(configs, places, strict=True)
    ]
    losses = tuple(min(posterior.history.validation_loss) for posterior in found)
    chosen = losses.index(min(losses))
    return Found(found[chosen], chosen, losses)
