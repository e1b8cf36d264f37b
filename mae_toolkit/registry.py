"""Registries of the toolkit, children of MMEngine's, under the scope ``mae_toolkit``.

There is one registry for all models: the *role* of a class (encoder, masking, decoder, target, loss) is its base
class. :func:`build` makes a part for a role and hands it what it asks for by name.
"""

import inspect
from difflib import get_close_matches

from mmengine import registry as mmengine_registry
from mmengine.registry import Registry

from mae_toolkit.argument_ranges import MODEL, check_ranges
from mae_toolkit.arguments import check_types
from mae_toolkit.errors import UserError, wrap_build_error

SCOPE = 'mae_toolkit'
MOST_NAMES = 40  # in one sentence


def _child(name, location):
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
OPTIMIZERS = _child('OPTIMIZERS', 'engine')
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS', 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS', 'engine')
# Without parts of our own; MMEngine warns where a scope has no registry of a kind.
LOG_PROCESSORS = _child('LOG_PROCESSORS', 'engine')


def names(role):
    """Names of the registered classes of ``role`` (a base class), sorted."""
    MODELS.import_from_location()
    return sorted(name for name, cls in MODELS.module_dict.items() if issubclass(cls, role) and cls is not role)


def build(role, cfg, **offered):
    """Build a part of the given role from its config.

    Args:
        role (type): Base class that the part must have.
        cfg (dict | nn.Module): Config with ``type``; a part that is built already is returned as it is.
        **offered: Values derived from other parts (channels, strides, unit, ...). Those that the class names in its
            signature and the config does not set are passed on.

    Raises:
        UserError: If the type is missing, unknown or of another role, or an argument is unknown, of another type or
            out of its range.
    """
    if isinstance(cfg, role):
        return cfg
    cls = kind_of(role, cfg)
    accepted = arguments(cls)
    refuse_unknown(cls, cfg)
    given = {k: v for k, v in cfg.items() if k != 'type'}
    check_types(f'{cls.__name__}: ', cls, given)
    check_ranges(f'{cls.__name__}: ', given, MODEL)
    written = ', '.join(f'{k}={v!r}' for k, v in given.items())
    with wrap_build_error(f'The {role.__name__.lower()} {cls.__name__}({written})'):
        return cls(**{k: v for k, v in offered.items() if k in accepted} | given)


def kind_of(role, cfg):
    """The class of a config, which is of the given role.

    Raises:
        UserError: If the type is missing, unknown or of another role.
    """
    label = role.__name__.lower()
    if not isinstance(cfg, dict) or 'type' not in cfg:
        raise UserError(f'The {label} is configured by a dict with a "type", not by {cfg!r}.')
    cls = MODELS.get(cfg['type']) if isinstance(cfg['type'], str) else cfg['type']
    if not isinstance(cls, type) or not issubclass(cls, role):
        known = names(role)
        raise UserError(f'There is no {label} named {cfg["type"]!r}{nearest(str(cfg["type"]), known)}')
    return cls


def arguments(cls):
    """Names of the arguments of a constructor, and of its parents' as long as it passes on ``**kwargs``."""
    names = []
    for kind in cls.__mro__:
        if '__init__' not in vars(kind):
            continue
        parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return names


def refuse_unknown(cls, cfg):
    """Refuse keys of ``cfg`` that the constructor of ``cls`` does not take, naming the nearest that it takes."""
    parameters = inspect.signature(cls.__init__).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    accepted = [name for name in parameters if name != 'self']
    for key in cfg:
        if key not in accepted and key not in ('type', '_scope_'):
            raise UserError(f'{cls.__name__} has no argument {key!r}{nearest(key, accepted)}')


def nearest(word, known):
    """End of an error sentence: the nearest known names, or all of them."""
    close = get_close_matches(word, known, n=3)
    more = f' and {len(known) - MOST_NAMES} more' if len(known) > MOST_NAMES else ''
    return f'; did you mean {" or ".join(close)}?' if close else f'; known are {", ".join(known[:MOST_NAMES])}{more}.'
