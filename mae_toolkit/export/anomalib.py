"""An encoder as the backbone of a model of anomalib."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from mae_toolkit.errors import UserError
from mae_toolkit.export.preparation import BYTE, IMAGENET, Preparation
from mae_toolkit.models.encoders import Encoder


class AnomalibBackbone(nn.Module):
    """Give the levels of an encoder as layers, to the models of anomalib that take a module as ``backbone``.

    The models of anomalib normalize images by the statistics of ImageNet, whatever the backbone was trained on. This
    module expects that, and turns it into the normalization of its own encoder.

    Example::

        backbone = AnomalibBackbone(encoder, transform.preparation)
        model = Patchcore(backbone=backbone, layers=['level2', 'level3'])

    Args:
        encoder: The encoder; it is frozen.
        preparation: How its images are normalized.

    Raises:
        UserError: If the encoder was not trained on images of three channels of bytes, as anomalib reads them.
    """

    def __init__(self, encoder: Encoder, preparation: Preparation) -> None:
        super().__init__()
        self.levels = _Levels(encoder.eval().requires_grad_(False), preparation)
        self.names = [f'level{number}' for number in range(1, len(encoder.out_strides) + 1)]
        for name in self.names:
            self.add_module(name, nn.Identity())

    def forward(self, imgs: Tensor) -> list[Tensor]:
        """Make the maps (B, C_i, H/s_i, W/s_i) of images (B, 3, H, W) that are normalized as for ImageNet."""
        maps: Any
        if isinstance(imgs, Proxy):
            # torchvision cuts out layers by following a symbol through the network. An encoder asks for sizes, which
            # symbols do not have, so that it is one step of the graph.
            path = imgs.tracer.path_of_module(self.levels)
            maps = imgs.tracer.create_proxy('call_module', path, (imgs,), {})
        else:
            maps = self.levels(imgs)
        return [self.get_submodule(name)(maps[index]) for index, name in enumerate(self.names)]


class _Levels(nn.Module):
    """An encoder whose images are normalized as for ImageNet."""

    scale: Tensor
    shift: Tensor

    def __init__(self, encoder: Encoder, preparation: Preparation) -> None:
        super().__init__()
        if preparation.channels != 3 or preparation.dtype != 'uint8':
            dtype = preparation.dtype or 'an unknown type'
            raise UserError(
                f'anomalib reads images of 3 channels of uint8, and the encoder was trained on {preparation.channels} '
                f'of {dtype}: take another one, or fit_anomaly_detector.'
            )
        self.encoder = encoder
        mean, std, from_mean, from_std = (
            torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)
            for values in (preparation.mean, preparation.std, IMAGENET.mean, IMAGENET.std)
        )
        self.register_buffer('scale', (from_std / std).float())
        self.register_buffer('shift', ((from_mean - mean) / std).float())

    def forward(self, imgs: Tensor) -> tuple[Tensor, ...]:
        return self.encoder(imgs * self.scale + self.shift)


def require_anomalib() -> None:
    """Refuse to go on where anomalib is not installed.

    Raises:
        UserError: If it is not.
    """
    if find_spec('anomalib') is None:
        raise UserError('anomalib is not installed: pip install anomalib, in an environment that also has mae_toolkit.')


def make_anomalib_transform(size: tuple[int, int], interpolation: str) -> nn.Module:
    """Make the transform of anomalib's pre-processor: from images (B, 3, H, W), 0 to 1, to those of a size.

    Args:
        size: Height and width to which the whole image is resized.
        interpolation: ``'bicubic'`` or ``'bilinear'``.
    """
    from torchvision.transforms.v2 import Compose, InterpolationMode, Normalize, Resize

    mean, std = ([value / BYTE for value in values] for values in (IMAGENET.mean, IMAGENET.std))
    return Compose([Resize(size, InterpolationMode(interpolation), antialias=True), Normalize(mean, std)])
