"""Which log records of a run are shown on the console, where a progress bar is drawn."""

import functools
import logging

from mae_toolkit.engine._mmengine import REMARKS
from mae_toolkit.printing import escape_unprintable


def quiet_console(logger: logging.Logger) -> None:
    """Show only warnings, errors and records marked for users on the console; the log file keeps everything.

    A record is marked by ``logger.info(..., extra={'for_users': True})``. Names of files that are not UTF-8 are escaped
    where they could not be written.
    """
    for handler in logger.handlers:
        escape_unprintable(getattr(handler, 'stream', None))
        if not isinstance(handler, logging.FileHandler):
            handler.addFilter(functools.partial(is_for_users, max(handler.level, logging.WARNING)))


def is_for_users(level: int, record: logging.LogRecord) -> bool:
    """Return whether a record belongs on the console.

    Args:
        level: Records of this level or above do, unless they are remarks of MMEngine about itself.
        record: The record; one that is marked for users belongs there at any level.
    """
    if getattr(record, 'for_users', False):
        return True
    return record.levelno >= level and not any(remark in record.getMessage() for remark in REMARKS)
