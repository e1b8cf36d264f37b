"""Guess how hard each cell is: a decoder of losses, and a slow copy of it that is never masked."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from mae_toolkit.models import Encoder, Features
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.decoders import Decoder
from mae_toolkit.models.objective import PredictionHead
from mae_toolkit.models.targets import Target
from mae_toolkit.models.teacher import copy_buffers, train_batch_norms
from mae_toolkit.models.wiring import Wiring
from mae_toolkit.registry import build


class LossOfCell(Target):
    """Target that stands for the loss of a cell, one number, which a :class:`LossPredictor` predicts.

    Args:
        unit: Pixels per side of a cell.
    """

    channels = 1

    def __init__(self, unit: int) -> None:
        super().__init__()
        self.stride = unit


class LossPredictor(nn.Module):
    """A decoder and a head that predict one number per cell.

    Args:
        decoder: Config of a :class:`Decoder`.
        wiring: What the decoder takes from the model, and the pixels per side of a cell.
    """

    def __init__(self, decoder: dict[str, Any], wiring: Wiring) -> None:
        super().__init__()
        self.decoder = build(Decoder, decoder, wiring)
        self.head = PredictionHead(self.decoder.out_channels, self.decoder.out_stride, LossOfCell(wiring.unit))

    def forward(self, features: Features, cells: Cells) -> Tensor:
        """Guess how hard the cells (B, h, w) are; only differences count. See :meth:`Decoder.forward`."""
        return self.head(self.decoder(features, cells)).squeeze(1)


class HardnessTeacher(nn.Module):
    """Slow copies of an encoder and a :class:`LossPredictor`, which guess how hard the cells of whole images are.

    The copies are frozen in three ways: no gradient, evaluation mode, not in the optimizer.

    Args:
        encoder: The encoder to copy.
        predictor: The predictor to copy.
        unit: Pixels per side of a cell.
    """

    has_own_weights = True  # a checkpoint that is read into a model need not have these

    def __init__(self, encoder: Encoder, predictor: LossPredictor, unit: int) -> None:
        super().__init__()
        self.encoder, self.predictor, self.unit = deepcopy(encoder), deepcopy(predictor), unit
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> 'HardnessTeacher':
        """Stay in evaluation mode, but for batch norms, which have statistics of their own, of whole images."""
        super().train(False)
        for part in (self.encoder, self.predictor):
            train_batch_norms(part, mode)
        return self

    @torch.no_grad()
    def forward(self, imgs: Tensor) -> Tensor:
        """Guess how hard the cells (B, h, w) of images (B, C, H, W) are."""
        h, w = (n // self.unit for n in imgs.shape[-2:])
        nothing = torch.zeros(len(imgs), 1, h, w, dtype=torch.bool, device=imgs.device)
        return self.predictor(self.encoder.encode(imgs), Cells(nothing, ~nothing, h * w, h * w))

    @torch.no_grad()
    def approach(self, encoder: Encoder, predictor: LossPredictor, momentum: float) -> None:
        """Move toward others: parameters become m * own + (1 - m) * theirs, buffers a copy of theirs."""
        for own, theirs in ((self.encoder, encoder), (self.predictor, predictor)):
            torch._foreach_lerp_(list(own.parameters()), list(theirs.parameters()), 1 - momentum)
            copy_buffers(own, theirs)
