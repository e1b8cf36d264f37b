"""One table of several pretrained encoders on the same tasks: tools/transfer.py plan|run|table FILE.yaml"""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Sequence

os.environ.setdefault('PYTORCH_NVML_BASED_CUDA_CHECK', '1')  # a look for GPUs that leaves CUDA as it is

from mae_toolkit.cli import positive_int, run_tool
from mae_toolkit.errors import UserError
from mae_toolkit.transfer.checks import check_plan
from mae_toolkit.transfer.experiment import read_experiment
from mae_toolkit.transfer.local import run_locally
from mae_toolkit.transfer.plan import make_plan, overview
from mae_toolkit.transfer.slurm import find_queued_jobs, submit_plan
from mae_toolkit.transfer.tables import write_again, write_tables

from mmengine.logging import MMLogger


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    plan = commands.add_parser('plan', help='check everything and print what would run')
    run = commands.add_parser('run', help='run what is missing, then write the table')
    table = commands.add_parser('table', help='write the table of the runs that are done')
    for command in (plan, run):
        command.add_argument(
            'file', help='YAML of encoders, tasks, fractions of the labels and seeds; see docs/transfer.md'
        )
        command.add_argument(
            '--only',
            action='append',
            nargs='+',
            default=[],
            metavar='KEY=VALUE',
            help='only these runs: encoder=..., task=..., labels=..., seed=..., with * for anything',
        )
        command.add_argument('--jobs', type=positive_int, default=1, help='processes at once on this machine')
    run.add_argument('--dry-run', action='store_true', help='do the same as plan')
    run.add_argument(
        '--slurm',
        metavar='PARTITION',
        help='submit a job per run there; GPUS, CPUS_PER_TASK and SRUN_ARGS as for tools/slurm_train.sh',
    )
    table.add_argument('file', nargs='?', help='YAML file, as for plan and run')
    table.add_argument('--from', dest='source', metavar='FOLDER', help='folder that --out made, in place of the runs')
    table.add_argument('--out', metavar='FOLDER', help='write there, with the YAML and the logs; else into work_dir')
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    args = parse_args(args)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that processes are ended, too
    MMLogger.get_current_instance().setLevel(logging.ERROR)  # it warns where the scope changes from task to task
    if args.command == 'table':
        make_table(args)
        return
    experiment = read_experiment(args.file)
    plan = make_plan(experiment)
    check_plan(plan)
    plan = plan.only([text for texts in args.only for text in texts])
    print(overview(plan, find_queued_jobs(), args.jobs), flush=True)
    if args.command == 'plan' or args.dry_run:
        return
    if args.slurm:
        submit_plan(plan, args.slurm, say)
        return
    failed = run_locally(plan, args.jobs, say)
    print(write_tables(make_plan(experiment), experiment.work_dir))
    if failed:
        raise UserError(
            f'{len(failed)} runs failed; what they said is in their folders. The next call repeats them alone.'
        )


def make_table(args: argparse.Namespace) -> None:
    if (args.file is None) == (args.source is None):
        raise UserError('table needs the YAML, or --from FOLDER.')
    if args.source:
        print(write_again(args.source, args.out or args.source))
        return
    experiment = read_experiment(args.file)
    plan = make_plan(experiment)
    if plan.mistakes:
        raise UserError('\n'.join(plan.mistakes))
    print(write_tables(plan, args.out or experiment.work_dir, copies=args.out is not None))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == '__main__':
    run_tool(main, resume='the same command goes on')
