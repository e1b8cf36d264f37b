"""The one exception for mistakes that a user can mend."""


class UserError(Exception):
    """A mistake in a config, a path or an input, told in one sentence with its remedy.

    The tools print the sentence alone and exit with status 2; every other exception keeps its stack trace.
    """
