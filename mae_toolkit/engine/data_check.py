"""Check the data of a run before anything of the run is built."""

import json
from collections.abc import Sequence
from logging import Logger
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process

from mae_toolkit.datasets.checks import check_data, format_report
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write

FILE = 'data_check.json'


def check_run_data(
    cfg: Config, splits: Sequence[str], folder: Path, logger: Logger, tolerated: Sequence[str] = ()
) -> None:
    """Check the data of a run, write a report into log and folder, and refuse data with errors.

    The first process checks, and all processes stop together. ``data_check=None`` in the config turns the check off.

    Args:
        cfg: Config of the run.
        splits: Splits to check: ``'train'``, ``'val'``, ``'test'``.
        folder: Folder in which ``data_check.json`` is written.
        logger: Logger of the report, and of a warning for each annotation file or folder that has some.
        tolerated: Splits whose errors are only logged as warnings.

    Raises:
        UserError: If the data of another split has errors.
    """
    if cfg.get('data_check', True) in (None, False):
        return
    found: list[str] = ['']
    if is_main_process():
        found[0] = _check_and_report(cfg, splits, folder, logger, tolerated)
    broadcast_object_list(found)
    if found[0]:
        raise UserError(found[0])


def _check_and_report(
    cfg: Config, splits: Sequence[str], folder: Path, logger: Logger, tolerated: Sequence[str]
) -> str:
    """Log and write everything that was found, and return the errors."""
    report = check_data(cfg, splits)
    if not report.splits:
        return ''
    atomic_write(folder / FILE, json.dumps(report.to_dict(), indent=2) + '\n')
    logger.info(f'The check of the data ({FILE}):\n{format_report(report)}')
    refused = [split for split in splits if split not in tolerated]
    errors = report.errors(refused)
    warnings = report.warnings()
    known = {sentence.partition(' data ')[2] for sentence in errors}
    warnings += [error for error in report.errors(tolerated) if error.partition(' data ')[2] not in known]
    for sentence in warnings:
        logger.warning(sentence)
    return '\n'.join(errors)
