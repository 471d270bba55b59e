"""What is told of a fit while it runs: progress to the caller, and a line per epoch in a file."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from eagleray.errors import InputError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a fit is, after an epoch.

    Attributes:
        epoch: Epochs done.
        n_epochs: Epochs at most.
        train_loss: Mean loss over the epoch's steps.
        validation_loss: Loss of the validation data after it.
        rows_per_second: Rows trained on per second in this epoch.
        seconds_left: Time to the last epoch, at the pace of this one [s]; it may end sooner.
    """

    epoch: int
    n_epochs: int
    train_loss: float
    validation_loss: float
    rows_per_second: float
    seconds_left: float


EpochReport = Callable[[Progress], None]
"""Called after each epoch."""


class EpochMetrics(NamedTuple):
    """A line of the file of metrics.

    Attributes:
        epoch: Epochs done.
        step: Gradient steps done.
        train_loss: Mean loss over the epoch's steps.
        validation_loss: Loss of the validation data after it.
        learning_rate: That of the epoch's last step.
        gradient_norm: Mean norm of the epoch's gradients, before clipping.
        non_finite: Fraction of the epoch's rows that hold a number that is not finite.
        rows_per_second: Rows trained on per second.
        seconds: Time since the start, runs that were cut short included.
    """

    epoch: int
    step: int
    train_loss: float
    validation_loss: float
    learning_rate: float
    gradient_norm: float
    non_finite: float
    rows_per_second: float
    seconds: float


_HEADER = ",".join(EpochMetrics._fields) + "\n"


def open_metrics(path: Path, n_epochs: int) -> None:
    """Make a CSV file of metrics ready for the epoch after n_epochs: what it says of later ones is cut off.

    Raises:
        InputError: If there is a file that is no such file, or none can be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(_HEADER)
        header, *lines = path.read_text().splitlines(keepends=True) or [""]
        if header != _HEADER:
            raise InputError(f"the file of metrics must be new or one written before, got {path}; choose another")
        done = [line for line in lines if line.endswith("\n") and int(line.split(",")[0]) <= n_epochs]
        os.truncate(path, len(header) + sum(map(len, done)))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another file for the metrics") from error


def append_metrics(path: Path, metrics: EpochMetrics) -> None:
    """Add the line of an epoch."""
    with path.open("a", newline="") as file:
        file.write(",".join(f"{value:.8g}" if isinstance(value, float) else str(value) for value in metrics) + "\n")
