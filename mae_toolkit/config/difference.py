"""Compare the config that a checkpoint holds with the one that is used with it, as far as it affects results."""

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mae_toolkit.config.text import UNKNOWN, read_config_text, to_plain
from mae_toolkit.errors import UserError
from mae_toolkit.printing import shorten

MOST_DIFFERENCES = 10  # in a warning
MOST_CHARACTERS = 60  # of a value in a warning
# Keys without effect on results: where weights and files come from, how memory is saved, how things are drawn.
WITHOUT_EFFECT = frozenset(
    'init_cfg pretrained with_cp backend_args file_client_args imdecode_backend palette meta_keys _scope_'.split()
)
# Keys of models that have an effect only in training.
TRAINING_ONLY = frozenset(
    'train_cfg frozen_stages norm_eval batch_augments loss_weight class_weight drop_path_rate drop_rate attn_drop_rate '
    'proj_drop_rate patch_drop_rate dropout_ratio dropout'.split()
)
# Keys that decide how the images of a dataset are prepared; its classes are compared elsewhere, by their names.
PREPARATION = ('pipeline', 'metainfo', 'channels', 'reduce_zero_label', 'ignore_index', 'label_map')
# Keys that decide how long a run is; the runner itself warns where schedules differ in that.
LENGTHS = frozenset('max_epochs max_iters val_interval val_begin dynamic_intervals interval begin end T_max'.split())
# Keys that say where data is and how it is loaded, and its classes.
LOADING = frozenset(
    'data_root ann_file data_prefix root split classes urls cache source ahead num_workers persistent_workers '
    'pin_memory prefetch_factor timeout worker_init_fn multiprocessing_context'.split()
)
# Top-level keys that decide how a resumed training continues, and the keys in them that do not.
RESUMED = {
    'model': WITHOUT_EFFECT,
    'train_dataloader': WITHOUT_EFFECT | LOADING,
    'optim_wrapper': frozenset(),
    'param_scheduler': LENGTHS,
    'train_cfg': LENGTHS,
    'randomness': frozenset(),
}
TOTAL = 'total_batch_size'  # images of an iteration over all processes


class Missing:
    """Placeholder for the value of a key that a config does not have."""

    def __repr__(self) -> str:
        return 'not set'


MISSING = Missing()


@dataclass(frozen=True)
class Difference:
    """A dotted key that two configs set differently.

    Attributes:
        key: The key, such as ``'model.encoder.depth'``.
        saved: Its value in the checkpoint's config.
        given: Its value in the config that is used.
    """

    key: str
    saved: object
    given: object

    def __str__(self) -> str:
        return f'{self.key} was {_shorten(self.saved)} and is {_shorten(self.given)}'


def compare_for_evaluation(saved: dict, given: dict, split: str = 'test') -> list[Difference]:
    """Compare two configs in the model and the preparation of images, which decide the results of an evaluation.

    Args:
        saved: Config of the training, as plain values.
        given: Config of the evaluation, as plain values.
        split: ``'test'`` or ``'val'``, whose images are evaluated.
    """
    ignored, found = WITHOUT_EFFECT | TRAINING_ONLY | {'classes'}, compare_models(saved, given)
    split = split if _find_datasets(given, split) else 'val'
    other_split = 'val' if split == 'test' else 'test'
    here, there = _find_datasets(given, split), _find_datasets(saved, split) or _find_datasets(saved, other_split)
    for (path, dataset), (_, other) in zip(here, there, strict=False):  # another set may have more of them
        for key in PREPARATION:
            values = other.get(key, MISSING), dataset.get(key, MISSING)
            found += _compare(*values, f'{split}_dataloader.{path}.{key}', ignored)
    loops = saved.get(f'{split}_cfg'), given.get(f'{split}_cfg')
    return found + (list(_compare(*loops, f'{split}_cfg', LENGTHS)) if all(loops) else [])


def compare_for_resuming(saved: dict, given: dict) -> list[Difference]:
    """Compare two configs in what decides how a training continues: not in its length, paths of data, hooks and logs.

    Args:
        saved: Config of the training so far, as plain values.
        given: Config of the resumed training, as plain values.
    """
    found = [
        difference
        for key, ignored in RESUMED.items()
        for difference in _compare(saved.get(key, MISSING), given.get(key, MISSING), key, ignored)
    ]
    if saved.get(TOTAL) is not None and saved.get(TOTAL) == given.get(TOTAL):  # other processes share the same batch
        found = [difference for difference in found if difference.key != 'train_dataloader.batch_size']
    return found


def compare_models(saved: dict, given: dict) -> list[Difference]:
    """Compare two configs in the model, as far as it has an effect outside of training.

    Args:
        saved: Config of the training, as plain values.
        given: The other config, as plain values.
    """
    models = saved.get('model', MISSING), given.get('model', MISSING)
    return list(_compare(*models, 'model', WITHOUT_EFFECT | TRAINING_ONLY))


def compare_settings(saved: dict, given: dict, ignored: Collection[str] = ()) -> list[Difference]:
    """Compare two configs in everything.

    Args:
        saved: A config, as plain values.
        given: The other config, as plain values.
        ignored: Keys that are not compared, wherever they are.
    """
    keys = [*saved, *(key for key in given if key not in saved)]
    return [
        difference
        for key in keys
        if key not in ignored
        for difference in _compare(saved.get(key, MISSING), given.get(key, MISSING), key, ignored)
    ]


def warn_of_differences(
    path: str | Path, checkpoint: Mapping[str, Any], cfg: object, use: str = 'test'
) -> list[Difference]:
    """Warn once about all differences between the config in a checkpoint and the one that is used with it.

    A checkpoint without a config, or with one that cannot be read, is not compared.

    Args:
        path: The checkpoint, named in the warning.
        checkpoint: What it holds.
        cfg: The config that is used.
        use: What the checkpoint is loaded for: ``'test'`` or ``'val'``, the split that is evaluated; ``'resume'``; or
            ``'model'`` if no pipeline of the config is used.

    Returns:
        The differences.
    """
    found = _find_differences(path, checkpoint, cfg, use)
    if found:
        print_log(f'{_list_differences(path, found)} {_give_advice(use)}', 'current', logging.WARNING)
    return found


def refuse_changes(path: str | Path, checkpoint: Mapping[str, Any], cfg: object) -> None:
    """Refuse to resume a training with another config than it began with, as far as that changes its results.

    Args:
        path: The checkpoint, named in the refusal.
        checkpoint: What it holds; one without a config, or with one that cannot be read, is not compared.
        cfg: The config that is used.

    Raises:
        UserError: If they differ, with the differences.
    """
    if found := _find_differences(path, checkpoint, cfg, 'resume'):
        raise UserError(
            f'{_list_differences(path, found)} Resume it with those options, train in another --work-dir, or add '
            '--allow-changed-config: learning rate, weight decay and schedules then stay as they were saved, and the '
            'rest follows this config.'
        )


def _find_differences(path: str | Path, checkpoint: Mapping[str, Any], cfg: object, use: str) -> list[Difference]:
    """Compare the config in a checkpoint, if it has one, with the one that is used."""
    meta = checkpoint.get('meta')
    text = meta.get('cfg') if isinstance(meta, dict) else None
    saved = read_config_text(text)
    if not saved or not isinstance(saved.get('model'), dict):
        if text is not None:
            print_log(f'{path} holds a config that cannot be read; it is not compared.', 'current', logging.INFO)
        return []
    given = to_plain(cfg)
    if use == 'resume':
        return compare_for_resuming(saved, given)
    return compare_models(saved, given) if use == 'model' else compare_for_evaluation(saved, given, use)


def _list_differences(path: str | Path, found: list[Difference]) -> str:
    more = f'; and {len(found) - MOST_DIFFERENCES} more' if len(found) > MOST_DIFFERENCES else ''
    listed = '; '.join(map(str, found[:MOST_DIFFERENCES])) + more
    return f'{path} was trained with other options than this config has: {listed}.'


def _give_advice(use: str) -> str:
    if use == 'resume':
        return 'Learning rate, weight decay and schedules stay as they were saved; the rest follows this config.'
    return (
        'Unless this is on purpose, give the same --cfg-options as in training, or its folder in place of config and '
        'checkpoint.'
    )


def _find_datasets(cfg: Mapping[str, Any], split: str) -> list[tuple[str, dict]]:
    """Find path and config of each dataset of a split with a pipeline, inside those that join or repeat datasets."""
    loader = cfg.get(f'{split}_dataloader')
    return _find_with_pipeline(loader.get('dataset'), 'dataset') if isinstance(loader, dict) else []


def _find_with_pipeline(dataset: Any, path: str) -> list[tuple[str, dict]]:
    if isinstance(dataset, list):
        return [found for i, part in enumerate(dataset) for found in _find_with_pipeline(part, f'{path}.{i}')]
    if not isinstance(dataset, dict):
        return []
    inner = [
        found for key in ('dataset', 'datasets') for found in _find_with_pipeline(dataset.get(key), f'{path}.{key}')
    ]
    return inner if inner and 'pipeline' not in dataset else [(path, dataset)]


def _compare(saved: Any, given: Any, path: str, ignored: Collection[str]) -> Iterator[Difference]:
    """Find the keys in which two plain values differ; parts of different types are not compared further."""
    if isinstance(saved, dict) and isinstance(given, dict):
        if not _are_same(_class_name(saved.get('type')), _class_name(given.get('type'))):
            yield Difference(f'{path}.type', saved.get('type', MISSING), given.get('type', MISSING))
            return
        for key in [*saved, *(key for key in given if key not in saved)]:
            if key != 'type' and key not in ignored:
                values = saved.get(key, MISSING), given.get(key, MISSING)
                yield from _compare(*values, f'{path}.{key if key.isidentifier() else repr(key)}', ignored)
    elif _are_parts(saved) and _are_parts(given) and _class_names(saved) == _class_names(given):
        for i, values in enumerate(zip(saved, given, strict=True)):
            yield from _compare(*values, f'{path}.{i}', ignored)
    elif not _are_same(saved, given):
        yield Difference(path, saved, given)


def _are_parts(value: Any) -> bool:
    """Return whether a value is a list of dicts, such as a pipeline."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _class_names(parts: list[dict]) -> list[Any]:
    return [_class_name(part.get('type')) for part in parts]


def _class_name(name: Any) -> Any:
    """Return the name of a class without its module or scope, which a config may leave out."""
    return name.rsplit('.', 1)[-1] if isinstance(name, str) else name


def _are_same(saved: Any, given: Any) -> bool:
    if isinstance(saved, list) and isinstance(given, list) and len(saved) == len(given):
        return all(map(_are_same, saved, given))
    if UNKNOWN in (saved, given) or saved == given or (saved != saved and given != given):  # nan
        return True
    absent = [value for value in (saved, given) if value is MISSING]
    return bool(absent) and (saved in (None, {}, []) or given in (None, {}, []))


def _shorten(value: Any) -> str:
    """Write a value in few characters: of a list of parts, only the names of their classes."""
    if isinstance(value, dict) and 'type' in value:
        text = f'a {_printable(value["type"])}'
    elif _are_parts(value) and all('type' in part for part in value):
        text = f'[{", ".join(map(_printable, _class_names(value)))}]'
    else:
        text = repr(value)
    return shorten(text, MOST_CHARACTERS)


def _printable(name: Any) -> str:
    return name if isinstance(name, str) and name.isprintable() else repr(name)
