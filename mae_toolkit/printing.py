"""Text that any stream can print: file names may hold bytes that are not UTF-8, and line breaks."""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any


def printable(text: object) -> str:
    r"""Escape what cannot be printed, such as the byte 0xE9 of a Latin-1 file name (``\xe9``) or a line break (``\n``).

    Args:
        text: Anything with a text, such as a path.
    """
    return ''.join(char if char.isprintable() else _escape(char) for char in str(text))


def some(names: Sequence[object], most: int = 5) -> str:
    """Join the first few names with commas, and say how many more there are: ``'cat, dog, … 3 more'``."""
    return ', '.join(map(str, names[:most])) + (f', … {len(names) - most} more' if len(names) > most else '')


def format_count(number: float, noun: str, plural: str | None = None) -> str:
    """Write a number and a noun in its singular or plural: ``'1 image'``, ``'2,000 images'``, ``'0.5 minutes'``.

    Args:
        number: The number.
        noun: Its singular.
        plural: Its plural, if it does not end in ``s`` alone.
    """
    written = f'{number:g}' if isinstance(number, float) else f'{number:,}'
    return f'{written} {noun if number == 1 else plural or noun + "s"}'


def shorten(text: str, most: int) -> str:
    """Cut a text that has more than so many characters, and end it with ``…``."""
    return text if len(text) <= most else f'{text[: most - 1]}…'


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty, or the name of its class."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def escape_unprintable(stream: Any) -> None:
    r"""Let a text stream write ``\udce9`` where it would raise ``UnicodeEncodeError``.

    Args:
        stream: The stream; None, and anything else that cannot be reconfigured, stays as it is.
    """
    if hasattr(stream, 'reconfigure'):
        stream.reconfigure(errors='backslashreplace')


def write_into_log_file(logger: logging.Logger, level: int, text: str) -> None:
    """Write what is too long for the console into the log file, if the logger has one.

    Args:
        logger: The logger.
        level: Level of the record, such as ``logging.INFO``.
        text: The text.
    """
    record = logger.makeRecord(logger.name, level, __file__, 0, text, (), None)
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


@contextmanager
def any_text_printed() -> Iterator[None]:
    """Make the standard streams print any text in any locale while a ``with`` block runs."""
    streams = [(stream, stream.errors) for stream in (sys.stdout, sys.stderr) if hasattr(stream, 'reconfigure')]
    for stream, _ in streams:
        escape_unprintable(stream)
    try:
        yield
    finally:
        for stream, errors in streams:
            with suppress(OSError, ValueError):  # it may be closed by now, or nobody reads it any more
                stream.reconfigure(errors=errors)


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as Python keeps it
        return f'\\x{code - 0xDC00:02x}'
    return char.encode('unicode_escape').decode()
