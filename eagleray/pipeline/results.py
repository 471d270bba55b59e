"""What every job shares: progress, versions, and a result on disk."""

import datetime
import importlib.metadata
import platform
from pathlib import Path
from typing import Protocol

from eagleray.files import atomic_folder
from eagleray.inference.storage import Trained, save_posterior
from eagleray.interop.datatree import batch_datatree, to_datatree
from eagleray.records import Batch, Result
from eagleray.report import render_images, write_batch_csv, write_figures, write_report, write_summary_csv


class Watch(Protocol):
    """Told how a stage advances: its name, steps done, steps in all, and a remark."""

    def __call__(self, stage: str, done: int, total: int, remark: str = "") -> None:
        """Take note."""


def unwatched(stage: str, done: int, total: int, remark: str = "") -> None:
    """Take no note."""


def write_result(result: Result, folder: Path, *, posterior: Trained | None = None, overwrite: bool = False) -> None:
    """Write a result as a folder, whole or not at all.

    It holds `posterior.nc` (ArviZ groups), `summary.csv`, `report.html`, `figures/` and, of a trained posterior,
    `network/`.

    Args:
        result: The result.
        folder: Folder to make.
        posterior: The trained posterior that gave it, if one did.
        overwrite: Replace a folder that is there.

    Raises:
        InputError: If the folder exists and is not to be replaced, or cannot be written.
    """
    with atomic_folder(folder, overwrite=overwrite) as work:
        to_datatree(result).to_netcdf(work / "posterior.nc", engine="h5netcdf")
        images = render_images(result)
        write_figures(result, work / "figures", images)
        write_report(result, work / "report.html", images)
        write_summary_csv(result, work / "summary.csv")
        if posterior is not None:
            save_posterior(posterior, work / "network")


def write_batch(batch: Batch, folder: Path, *, overwrite: bool = False) -> None:
    """Write the answers for many observations as a folder, whole or not at all: `posterior.nc` and `summary.csv`.

    Args:
        batch: The answers.
        folder: Folder to make.
        overwrite: Replace a folder that is there.

    Raises:
        InputError: If the folder exists and is not to be replaced, or cannot be written.
    """
    with atomic_folder(folder, overwrite=overwrite) as work:
        batch_datatree(batch).to_netcdf(work / "posterior.nc", engine="h5netcdf")
        write_batch_csv(batch, work / "summary.csv")


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    names = ("eagleray", "jax", "flax", "optax", "blackjax", "numpyro", "numpy")
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in names}


def now() -> str:
    """Date and time in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
