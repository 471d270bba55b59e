"""Reports and figures as files."""

import os
from collections.abc import Mapping
from pathlib import Path

from eagleray.files import write_atomic
from eagleray.records import Result
from eagleray.report.figures import render_images
from eagleray.report.page import render_page


def write_figures(
    result: Result, folder: str | os.PathLike[str], images: Mapping[str, bytes] | None = None
) -> tuple[Path, ...]:
    """Write corner.png, model.png, light_curve.png, training.png and calibration.png.

    Args:
        result: A finished inference.
        folder: Where to write them; made when missing.
        images: PNG files by name, as `render_images(result)` returns them, so that figures and report share one
            drawing; drawn here if None.

    Returns:
        The paths written.

    Raises:
        OSError: If a file cannot be written.
    """
    images = render_images(result) if images is None else images
    return tuple(write_atomic(Path(folder) / f"{name}.png", png) for name, png in images.items())


def write_report(result: Result, path: str | os.PathLike[str], images: Mapping[str, bytes] | None = None) -> Path:
    """Write the self-contained HTML report.

    Args:
        result: A finished inference.
        path: File to write, usually `report.html`.
        images: PNG files by name, as `render_images(result)` returns them; drawn here if None.

    Returns:
        The path written.

    Raises:
        KeyError: If `images` lacks a figure.
        OSError: If the file cannot be written.
    """
    return write_atomic(path, render_page(result, images).encode())
