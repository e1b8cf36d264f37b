"""Which class of timm an architecture is."""

from functools import cache
from typing import Any

import timm
import torch

from mae_toolkit.errors import UserError
from mae_toolkit.registry import suggest

TimmModule = Any  # a module of timm, whose attributes have no types


def class_of(arch, family):
    """The class of an architecture; found without building weights, as other classes take other arguments.

    Raises:
        UserError: If timm does not know the name.
    """
    if not is_architecture(arch):
        raise UserError(f'timm has no architecture {arch!r}{suggest(str(arch), timm.list_models(f"{family}*"))}')
    return _built_class(arch)


def is_architecture(arch):
    """Whether timm knows a name, without the tag of weights."""
    return isinstance(arch, str) and '.' not in arch and timm.is_model(arch)


@cache  # as it takes a second
def _built_class(arch):
    with torch.device('meta'):
        return type(timm.create_model(arch))
