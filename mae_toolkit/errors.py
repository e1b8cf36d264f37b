"""The one exception for mistakes that a user can mend."""

from contextlib import contextmanager


class UserError(Exception):
    """A mistake in a config, a path or an input, told in one sentence with its remedy.

    The tools print the sentence alone and exit with status 2; every other exception keeps its stack trace.
    """


@contextmanager
def told(what):
    """Tell what went wrong while something was built from a config, naming it, in one sentence.

    Values of a config reach constructors of many libraries, which refuse them each in their own way. The original
    error stays the cause.
    """
    try:
        yield
    except UserError:
        raise
    except (TypeError, ValueError, AssertionError, KeyError, ZeroDivisionError, IndexError, AttributeError) as error:
        reason = ' '.join(str(error).split()) or 'no reason given'
        raise UserError(f'{what} cannot be built as configured: {type(error).__name__}: {reason}') from error
