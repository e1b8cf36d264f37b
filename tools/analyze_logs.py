"""Plot and compare what runs logged: tools/analyze_logs.py work_dirs/a work_dirs/b --keys loss --out curves.png"""

import argparse
import json
from collections.abc import Sequence

from mae_toolkit.apis.log_analysis import analyze_logs, format_summaries
from mae_toolkit.cli import add_force, output_file, run_tool, share_below_one
from mae_toolkit.outputs import check_output
from mae_toolkit.visualization.run_logs import AXES


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('runs', nargs='+', help='work directories; all starts of a resumed run are joined')
    parser.add_argument(
        '--keys',
        nargs='+',
        default=['loss'],
        help='what is drawn and compared: loss, val/loss, speed/images_per_s, ...; loss by default',
    )
    parser.add_argument('--out', type=output_file, help='PNG for the curves')
    parser.add_argument('--x', choices=AXES, default='iterations', help='iterations by default')
    parser.add_argument(
        '--smooth', type=share_below_one, default=0.0, help='from 0 (not at all, the default) to below 1, as 0.9'
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    add_force(parser)
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    options = parse_args(args)
    if options.out is not None:
        check_output(options.out, options.force)
    summaries = analyze_logs(options.runs, options.keys, options.out, options.x, options.smooth)
    rows = [summary.to_dict() for summary in summaries]
    print(json.dumps(rows, indent=1) if options.json else format_summaries(summaries))


if __name__ == '__main__':
    run_tool(main)
