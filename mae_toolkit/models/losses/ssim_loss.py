"""Structural similarity."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from mae_toolkit.errors import UserError
from mae_toolkit.models.losses.picture_loss import PictureLoss
from mae_toolkit.models.targets.target import Target
from mae_toolkit.registry import MODELS

BYTE_RANGE = 255.0


@MODELS.register_module()
class SSIMLoss(PictureLoss):
    """1 - SSIM (structural similarity), averaged over channels and the pixels of the predicted cells.

    The measure is that of Wang et al. (IEEE Transactions on Image Processing 13, 2004, equation 13). It depends on how
    bright the images are, so that their normalization is undone by ``mean`` and ``std``. Windows reach into visible
    cells, which are the original in both pictures. At the edges the pictures are mirrored, so that every pixel equals
    that of ``skimage.metrics.structural_similarity(..., gaussian_weights=True, use_sample_covariance=False,
    full=True)``.

    Args:
        target: What is predicted, see :class:`PictureLoss`.
        mean: Means by which the images are normalized, in the units of their files; None for images that are not
            normalized.
        std: Standard deviations by which the images are normalized.
        data_range: Difference of the greatest and the least possible value, in the units of the files: 65535 for images
            of 16 bits. If None, it is 255, the range of bytes, for normalized images.
        window: Pixels per side of the Gaussian window, an odd number.
        sigma: Standard deviation of the window, in pixels.
        k1: Constant of the measure that keeps the luminance term stable.
        k2: Constant of the measure that keeps the contrast term stable.
        weight: Factor in the sum of the losses of an objective.

    Raises:
        UserError: If the data range is unknown or does not fit the mean of the images, or an argument is out of its
            range.
    """

    takes = dict(mean='mean', std='std')

    mean: Tensor
    std: Tensor
    kernel: Tensor

    def __init__(
        self,
        target: Target,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        data_range: float | None = None,
        window: int = 11,
        sigma: float = 1.5,
        k1: float = 0.01,
        k2: float = 0.03,
        weight: float = 1.0,
    ) -> None:
        super().__init__(target, weight)
        if window < 1 or window % 2 == 0 or not sigma > 0:
            raise UserError(f'SSIMLoss: window={window} must be an odd number of pixels, sigma={sigma} above 0.')
        data_range = _choose_data_range(data_range, mean, std)
        self.c1, self.c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
        steps = torch.arange(window, dtype=torch.float64) - window // 2
        kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
        self.register_buffer('kernel', (kernel / kernel.sum()).float(), persistent=False)
        for name, values in (('mean', (0.0,) if mean is None else mean), ('std', (1.0,) if std is None else std)):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def compare(self, picture: Tensor, original: Tensor, predict: Tensor) -> Tensor:
        """Average 1 - similarity over the pixels where ``predict`` is True.

        Raises:
            UserError: If the pictures are smaller than half a window.
        """
        distance = 1 - self.similarity(picture, original).mean(1, keepdim=True)
        return distance.masked_fill(~predict, 0).sum() / predict.sum()

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Measure the similarity of each pixel of normalized images: (B, C, H, W) twice -> (B, C, H, W)."""
        means = self._blur(torch.cat([x, y, x * x, y * y, x * y], 1))
        x, y, xx, yy, xy = means.chunk(5, 1)
        scale = self.std**2  # variances in the units of the normalized images: there they are not small differences
        spread, covariance = scale * (xx - x * x + yy - y * y), scale * (xy - x * y)
        x, y = x * self.std + self.mean, y * self.std + self.mean
        structure = (2 * covariance + self.c2) / (spread + self.c2)
        return (2 * x * y + self.c1) / (x * x + y * y + self.c1) * structure

    def _blur(self, x: Tensor) -> Tensor:
        """Average maps (B, C, H, W) over the window; edges are mirrored."""
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


def _choose_data_range(given: float | None, mean: Sequence[float] | None, std: Sequence[float] | None) -> float:
    """Return the given range of the values of the files, or that of bytes.

    Raises:
        UserError: If the range is not known, or cannot be that of images with this mean and deviation.
    """
    if given is not None and not given > 0:
        raise UserError(f'SSIMLoss: data_range={given} must be above 0.')
    if mean is None or std is None:
        if given is None:
            raise UserError(
                'SSIMLoss compares images that no data_preprocessor normalizes: give their data_range, such as 1.0 for '
                'values from 0 to 1.'
            )
        return given
    used, brightest = given or BYTE_RANGE, max(m + 3 * s for m, s in zip(mean, std))
    if max(mean) > used or brightest < used / 50:
        raise UserError(
            f'SSIMLoss: images of mean {max(mean):g} and deviation {max(std):g} have no data_range of {used:g}: '
            'give the greatest value that their files can hold, such as 65535 for 16 bits.'
        )
    return used
