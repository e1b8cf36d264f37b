"""Structural similarity."""

import torch
from torch.nn.functional import conv2d

from mae_toolkit.errors import UserError
from mae_toolkit.models.losses.picture_loss import PictureLoss
from mae_toolkit.registry import MODELS

BYTES = 255.0


@MODELS.register_module()
class SSIMLoss(PictureLoss):
    """One less the structural similarity, averaged over channels and the pixels of the predicted cells (Wang et al.,
    IEEE Transactions on Image Processing 13, 2004, equation 13).

    Similarity is that of the images in the units of their files: their normalization is undone by the offered ``mean``
    and ``std``, as the measure depends on how bright they are. Windows reach into visible cells, which are original on
    both sides. At the edges the images are mirrored, so that every pixel equals that of
    ``skimage.metrics.structural_similarity(..., gaussian_weights=True, use_sample_covariance=False, full=True)``.

    Args:
        target (Target), weight (float): As of :class:`PictureLoss`.
        mean (tuple | None), std (tuple | None): Of the images per channel, in the units of their files; None for
            images that are not normalized.
        data_range (float | None): From the least to the greatest possible value, in the same units: 65535 for images
            of 16 bits. If None, it is 255, that of bytes, for normalized images.
        window (int): Pixels of the side of the Gaussian window, odd.
        sigma (float): Its standard deviation in pixels.
        k1 (float), k2 (float): Constants of the measure.

    Raises:
        UserError: If the data range is unknown, or does not fit the mean of the images.
    """

    takes = dict(mean='mean', std='std')

    def __init__(
        self, target, mean=None, std=None, data_range=None, window=11, sigma=1.5, k1=0.01, k2=0.03, weight=1.0
    ):
        super().__init__(target, weight)
        if window < 1 or window % 2 == 0 or not sigma > 0:
            raise UserError(f'SSIMLoss: window={window} is an odd number of pixels, and sigma={sigma} above 0.')
        data_range = _data_range(data_range, mean, std)
        self.c1, self.c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
        steps = torch.arange(window, dtype=torch.float64) - window // 2
        kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
        self.register_buffer('kernel', (kernel / kernel.sum()).float(), persistent=False)
        for name, values in (('mean', (0.0,) if mean is None else mean), ('std', (1.0,) if std is None else std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def compare(self, picture, original, predict):
        """Mean of one less the similarity where ``predict`` is True.

        Raises:
            UserError: If the pictures are smaller than half a window.
        """
        distance = 1 - self.similarity(picture, original).mean(1, keepdim=True)
        return distance.masked_fill(~predict, 0).sum() / predict.sum()

    def similarity(self, x, y):
        """Structural similarity of each pixel of normalized images: (B, C, H, W) twice -> (B, C, H, W)."""
        means = self._blur(torch.cat([x, y, x * x, y * y, x * y], 1))
        x, y, xx, yy, xy = means.chunk(5, 1)
        scale = self.std**2  # variances in the units of the normalized images: there they are not small differences
        spread, covariance = scale * (xx - x * x + yy - y * y), scale * (xy - x * y)
        x, y = x * self.std + self.mean, y * self.std + self.mean
        structure = (2 * covariance + self.c2) / (spread + self.c2)
        return (2 * x * y + self.c1) / (x * x + y * y + self.c1) * structure

    def _blur(self, x):
        """Windowed means of (B, C, H, W), mirrored at the edges."""
        reach, channels = len(self.kernel) // 2, x.shape[1]
        if min(x.shape[-2:]) < reach:
            raise UserError(
                f'SSIMLoss: pictures of {x.shape[-2]} x {x.shape[-1]} pixels are too small for window={2 * reach + 1}.'
            )
        for dim, shape in ((-2, (channels, 1, -1, 1)), (-1, (channels, 1, 1, -1))):
            before, after = (x.narrow(dim, start, reach).flip(dim) for start in (0, x.shape[dim] - reach))
            kernel = self.kernel.to(x.dtype).expand(channels, -1).reshape(shape)
            x = conv2d(torch.cat([before, x, after], dim), kernel, groups=channels)
        return x


def _data_range(given, mean, std):
    """The range of values of the files.

    Raises:
        UserError: If it is not known, or cannot be that of images with this mean and deviation.
    """
    if given is not None and not given > 0:
        raise UserError(f'SSIMLoss: data_range={given} is a number above 0.')
    if mean is None or std is None:
        if given is None:
            raise UserError(
                'SSIMLoss compares images that no data_preprocessor normalizes: give their data_range, such as 1.0 for '
                'values from 0 to 1.'
            )
        return given
    used, brightest = given or BYTES, max(m + 3 * s for m, s in zip(mean, std))
    if max(mean) > used or brightest < used / 50:
        raise UserError(
            f'SSIMLoss: images of mean {max(mean):g} and deviation {max(std):g} have no data_range of {used:g}: '
            'give the greatest value that their files can hold, such as 65535 for 16 bits.'
        )
    return used
