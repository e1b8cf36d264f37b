"""Writing the table of an experiment, from its runs or from a folder that was made of them."""

import contextlib
import difflib
import json
import shutil
from pathlib import Path

from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.transfer.experiment import read_experiment
from mae_toolkit.transfer.job import CONFIG, RESULT, find_damage_of_result, read_result, slug
from mae_toolkit.transfer.plot import draw
from mae_toolkit.transfer.records import read_record
from mae_toolkit.transfer.report import markdown, runs_csv, table_csv
from mae_toolkit.transfer.summary import cells
from mae_toolkit.visualization import read_scalars

EXPERIMENT, RESULTS, SCALARS, NOTES = 'experiment.yaml', 'results.jsonl', 'scalars.jsonl', 'notes.json'
NOT_LOGGED = ('time', 'data_time', 'memory', 'lr', 'base_lr', 'epoch', 'iter')


def write_tables(plan, folder, copies=False):
    """Write ``table.md``, ``table.csv``, ``runs.csv`` and ``table.png``; neither data nor weights are needed.

    Args:
        plan (Plan): The runs, of which those count that are done.
        folder (str | Path): Gets the files.
        copies (bool): Whether it also gets what :func:`write_again` needs, the configs and the logs.

    Returns:
        str: Where they are.
    """
    folder, experiment = Path(folder), plan.experiment
    found, notes = select(plan)
    notes.append(f'Made by `python tools/transfer.py run {experiment.path}`.')
    if copies:
        _copy(plan, found, notes, folder)
    return _write(experiment, [result for _, result in found], notes, folder)


def write_again(source, folder):
    """Write the files anew from a folder that :func:`write_tables` made with ``copies``.

    Raises:
        UserError: If it is none.
    """
    source = Path(source)
    lacking = [name for name in (EXPERIMENT, RESULTS, NOTES) if not (source / name).is_file()]
    if lacking:
        raise UserError(f'{source} has no {", ".join(lacking)}: name a folder that table --out made.')
    lines = (source / RESULTS).read_text().splitlines()
    results = [_parsed(source / RESULTS, number, line) for number, line in enumerate(lines, 1)]
    return _write(read_experiment(source / EXPERIMENT), results, _notes(source / NOTES), Path(folder))


def _parsed(path, number, line):
    """A result from its line."""
    with contextlib.suppress(ValueError, RecursionError):
        result = json.loads(line)
        if isinstance(result, dict) and find_damage_of_result(result) is None:
            return result
    raise UserError(f'{path} is damaged: line {number} is no result; make the folder anew with table --out.')


def _notes(path):
    notes = read_record(path, list)
    if notes is None or not all(isinstance(note, str) for note in notes):
        raise UserError(f'{path} is damaged: it holds no list of texts; make the folder anew with table --out.')
    return notes


def select(plan):
    """Results of the runs of a plan, found by their settings; data and weights are compared where they are there.

    Returns:
        tuple: Pairs of folder and result in the order of the plan, and notes on what could not be compared.
    """
    known, found, notes = {}, [], []
    for path in sorted(plan.experiment.work_dir.glob(f'runs/*/{RESULT}')):
        result = read_result(path)
        known.setdefault(result['settings'], []).append((path.parent, result))
    for job in plan.jobs:
        fitting = [item for item in known.get(job.record['settings'], []) if _is_of(item[1], job)]
        if fitting:
            folder, result = max(fitting, key=lambda item: item[1]['finished'])
            names = {key: job.record[key] for key in ('encoder', 'task', 'family')}  # which may have changed since
            found.append((folder, result | names))
        if len(fitting) > 1:
            notes.append(
                f'{job.record["encoder"]} on {job.record["task"]}: weights or data are not at hand, and there are '
                f'{len(fitting)} runs of these settings; the newest is shown.'
            )
    return found, list(dict.fromkeys(notes))


def _is_of(result, job):
    """Whether a result is of a job, as far as its data and weights are here to be compared."""
    record = job.record
    data = {name: value for name, value in record['data'].items() if value is not None}
    if any(result['data'].get(name) != value for name, value in data.items()):
        return False
    if record['weights'] is None or result['weights'] is None:
        return record['weights'] is result['weights']
    if job.needs is not None:
        made, theirs = job.needs.result(), result['pretraining'] or {}
        key = 'settings' if None in job.needs.record['data'].values() else 'id'
        return theirs.get(key) == job.needs.record[key] and (
            made is None or made['weights']['sha256'] == result['weights']['sha256']
        )
    if record['weights']['sha256'] is None:
        return result['weights']['path'] == record['weights']['path']
    return result['weights']['sha256'] == record['weights']['sha256']


def _write(experiment, results, notes, folder):
    table = cells(experiment, results)
    families = {source.name: source.family or source.name for source in experiment.encoders}
    families |= {result['encoder']: result['family'] for result in results}
    folder.mkdir(parents=True, exist_ok=True)
    text = markdown(experiment, table, results, notes)
    atomic_write(folder / 'table.md', text)
    atomic_write(folder / 'table.csv', table_csv(experiment, table))
    atomic_write(folder / 'runs.csv', runs_csv(experiment, results))
    atomic_write(folder / 'table.png', lambda file: draw(experiment, table, families, file))
    return text.split('\n\n')[0] + f'\n\n{folder}/table.md, table.csv, runs.csv, table.png'


def _copy(plan, found, notes, folder):
    """What the files can be made from again, the logs, and the configs."""
    folder.mkdir(parents=True, exist_ok=True)
    if plan.experiment.path.resolve() != (folder / EXPERIMENT).resolve():
        shutil.copyfile(plan.experiment.path, folder / EXPERIMENT)
    atomic_write(folder / RESULTS, ''.join(json.dumps(result) + '\n' for _, result in found))
    atomic_write(folder / SCALARS, ''.join(json.dumps(_scalars(run, result)) + '\n' for run, result in found))
    atomic_write(folder / NOTES, json.dumps(notes, indent=2) + '\n')
    shown = {}
    for run, result in found:
        shown.setdefault((result['encoder'], result['task']), run / CONFIG)
    _copy_configs(shown, folder / 'configs')


def _copy_configs(shown, folder):
    """A config of each task, and of its other encoders what differs from that, for ``patch``."""
    first = {}
    for (encoder, task), path in shown.items():
        name, text = f'{slug(task)}_{slug(encoder)}', path.read_text()
        base, original = first.setdefault(task, (name, text))
        if base == name:
            atomic_write(folder / f'{name}.py', text)
            continue
        lines = (original.splitlines(keepends=True), text.splitlines(keepends=True))
        atomic_write(folder / f'{name}.diff', ''.join(difflib.unified_diff(*lines, f'{base}.py', f'{name}.py', n=0)))


def _scalars(run, result):
    """What a run logged of losses and metrics, four digits of it."""
    series = read_scalars(run / 'train')
    kept = {name: values for name, values in series.items() if name.rsplit('/', 1)[-1] not in NOT_LOGGED}
    logged = {
        name: {'steps': list(values), 'values': [float(f'{value:.4g}') for value in values.values()]}
        for name, values in kept.items()
    }
    return {'run': result['id'], **logged}
