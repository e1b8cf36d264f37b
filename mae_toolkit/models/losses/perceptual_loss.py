"""A loss on the features that a trained network computes from pictures."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, normalize

from mae_toolkit.checkpoints.weights import load_weights
from mae_toolkit.errors import UserError
from mae_toolkit.models.losses.picture_loss import PictureLoss
from mae_toolkit.models.targets.target import Target
from mae_toolkit.models.teacher import IMAGENET_MEAN, IMAGENET_STD, Teacher
from mae_toolkit.registry import MODELS

VGG16 = dict(type='SparseCNN', arch='vgg16', out_indices=(0, 1, 2, 3, 4))


@MODELS.register_module()
class PerceptualLoss(PictureLoss):
    """Squared difference of features of unit length, summed over several levels (LPIPS, arXiv:1801.03924, equation 1).

    At each level the squared difference is summed over channels, weighted by LPIPS's linear weights if they are given,
    and averaged over the positions of predicted cells. The network works in at least float32.

    Args:
        target: What is predicted, see :class:`PictureLoss`.
        network: Config of the network, see :class:`~mae_toolkit.models.teacher.Teacher`. By default it gives the five
            levels of VGG16 that LPIPS compares; weights of torchvision and timm are read.
        checkpoint: Path of its weights; without it they are random.
        linear: Path of LPIPS's own weights of the levels' channels, under its names ``lin0.model.1.weight`` and so on.
            LPIPS has published them for VGG16, AlexNet and SqueezeNet.
        mean: Means by which the images are normalized, in the units of their files; None if unknown.
        std: Standard deviations by which the images are normalized.
        network_mean: Means that the network expects.
        network_std: Standard deviations that the network expects.
        channels_rule: Rule by which weights of images with other channels are adapted to these.
        weight: Factor in the sum of the losses of an objective.

    Raises:
        UserError: If the network cannot be used (see :class:`~mae_toolkit.models.teacher.Teacher`), or the linear
            weights are not those of its levels.
    """

    takes = dict(mean='mean', std='std')

    has_own_weights = True  # a checkpoint that is read into a model need not have these

    def __init__(
        self,
        target: Target,
        network: dict[str, Any] | None = None,
        checkpoint: str | None = None,
        linear: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        network_mean: Sequence[float] = IMAGENET_MEAN,
        network_std: Sequence[float] = IMAGENET_STD,
        channels_rule: str | None = None,
        weight: float = 1.0,
    ) -> None:
        super().__init__(target, weight)
        network = VGG16 if network is None else network
        self.network = Teacher(network, checkpoint, self.channels, mean, std, network_mean, network_std, channels_rule)
        for i, factors in enumerate(_read_linear(linear, self.network.channels)):
            self.register_buffer(f'linear{i}', factors, persistent=linear is not None)

    def compare(self, picture: Tensor, original: Tensor, predict: Tensor) -> Tensor:
        """Measure the distance of pictures (B, C, H, W) at the positions of ``predict`` (B, 1, H, W)."""
        with torch.no_grad():
            wanted = self.network(original)
        levels = enumerate(zip(self.network(picture), wanted, strict=True))
        first, *others = (self._compare_level(i, x, y, predict) for i, (x, y) in levels)
        return sum(others, first)

    def _compare_level(self, i: int, x: Tensor, y: Tensor, predict: Tensor) -> Tensor:
        """Measure the distance of the maps (B, C, h, w) of level i where ``predict`` (B, 1, H, W) is True."""
        difference = (normalize(x, dim=1) - normalize(y, dim=1)).square()  # (B, C, h, w)
        distance = (difference * getattr(self, f'linear{i}')).sum(1, keepdim=True)
        share = adaptive_avg_pool2d(predict.to(distance.dtype), distance.shape[-2:])  # of the position
        return (distance * share).sum() / share.sum()


def _read_linear(path: str | None, channels: Sequence[int]) -> list[Tensor]:
    """Read the factors (1, C_i, 1, 1) of the channels of each level; all 1 without a file."""
    if path is None:
        return [torch.ones(1, c, 1, 1) for c in channels]
    state = load_weights(path)
    factors = [state.get(f'lin{i}.model.1.weight') for i in range(len(channels))]
    found = tuple(None if x is None else x.numel() for x in factors)
    if found != tuple(channels):
        raise UserError(f'{path} has linear weights for channels {found}, and the network gives {tuple(channels)}.')
    return [x.float().view(1, -1, 1, 1) for x in factors if x is not None]
