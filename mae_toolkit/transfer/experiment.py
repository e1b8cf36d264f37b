"""The YAML of a table: which encoders, tasks, fractions of the labels and seeds."""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mae_toolkit.errors import UserError
from mae_toolkit.registry import suggest
from mae_toolkit.transfer.mistakes import Mistakes, is_number, raise_if_any
from mae_toolkit.transfer.tasks import Task, read_task
from mae_toolkit.transfer.yaml_file import read_yaml

KEYS = ('work_dir', 'encoders', 'tasks', 'labels', 'seeds', 'keep_checkpoints')


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
        """Merge the options of an encoder for a task: the task's, the encoder's for all tasks, its own for this one.

        A frozen encoder is not trained, so that only the arguments of its task count.
        """
        if task.frozen:
            return dict(task.options)
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
    mistakes = Mistakes()
    mistakes.check_keys('', content, KEYS, needed=('encoders', 'tasks'))
    encoders = tuple(_read_encoder(name, value, mistakes) for name, value in mistakes.read_items(content, 'encoders'))
    tasks = tuple(read_task(name, value, mistakes) for name, value in mistakes.read_items(content, 'tasks'))
    fractions = mistakes.read_list(content, 'labels', [1.0], _is_fraction, 'fractions from 0.001 to 1')
    seeds = mistakes.read_list(content, 'seeds', [0], _is_seed, 'whole numbers from 0 to 2**32 - 1')
    for entry in encoders:
        _check_options_of_tasks(entry, tasks, mistakes)
    keep, work_dir = content.get('keep_checkpoints', False), content.get('work_dir')
    if not isinstance(keep, bool):
        mistakes.add(f'keep_checkpoints is true or false, not {keep!r}.')
    if not isinstance(work_dir, str | None):
        mistakes.add(f'work_dir is a path, not {work_dir!r}.')
    raise_if_any(mistakes.sentences, path)
    work_dir = Path(work_dir or Path('work_dirs', 'transfer', path.stem))
    return Experiment(path, work_dir, encoders, tasks, tuple(map(float, fractions)), tuple(seeds), keep)


def _read_encoder(name: str, value: dict, mistakes: Mistakes) -> EncoderEntry:
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


def _check_options_of_tasks(entry: EncoderEntry, tasks: Iterable[Task], mistakes: Mistakes) -> None:
    """Note options of an encoder that have neither dotted keys nor the name of a task that trains."""
    known = {task.name: task for task in tasks}
    for key, value in entry.options.items():
        where = f'encoder {entry.name!r}: '
        if key in known and not isinstance(value, dict):
            mistakes.add(f'{where}options of the task {key!r} are a dict, not {value!r}.')
        elif key in known and known[key].frozen:
            mistakes.add(f'{where}options are for a training, and the task {key!r} trains nothing: leave them out.')
        elif key not in known and isinstance(value, dict) and '.' not in key:
            mistakes.add(f'{where}options for {key!r}, which is no task{suggest(key, list(known))}')


def _keys_of(kind: type) -> list[str]:
    """List the keys that the YAML may have of a dataclass, whose name is a key itself."""
    return [one.name for one in fields(kind) if one.name != 'name']


def _is_fraction(value: object) -> bool:
    """Return whether a value is a fraction of the labels that leaves some of a set of images."""
    return is_number(value) and 0.001 <= value <= 1


def _is_seed(value: object) -> bool:
    """Return whether NumPy takes a value as a seed."""
    return type(value) is int and 0 <= value < 2**32
