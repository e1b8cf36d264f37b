"""The tables of metrics that a test prints, and values that there was nothing to measure on."""

import logging
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

COCO_METRICS = re.compile(r'(_mAP(_\w+)?|AR(_\w)?@\d+|_precision)$')


def mark_missing(name: str, value: float) -> float:
    """Return the value of a metric, NaN where COCO says -1 because there is no object of a size or class.

    Args:
        name: Name of the metric, such as ``coco/bbox_mAP_s``.
        value: Its value.
    """
    return math.nan if value == -1 and COCO_METRICS.search(name) else value


@contextmanager
def printed_tables(logger: logging.Logger) -> Iterator[None]:
    """Print the tables that evaluators log in a ``with`` block; their records begin with an empty line.

    NaN, the value where there is nothing to measure on, is printed as a dash, with a line that explains it.

    Args:
        logger: The logger.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(lambda record: record.levelno == logging.INFO and record.getMessage().startswith('\n'))
    handler.setFormatter(_TableFormatter())
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)  # the logger is shared by all runs of one experiment name


class _TableFormatter(logging.Formatter):
    """Formatter that writes a dash for NaN, and why."""

    def format(self, record: logging.LogRecord) -> str:
        table, count = re.subn(r'\bnan\b', ' - ', record.getMessage())
        return f'{table}\n-: the images have no example to measure this on.' if count else table
