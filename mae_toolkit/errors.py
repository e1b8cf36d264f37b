"""The exception for mistakes that a user can mend, and the note that other errors carry below their stack trace."""

import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType

# What a constructor raises for arguments that it refuses, or that fail in the middle of its work.
ARGUMENT_ERRORS = (
    TypeError,
    ValueError,
    AssertionError,
    KeyError,
    ZeroDivisionError,
    IndexError,
    AttributeError,
    OverflowError,
)


class UserError(Exception):
    """A mistake in a config, a path or an input, described in one sentence with its remedy.

    The tools print the sentence alone and exit with status 2; every other exception keeps its stack trace.
    """


class MisfitError(UserError):
    """Weights that do not fit a model."""


@contextmanager
def wrap_build_error(what: str) -> Iterator[None]:
    """Name what was being built from a config below the stack trace of an error that occurred meanwhile.

    A :class:`UserError`, which our own checks of arguments raise, passes unchanged. Any other error comes from the
    constructor of a library or of the user: it keeps its type and its stack trace, below which Python prints the note::

        TypeError: unsupported operand type(s) for *: 'NoneType' and 'int'
        The masking EdgeMasking(ratio=None) cannot be built as configured.

    Where several parts contain each other, the innermost is named. Errors that no argument causes, such as a lack of
    memory or a missing file, get no note.

    Args:
        what: Name of what is built, with which the note begins.
    """
    try:
        yield
    except (*ARGUMENT_ERRORS, RuntimeError) as error:
        by_arguments = isinstance(error, ARGUMENT_ERRORS) or type(error) is RuntimeError
        if by_arguments and not getattr(error, '__notes__', None):
            error.add_note(f'{what} cannot be built as configured.')
        raise


def frames(trace: TracebackType | None) -> list[tuple[str, int]]:
    """Return file and line of the calls in a traceback, from the outermost to the one that failed."""
    found = []
    while trace is not None:
        found.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return found


@cache
def _find_library_folders():
    folders = [Path(__file__).parent, *(Path(sysconfig.get_path(kind)) for kind in ('stdlib', 'platstdlib'))]
    return [folder.resolve() for folder in folders]


def is_own_file(name: str) -> bool:
    """Return whether a source file is the user's own: not of this package, of Python or of an installed package."""
    if not name or name.startswith('<'):
        return False
    path = Path(name).resolve()
    installed = any(part in ('site-packages', 'dist-packages') for part in path.parts)
    return not installed and not any(path.is_relative_to(folder) for folder in _find_library_folders())
