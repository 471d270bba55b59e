"""Default priors with a user's replacements."""

from collections.abc import Mapping

from eagleray.errors import InputError


def complete_prior(problem: str, defaults: Mapping[str, str], given: Mapping[str, str] | None) -> dict[str, str]:
    """Replace default priors by those given.

    Raises:
        InputError: If a name given is no parameter of the problem.
    """
    unknown = sorted(set(given or {}) - set(defaults))
    if unknown:
        raise InputError(f"{problem} has the parameters {', '.join(defaults)}, got a prior for {unknown[0]!r}")
    return {**defaults, **(given or {})}
