"""The one exception for a user's mistake."""


class InputError(ValueError):
    """Bad input from the user: one line that names the file or key, what was found, and what to do.

    The command line prints the line without a traceback and exits with code 2, and so it does for an OSError that
    names a file (a path that cannot be written, a full disk). Every other exception is a bug and keeps its traceback.
    """
