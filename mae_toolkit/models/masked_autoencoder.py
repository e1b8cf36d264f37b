"""The masked autoencoder: mask, encode, decode, compare."""

from mmengine.model import BaseModel
from torch import nn

from mae_toolkit.errors import UserError
from mae_toolkit.models import rules
from mae_toolkit.models.decoders import Decoder
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.mask_ops import hide, some_cells
from mae_toolkit.models.maskings import Masking
from mae_toolkit.models.objective import Objective
from mae_toolkit.models.rules import check
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
        checkpoint_formats (tuple[Method, ...]): Methods whose checkpoints it reads beside those that every model reads,
            see :mod:`mae_toolkit.checkpoints.names`.

    Raises:
        UserError: If the parts do not fit together.
    """

    checkpoint_formats = ()

    def __init__(self, encoder, masking, decoder, objectives, data_preprocessor=None):
        super().__init__(data_preprocessor)
        images = dict(zip(('mean', 'std'), _statistics(self.data_preprocessor), strict=True))
        images |= {'encoder': encoder} if isinstance(encoder, dict) else {}
        self.encoder = encoder = build(Encoder, encoder)
        self._check_channels()
        images |= dict(in_chans=encoder.in_chans, patch=encoder.out_strides[-1])
        self.masking = build(Masking, masking, **{'unit': encoder.mask_unit} | images)
        self._check_count()
        wiring = images | dict(unit=self.masking.unit)
        levels = dict(in_channels=encoder.out_channels, in_strides=encoder.out_strides, grid=encoder.grid)
        self.decoder = build(Decoder, decoder, **levels, **wiring)
        self.check_parts()
        if not objectives:
            raise UserError('The model has no objective: name at least one, as in objectives=dict(pixel=dict(...)).')
        wiring |= dict(in_channels=self.decoder.out_channels, in_stride=self.decoder.out_stride)
        self.objectives = nn.ModuleDict({name: _objective(name, cfg, wiring) for name, cfg in objectives.items()})
        for name, objective in self.objectives.items():
            check(rules.check_target_stride(name, objective.target, self.masking.unit))

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
        cells = self.draw_cells(imgs, mask, predict, every=mode == 'predict')
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

    def draw_cells(self, imgs, mask=None, predict=None, every=False):
        """What is hidden and what of it is predicted; see :meth:`Masking.cells`."""
        return self.masking.cells(imgs, mask, predict, every)

    def encode(self, imgs, cells):
        """Features of what is visible in images (B, C, H, W)."""
        return self.encoder.encode(hide(imgs, cells.mask), cells)

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
            self.masking.num_predicted(rows * columns)

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


def _statistics(preprocessor):
    """Mean and standard deviation of the images per channel, in the units of the files; None if they are unknown."""
    values = [getattr(preprocessor, name, None) for name in ('mean', 'std')]
    return [None if value is None else tuple(value.flatten().tolist()) for value in values]
