"""The one error a user is meant to read."""


class InputError(ValueError):
    """What the user gave cannot be used.

    The message is one line: the rule, the value that broke it, and the remedy. The command line prints it without a
    traceback and exits with status 2; in Python it is a `ValueError`.
    """
