"""Pixels as the target."""

from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from mae_toolkit.models.targets.target import Target
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class PixelTarget(Target):
    """Pixels of each patch, in the order of ``pixel_unshuffle``: channel, row, column.

    ``pixel_shuffle(target, stride)`` is the picture: a target (B, 768, 14, 14) of patches of 16 x 16 pixels is a
    picture (B, 3, 224, 224).

    Args:
        patch: Pixels per side of a patch, which is the stride; the encoder's last stride by default.
        in_chans: Channels of the images.
        norm_pix: Normalize each patch by its own mean and standard deviation over all its pixels and channels (MAE,
            arXiv:2111.06377, section 3; unbiased variance, ``eps`` inside the root, as in the official code).
        eps: Added to the variance.
    """

    takes = dict(patch='stride', in_chans='in_chans')
    kind = 'picture'

    def __init__(self, patch: int, in_chans: int = 3, norm_pix: bool = False, eps: float = 1e-6) -> None:
        super().__init__()
        self.stride, self.channels = patch, in_chans * patch**2
        self.norm_pix, self.eps = norm_pix, eps
        if norm_pix:
            self.kind = 'patches'

    def forward(self, imgs: Tensor) -> Tensor:
        """Fold the pixels of the patches: (B, C, H, W) -> (B, C*t*t, H/t, W/t)."""
        x = pixel_unshuffle(imgs, self.stride)
        mean, std = self.statistics(imgs)
        return (x - mean) / std if self.norm_pix else x

    def statistics(self, imgs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each patch of images (B, C, H, W), each (B, 1, H/t, W/t)."""
        x = pixel_unshuffle(imgs, self.stride)
        return x.mean(1, keepdim=True), (x.var(1, keepdim=True) + self.eps).sqrt()

    def to_image(self, prediction: Tensor, statistics: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Turn a prediction (B, T, H/t, W/t) into a picture (B, C, H, W).

        Args:
            prediction: In the units of the target.
            statistics: Means and deviations of the patches, as :meth:`statistics` returns them. Under ``norm_pix`` they
                put the picture in the units of the images; those of the hidden patches show what the model could not
                know.
        """
        if self.norm_pix and statistics is not None:
            prediction = prediction * statistics[1] + statistics[0]
        return pixel_shuffle(prediction, self.stride)
