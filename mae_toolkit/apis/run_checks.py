"""Checks of the folder of a run that come before any work: what would be lost in it, and what it began with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_toolkit.checkpoints.files import list_checkpoints
from mae_toolkit.errors import UserError
from mae_toolkit.printing import printable

CONFIG = 'config.py'
MARK = 'Written by mae-toolkit'  # at the top of the configs of the commands
ARGUMENTS = 'arguments'  # setting that notes what a command was given, beyond what other settings show
REQUIRED = ('data', 'data_root')  # arguments that a command cannot do without


def check_new_run(out: str | Path, *inputs: str | Path | None) -> Path:
    """Check that a run may begin in a folder, and return it.

    Args:
        out: The folder; it need not exist.
        inputs: Folders of images, in which the pictures of the run would be taken for images; None is ignored.

    Raises:
        UserError: If it has no name, is no folder, cannot be written to, lies among the images, or holds another run
            or a config that is the user's own.
    """
    if not str(out):
        raise UserError('--out is empty: name a folder for the run.')
    out = Path(out)
    place = next(folder for folder in (out, *out.absolute().parents) if os.path.lexists(folder))
    if not place.is_dir():
        raise UserError(f'--out {printable(out)}: {printable(place)} is not a folder; choose another.')
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f'--out {printable(out)}: {printable(place)} cannot be written to; choose another folder.')
    for folder in inputs:
        if folder is not None and Path(folder).is_dir() and out.resolve().is_relative_to(Path(folder).resolve()):
            raise UserError(
                f'--out {printable(out)} lies in {printable(folder)}, where the pictures that the run draws would be '
                'taken for images: choose a folder beside it.'
            )
    _check_unused(out)
    return out


def _check_unused(out: Path) -> None:
    config = out / CONFIG
    checkpoints = sorted({*out.glob('*.pth'), *list_checkpoints(out)})
    if checkpoints and config.exists():
        raise UserError(
            f'{out} holds an earlier run: go on with --resume, train it again by tools/train.py {config} --work-dir '
            'FOLDER, or choose another --out.'
        )
    if checkpoints:
        raise UserError(
            f'{out} holds checkpoints of another training ({checkpoints[0].name}), with which those of this run would '
            'be mixed: choose another --out.'
        )
    if config.exists() and MARK not in config.read_text(errors='replace').partition('\n')[0]:
        raise UserError(f'{config} is there already, and this program did not write it: choose another --out.')


def check_resumed(cfg: Config, config: Path, given: Mapping[str, Any]) -> None:
    """Refuse arguments that a run did not begin with, by what its config notes of them, or by its settings.

    Args:
        cfg: Config of the run.
        config: Its file.
        given: Settings of the config by name, as the arguments have them; None where there is no argument.

    Raises:
        UserError: If one of them differs.
    """
    noted = cfg.get(ARGUMENTS) or {}
    for name, value in given.items():
        had = noted[name] if name in noted else cfg.get(name)
        had = list(had) if isinstance(had, tuple) else had
        value = list(value) if isinstance(value, tuple) else value
        if value is not None and had != value:
            held = f'no {name}' if had is None else f'{ARGUMENTS}.{name} = ' if name in noted else f'{name} = '
            held += '' if had is None else repr(had)
            way = 'Give that again' if name in REQUIRED else 'Leave it out'
            way += f', change it on purpose by --cfg-options {name}=…' if name in cfg and name not in noted else ''
            raise UserError(
                f'{config} has {held}, and {value!r} was given: --resume goes on as the run began. {way}, or begin '
                'another run in another --out.'
            )


def check_resumed_minutes(cfg: Config, config: Path, minutes: float | None) -> None:
    """Refuse minutes that a run did not begin with: it goes on to the length in its config, whose schedules end there.

    Args:
        cfg: Config of the run.
        config: Its file.
        minutes: What the user gives now; None is nothing.

    Raises:
        UserError: If the run began with others, or with none.
    """
    had = cfg.get('minutes')
    if minutes is not None and had != minutes:
        began = 'without --minutes' if had is None else f'with --minutes {had:g}'
        raise UserError(
            f'The run of {config} began {began}, and goes on to the length in that file: leave --minutes {minutes:g} '
            'out, or begin another run in another --out.'
        )


def refuse_minutes(options: Mapping[str, Any] | None) -> None:
    """Refuse minutes among the options of the config, where they would be a note that no length follows.

    Args:
        options: ``--cfg-options``.

    Raises:
        UserError: If they are there.
    """
    if options and 'minutes' in options:
        raise UserError(f'--cfg-options minutes={options["minutes"]} would change no length: give --minutes instead.')
