"""Guesses how hard each cell is, and a slow copy of it that is never masked."""

from copy import deepcopy

import torch
from torch import nn

from mae_toolkit.models.cells import Cells
from mae_toolkit.models.decoders import Decoder
from mae_toolkit.models.objective import PredictionHead
from mae_toolkit.models.targets import Target
from mae_toolkit.registry import build


class LossOfCell(Target):
    """One number per cell: what a :class:`LossPredictor` predicts, and the model computes.

    Args:
        unit (int): Pixels per cell.
    """

    channels = 1

    def __init__(self, unit):
        super().__init__()
        self.stride = unit


class LossPredictor(nn.Module):
    """A decoder with one output per cell.

    Args:
        decoder (dict): Config of a :class:`Decoder`.
        wiring (Wiring): What the decoder takes from the model, and the pixels per cell.
    """

    def __init__(self, decoder, wiring):
        super().__init__()
        self.decoder = build(Decoder, decoder, wiring)
        self.head = PredictionHead(self.decoder.out_channels, self.decoder.out_stride, LossOfCell(wiring.unit))

    def forward(self, features, cells):
        """Guesses (B, h, w), of which the differences count; arguments as of :meth:`Decoder.forward`."""
        return self.head(self.decoder(features, cells)).squeeze(1)


class Teacher(nn.Module):
    """Slow copies of an encoder and a :class:`LossPredictor`, which see the whole image.

    Frozen in three ways: no gradient, evaluation mode, not in the optimizer.

    Args:
        encoder (Encoder), predictor (LossPredictor): To copy.
        unit (int): Pixels per cell.
    """

    has_own_weights = True  # weights of others, when they are read into a model, need not have these

    def __init__(self, encoder, predictor, unit):
        super().__init__()
        self.encoder, self.predictor, self.unit = deepcopy(encoder), deepcopy(predictor), unit
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode=True):
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, imgs):
        """How hard the cells (B, h, w) of images (B, C, H, W) are."""
        h, w = (n // self.unit for n in imgs.shape[-2:])
        nothing = torch.zeros(len(imgs), 1, h, w, dtype=torch.bool, device=imgs.device)
        return self.predictor(self.encoder.encode(imgs), Cells(nothing, ~nothing, h * w, h * w))

    @torch.no_grad()
    def approach(self, encoder, predictor, momentum):
        """Parameters become m * own + (1 - m) * theirs, buffers a copy of theirs."""
        for own, theirs in ((self.encoder, encoder), (self.predictor, predictor)):
            torch._foreach_lerp_(list(own.parameters()), list(theirs.parameters()), 1 - momentum)
            for mine, buffer in zip(own.buffers(), theirs.buffers(), strict=True):
                mine.copy_(buffer)
