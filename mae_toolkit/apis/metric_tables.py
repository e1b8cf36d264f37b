"""The tables of metrics that a test prints, and values that there was nothing to measure on."""

import logging
import math
import re
import sys

COCO_METRICS = re.compile(r'(_mAP(_\w+)?|AR(_\w)?@\d+|_precision)$')


def mark_missing(name: str, value: float) -> float:
    """Return the value of a metric, NaN where COCO says -1 because there is no object of a size or class.

    Args:
        name: Name of the metric, such as ``coco/bbox_mAP_s``.
        value: Its value.
    """
    return math.nan if value == -1 and COCO_METRICS.search(name) else value


def print_tables(logger: logging.Logger) -> None:
    """Print from now on the tables that evaluators write into the log; their records begin with an empty line.

    NaN, the value where there is nothing to measure on, is printed as a dash, with a line that explains it.

    Args:
        logger: The logger.
    """
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(lambda record: record.levelno == logging.INFO and record.getMessage().startswith('\n'))
    handler.setFormatter(_TableFormatter())
    logger.addHandler(handler)


class _TableFormatter(logging.Formatter):
    """Formatter that writes a dash for NaN, and why."""

    def format(self, record: logging.LogRecord) -> str:
        table, count = re.subn(r'\bnan\b', ' - ', record.getMessage())
        return f'{table}\n-: the images have no example to measure this on.' if count else table
