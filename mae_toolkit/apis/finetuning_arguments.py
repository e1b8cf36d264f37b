"""The arguments of a fine-tuning: what is refused before any work, what is noted, and what --resume compares."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_toolkit.apis.finetuning_tasks import TASKS, Wishes
from mae_toolkit.apis.run_checks import ARGUMENTS, MARK, check_resumed, check_resumed_minutes, refuse_minutes
from mae_toolkit.checkpoints.source import FORMAT
from mae_toolkit.config.load import load_config
from mae_toolkit.engine.minutes import check_minutes
from mae_toolkit.errors import UserError
from mae_toolkit.planning.finetuning import UNIT
from mae_toolkit.planning.images import MOST_SIZE

SETTINGS = ('size', 'steps', 'patience', 'seed')  # arguments that a config without notes shows


def check_arguments(
    task: str, data: str | Path, lengths: Sequence[float | None], options: Mapping[str, Any] | None
) -> None:
    """Refuse what no run can have: an unknown task, several lengths, no labels.

    Args:
        task: The task.
        data: The labels.
        lengths: Steps, epochs and minutes.
        options: Values of the config by dotted key.

    Raises:
        UserError: In one sentence.
    """
    if task not in TASKS:
        raise UserError(f'The task {task!r} must be one of {", ".join(TASKS)}.')
    if sum(length is not None for length in lengths) > 1:
        raise UserError('Give one of steps, epochs and minutes.')
    if not str(data):
        raise UserError('The name of the labels is empty: give a file or folder.')
    if lengths[-1] is not None:
        check_minutes(lengths[-1])
    refuse_minutes(options)


def load_resumed(
    task: str, config: Path, given: dict[str, Any], minutes: float | None, options: Mapping[str, Any] | None
) -> Config:
    """Load the config of a run that is to go on, if the run began with the arguments that are given now.

    Args:
        task: The task.
        config: The file.
        given: Arguments by name, None for those that are not given.
        minutes: The minutes, which the config always notes.
        options: Values of the config by dotted key.

    Raises:
        UserError: If there is no config, or one of the arguments differs.
    """
    if not config.is_file():
        raise UserError(f'There is no {config} to go on with: leave --resume out.')
    _check_task(task, config)
    cfg = load_config(config)
    check_resumed_minutes(cfg, config, minutes)
    comparable = given if cfg.get(ARGUMENTS) else {name: given[name] for name in given if name in SETTINGS}
    check_resumed(cfg, config, comparable)
    return load_config(config, options)


def list_arguments(wishes: Wishes, weights: str | None, encoder: str | None) -> dict[str, Any]:
    """List the arguments that no setting of the config shows as they were given, with whole paths.

    Args:
        wishes: What the user asks for.
        weights: What the encoder begins with.
        encoder: Architecture of timm.
    """
    if weights is not None and not FORMAT.fullmatch(weights):
        weights = str(Path(weights).expanduser().resolve())
    return {
        'data': str(wishes.data.resolve()),
        'images': None if wishes.images is None else str(wishes.images.resolve()),
        'weights': weights,
        'encoder': encoder,
        'steps': wishes.length.steps,
        'epochs': wishes.length.epochs,
        'ignore_index': wishes.ignore_index,
    }


def check_numbers(wishes: Wishes) -> None:
    """Refuse sizes and values of masks that cannot be meant.

    Args:
        wishes: What the user asks for.
    """
    if wishes.size is not None and not UNIT <= wishes.size <= MOST_SIZE:
        raise UserError(f'--size {wishes.size}: an image has {UNIT} to {MOST_SIZE:,} pixels on its longer side.')
    if wishes.ignore_index is not None and not 0 <= wishes.ignore_index < 2**16:
        raise UserError(f'--ignore-index {wishes.ignore_index}: a mask has values from 0 to 255, or to 65,535.')


def _check_task(task: str, config: Path) -> None:
    """Refuse to go on with a run of another task, which the first line of its config names."""
    began = re.match(rf'# {MARK} finetune (\w+)', config.read_text(errors='replace'))
    if began and began[1] != task:
        raise UserError(
            f'{config} is of a run of {began[1]!r}, and {task!r} was given: go on with finetune {began[1]}.'
        )
