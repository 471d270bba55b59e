"""Banks of simulations on disk, as Zarr stores."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from eagleray.errors import InputError
from eagleray.files import atomic_folder
from eagleray.records import Bank

FORMAT = "eagleray bank 1"
_CHUNK_ROWS = 4096


def save_bank(bank: Bank, folder: Path, *, signature: Mapping[str, Any], overwrite: bool = False) -> None:
    """Write simulations as a Zarr group with arrays theta, x and valid; whole, or not at all.

    Args:
        bank: The simulations.
        folder: Folder to make, by custom ending in `.zarr`.
        signature: What the simulations are of (`Problem.signature`).
        overwrite: Replace a folder that is there.

    Raises:
        InputError: If the folder exists and is not to be replaced.
    """
    with atomic_folder(folder, overwrite=overwrite) as work:
        group = zarr.open_group(work, mode="w")
        group.attrs["format"] = FORMAT
        group.attrs["signature"] = json.dumps(signature, sort_keys=True)
        for name in ("theta", "x", "valid"):
            values = np.asarray(getattr(bank, name))
            chunks = (min(_CHUNK_ROWS, len(values)), *values.shape[1:])
            group.create_array(name, data=values, chunks=chunks)


def load_bank(folder: Path, *, signature: Mapping[str, Any]) -> Bank:
    """Read simulations that were made for a problem.

    Args:
        folder: A bank that `save_bank` wrote.
        signature: What the simulations have to be of.

    Raises:
        InputError: If the folder is missing, damaged, or holds simulations of something else.
    """
    try:
        group = zarr.open_group(folder, mode="r")
        stored_format, stored = group.attrs["format"], json.loads(str(group.attrs["signature"]))
        columns = dict(group.arrays())
        arrays = {name: np.asarray(columns[name][...]) for name in ("theta", "x", "valid")}
    except Exception as error:  # whatever a folder that is no bank makes the reader raise
        raise InputError(
            f"{folder} is no bank of simulations ({type(error).__name__}); make one with simulate"
        ) from error
    if stored_format != FORMAT:
        raise InputError(f"{folder} has the format {stored_format!r}, this version reads {FORMAT!r}; simulate anew")
    wanted = json.loads(json.dumps(signature))
    for name, value in wanted.items():
        if stored.get(name) != value:
            raise InputError(f"{folder} was simulated with {name} {stored.get(name)}, not {value}; simulate anew")
    return Bank(**arrays)
