"""What a config says, checked as a whole before anything is built: keys, types, arguments and their ranges."""

import contextlib
import importlib
import importlib.util
import inspect
import io
import sys
import warnings
from collections.abc import Mapping
from difflib import get_close_matches

from mmengine import registry as mmengine_registry
from mmengine.hooks import EMAHook
from mmengine.registry import DefaultScope, Registry, init_default_scope
from mmengine.runner import Runner

from mae_toolkit import registry
from mae_toolkit.argument_ranges import BY_REGISTRY, LOADER, MIXUP, MODEL, PREPROCESSOR, SAMPLER, check_ranges
from mae_toolkit.arguments import Number, check_types, check_value
from mae_toolkit.config.settings import check_begins, check_priority, check_settings, check_units, refuse_names
from mae_toolkit.errors import UserError, is_own_file

# Where a dict with a "type" may stand, and the registry that knows the type.
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
    'datasets': 'DATASETS',
    'pipeline': 'TRANSFORMS',
    'sampler': 'DATA_SAMPLERS',
    'batch_sampler': 'DATA_SAMPLERS',
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
    'mp_cfg': ('mp_start_method', 'opencv_num_threads'),
    'dist_cfg': ('backend', 'timeout', 'init_backend', 'init_method', 'world_size', 'rank', 'group_name', 'device_id'),
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
# Packages that MMEngine's backends of a visualizer import, and how pip calls them.
BACKENDS = {
    'WandbVisBackend': ('wandb', 'wandb'),
    'TensorboardVisBackend': ('tensorboard', 'tensorboard'),
    'MLflowVisBackend': ('mlflow', 'mlflow'),
    'ClearMLVisBackend': ('clearml', 'clearml'),
    'NeptuneVisBackend': ('neptune', 'neptune'),
    'DVCLiveVisBackend': ('dvclive', 'dvclive'),
    'AimVisBackend': ('aim', 'aim'),
}
METAINFO = ('classes', 'palette')
MISTYPED = ('loss_scale',)  # whose annotation in MMEngine is wrong
NEAR = 0.8  # likeness from which an unknown argument of an open signature is a misspelt one


def check_config(cfg: Mapping) -> None:
    """Refuse what a run would ignore, or what would fail later.

    Args:
        cfg: A config with all that a run needs.

    Raises:
        UserError: If a top-level key is misspelt, a type unknown, an argument not one of its part's, or a value of
            another type or out of its range.
    """
    scope = cfg.get('default_scope', registry.SCOPE)
    _enter(scope)
    known = keys_of_runner()
    for key in cfg:
        close = get_close_matches(key, known, 1, 0.85)
        if key not in known and close:
            raise UserError(f'The config has the key {key!r}, which nothing reads; did you mean {close[0]}?')
    for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'):
        if not isinstance(cfg.get(key), dict):
            raise UserError(f'The config has no {key!r}, or it is no dict: {cfg.get(key)!r}.')
    check_settings(cfg)
    for place, value in cfg.items():
        if place in known:
            _check(value, place, place)
    _check_constructor(cfg.optim_wrapper.get('constructor'))
    _check_type_of_model(cfg.model)
    _check_model(cfg.model, 'model')
    check_units(cfg.model, scope)
    check_begins(cfg)


def keys_of_runner() -> list[str]:
    """Return the top-level keys that a run reads; others are names that a config gives to its own values."""
    known = [n for n in inspect.signature(Runner.__init__).parameters if n not in ('self', 'cfg')]
    return sorted({*known, 'auto_scale_lr', 'data_check', 'model_wrapper_cfg'})


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


def _check(value, place, path):
    """Walk a config; ``place`` is the key that says which registry knows a dict with a type."""
    if isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check(item, place, f'{path}[{i}]')
        return
    if not isinstance(value, dict) or place == 'model':
        return
    if place in PLAIN:
        refuse_names(set(value) - set(PLAIN[place]), PLAIN[place], path)
    if 'type' in value and place in PLACES:
        _check_part(value, PLACES[place], path)
    if place == 'custom_hooks' and 'type' not in value:
        raise UserError(f'{path}={value!r} has no type: name the class of the hook, as in dict(type="EMAHook").')
    if place.endswith('dataloader'):
        refuse_names(set(value) - set(LOADER_KEYS), LOADER_KEYS, path)
        check_ranges(path, value, LOADER)
    if place == 'metainfo':
        _check_metainfo(value, path)
    named_hooks = place == 'default_hooks' and 'type' not in value
    for key, item in value.items():
        _check(item, place if named_hooks else key, f'{path}.{key}')


def _check_metainfo(value, path):
    """Refuse misspelt names of what datasets read; any others are the user's own."""
    for key in value:
        close = get_close_matches(str(key).lower(), METAINFO, 1, NEAR)  # MMDetection 2 read them in capitals
        if key not in METAINFO and close:
            raise UserError(f'{path} has the key {key!r}, which nothing reads; did you mean {close[0]}?')


def _check_type_of_model(model):
    """Refuse a model that there is not, and arguments that it does not take."""
    kind = model.get('type')
    models = registry_of(_scope(), 'MODELS')
    cls = models.get(kind) if isinstance(kind, str) else kind
    if kind is not None and cls is None:
        raise UserError(f'model: there is no {kind!r}{registry.suggest(str(kind), sorted(models.module_dict))}')
    if isinstance(cls, type):
        _check_names(cls, {key: value for key, value in model.items() if key != 'type'}, 'MODELS', f'model ({kind})')


def _check_model(value, path):
    """Walk a model, whose parts check their arguments as they are built, and check the ranges."""
    if isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_model(item, f'{path}[{i}]')
    if not isinstance(value, dict):
        return
    if path.endswith('.data_preprocessor'):
        if 'type' in value:
            _check_part(value, 'MODELS', path)
        check_ranges(path, value, PREPROCESSOR)
        check_ranges(f'{path}.mixup', value.get('mixup') or {}, MIXUP)
        return
    if 'type' in value and not _is_own_class(_class_in_model(value['type'])):
        check_ranges(path, value, MODEL)
        if 'pos_fraction' in value:
            check_ranges(path, value, SAMPLER)
    for key, item in value.items():
        _check_model(item, f'{path}.{key}')


def _class_in_model(kind):
    return registry_of(_scope(), 'MODELS').get(kind) if isinstance(kind, str) else kind


def _is_own_class(cls):
    """Whether a class is of the user's own, in which names of arguments may have another meaning."""
    module = sys.modules.get(getattr(cls, '__module__', ''))
    return is_own_file(getattr(module, '__file__', None) or '')


def _check_constructor(kind):
    """Refuse an unknown constructor of the optimizer."""
    if isinstance(kind, str):
        _find_class(kind, 'OPTIM_WRAPPER_CONSTRUCTORS', 'optim_wrapper.constructor')


def _find_class(kind, name, path):
    """Return the class that a registry has under a name, or refuse the name."""
    own = registry_of(_scope(), name)
    cls = own.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        known = sorted({*own.module_dict, *getattr(mmengine_registry, name).module_dict, *_of_toolkit(own, name)})
        raise UserError(f'{path}: there is no {kind!r}{registry.suggest(str(kind), known)}')
    return cls


def _check_part(value, name, path):
    cls = _find_class(value['type'], name, path)
    where = f'{path} ({cls.__name__})'
    given = {key: item for key, item in value.items() if key not in ('type', '_scope_')}
    if inspect.isfunction(cls):
        accepted = list(inspect.signature(cls).parameters)[1:]  # it is given the items
        refuse_names(set(given) - set(accepted), accepted, where)
    elif isinstance(cls, type):
        _check_names(cls, given, name, where)
    _check_backend(cls.__name__, path)
    if name == 'HOOKS' and 'priority' in given:
        check_priority(f'{path}.priority', given['priority'])
    if name != 'DATASETS' or isinstance(value.get('pipeline'), list | tuple | None):
        if not _is_own_class(cls):
            check_ranges(path, given, BY_REGISTRY.get(name, {}))
        untyped = ('begin', 'end') if given.get('convert_to_iter_based') else MISTYPED  # also half an epoch
        check_types(path, cls, {key: item for key, item in given.items() if key not in untyped})


def _check_names(cls, given, name, where):
    """Refuse arguments that neither a class takes nor those to which it passes them on."""
    accepted = registry.list_arguments(cls) + list(EXTRA.get(name, ()))
    if issubclass(cls, EMAHook):
        kind, models = given.get('ema_type', 'ExponentialMovingAverage'), registry_of(_scope(), 'MODELS')
        averaged = models.get(kind) if isinstance(kind, str) else kind
        if averaged is None:
            raise UserError(f'{where}: there is no ema_type={kind!r}, such as ExponentialMovingAverage.')
        if 'momentum' in given:
            check_value(f'{where}.momentum', given['momentum'], Number(0, 1, above=True, below=True))
        accepted += [argument for argument in registry.list_arguments(averaged) if argument != 'model']
    elif _is_open(cls) and name not in ('OPTIM_WRAPPERS', 'PARAM_SCHEDULERS'):  # they pass all on to their parents
        refuse_names(
            (key for key in given if key not in accepted and get_close_matches(key, accepted, 1, NEAR)), accepted, where
        )
        return
    refuse_names(set(given) - set(accepted), accepted, where)


def _is_open(cls):
    """Whether a class and its parents take any argument."""
    for kind in cls.__mro__:
        if '__init__' in vars(kind) and kind is not object:
            parameters = inspect.signature(kind.__init__).parameters.values()
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                return False
    return True


def _check_backend(kind, path):
    """Refuse a backend of a visualizer whose package is not installed, which would fail when it is first used."""
    module, package = BACKENDS.get(kind, (None, None))
    if module and importlib.util.find_spec(module) is None:
        raise UserError(f'{path}: {kind} needs the package {package}, which is not installed: pip install {package}.')


def _scope():
    return DefaultScope.get_current_instance().scope_name


def registry_of(scope: str, name: str) -> Registry:
    """Return a scope's registry of a name, such as mmdet's HOOKS; MMEngine's where the scope has none."""
    return getattr(importlib.import_module(f'{scope}.registry'), name, getattr(mmengine_registry, name))


def _of_toolkit(own, name):
    """Names of the toolkit's parts as a config of another scope calls them."""
    ours = getattr(registry, name, own)
    return () if ours is own else [f'{registry.SCOPE}.{part}' for part in ours.module_dict]
