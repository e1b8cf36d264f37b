"""The feature pyramid of plain transformers."""

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from mae_toolkit.errors import UserError
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class SimplePyramid(BaseModule):
    """Neck that makes levels of several strides from the last map of an encoder (ViTDet, arXiv:2203.16527, section 3).

    Transposed convolutions make the finer levels, pooling the coarser ones; each then has a 1x1 and a 3x3 convolution
    with layer norms. From a map of stride 16 the default scales make strides 4, 8, 16 and 32, and each further output
    halves the resolution of the last. From a map of stride 14 (DINOv2, EVA-02), ``scale_factor=14 / 16`` makes one of
    stride 16 first, so that the heads of detectors and segmenters get the strides that they expect.

    Args:
        in_channels: Channels of the encoder's map; the last number of a list.
        out_channels: Channels of every level.
        scales: Sizes of the levels relative to the map: powers of two, the finest first.
        num_outs: Number of levels that are returned; one per scale if None.
        scale_factor: Factor by which the map is resized first, bilinearly and without a shift: each cell gets the value
            that the map has at its center. Rows and columns are rounded down.
        init_cfg: Initialization by MMEngine.

    Raises:
        UserError: If a scale is not a power of two, there are fewer outputs than scales, or ``scale_factor`` is not
            above 0.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        out_channels: int = 256,
        scales: Sequence[float] = (4, 2, 1, 0.5),
        num_outs: int | None = None,
        scale_factor: float = 1.0,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        channels = in_channels if isinstance(in_channels, int) else in_channels[-1]
        if not scales or list(scales) != sorted(scales, reverse=True):
            raise UserError(f'scales={tuple(scales)} must be one or more, the finest first.')
        if channels < max(scales):
            raise UserError(f'{channels} channels cannot be halved as often as scales={tuple(scales)} ask for.')
        if scale_factor <= 0:
            raise UserError(f'scale_factor={scale_factor} must be above 0: 14 / 16 makes stride 16 of stride 14.')
        self.scale_factor = scale_factor
        self.num_outs = len(scales) if num_outs is None else num_outs
        if self.num_outs < len(scales):
            raise UserError(f'num_outs={num_outs} is less than the {len(scales)} levels of scales={tuple(scales)}.')
        self.levels = nn.ModuleList(_build_level(channels, out_channels, scale) for scale in scales)

    def forward(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Make levels (B, D, h*scale, w*scale) from the last (B, C, h, w) of the maps of an encoder."""
        x = inputs[-1]
        if self.scale_factor != 1:
            x = interpolate(x, scale_factor=self.scale_factor, mode='bilinear', align_corners=False)
        maps = [level(x) for level in self.levels]
        while len(maps) < self.num_outs:
            maps.append(max_pool2d(maps[-1], 1, stride=2))
        return tuple(maps)


def _build_level(channels: int, out_channels: int, scale: float) -> nn.Sequential:
    resize, channels = _build_resizing(channels, scale)
    return nn.Sequential(
        *resize,
        nn.Conv2d(channels, out_channels, 1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    )


def _build_resizing(channels: int, scale: float) -> tuple[list[nn.Module], int]:
    """Build the layers that change the size of a map by ``scale``; return them and the channels after them."""
    halvings = {2.0**-k: k for k in range(1, 6)}
    if scale in halvings:
        return [nn.MaxPool2d(2, 2) for _ in range(halvings[scale])], channels
    layers: list[nn.Module] = []
    size = 1
    while size < scale:
        layers += [LayerNorm2d(channels), nn.GELU()] if layers else []
        layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, stride=2))
        channels, size = channels // 2, size * 2
    if size != scale:
        raise UserError(f'scale {scale} must be a power of two, 1/32 or more.')
    return layers, channels
