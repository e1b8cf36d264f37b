"""Print which parts go together, or write it between the marks of a page: --write docs/combinations.md"""

import argparse
from pathlib import Path

from mae_toolkit.cli import output_file, run_tool
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.models.compatibility import count_combinations, format_table

MARKS = '<!-- tools/compatibility.py writes from here -->\n', '\n<!-- to here -->'


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--write',
        metavar='FILE',
        type=output_file,
        help=f'file with the lines {MARKS[0].strip()} and {MARKS[1].strip()}',
    )
    return parser.parse_args()


def main():
    args = parse_args()
    if args.write and Path(args.write).is_symlink():
        raise UserError(f'{args.write} is a link: name the file itself.')
    text = format_table(count_combinations())
    print(text)
    if args.write:
        before, mark, rest = Path(args.write).read_text(encoding='utf-8').partition(MARKS[0])
        _, end, after = rest.partition(MARKS[1])
        if not mark or not end:
            raise UserError(f'{args.write} lacks the line {(MARKS[1] if mark else MARKS[0]).strip()}: add both marks.')
        atomic_write(args.write, f'{before}{mark}\n{text}\n{end}{after}')


if __name__ == '__main__':
    run_tool(main)
