"""Pixels as the target."""

from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from mae_toolkit.models.targets.target import Target
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class PixelTarget(Target):
    """The pixels of each patch in ``pixel_unshuffle`` order (channel, row, column).

    ``pixel_shuffle(target, stride)`` is the picture.

    Args:
        patch (int): Pixels per patch, at once the stride; the encoder's last stride by default.
        in_chans (int): Channels of the images.
        norm_pix (bool): Normalize each patch by its own mean and standard deviation over all its pixels and channels
            (MAE, arXiv:2111.06377, section 3; unbiased variance, ``eps`` inside the root, as in the official code).
        eps (float): Added to the variance.
    """

    takes = dict(patch='stride', in_chans='in_chans')

    kind = 'picture'

    def __init__(self, patch, in_chans=3, norm_pix=False, eps=1e-6):
        super().__init__()
        self.stride, self.channels = patch, in_chans * patch**2
        self.norm_pix, self.eps = norm_pix, eps
        if norm_pix:
            self.kind = 'patches'

    def forward(self, imgs):
        """(B, C, H, W) -> (B, C*t*t, H/t, W/t)."""
        x = pixel_unshuffle(imgs, self.stride)
        mean, std = self.statistics(imgs)
        return (x - mean) / std if self.norm_pix else x

    def statistics(self, imgs):
        """Mean and standard deviation of each patch of (B, C, H, W), each (B, 1, H/t, W/t)."""
        x = pixel_unshuffle(imgs, self.stride)
        return x.mean(1, keepdim=True), (x.var(1, keepdim=True) + self.eps).sqrt()

    def to_image(self, prediction, statistics=None):
        """The picture (B, C, H, W) of a prediction (B, T, H/t, W/t).

        Args:
            prediction (Tensor): In the units of the target.
            statistics (tuple[Tensor, Tensor] | None): Mean and deviation that patches shall have under ``norm_pix``, as
                of :meth:`statistics`: the picture is then in the units of the images. Those of the hidden patches
                themselves show what the model could not know.
        """
        if self.norm_pix and statistics is not None:
            prediction = prediction * statistics[1] + statistics[0]
        return pixel_shuffle(prediction, self.stride)
