"""The one exception for a user's mistake."""


class InputError(ValueError):
    """Bad input from the user: one line that names the file or key, what was found, and what to do.

    The command line prints the line without a traceback and exits with code 2; every other exception is a bug
    and keeps its traceback.
    """
