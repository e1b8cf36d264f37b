"""What the features are worth: by probes of labeled images, or by what the run has recorded."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from mae_toolkit.apis.evaluate import JSON, evaluate
from mae_toolkit.engine.lead_time import FILE as LEAD_TIME
from mae_toolkit.evaluation.probes.sets import read_set
from mae_toolkit.outputs import is_numbers
from mae_toolkit.printing import printable
from mae_toolkit.report.blocks import Block, Table, Text
from mae_toolkit.report.inputs import NotApplicable, ReportInputs
from mae_toolkit.report.section import Section
from mae_toolkit.visualization.curves import NO_METRIC, read_scalars

# The cheap ones of each kind of label; tools/evaluate.py has more.
PROBES = {'classes': ('knn', 'logistic'), 'masks': ('patch-knn', 'patch-logistic')}


def build(inputs: ReportInputs) -> list[Block]:
    """Run probes on the labeled images, and list what the run has recorded."""
    blocks = _probe(inputs) if inputs.source.labels is not None else []
    blocks += _list_recorded(inputs.run) if inputs.run is not None else []
    if not blocks:
        raise NotApplicable(
            'There are no labeled images to measure the features on, and the run has recorded no results: name some '
            'with --labels, as class folders, a CSV of files and classes, or images and masks.'
        )
    return blocks


def _probe(inputs: ReportInputs) -> list[Block]:
    """Measure what the features are worth on labeled images."""
    labels = inputs.source.labels
    assert labels is not None
    images = inputs.source.label_images
    probes = PROBES[read_set(labels, images, None, inputs.seed).task]
    options: dict[str, Any] = dict(images=images, probes=probes, seed=inputs.seed, device=inputs.device)
    found = evaluate(inputs.cfg, labels, inputs.checkpoint, **options)
    features, titles, scores, is_best = found.make_table()
    rows = []
    for name, values, marks in zip(features, scores, is_best, strict=True):
        pairs = zip(values, marks, strict=True)
        rows.append((name, *('' if v is None else f'{v:.1f}{"*" if mark else ""}' for v, mark in pairs)))
    caption = f'Probes of the frozen features on {printable(labels)}, in percent'
    return [Table(caption, ('features', *titles), rows), Text(' '.join(found.describe()))]


def _list_recorded(run: Path) -> list[Block]:
    """List what the validation of a run measured, and the results in its folder."""
    rows = []
    for name, values in read_scalars(run).items():
        values = {step: value for step, value in values.items() if math.isfinite(value)}
        if values and name.startswith(('val/', 'watch/')) and not NO_METRIC.search(name.removeprefix('val/loss')):
            last, low, high = max(values), min(values.values()), max(values.values())
            rows.append((name, f'{values[last]:.4g}', f'{low:.4g}', f'{high:.4g}', f'{last:,}'))
    blocks: list[Block] = []
    if rows:
        columns = ('measured', 'last', 'least', 'greatest', 'at iteration')
        blocks.append(Table('What the run measured while it trained', columns, rows))
    for path in sorted({*run.glob('*.json'), *run.glob(f'*/{JSON}')}):
        found = _read_results(path)
        if found:
            blocks.append(Table(f'Results in {printable(path.relative_to(run))}', ('measured', 'value'), found))
    return blocks


def _read_results(path: Path) -> list[tuple[str, str]]:
    """Read the numbers that tools/test.py or tools/evaluate.py has written; none of any other file."""
    if path.name == JSON:
        values = json.loads(path.read_bytes())
        best = values.get('best') if isinstance(values, dict) else None
        if not isinstance(best, dict):
            return []
        test = best.get('test', {})
        return [(f'{best.get("probe")} of {best.get("features")}: {name}', f'{v:.4g}') for name, v in test.items()]
    if path.name == LEAD_TIME or not is_numbers(path):
        return []
    values = json.loads(path.read_bytes())
    return [(name, f'{value:.4g}') for name, value in values.items() if value is not None]


SECTION = Section('evaluation', 'Evaluation', build)
