"""Classification of whole images: fine-tuning, and linear probing of a frozen encoder."""

from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mae_toolkit.errors import UserError
from mae_toolkit.models import rules
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.masked_autoencoder import MODES
from mae_toolkit.models.pooling import POOLINGS, check_pooling
from mae_toolkit.models.rules import check
from mae_toolkit.registry import MODELS, build, list_arguments

LOSSES = ('cross_entropy', 'binary')


@MODELS.register_module()
class Classifier(BaseModel):
    """A classifier of images: an encoder, a pooling of its last map, and a linear layer.

    Recipes differ in the norm between pooling and linear layer. The fine-tuning of MAE (arXiv:2111.06377, appendix
    A.1), ConvNeXt and Hiera has a layer norm, which timm calls ``fc_norm`` or ``head.norm``; MAE's linear probe has a
    batch norm without parameters. Encoders have no such norms, so they are here.

    Args:
        encoder: Config of the encoder, with an ``init_cfg`` that names its weights.
        num_classes: Number of classes.
        pooling: ``'mean'`` over the positions, ``'max'``, or ``'class'`` for the class token.
        head_norm: Apply a layer norm after the pooling, epsilon 1e-6.
        batch_norm: Apply a batch norm without parameters after the pooling, epsilon 1e-6.
        dropout: Probability of dropout before the linear layer.
        head_std: Standard deviation of the initial weights of the linear layer.
        freeze: Train a linear probe: the encoder gets no gradient, stays in evaluation mode, and is not optimized.
        label_smoothing: Probability that is spread over all classes, from 0 to below 1; also for mixed labels.
        loss: ``'cross_entropy'``, or ``'binary'``, a yes or no for each class (arXiv:2110.00476, section 3.1).
        data_preprocessor: Config of the preprocessor; one that takes ``num_classes`` gets it from here.

    Raises:
        UserError: If an argument is out of its range, or there is no class token to pool.
    """

    has_static_graph = True  # see MaskedAutoencoder

    def __init__(
        self,
        encoder: Encoder | dict[str, Any],
        num_classes: int,
        pooling: str = 'mean',
        head_norm: bool = False,
        batch_norm: bool = False,
        dropout: float = 0.0,
        head_std: float = 0.02,
        freeze: bool = False,
        label_smoothing: float = 0.0,
        loss: str = 'cross_entropy',
        data_preprocessor: nn.Module | dict[str, Any] | None = None,
    ) -> None:
        if not isinstance(num_classes, int) or num_classes < 2:
            raise UserError(f'num_classes={num_classes!r} leaves nothing to tell apart: it must be 2 or more.')
        if not 0 <= label_smoothing < 1:
            raise UserError(f'label_smoothing={label_smoothing} must be at least 0 and below 1.')
        if loss not in LOSSES:
            raise UserError(f'loss={loss!r} must be one of {", ".join(LOSSES)}.')
        super().__init__(_build_preprocessor(data_preprocessor, num_classes))
        self.encoder = build(Encoder, encoder)
        check(rules.check_channels(self.encoder, self.data_preprocessor))
        check_pooling(pooling, self.encoder)
        self.pooling, self.frozen = POOLINGS[pooling], freeze
        self.num_classes, self.label_smoothing, self.loss = num_classes, label_smoothing, loss
        self.head = _build_head(self.encoder.out_channels[-1], num_classes, head_norm, batch_norm, dropout, head_std)
        if freeze:
            self.encoder.requires_grad_(False)
            self.encoder.eval()

    def train(self, mode: bool = True) -> 'Classifier':
        """Set the mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, imgs: Tensor, labels: Tensor | None = None, mode: str = 'tensor') -> dict[str, Tensor] | Tensor:
        """Run on a normalized batch.

        Args:
            imgs: (B, C, H, W).
            labels: (B,) int64, or the probabilities of the classes (B, K); for ``mode='loss'``.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.

        Returns:
            ``'loss'``: a dict with the scalar ``loss_class``. ``'predict'``: probabilities (B, K), with
            ``loss='binary'`` of each class by itself. ``'tensor'``: logits (B, K).
        """
        if mode not in MODES:
            raise UserError(f'mode={mode!r} must be one of {", ".join(MODES)}.')
        logits = self.head(self.pool(imgs))  # (B, K)
        if mode == 'tensor':
            return logits
        if mode == 'predict':
            return logits.float().sigmoid() if self.loss == 'binary' else logits.float().softmax(1)
        if labels is None:
            raise UserError('The batch has no labels: train a Classifier on a LabeledDataset.')
        return {'loss_class': self._compare(logits, labels)}

    def pool(self, imgs: Tensor) -> Tensor:
        """Encode a normalized batch (B, C, H, W) and pool its last map: (B, C)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.pooling(self.encoder.encode(imgs))

    def _compare(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of logits (B, K) against labels (B,) or probabilities (B, K)."""
        if self.loss == 'cross_entropy':
            return nn.functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        shares = labels if labels.dim() == 2 else nn.functional.one_hot(labels, self.num_classes)
        shares = shares * (1 - self.label_smoothing) + self.label_smoothing / self.num_classes
        return nn.functional.binary_cross_entropy_with_logits(logits.float(), shares.float())


def _build_preprocessor(
    config: nn.Module | dict[str, Any] | None, num_classes: int
) -> nn.Module | dict[str, Any] | None:
    """Build a preprocessor from its config; one that takes the number of classes gets it."""
    if not isinstance(config, dict) or 'type' not in config:
        return config
    cls = MODELS.get(config['type'])
    takes = cls is not None and 'num_classes' in list_arguments(cls)
    return MODELS.build({'num_classes': num_classes, **config} if takes else config)


def _build_head(
    channels: int, num_classes: int, head_norm: bool, batch_norm: bool, dropout: float, std: float
) -> nn.Sequential:
    """Build norms, dropout and the linear layer, by name."""
    head = nn.Sequential()
    if head_norm:
        head.add_module('norm', nn.LayerNorm(channels, eps=1e-6))
    if batch_norm:
        head.add_module('batch_norm', nn.BatchNorm1d(channels, affine=False, eps=1e-6))
    if dropout:
        head.add_module('dropout', nn.Dropout(dropout))
    linear = nn.Linear(channels, num_classes)
    nn.init.trunc_normal_(linear.weight, std=std, a=-2 * std, b=2 * std)
    nn.init.zeros_(linear.bias)
    head.add_module('linear', linear)
    return head
