"""Check a config as a whole before anything is built: keys, types, arguments and their ranges."""

import contextlib
import importlib
import importlib.util
import inspect
import io
import sys
import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.hooks import EMAHook
from mmengine.registry import DefaultScope, Registry, init_default_scope
from mmengine.runner import Runner

from mae_toolkit import registry
from mae_toolkit.argument_ranges import BY_REGISTRY, LOADER, MIXUP, MODEL, PREPROCESSOR, SAMPLER, check_ranges
from mae_toolkit.arguments import Number, check_types, check_value, list_parameters
from mae_toolkit.config.keys import BACKENDS, EXTRA, LOADER_KEYS, METAINFO, MISTYPED, NEAR, PLACES, PLAIN
from mae_toolkit.config.settings import check_priority, check_schedule_bounds, check_settings, check_units, refuse_names
from mae_toolkit.errors import UserError, is_own_file


def check_config(cfg: Config) -> None:
    """Refuse what a run would ignore, and what would fail later.

    Args:
        cfg: A config with all that a run needs.

    Raises:
        UserError: If a top-level key is misspelled, a type is unknown, an argument is unknown to its part, or a value
            has the wrong type or is out of range.
    """
    scope = cfg.get('default_scope', registry.SCOPE)
    _enter_scope(scope)
    known = list_runner_keys()
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
            _check_value(value, place, place)
    _check_constructor(cfg.optim_wrapper.get('constructor'))
    _check_type_of_model(cfg.model)
    _check_model(cfg.model, 'model')
    check_units(cfg.model, scope)
    check_schedule_bounds(cfg)


def list_runner_keys() -> list[str]:
    """Return the top-level keys that a run reads; any other key is a variable of the config."""
    known = [n for n in list_parameters(Runner.__init__) if n not in ('self', 'cfg')]
    return sorted({*known, 'auto_scale_lr', 'channels_rule', 'data_check', 'model_wrapper_cfg'})


def _enter_scope(scope: str) -> None:
    """Look names up in the registries of a package from now on, such as those of ``mmdet``."""
    try:
        importlib.import_module(f'{scope}.registry')
    except ModuleNotFoundError as error:
        if (error.name or '').split('.')[0] != scope:
            raise
        extras = {'mmdet': "pip install -e '.[det]'", 'mmseg': "pip install -e '.[seg]'"}
        raise UserError(
            f'The config is of default_scope={scope!r}, which is not installed: '
            f'{extras.get(scope, "name mae_toolkit, mmdet or mmseg")}.'
        ) from None
    if scope != registry.SCOPE:
        _import_quietly(scope)
    init_default_scope(scope)


def _import_quietly(scope: str) -> None:
    """Import the parts of a package without their remarks on optional packages that no config here needs."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='.*faster_coco_eval is not installed')
        for part in ('datasets', 'evaluation'):
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(f'{scope}.{part}')


def _check_value(value: Any, place: str, path: str) -> None:
    """Check a value of a config and all values in it.

    Args:
        value: The value.
        place: The key that says which registry knows a dict with a type.
        path: Dotted path of the value, for errors.
    """
    if isinstance(value, list | tuple):
        for i, item in enumerate(value):
            _check_value(item, place, f'{path}[{i}]')
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
        _check_value(item, place if named_hooks else key, f'{path}.{key}')


def _check_metainfo(value: Mapping[str, Any], path: str) -> None:
    """Refuse misspelled keys that datasets read; any others are the user's own."""
    for key in value:
        close = get_close_matches(str(key).lower(), METAINFO, 1, NEAR)  # MMDetection 2 read them in capitals
        if key not in METAINFO and close:
            raise UserError(f'{path} has the key {key!r}, which nothing reads; did you mean {close[0]}?')


def _check_type_of_model(model: Mapping[str, Any]) -> None:
    """Refuse an unknown model, and arguments that it does not accept."""
    kind = model.get('type')
    models = get_registry(_scope(), 'MODELS')
    cls = models.get(kind) if isinstance(kind, str) else kind
    if kind is not None and cls is None:
        raise UserError(f'model: there is no {kind!r}{registry.suggest(str(kind), sorted(models.module_dict))}')
    if isinstance(cls, type):
        _check_names(cls, {key: value for key, value in model.items() if key != 'type'}, 'MODELS', f'model ({kind})')


def _check_model(value: Any, path: str) -> None:
    """Check the ranges of all arguments in the config of a model; their names are checked when parts are built."""
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
    if 'type' in value and not _is_own_class(_find_model_class(value['type'])):
        check_ranges(path, value, MODEL)
        if 'pos_fraction' in value:
            check_ranges(path, value, SAMPLER)
    for key, item in value.items():
        _check_model(item, f'{path}.{key}')


def _find_model_class(kind: Any) -> Any:
    return get_registry(_scope(), 'MODELS').get(kind) if isinstance(kind, str) else kind


def _is_own_class(cls: Any) -> bool:
    """Return whether a class is the user's own, in which names of arguments may have other meanings."""
    module = sys.modules.get(getattr(cls, '__module__', ''))
    return is_own_file(getattr(module, '__file__', None) or '')


def _check_constructor(kind: Any) -> None:
    """Refuse an unknown constructor of the optimizer."""
    if isinstance(kind, str):
        _find_class(kind, 'OPTIM_WRAPPER_CONSTRUCTORS', 'optim_wrapper.constructor')


def _find_class(kind: Any, name: str, path: str) -> Any:
    """Return the class that a registry has under a name, or refuse the name."""
    own = get_registry(_scope(), name)
    cls = own.get(kind) if isinstance(kind, str) else kind
    if cls is None:
        known = sorted({*own.module_dict, *getattr(mmengine_registry, name).module_dict, *_list_ours(own, name)})
        raise UserError(f'{path}: there is no {kind!r}{registry.suggest(str(kind), known)}')
    return cls


def _check_part(value: Mapping[str, Any], name: str, path: str) -> None:
    """Check the config of a part: its type, and names, types and ranges of its arguments.

    Args:
        value: The config.
        name: Name of the registry that knows the type.
        path: Dotted path of the config, for errors.
    """
    cls = _find_class(value['type'], name, path)
    where = f'{path} ({cls.__name__})'
    given = {key: item for key, item in value.items() if key not in ('type', '_scope_')}
    if inspect.isfunction(cls):
        accepted = list(inspect.signature(cls).parameters)[1:]  # the first is the list of items
        refuse_names(set(given) - set(accepted), accepted, where)
    elif isinstance(cls, type):
        _check_names(cls, given, name, where)
    _check_backend(cls.__name__, path)
    if name == 'HOOKS' and 'priority' in given:
        check_priority(f'{path}.priority', given['priority'])
    if name != 'DATASETS' or isinstance(value.get('pipeline'), list | tuple | None):
        if not _is_own_class(cls):
            check_ranges(path, given, BY_REGISTRY.get(name, {}))
        # With convert_to_iter_based, a schedule may begin and end within an epoch, at fractions.
        untyped = ('begin', 'end') if given.get('convert_to_iter_based') else MISTYPED
        check_types(path, cls, {key: item for key, item in given.items() if key not in untyped})


def _check_names(cls: type, given: Mapping[str, Any], name: str, where: str) -> None:
    """Refuse arguments that neither a class nor those to which it passes arguments on accept."""
    accepted = registry.list_arguments(cls) + list(EXTRA.get(name, ()))
    if issubclass(cls, EMAHook):
        kind, models = given.get('ema_type', 'ExponentialMovingAverage'), get_registry(_scope(), 'MODELS')
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


def _is_open(cls: type) -> bool:
    """Return whether a class and its parents accept any argument."""
    for kind in cls.__mro__:
        if '__init__' in vars(kind) and kind is not object:
            parameters = list_parameters(vars(kind)['__init__']).values()
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                return False
    return True


def _check_backend(kind: str, path: str) -> None:
    """Refuse a backend of a visualizer whose package is not installed, which would fail when it is first used."""
    module, package = BACKENDS.get(kind, (None, None))
    if module and importlib.util.find_spec(module) is None:
        raise UserError(f'{path}: {kind} needs the package {package}, which is not installed: pip install {package}.')


def _scope() -> str:
    return DefaultScope.get_current_instance().scope_name


def get_registry(scope: str, name: str) -> Registry:
    """Return a registry of a scope; MMEngine's where the scope has none of that name.

    Args:
        scope: The scope, such as ``'mmdet'``.
        name: The registry, such as ``'HOOKS'``.
    """
    return getattr(importlib.import_module(f'{scope}.registry'), name, getattr(mmengine_registry, name))


def _list_ours(own: Registry, name: str) -> Sequence[str]:
    """List the toolkit's parts under the names by which a config of another scope calls them."""
    ours = getattr(registry, name, own)
    return () if ours is own else [f'{registry.SCOPE}.{part}' for part in ours.module_dict]
