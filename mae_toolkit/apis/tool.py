"""How a tool begins, and how it ends: quietly, with a sentence, or with a stack trace."""

import argparse
import os
import sys
from pathlib import Path

import torch
from mmengine.config import DictAction

from mae_toolkit.engine.code_guard import refuse_code_in_files
from mae_toolkit.engine.distributed import leave_distributed
from mae_toolkit.errors import UserError


class ConfigOptions(DictAction):
    """MMEngine's ``KEY=VALUE ...``, with spaces kept in plain values, and a sentence for what it cannot read."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Read the options, or end with status 2."""
        options = dict(getattr(namespace, self.dest) or {})
        for text in values:
            key, equals, value = text.partition('=')
            if not equals or not key:
                parser.error(f'{option_string} {text}: give KEY=VALUE, without spaces around "="')
            try:
                plain = ' ' in value and not any(bracket in value for bracket in '[](){}')
                options[key] = value if plain else self._parse_iterable(value)
            except (RecursionError, ValueError, AssertionError, IndexError):
                parser.error(f'{option_string} {text}: write lists of dicts in a config file')
        setattr(namespace, self.dest, options)


def positive(text):
    """A whole number of 1 or more; a type for ``argparse``."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text} is no whole number of 1 or more')
    return int(text)


def share(text):
    """A number from 0 to 1; a type for ``argparse``."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f'{text} is no number from 0 to 1')
    return number


def device(text):
    """A device that this machine has; a type for ``argparse``."""
    try:
        torch.empty(1, device=text).item()  # of which meta has none
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise argparse.ArgumentTypeError(f'{text} cannot be used here ({reason}); cpu always can') from None
    return text


def output_file(text):
    """A path at which a file can be written; a type for ``argparse``, so that work is not done in vain."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f'{text} is a folder; name a file in it')
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f'there is no folder {path.parent}; make it first')
    return text


def run_tool(main, resume='begin again'):
    """Run a tool's main function. A user's mistake becomes one sentence and exit status 2.

    So does what the system says of a file (no such folder, no permission, disk full), and the end of a worker process
    that the system killed. Any other failure keeps its stack trace.

    Args:
        main (Callable): Of the tool.
        resume (str): What to do after an interruption.
    """
    try:
        refuse_code_in_files()
        main()
        leave_distributed()
    except UserError as error:
        _end(_sentence(error))
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        where = f'{error.filename}: ' if error.filename else ''
        _end(f'{where}{error.strerror or error}; choose another place, or make it possible there.')
    except RuntimeError as error:
        if 'DataLoader worker' not in str(error) or 'killed' not in str(error):
            raise
        _end(f'{error} Memory may have run out: set a lower num_workers or batch_size, and {resume}.')
    except KeyboardInterrupt:
        print(f'\ninterrupted; {resume}', file=sys.stderr)
        sys.exit(130)


def _end(sentence):
    print(f'\nerror: {sentence}', file=sys.stderr, flush=True)  # a progress bar may stand in the line
    # Leave at once: in a group of processes the others wait in a collective call that will never be answered.
    os._exit(2) if 'WORLD_SIZE' in os.environ else sys.exit(2)


def _sentence(error):
    """The sentence alone: a data loader's worker wraps it into its stack trace."""
    text = str(error)
    marker = f'{UserError.__module__}.{UserError.__qualname__}: '
    return text.rsplit(marker, 1)[-1].strip()
