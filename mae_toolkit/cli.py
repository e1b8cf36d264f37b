"""What the tools share on the command line: types and options for argparse, and how a tool ends.

What loads torch is imported where it is used, so that a program answers to ``--help`` at once.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mae_toolkit.argument_types import (
    device,
    fraction,
    output_file,
    positive_int,
    positive_number,
    seed_number,
    share_below_one,
    step_range,
)
from mae_toolkit.errors import UserError
from mae_toolkit.printing import any_text_printed, write_into_log_file
from mae_toolkit.restarts import note_end, note_failure, read_end

if TYPE_CHECKING:
    from mae_toolkit.datasets.image_limits import ImageLimits

USERS_MISTAKE = 2  # exit status
__all__ = [
    'ConfigOptions',
    'add_config_options',
    'add_force',
    'add_launcher',
    'add_limits',
    'device',
    'find_config_and_checkpoint',
    'fraction',
    'output_file',
    'parse_limits',
    'positive_int',
    'positive_number',
    'run_tool',
    'seed_number',
    'share_below_one',
    'split_at_commas',
    'step_range',
]

PLAIN_VALUES = (int, float, str, list, tuple, dict, type(None))  # bool is an int


class ConfigOptions(argparse.Action):
    """Action for ``argparse`` that collects options ``KEY=VALUE ...`` of the command line in a dict.

    A value is read as Python would: numbers, ``True``, ``None``, lists, tuples and dicts; also ``true`` and ``false``.
    Numbers separated by commas are a list, and so are names in brackets. Anything else is one text, with its spaces and
    commas, such as a path; quotes make a text of anything::

        --cfg-options train_cfg.max_epochs=10 model.encoder.img_size=96,128 work_dir=/data/my runs
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add the options to the dict, or end with status 2 if one cannot be read."""
        options = dict(getattr(namespace, self.dest) or {})
        for text in values:
            key, equals, value = text.partition('=')
            if not equals or not key:
                parser.error(f'{option_string} {text}: give KEY=VALUE, without spaces around "="')
            try:
                options[key] = self.read(value)
            except (RecursionError, MemoryError, ValueError, AssertionError, IndexError):
                parser.error(f'{option_string} {text}: write lists of dicts in a config file')
        setattr(namespace, self.dest, options)

    @classmethod
    def read(cls, text: str) -> object:
        """Convert the text of a value to the value.

        Args:
            text: What stands behind ``KEY=``.

        Raises:
            ValueError: If brackets do not match, or a dict is written as ``dict(...)``.
        """
        stripped = text.strip()
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(stripped)
            if isinstance(value, tuple) and not stripped.startswith('('):  # commas without brackets
                return list(value) if all(isinstance(item, int | float) for item in value) else text
            return value if isinstance(value, PLAIN_VALUES) else text
        if (stripped[:1], stripped[-1:]) in (('[', ']'), ('(', ')')):
            if any(mark in stripped for mark in ('dict(', '{')):
                raise ValueError(f'{text} holds dicts')
            items = [cls.read(item.strip()) for item in split_at_commas(stripped[1:-1])]
            return items if stripped.startswith('[') else tuple(items)
        from mae_toolkit.engine._mmengine import parse_option

        return parse_option(text)


def split_at_commas(text: str) -> list[str]:
    """Split a text at the commas outside all brackets: ``'a,(b,c)'`` gives ``['a', '(b,c)']``.

    Args:
        text: The text.

    Raises:
        ValueError: If brackets do not match.
    """
    parts, depth = [''], 0
    for letter in text:
        depth += (letter in '([') - (letter in ')]')
        if depth < 0:
            break
        if letter == ',' and not depth:
            parts.append('')
        else:
            parts[-1] += letter
    if depth:
        raise ValueError(f'{text} has brackets that do not match')
    return parts if parts[-1].strip() else parts[:-1]


def find_config_and_checkpoint(config: str, checkpoint: str | None = None) -> tuple[str, str]:
    """Return the config and the checkpoint that a user names: both of them, or the folder of a run.

    A run's folder has the config with all options of its training, and the best checkpoint, or else the newest.

    Args:
        config: A config, or the folder of a run.
        checkpoint: A checkpoint; that of the folder if None.

    Raises:
        UserError: If a config comes without a checkpoint, or the folder has none.
    """
    from mae_toolkit.checkpoints.run_folder import find_run

    if Path(config).is_dir():
        run = find_run(config)
        return str(run.config), checkpoint or str(run.checkpoint)
    if checkpoint is None:
        raise UserError(f'{config} needs a checkpoint beside it: give CONFIG CHECKPOINT, or the folder of a run.')
    return config, checkpoint


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--cfg-options`` of a tool that reads a config: settings that replace those of the file."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        default={},
        metavar='KEY=VALUE',
        help='replace settings of the config: train_dataloader.batch_size=32 train_cfg.max_epochs=10',
    )


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--launcher`` of a tool that may run in several processes."""
    from mae_toolkit.engine.distributed import LAUNCHERS

    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='what started the processes')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)  # of old launchers


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options ``--max-pixels`` and ``--max-bytes`` of a tool that reads images."""
    from mae_toolkit.datasets.image_limits import MAX_BYTES, MAX_PIXELS

    parser.add_argument('--max-pixels', type=positive_int, help=f'skip larger images; {MAX_PIXELS} by default')
    parser.add_argument(
        '--max-bytes',
        type=positive_int,
        help=f'skip larger files, and images that take more once decoded; {MAX_BYTES} by default',
    )


def parse_limits(args: argparse.Namespace) -> ImageLimits | None:
    """Return the limits that the options of :func:`add_limits` set; None if neither is given."""
    from mae_toolkit.datasets.image_limits import MAX_BYTES, MAX_PIXELS, ImageLimits

    if args.max_pixels is None and args.max_bytes is None:
        return None
    return ImageLimits(args.max_pixels or MAX_PIXELS, args.max_bytes or MAX_BYTES)


def add_force(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--force`` of a tool that writes: replace files that it did not write."""
    parser.add_argument('--force', action='store_true', help='replace a file that is there, whoever wrote it')


def run_tool(main: Callable[[], object], resume: str = 'begin again') -> None:
    """Run the main function of a tool, and report a user's mistake in one sentence with exit status 2.

    Errors of the system about a file (no such folder, no permission, disk full) and the end of a worker process that
    the system killed are reported in the same way; the latter ends with status 86, by which a job is queued again. A
    training that was told to stop ends with status 85, see :class:`~mae_toolkit.engine.preemption.Preempted`. Any other
    failure keeps its stack trace.

    Args:
        main: The main function.
        resume: What to do after an interruption, for the message.
    """
    with any_text_printed():
        try:
            _run(main, resume)
        except Exception as error:
            _log_trace()
            _tell_torchrun(error)
            note_failure(error)
            raise


def _run(main: Callable[[], object], resume: str) -> None:
    from mae_toolkit.engine.code_guard import refuse_code_in_files
    from mae_toolkit.engine.distributed import leave_distributed
    from mae_toolkit.engine.preemption import PREEMPTED, RANK_LOST, Preempted, ignore_signals

    try:
        refuse_code_in_files()
        _stay_ended()
        main()
        leave_distributed()
    except Preempted as end:
        ignore_signals()
        note_end(PREEMPTED, str(end))
        if os.environ.get('RANK', '0') == '0':
            print(f'\nstopped: {end}', file=sys.stderr, flush=True)
        leave_distributed(PREEMPTED)
        raise
    except UserError as error:
        _tell_torchrun(error)
        note_end(USERS_MISTAKE, _message_of(error))
        note_failure(error)
        _end(_message_of(error))
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        where = f'{error.filename}: ' if error.filename else ''
        _end(f'{where}{error.strerror or error}; choose another place, or make it possible there.')
    except RuntimeError as error:
        if 'DataLoader worker' not in str(error) or 'killed' not in str(error):
            raise
        _end(f'{error} Memory may have run out: set a lower num_workers or batch_size, and {resume}.', RANK_LOST)
    except KeyboardInterrupt:
        print(f'\ninterrupted; {resume}', file=sys.stderr)
        sys.exit(130)


def _stay_ended() -> None:
    """End as the processes that torchrun has replaced by this one did, if they ended on purpose."""
    from mae_toolkit.engine.preemption import PREEMPTED, Preempted

    if (end := read_end()) is not None:
        status, sentence = end
        raise Preempted(sentence) if status == PREEMPTED else UserError(sentence)


def _log_trace() -> None:
    """Write the stack trace of an error into the log file of the run, if there is one; the console shows it anyway."""
    from mmengine.logging import MMLogger

    text = f'The run ended with an error:\n{traceback.format_exc()}'
    write_into_log_file(MMLogger.get_current_instance(), logging.ERROR, text)


def _tell_torchrun(error: Exception) -> None:
    """Write an error where torchrun looks for it, so that its report names the first rank that failed, and why."""
    if os.environ.get('TORCHELASTIC_ERROR_FILE'):
        from torch.distributed.elastic.multiprocessing.errors import get_error_handler

        get_error_handler().record_exception(error)


def _end(sentence: str, status: int = USERS_MISTAKE) -> NoReturn:
    print(f'\nerror: {sentence}', file=sys.stderr, flush=True)  # a progress bar may stand in the line
    # Leave at once: in a group of processes the others wait in a collective call that will never be answered.
    if 'WORLD_SIZE' in os.environ:
        os._exit(status)
    sys.exit(status)


def _message_of(error: UserError) -> str:
    """Return the sentence alone, without the stack trace that a worker of a data loader puts around it."""
    text = str(error)
    marker = f'{UserError.__module__}.{UserError.__qualname__}: '
    return text.rsplit(marker, 1)[-1].strip()
