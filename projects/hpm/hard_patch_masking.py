"""The masking of HPM, which hides the cells that a teacher finds hard."""

from typing import Any

import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.mask_ops import find_grid
from mae_toolkit.models.maskings import Masking
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class HardPatchMasking(Masking):
    """Masking that hides the hardest cells, and others at random (HPM, arXiv:2304.05919, section 3.3).

    Args:
        hard: Share of the hidden cells that are the hardest of the image; the others are drawn. A schedule may change
            it (``MaskingScheduleHook`` with ``name='hard'``).
        **kwargs: See :class:`Masking`, without ``shared``.

    Raises:
        UserError: If ``hard`` is out of range, or ``shared`` is set.
    """

    def __init__(self, hard: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 <= hard <= 1:
            raise UserError(f'HardPatchMasking: hard={hard} must be a fraction of the hidden cells, from 0 to 1.')
        if self.shared:
            raise UserError('HardPatchMasking looks at each image: leave shared=True out.')
        self.hard = hard

    def forward(self, imgs: Tensor, hardness: Tensor | None = None) -> Tensor:
        """Draw a mask (B, 1, h, w) for images.

        Args:
            imgs: (B, C, H, W).
            hardness: (B, h, w), the highest values for the hardest cells. Without it all cells are drawn.
        """
        h, w = find_grid(imgs, self.unit)
        score = torch.rand(len(imgs), h * w, device=imgs.device)
        count = int(self.count_hidden(h * w) * self.hard)
        if hardness is not None and count:
            score = score.scatter(1, hardness.flatten(1).topk(count, dim=1, sorted=False).indices, 2.0)
        return self.hide_highest(score.view(-1, h, w))

    def draw_hard_cells(self, hardness: Tensor, imgs: Tensor) -> Cells:
        """Draw cells by their hardness (B, h, w); see :meth:`Masking.draw_cells`."""
        mask = self(imgs, hardness)
        count = mask[0].numel()
        visible = count - self.count_hidden(count)
        return Cells(mask, self.draw_predicted(mask), visible, self.count_predicted(count))
