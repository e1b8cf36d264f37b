"""timm's models as the bodies of encoders: made, or refused in the user's words."""

import inspect

import timm
import torch

from mae_toolkit.errors import UserError
from mae_toolkit.registry import nearest, refuse_unknown


def create_body(arch, kind, family, **kwargs):
    """The timm model of an architecture, without pooling and classifier.

    Args:
        arch (str): Name in timm.
        kind (type | tuple[type, ...]): The class that it must be of.
        family (str): Beginning of such names, to suggest one.
        **kwargs: To timm.

    Raises:
        UserError: If timm does not know the name, it is of another class, or an argument is unknown.
    """
    if not timm.is_model(arch):
        raise UserError(f'timm has no architecture {arch!r}{nearest(arch, timm.list_models(f"{family}*"))}')
    found = kind_of(arch)
    if not issubclass(found, kind):
        example = timm.list_models(f'{family}*')[0]
        wanted = ' or '.join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
        raise UserError(
            f"This encoder runs timm's {wanted}, but {arch!r} is a {found.__name__}; choose an architecture "
            f'such as {example}, or another encoder.'
        )
    refuse_unknown(found, kwargs)
    if 'drop_path_rate' in inspect.signature(found.__init__).parameters:
        kwargs.setdefault('drop_path_rate', 0.0)  # some classes have another default
    return timm.create_model(arch, num_classes=0, global_pool='', **kwargs)


def kind_of(arch):
    """The class of an architecture; found without building weights, as other classes take other arguments."""
    with torch.device('meta'):
        return type(timm.create_model(arch))


def check_indices(indices, depth, what):
    """``out_indices`` as a tuple, by default the last.

    Raises:
        UserError: If one is not among -1 (the embedded input) to the last, or they do not rise.
    """
    indices = (depth - 1,) if indices is None else tuple(indices)
    for index in indices:
        if not -1 <= index < depth:
            raise UserError(f'out_indices {indices} reach beyond the {depth} {what} 0 to {depth - 1} (-1: the input).')
    if not indices or list(indices) != sorted(set(indices)):
        raise UserError(f'out_indices {indices} must rise, each named once, and name at least one.')
    return indices
