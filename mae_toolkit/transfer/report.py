"""The table in Markdown and CSV, with what is behind its numbers."""

import csv
import io
from collections import Counter

from mae_toolkit.transfer.markdown import escape_formula, escape_markdown, to_code
from mae_toolkit.transfer.summary import NOTHING, best, columns, text_of

SHORT = 12  # characters of a hash in Markdown; runs.csv has them whole


def markdown(experiment, table, results, notes=()):
    """The table, and below it the configs, weights, runs, machines and dates.

    Args:
        experiment (Experiment), table (dict), results (list[dict]): See :func:`~mae_toolkit.transfer.summary.cells`.
        notes (Iterable[str]): More to be said.
    """
    shown = columns(experiment)
    winners = {column: best(experiment, table, column) for column in shown}
    lines = _row(['encoder', *(escape_markdown(column.title) for column in shown)], head=True)
    for source in experiment.encoders:
        texts = [text_of(table[source.name, column]) for column in shown]
        marked = [f'**{text}**' if winners[c] == source.name else text for text, c in zip(texts, shown, strict=True)]
        lines += _row([escape_markdown(source.name), *marked])
    parts = ['\n'.join(lines), _legend(experiment), *(f'- {_one_line(note)}' for note in [*_mixed(table), *notes])]
    return '\n\n'.join([*parts, _behind(experiment, results)]) + '\n'


def table_csv(experiment, table):
    """A row per cell, unrounded."""
    rows = [['encoder', 'task', 'labels', 'metric', 'mean', 'std', 'n', 'seeds']]
    for (name, column), cell in table.items():
        numbers = [_number(cell.mean), _number(cell.std), len(cell.values), cell.wanted]
        rows.append([name, column.task, f'{column.labels:g}', column.metric.name, *numbers])
    return _csv(rows)


def runs_csv(experiment, results):
    """A row per run, with its metrics as the evaluator gave them, hashes, versions and machine."""
    metrics = sorted({metric.key for task in experiment.tasks for metric in task.metrics})
    packages = sorted({name for result in results for name in result['versions']})
    rows = [
        ['encoder', 'task', 'labels', 'seed', 'run', *metrics, 'config', 'config_sha256', 'settings', 'checkpoint']
        + ['checkpoint_sha256', 'data', 'seconds', 'resumed', 'device', 'started', 'finished', *packages]
    ]
    for r in results:
        weights = r['weights'] or {'path': '', 'sha256': ''}
        rows.append(
            [r['encoder'], r['task'], f'{r["labels"]:g}', r['seed'], r['id']]
            + [_number(r['metrics'].get(key)) for key in metrics]
            + [r['config'], r['config_sha256'], r['settings'], weights['path'], weights['sha256']]
            + [' '.join(f'{name}:{value}' for name, value in sorted(r['data'].items()))]
            + [r['seconds'], r['resumed'], r['device'], r['started'], r['finished']]
            + [r['versions'].get(name) or '' for name in packages]
        )
    return _csv(rows)


def _legend(experiment):
    seeds = ', '.join(map(str, experiment.seeds))
    return (
        f'Mean ± sample standard deviation over the seeds {seeds} on the test split, after the last step of training; '
        f'n where seeds are missing, {NOTHING} where nothing ran. The percentages above are shares of the labels. '
        '**Bold**: best by more than both standard deviations together, where all seeds ran.'
    )


def _mixed(table):
    """What is not the same within cells: of the machines, the versions, the data, the weights."""
    views = {
        'devices': lambda r: r['device'],
        'versions of torch': lambda r: r['versions'].get('torch'),
        'versions of the toolkit': lambda r: ' '.join(
            filter(None, (r['versions'][k] for k in ('mae_toolkit', 'commit')))
        ),
        'files of weights': lambda r: (r['weights'] or {}).get('sha256', '')[:SHORT],
        'data': lambda r: str(sorted(r['data'].items())),
    }
    for what, view in views.items():
        places = {}
        for (name, column), cell in table.items():
            if len(kinds := {view(result) for result in cell.results}) > 1:
                place = f'{name} on {column.task}, {100 * column.labels:g}%'
                places.setdefault(' and '.join(sorted(kinds)) if what != 'data' else 'changed files', {})[place] = None
        for kinds, where in places.items():
            yield f'Mixed {what} within a cell ({kinds}): {"; ".join(where)}.'


def _behind(experiment, results):
    parts = ['### Behind the numbers', '\n'.join(_origins(experiment, results)), '\n'.join(_tasks(experiment, results))]
    parts += ['\n'.join(_runs(experiment, results)), _made(results)]
    return '\n\n'.join(parts)


def _origins(experiment, results):
    """Weights with which the encoders began."""
    lines = _row(['encoder', 'begins with', 'SHA-256'], head=True)
    for source in experiment.encoders:
        own = [r for r in results if r['encoder'] == source.name]
        weights = {(r['weights']['path'], r['weights']['sha256']): r for r in own if r['weights']}
        for (path, sha256), r in weights.items():
            made = f', trained here by {to_code(r["pretraining"]["config"])}' if r['pretraining'] else ''
            lines += _row([escape_markdown(source.name), f'{to_code(path)}{made}', to_code(sha256[:SHORT])])
        if not weights:
            lines += _row([escape_markdown(source.name), 'nothing has run' if source.pretrained else 'scratch', ''])
    return lines


def _tasks(experiment, results):
    """Configs and options."""
    lines = _row(['task', 'config', 'options', 'seconds of a run'], head=True)
    for task in experiment.tasks:
        own = [r for r in results if r['task'] == task.name]
        for text in dict.fromkeys(_options(r) for r in own) or ['']:
            times = [r['seconds'] for r in own if _options(r) == text and not r['resumed']]
            spent = f'{min(times):.0f} to {max(times):.0f}' if times else ''
            lines += _row([escape_markdown(task.name), to_code(task.config), text, spent])
    return lines


def _options(result):
    return ' '.join(to_code(f'{key}={value}') for key, value in result['options'].items())


def _runs(experiment, results):
    """The runs of every cell, by which runs.csv has the rest."""
    lines = _row(['encoder', 'task', 'labels', 'runs'], head=True)
    groups = {}
    for r in results:
        groups.setdefault((r['encoder'], r['task'], r['labels']), []).append(r)
    for (encoder, task, labels), found in groups.items():
        ids = ', '.join(f'{to_code(r["id"])} (seed {r["seed"]})' for r in found)
        lines += _row([escape_markdown(encoder), escape_markdown(task), f'{100 * labels:g}%', ids])
    return lines


def _made(results):
    """Machines, versions and dates."""
    if not results:
        return 'No run has finished.'
    machines = Counter((escape_markdown(r['device']), escape_markdown(_versions(r))) for r in results)
    lines = [f'- {count} runs on {device}: {versions}' for (device, versions), count in machines.items()]
    dates = sorted(r[key][:10] for r in results for key in ('started', 'finished'))
    hours = sum(r['seconds'] for r in results) / 3600
    lines.append(f'- From {escape_markdown(dates[0])} to {escape_markdown(dates[-1])}, {hours:.1f} hours of runs.')
    return '\n'.join(lines)


def _versions(result):
    return ', '.join(f'{name} {value}' for name, value in result['versions'].items() if value)


def _row(values, head=False):
    line = '| ' + ' | '.join(map(str, values)) + ' |'
    return [line, '|' + '---|' * len(values)] if head else [line]


def _one_line(note):
    """A sentence of ours, in which names of users may stand, without HTML."""
    return ''.join(character if character.isprintable() else ' ' for character in note).replace('<', '&lt;')


def _number(value):
    return '' if value is None else f'{value:.10g}'


def _csv(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator='\n').writerows([list(map(escape_formula, row)) for row in rows])
    return text.getvalue()
