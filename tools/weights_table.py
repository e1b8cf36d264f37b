"""Print which files of weights are loaded, or write it between the marks of a page: --write docs/weights.md"""

import argparse
import logging
from pathlib import Path

from mae_toolkit.benchmarks.weights_table import format_table, make_samples, try_all
from mae_toolkit.cli import output_file, run_tool
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write

MARKS = '<!-- tools/weights_table.py writes from here -->\n', '\n<!-- to here -->'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--write',
        metavar='FILE',
        type=output_file,
        help=f'file with the lines {MARKS[0].strip()} and {MARKS[1].strip()}',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.write and Path(args.write).is_symlink():
        raise UserError(f'{args.write} is a link: name the file itself.')
    before, mark, rest = _read(args.write).partition(MARKS[0]) if args.write else ('', '', '')
    _, end, after = rest.partition(MARKS[1])
    if args.write and not (mark and end):
        raise UserError(f'{args.write} lacks the line {(MARKS[1] if mark else MARKS[0]).strip()}: add both marks.')
    logging.disable(logging.CRITICAL)  # thousands of files are read
    text = format_table(try_all(make_samples()))
    print(text)
    if args.write:
        atomic_write(args.write, f'{before}{mark}\n{text}\n{end}{after}')


def _read(path: str) -> str:
    return Path(path).read_text(encoding='utf-8')


if __name__ == '__main__':
    run_tool(main)
