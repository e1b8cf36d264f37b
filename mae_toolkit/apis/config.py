"""Configs: reading, and refusing what would be ignored or would fail later."""

import contextlib
import importlib
import inspect
import io
import sys
import warnings
from difflib import get_close_matches
from pathlib import Path

from mmengine import registry as mmengine_registry
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import Runner

import mae_toolkit
from mae_toolkit import registry
from mae_toolkit.errors import UserError

# Where a dict with a "type" may stand, and the registry that knows the type. Models are checked as they are built.
PLACES = {
    'train_cfg': 'LOOPS',
    'val_cfg': 'LOOPS',
    'test_cfg': 'LOOPS',
    'optim_wrapper': 'OPTIM_WRAPPERS',
    'param_scheduler': 'PARAM_SCHEDULERS',
    'default_hooks': 'HOOKS',
    'custom_hooks': 'HOOKS',
    'optimizer': 'OPTIMIZERS',
    'dataset': 'DATASETS',
    'pipeline': 'TRANSFORMS',
    'sampler': 'DATA_SAMPLERS',
    'collate_fn': 'FUNCTIONS',
    'vis_backends': 'VISBACKENDS',
    'visualizer': 'VISUALIZERS',
    'log_processor': 'LOG_PROCESSORS',
    'data_preprocessor': 'MODELS',
    'val_evaluator': 'METRICS',
    'test_evaluator': 'METRICS',
}
# Keys of dicts without a type.
PLAIN = {
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit', 'num_threads'),
    'auto_scale_lr': ('base_batch_size', 'enable'),
    'randomness': ('seed', 'diff_rank_seed', 'deterministic'),
    'data_check': ('max_left_out',),
}
# What is read by those that build the parts, beside the parts' own arguments.
EXTRA = {
    'OPTIM_WRAPPERS': ('constructor', 'paramwise_cfg'),
    'PARAM_SCHEDULERS': ('convert_to_iter_based',),
    'HOOKS': ('priority',),
}
LOADER_KEYS = (
    'batch_size num_workers persistent_workers pin_memory prefetch_factor drop_last timeout dataset sampler collate_fn '
    'batch_sampler num_batch_per_epoch worker_init_fn multiprocessing_context'
).split()


def load_config(path, options=None):
    """Read a config file, apply ``key=value`` options and refuse what nothing would read.

    ``custom_imports=dict(imports=['my_masking'])`` in it finds ``my_masking.py`` beside the config, ``projects.mixmim``
    in the repository, and whatever else Python finds.

    Args:
        path (str): A text config of MMEngine, with ``_base_``.
        options (dict | None): Values by dotted key.

    Raises:
        UserError: If the file is missing or cannot be read, or a key or type in it is unknown.
    """
    path = Path(path)
    if not path.is_file():
        near = get_close_matches(path.name, [p.name for p in path.parent.glob('*.py')], 2)
        hint = f'; did you mean {" or ".join(str(path.parent / n) for n in near)}?' if near else '.'
        raise UserError(f'There is no config {path}{hint}')
    _make_importable(path.resolve().parent, Path(mae_toolkit.__file__).resolve().parents[1])
    try:
        cfg = Config.fromfile(str(path))
    except Exception as error:  # it is a program, and may fail in any way
        raise UserError(f'The config {path} cannot be read: {_reason(error)}') from error
    _refuse_new_keys(cfg, options or {})
    merge_options(cfg, options or {})
    check_config(cfg)
    return cfg


def merge_options(cfg, options):
    """Set values of a config by dotted key, in place.

    Raises:
        UserError: If a dict is to go where there is none, which MMEngine does with ``_delete_=True`` alone.
    """
    try:
        cfg.merge_from_dict(options)
    except (TypeError, KeyError) as error:
        raise UserError(f'The options {", ".join(options)} do not fit the config: {_one_line(error)}') from None


def _make_importable(*folders):
    """Let Python find modules in folders, after all others, so that the name of a config hides none."""
    sys.path += [str(folder) for folder in folders if str(folder) not in sys.path]


def check_config(cfg):
    """Refuse misspelt top-level keys, unknown types, and arguments that their parts do not take."""
    _enter(cfg.get('default_scope', registry.SCOPE))
    known = _read_by_runner()
    for key in cfg:
        close = get_close_matches(key, known, 1, 0.75)
        if key not in known and close:
            raise UserError(f'The config has the key {key!r}, which nothing reads; did you mean {close[0]}?')
    for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'):
        if not isinstance(cfg.get(key), dict):
            raise UserError(f'The config has no {key!r}, or it is no dict: {cfg.get(key)!r}.')
    for place, value in cfg.items():
        _check(value, place, place)
    _check_schedule(cfg)


def _enter(scope):
    """Look names up in a package's registries from now on."""
    try:
        importlib.import_module(f'{scope}.registry')
    except ModuleNotFoundError as error:
        if error.name.split('.')[0] != scope:
            raise
        extras = {'mmdet': "pip install -e '.[det]'", 'mmseg': "pip install -e '.[seg]'"}
        raise UserError(
            f'The config is of default_scope={scope!r}, which is not installed: '
            f'{extras.get(scope, "name mae_toolkit, mmdet or mmseg")}.'
        ) from None
    if scope != registry.SCOPE:
        _import_quietly(scope)
    init_default_scope(scope)


def _import_quietly(scope):
    """Import a package's parts without what they say of optional packages that no config of ours needs."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*faster_coco_eval is not installed')
        for part in ('datasets', 'evaluation'):
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(f'{scope}.{part}')


def _read_by_runner():
    """Top-level keys that a run reads; others are names that a config gives to its own values."""
    known = [n for n in inspect.signature(Runner.__init__).parameters if n not in ('self', 'cfg')]
    return sorted({*known, 'auto_scale_lr', 'data_check', 'model_wrapper_cfg'})


def _check_schedule(cfg):
    """A schedule that would begin when training has ended, which MMEngine tells in a stack trace."""
    epochs = (cfg.get('train_cfg') or {}).get('max_epochs')
    schedules = cfg.get('param_scheduler') or []
    for i, schedule in enumerate(schedules if isinstance(schedules, list) else [schedules]):
        end = schedule.get('end', epochs if schedule.get('by_epoch', True) else None)
        if end is not None and schedule.get('begin', 0) >= end:
            raise UserError(
                f'param_scheduler[{i}] ({schedule.type}) begins at {schedule.get("begin", 0)} and ends at {end}: '
                f'train longer than max_epochs={epochs}, or shorten the warm-up.'
            )


def _check(value, place, path):
    """Walk a config; ``place`` is the key that says of what kind a dict with a type is."""
    if isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check(item, place, f'{path}[{i}]')
        return
    if not isinstance(value, ConfigDict | dict):
        return
    if place == 'model':
        _check(value.get('data_preprocessor'), 'data_preprocessor', f'{path}.data_preprocessor')
        return
    if place in PLAIN:
        _refuse(set(value) - set(PLAIN[place]), PLAIN[place], path)
    if 'type' in value and place in PLACES:
        _check_part(value, PLACES[place], path)
    if place.endswith('dataloader'):
        _refuse(set(value) - set(LOADER_KEYS), LOADER_KEYS, path)
    hooks = place.endswith('hooks')
    for key, item in value.items():
        _check(item, place if hooks and not isinstance(item, str) else key, f'{path}.{key}')


def _check_part(value, name, path):
    own, kind = registry_of(DefaultScope.get_current_instance().scope_name, name), value['type']
    cls = own.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        known = sorted({*own.module_dict, *getattr(mmengine_registry, name).module_dict, *_of_toolkit(own, name)})
        raise UserError(f'{path}: there is no {kind!r}{registry.nearest(str(kind), known)}')
    chained = name in ('OPTIM_WRAPPERS', 'PARAM_SCHEDULERS')  # MMEngine's pass arguments on to their parents
    if inspect.isfunction(cls):
        accepted = list(inspect.signature(cls).parameters)[1:]  # it is given the items
        _refuse(set(value) - set(accepted) - {'type', '_scope_'}, accepted, f'{path} ({cls.__name__})')
        return
    parameters = inspect.signature(cls.__init__).parameters
    if chained or not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        accepted = registry.arguments(cls) + list(EXTRA.get(name, ()))
        _refuse(set(value) - set(accepted) - {'type', '_scope_'}, accepted, f'{path} ({cls.__name__})')


def registry_of(scope, name):
    """The registry of a kind in a scope, such as ``mmdet``; MMEngine's, where the scope has none."""
    return getattr(importlib.import_module(f'{scope}.registry'), name, getattr(mmengine_registry, name))


def _of_toolkit(own, name):
    """Names of the toolkit's parts of a kind as a config of another scope calls them."""
    ours = getattr(registry, name, own)
    return () if ours is own else [f'{registry.SCOPE}.{part}' for part in ours.module_dict]


def _refuse(unknown, accepted, path):
    for key in sorted(unknown):
        raise UserError(f'{path} has no argument {key!r}{registry.nearest(key, accepted)}')


def _refuse_new_keys(cfg, options):
    """An option sets what the config has, or a new key of a dict that it has; a misspelt path is refused."""
    read = _read_by_runner()
    for option in options:
        node = cfg
        parts = option.split('.')
        if parts[0] not in read:
            hint = f'; {cfg.filename} has used it by then: set it there.'
            hint = hint if parts[0] in cfg else registry.nearest(parts[0], read)
            raise UserError(f'--cfg-options {option} would change nothing, as no part of a run reads it{hint}')
        for i, part in enumerate(parts[:-1]):
            node = _child(node, part)
            if node is None:
                raise UserError(f'--cfg-options {option}: the config has no {".".join(parts[: i + 1])!r}.')
        if not isinstance(node, Config | dict | list | tuple):
            raise UserError(f'--cfg-options {option}: {".".join(parts[:-1])} is {node!r}, in which nothing can be set.')
        if isinstance(node, list | tuple) and _child(node, parts[-1]) is None:
            raise UserError(f'--cfg-options {option}: {".".join(parts[:-1])} has the items 0 to {len(node) - 1}.')


def _child(node, part):
    """What a dict or list of a config holds under a name or a number, or None."""
    if isinstance(node, list | tuple):
        return node[int(part)] if part.isdigit() and int(part) < len(node) else None
    return node.get(part) if isinstance(node, Config | dict) else None


def _reason(error):
    """What went wrong, and before it the cause in a module that was to be imported."""
    told = []
    while error is not None:
        told.insert(0, f'{type(error).__name__}: {_one_line(error)}')
        error = (error.__cause__ or error.__context__) if isinstance(error, ImportError) else None
    return '; '.join(told)


def _one_line(error):
    return ' '.join(str(error).split())
