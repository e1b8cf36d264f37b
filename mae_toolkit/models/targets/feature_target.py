"""Features of a trained network as the target."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.models.targets.feature_maps import average_maps, check_norm
from mae_toolkit.models.targets.target import Target
from mae_toolkit.models.teacher import IMAGENET_MEAN, IMAGENET_STD, Teacher
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class FeatureTarget(Target):
    """Features of the whole image by a frozen network.

    The network may be trained with texts, by self-distillation or with labels, as in MaskFeat (arXiv:2112.09133,
    section 3.2) and MILAN (arXiv:2208.06049). Weights of timm and of the authors are read::

        network=dict(type='ViT', arch='vit_base_patch16_clip_quickgelu_224', positions='learned')  # CLIP
        network=dict(type='ViT', arch='vit_base_patch16_224', positions='learned')  # DINO
        network=dict(type='ConvNeXt', arch='convnext_base')  # supervised

    These features of CLIP are those before its projection into the space that it shares with texts. MILAN predicts
    those after it: ``dict(type='timm', arch='vit_base_patch16_clip_quickgelu_224', projection=512)``. CLIP expects
    ``network_mean=(122.77, 116.75, 104.09)`` and ``network_std=(68.50, 66.63, 70.32)``. If the network gives several
    levels (its ``out_indices``), they are normalized and averaged.

    Args:
        network: Config of the network, see :class:`~mae_toolkit.models.teacher.Teacher`.
        checkpoint: Path of its weights; without it they are random.
        patch: Pixels per side of a predicted position, unless ``stride`` is given; the encoder's last stride by
            default.
        stride: Pixels per side of a position. Images are resized for the network so that its last map has this stride:
            a network of stride 14 sees images of 14/16 of their size for a target of stride 16.
        norm: ``'layer'`` over the channels of each position, ``'instance'`` over the positions of each channel, both
            without factors, or None.
        in_chans: Channels of the images.
        mean: Means by which the images are normalized, in the units of their files; None if unknown.
        std: Standard deviations by which the images are normalized.
        network_mean: Means that the network expects.
        network_std: Standard deviations that the network expects.
        channels_rule: Rule by which weights of images with other channels are adapted to these.

    Raises:
        UserError: If the network cannot be used (see :class:`~mae_toolkit.models.teacher.Teacher`), its levels differ
            in channels or stride, or an argument is out of its range.
    """

    takes = dict(patch='stride', in_chans='in_chans', mean='mean', std='std')

    def __init__(
        self,
        network: dict[str, Any],
        checkpoint: str | None = None,
        patch: int = 16,
        stride: int | None = None,
        norm: str | None = 'layer',
        in_chans: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        network_mean: Sequence[float] = IMAGENET_MEAN,
        network_std: Sequence[float] = IMAGENET_STD,
        channels_rule: str | None = None,
    ) -> None:
        super().__init__()
        self.stride, self.norm = patch if stride is None else stride, check_norm(norm)
        if not isinstance(self.stride, int) or self.stride < 1:
            raise UserError(f'stride={self.stride!r} must be a whole number of pixels, 1 or more.')
        self.network = Teacher(network, checkpoint, in_chans, mean, std, network_mean, network_std, channels_rule)
        for what, values in (('channels', self.network.channels), ('strides', self.network.strides)):
            if len(set(values)) > 1:
                raise UserError(
                    f'The levels of the network have the {what} {values}, so that they have no mean: choose one of '
                    'them by out_indices.'
                )
        self.channels = self.network.channels[-1]

    def forward(self, imgs: Tensor) -> Tensor:
        """Compute the network's features: (B, C, H, W) -> (B, T, H/t, W/t)."""
        grid = imgs.shape[-2] // self.stride, imgs.shape[-1] // self.stride
        return average_maps(self.network(imgs, grid), self.norm)
