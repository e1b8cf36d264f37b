"""Look up architectures of timm."""

from functools import cache
from typing import Any

import timm
import torch
from torch import nn

from mae_toolkit.errors import UserError
from mae_toolkit.registry import suggest

TimmModule = Any  # a module of timm, whose attributes have no types


def find_timm_class(arch: Any, family: str) -> type[nn.Module]:
    """Find the class of an architecture of timm, such as ``VisionTransformer`` for ``vit_base_patch16_224``.

    No weights are built. The class says which arguments the architecture takes.

    Args:
        arch: Name of the architecture.
        family: How the names begin that are suggested if there is no such architecture.

    Raises:
        UserError: If timm does not know the name.
    """
    if not is_architecture(arch):
        raise UserError(f'timm has no architecture {arch!r}{suggest(str(arch), timm.list_models(f"{family}*"))}')
    return _find_class(arch)


def is_architecture(arch: Any) -> bool:
    """Return whether timm has an architecture of this name; names with a tag of weights (``name.tag``) are none."""
    return isinstance(arch, str) and '.' not in arch and timm.is_model(arch)


@cache  # building takes a second
def _find_class(arch: str) -> type[nn.Module]:
    with torch.device('meta'):
        return type(timm.create_model(arch))
