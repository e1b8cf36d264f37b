"""Classification of whole images: fine-tuning, and linear probing of an encoder that stays as it is."""

import torch
from mmengine.model import BaseModel
from torch import nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.masked_autoencoder import MODES
from mae_toolkit.models.pooling import POOLINGS, check_pooling
from mae_toolkit.registry import MODELS, build, list_arguments

LOSSES = ('cross_entropy', 'binary')


@MODELS.register_module()
class Classifier(BaseModel):
    """An encoder, a pooling of its last map, and a linear layer.

    Recipes differ in what stands between pooling and linear layer: MAE's fine-tuning (arXiv:2111.06377, appendix A.1),
    ConvNeXt's and Hiera's have a layer norm there (which timm calls ``fc_norm`` or ``head.norm``), MAE's linear probe a
    batch norm without parameters. Encoders have no such norms, so they are here.

    Args:
        encoder (dict): Config of the encoder, ``init_cfg`` with it.
        num_classes (int): Classes.
        pooling (str): ``'mean'`` over the positions, ``'max'``, or ``'class'`` for the class token.
        head_norm (bool): Layer norm of what was pooled, epsilon 1e-6.
        batch_norm (bool): Batch norm of what was pooled, without parameters, epsilon 1e-6.
        dropout (float): Before the linear layer.
        head_std (float): Standard deviation of the weights that are drawn for the linear layer.
        freeze (bool): Linear probing: the encoder has no gradient, stays in evaluation mode, and is left out of the
            optimizer, as constructors leave out what has no gradient.
        label_smoothing (float): Share of the label that all classes share, of mixed labels too.
        loss (str): ``'cross_entropy'``, or ``'binary'``: one yes or no per class (arXiv:2110.00476, section 3.1).
        data_preprocessor (dict | None): Config; one that asks for ``num_classes`` is told.

    Raises:
        UserError: If an argument is out of range, or there is no class token where it should be pooled.
    """

    def __init__(
        self,
        encoder,
        num_classes,
        pooling='mean',
        head_norm=False,
        batch_norm=False,
        dropout=0.0,
        head_std=0.02,
        freeze=False,
        label_smoothing=0.0,
        loss='cross_entropy',
        data_preprocessor=None,
    ):
        if not isinstance(num_classes, int) or num_classes < 2:
            raise UserError(f'num_classes={num_classes!r} leaves nothing to tell apart: it is 2 or more.')
        if not 0 <= label_smoothing < 1:
            raise UserError(f'label_smoothing={label_smoothing} is a share from 0 to below 1.')
        if loss not in LOSSES:
            raise UserError(f'loss={loss!r} is none of {", ".join(LOSSES)}.')
        super().__init__(_preprocessor(data_preprocessor, num_classes))
        self.encoder = encoder = build(Encoder, encoder)
        self._check_channels()
        check_pooling(pooling, encoder)
        self.pooling, self.frozen = POOLINGS[pooling], freeze
        self.num_classes, self.label_smoothing, self.loss = num_classes, label_smoothing, loss
        self.head = _head(encoder.out_channels[-1], num_classes, head_norm, batch_norm, dropout, head_std)
        if freeze:
            encoder.requires_grad_(False)
            encoder.eval()

    def train(self, mode=True):
        """Set the mode; a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, imgs, labels=None, mode='tensor'):
        """Run on a normalized batch.

        Args:
            imgs (Tensor): (B, C, H, W).
            labels (Tensor | None): (B,) int64, or the shares of the classes (B, K); for ``mode='loss'``.
            mode (str): One of those below.

        Returns:
            ``'loss'``: dict with the scalar ``loss_class``. ``'predict'``: probabilities (B, K), with ``loss='binary'``
            of each class by itself. ``'tensor'``: logits (B, K).
        """
        if mode not in MODES:
            raise UserError(f'mode={mode!r} is none of {", ".join(MODES)}.')
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            pooled = self.pooling(self.encoder.encode(imgs))  # (B, C)
        logits = self.head(pooled)  # (B, K)
        if mode == 'tensor':
            return logits
        if mode == 'predict':
            return logits.float().sigmoid() if self.loss == 'binary' else logits.float().softmax(1)
        if labels is None:
            raise UserError('The batch has no labels: train a Classifier on a LabeledDataset.')
        return {'loss_class': self._compare(logits, labels)}

    def _compare(self, logits, labels):
        """The loss of logits (B, K) against labels (B,) or shares (B, K)."""
        if self.loss == 'cross_entropy':
            return nn.functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        shares = labels if labels.dim() == 2 else nn.functional.one_hot(labels, self.num_classes)
        shares = shares * (1 - self.label_smoothing) + self.label_smoothing / self.num_classes
        return nn.functional.binary_cross_entropy_with_logits(logits.float(), shares.float())

    def _check_channels(self):
        means = getattr(self.data_preprocessor, 'mean', None)
        if means is not None and len(means) != self.encoder.in_chans:
            raise UserError(
                f'The encoder takes {self.encoder.in_chans} channels, and the data_preprocessor {len(means)} values '
                'of mean and std: give one of each per channel.'
            )


def _preprocessor(config, num_classes):
    """The preprocessor of a config; one that asks how many classes there are is told."""
    if not isinstance(config, dict) or 'type' not in config:
        return config
    cls = MODELS.get(config['type'])
    takes = cls is not None and 'num_classes' in list_arguments(cls)
    return MODELS.build({'num_classes': num_classes, **config} if takes else config)


def _head(channels, num_classes, head_norm, batch_norm, dropout, std):
    """Norms, dropout and the linear layer, by name."""
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
