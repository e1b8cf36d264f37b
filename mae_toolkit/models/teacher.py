"""Frozen, trained networks, which get images normalized as in their own training."""

from collections.abc import Iterable, Sequence
from logging import WARNING
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.nn.modules.batchnorm import _BatchNorm

from mae_toolkit.checkpoints.channels import adapt_statistics, check_rule
from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.mask_ops import check_batch
from mae_toolkit.models.timm_network import TimmNetwork
from mae_toolkit.registry import build, refuse_missing

# The statistics of ImageNet by which most networks were trained, for bytes.
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class FrozenEncoder(nn.Module):
    """An encoder that is frozen in three ways: no gradient, evaluation mode, not in the optimizer.

    Constructors of optimizers leave out parameters that need no gradient. Gradients flow through the encoder, to its
    input. It stays in evaluation mode whatever mode is set. Its weights are in the state dict, so that a resumed run
    has the same.

    Args:
        encoder: The network, whose parameters are frozen in place.

    Attributes:
        has_own_weights: True: a checkpoint that is read into a model need not have these weights.
    """

    has_own_weights = True

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> 'FrozenEncoder':
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, imgs: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of each level of images (B, C, H, W)."""
        return self.encoder(imgs)


class FollowingEncoder(FrozenEncoder):
    """A frozen encoder that follows another one, with batch norms in training mode while that one is trained.

    They normalize whole images by the statistics of the batch, as the targets of MoCo (arXiv:1911.05722), BYOL
    (arXiv:2006.07733) and DINO (arXiv:2104.14294) do, and their running statistics follow whole images; those of the
    other encoder follow masked images, and do not fit whole ones. Norms that keep their statistics in training
    (``norm_eval``) keep them here, too.
    """

    def train(self, mode: bool = True) -> 'FollowingEncoder':
        """Stay in evaluation mode, except for batch norms that follow their batches in training."""
        super().train(False)
        train_batch_norms(self.encoder, mode)
        return self


def train_batch_norms(module: nn.Module, mode: bool) -> None:
    """Set the mode of batch norms, except those that the module keeps in evaluation mode, as it keeps all else.

    Args:
        module: The module; its own ``train`` decides which batch norms keep their statistics.
        mode: Whether they normalize by the statistics of the batch, and update the running ones.
    """
    module.train(mode)
    norms = [norm for norm in module.modules() if isinstance(norm, _BatchNorm) and norm.training]
    module.train(False)
    for norm in norms:
        norm.training = True  # train() would also reach an activation that the norm holds


def copy_buffers(own: nn.Module, theirs: nn.Module) -> None:
    """Copy the buffers of another module, but for the statistics of batch norms that are in training mode.

    Args:
        own: The module that receives them.
        theirs: A module that has all of them.

    Raises:
        UserError: If it lacks one.
    """
    norms = [module for module in own.modules() if isinstance(module, _BatchNorm) and module.training]
    kept = {id(buffer) for norm in norms for buffer in norm.buffers(recurse=False)}
    for buffer, source in zip(*pair_tensors(own.named_buffers(), theirs.named_buffers()), strict=True):
        if id(buffer) not in kept:
            buffer.copy_(source)


def pair_tensors(
    own: Iterable[tuple[str, Tensor]], theirs: Iterable[tuple[str, Tensor]]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tensors of a teacher, and those of the encoder that it follows under the same names.

    Args:
        own: Tensors of the teacher with their names.
        theirs: Those of the encoder.

    Raises:
        UserError: If the encoder lacks one.
    """
    by_name, theirs_by_name = dict(own), dict(theirs)
    lacking = sorted(by_name.keys() - theirs_by_name.keys())
    if lacking:
        raise UserError(f'The encoder lacks {lacking[0]}, which its teacher has ({len(lacking)} such names).')
    return list(by_name.values()), [theirs_by_name[name] for name in by_name]


class Teacher(FrozenEncoder):
    """A frozen, trained network for whole images, which are normalized as in its own training.

    Its weights are read at construction, in a resumed run, too (which then takes those of its checkpoint): the file
    must be there, or ``checkpoint`` be None.

    Args:
        network: Config of any encoder, such as ``dict(type='ViT', arch='vit_base_patch16_224')``, or of any model of
            timm that gives features, such as ``dict(type='timm', arch='efficientnet_b0')``, see
            :class:`~mae_toolkit.models.timm_network.TimmNetwork`.
        checkpoint: Path of its weights: a training checkpoint of ours, weights of timm, or those of a method that
            ``tools/import_weights.py`` reads. Without it the weights are random, and the log says so.
        in_chans: Channels of the images.
        mean: Means by which the images are normalized, in the units of their files. Images of unknown statistics are
            taken as they are.
        std: Standard deviations by which the images are normalized.
        network_mean: Means that the network expects, in the units of the files; set them for files that are not
            bytes.
        network_std: Standard deviations that the network expects.
        channels_rule: Rule by which weights of images with other channels are adapted, and ``network_mean`` and
            ``network_std`` with them, see :mod:`mae_toolkit.checkpoints.channels`.

    Attributes:
        channels: Channels of each level.
        strides: Pixels per side of a position of each level.

    Raises:
        UserError: If the network takes other channels, or the checkpoint does not fit it.
    """

    encoder: Any  # an Encoder or a TimmNetwork
    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: dict[str, Any],
        checkpoint: str | None = None,
        in_chans: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        network_mean: Sequence[float] = IMAGENET_MEAN,
        network_std: Sequence[float] = IMAGENET_STD,
        channels_rule: str | None = None,
    ) -> None:
        check_rule(channels_rule, 'channels_rule')
        encoder = _build_network(network)
        super().__init__(encoder)
        self.channels: tuple[int, ...] = tuple(encoder.out_channels)
        self.strides: tuple[int, ...] = tuple(encoder.out_strides)
        if encoder.in_chans != in_chans:
            raise UserError(
                f'The images have {in_chans} channels, and the network {_name(network)} takes {encoder.in_chans}: '
                f'choose a network that takes {in_chans}, or images of {encoder.in_chans}.'
            )
        if channels_rule is not None:
            network_mean, network_std, _ = adapt_statistics(network_mean, network_std, in_chans, channels_rule)
        scale, shift = _normalization(in_chans, mean, std, network_mean, network_std)
        self.register_buffer('scale', scale, persistent=False)  # of the images, not of the network
        self.register_buffer('shift', shift, persistent=False)
        if checkpoint is None:
            print_log(f'The network {_name(network)} has random weights: no checkpoint is given.', 'current', WARNING)
        else:
            load_pretrained(self.encoder, checkpoint, strict=True, what='teacher', channels=channels_rule)

    def forward(self, imgs: Tensor, grid: tuple[int, int] | None = None) -> tuple[Tensor, ...]:
        """Compute the maps of each level of normalized images.

        Args:
            imgs: (B, C, H, W).
            grid: Rows and columns of the last map, for which the images are resized; if None, they keep their size.

        Returns:
            Maps (B, C_i, h_i, w_i).
        """
        return self.encoder(self.prepare(imgs, grid))

    def class_attention(self, imgs: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Return the attention (B, h, w) of the encoder's class token to images (B, C, H, W); see :meth:`forward`."""
        return self.encoder.class_attention(self.prepare(imgs, grid))

    def prepare(self, imgs: Tensor, grid: tuple[int, int] | None = None) -> Tensor:
        """Normalize and resize images (B, C, H, W) for the network; see :meth:`forward`."""
        check_batch(imgs)
        imgs = imgs * self.scale + self.shift
        size = tuple(imgs.shape[-2:]) if grid is None else tuple(n * self.strides[-1] for n in grid)
        if tuple(imgs.shape[-2:]) == size:
            return imgs
        return interpolate(imgs, size=size, mode='bicubic', antialias=True)


def _build_network(network: Any) -> Encoder | TimmNetwork:
    """Build a network from its config; one that is built already is returned as it is."""
    if isinstance(network, dict) and network.get('init_cfg') is not None:
        raise UserError('A frozen network takes its weights from checkpoint=..., not from an init_cfg in its config.')
    if not isinstance(network, dict) or network.get('type') != 'timm':
        return build(Encoder, network)
    given = {key: value for key, value in network.items() if key != 'type'}
    refuse_missing(TimmNetwork, given)
    with wrap_build_error(f'The network {network}'):
        return TimmNetwork(**given)


def _name(network: Any) -> str:
    return str(network.get('arch', network['type'])) if isinstance(network, dict) else type(network).__name__


def _normalization(
    channels: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    network_mean: Sequence[float],
    network_std: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """Return factor and summand, each (C, 1, 1), from the normalization of the images to that of the network."""
    if mean is None or std is None:
        return torch.ones(channels, 1, 1), torch.zeros(channels, 1, 1)
    for name, values in dict(mean=mean, std=std, network_mean=network_mean, network_std=network_std).items():
        if len(values) != channels:
            raise UserError(f'{name} has {len(values)} values, and the network {channels} channels: give one for each.')
    m, s, network_m, network_s = (
        torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (mean, std, network_mean, network_std)
    )
    return (s / network_s).float(), ((m - network_m) / network_s).float()
