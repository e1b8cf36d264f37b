"""How a tool begins, and how it ends: quietly, with a sentence, or with a stack trace."""

import argparse
import ast
import contextlib
import os
import sys
from pathlib import Path

import torch
from mmengine.config import DictAction

from mae_toolkit.datasets.image_limits import MAX_BYTES, MAX_PIXELS, ImageLimits
from mae_toolkit.engine._mmengine import parse_option
from mae_toolkit.engine.code_guard import refuse_code_in_files
from mae_toolkit.engine.distributed import leave_distributed
from mae_toolkit.errors import UserError
from mae_toolkit.outputs import special_file
from mae_toolkit.printing import any_text_printed

PLAIN_VALUES = (int, float, str, list, tuple, dict, type(None))  # bool is an int


class ConfigOptions(DictAction):
    """Options ``KEY=VALUE ...`` of the command line, into a dict.

    A value is what Python reads: numbers, ``True``, ``None``, lists, tuples and dicts; ``true`` and ``false``; numbers
    with commas between them are a list, and so are names in brackets. Everything else is one text, with its blanks and
    commas, such as a path; quotes make a text of anything.
    """

    def __call__(self, parser, namespace, values, option_string=None):
        """Read the options, or end with status 2."""
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
        """Read one value.

        Raises:
            ValueError: If it has brackets that do not match, or dicts that are calls.
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
        return parse_option(text)


def split_at_commas(text: str) -> list[str]:
    """Split a text at the commas that are outside all brackets.

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
    """A path at which a file can be written; a type for ``argparse``, so that work is not done in vain.

    Whether it may replace what is there is for :func:`~mae_toolkit.outputs.check_output` to say.
    """
    path = Path(text)
    if kind := special_file(path):
        raise argparse.ArgumentTypeError(f'{text} is {kind}, which is not written to; name a file')
    if path.is_dir():
        raise argparse.ArgumentTypeError(f'{text} is a folder; name a file in it')
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f'there is no folder {path.parent}; make it first')
    return text


def add_limits(parser: argparse.ArgumentParser) -> None:
    """Add the options of a tool that reads images: the largest one that is decoded."""
    parser.add_argument('--max-pixels', type=positive, help=f'skip larger images; {MAX_PIXELS} by default')
    parser.add_argument(
        '--max-bytes',
        type=positive,
        help=f'skip larger files, and images that take more once decoded; {MAX_BYTES} by default',
    )


def limits_of(args: argparse.Namespace) -> ImageLimits | None:
    """Return the limits that the options of :func:`add_limits` set, or None if neither is given."""
    if args.max_pixels is None and args.max_bytes is None:
        return None
    return ImageLimits(args.max_pixels or MAX_PIXELS, args.max_bytes or MAX_BYTES)


def add_force(parser: argparse.ArgumentParser) -> None:
    """Add the option of a tool that writes: replace files that it did not write."""
    parser.add_argument('--force', action='store_true', help='replace a file that is there, whoever wrote it')


def run_tool(main, resume='begin again'):
    """Run a tool's main function. A user's mistake becomes one sentence and exit status 2.

    So does what the system says of a file (no such folder, no permission, disk full), and the end of a worker process
    that the system killed. Any other failure keeps its stack trace.

    Args:
        main (Callable): Of the tool.
        resume (str): What to do after an interruption.
    """
    with any_text_printed():
        _run(main, resume)


def _run(main, resume):
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
