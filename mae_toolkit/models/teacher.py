"""Networks that only look: frozen in one place, with the images as they know them."""

from logging import WARNING

import torch
from mmengine.logging import print_log
from torch import nn
from torch.nn.functional import interpolate

from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.timm_network import TimmNetwork
from mae_toolkit.registry import build, refuse_missing

# By which most networks were trained: ImageNet's, for bytes.
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class FrozenEncoder(nn.Module):
    """An encoder that is frozen in three ways: no gradient for it, evaluation mode, not in the optimizer.

    Optimizer constructors leave out what wants no gradient. Gradients flow through it, to its input. It stays in
    evaluation mode whatever mode is asked for. Its weights are in the state dict, so that a run resumes with the same.

    Args:
        encoder (nn.Module): The network.

    Attributes:
        has_own_weights (bool): Weights of others, when they are read into a model, need not have these.
    """

    has_own_weights = True

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode=True):
        """Stay in evaluation mode."""
        return super().train(False)

    def forward(self, imgs):
        """Maps per level of images (B, C, H, W)."""
        return self.encoder(imgs)


class Teacher(FrozenEncoder):
    """A trained network that judges images: a teacher of features, of attention, or of what looks alike.

    It runs on whole images, normalized as it was trained. Its weights are read at construction, in a run that is
    resumed, too (which then takes those in its checkpoint): the file must be there, or ``checkpoint`` be None.

    Args:
        network (dict): Config of any encoder, such as ``dict(type='ViT', arch='vit_base_patch16_224')``, or of any
            model in timm that gives features, as ``dict(type='timm', arch='efficientnet_b0')``, see
            :class:`~mae_toolkit.models.timm_network.TimmNetwork`.
        checkpoint (str | None): Path of its weights: a training checkpoint of ours, timm's, or of a method that
            ``tools/import_weights.py`` reads. Without it the network is random, and the log says so.
        in_chans (int): Channels of the images.
        mean (tuple | None), std (tuple | None): Statistics by which the images were normalized, in the units of their
            files; images of unknown statistics are taken as they are.
        network_mean (tuple), network_std (tuple): Those that the network expects, in the units of the files, too: for
            files that are not bytes they must be given.

    Attributes:
        channels (tuple[int, ...]), strides (tuple[int, ...]): Per level that the network gives.

    Raises:
        UserError: If the network takes other channels, or the checkpoint does not fit it.
    """

    def __init__(
        self,
        network,
        checkpoint=None,
        in_chans=3,
        mean=None,
        std=None,
        network_mean=IMAGENET_MEAN,
        network_std=IMAGENET_STD,
    ):
        super().__init__(_built(network))
        self.channels, self.strides = self.encoder.out_channels, self.encoder.out_strides
        takes = self.encoder.in_chans
        if takes != in_chans:
            raise UserError(
                f'The images have {in_chans} channels, and the network {_name(network)} takes {takes}: choose a '
                f'network that takes {in_chans}, or images of {takes}.'
            )
        scale, shift = _change(takes, mean, std, network_mean, network_std)
        self.register_buffer('scale', scale, persistent=False)  # of the images, not of the network
        self.register_buffer('shift', shift, persistent=False)
        if checkpoint is None:
            print_log(f'The network {_name(network)} has random weights: no checkpoint is given.', 'current', WARNING)
        else:
            load_pretrained(self.encoder, checkpoint, strict=True, what='teacher')

    def forward(self, imgs, grid=None):
        """Maps per level of normalized images.

        Args:
            imgs (Tensor): (B, C, H, W).
            grid (tuple[int, int] | None): Rows and columns that the last map shall have, for which images are resized;
                if None, they are taken in their size.

        Returns:
            tuple[Tensor, ...]: (B, C_i, h_i, w_i).
        """
        return self.encoder(self.prepared(imgs, grid))

    def class_attention(self, imgs, grid=None):
        """(B, h, w) of images (B, C, H, W): see the encoder's ``class_attention``; ``grid`` as in :meth:`forward`."""
        return self.encoder.class_attention(self.prepared(imgs, grid))

    def prepared(self, imgs, grid=None):
        """Images (B, C, H, W) with the network's mean and deviation, in the size for a last map of this grid."""
        imgs = imgs * self.scale + self.shift
        size = imgs.shape[-2:] if grid is None else tuple(n * self.strides[-1] for n in grid)
        if tuple(imgs.shape[-2:]) == tuple(size):
            return imgs
        return interpolate(imgs, size=size, mode='bicubic', antialias=True)


def _built(network):
    if isinstance(network, dict) and network.get('init_cfg') is not None:
        raise UserError('A frozen network takes its weights from checkpoint=..., not from an init_cfg in its config.')
    if not isinstance(network, dict) or network.get('type') != 'timm':
        return build(Encoder, network)
    given = {key: value for key, value in network.items() if key != 'type'}
    refuse_missing(TimmNetwork, given)
    with wrap_build_error(f'The network {network}'):
        return TimmNetwork(**given)


def _name(network):
    return network.get('arch', network['type']) if isinstance(network, dict) else type(network).__name__


def _change(channels, mean, std, network_mean, network_std):
    """Factor and summand, each (C, 1, 1), from the normalization of the images to that of the network."""
    if mean is None or std is None:
        return torch.ones(channels, 1, 1), torch.zeros(channels, 1, 1)
    for name, values in dict(mean=mean, std=std, network_mean=network_mean, network_std=network_std).items():
        if len(values) != channels:
            raise UserError(f'{name} has {len(values)} values, and the network {channels} channels: give one for each.')
    mean, std, network_mean, network_std = (
        torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (mean, std, network_mean, network_std)
    )
    return (std / network_std).float(), ((mean - network_mean) / network_std).float()
