"""The feature pyramid of plain transformers."""

from mmengine.model import BaseModule
from timm.layers import LayerNorm2d
from torch import nn
from torch.nn.functional import max_pool2d

from mae_toolkit.errors import UserError
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class SimplePyramid(BaseModule):
    """Levels of several strides, all from the last map of an encoder (ViTDet, arXiv:2203.16527, section 3).

    Transposed convolutions make the finer maps, pooling the coarser ones; each level then has a 1x1 and a 3x3
    convolution with layer norms. From a map of stride 16 the default scales make strides 4, 8, 16 and 32, and each
    further output halves the last.

    Args:
        in_channels (int | list[int]): Channels of the encoder's map; of a list, the last.
        out_channels (int): Channels of every level.
        scales (tuple[float, ...]): Sizes of the levels relative to the map: powers of two, finest first.
        num_outs (int | None): Levels that are returned; as many as scales if None.
        init_cfg (dict | None): As in MMEngine.

    Raises:
        UserError: If a scale is no power of two, or there are fewer outputs than scales.
    """

    def __init__(self, in_channels, out_channels=256, scales=(4, 2, 1, 0.5), num_outs=None, init_cfg=None):
        super().__init__(init_cfg)
        channels = in_channels if isinstance(in_channels, int) else in_channels[-1]
        if not scales or list(scales) != sorted(scales, reverse=True):
            raise UserError(f'scales={tuple(scales)} are one or more, the finest first.')
        if channels < max(scales):
            raise UserError(f'{channels} channels cannot be halved as often as scales={tuple(scales)} ask for.')
        self.num_outs = len(scales) if num_outs is None else num_outs
        if self.num_outs < len(scales):
            raise UserError(f'num_outs={num_outs} is less than the {len(scales)} levels of scales={tuple(scales)}.')
        self.levels = nn.ModuleList(_level(channels, out_channels, scale) for scale in scales)

    def forward(self, inputs):
        """Maps of an encoder, of which the last (B, C, h, w) is taken, to a tuple of (B, D, h*scale, w*scale)."""
        maps = [level(inputs[-1]) for level in self.levels]
        while len(maps) < self.num_outs:
            maps.append(max_pool2d(maps[-1], 1, stride=2))
        return tuple(maps)


def _level(channels, out_channels, scale):
    resize, channels = _resizing(channels, scale)
    return nn.Sequential(
        *resize,
        nn.Conv2d(channels, out_channels, 1, bias=False),
        LayerNorm2d(out_channels),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        LayerNorm2d(out_channels),
    )


def _resizing(channels, scale):
    """Layers that change the size of a map by ``scale``, and the channels after them."""
    halvings = {2.0**-k: k for k in range(1, 6)}
    if scale in halvings:
        return [nn.MaxPool2d(2, 2) for _ in range(halvings[scale])], channels
    layers, size = [], 1
    while size < scale:
        layers += [LayerNorm2d(channels), nn.GELU()] if layers else []
        layers.append(nn.ConvTranspose2d(channels, channels // 2, 2, stride=2))
        channels, size = channels // 2, size * 2
    if size != scale:
        raise UserError(f'scale {scale} is no power of two from 1/32 on.')
    return layers, channels
