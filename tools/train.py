"""Pretrain or fine-tune: tools/train.py configs/pretrain/quickstart.py"""

import argparse
from collections.abc import Sequence

from mae_toolkit.apis import load_config, train
from mae_toolkit.apis.submission_check import check_submission
from mae_toolkit.cli import add_config_options, add_launcher, positive_int, run_tool, step_range

PROFILED = (10, 15)


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, such as those in configs/')
    parser.add_argument('--work-dir', help='folder for checkpoints, logs and pictures; work_dirs/<config> by default')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from the newest undamaged checkpoint of the work directory, or from the given one',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision (bfloat16, on GPU or CPU)')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the images per step',
    )
    parser.add_argument(
        '--minutes',
        type=float,
        help='wall time: the number of steps is fixed by timing the first, schedules end with it',
    )
    parser.add_argument(
        '--total-batch-size',
        type=positive_int,
        metavar='IMAGES',
        help='images of an iteration over all processes, so that another number of processes can resume',
    )
    parser.add_argument(
        '--allow-changed-config',
        action='store_true',
        help='resume although the config has changed since; otherwise the differences are listed',
    )
    parser.add_argument(
        '--profile',
        action='store_true',
        help='write a trace and a table of the most expensive operators of some steps into WORK_DIR/profile',
    )
    parser.add_argument(
        '--profile-steps',
        type=step_range,
        metavar='FIRST:LAST',
        help=f'steps that --profile records, counted from this start; {PROFILED[0]}:{PROFILED[1]} by default',
    )
    parser.add_argument(
        '--check-for',
        type=positive_int,
        metavar='PROCESSES',
        help='do not train; only check whether so many processes could, before a job of them is queued',
    )
    add_config_options(parser)
    add_launcher(parser)
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    options = parse_args(args)
    cfg = load_config(options.config, options.cfg_options)
    shared = dict(
        work_dir=options.work_dir,
        resume=options.resume,
        amp=options.amp,
        auto_scale_lr=options.auto_scale_lr,
        total_batch_size=options.total_batch_size,
        allow_changed_config=options.allow_changed_config,
    )
    if options.check_for is not None:
        print(check_submission(cfg, options.check_for, **shared))
        return
    train(
        cfg,
        **shared,
        launcher=options.launcher,
        minutes=options.minutes,
        profile=options.profile_steps or (PROFILED if options.profile else None),
    )


if __name__ == '__main__':
    run_tool(main, resume='go on with --resume')
