"""Tasks of a table: a config to fine-tune, or a labeled set on which the frozen encoder is evaluated."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mae_toolkit.evaluation.embeddings import POOLINGS
from mae_toolkit.evaluation.probes.table import LABEL_FREE, OF_CLASSES, OF_MASKS, PROBES
from mae_toolkit.registry import suggest
from mae_toolkit.transfer.mistakes import Mistakes, is_count, is_number

TRAINING_KEYS = ('config', 'metrics', 'options')
METRIC_KEYS = ('metric', 'scale')
FRACTIONS = ('coco/', 'pascal_voc/')  # metrics that are fractions of one, shown in percent
ALL_PROBES = {**OF_CLASSES, **OF_MASKS}


@dataclass(frozen=True)
class Metric:
    """A column of the table.

    Attributes:
        name: What stands above the column.
        key: Name of the metric in the evaluator.
        scale: Factor between the evaluator's number and the one that is shown.
    """

    name: str
    key: str
    scale: float


@dataclass(frozen=True)
class Task:
    """A task of the table.

    Attributes:
        name: Name of its columns.
        config: Path of its config; of a frozen encoder, the labeled set.
        metrics: What is shown of its test.
        options: Options of the config, by dotted key; of a frozen encoder, arguments of
            :func:`~mae_toolkit.apis.evaluate`.
        frozen: Whether the encoder is not trained, but evaluated by probes.
    """

    name: str
    config: str
    metrics: tuple[Metric, ...]
    options: dict = field(default_factory=dict)
    frozen: bool = False


class Argument(NamedTuple):
    """An argument of :func:`~mae_toolkit.apis.evaluate` that the YAML may have.

    Attributes:
        fits: Whether a value is right.
        what: What it has to be, for the sentence about one that is not.
    """

    fits: Callable[[Any], bool]
    what: str


def _is_list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Make a test for lists of one or more values, each once."""
    return lambda value: (
        isinstance(value, list | tuple) and bool(value) and all(map(fits, value)) and len({*value}) == len(value)
    )


def _is_size(value: object) -> bool:
    return is_count(value) or (isinstance(value, list | tuple) and len(value) == 2 and all(map(is_count, value)))


ARGUMENTS = {
    'probes': Argument(_is_list_of(lambda name: isinstance(name, str)), 'a list of probes, each once'),
    'images': Argument(lambda value: isinstance(value, str), 'the folder of the images'),
    'task': Argument(lambda value: value in ('classes', 'masks'), 'classes or masks'),
    'levels': Argument(_is_list_of(is_count), 'a list of levels, 1 the finest, each once'),
    'poolings': Argument(_is_list_of(lambda name: name in POOLINGS), f'a list of {", ".join(POOLINGS)}, each once'),
    'size': Argument(_is_size, 'a number of pixels, or height and width'),
    'neighbors': Argument(_is_list_of(is_count), 'a list of numbers of neighbors, each once'),
    'batch_size': Argument(is_count, 'a whole number of 1 or more'),
}
FROZEN_KEYS = ('evaluate', *ARGUMENTS, 'metrics')


def read_task(name: str, value: dict, mistakes: Mistakes) -> Task:
    """Read a task of the YAML.

    Args:
        name: Its name.
        value: Its keys and values.
        mistakes: Gets what is wrong.
    """
    where = f'task {name!r}: '
    if 'evaluate' in value:
        return _read_frozen(name, where, value, mistakes)
    mistakes.check_keys(where, value, [*TRAINING_KEYS, 'evaluate'], needed=('config', 'metrics'))
    options = value.get('options') or {}
    if not isinstance(options, dict):
        mistakes.add(f'{where}options are a dict by dotted key, not {options!r}.')
        options = {}
    mistakes.check_dotted_keys(where, options)
    metrics = _list_metrics(where, value, '{AP: coco/bbox_mAP}', mistakes)
    read = tuple(_read_metric(where, label, metric, mistakes) for label, metric in metrics.items())
    return Task(name, str(value.get('config')), read, options)


def list_scores(probes: list[str]) -> list[str]:
    """List the names of all scores of some probes, such as ``'retrieval/map'``."""
    return [f'{name}/{score}' for name in probes for score in ALL_PROBES[name].columns]


def _read_frozen(name: str, where: str, value: dict, mistakes: Mistakes) -> Task:
    """Read a task that evaluates the frozen encoder."""
    if 'config' in value:
        mistakes.add(f'{where}config is fine-tuned, and evaluate reads the frozen encoder: keep one of them.')
    trains = [str(key) for key in value if key == 'options' or '.' in str(key)]
    if trains:
        mistakes.add(f'{where}{trains[0]} is for a training, and evaluate trains nothing: leave it out.')
    known = {key: part for key, part in value.items() if key != 'config' and str(key) not in trains}
    mistakes.check_keys(where, known, FROZEN_KEYS, needed=('evaluate', 'probes'))
    if not isinstance(value['evaluate'], str):
        mistakes.add(f'{where}evaluate is the path of a labeled set, not {value["evaluate"]!r}.')
    options = {}
    for key, argument in ARGUMENTS.items():
        if (given := value.get(key)) is None:
            continue
        if argument.fits(given):
            options[key] = list(given) if isinstance(given, tuple) else given
        else:
            mistakes.add(f'{where}{key} is {argument.what}, not {given!r}.')
    probes = options.get('probes', [])
    for probe in [probe for probe in probes if probe not in PROBES]:
        mistakes.add(f'{where}there is no probe {probe!r}{suggest(probe, PROBES)}')
        probes = [name for name in probes if name != probe]
    asked = _list_metrics(where, value, '{kNN: knn}', mistakes) if value.get('metrics') else name_main_scores(probes)
    read = tuple(_read_score(where, label, metric, probes, mistakes) for label, metric in asked.items())
    return Task(name, str(value['evaluate']), read, options, frozen=True)


def name_main_scores(probes: list[str]) -> dict[str, str]:
    """Name the score of each probe by which levels are compared, as the columns of ``evaluate`` are named."""
    titles = {
        name: name if name in LABEL_FREE else ALL_PROBES[name].columns[ALL_PROBES[name].metric] for name in probes
    }
    return {title: name for name, title in titles.items()}


def _read_score(where: str, label: object, value: object, probes: list[str], mistakes: Mistakes) -> Metric:
    """Read a score of a probe: ``retrieval/recall_at_1``, or ``retrieval`` for its main one; ranks are no percent."""
    read = _read_metric(where, label, value, mistakes)
    key = f'{read.key}/{ALL_PROBES[read.key].metric}' if read.key in probes else read.key
    known = list_scores(probes)
    if probes and key not in known:
        mistakes.add(f'{where}its probes give no metric {key!r}{suggest(key, known)}')
    has_scale = isinstance(value, dict) and value.get('scale') is not None
    return Metric(read.name, key, read.scale if has_scale else 1 if key.endswith('/rank') else 100)


def _list_metrics(where: str, value: dict, example: str, mistakes: Mistakes) -> dict:
    metrics = value.get('metrics') or {}
    if isinstance(metrics, dict):
        return metrics
    mistakes.add(f'{where}metrics are a dict, such as {example}, not {metrics!r}.')
    return {}


def _read_metric(where: str, label: object, value: object, mistakes: Mistakes) -> Metric:
    """Read a metric, which is its name in the evaluator, or a dict with that name and a scale."""
    if not str(label).isprintable():
        mistakes.add(f'{where}the name {label!r} of a metric holds a character that cannot be shown.')
    given: dict[str, Any] = value if isinstance(value, dict) else {'metric': value}
    mistakes.check_keys(f'{where}metric {label!r}: ', given, METRIC_KEYS)
    key, scale = str(given.get('metric')), given.get('scale')
    if scale is not None and not (is_number(scale) and math.isfinite(scale) and scale):
        mistakes.add(f'{where}metric {label!r}: scale is a number other than 0, not {scale!r}.')
        scale = 1
    return Metric(str(label), key, scale or (100 if key.startswith(FRACTIONS) else 1))
