"""The program ``mae-toolkit``: one file per command, each with DESCRIPTION, ``add_arguments``, ``run``, perhaps RESUME.

A file of a command imports what loads torch within ``run``: the parser is made of all files, and torch, timm and
MMEngine take seconds to load.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules

from mae_toolkit import __version__
from mae_toolkit.cli import run_tool

BEGIN_AGAIN = 'begin again'  # after an interruption, unless a command says RESUME


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the program, with a subparser for each file of this package."""
    parser = argparse.ArgumentParser(
        prog='mae-toolkit', description='Pretrain vision encoders on your own images, fine-tune them, and export them.'
    )
    parser.add_argument('--version', action='version', version=__version__)
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    for name in list_commands():
        command = import_module(f'{__name__}.{name}')
        first_line = command.DESCRIPTION.strip().splitlines()[0]
        subparser = commands.add_parser(
            name,
            help=first_line,
            description=command.DESCRIPTION,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        resume = getattr(command, 'RESUME', BEGIN_AGAIN)
        subparser.set_defaults(run=command.run, command=name, advice=resume)
    return parser


def list_commands() -> list[str]:
    """List the names of the commands, which are those of the files of this package without an underscore."""
    return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith('_'))


def main(args: Sequence[str] | None = None) -> None:
    """Run the program.

    Args:
        args: Arguments of the command line, those of the process if None.
    """
    parsed = build_parser().parse_args(args)
    parsed.began = time.perf_counter()  # from which --minutes count, before the libraries are loaded
    print(f'mae-toolkit {parsed.command}: loading torch, timm and MMEngine', file=sys.stderr, flush=True)
    run_tool(lambda: parsed.run(parsed), resume=parsed.advice)
