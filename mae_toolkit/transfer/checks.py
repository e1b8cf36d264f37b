"""Find what would fail in a run before the first one begins."""

import contextlib
import copy
import importlib
import io
import multiprocessing
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypeGuard

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mae_toolkit.checkpoints.source import find_source
from mae_toolkit.datasets.checks import check_data
from mae_toolkit.engine.dry_run.metrics import COCO_ITEMS, IOU_ITEMS
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.registry import MODELS, SCOPE, suggest
from mae_toolkit.transfer.evaluations import check_encoder, check_set, check_weights
from mae_toolkit.transfer.hashes import LOAD_FROM, find_data, find_set
from mae_toolkit.transfer.job import Job
from mae_toolkit.transfer.mistakes import raise_if_any
from mae_toolkit.transfer.plan import Plan
from mae_toolkit.transfer.run_records import PretrainingRecord, RunRecord
from mae_toolkit.transfer.tasks import Metric

Check = Callable[[Job], None]  # raises a UserError


def check_plan(plan: Plan) -> None:
    """Refuse a plan with all that is wrong in it: configs, encoders, metrics, data, checkpoints.

    Networks are built in a process of their own, so that this one has computed nothing when it is forked for the runs.

    Raises:
        UserError: With every mistake.
    """
    found = _call_in_fork(find_mistakes, plan)
    raise_if_any([*plan.mistakes, *found], plan.experiment.path)


def find_mistakes(plan: Plan) -> list[str]:
    """Find all that is wrong with the runs of a plan, and say it in sentences."""
    first: dict[tuple[str, str], Job] = {}
    pretrainings: dict[str, Job] = {}
    for job in plan.jobs:
        first.setdefault((job.record.encoder, job.record.task), job)
        if job.needs is not None:
            pretrainings[job.needs.id] = job.needs
    metrics = {task.name: task.metrics for task in plan.experiment.tasks}
    found: list[str] = []
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()):
        for job in pretrainings.values():
            found += _collect(f'pretraining of {job.record.encoder!r}', job, _check_model, _check_places)
        for (encoder, task), job in first.items():
            found += _collect(f'task {task!r}', job, partial(_check_metrics, metrics[task]), _check_places, _check_data)
            found += _collect(f'encoder {encoder!r}, task {task!r}', job, _check_model, _check_weights)
    return found


def find_metrics(cfg: Config) -> list[str] | None:
    """List the names of the metrics that a config's test gives; None where its evaluator is not known here."""
    evaluators = cfg.get('test_evaluator' if cfg.get('test_dataloader') else 'val_evaluator') or []
    loop = str((cfg.get('test_cfg') or {}).get('type')).rsplit('.', 1)[-1]
    names = ['knn/top1'] if loop == 'KNNTestLoop' else []
    for evaluator in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
        kind = str(evaluator.get('type')).rsplit('.', 1)[-1]
        prefix = evaluator.get('prefix')
        if kind == 'Accuracy' and not str(cfg.get('default_scope', SCOPE)).startswith('mmpretrain'):
            topk = evaluator.get('topk', (1, 5))
            names += [f'{prefix or "accuracy"}/top{k}' for k in (topk if isinstance(topk, list | tuple) else [topk])]
        elif kind == 'CocoMetric':
            asked = evaluator.get('metric', 'bbox')
            asked = [asked] if isinstance(asked, str) else asked
            names += [
                f'{prefix or "coco"}/{name}_{ap}' for name in asked if name in ('bbox', 'segm') for ap in COCO_ITEMS
            ]
        elif kind == 'IoUMetric':
            asked = evaluator.get('iou_metrics', ['mIoU'])
            columns = ['aAcc', *(column for name in asked for column in IOU_ITEMS.get(name, ()))]
            names += [f'{prefix}/{column}' if prefix else column for column in dict.fromkeys(columns)]
        else:
            return None
    return names


def _call_in_fork(function: Callable[[Plan], list[str]], plan: Plan) -> list[str]:
    """Find mistakes in a fork of this process; that the fork died is one."""
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(function(plan)))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        if (process.exitcode or 0) >= 0:
            return ['the process that builds every network once failed; its stack trace is above.']
        return ['the process that builds every network once was killed: memory may have run out.']
    finally:
        process.join()


def _collect(where: str, job: Job, *checks: Check) -> list[str]:
    """Collect the sentences of the checks that refuse a job."""
    found = []
    for check in checks:
        try:
            check(job)
        except UserError as error:
            found.append(f'{where}: {error}')
            if check in (_check_model, _check_places):
                break  # what cannot be built cannot be loaded
    return found


def _check_places(job: Job) -> None:
    """Check that the files and folders of the data are there, and the weights with which a training begins."""
    record = job.record
    places = find_set(record.config, record.options.get('images')) if _is_frozen(record) else find_data(job.cfg)
    if LOAD_FROM in places:
        find_source(places.pop(LOAD_FROM))  # refuses what is no file of weights
    missing = [str(path) for path in places.values() if not path.exists()]
    if missing:
        raise UserError(f'the data {", ".join(missing)} {"is" if len(missing) == 1 else "are"} not there.')


def _check_data(job: Job) -> None:
    """Look at the data of a job, as its runs will."""
    if _is_frozen(job.record):
        check_set(job.record)
        return
    check_data(job.cfg, ('train', 'test' if job.cfg.get('test_dataloader') else 'val')).raise_if_fatal()


def _check_metrics(metrics: Iterable[Metric], job: Job) -> None:
    """Check that the test gives the metrics that the table shows."""
    if _is_frozen(job.record):
        return  # its scores are known from its probes, see tasks.py
    known = find_metrics(job.cfg)
    for metric in metrics:
        if known is not None and metric.key not in known:
            raise UserError(f'its test gives no metric {metric.key!r}{suggest(metric.key, known)}')


def _check_model(job: Job) -> None:
    """Build the model, without memory for its weights."""
    if _is_frozen(job.record):
        check_encoder(job.cfg, job.record.options)
        return
    model = copy.deepcopy(job.cfg.model)
    find_encoder(model).pop('init_cfg', None)
    scope = job.cfg.get('default_scope', SCOPE)
    init_default_scope(scope)
    with wrap_build_error('the model'), torch.device('meta'):
        importlib.import_module(f'{scope}.registry').MODELS.build(model)


def _check_weights(job: Job) -> None:
    """Load the weights into the encoder, unless they are still to be made."""
    weights = job.record.weights
    if weights is None or (job.needs is not None and not Path(weights.path).is_file()):
        return
    find_source(weights.path)  # refuses what is no file of weights
    if _is_frozen(job.record):
        check_weights(job.cfg, weights.path)
        return
    init_default_scope(SCOPE)
    MODELS.build(copy.deepcopy(find_encoder(job.cfg.model))).init_weights()


def _is_frozen(record: RunRecord | PretrainingRecord) -> TypeGuard[RunRecord]:
    """Return whether a job evaluates a frozen encoder."""
    return isinstance(record, RunRecord) and record.frozen


def find_encoder(model: dict) -> dict:
    """Find the config of the encoder in that of a model.

    Raises:
        UserError: If it has none.
    """
    found = model.get('encoder') or model.get('backbone')
    if found is None:
        raise UserError('its model has neither backbone nor encoder, where an encoder would go.')
    return found
