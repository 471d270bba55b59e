"""Reading a result, and writing its numbers."""

from typing import Any

Found = dict[str, Any]


def get(found: Any, *path: str) -> Any:
    """What stands at a path, None where it ends early."""
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def middle_size(found: Found) -> str:
    """The number of parameters for which both precisions and all ways were measured."""
    sizes = list(found["spectral"])
    return "15" if "15" in sizes else sizes[-1]


def dash(value: float | None, digits: int = 3, least: float = 0.0) -> str:
    """So many digits, no exponent; a dash for what is not there."""
    if value is None:
        return "–"
    if value < least:
        return f"< {least:g}"
    if value == 0.0 or abs(value) >= 10 ** (digits - 1):
        return f"{value:.0f}"
    return f"{float(f'{value:.{digits}g}'):g}"


def error_text(value: float | None) -> str:
    """One digit and the power of ten."""
    return "–" if value is None else f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e+")
