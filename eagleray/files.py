"""Writing files and folders whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from eagleray.errors import InputError

# One of these lies in every folder that eagleray writes: a result, a network, a bank of simulations.
_OURS = ("posterior.nc", "posterior.json", "zarr.json")


@contextlib.contextmanager
def atomic_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Fill a hidden folder beside `target`, and rename it to `target` when the block ends well.

    If the block raises, or the process is interrupted, `target` is as it was before.

    Args:
        target: Folder to be made.
        overwrite: Replace a folder that is there; it is removed only once the new one is complete.

    Yields:
        The hidden folder to write into.

    Raises:
        InputError: If `target` exists and is not to be replaced, or cannot be written.
    """
    target = Path(target).resolve()
    check_target(target, overwrite=overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    except OSError as error:
        raise InputError(f"cannot write to {target}: {error.strerror}; choose another output folder") from error
    try:
        work.chmod(0o755)  # mkdtemp makes it private
        yield work
        check_target(target, overwrite=overwrite)  # another run may have made it meanwhile
        try:
            _put_in_place(work, target)
        except OSError as error:
            raise InputError(f"cannot put {target} in place: {error.strerror}; is another run writing it?") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _put_in_place(work: Path, target: Path) -> None:
    """Rename `work` to `target`; what was there comes back if that fails."""
    if not target.exists():
        work.rename(target)
        return
    retired = work.with_suffix(".replaced")
    target.rename(retired)
    try:
        work.rename(target)
    except BaseException:
        if not target.exists():
            retired.rename(target)
        raise
    finally:
        if target.exists():
            shutil.rmtree(retired, ignore_errors=True)


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuse an output folder that cannot or must not be written, before any work is done.

    Raises:
        InputError: If `target` is a file, exists and is not to be replaced, holds what eagleray did not write, or lies
            where nothing can be written.
    """
    try:
        exists, is_folder = target.exists(), target.is_dir()
    except OSError as error:
        raise InputError(f"the output folder {str(target)[:80]} cannot be: {error.strerror}; choose another") from error
    if exists and not is_folder:
        raise InputError(f"the output must be a folder, got the file {target}; choose another name")
    if exists and not overwrite:
        raise InputError(f"the output folder {target} exists; choose another with --out or pass --overwrite")
    if exists and any(target.iterdir()) and not any((target / name).exists() for name in _OURS):
        raise InputError(f"--overwrite replaces what eagleray wrote, and {target} holds something else; choose another")
    parent = next(folder for folder in (target.absolute().parents) if folder.exists())
    if not os.access(parent, os.W_OK):
        raise InputError(f"cannot write to {parent}; choose another output folder")


def write_atomic(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write a whole file, or leave what was there.

    Args:
        path: File to write; its folder is made when missing.
        data: Its contents.

    Returns:
        The path written.

    Raises:
        OSError: If the folder or the file cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(scratch).chmod(0o666 & ~_umask())
        Path(scratch).replace(target)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    return target


def _umask() -> int:
    """The process's file mode mask (it can only be read by setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
