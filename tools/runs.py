"""Look over all runs below a folder: tools/runs.py ls work_dirs"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mae_toolkit.apis.run_list import DEAD_AFTER, STATES
from mae_toolkit.apis.run_metrics import rank_runs
from mae_toolkit.apis.run_show import show_run
from mae_toolkit.apis.run_table import SORTS, format_ranking, format_runs, list_runs, select_runs
from mae_toolkit.cli import positive_int, positive_number, run_tool


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    ls = commands.add_parser('ls', help='list runs with state, progress, last loss, images/s and age')
    _add_folder(ls)
    ls.add_argument('--state', nargs='+', choices=STATES, help='only those in one of these states')
    ls.add_argument('--sort', choices=SORTS, default='age', help='what comes first: the newest sign of life by default')
    ls.add_argument(
        '--dead-after',
        type=positive_number,
        default=DEAD_AFTER,
        metavar='SECONDS',
        help=f'seconds without a heartbeat after which a run that did not end is dead; {DEAD_AFTER:g} by default',
    )
    ls.add_argument('--json', action='store_true', help='print JSON instead of a table')
    best = commands.add_parser('best', help='rank runs by the best value of a metric')
    _add_folder(best)
    best.add_argument('--metric', required=True, help='name in the logs, such as val/loss_pixel or watch/knn')
    direction = best.add_mutually_exclusive_group()
    direction.add_argument('--less', action='store_true', help='less is better; the default for losses')
    direction.add_argument('--greater', action='store_true', help='more is better; the default for all else')
    best.add_argument('--most', type=positive_int, default=10, help='number of runs that are shown; 10 by default')
    best.add_argument('--json', action='store_true', help='print JSON instead of a table')
    show = commands.add_parser('show', help='show all that is known of a run')
    show.add_argument('run', help='its work directory')
    show.add_argument('--against', help='another run, or a config, whose settings are compared; its own config file')
    return parser.parse_args(args)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('folder', nargs='?', default='work_dirs', help='folder that is searched; work_dirs by default')
    parser.add_argument('--name', metavar='PATTERN', help="only those whose folder or config matches, such as '*vit*'")


def main(args: Sequence[str] | None = None) -> None:
    options = parse_args(args)
    if options.command == 'show':
        print(show_run(options.run, options.against))
    elif options.command == 'ls':
        runs = select_runs(list_runs(options.folder, options.dead_after), options.state, options.name, options.sort)
        rows = [asdict(run) | {'path': str(run.path), 'progress': run.progress} for run in runs]
        print(json.dumps(rows, indent=1) if options.json else format_runs(runs, options.folder))
    else:
        less = options.less or (not options.greater and 'loss' in options.metric)
        folders = [run.path for run in select_runs(list_runs(options.folder), None, options.name, 'name')]
        ranked = rank_runs(options.folder, folders, options.metric, less)[: options.most]
        rows = [asdict(run) | {'path': str(run.path)} for run in ranked]
        table = format_ranking(ranked, Path(options.folder), options.metric, less)
        print(json.dumps(rows, indent=1) if options.json else table)


if __name__ == '__main__':
    run_tool(main)
