"""HPM: the model guesses where it will fail, and hides more and more of that."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder, Features, MaskedAutoencoder
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.losses import MaskedLoss
from mae_toolkit.registry import MODELS
from projects.hpm.hard_patch_masking import HardPatchMasking
from projects.hpm.loss_predictor import HardnessTeacher, LossPredictor
from projects.hpm.ranking import ranking_loss


@MODELS.register_module()
class HPM(MaskedAutoencoder):
    """Masked autoencoder that guesses the loss of each cell and hides the highest guesses (arXiv:2304.05919).

    The guesses are compared with the actual losses by the order of pairs of cells. The teacher, a slow copy of the
    encoder and of the second decoder, sees whole images and guesses which cells are hard; in training the masking hides
    these first. The teacher follows only in a run with a ``MomentumHook``, and masks become harder only in one with a
    ``MaskingScheduleHook`` for ``hard``. In evaluation all masks are drawn at random, so that losses can be compared.

    Args:
        encoder: Config of the encoder.
        masking: Config of a :class:`HardPatchMasking`.
        decoder: Config of the decoder.
        objectives: Configs of the objectives, see :class:`MaskedAutoencoder`; each loss is a :class:`MaskedLoss`, which
            has one value per position.
        loss_decoder: Config of the second decoder.
        ranking_weight: Factor of the loss of the second decoder.
        data_preprocessor: Config of the normalization on the device.

    Raises:
        UserError: If the masking or a loss is of another class.
    """

    def __init__(
        self,
        encoder: Encoder | dict[str, Any],
        masking: HardPatchMasking | dict[str, Any],
        decoder: dict[str, Any],
        objectives: Mapping[str, Mapping[str, Any]],
        loss_decoder: dict[str, Any],
        ranking_weight: float = 1.0,
        data_preprocessor: nn.Module | dict[str, Any] | None = None,
    ) -> None:
        super().__init__(encoder, masking, decoder, objectives, data_preprocessor)
        if not ranking_weight > 0:
            raise UserError(f'HPM: ranking_weight={ranking_weight} must be above 0.')
        for loss in (loss for objective in self.objectives.values() for loss in objective.losses):
            if not isinstance(loss, MaskedLoss):
                raise UserError(f'HPM needs a MaskedLoss, which has a value per cell, not a {type(loss).__name__}.')
        self.ranking_weight = ranking_weight
        self.predictor = LossPredictor(loss_decoder, self.wiring)
        self.teacher = HardnessTeacher(self.encoder, self.predictor, self.masking.unit)

    def check_parts(self) -> None:
        """Refuse another masking, too; see :meth:`MaskedAutoencoder.check_parts`."""
        super().check_parts()
        if not isinstance(self.masking, HardPatchMasking):
            raise UserError(f'HPM needs a HardPatchMasking, not a {type(self.masking).__name__}.')

    def draw_cells(
        self, imgs: Tensor, mask: Tensor | None = None, predict: Tensor | None = None, predict_all: bool = False
    ) -> Cells:
        """Draw cells, in training those that the teacher finds hard; see :meth:`MaskedAutoencoder.draw_cells`."""
        free = mask is None and predict is None and not predict_all
        if not (free and self.training and self.masking.hard):
            return super().draw_cells(imgs, mask, predict, predict_all)
        return self.masking.draw_hard_cells(self.teacher(imgs), imgs)

    def compare(
        self, predictions: Mapping[str, Tensor], features: Features, imgs: Tensor, cells: Cells
    ) -> dict[str, Tensor]:
        """Compare the guesses with the losses, too; see :meth:`MaskedAutoencoder.compare`."""
        losses = super().compare(predictions, features, imgs, cells)
        guess = self.predictor(features, cells)  # (B, h, w)
        error = self.measure_errors(predictions, imgs)
        ranking = ranking_loss(guess.flatten(1), error.flatten(1), cells.predict.flatten(1))
        return losses | {'loss_ranking': self.ranking_weight * ranking}

    @torch.no_grad()
    def measure_errors(self, predictions: Mapping[str, Tensor], imgs: Tensor) -> Tensor:
        """Sum the losses of every cell over the objectives: (B, h, w)."""
        total = 0
        for name, objective in self.objectives.items():
            target = objective.target(imgs)
            cell = self.masking.unit // objective.target.stride
            for loss in objective.losses:
                total += loss.weight * avg_pool2d(loss.distance(predictions[name].to(target.dtype), target), cell)
        return total.squeeze(1)

    def follow(self, encoder: Encoder, momentum: float) -> None:
        """Move the teacher; the ``MomentumHook`` calls this after each step of the optimizer."""
        self.teacher.approach(encoder, self.predictor, momentum)
