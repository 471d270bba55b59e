"""Posterior draws of several observations in a small file, with what is known of them."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eagleray.files import write_atomic

Facts = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Draws:
    """Posteriors of a task's observations.

    Attributes:
        truth: (n_observations, n_theta) true parameters, in the prior's order.
        x_obs: (n_observations, n_features) summaries of the data.
        draws: One (n_draws, n_theta) for each observation.
        facts: What is known of them.
    """

    truth: NDArray[np.floating]
    x_obs: NDArray[np.floating]
    draws: list[NDArray[np.floating]]
    facts: Facts


def save(path: Path, found: Draws) -> None:
    """Keep draws: half precision of standardised ones is two thousandths of a standard deviation at worst."""
    mean, sd = (np.array([f(one, axis=0) for one in found.draws]) for f in (np.mean, np.std))
    sd = np.where(sd > 0, sd, 1.0)
    standardised = [((one - m) / s).astype(np.float16) for one, m, s in zip(found.draws, mean, sd, strict=True)]
    packed = io.BytesIO()
    np.savez_compressed(
        packed,
        truth=found.truth,
        x_obs=found.x_obs,
        mean=mean,
        sd=sd,
        standardised=np.array(standardised),
        facts=json.dumps(found.facts),
    )
    write_atomic(path, packed.getvalue())


def load(path: Path) -> Draws:
    """Draws that `save` kept."""
    with np.load(path, allow_pickle=False) as file:
        draws = file["mean"][:, None] + file["sd"][:, None] * file["standardised"].astype(np.float64)
        facts = json.loads(str(file["facts"]))
        return Draws(truth=file["truth"], x_obs=file["x_obs"], draws=list(draws), facts=facts)


def same_data(a: Draws, b: Draws) -> bool:
    """Whether two files are about the same observations, as far as both have them.

    Another processor rounds differently, and simulated data of the same key may come out as others.
    """
    n = min(len(a.truth), len(b.truth))
    return all(
        one.shape[1] == other.shape[1] and np.allclose(one[:n], other[:n], rtol=1e-3, atol=1e-3, equal_nan=True)
        for one, other in ((a.truth, b.truth), (a.x_obs, b.x_obs))
    )
