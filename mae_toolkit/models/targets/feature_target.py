"""Features of a trained network as the target."""

from mae_toolkit.errors import UserError
from mae_toolkit.models.targets.feature_maps import averaged, check_norm
from mae_toolkit.models.targets.target import Target
from mae_toolkit.models.teacher import IMAGENET_MEAN, IMAGENET_STD, Teacher
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class FeatureTarget(Target):
    """What a frozen network makes of the whole image, as in MaskFeat (arXiv:2112.09133, section 3.2) and MILAN
    (arXiv:2208.06049).

    Networks trained with texts, by self-distillation or with labels, each with weights of timm or of their authors::

        network=dict(type='ViT', arch='vit_base_patch16_clip_quickgelu_224', positions='learned')
        network=dict(type='ViT', arch='vit_base_patch16_224', positions='learned')    # DINO
        network=dict(type='ConvNeXt', arch='convnext_base')                           # supervised

    CLIP's features are those before its projection to the space of texts; those after it, which MILAN predicts, are of
    ``dict(type='timm', arch='vit_base_patch16_clip_quickgelu_224', projection=512)``. CLIP expects
    ``network_mean=(122.77, 116.75, 104.09)`` and ``network_std=(68.50, 66.63, 70.32)``. If the network gives several
    levels (its ``out_indices``), they are averaged after the norm.

    Args:
        network (dict), checkpoint (str | None), in_chans (int), mean (tuple | None), std (tuple | None),
            network_mean (tuple), network_std (tuple): See :class:`~mae_toolkit.models.teacher.Teacher`.
        patch (int): Pixels per position that are predicted, unless ``stride`` says otherwise; the encoder's last
            stride by default.
        stride (int | None): Pixels per position. Images are resized for the network so that its last map has it: a
            network of stride 14 sees images of 14/16 of their size for a target of stride 16.
        norm (str | None): ``'layer'`` (without factors, over the channels of each position), ``'instance'`` (over the
            positions of each channel) or None.

    Raises:
        UserError: As of the network; if its levels differ in channels or stride, or a number makes no sense.
    """

    takes = dict(patch='stride', in_chans='in_chans', mean='mean', std='std')

    def __init__(
        self,
        network,
        checkpoint=None,
        patch=16,
        stride=None,
        norm='layer',
        in_chans=3,
        mean=None,
        std=None,
        network_mean=IMAGENET_MEAN,
        network_std=IMAGENET_STD,
    ):
        super().__init__()
        self.stride, self.norm = patch if stride is None else stride, check_norm(norm)
        if not isinstance(self.stride, int) or self.stride < 1:
            raise UserError(f'stride={self.stride!r} is no number of pixels, 1 or more.')
        self.network = Teacher(network, checkpoint, in_chans, mean, std, network_mean, network_std)
        for what, values in (('channels', self.network.channels), ('strides', self.network.strides)):
            if len(set(values)) > 1:
                raise UserError(
                    f'The levels of the network have the {what} {values}, so that they have no mean: choose one of '
                    'them by out_indices.'
                )
        self.channels = self.network.channels[-1]

    def forward(self, imgs):
        """(B, C, H, W) -> (B, T, H/t, W/t)."""
        grid = tuple(n // self.stride for n in imgs.shape[-2:])
        return averaged(self.network(imgs, grid), self.norm)
