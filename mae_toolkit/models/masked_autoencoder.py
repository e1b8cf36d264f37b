"""The masked autoencoder: mask, encode, decode, compare."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmengine.model import BaseModel
from torch import nn

from mae_toolkit.errors import UserError
from mae_toolkit.models import rules
from mae_toolkit.models.decoders import Decoder
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.mask_ops import some_cells
from mae_toolkit.models.maskings import Masking
from mae_toolkit.models.objective import Objective
from mae_toolkit.models.rules import check
from mae_toolkit.models.wiring import Wiring
from mae_toolkit.registry import MODELS, build

MODES = ('loss', 'predict', 'tensor')


@MODELS.register_module()
class MaskedAutoencoder(BaseModel):
    """Hides part of an image, encodes what is visible and predicts something about what is hidden.

    The method is MAE's (arXiv:2111.06377), with every part interchangeable. What one part must know of another
    (channels, strides, mask unit) is passed here, once, at construction.

    Args:
        encoder (dict), masking (dict), decoder (dict): Configs of the parts.
        objectives (dict[str, dict]): By name, configs with ``target`` and ``losses``; see :class:`Objective`.
        data_preprocessor (dict | None): Config of the normalization on the device.

    A method that does not fit is a subclass and overrides a step: :meth:`draw_cells`, :meth:`encode`, :meth:`decode`,
    :meth:`compare` (see ``projects/``).

    Attributes:
        checkpoint_formats (tuple[Format, ...]): Formats of checkpoints that it reads beside those that all models read,
            see :mod:`mae_toolkit.checkpoints.names`.

    Raises:
        UserError: If the parts do not fit together.
    """

    checkpoint_formats = ()

    def __init__(self, encoder, masking, decoder, objectives, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.encoder = build(Encoder, encoder)
        check(rules.check_channels(self.encoder, self.data_preprocessor))
        wiring = Wiring.from_encoder(self.encoder, encoder, self.data_preprocessor)
        self.masking = build(Masking, masking, wiring)
        self._check_count()
        self.wiring = wiring = replace(wiring, unit=self.masking.unit)
        self.decoder = build(Decoder, decoder, wiring)
        self.check_parts()
        if not objectives:
            raise UserError('The model has no objective: name at least one, as in objectives=dict(pixel=dict(...)).')
        self.objectives = nn.ModuleDict({name: self._build_objective(name, cfg) for name, cfg in objectives.items()})

    def forward(self, imgs, mask=None, predict=None, mode='tensor'):
        """Run on a normalized batch.

        Args:
            imgs (Tensor): (B, C, H, W).
            mask (Tensor | None): (B, 1, h, w) bool, True = hidden; drawn by the masking if None.
            predict (Tensor | None): (B, 1, h, w) bool, cells that are compared; if None, the hidden ones or, under
                ``mode='loss'`` and a drawn mask, as many of them as the masking says.
            mode (str): One of those below.

        Returns:
            ``'loss'``: dict of scalars ``loss_<objective>``. ``'predict'``: (dict of predictions (B, T, H/t, W/t) by
            objective, mask). ``'tensor'``: the encoder's maps of the whole image.
        """
        if mode not in MODES:
            raise UserError(f'mode={mode!r} is none of {", ".join(MODES)}.')
        if mode == 'tensor':
            return self.encoder(imgs)
        cells = self.draw_cells(imgs, mask, predict, predict_all=mode == 'predict')
        features = self.encode(imgs, cells)
        decoded = self.decode(features, cells)  # (B, D, H/d, W/d)
        predictions = {name: objective.head(decoded) for name, objective in self.objectives.items()}
        if mode == 'predict':
            return predictions, cells.mask
        if mask is not None or predict is not None:
            some_cells(cells.predict)
        return self.compare(predictions, features, imgs, cells)

    def check_parts(self):
        """Refuse an encoder, a masking and a decoder that do not go together."""
        check(rules.check_hidden_filled(self.encoder, self.decoder))
        check(rules.check_strides(self.encoder, self.decoder, self.masking.unit))

    def draw_cells(self, imgs, mask=None, predict=None, predict_all=False):
        """What is hidden and what of it is predicted; see :meth:`Masking.cells`."""
        return self.masking.draw_cells(imgs, mask, predict, predict_all)

    def encode(self, imgs, cells):
        """Features of what is visible in images (B, C, H, W)."""
        return self.encoder.encode(imgs, cells)

    def decode(self, features, cells):
        """The map (B, D, H/d, W/d) from which the objectives predict."""
        return self.decoder(features, cells)

    def compare(self, predictions, features, imgs, cells):
        """Losses by name, of predictions by objective; a subclass may have more of them, from the features too."""
        losses = {name: self.objectives[name](pred, imgs, cells.predict) for name, pred in predictions.items()}
        return {f'loss_{name}': loss for name, loss in losses.items()}

    def _check_count(self):
        """Something is hidden and something visible in an image of the size for which positions are stored."""
        if self.encoder.grid is not None:
            rows, columns = (n * self.encoder.out_strides[-1] // self.masking.unit for n in self.encoder.grid)
            self.masking.count_predicted(rows * columns)

    def _build_objective(self, name: str, cfg: Mapping[str, Any]) -> Objective:
        """Build an objective from its config, or refuse one whose target does not fit the cells of the mask."""
        if set(cfg) != {'target', 'losses'}:
            raise UserError(f'Objective {name!r} has the keys {sorted(cfg)}; it needs "target" and "losses" alone.')
        objective = Objective(**cfg, decoder=self.decoder, wiring=self.wiring)
        check(rules.check_target_stride(name, objective.target, self.wiring.unit))
        return objective
