"""The encoder of MixMIM: a Swin without shifts, in which the tokens of two mixed images do not see each other."""

from functools import partial

from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders import Swin
from mae_toolkit.models.layers.padding import pad_to_multiple
from mae_toolkit.models.layers.positions import sincos_positions
from mae_toolkit.models.layers.window_attention import attend_whole, swin_bias
from mae_toolkit.models.layers.windows import partition
from mae_toolkit.models.mask_ops import upsample
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class MixMIMSwin(Swin):
    """Swin with large windows, none of them shifted, and fixed sine-cosine positions (MixMIM, arXiv:2205.13137).

    Under a mask it takes images that are mixed already: a cell that the mask hides is another image's. Everything is
    computed, and a token attends only to those of its own image (section 3.2), so that a map holds two images. All
    images of a batch must have the same mask: that of the first counts. Without a mask it is a backbone like any other.

    Args:
        arch (str): Name of a Swin in timm.
        window_size (int): Tokens per side of a window; no larger than the map of a stage.
        img_size (int | tuple[int, int]): Pixels; positions are stretched to images of other sizes.
        **kwargs: As of :class:`Swin`, without ``mask_token``.

    Raises:
        UserError: If there is a mask token, or as of :class:`Swin`.
    """

    def __init__(self, arch='swin_base_patch4_window7_224', window_size=14, img_size=224, **kwargs):
        if kwargs.get('mask_token'):
            raise UserError('MixMIMSwin puts another image where it is hidden: leave mask_token=True out.')
        super().__init__(arch, img_size=img_size, window_size=window_size, **kwargs)
        self.fills_hidden = True  # by the other image
        sides = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        self.table_grid = tuple(n // self.body.patch_embed.patch_size[0] for n in sides)
        self.grid = tuple(n // self.out_strides[-1] for n in sides)
        positions = sincos_positions(self.body.embed_dim, self.table_grid)  # (L, C)
        self.register_buffer('positions', positions, persistent=False)

    def _encode(self, imgs, cells):
        """Encode images, or mixtures of two; see :meth:`Encoder.encode`."""
        size = imgs.shape[-2:]
        imgs = pad_to_multiple(imgs, self.mask_unit)
        x = self.body.patch_embed.proj(imgs).permute(0, 2, 3, 1)  # (B, h, w, C)
        x = self.body.patch_embed.norm(x)
        x = x + self._positions(x).to(x.dtype)
        padded = imgs.shape[-2:]
        stages = range(len(self.body.layers))
        plans = None if cells is None else [self._within(i, padded, cells.mask[:1]) for i in stages]
        return self._features(self._levels(x, padded, plans), size)

    def _positions(self, x):
        """The table (h, w, C) for embedded images (B, h, w, C)."""
        size = tuple(x.shape[1:3])
        same = size == self.table_grid
        table = self.positions if same else sincos_positions(x.shape[3], size, self.table_grid, x.device)
        return table.view(*size, -1)

    def _within(self, i, size, mask):
        """The attention of a stage, which keeps two images and the padding of windows apart."""
        window = self.body.layers[i].blocks[0].attn.window_size
        apart = images_apart(mask, self._map(i, size), window)
        return {(0, 0): partial(attend_whole, window=window, shift=(0, 0), bias=swin_bias, apart=apart)}

    def _shifts(self, i, size):
        """No block shifts its windows."""
        return [(0, 0)] * len(self.body.layers[i].blocks)


def images_apart(mask, size, window):
    """(n, 1, W, W) bool, True for pairs of a window that are not of one image, or of which one is padding.

    Args:
        mask (Tensor): (1, 1, h, w) bool, on an image that may have been padded to the right and below.
        size (tuple[int, int]), window (tuple[int, int]): Rows and columns of the map and of a window.
    """
    image = upsample(mask, size)[0, 0].byte() + 1  # 1 or 2; padding is 0
    image = partition(image[None, :, :, None], window, (0, 0))[..., 0]  # (n, W)
    return (image[:, :, None] != image[:, None, :]).unsqueeze(1)
