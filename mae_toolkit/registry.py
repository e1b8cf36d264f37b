"""Registries of the toolkit, children of MMEngine's, under the scope ``mae_toolkit``.

There is one registry for all models: the *role* of a class (encoder, masking, decoder, target, loss) is its base
class. :func:`build` makes a part of a role from its config, whose arguments it checks first.
"""

import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar, cast

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

from mae_toolkit.argument_ranges import MODEL, check_ranges
from mae_toolkit.arguments import check_types, list_parameters
from mae_toolkit.errors import UserError, wrap_build_error

SCOPE = 'mae_toolkit'
MOST_NAMES = 40  # that one sentence lists
INHERITED = 'If it comes from a base config with another type, add _delete_=True to the dict, to replace it as a whole.'

Part = TypeVar('Part')


def _child(name: str, location: str) -> Registry:
    parent = getattr(mmengine_registry, name)
    return Registry(parent.name, parent=parent, scope=SCOPE, locations=[f'{SCOPE}.{location}'])


MODELS = _child('MODELS', 'models')
DATASETS = _child('DATASETS', 'datasets')
TRANSFORMS = _child('TRANSFORMS', 'datasets')
DATA_SAMPLERS = _child('DATA_SAMPLERS', 'datasets')
FUNCTIONS = _child('FUNCTIONS', 'datasets')
HOOKS = _child('HOOKS', 'engine')
LOOPS = _child('LOOPS', 'engine')
METRICS = _child('METRICS', 'evaluation')
MODEL_WRAPPERS = _child('MODEL_WRAPPERS', 'engine')
OPTIMIZERS = _child('OPTIMIZERS', 'engine')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS', 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS', 'engine')
# Without parts of our own; MMEngine warns where a scope has no registry of a kind.
LOG_PROCESSORS = _child('LOG_PROCESSORS', 'engine')


def list_names(role: type) -> list[str]:
    """List the names of the registered classes of a role, sorted.

    Args:
        role: Base class of the role, such as :class:`Masking`.
    """
    MODELS.import_from_location()
    return sorted(name for name, cls in MODELS.module_dict.items() if issubclass(cls, role) and cls is not role)


class Wires(Protocol):
    """Something that knows which arguments a class takes from other parts, see :mod:`mae_toolkit.models.wiring`."""

    def arguments_for(self, cls: type) -> dict[str, Any]:
        """Return the arguments that a class takes."""


def build(role: type[Part], cfg: Part | Mapping[str, Any], wiring: Wires | None = None) -> Part:
    """Build a part of a role from its config.

    Args:
        role: Base class that the part must have.
        cfg: Config with ``type``; a part that is built already is returned as it is.
        wiring: What is known of other parts (channels, strides, unit, ...): of it, the part gets what its class takes
            and its config does not set.

    Raises:
        UserError: If the type is missing, unknown or of another role, or an argument is missing, unknown, of another
            type or out of its range. What the constructor itself raises keeps its stack trace.
    """
    if isinstance(cfg, role):
        return cfg
    config = cast(Mapping[str, Any], cfg)
    cls = find_class(role, config)
    written = {key: value for key, value in config.items() if key != 'type'}
    refuse_unknown(cls, written)
    check_types(f'{cls.__name__}: ', cls, written)
    check_ranges(f'{cls.__name__}: ', written, MODEL)
    given = ({} if wiring is None else wiring.arguments_for(cls)) | written
    refuse_missing(cls, given)
    text = ', '.join(f'{key}={value!r}' for key, value in written.items())
    with wrap_build_error(f'The {role.__name__.lower()} {cls.__name__}({text})'), _refusing_strays(cls, written):
        return cls(**given)


def find_class(role: type[Part], cfg: Mapping[str, Any]) -> type[Part]:
    """Return the class that a config names, which must be of a role.

    Raises:
        UserError: If the type is missing, unknown or of another role.
    """
    label = role.__name__.lower()
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise UserError(f'The {label} is configured by a dict with a "type", not by {cfg!r}.')
    cls = MODELS.get(cfg['type']) if isinstance(cfg['type'], str) else cfg['type']
    if not isinstance(cls, type) or not issubclass(cls, role):
        raise UserError(f'There is no {label} named {cfg["type"]!r}{suggest(str(cfg["type"]), list_names(role))}')
    return cls


def _parameters(cls: Any) -> dict[str, inspect.Parameter]:
    """Return the parameters of a constructor by name, without ``self``."""
    return dict(list(list_parameters(cls.__init__).items())[1:])


def list_arguments(cls: type) -> list[str]:
    """List the arguments of a constructor, and those of its parents as long as it passes on ``**kwargs``."""
    names = []
    for kind in cls.__mro__:
        if '__init__' not in vars(kind):
            continue
        parameters = _parameters(kind).values()
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names


def refuse_unknown(cls: type, written: Collection[str]) -> None:
    """Refuse keys of a config that a constructor does not take, naming the nearest that it takes.

    A constructor with ``**kwargs`` refuses what it cannot pass on by itself.

    Raises:
        UserError: If there is such a key.
    """
    parameters = _parameters(cls)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for key in written:
        if key not in parameters and key not in ('type', '_scope_'):
            raise UserError(_no_argument(cls, key))


def refuse_missing(cls: type, given: Collection[str]) -> None:
    """Refuse a config without an argument for which a constructor has no default.

    Raises:
        UserError: If an argument is missing.
    """
    for name, parameter in _parameters(cls).items():
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if named and parameter.default is parameter.empty and name not in given:
            raise UserError(f'{cls.__name__} needs the argument {name!r}: set it in the config.')


@contextmanager
def _refusing_strays(cls: type, written: Collection[str]) -> Iterator[None]:
    """Refuse keys of a config that end as unknown arguments of a class to which a constructor passes ``**kwargs``."""
    try:
        yield
    except TypeError as error:
        found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if found is None or found[1] not in written or found[1] in list_arguments(cls):
            raise  # a mistake in the code of the class
        raise UserError(_no_argument(cls, found[1])) from error


def _no_argument(cls: type, name: str) -> str:
    known = list_arguments(cls)
    inherited = '' if get_close_matches(name, known) else f' {INHERITED}'
    return f'{cls.__name__} has no argument {name!r}{suggest(name, known)}{inherited}'


def suggest(word: str, known: Collection[str]) -> str:
    """Write the end of a sentence about an unknown word: the nearest known ones, or all of them."""
    close = get_close_matches(word, known, n=3)
    if close:
        return f'; did you mean {" or ".join(close)}?'
    more = f' and {len(known) - MOST_NAMES} more' if len(known) > MOST_NAMES else ''
    return f'; known are {", ".join(list(known)[:MOST_NAMES])}{more}.'
