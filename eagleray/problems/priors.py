"""Default priors with a user's replacements."""

from collections.abc import Collection, Mapping

from eagleray.errors import InputError
from eagleray.priors import Prior


def problem_prior(
    problem: str, defaults: Mapping[str, str], given: Mapping[str, str] | None, *, positive: Collection[str]
) -> Prior:
    """Replace default priors by those given.

    Args:
        problem: Name of the problem, for messages.
        defaults: Its priors, in the order of the parameters.
        given: Replacements.
        positive: Parameters that have no meaning at or below zero.

    Raises:
        InputError: If a name given is no parameter of the problem, a text is no prior, or a prior reaches where its
            parameter has no meaning.
    """
    unknown = sorted(set(given or {}) - set(defaults))
    if unknown:
        raise InputError(f"{problem} has the parameters {', '.join(defaults)}, got a prior for {unknown[0]!r}")
    prior = Prior({**defaults, **(given or {})})
    for name in positive:
        if prior.lower_end(name) < 0:
            raise InputError(f"the prior of {name} must not reach below 0, got {prior.texts[name]}")
    return prior
