"""The table in Markdown and CSV, with what is behind its numbers."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from mae_toolkit.transfer.experiment import Experiment
from mae_toolkit.transfer.markdown import escape_formula, escape_markdown, to_code
from mae_toolkit.transfer.run_records import RunResult
from mae_toolkit.transfer.summary import NOTHING, Table, find_best, format_cell, list_columns

SHORT = 12  # characters of a hash in Markdown; runs.csv has them whole


def write_markdown(
    experiment: Experiment, table: Table, results: Sequence[RunResult], notes: Iterable[str] = ()
) -> str:
    """Write the table, and below it the configs, weights, runs, machines and dates.

    Args:
        experiment: What was asked for.
        table: See :func:`~mae_toolkit.transfer.summary.make_cells`.
        results: The results in it.
        notes: Sentences that are to stand below the table.
    """
    columns = list_columns(experiment)
    winners = {column: find_best(experiment, table, column) for column in columns}
    lines = _row(['encoder', *(escape_markdown(column.title) for column in columns)], head=True)
    for entry in experiment.encoders:
        texts = [(column, format_cell(table[entry.name, column])) for column in columns]
        marked = [f'**{text}**' if winners[column] == entry.name else text for column, text in texts]
        lines += _row([escape_markdown(entry.name), *marked])
    mixed = [f'- {_to_line(note)}' for note in [*_tell_mixtures(table), *notes]]
    return '\n\n'.join(['\n'.join(lines), *_legend(experiment), *mixed, *_behind(experiment, results)]) + '\n'


def write_table_csv(experiment: Experiment, table: Table) -> str:
    """Write a row per cell, unrounded."""
    rows: list[list] = [['encoder', 'task', 'labels', 'metric', 'mean', 'std', 'n', 'seeds']]
    for (name, column), cell in table.items():
        numbers = [_number(cell.mean), _number(cell.std), len(cell.values), cell.wanted]
        rows.append([name, column.task, f'{column.label_fraction:g}', column.metric.name, *numbers])
    return _csv(rows)


def write_runs_csv(experiment: Experiment, results: Sequence[RunResult]) -> str:
    """Write a row per run, with its metrics as the evaluator gave them, hashes, versions and machine."""
    metrics = sorted({metric.key for task in experiment.tasks for metric in task.metrics})
    packages = sorted({name for result in results for name in result.versions})
    probes = list(dict.fromkeys(name for result in results for name in result.chosen))
    rows: list[list] = [
        ['encoder', 'task', 'labels', 'seed', 'run', *metrics, 'config', 'config_sha256', 'settings', 'checkpoint']
        + ['checkpoint_sha256', 'data', 'seconds', 'resumed', 'device', 'started', 'finished', *packages]
        + [f'{name} reads' for name in probes]
    ]
    for r in results:
        path, sha256 = (r.weights.path, r.weights.sha256) if r.weights else ('', '')
        rows.append(
            [r.encoder, r.task, f'{r.label_fraction:g}', r.seed, r.id]
            + [_number(r.metrics.get(key)) for key in metrics]
            + [r.config, r.config_sha256, r.settings, path, sha256]
            + [' '.join(f'{name}:{value}' for name, value in sorted(r.data.items()))]
            + [r.seconds, r.resumed, r.device, r.started, r.finished]
            + [r.versions.get(name) or '' for name in packages]
            + [r.chosen.get(name, '') for name in probes]
        )
    return _csv(rows)


def _legend(experiment: Experiment) -> list[str]:
    seeds = ', '.join(map(str, experiment.seeds))
    frozen = [escape_markdown(task.name) for task in experiment.tasks if task.frozen]
    trains = len(frozen) < len(experiment.tasks)
    when = ', after the last step of training' if trains else ''
    lines = [
        f'Mean ± sample standard deviation over the seeds {seeds} on the test split{when}; '
        f'n where seeds are missing, {NOTHING} where nothing ran. The percentages above are fractions of the labels. '
        '**Bold**: best by more than both standard deviations together, where all seeds ran.'
    ]
    if frozen:
        where = f'In {", ".join(frozen)}, the' if trains else 'The'
        lines.append(
            f'{where} encoder is frozen, and read by probes: each at the level and pooling that validation images '
            'chose for it, and effective ranks, which grow with the number of channels, at the coarsest level.'
        )
    return lines


def _tell_mixtures(table: Table) -> Iterator[str]:
    """Tell what is not the same within cells: the machines, the versions, the data, the weights."""
    views = {
        'devices': lambda r: r.device,
        'versions of torch': lambda r: r.versions.get('torch'),
        'versions of the toolkit': lambda r: ' '.join(
            filter(None, (r.versions.get(key) for key in ('mae_toolkit', 'commit')))
        ),
        'files of weights': lambda r: r.weights.sha256[:SHORT] if r.weights else '',
        'data': lambda r: str(sorted(r.data.items())),
    }
    for what, view in views.items():
        places: dict[str, dict[str, None]] = {}
        for (name, column), cell in table.items():
            if len(seen := {view(result) for result in cell.results}) > 1:
                place = f'{name} on {column.task}, {100 * column.label_fraction:g}%'
                places.setdefault(' and '.join(sorted(seen)) if what != 'data' else 'changed files', {})[place] = None
        for kinds, where in places.items():
            yield f'Mixed {what} within a cell ({kinds}): {"; ".join(where)}.'


def _behind(experiment: Experiment, results: Sequence[RunResult]) -> list[str]:
    """Write the parts of the chapter on what is behind the numbers."""
    tables = [_origins(experiment, results), _tasks(experiment, results), _runs(results)]
    if any(r.chosen for r in results):
        tables.append(_chosen(results))
    return ['### Behind the numbers', *('\n'.join(lines) for lines in tables), _machines(results)]


def _origins(experiment: Experiment, results: Sequence[RunResult]) -> list[str]:
    """Write the weights with which the encoders began."""
    lines = _row(['encoder', 'begins with', 'SHA-256'], head=True)
    for entry in experiment.encoders:
        weights = {r.weights: r for r in results if r.encoder == entry.name and r.weights}
        for file, r in weights.items():
            made = f', trained here by {to_code(r.pretraining.config)}' if r.pretraining else ''
            lines += _row([escape_markdown(entry.name), f'{to_code(file.path)}{made}', to_code(file.sha256[:SHORT])])
        if not weights:
            lines += _row([escape_markdown(entry.name), 'nothing has run' if entry.pretrained else 'scratch', ''])
    return lines


def _tasks(experiment: Experiment, results: Sequence[RunResult]) -> list[str]:
    """Write the configs and options of the tasks."""
    lines = _row(['task', 'config', 'options', 'seconds of a run'], head=True)
    for task in experiment.tasks:
        own = [r for r in results if r.task == task.name]
        for text in dict.fromkeys(_options(r) for r in own) or ['']:
            times = [r.seconds for r in own if _options(r) == text and not r.resumed]
            spent = f'{min(times):.0f} to {max(times):.0f}' if times else ''
            lines += _row([escape_markdown(task.name), to_code(task.config), text, spent])
    return lines


def _options(result: RunResult) -> str:
    return ' '.join(to_code(f'{key}={value}') for key, value in result.options.items())


def _runs(results: Sequence[RunResult]) -> list[str]:
    """Write the runs of every cell, by which the rest is found in runs.csv."""
    lines = _row(['encoder', 'task', 'labels', 'runs'], head=True)
    groups: dict[tuple[str, str, float], list[RunResult]] = {}
    for r in results:
        groups.setdefault((r.encoder, r.task, r.label_fraction), []).append(r)
    for (encoder, task, label_fraction), found in groups.items():
        ids = ', '.join(f'{to_code(r.id)} (seed {r.seed})' for r in found)
        lines += _row([escape_markdown(encoder), escape_markdown(task), f'{100 * label_fraction:g}%', ids])
    return lines


def _chosen(results: Sequence[RunResult]) -> list[str]:
    """Write the levels and poolings at which probes read frozen encoders, with the number of seeds for each."""
    probes = list(dict.fromkeys(name for r in results for name in r.chosen))
    lines = _row(['encoder', 'task', 'labels', *(f'{name} reads' for name in probes)], head=True)
    groups: dict[tuple[str, str, float], list[RunResult]] = {}
    for r in results:
        if r.chosen:
            groups.setdefault((r.encoder, r.task, r.label_fraction), []).append(r)
    for (encoder, task, label_fraction), found in groups.items():
        counts = [Counter(r.chosen[name] for r in found if name in r.chosen).most_common() for name in probes]
        texts = [', '.join(f'{to_code(name)} {count}x' for name, count in pairs) for pairs in counts]
        lines += _row([escape_markdown(encoder), escape_markdown(task), f'{100 * label_fraction:g}%', *texts])
    return lines


def _machines(results: Sequence[RunResult]) -> str:
    """Write machines, versions and dates."""
    if not results:
        return 'No run has finished.'
    machines = Counter((escape_markdown(r.device), escape_markdown(_versions(r))) for r in results)
    lines = [f'- {count} runs on {device}: {versions}' for (device, versions), count in machines.items()]
    dates = sorted(time[:10] for r in results for time in (r.started, r.finished))
    hours = sum(r.seconds for r in results) / 3600
    lines.append(f'- From {escape_markdown(dates[0])} to {escape_markdown(dates[-1])}, {hours:.1f} hours of runs.')
    return '\n'.join(lines)


def _versions(result: RunResult) -> str:
    return ', '.join(f'{name} {value}' for name, value in result.versions.items() if value)


def _row(values: Sequence[object], head: bool = False) -> list[str]:
    line = '| ' + ' | '.join(map(str, values)) + ' |'
    return [line, '|' + '---|' * len(values)] if head else [line]


def _to_line(note: str) -> str:
    """Make one line without HTML of a sentence of ours, in which names of users may stand."""
    return ''.join(character if character.isprintable() else ' ' for character in note).replace('<', '&lt;')


def _number(value: float | None) -> str:
    return '' if value is None else f'{value:.10g}'


def _csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows([list(map(escape_formula, row)) for row in rows])
    return text.getvalue()
