"""What the training was: its speed, its duration, its starts and its environment."""

from __future__ import annotations

from datetime import datetime

from mae_toolkit.apis.log_analysis import LogSummary, summarize_log
from mae_toolkit.apis.run_list import RunSummary, summarize_run_folder
from mae_toolkit.apis.run_show import format_age
from mae_toolkit.errors import UserError
from mae_toolkit.printing import printable
from mae_toolkit.report.blocks import Block, Table
from mae_toolkit.report.inputs import NotApplicable, ReportInputs
from mae_toolkit.report.section import Section
from mae_toolkit.report.sections.losses import NO_RUN
from mae_toolkit.run_files import DamagedRunFile, RunFile, read_run
from mae_toolkit.visualization.run_logs import read_run_log


def build(inputs: ReportInputs) -> list[Block]:
    """Describe the run in whose folder the checkpoint lies."""
    if inputs.run is None:
        raise NotApplicable(NO_RUN)
    summary = summarize_run_folder(inputs.run)
    try:
        measured = summarize_log(read_run_log(inputs.run), {})
    except UserError:  # it has just begun, and has logged nothing
        measured = None
    try:
        run = read_run(inputs.run)
    except DamagedRunFile:  # among the warnings of the summary
        run = None
    rows = [*_describe(summary), *(_describe_speed(measured) if measured else ()), *_describe_last_start(run)]
    blocks: list[Block] = [Table('What is known of it', (), [row for row in rows if row[1]])]
    if run is not None and run.starts:
        blocks.append(_list_starts(run))
    return blocks


def _describe(run: RunSummary) -> list[tuple[str, str]]:
    done = f'{run.iteration:,}' + (f' of {run.max_iters:,} ({run.progress:.0%})' if run.progress is not None else '')
    return [
        ('folder', printable(run.path)),
        ('state', run.state + (f': {printable(run.error)}' if run.error else '')),
        ('iterations', done),
        *(('warning', printable(warning)) for warning in run.warnings),
    ]


def _describe_speed(log: LogSummary) -> list[tuple[str, str]]:
    def write(value: float | None, form: str, unit: str = '') -> str:
        return '' if value is None else f'{value:{form}}{unit}'

    return [
        ('duration', '' if log.hours is None else format_age(3600 * log.hours) + ' of training, without gaps'),
        ('speed', write(log.images_per_s, ',.0f', ' images/s')),
        ('step', write(log.step_time, '.3f', ' s')),
        ('waiting for data', write(log.data_share, '.0%', ' of the time')),
        ('of the peak of the device', write(log.peak_share, '.1%')),
        ('memory of a process', write(log.memory_gb, '.1f', ' GB')),
        ('slow processes', ', '.join(f'{rank} in {share:.0%} of the time' for rank, share in log.stragglers.items())),
    ]


def _describe_last_start(run: RunFile | None) -> list[tuple[str, str]]:
    if run is None or not run.starts:
        return []
    start = run.starts[-1]
    return [
        ('config of the run', f'{printable(run.config)}, hash {run.config_hash}'),
        ('command', printable(' '.join(map(str, start.command)))),
        ('versions', ', '.join(f'{name} {version}' for name, version in start.versions.items())),
        ('commit', start.commit or ''),
    ]


def _list_starts(run: RunFile) -> Table:
    """Make the table of the starts of a run."""
    rows = []
    for start in run.starts:
        end = 'killed' if start.status == 'running' and start is not run.starts[-1] else start.status
        took = '' if start.ended is None else format_age(start.ended - start.time)
        when = datetime.fromtimestamp(start.time).strftime('%Y-%m-%d %H:%M')
        hosts = f' on {start.hosts} hosts' if start.hosts > 1 else ''
        rows.append((when, f'{start.iteration:,}', end, took, f'{start.ranks} x {printable(start.device)}{hosts}'))
    return Table('Its starts', ('start', 'from iteration', 'end', 'duration', 'devices'), rows)


SECTION = Section('run', 'The training run', build)
