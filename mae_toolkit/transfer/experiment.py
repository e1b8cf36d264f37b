"""The YAML of a table: which encoders, tasks, shares of labels and seeds."""

import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mae_toolkit.errors import UserError
from mae_toolkit.registry import suggest
from mae_toolkit.transfer.yaml_file import read_yaml

KEYS = ('work_dir', 'encoders', 'tasks', 'labels', 'seeds', 'keep_checkpoints')
ENCODER_KEYS = ('encoder', 'checkpoint', 'pretrain', 'pretrain_options', 'options', 'family')
TASK_KEYS = ('config', 'metrics', 'options')
METRIC_KEYS = ('metric', 'scale')
FRACTIONS = ('coco/', 'pascal_voc/')  # metrics that are shares of one, shown in per cent


@dataclass(frozen=True)
class Source:
    """An encoder of the table.

    Attributes:
        name (str): Of its row.
        encoder (dict | str | None): Its config, or a config of pretraining whose ``model.encoder`` it is.
        checkpoint (str | None): Weights that it begins with.
        pretrain (str | None): A config of pretraining that is run first.
        pretrain_options (dict): Options of that.
        options (dict): Of every task, by dotted key; of one task, in a dict under its name.
        family (str | None): Of one color in the plot; encoders of one architecture by default.
    """

    name: str
    encoder: dict | str | None = None
    checkpoint: str | None = None
    pretrain: str | None = None
    pretrain_options: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    family: str | None = None

    @property
    def pretrained(self):
        """Whether it begins with weights."""
        return self.checkpoint is not None or self.pretrain is not None


@dataclass(frozen=True)
class Metric:
    """A column: its name, that of the metric in the evaluator, and what it is multiplied by."""

    name: str
    key: str
    scale: float


@dataclass(frozen=True)
class Task:
    """A downstream config, what is shown of its test, and options."""

    name: str
    config: str
    metrics: tuple[Metric, ...]
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """All that a table needs; its runs are the product of encoders, tasks, labels and seeds."""

    path: Path
    work_dir: Path
    encoders: tuple[Source, ...]
    tasks: tuple[Task, ...]
    labels: tuple[float, ...]
    seeds: tuple[int, ...]
    keep_checkpoints: bool = False

    def options(self, source, task):
        """Options of an encoder for a task: the task's, the encoder's for all tasks, and its own for this one."""
        names = {task.name for task in self.tasks}
        for_all = {key: value for key, value in source.options.items() if key not in names}
        return task.options | for_all | source.options.get(task.name, {})


def read_experiment(path):
    """Read the YAML.

    Raises:
        UserError: With all that is wrong in it.
    """
    path = Path(path)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f'{path} holds no keys: it needs encoders and tasks, see docs/transfer.md.')
    wrong = _Mistakes()
    wrong.unknown('', content, KEYS)
    wrong.lacking('', content, ('encoders', 'tasks'))
    encoders = tuple(_source(name, value, wrong) for name, value in wrong.items(content, 'encoders'))
    tasks = tuple(_task(name, value, wrong) for name, value in wrong.items(content, 'tasks'))
    labels = wrong.values(content, 'labels', [1.0], _is_share, 'shares from 0.001 to 1')
    seeds = wrong.values(content, 'seeds', [0], _is_seed, 'whole numbers from 0 to 2**32 - 1')
    for source in encoders:
        wrong.options(source, {task.name for task in tasks})
    keep, work_dir = content.get('keep_checkpoints', False), content.get('work_dir')
    if not isinstance(keep, bool):
        wrong.add(f'keep_checkpoints is true or false, not {keep!r}.')
    if not isinstance(work_dir, str | None):
        wrong.add(f'work_dir is a path, not {work_dir!r}.')
    wrong.raise_if_any(path)
    work_dir = Path(work_dir or Path('work_dirs', 'transfer', path.stem))
    return Experiment(path, work_dir, encoders, tasks, tuple(map(float, labels)), tuple(seeds), keep)


def raise_if_any(mistakes, where):
    """Refuse with all mistakes at once, if there are any."""
    mistakes = list(dict.fromkeys(mistakes))
    if len(mistakes) == 1:
        raise UserError(f'{where}: {mistakes[0]}')
    if mistakes:
        raise UserError('\n  - '.join([f'{where} has {len(mistakes)} mistakes:', *mistakes]))


class _Mistakes(list):
    """What is wrong in a YAML, collected."""

    def add(self, sentence):
        self.append(sentence)

    def raise_if_any(self, path):
        raise_if_any(self, path)

    def unknown(self, where, content, known):
        for key in content:
            if key not in known:
                self.add(f'{where}there is no key {key!r}{suggest(str(key), list(known))}')

    def lacking(self, where, content, needed):
        for key in needed:
            if not content.get(key):
                self.add(f'{where}the key {key!r} is missing or empty.')

    def items(self, content, key):
        """Pairs of name and dict below a key; others are mistakes."""
        value = content.get(key) or {}
        if not isinstance(value, dict):
            self.add(f'{key} are a dict by name, not {value!r}.')
            return []
        bad = [name for name, part in value.items() if not isinstance(part, dict)]
        for name in bad:
            self.add(f'{key}: {name!r} is a dict, not {value[name]!r}.')
        for name, count in Counter(str(name) for name in value).items():
            if not name.strip():
                self.add(f'{key}: a name is empty.')
            elif count > 1:
                self.add(f'{key}: the name {name!r} is given twice.')
            elif not name.isprintable():
                self.add(f'{key}: the name {name!r} holds a line break or another character that cannot be shown.')
        return [(str(name), part) for name, part in value.items() if name not in bad]

    def values(self, content, key, default, fits, what):
        found = content.get(key, default)
        if not isinstance(found, list) or not found or not all(map(fits, found)) or len(set(found)) < len(found):
            self.add(f'{key} is a list of {what}, each once, not {found!r}.')
            return default
        return found

    def keys(self, where, options):
        """Keys of options are texts."""
        for key in [key for key in options if not isinstance(key, str)]:
            self.add(f'{where}the option {key!r} is no dotted key: put it in quotes, or mend it.')
            del options[key]

    def options(self, source, tasks):
        """Options of an encoder have dotted keys, or are those of a task."""
        for key, value in source.options.items():
            if key in tasks and not isinstance(value, dict):
                self.add(f'encoder {source.name!r}: options of the task {key!r} are a dict, not {value!r}.')
            elif key not in tasks and isinstance(value, dict) and '.' not in key:
                self.add(f'encoder {source.name!r}: options for {key!r}, which is no task{suggest(key, list(tasks))}')


def _source(name, value, wrong):
    where = f'encoder {name!r}: '
    wrong.unknown(where, value, ENCODER_KEYS)
    value = {key: value[key] for key in ENCODER_KEYS if value.get(key) is not None}
    if not {'encoder', 'pretrain'} & set(value):
        wrong.add(f'{where}it needs encoder (a dict, or a config of pretraining) or pretrain (such a config).')
    if {'checkpoint', 'pretrain'} <= set(value):
        wrong.add(f'{where}its weights come from a checkpoint or from pretrain, not from both.')
    if isinstance(value.get('encoder'), dict) and value['encoder'].get('init_cfg'):
        wrong.add(f'{where}weights are named by checkpoint or pretrain, not by init_cfg in the encoder.')
    kinds = {'encoder': dict | str, 'options': dict, 'pretrain_options': dict}
    for key in [key for key in value if not isinstance(value[key], kinds.get(key, str))]:
        wrong.add(f'{where}{key} is no {"dict" if kinds.get(key) is dict else "text"}: {value.pop(key)!r}.')
    for options in (value.get('options', {}), value.get('pretrain_options', {})):
        wrong.keys(where, options)
        for inner in [part for part in options.values() if isinstance(part, dict)]:
            wrong.keys(where, inner)
    return Source(name, **value)


def _task(name, value, wrong):
    where = f'task {name!r}: '
    wrong.unknown(where, value, TASK_KEYS)
    wrong.lacking(where, value, ('config', 'metrics'))
    metrics = []
    given = value.get('metrics') or {}
    given = given if isinstance(given, dict) else {}
    if not given and value.get('metrics'):
        wrong.add(f'{where}metrics are a dict, such as {{AP: coco/bbox_mAP}}, not {value["metrics"]!r}.')
    for label, metric in given.items():
        if not str(label).isprintable():
            wrong.add(f'{where}the name {label!r} of a metric holds a character that cannot be shown.')
        metric = metric if isinstance(metric, dict) else {'metric': metric}
        wrong.unknown(f'{where}metric {label!r}: ', metric, METRIC_KEYS)
        key, scale = str(metric.get('metric')), metric.get('scale')
        if scale is not None and not (_is_number(scale) and math.isfinite(scale) and scale):
            wrong.add(f'{where}metric {label!r}: scale is a number other than 0, not {scale!r}.')
            scale = 1
        metrics.append(Metric(str(label), key, scale or (100 if key.startswith(FRACTIONS) else 1)))
    options = value.get('options') or {}
    if not isinstance(options, dict):
        wrong.add(f'{where}options are a dict by dotted key, not {options!r}.')
        options = {}
    wrong.keys(where, options)
    return Task(name, str(value.get('config')), tuple(metrics), options)


def _is_share(value):
    """Whether a value is a share of labels that leaves some of a set of images."""
    return _is_number(value) and 0.001 <= value <= 1


def _is_seed(value):
    """Whether NumPy takes a value as a seed."""
    return type(value) is int and 0 <= value < 2**32


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)
