"""The encoder of MixMIM: a Swin without shifts, in which the tokens of two mixed images do not see each other."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.encoders import Swin
from mae_toolkit.models.encoders.swin import StageAttention
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.attention import WindowAttention, swin_bias
from mae_toolkit.models.layers.positions import compute_sincos_positions
from mae_toolkit.models.layers.windows import partition
from mae_toolkit.models.mask_ops import upsample
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class MixMIMSwin(Swin):
    """Swin with large windows, none of them shifted, and fixed sine-cosine positions (MixMIM, arXiv:2205.13137).

    Under a mask it takes images that are mixed already: a cell that the mask hides shows another image. Everything is
    computed, and a token attends only to those of its own image (section 3.2), so that a map holds two images. All
    images of a batch must have the same mask: that of the first counts. Without a mask it is a backbone like any other.

    Args:
        arch: Name of a Swin in timm.
        window_size: Tokens per side of a window; no larger than the map of a stage.
        img_size: Pixels; positions are stretched to images of other sizes.
        **kwargs: See :class:`Swin`, without ``mask_token``.

    Raises:
        UserError: If there is a mask token, or for the reasons of :class:`Swin`.
    """

    sees_hidden = True  # the other image

    def __init__(
        self,
        arch: str = 'swin_base_patch4_window7_224',
        window_size: int = 14,
        img_size: int | tuple[int, int] = 224,
        **kwargs: Any,
    ) -> None:
        if kwargs.get('mask_token'):
            raise UserError('MixMIMSwin puts another image where it is hidden: leave mask_token=True out.')
        if kwargs.get('ape'):
            raise UserError('MixMIMSwin has fixed positions: leave ape=True out.')
        super().__init__(arch, img_size=img_size, window_size=window_size, **kwargs)
        self.fills_hidden = True  # by the other image
        sides = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        self.table_grid = tuple(n // self.body.patch_embed.patch_size[0] for n in sides)
        self.grid = tuple(n // self.out_strides[-1] for n in sides)
        positions = compute_sincos_positions(self.body.embed_dim, self.table_grid)  # (L, C)
        self.register_buffer('positions', positions, persistent=False)

    def stages(self, x: Tensor, cells: Cells | None) -> Features:
        """Run the stages on images, or on mixtures of two, see :meth:`Encoder.stages`."""
        size = x.shape[-2:]
        x = self.body.patch_embed.proj(x).permute(0, 2, 3, 1)  # (B, h, w, C)
        x = self.body.patch_embed.norm(x)
        x = x + self._positions(x).to(x.dtype)
        stages = range(len(self.body.layers))
        if cells is None:
            attentions = [self._attend_whole(i, size, x.device) for i in stages]
        else:
            attentions = [self._attend_within_images(i, size, cells.mask[:1]) for i in stages]
        return self.outputs(self._levels(x, size, attentions), None)

    def _positions(self, x: Tensor) -> Tensor:
        """Return the table (h, w, C) for embedded images (B, h, w, C)."""
        size = tuple(x.shape[1:3])
        same = size == self.table_grid
        table = self.positions if same else compute_sincos_positions(x.shape[3], size, self.table_grid, x.device)
        return table.view(*size, -1)

    def _attend_within_images(self, i: int, size: Sequence[int], mask: Tensor) -> StageAttention:
        """Keep two images and the padding of windows apart in a stage."""
        side, window = self._map_size(i, size), self.body.layers[i].blocks[0].attn.window_size
        return {(0, 0): WindowAttention(swin_bias, side, window, separate=image_mask(mask, side, window))}

    def _shifts(self, i: int, size: Sequence[int]) -> list[tuple[int, int]]:
        """Return the shift of each block of a stage: none shifts its windows."""
        return [(0, 0)] * len(self.body.layers[i].blocks)


def image_mask(mask: Tensor, size: tuple[int, int], window: tuple[int, int]) -> Tensor:
    """Mark the pairs of places of a window that are not of one image, or of which one is padding.

    Args:
        mask: (1, 1, h, w) bool, True where the mixture shows the other image.
        size: Rows and columns of the map.
        window: Rows and columns of a window.

    Returns:
        (n, 1, W, W) bool, True for such pairs.
    """
    image = upsample(mask, size)[0, 0].byte() + 1  # 1 or 2; padding is 0
    image = partition(image[None, :, :, None], window, (0, 0))[..., 0]  # (n, W)
    return (image[:, :, None] != image[:, None, :]).unsqueeze(1)
