"""Which encoder runs an architecture of timm."""

from typing import Any

from torch import nn

from mae_toolkit.models.encoders.encoder import Encoder
from mae_toolkit.registry import MODELS, list_names
from mae_toolkit.timm_models import find_timm_class


def make_encoder_config(arch: str, **kwargs: Any) -> dict[str, Any]:
    """Make the config of the encoder that runs an architecture of timm.

    Args:
        arch: Name of the architecture, such as ``'convnextv2_tiny'``.
        **kwargs: Its arguments.

    Raises:
        UserError: If timm has no such architecture, with the nearest names.
    """
    return dict(type=name_encoder(find_timm_class(arch, '')) or 'SparseCNN', arch=arch) | kwargs


def name_encoder(kind: type[nn.Module]) -> str | None:
    """Return the name of the encoder that runs a class of timm, by their ``timm_classes``.

    Args:
        kind: The class.

    Returns:
        Its name, or None: then it may be a CNN for :class:`SparseCNN`.
    """
    own = {name: vars(MODELS.get(name)).get('timm_classes', ()) for name in list_names(Encoder)}  # not of a base class
    return next((name for name, classes in own.items() if issubclass(kind, classes)), None)
