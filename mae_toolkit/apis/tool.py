"""How a tool ends: quietly, with a sentence, or with a stack trace."""

import os
import sys

from mmengine.config import DictAction

from mae_toolkit.errors import UserError


class ConfigOptions(DictAction):
    """MMEngine's ``KEY=VALUE ...``, with a sentence for what it cannot read."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Read the options, or end with status 2."""
        for value in values:
            if '=' not in value:
                parser.error(f'{option_string} {value}: give KEY=VALUE, without spaces around "="')
        try:
            super().__call__(parser, namespace, values, option_string)
        except (RecursionError, ValueError, AssertionError, IndexError):
            parser.error(f'{option_string} {" ".join(values)}: write lists of dicts in a config file')


def run_tool(main):
    """Run a tool's main function. A user's mistake becomes one sentence and exit status 2.

    Any other failure keeps its stack trace.
    """
    try:
        main()
    except UserError as error:
        print(f'\nerror: {_sentence(error)}', file=sys.stderr, flush=True)  # a progress bar may stand in the line
        # Leave at once: in a group of processes the others wait in a collective call that will never be answered.
        os._exit(2) if 'WORLD_SIZE' in os.environ else sys.exit(2)
    except KeyboardInterrupt:
        print('interrupted; go on with --resume', file=sys.stderr)
        sys.exit(130)


def _sentence(error):
    """The sentence alone: a data loader's worker wraps it into its stack trace."""
    text = str(error)
    marker = f'{UserError.__module__}.{UserError.__qualname__}: '
    return text.rsplit(marker, 1)[-1].strip()
