"""How a tool ends: quietly, with a sentence, or with a stack trace."""

import os
import sys

from mae_toolkit.errors import UserError


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
