"""The YAML of a table: which encoders, tasks, fractions of the labels and seeds."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeGuard

from mae_toolkit.errors import UserError
from mae_toolkit.registry import suggest
from mae_toolkit.transfer.yaml_file import read_yaml

KEYS = ('work_dir', 'encoders', 'tasks', 'labels', 'seeds', 'keep_checkpoints')
METRIC_KEYS = ('metric', 'scale')
FRACTIONS = ('coco/', 'pascal_voc/')  # metrics that are fractions of one, shown in percent


@dataclass(frozen=True)
class EncoderEntry:
    """An encoder of the table.

    Attributes:
        name: Name of its row.
        encoder: Its config, or the path of a config of pretraining whose ``model.encoder`` it is.
        checkpoint: Weights with which it begins, ``[FORMAT:]FILE[#PART]``.
        pretrain: Path of a config of pretraining that is run first.
        pretrain_options: Options of that pretraining, by dotted key.
        options: Options of every task, by dotted key; those of one task are in a dict under its name.
        family: Name of what has one color in the plot; by default the architecture.
    """

    name: str
    encoder: dict | str | None = None
    checkpoint: str | None = None
    pretrain: str | None = None
    pretrain_options: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)
    family: str | None = None

    @property
    def pretrained(self) -> bool:
        """Whether it begins with weights."""
        return self.checkpoint is not None or self.pretrain is not None


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
        config: Path of its config.
        metrics: What is shown of its test.
        options: Options of the config, by dotted key.
    """

    name: str
    config: str
    metrics: tuple[Metric, ...]
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """All that a table needs; its runs are the product of encoders, tasks, fractions of the labels and seeds.

    Attributes:
        path: The YAML file.
        work_dir: Folder of all runs.
        encoders: The rows.
        tasks: The tasks of the columns.
        label_fractions: Fractions of the labels that are trained on.
        seeds: Seeds of the runs of a cell.
        keep_checkpoints: Whether runs keep their checkpoints.
    """

    path: Path
    work_dir: Path
    encoders: tuple[EncoderEntry, ...]
    tasks: tuple[Task, ...]
    label_fractions: tuple[float, ...]
    seeds: tuple[int, ...]
    keep_checkpoints: bool = False

    def options(self, entry: EncoderEntry, task: Task) -> dict[str, Any]:
        """Merge the options of an encoder for a task: the task's, the encoder's for all tasks, its own for this one."""
        names = {task.name for task in self.tasks}
        for_all = {key: value for key, value in entry.options.items() if key not in names}
        return task.options | for_all | entry.options.get(task.name, {})


def read_experiment(path: str | Path) -> Experiment:
    """Read the YAML of a table.

    Raises:
        UserError: With all that is wrong in it.
    """
    path = Path(path)
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise UserError(f'{path} holds no keys: it needs encoders and tasks, see docs/transfer.md.')
    mistakes = _Mistakes()
    mistakes.check_keys('', content, KEYS, needed=('encoders', 'tasks'))
    encoders = tuple(_read_encoder(name, value, mistakes) for name, value in mistakes.read_items(content, 'encoders'))
    tasks = tuple(_read_task(name, value, mistakes) for name, value in mistakes.read_items(content, 'tasks'))
    fractions = mistakes.read_list(content, 'labels', [1.0], _is_fraction, 'fractions from 0.001 to 1')
    seeds = mistakes.read_list(content, 'seeds', [0], _is_seed, 'whole numbers from 0 to 2**32 - 1')
    for entry in encoders:
        mistakes.check_options_of_tasks(entry, {task.name for task in tasks})
    keep, work_dir = content.get('keep_checkpoints', False), content.get('work_dir')
    if not isinstance(keep, bool):
        mistakes.add(f'keep_checkpoints is true or false, not {keep!r}.')
    if not isinstance(work_dir, str | None):
        mistakes.add(f'work_dir is a path, not {work_dir!r}.')
    raise_if_any(mistakes.sentences, path)
    work_dir = Path(work_dir or Path('work_dirs', 'transfer', path.stem))
    return Experiment(path, work_dir, encoders, tasks, tuple(map(float, fractions)), tuple(seeds), keep)


def raise_if_any(mistakes: Iterable[str], where: str | Path) -> None:
    """Refuse with all mistakes at once, if there are any.

    Args:
        mistakes: Sentences; each is listed once.
        where: The file that has them.

    Raises:
        UserError: With all of them.
    """
    mistakes = list(dict.fromkeys(mistakes))
    if len(mistakes) == 1:
        raise UserError(f'{where}: {mistakes[0]}')
    if mistakes:
        raise UserError('\n  - '.join([f'{where} has {len(mistakes)} mistakes:', *mistakes]))


class _Mistakes:
    """Mistakes in a YAML, collected while it is read, so that all of them are reported at once."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def add(self, sentence: str) -> None:
        self.sentences.append(sentence)

    def check_keys(self, where: str, content: dict, known: Iterable[str], needed: Iterable[str] = ()) -> None:
        """Note keys that are unknown, and those that are needed and missing or empty."""
        for key in content:
            if key not in known:
                self.add(f'{where}there is no key {key!r}{suggest(str(key), list(known))}')
        for key in needed:
            if not content.get(key):
                self.add(f'{where}the key {key!r} is missing or empty.')

    def read_items(self, content: dict, key: str) -> list[tuple[str, dict]]:
        """Read the pairs of name and dict below a key; others are mistakes."""
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

    def read_list(self, content: dict, key: str, default: list, fits: Callable[[Any], bool], what: str) -> list:
        """Read a list of different values that fit; anything else is a mistake."""
        found = content.get(key, default)
        if not isinstance(found, list) or not found or not all(map(fits, found)) or len(set(found)) < len(found):
            self.add(f'{key} is a list of {what}, each once, not {found!r}.')
            return default
        return found

    def check_dotted_keys(self, where: str, options: dict) -> None:
        """Note keys of options that are no texts, and remove them."""
        for key in [key for key in options if not isinstance(key, str)]:
            self.add(f'{where}the option {key!r} is no dotted key: put it in quotes, or mend it.')
            del options[key]

    def check_options_of_tasks(self, entry: EncoderEntry, tasks: set[str]) -> None:
        """Note options of an encoder that have neither dotted keys nor the name of a task."""
        for key, value in entry.options.items():
            if key in tasks and not isinstance(value, dict):
                self.add(f'encoder {entry.name!r}: options of the task {key!r} are a dict, not {value!r}.')
            elif key not in tasks and isinstance(value, dict) and '.' not in key:
                self.add(f'encoder {entry.name!r}: options for {key!r}, which is no task{suggest(key, list(tasks))}')


def _read_encoder(name: str, value: dict, mistakes: _Mistakes) -> EncoderEntry:
    where, known = f'encoder {name!r}: ', _keys_of(EncoderEntry)
    mistakes.check_keys(where, value, known)
    value = {key: value[key] for key in known if value.get(key) is not None}
    if not {'encoder', 'pretrain'} & set(value):
        mistakes.add(f'{where}it needs encoder (a dict, or a config of pretraining) or pretrain (such a config).')
    if {'checkpoint', 'pretrain'} <= set(value):
        mistakes.add(f'{where}its weights come from a checkpoint or from pretrain, not from both.')
    if isinstance(value.get('encoder'), dict) and value['encoder'].get('init_cfg'):
        mistakes.add(f'{where}weights are named by checkpoint or pretrain, not by init_cfg in the encoder.')
    kinds = {'encoder': dict | str, 'options': dict, 'pretrain_options': dict}
    for key in [key for key in value if not isinstance(value[key], kinds.get(key, str))]:
        mistakes.add(f'{where}{key} is no {"dict" if kinds.get(key) is dict else "text"}: {value.pop(key)!r}.')
    for options in (value.get('options', {}), value.get('pretrain_options', {})):
        mistakes.check_dotted_keys(where, options)
        for inner in [part for part in options.values() if isinstance(part, dict)]:
            mistakes.check_dotted_keys(where, inner)
    return EncoderEntry(name, **value)


def _read_task(name: str, value: dict, mistakes: _Mistakes) -> Task:
    where = f'task {name!r}: '
    mistakes.check_keys(where, value, _keys_of(Task), needed=('config', 'metrics'))
    metrics = value.get('metrics') or {}
    if not isinstance(metrics, dict):
        mistakes.add(f'{where}metrics are a dict, such as {{AP: coco/bbox_mAP}}, not {metrics!r}.')
        metrics = {}
    read = tuple(_read_metric(where, label, metric, mistakes) for label, metric in metrics.items())
    options = value.get('options') or {}
    if not isinstance(options, dict):
        mistakes.add(f'{where}options are a dict by dotted key, not {options!r}.')
        options = {}
    mistakes.check_dotted_keys(where, options)
    return Task(name, str(value.get('config')), read, options)


def _read_metric(where: str, label: object, value: object, mistakes: _Mistakes) -> Metric:
    """Read a metric, which is its name in the evaluator, or a dict with that name and a scale."""
    if not str(label).isprintable():
        mistakes.add(f'{where}the name {label!r} of a metric holds a character that cannot be shown.')
    given: dict[str, Any] = value if isinstance(value, dict) else {'metric': value}
    mistakes.check_keys(f'{where}metric {label!r}: ', given, METRIC_KEYS)
    key, scale = str(given.get('metric')), given.get('scale')
    if scale is not None and not (_is_number(scale) and math.isfinite(scale) and scale):
        mistakes.add(f'{where}metric {label!r}: scale is a number other than 0, not {scale!r}.')
        scale = 1
    return Metric(str(label), key, scale or (100 if key.startswith(FRACTIONS) else 1))


def _keys_of(kind: type) -> list[str]:
    """List the keys that the YAML may have of a dataclass, whose name is a key itself."""
    return [one.name for one in fields(kind) if one.name != 'name']


def _is_fraction(value: object) -> bool:
    """Return whether a value is a fraction of the labels that leaves some of a set of images."""
    return _is_number(value) and 0.001 <= value <= 1


def _is_seed(value: object) -> bool:
    """Return whether NumPy takes a value as a seed."""
    return type(value) is int and 0 <= value < 2**32


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
