"""The masked autoencoder: mask, encode, decode, compare."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mmengine.model import BaseModel
from torch import Tensor, nn

from mae_toolkit.errors import UserError
from mae_toolkit.models import rules
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.decoders import Decoder
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.features import Features
from mae_toolkit.models.mask_ops import check_some_cells
from mae_toolkit.models.maskings import Masking
from mae_toolkit.models.objective import Objective
from mae_toolkit.models.rules import check
from mae_toolkit.models.wiring import Wiring
from mae_toolkit.registry import MODELS, build

MODES = ('loss', 'predict', 'tensor')


@MODELS.register_module()
class MaskedAutoencoder(BaseModel):
    """Model that hides part of an image, encodes what is visible, and predicts something about what is hidden.

    The method is MAE's (arXiv:2111.06377), and every part of it can be exchanged. The data flows once through four
    steps::

        imgs (B, C, H, W) ── draw_cells ──> cells: which of the h x w cells are hidden, and which are predicted
        imgs, cells ─────── encode ──────> features: a map (B, C_i, H/s_i, W/s_i) per level, zero where hidden
        features, cells ─── decode ──────> a map (B, D, H/d, W/d) without gaps
        the map ─────────── heads ───────> a prediction (B, T, H/t, W/t) for each objective
        predictions ─────── compare ─────> a loss for each objective, over the predicted cells

    A cell has ``unit`` x ``unit`` pixels, and h = H/unit, w = W/unit. What one part must know of another (channels,
    strides, unit) is passed once, at construction: see :class:`~mae_toolkit.models.wiring.Wiring`. A method that needs
    more is a subclass that overrides a step, as in ``projects/``.

    Args:
        encoder: Config of the :class:`Encoder`.
        masking: Config of the :class:`Masking`.
        decoder: Config of the :class:`Decoder`.
        objectives: Configs by name, each with ``target`` and ``losses``, see :class:`Objective`:
            ``dict(pixel=dict(target=dict(type='PixelTarget'), losses=[dict(type='MaskedL2Loss')]))``.
        data_preprocessor: Config of the normalization on the device; images are taken as they are if None.

    Attributes:
        wiring: What the parts know of each other.
        checkpoint_formats: Formats of checkpoints that this model reads beside those that every model reads, see
            :mod:`mae_toolkit.checkpoints.names`.
        has_static_graph: Whether each training step computes with the same parameters in the same order, which data
            parallelism makes use of. Set it to False in a subclass that leaves parts out in some steps.

    Raises:
        UserError: If the parts do not go together.
    """

    checkpoint_formats: Iterable[Any] = ()
    has_static_graph = True
    objectives: Any  # an nn.ModuleDict of Objective

    def __init__(
        self,
        encoder: Encoder | dict[str, Any],
        masking: Masking | dict[str, Any],
        decoder: Decoder | dict[str, Any],
        objectives: Mapping[str, Mapping[str, Any]],
        data_preprocessor: nn.Module | dict[str, Any] | None = None,
    ) -> None:
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

    def forward(
        self, imgs: Tensor, mask: Tensor | None = None, predict: Tensor | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | tuple[dict[str, Tensor], Tensor] | tuple[Tensor, ...]:
        """Run on a normalized batch.

        Args:
            imgs: (B, C, H, W).
            mask: (B, 1, h, w) bool, True = hidden; drawn by the masking if None.
            predict: (B, 1, h, w) bool, True for the cells that are compared. If None, these are the hidden cells or,
                with ``mode='loss'`` and a drawn mask, the fraction of them that the masking predicts.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            ``'loss'``: scalars by name, ``loss_<objective>``. ``'predict'``: predictions (B, T, H/t, W/t) by objective,
            and the mask. ``'tensor'``: the encoder's maps of the whole image.

        Raises:
            UserError: If a mask does not fit the images, nothing is to be predicted, or the mode is unknown.
        """
        if mode not in MODES:
            raise UserError(f'mode={mode!r} must be one of {", ".join(MODES)}.')
        if mode == 'tensor':
            return self.encoder(imgs)
        cells = self.draw_cells(imgs, mask, predict, predict_all=mode == 'predict')
        features = self.encode(imgs, cells)
        decoded = self.decode(features, cells)  # (B, D, H/d, W/d)
        predictions = {name: objective.head(decoded) for name, objective in self.objectives.items()}
        if mode == 'predict':
            return predictions, cells.mask
        if mask is not None or predict is not None:
            check_some_cells(cells.predict)
        return self.compare(predictions, features, imgs, cells)

    def draw_cells(
        self, imgs: Tensor, mask: Tensor | None = None, predict: Tensor | None = None, predict_all: bool = False
    ) -> Cells:
        """Draw which cells are hidden and which of them are predicted; see :meth:`Masking.draw_cells`."""
        return self.masking.draw_cells(imgs, mask, predict, predict_all)

    def encode(self, imgs: Tensor, cells: Cells) -> Features:
        """Encode the visible cells of images (B, C, H, W): maps (B, C_i, H/s_i, W/s_i), zero where hidden."""
        return self.encoder.encode(imgs, cells)

    def decode(self, features: Features, cells: Cells) -> Tensor:
        """Fill the hidden cells: a map (B, D, H/d, W/d), from which the objectives predict."""
        return self.decoder(features, cells)

    def compare(
        self, predictions: Mapping[str, Tensor], features: Features, imgs: Tensor, cells: Cells
    ) -> dict[str, Tensor]:
        """Compare predictions with the targets of the images, over the predicted cells.

        Args:
            predictions: (B, T, H/t, W/t) by objective.
            features: What the encoder made of the visible cells, for subclasses that predict more from it.
            imgs: (B, C, H, W).
            cells: What is hidden and predicted.

        Returns:
            Scalars by name, ``loss_<objective>``.
        """
        losses = {name: self.objectives[name](pred, imgs, cells.predict) for name, pred in predictions.items()}
        return {f'loss_{name}': loss for name, loss in losses.items()}

    def check_parts(self) -> None:
        """Refuse an encoder, a masking and a decoder that do not go together.

        Raises:
            UserError: With both parts, and the numbers that do not fit.
        """
        check(rules.check_hidden_filled(self.encoder, self.decoder))
        check(rules.check_strides(self.encoder, self.decoder, self.masking.unit))

    def _check_count(self) -> None:
        """Refuse a ratio that hides no cell or all cells of images of the size for which positions are stored."""
        if self.encoder.grid is not None:
            rows, columns = (n * self.encoder.out_strides[-1] // self.masking.unit for n in self.encoder.grid)
            self.masking.count_predicted(rows * columns)

    def _build_objective(self, name: str, cfg: Mapping[str, Any]) -> Objective:
        """Build an objective from its config, or refuse one whose target does not fit the cells of the mask."""
        if set(cfg) != {'target', 'losses'}:
            raise UserError(f'Objective {name!r} has the keys {sorted(cfg)}; it needs just "target" and "losses".')
        objective = Objective(**cfg, decoder=self.decoder, wiring=self.wiring)
        check(rules.check_target_stride(name, objective.target, self.masking.unit))
        return objective
