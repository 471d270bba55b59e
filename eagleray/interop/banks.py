"""Banks of simulations on disk, as Zarr stores."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from eagleray.errors import InputError
from eagleray.files import atomic_folder
from eagleray.records import Bank, Features

FORMAT = "eagleray bank 1"
_CHUNK_ROWS = 4096
_ARRAYS = ("theta", "x", "valid")

Rows = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
"""theta, x and valid, as losses take them."""


@contextlib.contextmanager
def bank_writer(
    folder: Path, *, signature: Mapping[str, Any], chunk_rows: int = _CHUNK_ROWS, overwrite: bool = False
) -> Iterator[Callable[[Bank], None]]:
    """Write simulations piece by piece, so that they need not fit in memory; whole, or not at all.

    The bank is a Zarr group with arrays theta, x and valid. It is put in place when the block ends well.

    Args:
        folder: Folder to make, by custom ending in `.zarr`.
        signature: What the simulations are of (`Problem.signature`).
        chunk_rows: Parameter sets stored together; pieces of a multiple of it are written fastest.
        overwrite: Replace a folder that is there.

    Yields:
        A function that adds simulations, of the same shapes each time.

    Raises:
        InputError: If the folder exists and is not to be replaced.
        ValueError: If nothing was added.
    """
    with atomic_folder(folder, overwrite=overwrite) as work:
        group = zarr.open_group(work, mode="w")
        group.attrs["format"] = FORMAT
        group.attrs["signature"] = json.dumps(signature, sort_keys=True)
        arrays: dict[str, zarr.Array] = {}

        def append(bank: Bank) -> None:
            if isinstance(bank.x, Features):
                raise InputError("a bank on disk must hold plain arrays, got Features; keep it in memory")
            for name in _ARRAYS:
                values = np.asarray(getattr(bank, name))
                if name in arrays:
                    arrays[name].append(values)
                else:
                    arrays[name] = group.create_array(name, data=values, chunks=(chunk_rows, *values.shape[1:]))

        yield append
        if not arrays:
            raise ValueError("a bank must have simulations, got none")


def save_bank(bank: Bank, folder: Path, *, signature: Mapping[str, Any], overwrite: bool = False) -> None:
    """Write simulations that are in memory; whole, or not at all.

    Args:
        bank: The simulations.
        folder: Folder to make, by custom ending in `.zarr`.
        signature: What the simulations are of (`Problem.signature`).
        overwrite: Replace a folder that is there.

    Raises:
        InputError: If the folder exists and is not to be replaced.
    """
    chunk_rows = min(_CHUNK_ROWS, len(bank.theta))
    with bank_writer(folder, signature=signature, chunk_rows=chunk_rows, overwrite=overwrite) as append:
        append(bank)


@dataclasses.dataclass(frozen=True, kw_only=True)
class BankReader:
    """A bank on disk, read piece by piece.

    Attributes:
        folder: Where it is.
        n_rows: Parameter sets in it.
        chunk_rows: Parameter sets stored together.
        arrays: theta, x and valid, none of them read.
    """

    folder: Path
    n_rows: int
    chunk_rows: int
    arrays: tuple[zarr.Array, ...]

    def read(self, start: int, stop: int) -> Rows:
        """Rows start to stop - 1.

        Raises:
            InputError: If what is there is damaged.
        """
        try:
            theta, x, valid = (np.asarray(array[start:stop]) for array in self.arrays)
        except Exception as error:  # whatever a damaged chunk makes the reader raise
            raise InputError(
                f"rows {start} to {stop} of {self.folder} are damaged ({type(error).__name__}); simulate anew"
            ) from error
        return theta, x, valid


def open_bank(folder: Path, *, signature: Mapping[str, Any]) -> BankReader:
    """Open simulations that were made for a problem, to be read piece by piece.

    Args:
        folder: A bank that `save_bank` or `bank_writer` wrote.
        signature: What the simulations have to be of.

    Raises:
        InputError: If the folder is missing, damaged, or holds simulations of something else.
    """
    try:
        group = zarr.open_group(folder, mode="r")
        stored_format, stored = group.attrs["format"], json.loads(str(group.attrs["signature"]))
        columns = dict(group.arrays())
        arrays = tuple(columns[name] for name in _ARRAYS)
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
    return BankReader(folder=folder, n_rows=arrays[0].shape[0], chunk_rows=arrays[0].chunks[0], arrays=arrays)


def load_bank(folder: Path, *, signature: Mapping[str, Any]) -> Bank:
    """Read simulations that were made for a problem.

    Args:
        folder: A bank that `save_bank` or `bank_writer` wrote.
        signature: What the simulations have to be of.

    Raises:
        InputError: If the folder is missing, damaged, or holds simulations of something else.
    """
    reader = open_bank(folder, signature=signature)
    theta, x, valid = reader.read(0, reader.n_rows)
    return Bank(theta=theta, x=x, valid=valid)
