"""HPM: the model guesses where it will fail, and hides more and more of that."""

import torch
from torch.nn.functional import avg_pool2d

from mae_toolkit.errors import UserError
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.models.losses import MaskedLoss
from mae_toolkit.registry import MODELS
from projects.hpm.hard_patch_masking import HardPatchMasking
from projects.hpm.loss_predictor import LossPredictor, Teacher
from projects.hpm.ranking import ranking_loss


@MODELS.register_module()
class HPM(MaskedAutoencoder):
    """A masked autoencoder with a second decoder that guesses the loss of each cell (arXiv:2304.05919).

    What it guesses is compared with the loss that comes, by the order of pairs. A slow copy of encoder and second
    decoder, a teacher that sees whole images, tells where it is hard, and the masking hides that first, in training.
    The teacher follows only if the run has a ``MomentumHook``, and the masks become harder only if it has a
    ``MaskingScheduleHook`` for ``hard``. In evaluation all masks are drawn, so that losses can be compared.

    Args:
        encoder (dict), decoder (dict), objectives (dict): As of :class:`MaskedAutoencoder`; losses are
            :class:`MaskedLoss`, of which there is one value per position.
        masking (dict): Of a :class:`HardPatchMasking`.
        loss_decoder (dict): Config of the second decoder.
        ranking_weight (float): Factor of the loss of the second decoder.
        data_preprocessor (dict | None): Config of the normalization on the device.

    Raises:
        UserError: If the masking or a loss is another.
    """

    def __init__(self, encoder, masking, decoder, objectives, loss_decoder, ranking_weight=1.0, data_preprocessor=None):
        super().__init__(encoder, masking, decoder, objectives, data_preprocessor)
        if not ranking_weight > 0:
            raise UserError(f'HPM: ranking_weight={ranking_weight} is a factor above 0.')
        for loss in (loss for objective in self.objectives.values() for loss in objective.losses):
            if not isinstance(loss, MaskedLoss):
                raise UserError(f'HPM ranks cells by their loss, of which {type(loss).__name__} has none per cell.')
        self.ranking_weight = ranking_weight
        self.predictor = LossPredictor(loss_decoder, self.wiring)
        self.teacher = Teacher(self.encoder, self.predictor, self.masking.unit)

    def check_parts(self):
        """Refuse another masking, too."""
        super().check_parts()
        if not isinstance(self.masking, HardPatchMasking):
            raise UserError(f'HPM needs a HardPatchMasking, not a {type(self.masking).__name__}.')

    def draw_cells(self, imgs, mask=None, predict=None, predict_all=False):
        """In training a mask is drawn by what the teacher finds hard; see :meth:`MaskedAutoencoder.draw_cells`."""
        free = mask is None and predict is None and not predict_all
        if not (free and self.training and self.masking.hard):
            return super().draw_cells(imgs, mask, predict, predict_all)
        return self.masking.cells_by(self.teacher(imgs), imgs)

    def compare(self, predictions, features, imgs, cells):
        """The losses of the objectives, and that of the guesses."""
        losses = super().compare(predictions, features, imgs, cells)
        guess = self.predictor(features, cells)  # (B, h, w)
        error = self.errors(predictions, imgs)
        ranking = ranking_loss(guess.flatten(1), error.flatten(1), cells.predict.flatten(1))
        return losses | {'loss_ranking': self.ranking_weight * ranking}

    @torch.no_grad()
    def errors(self, predictions, imgs):
        """The loss (B, h, w) of every cell, summed over the objectives."""
        total = 0
        for name, objective in self.objectives.items():
            target = objective.target(imgs)
            cell = self.masking.unit // objective.target.stride
            for loss in objective.losses:
                total += loss.weight * avg_pool2d(loss.distance(predictions[name].to(target.dtype), target), cell)
        return total.squeeze(1)

    def follow(self, encoder, momentum):
        """Move the teacher; the ``MomentumHook`` asks for it after each step of the optimizer."""
        self.teacher.approach(encoder, self.predictor, momentum)
