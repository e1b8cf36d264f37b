"""Which encoder runs an architecture of timm."""

from typing import Any

from timm.models import Beit, ConvNeXt, Eva, Hiera, SwinTransformer, SwinTransformerV2, VisionTransformer

from mae_toolkit.timm_models import find_timm_class

# The first whose class fits; whatever is none of these is tried as a CNN.
CLASSES: tuple[tuple[tuple[type, ...], str], ...] = (
    ((VisionTransformer, Beit), 'ViT'),
    ((Eva,), 'Eva'),
    ((ConvNeXt,), 'ConvNeXt'),
    ((SwinTransformer, SwinTransformerV2), 'Swin'),
    ((Hiera,), 'Hiera'),
)


def make_encoder_config(arch: str, **kwargs: Any) -> dict[str, Any]:
    """Make the config of the encoder that runs an architecture of timm.

    Args:
        arch: Name of the architecture, such as ``'convnextv2_tiny'``.
        **kwargs: Its arguments.

    Raises:
        UserError: If timm has no such architecture, with the nearest names.
    """
    kind = find_timm_class(arch, '')
    name = next((name for kinds, name in CLASSES if issubclass(kind, kinds)), 'SparseCNN')
    return dict(type=name, arch=arch) | kwargs
