"""Write the table of an experiment, from its runs or from a folder that was made of them."""

import difflib
import json
import shutil
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.transfer.experiment import Experiment, read_experiment
from mae_toolkit.transfer.job import CONFIG, RESULT, Job, slug
from mae_toolkit.transfer.plan import Plan
from mae_toolkit.transfer.plot import draw_table
from mae_toolkit.transfer.plot_curves import Scalars, draw_curves
from mae_toolkit.transfer.records import parse, read_record
from mae_toolkit.transfer.report import write_markdown, write_runs_csv, write_table_csv
from mae_toolkit.transfer.run_records import RunResult
from mae_toolkit.transfer.summary import make_cells
from mae_toolkit.visualization import read_scalars

EXPERIMENT, RESULTS, SCALARS, NOTES = 'experiment.yaml', 'results.jsonl', 'scalars.jsonl', 'notes.json'
NOT_LOGGED = ('time', 'data_time', 'memory', 'lr', 'base_lr', 'epoch', 'iter')
Found = tuple[Path, RunResult]  # the folder of a run and its result


def write_tables(plan: Plan, folder: str | Path, copies: bool = False) -> str:
    """Write ``table.md``, ``table.csv``, ``runs.csv``, ``table.png`` and ``curves.png``.

    Neither data nor weights are needed; there are curves where the runs validated while they trained.

    Args:
        plan: The runs, of which those count that are done.
        folder: Folder for the files.
        copies: Whether it also gets what :func:`write_again` needs, the configs and the logs.

    Returns:
        The table, and where the files are.
    """
    folder, experiment = Path(folder), plan.experiment
    found, notes = select_results(plan)
    notes.append(f'Made by `python tools/transfer.py run {experiment.path}`.')
    scalars = [_scalars(run, result) for run, result in found]
    if copies:
        _copy(plan, found, scalars, notes, folder)
    return _write(experiment, [result for _, result in found], scalars, notes, folder)


def write_again(source: str | Path, folder: str | Path) -> str:
    """Write the files anew from a folder that :func:`write_tables` made with ``copies``.

    Args:
        source: That folder.
        folder: Folder for the files.

    Returns:
        The table, and where the files are.

    Raises:
        UserError: If the source is no such folder, or one of its files is damaged.
    """
    source = Path(source)
    lacking = [name for name in (EXPERIMENT, RESULTS, NOTES) if not (source / name).is_file()]
    if lacking:
        raise UserError(f'{source} has no {", ".join(lacking)}: name a folder that table --out made.')
    lines = (source / RESULTS).read_text().splitlines()
    results = [_parse_line(source / RESULTS, number, line) for number, line in enumerate(lines, 1)]
    scalars = _read_scalars_file(source / SCALARS)
    return _write(read_experiment(source / EXPERIMENT), results, scalars, _read_notes(source / NOTES), Path(folder))


def select_results(plan: Plan) -> tuple[list[Found], list[str]]:
    """Find the results of the runs of a plan by their settings; data and weights are compared where they are there.

    Returns:
        Folders and results in the order of the plan, and notes on what could not be compared.
    """
    known: dict[str, list[Found]] = {}
    found: list[Found] = []
    notes: list[str] = []
    for path in sorted(plan.experiment.work_dir.glob(f'runs/*/{RESULT}')):
        result = read_record(path, RunResult.from_dict)
        if result is None:  # removed in between
            continue
        known.setdefault(result.settings, []).append((path.parent, result))
    for job in plan.jobs:
        record = job.record
        fitting = [item for item in known.get(record.settings, []) if _is_of(item[1], job)]
        if fitting:
            folder, result = max(fitting, key=lambda item: item[1].finished)
            names = {key: getattr(record, key) for key in ('encoder', 'task', 'family')}  # which may have changed since
            found.append((folder, RunResult(**vars(result) | names)))
        if len(fitting) > 1:
            notes.append(
                f'{record.encoder} on {record.task}: weights or data are not at hand, and there are '
                f'{len(fitting)} runs of these settings; the newest is shown.'
            )
    return found, list(dict.fromkeys(notes))


def _is_of(result: RunResult, job: Job) -> bool:
    """Return whether a result is of a job, as far as its data and weights are here to be compared."""
    record = job.record
    if any(result.data.get(name) != value for name, value in record.data.items() if value is not None):
        return False
    if record.weights is None or result.weights is None:
        return record.weights is result.weights
    if job.needs is not None:
        return _has_origin(result, job.needs)
    if record.weights.sha256 is None:
        return result.weights.path == record.weights.path
    return result.weights.sha256 == record.weights.sha256


def _has_origin(result: RunResult, pretraining: Job) -> bool:
    """Return whether a result is of the weights of a pretraining."""
    made, origin = pretraining.result(), result.pretraining
    if origin is None or (made is not None and made.weights_sha256 != result.weights_sha256):
        return False
    if None in pretraining.record.data.values():  # its identity is not that which it had with the data
        return origin.settings == pretraining.record.settings
    return origin.id == pretraining.id


def _parse_line(path: Path, number: int, line: str) -> RunResult:
    try:
        return RunResult.from_dict(json.loads(line))
    except (ValueError, RecursionError) as error:
        raise UserError(
            f'{path} is damaged: line {number} is no result ({error}); make the folder anew with table --out.'
        ) from None


def _read_notes(path: Path) -> list[str]:
    try:
        return parse(json.loads(path.read_text()), list[str])
    except (ValueError, RecursionError):
        raise UserError(
            f'{path} is damaged: it holds no list of texts; make the folder anew with table --out.'
        ) from None


def _read_scalars_file(path: Path) -> list[Scalars]:
    """Read what runs logged; nothing where there is no such file, as only the curves are made of it."""
    try:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return parse(rows, list[dict])
    except FileNotFoundError:
        return []
    except (ValueError, RecursionError) as error:
        raise UserError(f'{path} is damaged ({error}); make the folder anew with table --out.') from None


def _write(
    experiment: Experiment,
    results: Sequence[RunResult],
    scalars: Sequence[Scalars],
    notes: Iterable[str],
    folder: Path,
) -> str:
    table = make_cells(experiment, results)
    families = {entry.name: entry.family or entry.name for entry in experiment.encoders}
    families |= {result.encoder: result.family for result in results}
    folder.mkdir(parents=True, exist_ok=True)
    text = write_markdown(experiment, table, results, notes)
    atomic_write(folder / 'table.md', text)
    atomic_write(folder / 'table.csv', write_table_csv(experiment, table))
    atomic_write(folder / 'runs.csv', write_runs_csv(experiment, results))
    atomic_write(folder / 'table.png', lambda file: draw_table(experiment, table, families, file))
    curves = BytesIO()
    names = 'table.md, table.csv, runs.csv, table.png'
    if draw_curves(experiment, results, scalars, families, curves):
        atomic_write(folder / 'curves.png', curves.getvalue())
        names += ', curves.png'
    return text.split('\n\n')[0] + f'\n\n{folder}/{names}'


def _copy(plan: Plan, found: Sequence[Found], scalars: Sequence[Scalars], notes: Sequence[str], folder: Path) -> None:
    """Write what the files can be made from again, the logs, and the configs."""
    folder.mkdir(parents=True, exist_ok=True)
    if plan.experiment.path.resolve() != (folder / EXPERIMENT).resolve():
        shutil.copyfile(plan.experiment.path, folder / EXPERIMENT)
    atomic_write(folder / RESULTS, ''.join(json.dumps(result.to_dict()) + '\n' for _, result in found))
    atomic_write(folder / SCALARS, ''.join(json.dumps(logged) + '\n' for logged in scalars))
    atomic_write(folder / NOTES, json.dumps(notes, indent=2) + '\n')
    configs: dict[tuple[str, str], Path] = {}
    for run, result in found:
        configs.setdefault((result.encoder, result.task), run / CONFIG)
    _copy_configs(configs, folder / 'configs')


def _copy_configs(configs: dict[tuple[str, str], Path], folder: Path) -> None:
    """Write a config of each task, and of its other encoders what differs from that, for ``patch``."""
    first: dict[str, tuple[str, str]] = {}
    for (encoder, task), path in configs.items():
        name, text = f'{slug(task)}_{slug(encoder)}', path.read_text()
        base, original = first.setdefault(task, (name, text))
        if base == name:
            atomic_write(folder / f'{name}.py', text)
            continue
        lines = (original.splitlines(keepends=True), text.splitlines(keepends=True))
        atomic_write(folder / f'{name}.diff', ''.join(difflib.unified_diff(*lines, f'{base}.py', f'{name}.py', n=0)))


def _scalars(run: Path, result: RunResult) -> dict[str, Any]:
    """Collect what a run logged of losses and metrics, to four digits."""
    series = read_scalars(run / 'train')
    kept = {name: values for name, values in series.items() if name.rsplit('/', 1)[-1] not in NOT_LOGGED}
    logged = {
        name: {'steps': list(values), 'values': [float(f'{value:.4g}') for value in values.values()]}
        for name, values in kept.items()
    }
    return {'run': result.id, **logged}
