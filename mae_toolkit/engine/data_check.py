"""The look at a run's data before anything of the run is built."""

from __future__ import annotations

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
    """Look at the data of a run, write the report into log and folder, and refuse data that is wrong beyond doubt.

    The first process looks, and all of them refuse together. ``data_check=None`` in the config leaves it out.

    Args:
        cfg: The config of the run.
        splits: The splits to look at.
        folder: Where ``data_check.json`` is written.
        logger: Takes the report, and a warning for each annotation file or folder with doubtful faults.
        tolerated: Splits whose faults are warnings.

    Raises:
        UserError: If the data of another split is wrong beyond doubt.
    """
    if cfg.get('data_check', True) in (None, False):
        return
    found: list[str] = ['']
    if is_main_process():
        found[0] = _look(cfg, splits, folder, logger, tolerated)
    broadcast_object_list(found)
    if found[0]:
        raise UserError(found[0])


def _look(cfg: Config, splits: Sequence[str], folder: Path, logger: Logger, tolerated: Sequence[str]) -> str:
    """Return what is wrong beyond doubt, after everything is logged and written."""
    report = check_data(cfg, splits)
    if not report.splits:
        return ''
    atomic_write(folder / FILE, json.dumps(report.to_dict(), indent=2) + '\n')
    logger.info(f'The look at the data ({FILE}):\n{format_report(report)}')
    refused = [split for split in splits if split not in tolerated]
    faults = report.errors(refused)
    warnings = report.warnings()
    known = {sentence.partition(' data ')[2] for sentence in faults}
    warnings += [fault for fault in report.errors(tolerated) if fault.partition(' data ')[2] not in known]
    for sentence in warnings:
        logger.warning(sentence)
    return '\n'.join(faults)
