"""The masked autoencoder: mask, encode, decode, compare."""

from mmengine.model import BaseModel
from torch import nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.decoders import Decoder
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.mask_ops import count_visible, hide, mask_like, some_cells
from mae_toolkit.models.maskings import Masking
from mae_toolkit.models.objective import Objective
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
        data_preprocessor (dict | None): Config of the normalisation on the device.

    Raises:
        UserError: If the parts do not fit together.
    """

    def __init__(self, encoder, masking, decoder, objectives, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.encoder = encoder = build(Encoder, encoder)
        self.masking = build(Masking, masking, unit=encoder.mask_unit)
        wiring = dict(in_chans=encoder.in_chans, patch=encoder.out_strides[-1], unit=self.masking.unit)
        levels = dict(in_channels=encoder.out_channels, in_strides=encoder.out_strides, grid=encoder.grid)
        self.decoder = build(Decoder, decoder, **levels, **wiring)
        if not objectives:
            raise UserError('The model has no objective: name at least one, as in objectives=dict(pixel=dict(...)).')
        wiring |= dict(in_channels=self.decoder.out_channels, in_stride=self.decoder.out_stride)
        self.objectives = nn.ModuleDict({name: _objective(name, cfg, wiring) for name, cfg in objectives.items()})
        self._check_filling()
        self._check_strides()
        self._check_channels()

    def forward(self, imgs, mask=None, predict=None, mode='tensor'):
        """Run on a normalised batch.

        Args:
            imgs (Tensor): (B, C, H, W).
            mask (Tensor | None): (B, 1, h, w) bool, True = hidden; drawn by the masking if None.
            predict (Tensor | None): (B, 1, h, w) bool, cells that are compared; the hidden ones if None.
            mode (str): One of those below.

        Returns:
            ``'loss'``: dict of scalars ``loss_<objective>``. ``'predict'``: (dict of predictions (B, T, H/t, W/t) by
            objective, mask). ``'tensor'``: the encoder's maps of the whole image.
        """
        if mode not in MODES:
            raise UserError(f'mode={mode!r} is none of {", ".join(MODES)}.')
        if mode == 'tensor':
            return self.encoder(imgs)
        is_given = mask is not None or predict is not None
        mask, num_visible = self.draw_mask(imgs, mask)
        predict = mask if predict is None else mask_like(predict, imgs, self.masking.unit)
        features = self.encoder.encode(hide(imgs, mask), mask, num_visible)
        decoded = self.decoder(features, mask, predict)  # (B, D, H/d, W/d)
        predictions = {name: objective.head(decoded) for name, objective in self.objectives.items()}
        if mode == 'predict':
            return predictions, mask
        predict = some_cells(predict) if is_given else predict
        return {f'loss_{name}': self.objectives[name](pred, imgs, predict) for name, pred in predictions.items()}

    def draw_mask(self, imgs, mask=None):
        """Draw a mask, or check the given one: ((B, 1, h, w) bool, number of visible cells per image)."""
        if mask is None:
            mask = self.masking(imgs)
            cells = mask[0].numel()
            return mask, cells - self.masking.num_hidden(cells)
        return mask, count_visible(mask_like(mask, imgs, self.masking.unit))

    def _check_filling(self):
        if self.decoder.pointwise and not self.encoder.fills_hidden:
            raise UserError(
                f'{type(self.decoder).__name__} fills no hidden cell, and {type(self.encoder).__name__} leaves them '
                'empty: set mask_token=True in an encoder that has it, or choose another decoder.'
            )

    def _check_strides(self):
        unit = self.masking.unit
        strides = {f'encoder level {i}': stride for i, stride in enumerate(self.encoder.out_strides, 1)}
        strides |= {'the decoder': self.decoder.out_stride}
        strides |= {f'the target of objective {name!r}': o.target.stride for name, o in self.objectives.items()}
        strides |= {'the encoder mask unit': self.encoder.mask_unit}
        for where, stride in strides.items():
            if unit % stride:
                raise UserError(f'Stride {stride} of {where} does not divide mask unit {unit}.')

    def _check_channels(self):
        means = getattr(self.data_preprocessor, 'mean', None)
        if means is not None and len(means) != self.encoder.in_chans:
            raise UserError(
                f'The encoder takes {self.encoder.in_chans} channels, and the data_preprocessor {len(means)} values '
                'of mean and std: give one of each per channel.'
            )


def _objective(name, cfg, wiring):
    unknown = set(cfg) - {'target', 'losses'}
    if unknown or 'target' not in cfg or 'losses' not in cfg:
        raise UserError(f'Objective {name!r} has the keys {sorted(cfg)}; it needs "target" and "losses" alone.')
    return Objective(**cfg, **wiring)
