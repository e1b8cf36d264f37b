"""The one exception for mistakes that a user can mend."""

import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

# What constructors raise for arguments that they refuse, or meet in the middle of their work.
REFUSALS = (
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
    """A mistake in a config, a path or an input, told in one sentence with its remedy.

    The tools print the sentence alone and exit with status 2; every other exception keeps its stack trace.
    """


@contextmanager
def wrap_build_error(what: str) -> Iterator[None]:
    """Say in one sentence what a library refused while something was built from a config.

    Values of a config reach constructors of many libraries, which refuse them each in their own way. The original
    error stays the cause. An error that is raised in a user's own module is left as it is, with its stack trace, below
    which the sentence is printed.

    Args:
        what: Name of what is built, with which the sentence begins.

    Raises:
        UserError: If an argument was refused.
    """
    try:
        yield
    except UserError:
        raise
    except (*REFUSALS, RuntimeError) as error:
        if not isinstance(error, REFUSALS) and type(error) is not RuntimeError:
            raise  # out of memory, an operation that a device lacks
        reason = ' '.join(str(error).split()) or 'no reason given'
        sentence = f'{what} cannot be built as configured: {type(error).__name__}: {reason}'
        if _is_in_own_module(error.__traceback__):
            error.add_note(sentence)
            raise
        raise UserError(sentence) from error


def _is_in_own_module(trace: TracebackType | None) -> bool:
    """Whether the body of :func:`wrap_build_error` called code of neither this package, Python nor a package."""
    return any(is_own_file(name) for name, _ in frames(trace)[2:])  # after wrap_build_error() and its body


def frames(trace: TracebackType | None) -> list[tuple[str, int]]:
    """Return file and line of the calls in a traceback, from the outermost to the one that failed."""
    found = []
    while trace is not None:
        found.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    return found


def is_own_file(name: str) -> bool:
    """Whether a source file is of neither this package, Python nor an installed package."""
    if not name or name.startswith('<'):
        return False
    path = Path(name).resolve()
    folders = [Path(__file__).parent, *(Path(sysconfig.get_path(kind)) for kind in ('stdlib', 'platstdlib'))]
    installed = any(part in ('site-packages', 'dist-packages') for part in path.parts)
    return not installed and not any(path.is_relative_to(folder.resolve()) for folder in folders)
